# SPDX-License-Identifier: MIT
"""The way of an imported PFX through a connector: what comes out for the device, what is refused and how it is said."""

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from rig import KEY_NAME, Pfx, Recipient, Rig, wait_until

SUCCESS, FAILURE, WORK_SUCCESS, WORK_FAILURE = 2000, 2001, 2050, 2052


@pytest.fixture(scope="module")
def setting():
    """Service and connector that all tests here share: (rig, service, connector, public key)."""
    rig = Rig()
    try:
        token, service = rig.token(), rig.service()
        connector = rig.connector(service, token)
        yield rig, service, connector, connector.public_key()
    finally:
        rig.close()


def events_of(connector, request_id):
    """Ids of a request's events, when its admin event has been written."""
    def ids():
        found = [event["id"] for event in connector.events("--request", request_id)]
        return found if SUCCESS in found or FAILURE in found else None
    return wait_until(ids, f"request {request_id} has its admin event")


# The object identifiers of AES-256-CBC and DES-EDE3-CBC as DER has them.
CIPHERS = {"aes256": bytes.fromhex("060960864801650304012a"), "des-ede3": bytes.fromhex("06082a864886f70d0307")}


@pytest.mark.parametrize("scheme", ["oaepSha512", "oaepSha384", "oaepSha256", "oaepSha1", "pkcs1"])
@pytest.mark.parametrize("form", ["cms", "rsaOaepSha256", "rsaOaepSha1", "rsaPkcs1"])
def test_every_form(setting, scheme, form):
    _, service, connector, public_key = setting
    pfx, recipient = Pfx(f"{scheme}.{form}@contoso.example"), Recipient()
    service.upload(pfx, public_key, scheme=scheme)
    request_id = service.enqueue(pfx, recipient, passwordEncryption=form)[0]
    request = service.wait_done(request_id)
    assert request["state"] == "completed"
    result = request["result"]
    assert result["succeeded"] and result["errorCode"] == "None" and result["passwordEncryption"] == form
    assert recipient.read(result) == pfx.password
    # SoftHSM has no OAEP with SHA-2: only the rest can be done inside it.
    if scheme in ("oaepSha1", "pkcs1") and form in ("rsaOaepSha1", "rsaPkcs1"):
        assert result["reencryptedIn"] == "token"
    elif scheme not in ("oaepSha1", "pkcs1"):
        assert result["reencryptedIn"] == "host"
    ids = events_of(connector, request_id)
    assert sorted(ids) == [2000, 2020, 2050, 2102]


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize("cipher", sorted(CIPHERS))
def test_recipients_and_ciphers(setting, bits, cipher):
    _, service, _, public_key = setting
    pfx, recipient = Pfx(f"{bits}.{cipher}@contoso.example"), Recipient(bits)
    service.upload(pfx, public_key)
    result = service.wait_done(service.enqueue(pfx, recipient, contentCipher=cipher)[0])["result"]
    assert recipient.read(result) == pfx.password
    assert CIPHERS[cipher] in base64.b64decode(result["encryptedPfxPassword"])


@pytest.mark.parametrize("password", [b"x", b"a" * 126, "Crème Brûlée 2 £".encode("latin-1")])
def test_passwords(setting, password):
    _, service, _, public_key = setting
    pfx, recipient = Pfx(f"password{len(password)}@contoso.example", password=password.decode("latin-1").encode()), Recipient()
    pfx.password = password
    service.upload(pfx, public_key)
    result = service.wait_done(service.enqueue(pfx, recipient)[0])["result"]
    assert result["succeeded"], result
    assert recipient.read(result) == password


# ---- what cannot be done ----

class ForeignRecipient:
    def __init__(self, der):
        self.der = der


def ec_recipient():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
                   .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256()))
    return ForeignRecipient(certificate.public_bytes(serialization.Encoding.DER))


def expired_recipient():
    return Recipient(days=1, start=datetime.datetime.utcnow() - datetime.timedelta(days=10))


