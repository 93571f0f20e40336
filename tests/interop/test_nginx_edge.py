# SPDX-License-Identifier: MIT
"""nginx in front of the SCEP server, with the configuration that is shipped: what gets through and what does not, its key
in a file and in a token."""

import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from pki_rig import free_port  # noqa: E402
from rig import PROJECT, SOFTHSM, USER, Rig, make_certificate, run, wait_until  # noqa: E402
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep  # noqa: E402
from test_scep_clients import SUCCESS, Certmonger, Recorder, Strongswan, check_issued  # noqa: E402

NGINX_GROUP = "www-data"
PROFILES = """
[profile "old"]
key-usages = digitalSignature, keyEncipherment
extended-key-usages = clientAuth
subject = CN, O, OU, C

[scep-profile "des"]
ca = corp
profile = old
challenge = static
challenge-secret = file:{secret}
legacy = des
"""


class Edge:
    """An nginx of our own: the shipped configuration, but for where things are."""

    def __init__(self, folder, upstream, key=None, env=None, start=True, rate="9000r/s"):
        self.folder, self.port = folder, free_port()
        folder.mkdir(mode=0o755)
        self.env = dict(os.environ, **(env or {}))
        self.certificate = folder / "tls.crt"
        self.pid_file, self.log = folder / "nginx.pid", folder / "error.log"
        self.url = f"https://localhost:{self.port}"
        self.process = None
        if key is None:
            private = rsa.generate_private_key(65537, 2048)
            self.certificate.write_bytes(make_certificate("localhost", private).public_bytes(serialization.Encoding.PEM))
            key_file = folder / "tls.key"
            key_file.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                       serialization.NoEncryption()))
            key_file.chmod(0o600)
            key = str(key_file)
        changes = {
            "    server 127.0.0.1:8080;": f"    server {upstream};",
            "rate=20r/s;": f"rate={rate};",
            "    listen 443 ssl;": f"    listen 127.0.0.1:{self.port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "server_name scep.contoso.example;": "server_name localhost;",
            "ssl_certificate /etc/certconnector-edge/tls.crt;": f"ssl_certificate {self.certificate};",
            "ssl_certificate_key /etc/certconnector-edge/tls.key;": f'ssl_certificate_key "{key}";',
        }
        text = (PROJECT / "scripts/nginx/certconnector-scep.conf").read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / "site.conf").write_text(text)
        temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"user {NGINX_GROUP};\nworker_processes 2;\ndaemon off;\npid {self.pid_file};\nerror_log {self.log};\n"
            f"events {{}}\nhttp {{\n    access_log off;\n{temporary}    include {folder}/site.conf;\n}}\n")
        if start:
            self.start()

    def start(self):
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(["nginx", "-c", self.folder / "nginx.conf"], env=self.env, stdout=out, stderr=out,
                                            stdin=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or len(self.workers()) == 2, "nginx works")
        assert self.process.poll() is None, (self.folder / "out").read_text()

    def workers(self):
        """Their process ids, without those that only finish what they have."""
        found = subprocess.run(["pgrep", "-a", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.splitlines()
        return [int(line.split()[0]) for line in found if "shutting down" not in line]

    def reload(self):
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(now := self.workers()) == 2 and not before & set(now), "nginx has new workers")

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def curl(self, path, *options, check=True):
        """(status, Content-Type, body)"""
        body = self.folder / "body"
        body.unlink(missing_ok=True)
        done = run("curl", "--silent", "--show-error", "--noproxy", "*", "--path-as-is", "--cacert", self.certificate, "--output", body, "--write-out",
                   "%{http_code} %{content_type}", *options, self.url + path, check=check)
        if done.returncode != 0:
            return None
        status, _, kind = done.stdout.partition(" ")
        return int(status), kind, body.read_bytes() if body.exists() else b""

    def shake_hands(self, version=None):
        """A handshake of its own and a request; raises where one fails."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(b"GET /scep?operation=GetCACaps HTTP/1.0\r\nHost: localhost\r\n\r\n")
                answer = b""
                while chunk := tls.recv(4096):
                    answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 ") and b"SCEPStandard" in answer, answer


@pytest.fixture(scope="module")
def world():
    """(rig, service, token)"""
    rig = Rig()
    try:
        yield rig, rig.service(), rig.token(kinds=TOKEN_KEYS)
    finally:
        rig.close()


@pytest.fixture(scope="module")
def scep(world):
    rig, service, token = world
    return connector_with_scep(rig, service, token, extra=PROFILES.format(secret=rig.folder / "scep.secret"))


@pytest.fixture(scope="module")
def edge(world, scep):
    edge = Edge(world[0].folder / "edge", f"127.0.0.1:{scep.port}")
    yield edge
    edge.stop()


def trusting(certificate):
    """Runs a program that trusts what the system does and cannot be told otherwise: in a mount namespace of its own."""
    script = 'mount --bind "$1" /etc/ssl/certs/ca-certificates.crt && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", certificate]


def certmonger_enrols(scep, edge, folder, name):
    key, file = folder / "key", folder / "certificate"
    before = len(scep.admin_events())
    # Its -R is for what it fetches; for the message itself it trusts as the system does.
    listed, log = Certmonger(folder, trusting(edge.certificate)).run(
        f"add-scep-ca -c corp -u {edge.url}/scep -R {edge.certificate} -N {scep.authority.certificate()}",
        f"request -c corp -f {file} -k {key} -N CN={name},O=Contoso -D {name} -L {CHALLENGE} -I first -w",
        "rekey -i first -w")
    assert "status: MONITORING" in listed and "stuck: no" in listed, log
    check_issued(scep, file, name, key)
    assert [event["id"] for event in scep.admin_events()[before:]] == [SUCCESS] * 2


def test_certmonger_enrols_and_renews_through_it(scep, edge, tmp_path):
    certmonger_enrols(scep, edge, tmp_path, "edge.contoso.example")


def test_strongswan_enrols_and_renews_through_it(scep, edge, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for key in (first, second):
        run("openssl", "genrsa", "-out", key, "2048")
    with pytest.raises(AssertionError):
        Strongswan(scep, tmp_path, edge.url + "/scep")  # it does not know who is there
    client = Strongswan(scep, tmp_path, edge.url + "/scep", trusting(edge.certificate))
    client.enrol(first, tmp_path / "first.pem", "swan", "--password", CHALLENGE)
    check_issued(scep, tmp_path / "first.pem", "swan", first)
    client.enrol(second, tmp_path / "second.pem", "swan", "--cert", tmp_path / "first.pem", "--key", first)
    check_issued(scep, tmp_path / "second.pem", "swan", second)


def test_scepclient_enrols_through_it(scep, edge, tmp_path):
    argv = ["scepclient", "-server-url", edge.url + "/scep/des", "-private-key", tmp_path / "key", "-certificate", tmp_path / "certificate",
            "-cn", "scepclient", "-organization", "Contoso", "-challenge", CHALLENGE]
    said = run(*argv, check=False, cwd=tmp_path, env=dict(os.environ, SSL_CERT_FILE="/dev/null"))
    assert said.returncode != 0 and not (tmp_path / "certificate").exists(), "it does not know who is there"
    run(*argv, cwd=tmp_path, env=dict(os.environ, SSL_CERT_FILE=str(edge.certificate)))
    check_issued(scep, tmp_path / "certificate", "scepclient", tmp_path / "key")


def test_over_a_unix_socket(world, tmp_path):
    rig, service, token = world
    folder = rig.folder / "sockets"
    folder.mkdir()
    shutil.chown(folder, USER, NGINX_GROUP)
    folder.chmod(0o2750)
    scep = connector_with_scep(rig, service, token, name="connector-unix", overrides={"scep.listen": f"unix:{folder}/scep.sock"})
    edge = Edge(rig.folder / "edge-unix", f"unix:{folder}/scep.sock")
    try:
        certmonger_enrols(scep, edge, tmp_path, "unix.contoso.example")
    finally:
        edge.stop()


@pytest.mark.parametrize("path", ["/scep", "/scep/", "/scep/pkiclient.exe", "/cgi-bin/pkiclient.exe", "/scep/des", "/scep/des/pkiclient.exe"])
def test_what_is_passed_on(edge, path):
    status, kind, body = edge.curl(path + "?operation=GetCACaps&message=x")
    assert (status, kind) == (200, "text/plain") and b"SCEPStandard" in body
    status, kind, _ = edge.curl(path + "?operation=GetCACert")
    assert (status, kind) == (200, "application/x-x509-ca-ra-cert"), "nothing behind the type"


@pytest.mark.parametrize("path", ["/", "/scepter", "/scep/..", "/scep/../", "/scep/%2e%2e/x", "/cgi-bin/", "/cgi-bin/pkiclient.exe/x", "/ocsp", "/status"])
def test_what_is_not_passed_on(scep, edge, path):
    status, _, body = edge.curl(path + "?operation=GetCACaps")
    assert status == 404 and b"nginx" in body, "the edge itself answers"


def test_limits(edge, tmp_path):
    post = ("--request", "POST", "--header", "Content-Type: application/x-pki-message", "--header", "Expect:")
    for size, status in ((65536, 400), (65537, 413)):
        (tmp_path / "body").write_bytes(b"x" * size)
        assert edge.curl("/scep?operation=PKIOperation", *post, "--data-binary", f"@{tmp_path}/body")[0] == status, size
    # A device that sends its body in chunks, which the connector by itself does not take.
    assert edge.curl("/scep?operation=PKIOperation", *post, "--header", "Transfer-Encoding: chunked", "--data-binary", "x")[0] == 400
    prefix = "/scep?operation=PKIOperation&message="
    assert edge.curl(prefix + "A" * (16384 - len(prefix)))[0] == 400, "it came to the connector, which finds no message in it"
    assert edge.curl(prefix + "A" * 21000)[0] == 414
    assert edge.curl("/scep?operation=GetCACaps", "--header", "X-Long: " + "x" * 21000)[0] in (400, 431)
    assert edge.curl("/scep?operation=GetCACaps", "--request", "DELETE")[0] == 405


def test_one_address_has_its_share(world, scep):
    edge = Edge(world[0].folder / "edge-rate", f"127.0.0.1:{scep.port}", rate="1r/s")
    try:
        for _ in range(100):
            edge.shake_hands()
        wait_until(lambda: edge.curl("/scep?operation=GetCACaps")[0] == 503, "the burst is used up")
    finally:
        edge.stop()


def test_message_is_passed_on_as_it_was_sent(scep, tmp_path):
    recorder = Recorder(f"http://127.0.0.1:{scep.port}")
    edge = Edge(tmp_path / "edge", recorder.url.removeprefix("http://"))
    try:
        edge.curl("/scep?operation=GetCACaps&message=a+b%2Bc%2f%0A==", "--header", "X-Forwarded-For: 192.0.2.1", "--header", "X-Real-IP: 192.0.2.1",
                  "--header", "Forwarded: for=192.0.2.1")
    finally:
        edge.stop()
        recorder.close()
    path, headers = recorder.seen[-1]
    assert path == "/scep?operation=GetCACaps&message=a+b%2Bc%2f%0A=="
    assert "192.0.2.1" not in str(headers) and headers["Host"] == "localhost"


def test_versions_of_tls(edge):
    edge.shake_hands(ssl.TLSVersion.TLSv1_2)
    edge.shake_hands(ssl.TLSVersion.TLSv1_3)
    done = run("openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and "alert protocol version" in done.stderr
    asked = run("openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-CAfile", edge.certificate, stdin=subprocess.DEVNULL).stdout
    assert "No client certificate CA names sent" in asked and "Verify return code: 0 (ok)" in asked


def test_connector_is_away(scep, edge):
    scep.connector.process.stop()
    try:
        assert edge.curl("/scep?operation=GetCACaps")[0] == 502
    finally:
        scep.connector.start(wait=False)
        scep.wait_ready()
    assert edge.curl("/scep?operation=GetCACaps")[0] == 200


# ---- the key in a token ----

class EdgeToken:
    """A SoftHSM token of the edge's own, which its workers can read."""

    def __init__(self, rig):
        self.folder = rig.folder / "edge-token"
        self.tokens, self.pin, self.conf = self.folder / "tokens", self.folder / "pin", self.folder / "softhsm2.conf"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.tokens.mkdir(mode=0o750)
        self.conf.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.openssl_conf = self.folder / "openssl.cnf"
        shutil.copy(PROJECT / "scripts/nginx/openssl-pkcs11.cnf", self.openssl_conf)
        for name in ("pin", "so-pin"):
            (self.folder / name).write_text(f"{name}-of-the-edge")  # no newline: the engine takes it for a part of the PIN
            (self.folder / name).chmod(0o600)
        self.env = {"SOFTHSM2_CONF": str(self.conf), "OPENSSL_CONF": str(self.openssl_conf)}
        program, target = rig.programs / "certconnector", ("--module", SOFTHSM)
        pin = f"file:{self.pin}"
        env = dict(os.environ, SOFTHSM2_CONF=str(self.conf))
        run(program, "token", "init", *target, "--label", "edge", "--pin", pin, "--so-pin", f"file:{self.folder}/so-pin", env=env)
        target = (*target, "--uri", "pkcs11:token=edge", "--pin", pin)
        run(program, "key", "generate", *target, "--role", "identity", "--type", "rsa2048", "--label", "tls", env=env)
        self.uri = f"pkcs11:token=edge;object=tls;type=private?pin-source={self.pin}"
        self.readable_for(NGINX_GROUP)

    def readable_for(self, group):
        for path in (self.tokens, *self.tokens.rglob("*")):
            shutil.chown(path, "root", group)
            path.chmod(0o750 if path.is_dir() else 0o640)

    def write_certificate(self, file):
        run("openssl", "req", "-new", "-x509", "-days", "30", "-config", "/etc/ssl/openssl.cnf", "-engine", "pkcs11", "-keyform", "engine",
            "-key", self.uri, "-subj", "/CN=localhost", "-addext", "subjectAltName = DNS:localhost", "-out", file,
            env=dict(os.environ, **self.env))


@pytest.fixture(scope="module")
def edge_token(world):
    return EdgeToken(world[0])


@pytest.fixture
def token_edge(world, scep, edge_token, tmp_path_factory):
    edge = Edge(tmp_path_factory.mktemp("edge") / "edge", f"127.0.0.1:{scep.port}", key=f"engine:pkcs11:{edge_token.uri}", env=edge_token.env, start=False)
    edge.folder.parent.chmod(0o755)
    edge_token.write_certificate(edge.certificate)
    yield edge
    edge.stop()


class Load:
    """Devices that come and go, each with a handshake of its own."""

    def __init__(self, edge, devices=3):
        self.edge, self.over, self.good, self.bad = edge, threading.Event(), 0, []
        self.threads = [threading.Thread(target=self._come_and_go) for _ in range(devices)]

    def _come_and_go(self):
        while not self.over.is_set():
            try:
                self.edge.shake_hands()
                self.good += 1
            except Exception as e:  # noqa: BLE001: whatever a device meets is counted
                self.bad.append(repr(e))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def wait_good(self, more):
        want = self.good + more
        wait_until(lambda: self.good >= want, "devices are served")


def test_key_in_a_token(scep, token_edge, tmp_path):
    token_edge.start()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        token_edge.shake_hands(version)
    certmonger_enrols(scep, token_edge, tmp_path, "token.contoso.example")


def test_key_in_a_token_through_reloads_and_killed_workers(token_edge):
    token_edge.start()
    with Load(token_edge) as load:
        for _ in range(10):
            token_edge.reload()
            load.wait_good(5)
        assert load.bad == [], "a reload loses no device"
        for n in range(6):
            gone = token_edge.workers()[n % 2]
            os.kill(gone, signal.SIGKILL)
            wait_until(lambda: len(now := token_edge.workers()) == 2 and gone not in now, "there is a worker in its place")
            load.wait_good(5)
        lost = len(load.bad)
        load.wait_good(20)
    assert len(load.bad) == lost <= 6 * len(load.threads), "those that the killed worker held, and none later"


def test_key_in_a_token_through_restarts(token_edge):
    for _ in range(5):
        token_edge.start()
        token_edge.shake_hands()
        token_edge.stop()


def test_key_that_is_not_in_the_token(token_edge, edge_token):
    token_edge.start()
    site = token_edge.folder / "site.conf"
    good = site.read_text()
    site.write_text(good.replace("object=tls", "object=absent"))
    token_edge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "ENGINE_load_private_key() failed" in token_edge.log.read_text(), "nginx says what it lacks")
    token_edge.shake_hands()
    site.write_text(good)
    token_edge.reload()
    token_edge.shake_hands()


def test_token_that_workers_cannot_read(token_edge, edge_token):
    edge_token.readable_for("root")
    try:
        token_edge.start()
        with pytest.raises(OSError):
            token_edge.shake_hands()
    finally:
        edge_token.readable_for(NGINX_GROUP)
