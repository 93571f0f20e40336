# SPDX-License-Identifier: MIT
"""The stand-in service's connectors with certificates: enrolment, renewal, removal, and who is believed to be whom."""

import base64
import datetime
import subprocess
import sqlite3
import uuid

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from helpers_tenant import Tenant, b64, undo_steps, wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave nothing behind that another would mind."""
    service = Tenant(tmp_path_factory.mktemp("shared"))
    yield service
    service.kill()


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path)
    yield service
    service.kill()


def request_of(key, digest=hashes.SHA256()):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it likes")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, digest).public_bytes(serialization.Encoding.DER)


def enroll_body(key, **members):
    body = {"displayName": "dc1", "machineName": "host1", "version": "1.0.0", "features": ["pkcs", "tea"],
            "certificateRequest": b64(request_of(key)), **members}
    return {"connector": {name: value for name, value in body.items() if value is not None}}


def time_of(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")


class Instance:
    """A connector with a certificate; session() has it, as a new connection."""

    def __init__(self, tenant, key=None, session=None, **members):
        self.tenant, self.key = tenant, key or ec.generate_private_key(ec.SECP256R1())
        answer = tenant.service("Connectors/enroll", enroll_body(self.key, **members), session=session or tenant.http)
        assert answer.status_code == 200, answer.text
        self.answer = answer.json()
        self.id = self.answer["connectorId"]
        self.certificate = x509.load_der_x509_certificate(base64.b64decode(self.answer["certificate"]))

    def session(self, certificate=None, key=None):
        path = self.tenant.folder / f"{uuid.uuid4()}.pem"
        path.write_bytes((certificate or self.certificate).public_bytes(serialization.Encoding.PEM)
                         + (key or self.key).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        session = requests.Session()
        session.verify, session.trust_env, session.cert = str(self.tenant.chain), False, str(path)
        return session

    def renew(self, key=None, session=None):
        renewed = Instance(self.tenant, key or self.key, session or self.session())
        assert renewed.id == self.id
        return renewed

    def heartbeat(self, session=None, connector=None):
        return self.tenant.service("Connectors/heartbeat", {"heartbeat": {"connectorId": connector or self.id, "version": "1.0.0", "features": ["pkcs"]}},
                                   session=session or self.session())


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    return True


def entry(tenant, connector):
    return next(c for c in tenant.admin("GET", "connectors")["value"] if c["connectorId"] == connector)


# ---- enrolment ----

@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()),
                                 rsa.generate_private_key(65537, 2048)], ids=["P-256", "P-384", "RSA"])
def test_enroll(shared, key):
    before = datetime.datetime.utcnow()
    instance = Instance(shared, key)
    certificate = instance.certificate
    ca, = [x509.load_der_x509_certificate(base64.b64decode(text)) for text in instance.answer["chain"]]
    ca.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(certificate.signature_hash_algorithm))
    assert certificate.issuer == ca.subject == ca.issuer
    assert uuid.UUID(instance.id).version == 4
    assert certificate.subject.rfc4514_string() == f"CN={instance.id}"
    assert certificate.public_key().public_numbers() == key.public_key().public_numbers()
    assert abs((certificate.not_valid_after - before).total_seconds() - 365 * 86400) < 10
    assert before - datetime.timedelta(minutes=6) < certificate.not_valid_before <= before
    renewal = time_of(instance.answer["renewAfterDateTime"])
    assert abs((renewal - before).total_seconds() - 365 * 86400 * 2 / 3) < 10
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not any(isinstance(e.value, x509.BasicConstraints) and e.value.ca for e in certificate.extensions)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    seen = entry(shared, instance.id)
    assert (seen["displayName"], seen["machineName"], seen["version"], seen["features"]) == ("dc1", "host1", "1.0.0", ["pkcs"])
    assert time_of(seen["certificateExpirationDateTime"]) == certificate.not_valid_after and seen["enrolledDateTime"]


def spoiled_request():
    der = bytearray(request_of(ec.generate_private_key(ec.SECP256R1())))
    der[-1] ^= 1
    return bytes(der)


@pytest.mark.parametrize("members", [
    {"certificateRequest": None}, {"certificateRequest": "x"}, {"certificateRequest": b64(b"x")}, {"certificateRequest": b64(spoiled_request())},
    {"certificateRequest": b64(request_of(rsa.generate_private_key(65537, 1024)))},
    {"certificateRequest": b64(request_of(ec.generate_private_key(ec.SECP521R1())))},
    {"certificateRequest": b64(request_of(ec.generate_private_key(ec.SECP256R1())) + b"\0")},
    {"version": None}, {"version": "x" * 65}, {"features": None}, {"features": [7]}, {"displayName": "x" * 257}, {"machineName": 7}],
    ids=lambda m: ",".join(f"{k}={str(v)[:8]}" for k, v in m.items()))
def test_enrolment_refused(shared, members):
    before = len(shared.admin("GET", "connectors")["value"])
    body = enroll_body(ec.generate_private_key(ec.SECP256R1()), **members)
    assert refused(shared.service("Connectors/enroll", body), 400, "BadRequest")
    assert refused(shared.service("Connectors/enroll", {}), 400, "BadRequest")
    assert shared.service("Connectors/enroll", body, headers={"Authorization": None}).status_code == 401
    assert len(shared.admin("GET", "connectors")["value"]) == before


def test_the_tenant_has_room_for_a_hundred(tenant):
    first = Instance(tenant)
    for n in range(99):
        assert tenant.heartbeat(f"c{n}").status_code == 200
    key = ec.generate_private_key(ec.SECP256R1())
    assert refused(tenant.service("Connectors/enroll", enroll_body(key)), 409, "ConnectorLimitReached")
    # Who is in may renew all the same.
    assert first.renew().heartbeat().status_code == 200
    tenant.admin("DELETE", "connectors/c7")
    Instance(tenant)


def test_who_has_not_got_its_certificate_asks_for_the_same_place(tenant):
    first = Instance(tenant)
    again = Instance(tenant, first.key, machineName="host1")
    assert again.id == first.id and again.certificate.serial_number != first.certificate.serial_number
    # One that shares the key, and one without its proof, are others.
    assert Instance(tenant, first.key, displayName="dc2").id != first.id
    assert Instance(tenant, first.key, machineName=None).id != first.id
    assert Instance(tenant).id != first.id
    spoiled = enroll_body(first.key)
    der = bytearray(request_of(first.key))
    der[-1] ^= 1
    spoiled["connector"]["certificateRequest"] = b64(bytes(der))
    assert refused(tenant.service("Connectors/enroll", spoiled), 400, "BadRequest")
    assert len(tenant.admin("GET", "connectors")["value"]) == 4
    # Whose certificate has been used has its place, and whose was taken out has none.
    assert again.heartbeat().status_code == 200
    second = Instance(tenant, first.key)
    assert second.id != first.id
    tenant.admin("DELETE", f"connectors/{second.id}")
    assert Instance(tenant, first.key).id not in (first.id, second.id)


# ---- who is whom ----

ACTIONS = [("Connectors/heartbeat", lambda i: {"heartbeat": {"connectorId": i, "version": "1.0.0", "features": ["pkcs"]}}),
           ("Connectors/remove", lambda i: {"connectorId": i}),
           ("PkcsRequests/download", lambda i: {"downloadParameters": {"connectorId": i, "maxRequests": 1, "waitSeconds": 0}}),
           ("PkcsRequests/renewLeases", lambda i: {"connectorId": i, "requestContexts": ["x"]}),
           ("PkcsRequests/release", lambda i: {"connectorId": i, "requestContexts": ["x"]}),
           ("PkcsRequests/upload", lambda i: {"connectorId": i, "results": [{"requestContext": "x", "succeeded": False, "errorCode": "BadRequest",
                                                                             "retryable": False}]})]


@pytest.mark.parametrize("action, body", ACTIONS, ids=[a for a, _ in ACTIONS])
def test_who_is_enrolled_comes_with_its_certificate(shared, action, body):
    instance, other = Instance(shared), Instance(shared)
    stranger = str(uuid.uuid4())
    assert shared.heartbeat(stranger, ["pkcs"]).status_code == 200
    assert refused(shared.service(action, body(instance.id)), 401, "CertificateRequired")
    assert refused(shared.service(action, body(instance.id), session=other.session()), 403, "CertificateRefused")
    # Nor is one that never enrolled what another's certificate says.
    assert refused(shared.service(action, body(stranger), session=other.session()), 403, "CertificateRefused")
    for name, session in ((stranger, shared.http), (instance.id, instance.session())):
        answer = shared.service(action, body(name), session=session)
        assert answer.status_code in (200, 204), answer.text


def self_signed(key, name):
    now = datetime.datetime.utcnow()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))


def test_certificates_of_others(shared):
    instance, stranger = Instance(shared), str(uuid.uuid4())
    forged = instance.session(self_signed(instance.key, instance.id))
    assert refused(instance.heartbeat(forged), 403, "CertificateRefused")
    assert refused(shared.service("Connectors/enroll", enroll_body(instance.key), session=forged), 403, "CertificateRefused")
    # Who has none from here goes by its token.
    assert instance.heartbeat(forged, stranger).status_code == 200
    # The CA's name, and not its signature.
    ca = x509.load_der_x509_certificate(base64.b64decode(instance.answer["chain"][0]))
    now = datetime.datetime.utcnow()
    like_ours = (x509.CertificateBuilder().subject_name(instance.certificate.subject).issuer_name(ca.subject).public_key(instance.key.public_key())
                 .serial_number(instance.certificate.serial_number).not_valid_before(now - datetime.timedelta(days=1))
                 .not_valid_after(now + datetime.timedelta(days=1)).sign(instance.key, hashes.SHA256()))
    answer = instance.heartbeat(instance.session(like_ours))
    assert refused(answer, 403, "CertificateRefused") and "not of this service" in answer.json()["error"]["message"]
    assert instance.heartbeat().status_code == 200


def test_a_certificate_without_its_key(shared):
    instance = Instance(shared)
    with pytest.raises((requests.exceptions.SSLError, OSError)):
        instance.heartbeat(instance.session(key=ec.generate_private_key(ec.SECP256R1())))


@pytest.mark.parametrize("version", ["--tlsv1.3", "--tls-max=1.2"])
def test_both_versions_of_tls(shared, version):
    instance = Instance(shared)
    path = instance.session().cert
    argv = ["curl", "-s", "--cacert", str(shared.chain), "--cert", path, "-H", "Authorization: Bearer " + shared.token(),
            "-H", "api-version: 2026-11-01", "-H", "Content-Type: application/json", *version.split("="),
            "-d", '{"heartbeat":{"connectorId":"%s","version":"1.0.0","features":[]}}' % instance.id, shared.discover() + "/Connectors/heartbeat"]
    assert '"status"' in subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout


# ---- renewal, removal ----

def test_renewal(tenant):
    first = Instance(tenant)
    old = first.session()
    key = rsa.generate_private_key(65537, 2048)
    lost, second = first.renew(), first.renew(key)
    # The old one is good until a new one has been used.
    assert first.heartbeat(old).status_code == 200
    assert second.heartbeat().status_code == 200
    for late in (first, lost):
        assert refused(late.heartbeat(), 403, "CertificateRefused")
        assert refused(tenant.service("Connectors/enroll", enroll_body(key), session=late.session()), 403, "CertificateRefused")
    tenant.stop()
    tenant.start()
    assert refused(first.heartbeat(), 403, "CertificateRefused")
    third = second.renew()
    assert third.heartbeat().status_code == 200
    assert third.answer["chain"] == first.answer["chain"]
    assert refused(tenant.service("Connectors/heartbeat", ACTIONS[0][1](first.id)), 401, "CertificateRequired")
    assert len(tenant.admin("GET", "connectors")["value"]) == 1


def test_a_certificate_that_ends(tenant):
    tenant.admin("PUT", "faults", {"identityLifetimeSeconds": 2})
    instance = Instance(tenant)
    tenant.admin("DELETE", "faults")
    left = time_of(instance.answer["renewAfterDateTime"]) - datetime.datetime.utcnow()
    assert left.total_seconds() < 1.34
    wait_until(lambda: instance.heartbeat().status_code == 403, "the certificate has ended")
    assert refused(instance.heartbeat(), 403, "CertificateRefused")
    assert refused(tenant.service("Connectors/enroll", enroll_body(instance.key), session=instance.session()), 403, "CertificateRefused")
    # It is a new instance from then on.
    assert Instance(tenant, instance.key).id != instance.id


@pytest.mark.parametrize("by", ["connector", "administrator"])
def test_removal(tenant, by):
    instance = Instance(tenant)
    session = instance.session()
    if by == "connector":
        assert tenant.service("Connectors/remove", {"connectorId": instance.id}, session=session).status_code == 204
    else:
        tenant.admin("DELETE", f"connectors/{instance.id}")
        assert tenant.admin_answer("DELETE", f"connectors/{instance.id}").status_code == 404
    for restarted in (False, True):
        if restarted:
            tenant.stop()
            tenant.start()
        assert refused(instance.heartbeat(), 403, "ConnectorRemoved")
        # An administrator's decision is not undone by who enrols anew with what it has.
        assert refused(tenant.service("Connectors/enroll", enroll_body(instance.key), session=instance.session()), 403, "ConnectorRemoved")
    assert entry(tenant, instance.id)["state"] == "removed"
    assert Instance(tenant).id != instance.id


# ---- the key ----

def test_the_ca_is_kept_for_its_owner(tenant):
    state = tenant.folder / "state.db"
    Instance(tenant)
    tenant.stop()
    with sqlite3.connect(state) as db:
        (value,), = db.execute("SELECT value FROM tenant_value WHERE name = 'identity-ca'")
    db.close()
    assert "BEGIN PRIVATE KEY" in value
    for path in tenant.folder.glob("state.db*"):
        assert path.stat().st_mode & 0o077 == 0, path
    with sqlite3.connect(state) as db:
        db.execute("UPDATE tenant_value SET value = 'x' WHERE name = 'identity-ca'")
    db.close()
    with pytest.raises(AssertionError):
        tenant.start()
    assert "identity CA cannot be read" in tenant.log.read_text()


def test_a_database_of_the_third_schema_is_brought_up_to_date(tenant):
    assert tenant.heartbeat("old", ["pkcs"]).status_code == 200
    tenant.stop()
    with sqlite3.connect(tenant.folder / "state.db") as db:
        undo_steps(db, 3)
        db.execute("DELETE FROM tenant_value WHERE name = 'identity-ca'")
    db.close()
    tenant.start()
    assert entry(tenant, "old")["version"] == "1.0.0" and "enrolledDateTime" not in entry(tenant, "old")
    assert tenant.heartbeat("old", ["pkcs"]).status_code == 200
    assert Instance(tenant).heartbeat().status_code == 200
