# SPDX-License-Identifier: MIT
"""The instance's own certificate at the service, for a key in the token: enrolled, shown, renewed, lost, refused, removed.
The service is the stand-in, which knows each instance by its certificate."""

import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import tempfile
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entra import Entra, sign
from failpoints import NEEDED as needs_failpoints, FailPoints
from rig import BUILD, Pfx, Recipient, Rig, run, wait_until

KEYS = ("ca=none", "ocsp=none", "audit=none", "scep-ra-sign=none", "scep-ra-encrypt=none", "pfx-import=rsa2048")
IDENTITY = {"keys.identity": "pkcs11:object=identity", "service.heartbeat": "500ms", "service.poll-wait": "1s"}


@pytest.fixture(scope="module")
def token():
    rig = Rig()
    yield rig.token(kinds=KEYS)
    rig.close()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def service(rig):
    return rig.service()


def identity(connector):
    status = connector.status()
    return status and status.get("identity")


def is_enrolled(connector):
    return connector.process.running() and (identity(connector) or {}).get("state") == "valid" and identity(connector)


def is_proven(connector):
    """A call with its certificate has worked, and that is written down."""
    return file_of(connector).exists() and "\nproven: yes\n" in file_of(connector).read_text()


def make_connector(rig, service, token, **overrides):
    connector = rig.connector(service, token, overrides={**IDENTITY, **overrides}, start=False)
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector) and is_proven(connector), "it is enrolled")
    connector.wait_ready()
    return connector


def file_of(connector):
    return connector.state / f"identity-{connector.name}.pem"


def certificate_of(connector):
    return x509.load_pem_x509_certificate(file_of(connector).read_bytes())


def instances(service):
    return {c["connectorId"]: c for c in service.admin("GET", "connectors")["value"]}


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key(connector, label="identity"):
    return serialization.load_pem_public_key(connector.cli("key", "export-public", "--key", f"pkcs11:object={label}").stdout.encode())


def event_ids(connector):
    return [event["id"] for event in connector.events("--category", "general")]


def deliver(service, connector, count=5):
    """Work goes through."""
    pfx, device = Pfx("user@contoso.example"), Recipient()
    service.upload(pfx, connector.public_key())
    requests = service.enqueue(pfx, device, count)
    for request in requests:
        assert service.wait_done(request)["state"] == "completed"


def test_enrols_and_is_who_it_is_by_certificate(rig, service, token):
    connector = make_connector(rig, service, token)
    certificate, now = certificate_of(connector), identity(connector)
    assert spki(certificate.public_key()) == spki(public_key(connector))
    name = certificate.subject.rfc4514_string()
    assert name == f"CN={now['connectorId']}" == f"CN={connector.status()['connectorId']}"
    assert now["key"] == "identity" and int(now["serialNumber"], 16) == certificate.serial_number
    assert file_of(connector).stat().st_mode & 0o777 == 0o640
    assert event_ids(connector).count(37) == 1
    # The stand-in lets nobody speak in this name without this certificate.
    seen = wait_until(lambda: instances(service).get(now["connectorId"]), "the service knows it")
    assert seen["enrolledDateTime"]
    deliver(service, connector)
    # It stays who it is.
    connector.process.stop()
    connector.start()
    assert identity(connector)["connectorId"] == now["connectorId"] and event_ids(connector).count(37) == 1
    deliver(service, connector)
    # So it does where its name is changed, until it is started under that.
    pid = connector.token_pid()
    connector.write_config(overrides={**connector.overrides, "connector.name": "another", "connector.workers": "2"})
    connector.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: connector.token_pid() not in (None, 0, pid) and is_enrolled(connector), "its parts are started anew")
    assert identity(connector)["connectorId"] == now["connectorId"] and event_ids(connector).count(37) == 1
    assert connector.status()["name"] == connector.name
    deliver(service, connector)
    assert not {39, 34} & set(event_ids(connector))


