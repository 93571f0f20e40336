# SPDX-License-Identifier: MIT
"""The synthetic requests of certconnector selftest: through the stand-in and back, with a fault in each feature, and as far as
it goes without a queue. Whatever became of a run, nothing of it stays behind."""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from rig import KEY_NAME, Rig, as_service_user, make_certificate, run, wait_until
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep

FEATURES = "pkcs, pfx-import, scep, revocation"
SCEP = {"scep.challenge": None, "scep.challenge-secret": None, "pkcs.profile": "user", "pkcs.key-pool": "4"}
OF_ONE_SECRET = """
[scep-profile "fixed"]
challenge = static
challenge-secret = file:{}
"""
REVOKED = "no certificate of the run is in force"
NOT_OURS = {"revocation.issuer-name": "CN=Another CA"}  # the daemon leaves what is to be revoked to other instances


class World:
    """All four features, and the hour between two questions about revocations that Intune has."""

    def __init__(self, rig):
        self.rig = rig
        self.service = rig.service("--revocation-cool-down", "3600")
        self.scep = connector_with_scep(rig, self.service, rig.token(kinds=TOKEN_KEYS), features=FEATURES,
                                        extra=OF_ONE_SECRET.format(rig.folder / "scep.secret"),
                                        overrides={**SCEP, "revocation.poll-interval": "60m"})
        self.connector = self.scep.connector
        self.connector.wait_ready()
        self.token_file = rig.folder / "admin.token"
        rig.private_file(self.token_file, (self.service.folder / "admin.token").read_bytes())

    def argv(self, *options, through=True, config=None):
        admin = ["--admin-token-file", self.token_file] if through else []
        return as_service_user([self.rig.programs / "certconnector", "selftest", *admin, *options, "--config",
                                config or self.connector.config])

    def env(self):
        return dict(os.environ, **self.connector.token.env)

    def run(self, *options, **more):
        """(exit status, what it said as JSON, standard error)"""
        done = run(*self.argv("--json", *options, **more), check=False, env=self.env())
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    def control(self, path):
        """(HTTP status, text) of a POST to the daemon."""
        said = run("curl", "--silent", "--unix-socket", self.connector.run / "control.sock", "--data", "", "--write-out", "\n%{http_code}",
                   f"http://localhost{path}").stdout
        text, status = said.rsplit("\n", 1)
        return int(status), text

    def write_config(self, changes, replace=("", "")):
        self.connector.write_config(self.connector.extra.replace(*replace), {**self.connector.overrides, **changes})

    @contextlib.contextmanager
    def daemon_with(self, changes, replace=("", "")):
        """The running daemon with other settings, until the end of the block."""
        try:
            self.write_config(changes, replace)
            assert self.control("/v1/reload")[0] == 200
            self.scep.wait_ready()
            self.connector.wait_ready()
            yield
        finally:
            self.write_config({})
            assert self.control("/v1/reload")[0] == 200
            self.scep.wait_ready()

    @contextlib.contextmanager
    def config_with(self, changes):
        """Another configuration than the daemon's, for the command."""
        path = self.connector.folder / "command.conf"
        try:
            self.write_config(changes)
            path.write_text(self.connector.config.read_text())
        finally:
            self.write_config({})
        yield path

    def certificates(self, told):
        return [c for c in self.scep.authority.listed() if told["run"] in c["subject"]]

    def assert_clean(self, told):
        """Nothing of the run is in force at the CA, open at the service, or uploaded there."""
        assert told["leftBehind"] == []
        assert {c["state"] for c in self.certificates(told)} <= {"revoked"}
        assert self.service.open_requests() == 0
        users = self.service.http.get(f"{self.service.url}/beta/deviceManagement/userPfxCertificates", timeout=30,
                                      headers={"Authorization": "Bearer " + self.service.token()}).json()["value"]
        assert users == []


def failed(told):
    return [(step["feature"], step["step"]) for step in told["steps"] if not step["succeeded"]]


def step_of(told, name):
    (step,) = [step for step in told["steps"] if step["step"] == name]
    return step


