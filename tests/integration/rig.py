# SPDX-License-Identifier: MIT
"""The real programs, started as an administrator would start them: a SoftHSM token that connectors cannot write
(made by scripts/token-init.sh), the stand-in service over TLS, connectors as the unprivileged user.

Everything lives in one temporary folder, on free ports, and is stopped by process id."""

import base64
import datetime
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import uuid

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CC_BUILD", PROJECT / "build"))
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
POSTGRES = os.environ.get("CC_TEST_POSTGRES")  # the URI of a server, when the tests run on one (with_postgres.py)
PROGRAMS = ("certconnector", "certconnectord", "certconnector-token", "certconnector-tenant")
USER = "certconnector"
TENANT = "contoso.example"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
KEY_NAME = "Contoso HSM/PFXEncryptionKey"
HASHES = {"oaepSha1": hashes.SHA1(), "oaepSha256": hashes.SHA256(), "oaepSha384": hashes.SHA384(), "oaepSha512": hashes.SHA512()}


def wait_until(condition, what, seconds=30.0):
    """Polls until condition() is true and returns its value; the only place where tests wait by the clock."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {seconds} s waiting until {what}")
        time.sleep(0.02)


def run(*argv, check=True, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def as_service_user(argv):
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all", "--", *map(str, argv)]


def new_state(folder):
    """The URI of a new store: a file in this folder, or a database of its own on the server that the tests run on."""
    if POSTGRES is None:
        return f"sqlite:{folder}/state.db"
    name = f"state_{uuid.uuid4().hex}"
    run("/usr/bin/psql", "--no-psqlrc", "--quiet", "--dbname", POSTGRES, "--command", f"CREATE DATABASE {name}")
    return urllib.parse.urlsplit(POSTGRES)._replace(path=f"/{name}").geturl()


class Process:
    """A program of ours, its output in a file, stopped by its id."""

    def __init__(self, name, argv, folder, env=None):
        self.log = folder / f"{name}.out"
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(as_service_user(argv), stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                          env=dict(os.environ, **(env or {})))

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        if self.running():
            self.child.send_signal(signal.SIGKILL)
        self.child.wait(10)

    def stop(self, seconds=30):
        """SIGTERM; the exit status."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop in {seconds} s:\n{self.output()[-2000:]}")


def make_certificate(name, key, days=30, issuer=None, issuer_key=None, start=None, hosts=("localhost",)):
    now = start or datetime.datetime.utcnow() - datetime.timedelta(minutes=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False)
            .sign(issuer_key or key, hashes.SHA256()))


class Recipient:
    """A device: its key, its certificate, and what it can read."""

    def __init__(self, bits=2048, **options):
        self.key = rsa.generate_private_key(65537, bits)
        self.certificate = make_certificate("device", self.key, **options)
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)

    def read(self, result):
        """The password of an uploaded result, by OpenSSL's command for CMS and by python3-cryptography for RSA."""
        encrypted = base64.b64decode(result["encryptedPfxPassword"])
        form = result["passwordEncryption"]
        if form == "cms":
            return self._open_cms(encrypted)
        if form == "rsaPkcs1":
            return self.key.decrypt(encrypted, padding.PKCS1v15())
        algorithm = hashes.SHA256() if form == "rsaOaepSha256" else hashes.SHA1()
        return self.key.decrypt(encrypted, padding.OAEP(padding.MGF1(algorithm), algorithm, None))

    def _open_cms(self, encrypted):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = pathlib.Path(folder, "key"), pathlib.Path(folder, "certificate")
            key.write_bytes(self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                   serialization.NoEncryption()))
            certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
            return subprocess.run(["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", key, "-recip",
                                   certificate], input=encrypted, capture_output=True, check=True, timeout=60).stdout