@needs_failpoints
def test_id_of_before_is_taken_out(rig, service, token):
    """What it called itself until it had a certificate stands in nobody's list, also where that takes several tries."""
    points = FailPoints(rig)
    connector = rig.connector(service, token, overrides={**IDENTITY, "service.poll-wait": "0s", "service.timeout": "1s", "service.enrol": "no"}, start=False)
    connector.env = points.env
    connector.start()
    points.set("service.connectors-remove.before = error*4")
    before = connector.status()["connectorId"]
    wait_until(lambda: before in instances(service), "the service knows it")
    assert "identity" not in connector.status()
    connector.overrides["service.enrol"] = "auto"
    connector.write_config(overrides=connector.overrides)
    connector.process.child.send_signal(signal.SIGHUP)
    now = wait_until(lambda: is_enrolled(connector), "it is enrolled")["connectorId"]
    wait_until(lambda: instances(service)[before]["state"] == "removed", "the other is taken out")
    assert points.count("service.connectors-remove.before") > 4 and instances(service)[now]["state"] == "active"
    deliver(service, connector)


def set_renewal(connector, year):
    file = file_of(connector)
    file.write_text(re.sub("^renew-after: .*$", f"renew-after: {year}-01-01T00:00:00.000Z", file.read_text(), flags=re.M))


def make_due(connector):
    """The time of its renewal has come."""
    connector.process.stop()
    set_renewal(connector, 2020)


def renewal_under_load(rig, service, connector, renewed):
    """Requests all the while; the connector's when there has been a renewal, and every request was done once."""
    pfx, device = Pfx("user@contoso.example"), Recipient()
    service.upload(pfx, connector.public_key())
    requests = []

    def more():
        requests.extend(service.enqueue(pfx, device, 4))
        return renewed()
    wait_until(more, "the identity is renewed", 40)
    service.wait_none_open()
    done = service.all_requests()
    assert [request for request in requests if done[request]["state"] != "completed"] == []
    wait_until(lambda: connector.journal_open() == 0, "everything is reported")
    events = connector.admin_events()
    assert {request: [e["id"] for e in events[request]] for request in requests} == {request: [2000] for request in requests}


def test_renews_by_itself_under_load(rig, service, token):
    connector = make_connector(rig, service, token)
    first, known = certificate_of(connector), identity(connector)["connectorId"]
    make_due(connector)
    connector.start(wait=False)
    renewal_under_load(rig, service, connector, lambda: 38 in event_ids(connector))
    second = certificate_of(connector)
    assert second.serial_number != first.serial_number and second.subject == first.subject
    assert spki(second.public_key()) == spki(first.public_key())
    assert identity(connector)["connectorId"] == known and not pathlib.Path(f"{file_of(connector)}.next").exists()
    assert event_ids(connector).count(37) == event_ids(connector).count(38) == 1 and 39 not in event_ids(connector)


def test_renews_with_the_next_key(rig, service, token):
    add_key(token, "identity-next", "ecP256")
    connector = make_connector(rig, service, token, **{"keys.identity-next": "pkcs11:object=identity-next"})
    assert identity(connector)["key"] == "identity"
    make_due(connector)
    connector.start(wait=False)
    wait_until(lambda: 38 in event_ids(connector), "it is renewed")
    assert identity(connector)["key"] == "identity-next"
    assert spki(certificate_of(connector).public_key()) == spki(public_key(connector, "identity-next"))
    deliver(service, connector)
    # The next one becomes the one that there is, as an administrator does after that.
    known = identity(connector)["connectorId"]
    connector.overrides.update({"keys.identity": "pkcs11:object=identity-next", "keys.identity-next": None})
    connector.write_config(overrides=connector.overrides)
    connector.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: (is_enrolled(connector) or {}).get("key") == "identity", "the key has its other name")
    assert identity(connector)["connectorId"] == known and event_ids(connector).count(37) == 1
    deliver(service, connector)
    wait_until(lambda: "\nkey: identity\n" in file_of(connector).read_text(), "the file has it, too")
    connector.process.stop()
    assert json.loads(connector.cli("identity", "show", "--json").stdout)["keyUri"] == "pkcs11:object=identity-next"
    connector.cli("identity", "remove")
    assert instances(service)[known]["state"] == "removed"