@pytest.fixture(scope="module")
def world():
    rig = Rig()
    try:
        yield World(rig)
    finally:
        rig.close()


def test_the_whole_path(world):
    status, told, error = world.run()
    assert (status, error, failed(told)) == (0, "", []), told
    assert told["throughService"] and told["succeeded"]
    assert {step["feature"] for step in told["steps"]} == {"daemon", "device", "pkcs", "pfx-import", "scep", "revocation", "clean-up"}
    # Two were issued, by PKCS request and by SCEP; the connector revoked both, and not the cleaning up.
    assert [c["state"] for c in world.certificates(told)] == ["revoked", "revoked"]
    assert "detail" not in step_of(told, REVOKED)
    # Events are written behind the answers that the command waits for.
    wait_until(lambda: len(world.connector.events("--id", "3000")) == 2, "two certificates were revoked at the service's wish")
    world.assert_clean(told)


def test_a_feature_alone(world):
    status, told, _ = world.run("--feature", "scep")
    assert (status, failed(told)) == (0, []), told
    # Nobody asked for the feature that would have revoked it.
    assert step_of(told, REVOKED)["detail"] == "1 had to be revoked"
    assert [c["reason"] for c in world.certificates(told)] == ["cessationOfOperation"]
    world.assert_clean(told)
    status, told, _ = world.run("--feature", "revocation, pfx-import")
    assert (status, failed(told)) == (0, []), told
    # There was nothing to be revoked, and one was issued for it.
    assert "a certificate is issued to be revoked" in [step["step"] for step in told["steps"]]
    assert "detail" not in step_of(told, REVOKED) and len(world.certificates(told)) == 1
    world.assert_clean(told)


def test_as_far_as_it_goes_without_a_queue(world):
    status, told, error = world.run(through=False)
    assert (status, error, failed(told)) == (0, "", []), told
    assert not told["throughService"]
    assert {step["feature"] for step in told["steps"]} == {"daemon", "service", "device", "pkcs", "pfx-import", "scep", "revocation", "clean-up"}
    # The SCEP profile whose challenge is one secret was enrolled at.
    assert [c["state"] for c in world.certificates(told)] == ["revoked", "revoked"]
    assert "/scep/fixed" in step_of(told, "the server answers for the CA")["detail"]
    world.assert_clean(told)


# ---- a fault in each feature: it is named, the others are tried, and nothing stays behind ----


def test_a_profile_that_refuses(world):
    with world.daemon_with({}, ("sid = extension", "sid = extension\nsubject = O")):
        status, told, error = world.run()
    assert (status, failed(told)) == (1, [("pkcs", "its certificate comes back")]), told
    assert "CN" in step_of(told, "its certificate comes back")["error"]
    assert len(world.certificates(told)) == 1
    world.assert_clean(told)


@pytest.mark.parametrize("key,where,why", [("scep-ra-encrypt", "its password comes back", "DecryptFailed"), ("absent", "a PFX is uploaded", "absent")])
def test_an_import_key_that_is_wrong(world, key, where, why):
    """Passwords are encrypted for another key than the daemon opens them with, or for none."""
    with world.config_with({f"key-alias.{KEY_NAME}": f"pkcs11:object={key}"}) as config:
        status, told, error = world.run("--feature", "pfx-import", config=config)
    assert (status, failed(told)) == (1, [("pfx-import", where)]), told
    assert why in step_of(told, where)["error"]
    world.assert_clean(told)


class AnotherCa(http.server.BaseHTTPRequestHandler):
    """A SCEP server of somebody else."""

    certificate = make_certificate("another CA", rsa.generate_private_key(65537, 2048)).public_bytes(serialization.Encoding.DER)

    def do_GET(self):
        caps = "GetCACaps" in self.path
        body = b"SHA-256\nAES\nPOSTPKIOperation\n" if caps else self.certificate
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if caps else "application/x-x509-ca-cert")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_scep_server_of_another_ca(world):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AnotherCa) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with world.config_with({"scep.listen": f"127.0.0.1:{server.server_port}"}) as config:
            status, told, error = world.run("--feature", "scep", config=config)
        server.shutdown()
    assert (status, failed(told)) == (1, [("scep", "the server answers for the CA")]), told
    assert 'does not serve the CA "corp"' in error
    world.assert_clean(told)


