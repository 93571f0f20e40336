# SPDX-License-Identifier: MIT
"""certconnector check: planted faults, each found by its name, told of with its cause, and gone when the advice was followed.

One token, one stand-in and one CA for all; the daemon runs only where a case is about it. A command that a finding gives is run
word for word by a shell, as root; where the advice is in words the case does what they say."""

import base64
import contextlib
import dataclasses
import datetime
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki_rig import connector_with_ca, free_port
from rig import BUILD, USER, Rig, make_certificate, run, wait_until
from scep_rig import leave_to_readers

KEYS = ("pfx-import=rsa2048", "ca=rsa2048", "ocsp=ecP256", "scep-ra-sign=rsa2048", "scep-ra-encrypt=rsa2048")
DAY = 86400


def write_pem(path, certificate):
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o644)
    return path


class Server:
    """A small TLS server that answers in a way that the stand-in does not."""

    def __init__(self, folder, token=(200, {"access_token": "t", "token_type": "Bearer", "expires_in": 3600}), endpoints=(200, {"value": []}),
                 days=30):
        key = ec.generate_private_key(ec.SECP256R1())
        start = datetime.datetime.utcnow() - datetime.timedelta(days=40)
        certificate = make_certificate("localhost", key, days=40 + days, start=start)
        self.ca_file = write_pem(folder / f"server-{os.urandom(4).hex()}.pem", certificate)
        key_file = self.ca_file.with_suffix(".key")
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.token, self.endpoints = token, endpoints
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def do_HEAD(self):
                self.answer(404, {})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(*outer.token)

            def do_GET(self):
                self.answer(*outer.endpoints)

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *args):
                pass  # who does not trust us hangs up

        self.server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def settings(self):
        return {"service.authority": self.url, "service.graph": self.url, "service.resource": self.url, "service.ca-file": self.ca_file}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Proxy:
    """Answers CONNECT with this status; 200, or the right name and password: goes on to the target."""

    def __init__(self, status, password=None):
        self.status = status
        self.password = password and b"Basic " + base64.b64encode(password.encode()) + b"\r\n"
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            if self.status != 200 and not (self.password and self.password in head):
                client.sendall(f'HTTP/1.1 {self.status} x\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'.encode())
                return
            client.sendall(b"HTTP/1.1 200 x\r\n\r\n")
            host, port = head.split()[1].decode().rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
                back.start()
                self.pump(client, server)
                back.join()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()