def add_key(token, label, kind):
    """As the administrator of the token does."""
    if not any(line.split()[:1] == [label] for line in token_cli(token, "list").splitlines()):
        token_cli(token, "generate", "--role", "identity", "--label", label, "--type", kind)
        for path in (token.folder / "tokens").rglob("*"):
            shutil.chown(path, "root", "certconnector")
            path.chmod(0o750 if path.is_dir() else 0o640)


def token_cli(token, verb, *argv):
    return run(BUILD / "bin/certconnector", "key", verb, "--module", token.module, "--uri", f"pkcs11:token={token.label}",
               "--pin", f"file:{token.pin_file}", *argv, env={**os.environ, **token.env}).stdout


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_lost_certificate_is_enrolled_anew(rig, service, token, damage):
    connector = make_connector(rig, service, token)
    first, file = identity(connector)["connectorId"], file_of(connector)
    connector.process.stop()
    if damage == "gone":
        file.unlink()
    else:
        text = file.read_text()
        file.write_text(text[:len(text) // 2])
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector), "it is enrolled anew")
    connector.wait_ready()
    assert identity(connector)["connectorId"] != first and event_ids(connector).count(37) == 2
    assert (39 in event_ids(connector)) == (damage != "gone")
    deliver(service, connector)


def test_refused_certificate_is_enrolled_anew(rig, service, token):
    connector = make_connector(rig, service, token)
    first, file = identity(connector)["connectorId"], file_of(connector)
    connector.process.stop()
    # Of an authority that the service does not know, for the same key and name.
    key = ec.generate_private_key(ec.SECP256R1())
    forged = sign(first, certificate_of(connector).public_key(), certificate_of(connector).issuer, key)
    head = file.read_text().split("-----BEGIN")[0]
    file.write_text(head + forged.public_bytes(serialization.Encoding.PEM).decode())
    connector.start(wait=False)
    wait_until(lambda: event_ids(connector).count(37) == 2 and is_enrolled(connector), "it is enrolled anew")
    connector.wait_ready()
    [told] = [e for e in connector.events("--id", "39")]
    assert "CertificateRefused" in told["message"] and "enrols anew" in told["message"]
    assert identity(connector)["connectorId"] != first
    deliver(service, connector)


def test_who_was_taken_out_stays_out(rig, service, token):
    connector = make_connector(rig, service, token)
    first = identity(connector)["connectorId"]
    service.admin("DELETE", f"connectors/{first}")
    wait_until(lambda: 39 in event_ids(connector), "it is told")
    assert identity(connector)["state"] == "removed" and connector.status()["service"]["contact"] == "removed"
    beats = event_ids(connector).count(37)
    connector.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: connector.status()["service"]["contact"] == "removed", "it asked again")
    assert event_ids(connector).count(37) == beats == 1
    # Whose certificate is refused can still be forgotten.
    connector.process.stop()
    connector.cli("identity", "remove")
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector), "it is enrolled as another")
    assert identity(connector)["connectorId"] != first