def test_a_challenge_that_is_refused(world):
    world.service.admin("PUT", "faults", {"path": "ScepActions/validateRequest", "status": 403})
    try:
        status, told, error = world.run("--feature", "scep")
    finally:
        world.service.admin("DELETE", "faults")
    assert (status, failed(told)) == (1, [("scep", "a certificate is enrolled")]), told
    assert world.certificates(told) == []
    world.assert_clean(told)


def test_a_revocation_that_only_holds(world):
    with world.daemon_with({"revocation.reason": "certificateHold"}):
        status, told, error = world.run()
    assert (status, failed(told)) == (1, [("revocation", "the CA has it revoked")]), told
    assert "on hold" in step_of(told, "the CA has it revoked")["error"]
    assert step_of(told, REVOKED)["detail"] == "2 had to be revoked"
    world.assert_clean(told)


def test_a_revocation_that_nobody_answers(world):
    with world.daemon_with(NOT_OURS):
        status, told, error = world.run("--timeout", "1s")
    assert (status, failed(told)) == (1, [("revocation", "the connector reports it revoked")]), told
    assert "not within 1s" in error and step_of(told, REVOKED)["detail"] == "2 had to be revoked"
    # The wish itself stays, and does no harm.
    assert len(told["leftBehind"]) == 2 and all(left.startswith("revocationRequests/") for left in told["leftBehind"])
    world.assert_clean({**told, "leftBehind": []})


def test_a_ca_that_asks_an_administrator(world):
    with world.daemon_with({}, ("kind = local", "kind = local\napproval = manual")):
        status, told, error = world.run("--feature", "pkcs, scep")
    assert (status, failed(told)) == (0, []), told
    assert all("administrator" in step_of(told, name)["detail"] for name in ("no certificate is asked for", "no certificate is enrolled"))
    assert world.certificates(told) == []
    world.assert_clean(told)


def test_profiles_that_do_not_take_the_usual_key(world):
    """Keys are of a kind that the profile takes; where SCEP cannot have one, that is said."""
    for keys, scep in (("rsa3072, rsa4096", "a device makes its key"), ("ecP256", "no certificate is enrolled")):
        limits = world.connector.extra.replace("\nextended-key-usage", f"\nkeys = {keys}\nextended-key-usage")
        assert limits != world.connector.extra
        with world.daemon_with({}, (world.connector.extra, limits)):
            status, told, _ = world.run(through=False)
            alone, of_revocation, _ = world.run("--feature", "revocation", through=False)
        assert (status, failed(told)) == (alone, failed(of_revocation)) == (0, []), (told, of_revocation)
        assert ("RSA" if "ec" in keys else "rsa3072") in step_of(told, scep)["detail"]
        assert len(world.certificates(of_revocation)) == 1
        world.assert_clean(told)
        world.assert_clean(of_revocation)


def test_faults_without_a_queue(world):
    wrong = world.rig.folder / "wrong.secret"
    world.rig.private_file(wrong, b"not-the-secret")
    with world.config_with({"service.client-secret": f"file:{wrong}"}) as config:
        status, told, error = world.run(through=False, config=config)
    # Without the service nothing else is tried.
    assert (status, failed(told)) == (1, [("service", "it lets the connector sign in")]), told
    assert len(told["steps"]) == 2 and "not-the-secret" not in json.dumps(told) + error
    with world.config_with({f"key-alias.{KEY_NAME}": "pkcs11:object=absent", "keys.seal": "pkcs11:object=absent"}) as config:
        status, told, error = world.run(through=False, config=config)
    assert (status, failed(told)) == (1, [("pkcs", "a key pair is made and sealed"), ("pfx-import", "a password is encrypted for the import key")]), told
    # What the other features had issued was revoked, as it is when all goes well.
    assert [c["state"] for c in world.certificates(told)] == ["revoked"]
    world.assert_clean(told)


# ---- answers that are not what they should be, each caught by its own check ----