class World:
    """A connector with all features and what belongs to it, to be spoiled and made good again."""

    def __init__(self):
        self.rig = Rig()
        self.token = self.rig.token(kinds=KEYS)
        self.service = self.rig.service()
        self.scep_port, self.metrics_port = free_port(), free_port()
        self.good = {"metrics.listen": f"127.0.0.1:{self.metrics_port}", "scep.listen": f"127.0.0.1:{self.scep_port}", "scep.ca": "corp", "scep.profile": "user",
                     "keys.scep-ra-sign": "pkcs11:object=scep-ra-sign", "keys.scep-ra-encrypt": "pkcs11:object=scep-ra-encrypt"}
        self.connector, self.authority = connector_with_ca(self.rig, self.service, self.token, overrides=self.good, start=False,
                                                           features="pkcs, pfx-import, scep, revocation")
        self.good = dict(self.connector.overrides)
        self.identity_path = self.connector.state / f"identity-{self.connector.name}.pem"
        self.folder = self.rig.folder
        self.pin = self.token.pin_file.read_bytes()
        self.secret = self.service.secret_file.read_bytes()
        self.shift = self.folder / "shift"
        self.set_clock(0)
        self.shift.chmod(0o644)
        self.shim = self.rig.programs / "clock_shift.so"
        shutil.copy(BUILD / "tests/clock_shift.so", self.shim)
        self.closing = []

    def set(self, settings=None, extra=""):
        """The good configuration but for these."""
        self.connector.write_config(self.connector.extra + extra, {**self.good, **(settings or {})})

    def set_clock(self, seconds):
        with open(self.shift, "r+b" if self.shift.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

    @property
    def env(self):
        return {**os.environ, **self.token.env, "PATH": f"{self.rig.programs}:{os.environ['PATH']}", "LD_PRELOAD": str(self.shim),
                "CLOCK_SHIFT": str(self.shift)}

    def run(self, *argv, check=True, **env):
        return run(self.rig.programs / "certconnector", *argv, check=check, env={**self.env, **env})

    def check(self, area=None):
        """(exit status, problems by name, all findings) as root sees them."""
        done = self.run("check", "--json", "--config", self.connector.config, *(["--only", area] if area else []), check=False)
        assert done.stderr == "" and done.stdout, done
        answer = json.loads(done.stdout)
        problems = {}
        for finding in answer["findings"]:
            assert area is None or finding["area"] == area or finding["area"] == "config", finding
            if finding["severity"] == "ok":
                assert finding["cause"] == finding["cure"] == finding["command"] == "", finding
            else:
                assert finding["cause"] and finding["cure"], finding
                problems.setdefault(finding["check"], finding)
        severities = [finding["severity"] for finding in answer["findings"]]
        summary = answer["summary"]
        assert (summary["ok"], summary["warnings"], summary["errors"]) == tuple(map(severities.count, ("ok", "warning", "error")))
        assert done.returncode == (2 if summary["errors"] else 1 if summary["warnings"] else 0)
        return done.returncode, problems, answer["findings"]

    def shell(self, command):
        subprocess.run(["sh", "-c", command], check=True, env=self.env, timeout=60, stdout=subprocess.DEVNULL)

    def server(self, **options):
        server = Server(self.folder, **options)
        self.closing.append(server)
        return server

    def proxy(self, status, **options):
        proxy = Proxy(status, **options)
        self.closing.append(proxy)
        return proxy

    def tidy(self):
        """After a case, also after one that failed."""
        for thing in self.closing:
            thing.close()
        self.closing = []
        self.set_clock(0)
        self.identity_path.unlink(missing_ok=True)
        self.set()

    def close(self):
        self.tidy()
        self.rig.close()


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.close()


@dataclasses.dataclass
class Fault:
    name: str
    area: str
    plant: object  # (world) -> what cure gets
    check: str  # the finding's name
    severity: str
    says: str  # pattern, in what, cause or cure
    cure: object = None  # (world, finding, planted); None: the finding's command


FAULTS = []


def fault(name, area, check, severity, says, cure=None):
    """A fault whose planting is the function below."""
    def take(plant):
        FAULTS.append(Fault(name, area, plant, check, severity, says, cure))
        return plant
    return take


def setting(name, area, check, severity, says, settings, cure=None, extra=""):
    """A wrong setting; the advice is to correct it."""
    FAULTS.append(Fault(name, area, lambda w: w.set(settings(w) if callable(settings) else settings, extra=extra), check, severity, says,
                        cure or (lambda w, finding, planted: w.set())))


def owner_and_mode(path, owner, mode):
    shutil.chown(path, *owner.split(":"))
    path.chmod(mode)


# ---- the configuration ----

setting("typo", "config", "settings", "error", r"clientid.*client-id", {"service.clientid": "1"})
setting("bad-value", "config", "settings", "error", r"max-size", {"log.max-size": "huge"})


# ---- files ----

@fault("pin-readable-by-all", "files", "pin-file", "error", r"open to every user.*0644|0644")
def _(w):
    w.token.pin_file.chmod(0o644)


@fault("pin-not-readable", "files", "pin-file", "error", r"Permission denied")
def _(w):
    owner_and_mode(w.token.pin_file, "root:root", 0o600)


@fault("pin-changeable-by-group", "files", "pin-file", "warning", r"by its group")
def _(w):
    w.token.pin_file.chmod(0o660)


@fault("secret-readable-by-all", "files", "secret-file", "error", r"open to every user")
def _(w):
    w.service.secret_file.chmod(0o644)


@fault("config-changeable-by-all", "files", "config-file", "error", r"others may change it")
def _(w):
    w.connector.config.chmod(0o666)  # group, too


@fault("log-directory-read-only", "files", "log-directory", "error", r"cannot be written")
def _(w):
    owner_and_mode(w.connector.log, "root:root", 0o555)


@fault("state-directory-open", "files", "state-directory", "error", r"others may change it")
def _(w):
    w.connector.state.chmod(0o777)


@fault("state-directory-missing", "files", "state-directory", "error", r"is not there")
def _(w):
    w.set({"connector.state-directory": w.folder / "nowhere yet"})


@fault("token-files-writable", "files", "token-files", "warning", r"destroys the token")
def _(w):
    for path in w.token.folder.glob("tokens/*/token.object"):
        path.chmod(0o660)


setting("ca-file-missing", "files", "ca-file", "error", r"No such file.*ca-file", {"service.ca-file": "/nowhere/ca.pem"})


# ---- disk ----

def enlarge(w, finding, folder):
    run("mount", "-o", "remount,size=2g", folder)


@fault("disk-full", "disk", "log-room", "error", r"make room", enlarge)
def _(w):
    folder = w.folder / "small"
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size=40m,uid={USER},gid={USER},mode=750", "certconnector-test", folder)
    w.set({"log.directory": folder})
    return folder


# ---- store ----

def restore(w, finding, backup):
    for path in w.connector.state.glob("state.db*"):
        path.unlink()
    w.run("store", "restore", backup, "--config", w.connector.config)


@fault("schema-newer", "store", "store-schema", "error", r"newer version", restore)
def _(w):
    (w.folder / "backups").mkdir(exist_ok=True)
    shutil.chown(w.folder / "backups", USER, USER)
    backup = w.folder / "backups/state.db"
    w.run("store", "backup", backup, "--config", w.connector.config)
    with contextlib.closing(sqlite3.connect(w.connector.state / "state.db")) as database, database:
        database.execute("UPDATE schema_version SET version = 999")
        database.execute("UPDATE schema_oldest SET version = 999")
    return backup


setting("database-down", "store", "store-open", "error", r"start the database server",
        lambda w: {"connector.state": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"})


@fault("database-damaged", "store", "store-open", "error", r"store restore", lambda w, finding, path: w.set())
def _(w):
    path = w.connector.state / "broken.db"
    path.write_bytes(b"no database " * 1000)
    shutil.chown(path, USER, USER)
    w.set({"connector.state": f"sqlite:{path}"})


# ---- token ----

setting("module-missing", "token", "module", "error", r"\[token\] module", {"token.module": "/nowhere/module.so"})
setting("no-module", "token", "module", "error", r"softhsm2", {"token.module": "/etc/passwd"})
setting("token-absent", "token", "token", "error", r'are there: "certconnector"', {"token.uri": "pkcs11:token=another"})


def name_serial(w, finding, first):
    assert f"serial {first}" in finding["cause"]
    w.set({"token.uri": f"pkcs11:token={w.token.label};serial={first}"})


@fault("two-tokens", "token", "token", "error", r"2 tokens.*serial=", name_serial)
def _(w):
    first = re.search(r"serial ([0-9a-f]{16})", json.dumps(w.check("token")[2]))[1]
    run("softhsm2-util", "--init-token", "--free", "--label", w.token.label, "--so-pin", "24681357", "--pin", "13572468",
        env={**os.environ, **w.token.env})
    leave_to_readers(w.token)
    for path in (w.token.folder / "tokens").iterdir():
        owner_and_mode(path, f"root:{USER}", 0o750)
    return first


def right_pin(w, finding, planted):
    w.token.pin_file.write_bytes(w.pin)


@fault("wrong-pin", "token", "pin", "error", r"put the right PIN into", right_pin)
def _(w):
    w.token.pin_file.write_bytes(b"00000000-wrong\n")


@fault("wrong-pin-remembered", "token", "pin-remembered", "error", r"not tried again", right_pin)
def _(w):
    w.token.pin_file.write_bytes(b"11111111-wrong\n")
    assert "pin" in w.check("token")[1]


@fault("pin-empty", "token", "pin", "error", r"cannot be read", right_pin)
def _(w):
    w.token.pin_file.write_bytes(b"")


setting("key-missing", "token", "key", "error", r"key list", {"keys.pfx-import": "pkcs11:object=fresh-import"},
        cure=lambda w, finding, planted: w.shell(finding["command"]))
setting("next-identity-key-missing", "token", "key", "error", r"the identity-next key .* is not on the token",
        {"keys.identity-next": "pkcs11:object=next-identity"}, cure=lambda w, finding, planted: w.shell(finding["command"]))
setting("key-of-two-roles-missing", "token", "key", "error", r"the scep-ra-.* is not on the token",
        {"keys.scep-ra-sign": "pkcs11:object=fresh-ra", "keys.scep-ra-encrypt": "pkcs11:object=fresh-ra"},
        cure=lambda w, finding, planted: w.shell(finding["command"]))
setting("ca-key-missing", "token", "key", "error", r"the ca key .* is not on the token", {"keys.ca": "pkcs11:object=nowhere"})
setting("key-cannot-decrypt", "token", "key-use", "error", r"pfx-import.*key generate --role pfx-import",
        {"keys.pfx-import": "pkcs11:object=scep-ra-sign"})
setting("key-of-wrong-kind", "token", "key-use", "error", r"pfx-import", {"keys.pfx-import": "pkcs11:object=ocsp"})
setting("seal-key-of-wrong-kind", "token", "key", "error", r"the seal key .* is not on the token", {"keys.seal": "pkcs11:object=scep-ra-encrypt"},
        cure=lambda w, finding, planted: (w.set(), pytest.fail("the label is taken") if finding["command"] else None))

# ---- network ----

setting("name-unknown", "network", "dns", "error", r"resolv", {"service.authority": "https://nowhere.invalid/"})
setting("nobody-there", "network", "connect", "error", r"firewall", lambda w: {"service.authority": f"https://localhost:{free_port()}/"})
setting("nobody-there-past-the-proxy", "network", "connect", "error", r"firewall",
        lambda w: {"service.authority": f"https://localhost:{free_port()}/", "service.proxy": f"http://127.0.0.1:{free_port()}",
                   "service.no-proxy": "example.com, localhost"})
setting("tls-name", "network", "tls-name", "error", r"CN ?= ?localhost",
        lambda w: {"service.authority": f"https://127.0.0.1:{w.service.port}/"})


@fault("tls-not-trusted", "network", "tls-trust", "error", r"signed by .*CN ?= ?localhost",
       lambda w, finding, ca_file: ca_file.write_bytes(w.service.ca_file.read_bytes()))
def _(w):
    ca_file = write_pem(w.folder / "other-ca.pem", make_certificate("other", ec.generate_private_key(ec.SECP256R1()), days=365))
    w.set({"service.ca-file": ca_file})
    return ca_file


@fault("tls-expired", "network", "tls-expired", "error", r"renew the certificate",
       lambda w, finding, planted: w.set(w.server(days=100).settings()))
def _(w):
    w.set(w.server(days=-10).settings())


# The service in a proxy's place: it has TLS, which is as far as one gets with it.
setting("proxy-not-trusted", "network", "proxy-tls", "error", r"put the CA of the proxy's certificate", lambda w: {
    "service.proxy": f"https://localhost:{w.service.port}",
    "service.ca-file": write_pem(w.folder / "other-ca.pem", make_certificate("other", ec.generate_private_key(ec.SECP256R1()), days=365))})
setting("proxy-not-there", "network", "proxy", "error", r"cannot be reached", lambda w: {"service.proxy": f"http://127.0.0.1:{free_port()}"})


def give_password(w, finding, proxy):
    assert "proxy-user and proxy-password" in finding["cure"]
    w.set({"service.proxy": proxy.url, "service.proxy-user": "connector", "service.proxy-password": f"file:{w.folder / 'proxy.password'}"})


@fault("proxy-wants-password", "network", "proxy-password", "error", r"407", give_password)
def _(w):
    proxy = w.proxy(407, password="connector:let me through")
    w.rig.private_file(w.folder / "proxy.password", b"let me through")
    w.set({"service.proxy": proxy.url})
    return proxy


def correct_password(w, finding, path):
    w.rig.private_file(path, b"let me through")


@fault("proxy-password-wrong", "network", "proxy-password", "error", r"correct .*proxy-password", correct_password)
def _(w):
    path = w.folder / "proxy.password"
    w.rig.private_file(path, b"wrong")
    w.set({"service.proxy": w.proxy(407, password="connector:let me through").url, "service.proxy-user": "connector",
           "service.proxy-password": f"file:{path}"})
    return path


@fault("proxy-password-readable-by-all", "files", "secret-file", "error", r"password at the proxy")
def _(w):
    path = w.folder / "proxy.password"
    w.rig.private_file(path, b"secret")
    path.chmod(0o644)
    w.set({"service.proxy": "http://127.0.0.1:1", "service.proxy-user": "connector", "service.proxy-password": f"file:{path}"})


@fault("proxy-refuses", "network", "proxy", "error", r"CONNECT", lambda w, finding, proxy: setattr(proxy, "status", 200))
def _(w):
    proxy = w.proxy(403)
    w.set({"service.proxy": proxy.url})
    return proxy


@fault("clock-ahead", "network", "clock", "error", r"(3599|3600|3601) s ahead", lambda w, finding, planted: w.set_clock(0))
def _(w):
    w.set_clock(3600)


@fault("clock-behind", "network", "clock", "warning", r"4[456] s behind", lambda w, finding, planted: w.set_clock(0))
def _(w):
    w.set_clock(-45)


@fault("clock-beyond-its-limit", "network", "clock", "error", r"1[456] s behind.*max-clock-skew", lambda w, finding, planted: w.set())
def _(w):
    w.set({"service.max-clock-skew": "10s"})
    w.set_clock(-15)


# ---- service ----

setting("wrong-tenant", "service", "tenant", "error", r"AADSTS90002", {"service.tenant": "fabrikam.example"})
setting("wrong-client-id", "service", "client-id", "error", r"AADSTS700016", {"service.client-id": "99999999-2222-3333-4444-555555555555"})


@fault("wrong-secret", "service", "client-secret", "error", r"AADSTS7000215.*not its id",
       lambda w, finding, planted: w.service.secret_file.write_bytes(w.secret))
def _(w):
    w.service.secret_file.write_bytes(b"wrong")


@fault("secret-expired", "service", "client-secret-expired", "error", r"make a new one", lambda w, finding, planted: w.set())
def _(w):
    w.set(w.server(token=(401, {"error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret keys are expired.",
                                "error_codes": [7000222]})).settings())


@fault("sign-in-refused-otherwise", "service", "sign-in", "error", r"AADSTS123456", lambda w, finding, planted: w.set())
def _(w):
    w.set(w.server(token=(400, {"error": "invalid_grant", "error_description": "AADSTS123456: Something new.",
                                "error_codes": [123456]})).settings())


ENDPOINTS = {"value": [{"providerName": name, "uri": "https://localhost:1/x"} for name in ("PkiConnectorFEService", "ScepRequestValidationFEService")]}


@fault("graph-forbidden", "service", "graph-permission", "error", r"Application\.Read\.All",
       lambda w, finding, server: setattr(server, "endpoints", (200, ENDPOINTS)))
def _(w):
    server = w.server(endpoints=(403, {"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges"}}))
    w.set(server.settings())
    return server


@fault("service-missing", "service", "service-missing", "error", r"licensed", lambda w, finding, server: setattr(server, "endpoints", (200, ENDPOINTS)))
def _(w):
    server = w.server()
    w.set(server.settings())
    return server


def certificate_of(w, role, days):
    """Of the token's key, as a CA elsewhere would give it."""
    pem = w.run("key", "export-public", "--role", role, "--config", w.connector.config).stdout
    return foreign_certificate(serialization.load_pem_public_key(pem.encode()), days)


def foreign_certificate(public_key, days):
    issuer = ec.generate_private_key(ec.SECP256R1())
    holder = type("Holder", (), {"public_key": lambda self: public_key})()
    start = datetime.datetime.utcnow() - datetime.timedelta(days=100)
    return make_certificate("holder", holder, days=100 + days, issuer=make_certificate("ca", issuer).subject, issuer_key=issuer, start=start)


def sign_in_by(w, certificate):
    path = write_pem(w.folder / "client.pem", certificate)
    w.set({**w.server(endpoints=(200, ENDPOINTS)).settings(), "service.client-secret": None, "keys.identity": "pkcs11:object=identity",
           "service.client-certificate": path})
    return path


def renew_client(w, finding, path):
    write_pem(path, certificate_of(w, "identity", 200))


@fault("client-certificate-expired", "service", "client-certificate-expired", "error", r"for the same key.*client-certificate", renew_client)
def _(w):
    return sign_in_by(w, certificate_of(w, "identity", -1))


@fault("client-certificate-of-another-key", "service", "client-certificate-key", "error", r"of another key than pkcs11:object=identity", renew_client)
def _(w):
    return sign_in_by(w, foreign_certificate(rsa.generate_private_key(65537, 2048).public_key(), 200))


def identity(w, certificate):
    path = write_pem(w.identity_path, certificate)
    w.set({"keys.identity": "pkcs11:object=identity"})
    return path


@fault("identity-expired", "service", "identity-expired", "error", r"not renewed in time", lambda w, finding, path: write_pem(path, certificate_of(w, "identity", 200)))
def _(w):
    return identity(w, certificate_of(w, "identity", -1))


@fault("identity-of-another-key", "service", "identity-key", "error", r"of another key", lambda w, finding, path: write_pem(path, certificate_of(w, "identity", 200)))
def _(w):
    return identity(w, foreign_certificate(ec.generate_private_key(ec.SECP256R1()).public_key(), 200))


# ---- certification authorities ----

def make_ca(w, finding, planted):
    assert "certconnector ca init --ca new --subject NAME" in finding["cure"]
    w.run("ca", "init", "--ca", "new", "--subject", "CN=New CA", "--config", w.connector.config)


@fault("ca-not-made", "ca", "ca", "error", r"has not been made", make_ca)
def _(w):
    w.set(extra='\n[ca "new"]\nkind = local\n')


setting("ca-key-of-another", "ca", "ca-key", "error", r"another key", {"keys.ca": "pkcs11:object=scep-ra-sign"})


@fault("ca-expired", "ca", "ca-expired", "error", r"set the clock right", lambda w, finding, planted: w.set_clock(0))
def _(w):
    w.set_clock(4000 * DAY)


@fault("crl-missing", "ca", "crl", "warning", r"no CRL yet")
def _(w):
    with contextlib.closing(sqlite3.connect(w.connector.state / "state.db")) as database, database:
        database.execute("DELETE FROM ca_crl")


@fault("crl-out-of-date", "ca", "crl", "error", r"out of date")
def _(w):
    w.run("ca", "crl", "--pem", "--config", w.connector.config)
    w.set_clock(10 * DAY)


def take_port(w, port):
    taken = socket.create_server(("127.0.0.1", port))
    w.closing.append(taken)
    return taken


def free_it(w, finding, taken):
    assert str(taken.getsockname()[1]) in run("sh", "-c", finding["command"]).stdout  # ss shows who it is
    taken.close()


@fault("publish-port-taken", "ca", "port", "error", r"another program.*\[publish\] listen", free_it)
def _(w):
    return take_port(w, w.authority.port)


# ---- SCEP ----

@fault("scep-port-taken", "scep", "port", "error", r"\[scep\] listen", free_it)
def _(w):
    return take_port(w, w.scep_port)


@fault("metrics-port-taken", "metrics", "port", "error", r"another program.*\[metrics\] listen", free_it)
def _(w):
    return take_port(w, w.metrics_port)


setting("scep-address-of-another", "scep", "port", "error", r"no such address", {"scep.listen": "192.0.2.1:8080"})


def new_ra(w, finding, path):
    write_pem(path, certificate_of(w, "scep-ra-encrypt", 200))


@fault("ra-expired", "scep", "ra-expired", "error", r"for the same key", new_ra)
def _(w):
    path = write_pem(w.folder / "ra.pem", certificate_of(w, "scep-ra-encrypt", -1))
    w.set({"scep.ra-encrypt": path, "scep.ra-sign": write_pem(w.folder / "sign.pem", certificate_of(w, "scep-ra-sign", 200))})
    return path


@fault("ra-of-another-key", "scep", "ra-key", "error", r"cannot open", new_ra)
def _(w):
    path = write_pem(w.folder / "ra.pem", foreign_certificate(rsa.generate_private_key(65537, 2048).public_key(), 200))
    w.set({"scep.ra-encrypt": path, "scep.ra-sign": write_pem(w.folder / "sign.pem", certificate_of(w, "scep-ra-sign", 200))})
    return path


setting("ra-file-missing", "scep", "ra-certificate", "error", r"cannot be read",
        {"scep.ra-encrypt": "/nowhere/ra.pem", "scep.ra-sign": "/nowhere/ra.pem"})


# ---- what ends ----

def in_days(days):
    return (datetime.date.today() + datetime.timedelta(days=days)).isoformat()


setting("secret-ends-soon", "expiry", "expiring", "warning", r"expires in (19|20) days.*Entra", lambda w: {"service.client-secret-expires": in_days(20)},
        cure=lambda w, finding, planted: w.set({"service.client-secret-expires": in_days(180)}))
setting("secret-has-ended", "expiry", "expired", "error", r"has expired", lambda w: {"service.client-secret-expires": in_days(-3)},
        cure=lambda w, finding, planted: w.set({"service.client-secret-expires": in_days(180)}))


@fault("next-ca-expired", "expiry", "expired", "error", r"next CA certificate.*next-ca", lambda w, finding, planted: w.set())
def _(w):
    key = ec.generate_private_key(ec.SECP256R1())
    old = make_certificate("old", key, days=3, start=datetime.datetime.utcnow() - datetime.timedelta(days=9))
    w.set({"scep.next-ca": write_pem(w.folder / "next.pem", old)})


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_fault(world, case):
    try:
        planted = case.plant(world)
        status, problems, findings = world.check(case.area)
        assert case.check in problems, findings
        found = problems[case.check]
        assert found["severity"] == case.severity and status == {"warning": 1, "error": 2}[case.severity], findings
        assert re.search(case.says, " ".join((found["what"], found["cause"], found["cure"])), re.DOTALL), found
        if case.cure is None:
            assert found["command"], found
            world.shell(found["command"])
        else:
            case.cure(world, found, planted)
        _, problems, findings = world.check(case.area)
        assert case.check not in problems, findings
        assert not any(finding["severity"] == "error" and finding["check"] not in ("connect",) for finding in findings), findings
    finally:
        world.connector.config.chmod(0o644)
        if case.name == "disk-full":
            run("umount", world.folder / "small")
        if case.name == "two-tokens":
            remove_second_token(world, planted)
        world.tidy()


def remove_second_token(w, first):
    for path in (w.token.folder / "tokens").iterdir():
        run_serial = path.name.replace("-", "")[-16:]
        if run_serial != first:
            shutil.rmtree(path)


def test_there_are_thirty():
    assert len(FAULTS) >= 30 and len({case.name for case in FAULTS}) == len(FAULTS)


def test_all_is_well(world):
    """A whole run: everything was tried, and nothing is left of the cases above."""
    world.run("ca", "crl", "--pem", "--config", world.connector.config)
    status, problems, findings = world.check()
    assert status == 0 and problems == {}, problems
    assert {finding["area"] for finding in findings} == {"config", "files", "disk", "store", "token", "network", "service", "ca", "scep", "metrics",
                                                           "expiry"}
    # The daemon's user sees the same.
    ours = json.loads(world.connector.cli("check", "--json").stdout)["findings"]
    assert [f for f in ours if f["area"] != "disk"] == [f for f in findings if f["area"] != "disk"]
    checks = {finding["check"] for finding in findings}
    assert {"pin", "key", "use-pfx-import", "use-pkcs", "use-scep", "way", "clock", "sign-in", "discovery", "ca-issue", "crl", "port"} <= checks


def test_output_for_people(world):
    """Marks where the terminal can show them; words everywhere; the cure behind each problem."""
    argv = ("check", "--config", world.connector.config, "--only", "token", "--set", "keys.ca=pkcs11:object=nowhere")
    plain = world.run(*argv, check=False, LC_ALL="C")
    fancy = world.run(*argv, check=False, LC_ALL="C.UTF-8")
    assert plain.returncode == fancy.returncode == 2
    assert plain.stdout.isascii() and "  error    the ca key" in plain.stdout and "\n      do this:  " in plain.stdout
    assert "\u2713 ok" in fancy.stdout and "\u2717 error" in fancy.stdout
    assert "certconnector key generate --role ca" in plain.stdout
    assert "1 errors; the daemon does not run; looked at as user certconnector" in plain.stdout


@pytest.mark.skipif(not pathlib.Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_port_of_the_other_family(world):
    """A listener on [::] leaves IPv4 to others, who are not in its way."""
    taken = socket.create_server(("0.0.0.0", 0))
    world.closing.append(taken)
    try:
        world.set({"metrics.listen": f"[::]:{taken.getsockname()[1]}"})
        status, problems, findings = world.check("metrics")
        assert status == 0 and [finding["check"] for finding in findings] == ["port"], problems
    finally:
        world.tidy()


def test_silent_server(world):
    """One that accepts and never answers is given up in time."""
    silent = socket.create_server(("127.0.0.1", 0))
    world.closing.append(silent)
    try:
        url = f"https://localhost:{silent.getsockname()[1]}/"
        world.set({"service.authority": url, "service.graph": url})
        start = time.monotonic()
        assert set(world.check("network")[1]) == {"connect"}
        assert 4 < time.monotonic() - start < 10
    finally:
        world.tidy()


def test_usage(world):
    assert world.run("check", "--only", "tokens", check=False).returncode == 2
    assert "is it token" in world.run("check", "--only", "tokens", check=False).stderr
    assert world.run("check", "--set", check=False).returncode == 2
    assert world.run("check", "extra", check=False).returncode == 2


def test_running_daemon(world):
    """It is asked for what it holds: no second login, no port tried."""
    try:
        world.connector.start()
        world.authority.crl()
        status, problems, findings = world.check()
        assert status == 0 and problems == {}, problems
        whats = [finding["what"] for finding in findings]
        assert any("the daemon has token" in what for what in whats)
        assert any("is published" in what for what in whats) and any("SCEP server answers" in what for what in whats)
        assert any("metrics are shown" in what for what in whats)
        assert not any(finding["check"] in ("pin", "port") for finding in findings)
        # It does not do what the file says by now.
        elsewhere = f"127.0.0.1:{free_port()}"
        for area, setting_name, name in (("scep", "scep.listen", "scep-server"), ("ca", "publish.listen", "publish"),
                                         ("metrics", "metrics.listen", "metrics")):
            world.set({setting_name: elsewhere})
            status, problems, _ = world.check(area)
            assert status == 2 and set(problems) == {name} and elsewhere in problems[name]["what"] + problems[name]["cause"]
        world.set()
        # A PIN that was changed on the disk alone is not tried while the token is open.
        world.token.pin_file.write_bytes(b"22222222-wrong")
        assert world.check("token")[1] == {}
    finally:
        world.token.pin_file.write_bytes(world.pin)
        world.connector.process.stop()


def test_credentials_of_the_unit(world):
    """What systemd gives to the daemon alone is no error here: a daemon that runs is asked, one that does not has to be started."""
    proxy = world.proxy(407, password="connector:let me through")
    folder = world.folder / "credentials"
    world.rig.private_folder(folder)
    for name, data in (("pin", world.pin), ("secret", world.secret), ("proxy", b"let me through")):
        world.rig.private_file(folder / name, data)
    settings = {"token.pin": "credential:pin", "service.client-secret": "credential:secret"}
    past_proxy = {"service.proxy": proxy.url, "service.proxy-user": "connector", "service.proxy-password": "credential:proxy"}
    try:
        world.set(settings)
        status, problems, _ = world.check()
        assert status == 1 and {"pin", "sign-in"} <= set(problems) and "way" not in problems, problems
        assert "[service] client-secret" in problems["sign-in"]["cause"] and "start the daemon" in problems["sign-in"]["cure"]
        world.set(settings | past_proxy)
        status, problems, _ = world.check()
        assert status == 1 and {"pin", "sign-in", "way"} <= set(problems), problems
        world.connector.env = {"CREDENTIALS_DIRECTORY": str(folder)}
        world.connector.start()
        world.authority.crl()
        status, problems, findings = world.check()
        assert status == 0 and problems == {}, problems
        assert {"the daemon is in contact with the service, the proxy between", "the daemon is signed in"} <= {f["what"] for f in findings}
        world.connector.process.stop()

        world.rig.private_file(folder / "secret", b"wrong")
        world.connector.start(wait=False)
        wait_until(lambda: (world.connector.status() or {"service": {}})["service"].get("contact") == "sign-in refused", "sign-in is refused")
        status, problems, _ = world.check("service")
        assert status == 2 and set(problems) == {"sign-in"} and "AADSTS7000215" in problems["sign-in"]["cause"], problems
        assert "credentials" in problems["sign-in"]["cure"]
    finally:
        world.connector.env = {}
        if world.connector.process:
            world.connector.process.stop()
        world.tidy()