def test_show_and_remove(rig, service, token):
    connector = make_connector(rig, service, token)
    certificate, known = certificate_of(connector), identity(connector)["connectorId"]
    shown = json.loads(connector.cli("identity", "show", "--json").stdout)
    assert shown["connectorId"] == known and shown["subject"] == f"CN={known}" and shown["keyUri"] == "pkcs11:object=identity"
    assert int(shown["serialNumber"], 16) == certificate.serial_number
    assert shown["thumbprint"] == certificate.fingerprint(hashes.SHA1()).hex()
    assert shown["expirationDateTime"] == identity(connector)["expirationDateTime"]
    text = connector.cli("identity", "show").stdout
    assert known in text and shown["renewAfterDateTime"] in text
    assert f"until {shown['expirationDateTime']}" in connector.cli("status").stdout

    refused = connector.cli("identity", "remove", check=False)
    assert refused.returncode == 2 and "stop it first" in refused.stderr
    connector.process.stop()
    assert json.loads(connector.cli("identity", "remove", "--json").stdout) == {"connectorId": known, "removedAtService": True}
    assert instances(service)[known]["state"] == "removed"
    assert not file_of(connector).exists()
    gone = connector.cli("identity", "show", check=False)
    assert gone.returncode == 1 and "has no identity" in gone.stderr
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector), "it is enrolled as another")
    assert identity(connector)["connectorId"] != known
    deliver(service, connector)


def test_forgotten_here_alone(rig, service, token):
    connector = make_connector(rig, service, token)
    known = identity(connector)["connectorId"]
    connector.process.stop()
    service.process.stop()
    away = connector.cli("identity", "remove", check=False)
    assert away.returncode == 1 and "--local" in away.stderr and file_of(connector).exists()
    # Nor is it known that the daemon is stopped where that cannot be asked.
    (connector.run / "control.sock").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(connector.run / "control.sock"))
        unsure = connector.cli("identity", "remove", "--local", check=False)
    (connector.run / "control.sock").unlink()
    assert unsure.returncode == 1 and "whether the daemon is stopped" in unsure.stderr and file_of(connector).exists()
    assert "forgotten here" in connector.cli("identity", "remove", "--local").stdout
    assert not file_of(connector).exists()
    service.start()
    assert instances(service)[known]["state"] != "removed"


@needs_failpoints
@pytest.mark.parametrize("due", [True, False])
def test_killed_in_the_midst_of_a_renewal(rig, service, token, due):
    """The service has seen the new certificate, and takes the one before no more: it is found by the time, or as that is refused."""
    points = FailPoints(rig)
    connector = make_connector(rig, service, token)
    known = certificate_of(connector)
    make_due(connector)
    connector.env = points.env
    points.set("identity.adopt.before = crash")
    connector.start(wait=False)
    wait_until(lambda: not connector.process.running(), "it died")
    assert pathlib.Path(f"{file_of(connector)}.next").exists() and certificate_of(connector) == known
    points.set()
    set_renewal(connector, 2020 if due else 2099)
    connector.start(wait=False)
    wait_until(lambda: 38 in event_ids(connector), "the renewal is finished")
    connector.wait_ready()
    assert certificate_of(connector).subject == known.subject and event_ids(connector).count(37) == 1
    deliver(service, connector)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("label", ["identity", "identity-ec"])
def test_handshake_with_a_key_in_the_token(rig, token, label, version):
    """A server that demands a certificate; the token process dies while it asks for signatures."""
    if label != "identity":
        add_key(token, label, "ecP256")
    entra = Enroller(rig)
    entra.context.minimum_version = entra.context.maximum_version = ssl.TLSVersion[version]
    connector = rig.connector(entra, token, overrides={**IDENTITY, "keys.identity": f"pkcs11:object={label}"}, start=False)
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector), "it is enrolled")
    wait_until(lambda: len(entra.shown) >= 3, "it shows its certificate")
    assert set(entra.shown) == {certificate_of(connector).public_bytes(serialization.Encoding.DER)}
    killed = 0
    for _ in range(2):
        # 0 while there is none; a signal to that would be one to ourselves.
        killed = wait_until(lambda: (connector.token_pid() or killed) != killed and connector.token_pid(), "there is a process")
        os.kill(killed, signal.SIGKILL)
        count = len(entra.shown)
        wait_until(lambda: len(entra.shown) >= count + 2, "it goes on to show it")
    assert connector.status()["service"]["contact"] == "ok"
    assert entra.unshown == [] and not {30, 32, 39} & set(event_ids(connector))