class Pfx:
    """A PFX file with a password of its own."""

    def __init__(self, user, password=None, key=None):
        self.user = user
        self.password = password if password is not None else secrets.token_hex(12).encode()
        key = key or rsa.generate_private_key(65537, 2048)
        certificate = make_certificate(user, key, days=365)
        self.certificate = certificate
        self.thumbprint = certificate.fingerprint(hashes.SHA1()).hex()
        # Few iterations: the tests are about the way of a request, not about deriving keys.
        encryption = (serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1)
                      .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
                      .build(self.password))
        self.blob = pkcs12.serialize_key_and_certificates(user.encode(), key, certificate, None, encryption)


class Token:
    """A SoftHSM token with the keys of all roles, owned by root and unwritable for connectors."""

    def __init__(self, folder, programs, kinds=("pfx-import=rsa2048", "ca=ecP256"), label="certconnector"):
        self.label = label
        self.folder = folder / "token"
        self.pin_file = self.folder / "pin"
        self.conf = self.folder / "softhsm2.conf"
        self.module = SOFTHSM
        options = [word for kind in kinds for word in ("--key", kind)]
        run(PROJECT / "scripts/token-init.sh", "--token-dir", self.folder / "tokens", "--pin-file", self.pin_file,
            "--bin-dir", programs, "--label", label, *options)

    @property
    def env(self):
        return {"SOFTHSM2_CONF": str(self.conf)}

    def pin(self):
        return self.pin_file.read_text().strip()

    def object_bytes(self):
        return {path: path.read_bytes() for path in sorted(self.folder.glob("tokens/*/token.object"))}


class Fake:
    """Cues for the fake PKCS#11 module, and what it wrote down."""

    def __init__(self, folder):
        self.control, self.log = folder / "control", folder / "calls"
        self.env = {"P11_FAKE_CONTROL": str(self.control), "P11_FAKE_LOG": str(self.log)}
        self.cue()

    def cue(self, *lines):
        new = self.control.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in lines))
        new.rename(self.control)

    def lines(self):
        """Each call: "PID FUNCTION [mechanism=M] rv=RV", in words."""
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def calls(self, name):
        return sum(words[1] == name for words in self.lines())

    def forget(self):
        self.log.write_text("")