class Meddler(http.server.BaseHTTPRequestHandler):
    """Stands before the stand-in's administrator's side and changes what it says."""

    def forward(self):
        service, meddle = self.server.service, self.server.meddle
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "POST" and body:
            self.server.orders.append(json.loads(body))
        answer = service.http.request(self.command, service.url + self.path, data=body, timeout=30,
                                      headers={**service.admin_header, "Content-Type": "application/json"})
        text = answer.content
        if self.command == "GET":
            told = answer.json()
            meddle(self.server.orders, told)
            text = json.dumps(told).encode()
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = forward

    def log_message(self, *args):
        pass


def encrypt_for(order, password):
    """A password as the connector would deliver it, by openssl."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, plain = pathlib.Path(folder, "certificate"), pathlib.Path(folder, "plain")
        certificate.write_bytes(x509.load_der_x509_certificate(base64.b64decode(order["recipientCertificate"]))
                                .public_bytes(serialization.Encoding.PEM))
        plain.write_bytes(password)
        done = subprocess.run(["openssl", "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", "-in", plain, certificate],
                              capture_output=True, timeout=30, check=True)
    return base64.b64encode(done.stdout).decode()


def of_queue(orders, told, change):
    if told.get("result", {}).get("succeeded") and "recipientCertificate" in orders[-1]:
        change(orders[-1], told["result"])


def another_password(orders, told):
    of_queue(orders, told, lambda order, result: result.update(encryptedPfxPassword=encrypt_for(order, b"another")))


def for_somebody_else(orders, told):
    stranger = make_certificate("stranger", rsa.generate_private_key(65537, 2048)).public_bytes(serialization.Encoding.DER)
    order = {"recipientCertificate": base64.b64encode(stranger)}
    of_queue(orders, told, lambda _, result: result.update(encryptedPfxPassword=encrypt_for(order, b"another")))


def another_certificate_reported(orders, told):
    der = make_certificate("another", rsa.generate_private_key(65537, 2048)).public_bytes(serialization.Encoding.DER)
    of_queue(orders, told, lambda order, result: result.update(certificate=base64.b64encode(der).decode()))


def delivery_of(name_of):
    """A whole delivery that is right in itself and not of the CA."""
    def meddle(orders, told):
        def change(order, result):
            key = rsa.generate_private_key(65537, 2048)
            certificate = make_certificate(name_of(order), key)
            blob = pkcs12.serialize_key_and_certificates(None, key, certificate, None, serialization.BestAvailableEncryption(b"made up"))
            result.update(encryptedPfxPassword=encrypt_for(order, b"made up"), encryptedPfxBlob=base64.b64encode(blob).decode(),
                          certificate=base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode())
        of_queue(orders, told, change)
    return meddle


def told_of_a_failure(orders, told):
    for transaction in told.get("value", []):
        if "notification" in transaction:
            transaction["notification"]["kind"] = "failure"


def said_to_be_revoked(orders, told):
    if "deliveries" in told:
        told["state"] = "completed"


DELIVERED = "password, PFX, key and certificate are right"


@pytest.mark.parametrize("feature,meddle,where,why", [
    ("pfx-import", another_password, "it is the password that was uploaded", "another password came back"),
    ("pfx-import", for_somebody_else, "it is the password that was uploaded", "the recipient's key does not open"),
    ("pkcs", another_password, DELIVERED, "does not open the PFX"),
    ("pkcs", another_certificate_reported, DELIVERED, "another certificate than was reported"),
    ("pkcs", delivery_of(lambda order: "somebody"), DELIVERED, "subject is not"),
    ("pkcs", delivery_of(lambda order: order["subjectName"].removeprefix("CN=")), DELIVERED, "does not verify to the configured CA"),
    ("scep", told_of_a_failure, "the service was told", "told of a failure"),
    ("revocation", said_to_be_revoked, "the CA has it revoked", "has it in force"),
], ids=["password", "recipient", "password-of-pfx", "reported", "subject", "chain", "notification", "status"])
def test_an_answer_that_is_not_right(world, feature, meddle, where, why):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Meddler) as server:
        server.service, server.meddle, server.orders = world.service, meddle, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with world.config_with({"service.allow-http": "yes"}) as config, world.daemon_with(NOT_OURS) if feature == "revocation" else contextlib.nullcontext():
            status, told, error = world.run("--feature", feature, "--admin-url", f"http://127.0.0.1:{server.server_port}", config=config)
        server.shutdown()
    assert (status, failed(told)) == (1, [(feature, where)]), told
    assert why in step_of(told, where)["error"]
    assert len(world.certificates(told)) == (feature != "pfx-import")
    world.assert_clean(told)


# ---- and what else may come between ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_it_clean_up(world, number):
    with world.daemon_with(NOT_OURS):
        child = subprocess.Popen(world.argv(), env=world.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = []
        while not lines or "the service wants what was issued revoked" not in lines[-1]:
            lines.append(child.stdout.readline())
            assert lines[-1], child.stderr.read()
        child.send_signal(number)
        rest, error = child.communicate(timeout=60)
    assert child.returncode == 1 and error.endswith("certconnector selftest: interrupted\n"), (rest, error)
    assert "interrupted: cleaning up" in rest and "2 had to be revoked" in rest
    told = {"run": lines[0].split()[2].rstrip(","), "leftBehind": []}
    assert len(world.certificates(told)) == 2
    world.assert_clean(told)


def test_what_cannot_be_undone_is_named(world):
    """The service does not let go of the PFX."""
    world.service.admin("PUT", "faults", {"path": "userPfxCertificates(", "status": 403})
    try:
        status, told, error = world.run("--feature", "pfx-import")
    finally:
        world.service.admin("DELETE", "faults")
    assert (status, failed(told)) == (1, [("clean-up", "the uploaded PFX is removed")]), told
    (left,) = told["leftBehind"]
    assert f"left behind: {left}" in error
    # What it says to be done does it.
    command, *argv = left.split(": certconnector ")[1].split()
    world.connector.cli(command, *argv)
    world.assert_clean({**told, "leftBehind": []})


def test_bad_usage(world):
    def refused(*options, **more):
        done = run(*world.argv(*options, **more), check=False, env=world.env())
        assert done.returncode == 2 and not done.stdout, done
        return done.stderr
    assert "features are pkcs" in refused("--feature", "nonsense")
    assert "--timeout" in refused("--timeout", "soon")
    assert "--admin-url goes with" in refused("--admin-url", "https://localhost", through=False)
    intune = {"service.cloud": "public", "service.authority": None, "service.graph": None, "service.resource": None, "connector.features": "scep"}
    with world.config_with(intune) as config:
        assert "cloud = custom" in refused(config=config)
        assert "does not have it" in refused("--feature", "pkcs", config=config)


def test_a_wrong_admin_token(world):
    wrong = world.rig.folder / "wrong.token"
    world.rig.private_file(wrong, b"nobody's")
    status, told, error = world.run("--admin-token-file", wrong, "--feature", "pkcs")
    assert (status, failed(told)) == (1, [("pkcs", "a request is put into the service's queue")]), told
    assert "is not this service's" in error and "nobody's" not in json.dumps(told) + error
    world.assert_clean(told)


def test_intune_is_not_asked_before_its_time_and_nothing_is_tried_without_a_daemon(world):
    assert world.control("/v1/poll") == (202, "asked\n")
    world.connector.process.stop()
    status, told, error = world.run()
    assert (status, failed(told)) == (1, [("daemon", "it runs, with its token and its service")]), told
    assert "does not answer" in error and len(told["steps"]) == 1
    try:
        world.write_config({"connector.features": "scep, revocation", "service.cloud": "public", "service.authority": None, "service.graph": None, "service.resource": None})
        world.connector.start(wait=False)
        wait_until(world.connector.status, "the daemon answers")
        with world.config_with({}) as config:
            assert "the daemon does not do pkcs" in world.run(config=config)[2]
        assert world.control("/v1/poll") == (409, "Intune is asked at [revocation] poll-interval only\n")
        world.connector.process.stop()
    finally:
        world.write_config({})