def test_certificate_that_never_reaches_the_service_is_the_only_one(rig, token):
    """Each enrolment takes a place: the one that never worked is kept, also by the next start, until it works."""
    entra = Enroller(rig)
    entra.blind = True
    connector = rig.connector(entra, token, overrides=IDENTITY, start=False)
    connector.start(wait=False)
    for told in (1, 2):
        wait_until(lambda: connector.process.running() and connector.status() and event_ids(connector).count(39) == told, "it is told", 40)
        [*_, last] = connector.events("--id", "39")
        assert "CertificateRequired" in last["message"] and "no other is asked for" in last["message"]
        assert not is_proven(connector)
        if told == 1:
            connector.process.stop()
            connector.start(wait=False)
    entra.blind = False
    wait_until(lambda: is_proven(connector) and is_enrolled(connector) and connector.status()["service"]["contact"] == "ok", "it works", 40)
    wait_until(lambda: "lastError" not in identity(connector), "nothing is wrong any more")
    assert entra.enrolled == [identity(connector)["connectorId"]] and event_ids(connector).count(39) == 2


@needs_failpoints
def test_granted_certificate_is_kept_until_it_is_in_use(rig, token):
    """As where the state directory cannot be written."""
    points, entra = FailPoints(rig), Enroller(rig)
    connector = rig.connector(entra, token, overrides=IDENTITY, start=False)
    connector.env = points.env
    points.set("identity.adopt.before = error*2")
    connector.start(wait=False)
    wait_until(lambda: is_enrolled(connector) and is_proven(connector), "it is enrolled")
    assert points.count("identity.adopt.before") == 3
    assert entra.enrolled == [identity(connector)["connectorId"]]
    # What went wrong while it was refused is over when it is taken again.
    entra.full = entra.blind = True
    wait_until(lambda: "ConnectorLimitReached" in identity(connector).get("lastError", ""), "another is asked for")
    entra.blind = False
    wait_until(lambda: "lastError" not in identity(connector), "nothing is wrong any more")
    assert is_enrolled(connector) and entra.enrolled == [identity(connector)["connectorId"]]


class Enroller(Entra):
    """Gives certificates, and closes each connection so that the next call has to show its own again."""

    def __init__(self, rig):
        super().__init__(rig)
        self.shown, self.unshown, self.enrolled = [], [], []
        self.full = False  # has no place for another
        self.blind = False  # sees no certificate, as behind something that opens TLS
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.ca.public_bytes(serialization.Encoding.PEM))
            file.flush()
            self.context.load_verify_locations(file.name)
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def serve(self, request, what, body):
        request.close_connection = True
        peer = None if self.blind else request.connection.getpeercert(True)
        if what == "Connectors/enroll":
            csr = x509.load_der_x509_csr(base64.b64decode(body["connector"]["certificateRequest"]))
            assert csr.is_signature_valid and body["connector"]["features"] == ["pfx-import"]
            if self.full:
                return 409, {"error": {"code": "ConnectorLimitReached", "message": "the tenant is full"}}
            name = str(uuid.uuid4())
            certificate = sign(name, csr.public_key(), self.ca.subject, self.ca_key)
            self.enrolled.append(name)
            return 200, {"connectorId": name, "chain": [], "renewAfterDateTime": "2099-01-01T00:00:00Z",
                         "certificate": base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()}
        if peer is None and self.name_of(body) in self.enrolled:
            return 401, {"error": {"code": "CertificateRequired", "message": "this connector has a certificate"}}
        if peer is not None:
            self.shown.append(peer)
            assert self.name_of(body) in x509.load_der_x509_certificate(peer).subject.rfc4514_string()
        elif self.shown and what == "Connectors/heartbeat":
            self.unshown.append(what)
        return 200, {"value": []}

    @staticmethod
    def name_of(body):
        inner = body.get("heartbeat") or body.get("downloadParameters") or body
        return inner["connectorId"]