class Service:
    """The stand-in service, with its administrator's side."""

    def __init__(self, rig, *options, hosts=("localhost",)):
        self.rig = rig
        self.folder = rig.folder / "service"
        self.options = options
        key = rsa.generate_private_key(65537, 2048)
        self.ca_file = rig.folder / "service-ca.pem"
        self.ca_file.write_bytes(make_certificate("localhost", key, days=365, hosts=hosts).public_bytes(serialization.Encoding.PEM))
        rig.private_folder(self.folder)
        rig.private_file(self.folder / "tls.key", key.private_bytes(serialization.Encoding.PEM,
                         serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.secret_file = rig.folder / "client.secret"
        rig.private_file(self.secret_file, secrets.token_hex(20).encode())
        self.state = new_state(self.folder)
        self.port = 0
        self.http = requests.Session()
        self.http.verify = str(self.ca_file)
        self.http.trust_env = False
        self.start()

    def start(self):
        ready = self.folder / "port"
        ready.unlink(missing_ok=True)
        self.process = Process("service", [
            self.rig.programs / "certconnector-tenant", "--listen", f"127.0.0.1:{self.port}", "--tenant", TENANT,
            "--state", self.state, "--tls-certificate", self.ca_file,
            "--tls-key", self.folder / "tls.key", "--client-id", CLIENT_ID, "--client-secret-file", self.secret_file,
            "--admin-token-file", self.folder / "admin.token", "--ready-file", ready, *self.options], self.rig.folder)
        wait_until(lambda: (ready.exists() and ready.read_text().strip()) or not self.process.running(), "the service is ready")
        assert self.process.running(), self.process.output()
        self.port = int(ready.read_text())
        self.url = f"https://localhost:{self.port}"
        self.admin_header = {"Authorization": "Bearer " + (self.folder / "admin.token").read_text().strip()}

    def admin(self, method, path, body=None, status=(200, 201, 202, 204)):
        answer = self.http.request(method, f"{self.url}/admin/api/{path}", json=body, headers=self.admin_header, timeout=60)
        assert answer.status_code in status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def token(self, scope="/.default"):
        answer = self.http.post(f"{self.url}/{TENANT}/oauth2/v2.0/token", timeout=30, data={
            "grant_type": "client_credentials", "client_id": CLIENT_ID, "scope": self.url + scope,
            "client_secret": self.secret_file.read_text()})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def upload(self, pfx, public_key, scheme="oaepSha512", key_name=KEY_NAME):
        """What an administrator's tool sends; by Graph, without our own command."""
        if scheme == "pkcs1":
            encrypted = public_key.encrypt(pfx.password, padding.PKCS1v15())
        else:
            algorithm = HASHES[scheme]
            encrypted = public_key.encrypt(pfx.password, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
        provider, name = key_name.split("/")
        times = [t.isoformat() + "Z" for t in (pfx.certificate.not_valid_before, pfx.certificate.not_valid_after)]
        answer = self.http.post(f"{self.url}/beta/deviceManagement/userPfxCertificates", timeout=30,
                                headers={"Authorization": "Bearer " + self.token()}, json={
            "thumbprint": pfx.thumbprint, "intendedPurpose": "smimeEncryption", "userPrincipalName": pfx.user,
            "startDateTime": times[0], "expirationDateTime": times[1], "providerName": provider, "keyName": name,
            "paddingScheme": scheme, "encryptedPfxBlob": base64.b64encode(pfx.blob).decode(),
            "encryptedPfxPassword": base64.b64encode(encrypted).decode()})
        assert answer.status_code == 201, answer.text

    def enqueue(self, pfx, recipient, count=1, **more):
        """Devices ask for a PFX; the ids of their requests."""
        answer = self.admin("POST", "pfxImportRequests", {
            "userPrincipalName": pfx.user, "thumbprint": pfx.thumbprint, "count": count,
            "recipientCertificate": base64.b64encode(recipient.der).decode(), **more})
        return answer["requestIds"]

    def request(self, request_id):
        """With its history and, when it is done, its result."""
        return self.admin("GET", f"requests/{request_id}")

    def all_requests(self):
        """All by id, without history and result."""
        requests_by_id, path = {}, "requests?$top=1000"
        while path:
            page = self.admin("GET", path)
            requests_by_id.update((request["requestId"], request) for request in page["value"])
            link = page.get("@odata.nextLink")
            path = link.split("/admin/api/", 1)[1] if link else None
        return requests_by_id

    def counts(self):
        return self.admin("GET", "counts")

    def open_requests(self):
        requests_by_state = self.counts()["requests"]
        return requests_by_state["queued"] + requests_by_state["leased"]

    def wait_none_open(self, seconds=60):
        wait_until(lambda: self.open_requests() == 0, "no request is open", seconds)

    def wait_done(self, request_id, seconds=30):
        """The request once it is completed or failed for good."""
        def done():
            request = self.request(request_id)
            return request["state"] in ("completed", "failed") and request
        return wait_until(done, f"request {request_id} is done", seconds)


class Connector:
    """A daemon with its configuration."""

    def __init__(self, rig, service, token, name="connector-1", extra="", overrides=None, start=True):
        self.rig, self.service, self.token, self.name = rig, service, token, name
        self.extra, self.overrides = extra, overrides or {}
        self.env = {}  # of the daemon alone, besides the token's
        self.folder = rig.folder / name
        self.state, self.log, self.run = self.folder / "state", self.folder / "log", self.folder / "run"
        self.folder.mkdir()
        for folder in (self.state, self.log, self.run):
            rig.private_folder(folder)
        self.store = new_state(self.state)
        self.config = self.folder / "certconnector.conf"
        self.write_config(extra, overrides or {})
        self.process = None
        if start:
            self.start()

    def settings(self, overrides):
        settings = {
            "connector": {"name": self.name, "features": "pfx-import", "state": self.store,
                          "state-directory": self.state, "control-socket": self.run / "control.sock"},
            "token": {"module": self.token.module, "uri": f"pkcs11:token={self.token.label}", "pin": f"file:{self.token.pin_file}"},
            "service": {"tenant": TENANT, "client-id": CLIENT_ID, "client-secret": f"file:{self.service.secret_file}",
                        "cloud": "custom", "authority": self.service.url + "/", "graph": self.service.url + "/",
                        "resource": self.service.url + "/", "ca-file": self.service.ca_file},
            "keys": {"pfx-import": "pkcs11:object=pfx-import", "seal": "pkcs11:object=seal"},
            "key-alias": {KEY_NAME: "pkcs11:object=pfx-import"},
            "log": {"directory": self.log},
        }
        for name, value in overrides.items():
            section, key = name.split(".", 1)
            settings.setdefault(section, {})[key] = value
        return settings

    def write_config(self, extra="", overrides=None):
        lines = []
        for section, keys in self.settings(overrides or {}).items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in keys.items() if value is not None]
            lines.append("")
        self.config.write_text("\n".join(lines) + extra)

    def start(self, wait=True):
        self.process = Process(self.name, [self.rig.programs / "certconnectord", "--config", self.config], self.rig.folder,
                               env={**self.token.env, **self.env})
        if wait:
            self.wait_ready()

    def status(self):
        done = self.cli("status", "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_ready(self, seconds=30):
        def ready():
            assert self.process.running(), self.process.output()
            status = self.status()
            return (status and status["token"]["state"] == "open" and status["service"]["contact"] == "ok" and
                    status["keys"] and all(key["state"] != "unknown" for key in status["keys"]))
        wait_until(ready, f"{self.name} is ready", seconds)

    def token_pid(self):
        status = self.status()
        return status["token"]["pid"] if status else 0

    def journal_open(self):
        """Rows of the journal that are not closed; None while the daemon does not answer."""
        status = self.status()
        return status and sum(count for workload in status["workloads"].values()
                              for state, count in workload.get("journal", {}).items() if state != "closed")

    def cli(self, command, *argv, check=True):
        return run(*as_service_user([self.rig.programs / "certconnector", command, *argv, "--config", self.config]),
                   check=check, env=dict(os.environ, **self.token.env))

    def events(self, *filters):
        """Read from the folder, so that it works while the configuration is bad."""
        done = run(*as_service_user([self.rig.programs / "certconnector", "events", "--json", "--directory", self.log, *filters]))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def admin_events(self):
        """Events of the admin channel about requests, by request id."""
        by_request = {}
        for event in self.events("--channel", "admin"):
            if "requestId" in event:
                by_request.setdefault(event["requestId"], []).append(event)
        return by_request

    def public_key(self):
        pem = self.cli("key", "export-public", "--role", "pfx-import", "--format", "pem").stdout
        return serialization.load_pem_public_key(pem.encode())


class Rig:
    """Owns the folder and everything started in it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="certconnector-test."))
        self.folder.chmod(0o755)
        # Where the project was built may be closed to the service user.
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        for program in PROGRAMS:
            shutil.copy(BUILD / "bin" / program, self.programs)
        self.started = []

    def private_folder(self, path):
        path.mkdir(mode=0o750)
        shutil.chown(path, USER, USER)

    def private_file(self, path, data):
        path.write_bytes(data)
        path.chmod(0o640)
        shutil.chown(path, "root", USER)

    def token(self, **options):
        return Token(self.folder, self.programs, **options)

    def service(self, *options, **more):
        service = Service(self, *options, **more)
        self.started.append(service)
        return service

    def connector(self, service, token, **options):
        connector = Connector(self, service, token, **options)
        self.started.append(connector)
        return connector

    def close(self):
        for thing in reversed(self.started):
            if thing.process is not None:
                thing.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