REFUSED = {
    "recipient is no certificate": (dict(recipient=lambda: ForeignRecipient(b"\x30\x03\x02\x01\x05")), "RecipientNotAccepted"),
    "recipient has an EC key": (dict(recipient=ec_recipient), "RecipientNotAccepted"),
    "recipient has a short key": (dict(recipient=lambda: Recipient(1024)), "RecipientNotAccepted"),
    "recipient has expired": (dict(recipient=expired_recipient), "RecipientNotAccepted"),
    "key is not known": (dict(key_name="Contoso HSM/Another"), "KeyNotFound"),
    "encrypted under another key": (dict(public_key=lambda: rsa.generate_private_key(65537, 2048).public_key()), "DecryptFailed"),
    "encrypted under a longer key": (dict(public_key=lambda: rsa.generate_private_key(65537, 3072).public_key()), "ParameterDataInvalidError"),
    "password opens another PFX": (dict(password=b"not the one"), "DecryptFailed"),
    "PFX has another certificate": (dict(thumbprint="00" * 20), "ParameterDataInvalidError"),
    "PFX is none": (dict(blob=b"\x30\x80garbage"), "ParameterDataInvalidError"),
    "passwordEncryption is not known": (dict(overrides={"passwordEncryption": "rot13"}), "NotSupportedError"),
    "contentCipher is not known": (dict(overrides={"contentCipher": "rc2"}), "NotSupportedError"),
    "paddingScheme is not known": (dict(overrides={"paddingScheme": "oaepMd5"}), "NotSupportedError"),
    "password is cut short": (dict(overrides={"encryptedPfxPassword": "AAAA"}), "ParameterDataInvalidError"),
    "password is no base64": (dict(overrides={"encryptedPfxPassword": "=A"}), "DataSerializationError"),
    "PFX is a number": (dict(overrides={"encryptedPfxBlob": 5}), "DataSerializationError"),
    "PFX is missing": (dict(overrides={"encryptedPfxBlob": None}), "BadRequest"),
    "thumbprint is missing": (dict(overrides={"thumbprint": None}), "BadRequest"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_refused_and_the_next_one_goes_on(setting, what):
    _, service, connector, public_key = setting
    case, want_code = REFUSED[what]
    user = what.replace(" ", ".")
    bad, good = Pfx(f"{user}@contoso.example"), Pfx(f"next.{user}@contoso.example")
    for name in ("password", "thumbprint", "blob"):
        setattr(bad, name, case.get(name, getattr(bad, name)))
    service.upload(bad, case.get("public_key", lambda: public_key)(), key_name=case.get("key_name", KEY_NAME))
    service.upload(good, public_key)
    recipient = Recipient()
    more = {"overrides": case["overrides"]} if "overrides" in case else {}
    bad_id = service.enqueue(bad, case.get("recipient", lambda: recipient)(), **more)[0]
    good_id = service.enqueue(good, recipient)[0]

    assert recipient.read(service.wait_done(good_id)["result"]) == good.password
    failed = service.wait_done(bad_id)
    result = failed["result"]
    assert failed["state"] == "failed"
    assert not result["succeeded"] and result["errorCode"] == want_code and not result["retryable"]
    assert "encryptedPfxPassword" not in result
    # What the token says in its own words stays in the house.
    assert "CKR_" not in result["errorMessage"] and "pkcs11:" not in result["errorMessage"]
    assert sorted(events_of(connector, bad_id)) == [FAILURE, 2020, WORK_FAILURE, 2102]
    assert sorted(events_of(connector, good_id)) == [SUCCESS, 2020, WORK_SUCCESS, 2102]


def test_decryption_faults_look_alike(setting):
    """A wrong key and a wrong password give the same answer."""
    _, service, _, public_key = setting
    other = rsa.generate_private_key(65537, 2048).public_key()
    answers = set()
    for name, key, password in (("key", other, None), ("password", public_key, b"not the one")):
        pfx = Pfx(f"alike.{name}@contoso.example")
        pfx.password = password or pfx.password
        service.upload(pfx, key)
        result = service.wait_done(service.enqueue(pfx, Recipient())[0])["result"]
        answers.add((result["errorCode"], result["errorMessage"], result["retryable"]))
    assert len(answers) == 1, answers


def test_text_of_a_peer_forges_nothing(setting):
    _, service, connector, public_key = setting
    user = 'x"\n{"id":2000}\x1b[31m\\u0000@contoso.example'
    pfx = Pfx("forger@contoso.example")
    pfx.user = user
    service.upload(pfx, public_key)
    request_id = service.enqueue(pfx, Recipient())[0]
    service.wait_done(request_id)
    events_of(connector, request_id)
    for name in ("admin.log", "operational.log"):
        raw = (connector.log / name).read_bytes()
        assert b"\x1b" not in raw
        assert all(line.startswith(b'{"time":') for line in raw.splitlines())


def test_status_tells_of_it(setting):
    _, service, connector, public_key = setting
    before = connector.status()["workloads"]["pfx-import"]
    pfx = Pfx("counted@contoso.example")
    service.upload(pfx, public_key)
    ids = service.enqueue(pfx, Recipient(), 3) + service.enqueue(pfx, Recipient(1024))
    for request_id in ids:
        service.wait_done(request_id)
        events_of(connector, request_id)

    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")
    status = connector.status()
    work = status["workloads"]["pfx-import"]
    for name, more in (("succeeded", 3), ("failed", 1), ("totalSucceeded", 3), ("totalFailed", 1)):
        assert work[name] - before[name] == more, name
    assert work["inWork"] == 0 and "oldestRequestDateTime" not in work
    assert status["token"]["label"] == "certconnector" and status["token"]["operations"] > 0
    shown = connector.cli("status").stdout
    assert "pfx-import" in shown and "certconnector" in shown
