# SPDX-License-Identifier: MIT
"""The stand-in service's API of SCEP requests: challenges, validation, notifications, faults."""

import base64
import datetime
import hashlib
import ipaddress
import json
import re
import sqlite3
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from helpers_tenant import API_VERSION, APP_ID, GRAPH_SCOPE, REVOCATION_API_VERSION, Tenant, b64, undo_steps

VALIDATE, SUCCESS, FAILURE = "validateRequest", "successNotification", "failureNotification"
ACTIONS = [VALIDATE, SUCCESS, FAILURE]
CODES = """Unknown Success CertificateRequestDecodingFailed ChallengePasswordMissing ChallengeDeserializationError
    ChallengeDecryptionError ChallengeDecodingError ChallengeInvalidTimestamp ChallengeExpired SubjectNameMissing
    SubjectNameMismatch SubjectAltNameMissing SubjectAltNameMismatch KeyUsageMismatch KeyLengthMismatch EnhancedKeyUsageMissing
    EnhancedKeyUsageMismatch AadKeyIdentifierListMissing RegisteredKeyMismatch SigningCertThumbprintMismatch
    ScepProfileNoLongerTargetedToTheClient SignatureValidationFailed BadCertificateRequestIdInChallenge BadDeviceIdInChallenge
    BadUserIdInChallenge""".split()
PROVIDER = "ScepRequestValidationFEService"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = ec.generate_private_key(ec.SECP256R1())
UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E
CLIENT_AUTH, SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path)
    yield service
    service.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave nothing behind that another would mind."""
    service = Tenant(tmp_path_factory.mktemp("shared"))
    yield service
    service.kill()


# ---- certificate requests ----

def der(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def read_der(data):
    """The elements that data is made of, each in whole."""
    parts = []
    while data:
        size, head = data[1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[2:head], "big")
        parts.append(data[:head + size])
        data = data[head + size:]
    return parts


def content_of(element):
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0):]


def challenge_value(text, tag=UTF8):
    encoding = {UNIVERSAL: "utf-32-be", BMP: "utf-16-be", T61: "latin-1"}.get(tag, "utf-8")
    return der(tag, text.encode(encoding))


def attribute(*values, oid=bytes.fromhex("2a864886f70d010907")):
    """An attribute, of challengePassword (1.2.840.113549.1.9.7)."""
    return der(0x30, der(0x06, oid), der(0x31, *values))


def usage(*names):
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in names for name in every})


def upn(text):
    return x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), der(UTF8, text.encode()))


def make_csr(challenge=None, subject="CN=device1,O=Contoso", sans=(), usages=None, extended=None, key=RSA, tag=UTF8, more=(), attributes=None,
             name=None):
    """DER of a request; attributes: instead of the challenge's."""
    if name is None:
        name = x509.Name.from_rfc4514_string(subject) if subject else x509.Name([])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), False)
    if usages:
        builder = builder.add_extension(usage(*usages), True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), False)
    for extension in more:
        builder = builder.add_extension(extension, False)
    if attributes is None:
        attributes = [attribute(challenge_value(challenge, tag))] if challenge is not None else []
    parts = read_der(content_of(builder.sign(key, hashes.SHA256()).tbs_certrequest_bytes))
    parts[3] = der(0xA0, content_of(parts[3]), *attributes)
    return sign(der(0x30, *parts), key)


def sign(info, key):
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = der(0x30, der(0x06, bytes.fromhex("2a864886f70d01010b")), der(0x05))
        signature = key.sign(info, padding.PKCS1v15(), hashes.SHA256())
    else:
        algorithm = der(0x30, der(0x06, bytes.fromhex("2a8648ce3d040302")))
        signature = key.sign(info, ec.ECDSA(hashes.SHA256()))
    return der(0x30, info, algorithm, der(0x03, b"\0", signature))


# ---- calls ----

def request_body(csr, transaction="tx", **members):
    text = csr if isinstance(csr, str) else b64(csr)
    body = {"transactionId": transaction, "certificateRequest": text, "callerInfo": "ExampleCA 1.0", **members}
    return {"request": {name: value for name, value in body.items() if value is not ...}}


def notification_body(csr, transaction="tx", failed=False, **members):
    """None is null; ... leaves a member out."""
    body = request_body(csr, transaction)["request"]
    if failed:
        body.update(hResult=-2147418113, errorDescription="description")
    else:
        body.update(certificateThumbprint="AABB", certificateSerialNumber="01", certificateExpirationDateUtc="2027-06-11T16:11:20.090Z",
                    issuingCertificateAuthority="CN=CA", caConfiguration="caConfig", certificateAuthority=None)
    body.update(members)
    return {"notification": {name: value for name, value in body.items() if value is not ...}}


def call(tenant, action, body, **options):
    """An answer of the API itself: code and description."""
    answer = tenant.scep(action, body, **options)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert sorted(body) == ["@odata.context", "code", "errorDescription"]
    assert body["@odata.context"].endswith("#microsoft.management.services.scepRequestValidationService.api.scepActionResult")
    assert (body["code"] == "Success") == (body["errorDescription"] == "")
    return body["code"]


def validate(tenant, csr, transaction=None, **options):
    return call(tenant, VALIDATE, request_body(csr, transaction or str(uuid.uuid4())), **options)


def order(tenant, **members):
    [challenge] = tenant.challenges(**{"subjectName": "CN=device1,O=Contoso", **members})
    return challenge["challenge"]


def validated(tenant, transaction="tx", **members):
    """A request that was found good."""
    csr = make_csr(order(tenant, **members))
    assert validate(tenant, csr, transaction) == "Success"
    return csr


def success(tenant, csr, transaction="tx", **members):
    return call(tenant, SUCCESS, notification_body(csr, transaction, **members))


def failure(tenant, csr, transaction="tx", **members):
    return call(tenant, FAILURE, notification_body(csr, transaction, True, **members))


def transaction_of(tenant, transaction="tx"):
    [one] = tenant.scep_transactions(transaction)
    return one


def counts(tenant):
    return {name: n for name, n in tenant.counts()["scep"].items() if n != 0}


def body_of(challenge):
    return base64.b64decode(challenge)


# ---- a challenge ----

def test_challenge(tenant):
    challenges = tenant.challenges(subjectName="CN=device-%d", count=3, userPrincipalName="user@contoso.example", deviceId="d1")
    assert len({c["id"] for c in challenges}) == len({c["challenge"] for c in challenges}) == 3
    for n, challenge in enumerate(challenges, 1):
        # Longer than PKCS #9 has it, as the real ones are.
        assert 255 < len(challenge["challenge"]) < 1000 and body_of(challenge["challenge"])
        kept = tenant.admin("GET", f"scepChallenges/{challenge['id']}")
        assert kept["order"] == {"subjectName": f"CN=device-{n}", "userPrincipalName": "user@contoso.example", "deviceId": "d1"}
        assert kept["targeted"] is True and "transactionId" not in kept and "certificateRequestHash" not in kept
        assert validate(tenant, make_csr(challenge["challenge"], f"CN=device-{n}")) == "Success"
        assert validate(tenant, make_csr(challenge["challenge"], f"CN=device-{n + 1}")) == "SubjectNameMismatch"
    assert "challenge" not in kept
    assert tenant.admin_answer("GET", "scepChallenges/other").status_code == 404
    assert tenant.admin_answer("DELETE", "scepChallenges/other").status_code == 404


@pytest.mark.parametrize("members", [
    {"subjectName": "device1"}, {"subjectName": 7}, {"subjectAlternativeNames": [{"type": "dns"}]}, {"subjectAlternativeNames": ["x"]},
    {"subjectAlternativeNames": [{"type": "other", "value": "x"}]}, {"subjectAlternativeNames": [{"type": "dns", "value": "a b"}]},
    {"keyUsages": ["signing"]}, {"keyUsages": [1]}, {"keyUsages": "digitalSignature"}, {"extendedKeyUsages": ["clientauthentication"]},
    {"keyLength": -1}, {"keyLength": "2048"}, {"validitySeconds": 0}, {"count": 0}, {"count": 20001}, {"ageSeconds": "1"},
    {"tenantId": "x" * 65}, {"userPrincipalName": 1}, {"deviceId": []},
], ids=str)
def test_orders_refused(shared, members):
    assert shared.admin_answer("POST", "scepChallenges", members).status_code == 400
    answer = shared.admin_answer("POST", "scepChallenges", [{}, members])
    assert answer.status_code == 400 and "element 1" in answer.json()["error"]["message"]


def test_orders_want_the_admin(shared):
    for method, path in (("POST", "scepChallenges"), ("GET", "scepChallenges/x"), ("DELETE", "scepChallenges/x"), ("GET", "scepTransactions")):
        assert shared.admin_answer(method, path, headers={}).status_code == 401
        assert shared.admin_answer(method, path, headers={"Authorization": "Bearer " + shared.token()}).status_code == 401


# ---- validation: what is good ----

@pytest.mark.parametrize("tag", [UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP])
def test_challenge_of_any_string_type(shared, tag):
    assert validate(shared, make_csr(order(shared), tag=tag)) == "Success"


ALL_SANS = [{"type": "upn", "value": "user@contoso.example"}, {"type": "email", "value": "user@contoso.example"},
            {"type": "dns", "value": "device1.contoso.example"}, {"type": "uri", "value": "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1"},
            {"type": "ip", "value": "192.0.2.7"}, {"type": "guid", "value": "00112233-4455-6677-8899-aabbccddeeff"}]


def all_sans():
    return [upn("user@contoso.example"), x509.RFC822Name("user@contoso.example"), x509.DNSName("device1.contoso.example"),
            x509.UniformResourceIdentifier("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1"), x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.25.1"), der(0x04, uuid.UUID("00112233-4455-6677-8899-aabbccddeeff").bytes_le))]


EVERYTHING = {"subjectAlternativeNames": ALL_SANS, "keyUsages": ["digitalSignature", "keyEncipherment"],
              "extendedKeyUsages": ["clientAuth", "1.3.6.1.5.5.7.3.1"], "keyLength": 2048}
USAGES, EXTENDED = ("key_encipherment", "digital_signature"), (SERVER_AUTH, CLIENT_AUTH)


def test_everything_ordered(shared):
    csr = make_csr(order(shared, **EVERYTHING), sans=reversed(all_sans()), usages=USAGES, extended=EXTENDED)
    assert validate(shared, csr) == "Success"


@pytest.mark.parametrize("subject", ["CN=DEVICE1,O=contoso", "CN=device1,O=Contoso"])
def test_subject_without_case(shared, subject):
    assert validate(shared, make_csr(order(shared), subject)) == "Success"


def test_subject_of_another_string_type(shared):
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso", x509.name._ASN1Type.PrintableString),
                      x509.NameAttribute(NameOID.COMMON_NAME, "device1", x509.name._ASN1Type.BMPString)])
    assert validate(shared, make_csr(order(shared), name=name)) == "Success"


def test_what_was_not_ordered(shared):
    # Usages and the key are the CA's to rule then; names are what an order is about.
    csr = make_csr(order(shared), usages=USAGES, extended=EXTENDED, key=OTHER)
    assert validate(shared, csr) == "Success"
    assert validate(shared, make_csr(order(shared), sans=[x509.DNSName("x")])) == "SubjectAltNameMismatch"
    assert validate(shared, make_csr(order(shared, subjectName=None))) == "SubjectNameMismatch"
    assert validate(shared, make_csr(order(shared, subjectName=None), "")) == "Success"


def test_other_extensions_are_not_the_services(shared):
    more = [x509.BasicConstraints(False, None), x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2"), der(BMP, b"\0T")),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")]
    assert validate(shared, make_csr(order(shared), more=more)) == "Success"


# ---- validation: every code that has a cause ----

def flip(challenge, place):
    data = bytearray(body_of(challenge))
    data[place] ^= 1
    return b64(bytes(data))


def csr_of(spoil, **members):
    """A cause: the request that comes of a challenge of this order."""
    return lambda tenant: spoil(order(tenant, **members))


def everything(**other):
    """A request that is as EVERYTHING says but for other."""
    return csr_of(lambda c: make_csr(c, **{"sans": all_sans(), "usages": USAGES, "extended": EXTENDED, **other}), **EVERYTHING)


def untargeted(tenant):
    [challenge] = tenant.challenges(subjectName="CN=device1,O=Contoso")
    tenant.admin("DELETE", f"scepChallenges/{challenge['id']}")
    assert tenant.admin("GET", f"scepChallenges/{challenge['id']}")["targeted"] is False
    return make_csr(challenge["challenge"])


def used(tenant):
    challenge = order(tenant)
    assert validate(tenant, make_csr(challenge)) == "Success"
    return make_csr(challenge, key=OTHER)


def spoiled_signature(challenge):
    csr = bytearray(make_csr(challenge))
    csr[-1] ^= 1
    return bytes(csr)


def unreadable_extensions(challenge):
    ext_request = attribute(der(0x04, b"x"), oid=bytes.fromhex("2a864886f70d01090e"))
    return make_csr(attributes=[attribute(challenge_value(challenge)), ext_request])


def unreadable_san(challenge):
    san = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x05x")
    return make_csr(challenge, more=[san])


def armour(challenge):
    return x509.load_der_x509_csr(make_csr(challenge)).public_bytes(serialization.Encoding.PEM)


CAUSES = [
    ("CertificateRequestDecodingFailed", "not base64", lambda t: "*"),
    ("CertificateRequestDecodingFailed", "line breaks", csr_of(lambda c: base64.encodebytes(make_csr(c)).decode())),
    ("CertificateRequestDecodingFailed", "not a request", lambda t: b"a request"),
    ("CertificateRequestDecodingFailed", "cut short", csr_of(lambda c: make_csr(c)[:-1])),
    ("CertificateRequestDecodingFailed", "something behind", csr_of(lambda c: make_csr(c) + b"\0")),
    ("CertificateRequestDecodingFailed", "twice", csr_of(lambda c: make_csr(c) * 2)),
    ("CertificateRequestDecodingFailed", "PEM", csr_of(armour)),
    ("CertificateRequestDecodingFailed", "signature", csr_of(spoiled_signature)),
    ("CertificateRequestDecodingFailed", "two challenges", csr_of(lambda c: make_csr(attributes=[attribute(challenge_value(c))] * 2))),
    ("CertificateRequestDecodingFailed", "two values",
     csr_of(lambda c: make_csr(attributes=[attribute(challenge_value("x"), challenge_value(c))]))),
    ("CertificateRequestDecodingFailed", "no text", csr_of(lambda c: make_csr(attributes=[attribute(der(0x04, c.encode()))]))),
    ("CertificateRequestDecodingFailed", "BMPString of odd length", csr_of(lambda c: make_csr(attributes=[attribute(der(BMP, b"abc"))]))),
    ("CertificateRequestDecodingFailed", "extensions", csr_of(unreadable_extensions)),
    ("CertificateRequestDecodingFailed", "SAN", csr_of(unreadable_san)),
    ("ChallengePasswordMissing", "no attribute", lambda t: make_csr()),
    ("ChallengePasswordMissing", "empty", lambda t: make_csr("")),
    ("ChallengeDecodingError", "not base64", lambda t: make_csr("secret!")),
    ("ChallengeDecodingError", "cut short", csr_of(lambda c: make_csr(c[:-1]))),
    ("ChallengeDecodingError", "too long", lambda t: make_csr("A" * 5000)),
    ("ChallengeDecodingError", "NUL", csr_of(lambda c: make_csr(c + "\0"))),
    ("ChallengeDeserializationError", "other base64", lambda t: make_csr(b64(b"a challenge"))),
    ("ChallengeDeserializationError", "other version", csr_of(lambda c: make_csr(flip(c, 0)))),
    ("ChallengeDeserializationError", "head only", csr_of(lambda c: make_csr(b64(body_of(c)[:41])))),
    ("ChallengeDecryptionError", "another key", csr_of(lambda c: make_csr(flip(c, 1)))),
    ("SignatureValidationFailed", "signature", csr_of(lambda c: make_csr(flip(c, 9)))),
    ("SignatureValidationFailed", "contents", csr_of(lambda c: make_csr(flip(c, -3)))),
    ("SignatureValidationFailed", "doubled", csr_of(lambda c: make_csr(b64(body_of(c) * 2)))),
    ("SignatureValidationFailed", "shortened", csr_of(lambda c: make_csr(b64(body_of(c)[:-3])))),
    ("ChallengeInvalidTimestamp", "of tomorrow", csr_of(make_csr, ageSeconds=-86400)),
    ("ChallengeExpired", "old", csr_of(make_csr, validitySeconds=3600, ageSeconds=3601)),
    ("BadTenantIdInChallenge", "another tenant's", csr_of(make_csr, tenantId=str(uuid.uuid4()))),
    ("SubjectNameMissing", "none", csr_of(lambda c: make_csr(c, ""))),
    ("SubjectNameMismatch", "another", csr_of(lambda c: make_csr(c, "CN=device2,O=Contoso"))),
    ("SubjectNameMismatch", "more", csr_of(lambda c: make_csr(c, "CN=device1,OU=x,O=Contoso"))),
    ("SubjectNameMismatch", "less", csr_of(lambda c: make_csr(c, "CN=device1"))),
    ("SubjectNameMismatch", "other order", csr_of(lambda c: make_csr(c, "O=Contoso,CN=device1"))),
    ("SubjectNameMismatch", "other type", csr_of(lambda c: make_csr(c, "CN=device1,OU=Contoso"))),
    ("SubjectAltNameMissing", "none", everything(sans=())),
    ("SubjectAltNameMismatch", "one less", everything(sans=all_sans()[1:])),
    ("SubjectAltNameMismatch", "one more", everything(sans=[*all_sans(), x509.DNSName("device2.contoso.example")])),
    ("SubjectAltNameMismatch", "another", everything(sans=[*all_sans()[1:], upn("admin@contoso.example")])),
    ("SubjectAltNameMismatch", "another kind", everything(sans=[*all_sans()[1:], x509.RFC822Name("user@contoso.example")])),
    ("KeyUsageMismatch", "none", everything(usages=None)),
    ("KeyUsageMismatch", "less", everything(usages=USAGES[1:])),
    ("KeyUsageMismatch", "more", everything(usages=(*USAGES, "key_cert_sign"))),
    ("KeyLengthMismatch", "EC", everything(key=OTHER)),
    ("KeyLengthMismatch", "short", csr_of(make_csr, keyLength=2049)),
    ("EnhancedKeyUsageMissing", "none", everything(extended=None)),
    ("EnhancedKeyUsageMismatch", "less", everything(extended=EXTENDED[1:])),
    ("EnhancedKeyUsageMismatch", "more", everything(extended=(*EXTENDED, ExtendedKeyUsageOID.CODE_SIGNING))),
    ("ScepProfileNoLongerTargetedToTheClient", "untargeted", untargeted),
    ("BadCertificateRequestIdInChallenge", "used", used),
]


@pytest.mark.parametrize("code, what, cause", CAUSES, ids=[f"{code}-{what}" for code, what, _ in CAUSES])
def test_codes(shared, code, what, cause):
    csr = cause(shared)
    transaction = str(uuid.uuid4())
    before = shared.counts()["scep"]
    assert validate(shared, csr, transaction) == code
    kept = transaction_of(shared, transaction)
    assert kept["lastCode"] == code and kept["validations"] == 1 and "challengeId" not in kept and "notification" not in kept
    # What was refused can be reported neither way.
    for action, failed in ((SUCCESS, False), (FAILURE, True)):
        assert call(shared, action, notification_body(csr, transaction, failed)) == (
            "CertificateRequestDecodingFailed" if isinstance(csr, str) else "BadCertificateRequestIdInChallenge")
    after = shared.counts()["scep"]
    assert after["refused"] == before["refused"] + 1 and after["validated"] == before["validated"]
    assert after["succeeded"] == before["succeeded"] and after["failed"] == before["failed"]


def test_binding(tenant):
    [challenge] = tenant.challenges(subjectName="CN=device1,O=Contoso")
    csr, other = make_csr(challenge["challenge"]), make_csr(challenge["challenge"], key=OTHER)
    # A refusal binds nothing.
    assert validate(tenant, make_csr(challenge["challenge"], "CN=x"), "tx0") == "SubjectNameMismatch"
    assert validate(tenant, csr, "tx1") == "Success"
    kept = tenant.admin("GET", f"scepChallenges/{challenge['id']}")
    assert kept["transactionId"] == "tx1" and kept["certificateRequestHash"] == hashlib.sha256(csr).hexdigest().upper()
    for _ in range(2):
        assert validate(tenant, csr, "tx1") == "Success"
        assert validate(tenant, csr, "tx2") == "BadCertificateRequestIdInChallenge"
        assert validate(tenant, other, "tx1") == "BadCertificateRequestIdInChallenge"
    by_pair = {(t["transactionId"], t["certificateRequestHash"]): (t["validations"], t["lastCode"]) for t in tenant.scep_transactions()}
    mine, others = (hashlib.sha256(c).hexdigest().upper() for c in (csr, other))
    refused = (2, "BadCertificateRequestIdInChallenge")
    assert by_pair.pop(("tx1", mine)) == (3, "Success") and by_pair.pop(("tx2", mine)) == refused and by_pair.pop(("tx1", others)) == refused
    assert [name for name, _ in by_pair] == ["tx0"]
    assert counts(tenant) == {"validated": 3, "refused": 5}


def test_one_of_many_gets_the_challenge(tenant):
    challenge = order(tenant)
    requests_ = [make_csr(challenge, key=ec.generate_private_key(ec.SECP256R1())) for _ in range(8)]
    uri, _ = tenant.discover(PROVIDER), tenant.token()
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda csr: validate(tenant, csr, uri=uri), requests_))
    assert sorted(codes) == ["BadCertificateRequestIdInChallenge"] * 7 + ["Success"]


def test_refusal_after_success(tenant):
    """A later refusal is told, and takes nothing back."""
    [challenge] = tenant.challenges(subjectName="CN=device1,O=Contoso")
    csr = make_csr(challenge["challenge"])
    assert validate(tenant, csr, "tx") == "Success"
    tenant.admin("DELETE", f"scepChallenges/{challenge['id']}")
    assert validate(tenant, csr, "tx") == "ScepProfileNoLongerTargetedToTheClient"
    assert transaction_of(tenant)["lastCode"] == "ScepProfileNoLongerTargetedToTheClient"
    assert success(tenant, csr) == "Success"


def test_challenges_of_another_service(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = Tenant(tmp_path / "a"), Tenant(tmp_path / "b")
    try:
        assert validate(two, make_csr(order(one))) == "ChallengeDecryptionError"
        assert validate(one, make_csr(order(one))) == "Success"
    finally:
        one.kill()
        two.kill()


# ---- members ----

@pytest.mark.parametrize("member", ["transactionId", "certificateRequest", "callerInfo"])
@pytest.mark.parametrize("value", [..., None, "", 7], ids=["absent", "null", "empty", "number"])
def test_members_of_a_request(shared, member, value):
    csr = make_csr(order(shared))
    answer = shared.scep(VALIDATE, request_body(csr, **{member: value}))
    assert answer.status_code == 400 and member in answer.json()["error"]["message"]
    assert validate(shared, csr) == "Success"


@pytest.mark.parametrize("member, want", [
    ("transactionId", 400), ("certificateRequest", 400), ("callerInfo", 400), ("certificateThumbprint", 400), ("certificateSerialNumber", 400),
    ("certificateExpirationDateUtc", 400), ("issuingCertificateAuthority", 400), ("caConfiguration", 200), ("certificateAuthority", 200),
])
@pytest.mark.parametrize("value", [..., None], ids=["absent", "null"])
def test_members_of_a_success(shared, member, want, value):
    transaction = str(uuid.uuid4())
    csr = validated(shared, transaction)
    answer = shared.scep(SUCCESS, notification_body(csr, transaction, **{member: value}))
    assert answer.status_code == want, answer.text
    if want == 400:
        assert member in answer.json()["error"]["message"]
        assert success(shared, csr, transaction) == "Success"
    # Absent and null are the same.
    assert success(shared, csr, transaction, **({member: None} if want == 200 else {})) == "Success"
    assert transaction_of(shared, transaction)["notification"]["count"] == 2


@pytest.mark.parametrize("member, value, want", [
    ("certificateExpirationDateUtc", "2027-06-11T16:11:20.0000000Z", 200), ("certificateExpirationDateUtc", "2027-06-11T16:11:20+0000", 200),
    ("certificateExpirationDateUtc", "2027-06-11T16:11:20+00:00", 200), ("certificateExpirationDateUtc", "tomorrow", 400),
    ("certificateExpirationDateUtc", "2027-06-11", 400), ("certificateExpirationDateUtc", "+0000", 400), ("certificateExpirationDateUtc", 7, 400),
    ("issuingCertificateAuthority", "\u00fc" * 256, 200), ("issuingCertificateAuthority", "\u00fc" * 257, 400),
    ("issuingCertificateAuthority", "", 400), ("certificateThumbprint", "", 400), ("certificateSerialNumber", "", 400),
    ("certificateSerialNumber", 1, 400), ("caConfiguration", "", 200), ("caConfiguration", 7, 400), ("aMemberOfTomorrow", 1, 200),
], ids=str)
def test_values_of_a_success(shared, member, value, want):
    transaction = str(uuid.uuid4())
    csr = validated(shared, transaction)
    assert shared.scep(SUCCESS, notification_body(csr, transaction, **{member: value})).status_code == want
    assert ("notification" in transaction_of(shared, transaction)) == (want == 200)


@pytest.mark.parametrize("member, value, want", [
    ("hResult", 0, 200), ("hResult", 2**31 - 1, 200), ("hResult", -2**31, 200), ("hResult", 2**32 - 1, 200), ("hResult", 2**32, 400),
    ("hResult", -2**31 - 1, 400), ("hResult", "0", 400), ("hResult", 1.0, 400), ("hResult", None, 400), ("hResult", ..., 400),
    ("errorDescription", "\u00fc" * 255, 200), ("errorDescription", "\u00fc" * 256, 400), ("errorDescription", "", 400),
    ("errorDescription", None, 400), ("errorDescription", ..., 400), ("transactionId", ..., 400), ("certificateRequest", ..., 400),
    ("callerInfo", ..., 400),
], ids=str)
def test_values_of_a_failure(shared, member, value, want):
    transaction = str(uuid.uuid4())
    csr = validated(shared, transaction)
    answer = shared.scep(FAILURE, notification_body(csr, transaction, True, **{member: value}))
    assert answer.status_code == want, answer.text
    kept = transaction_of(shared, transaction).get("notification")
    assert (kept is not None) == (want == 200)
    if want == 200 and member == "hResult":
        assert kept["members"]["hResult"] == value % 2**32


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("body", [{}, {"request": None, "notification": None}, {"request": [], "notification": []}, [],
                                  {"request": {}, "notification": {}}], ids=str)
def test_bodies_refused(shared, action, body):
    assert shared.scep(action, body).status_code == 400


def test_envelopes_are_not_alike(shared):
    csr = validated(shared, "envelope")
    assert shared.scep(VALIDATE, {"notification": request_body(csr)["request"]}).status_code == 400
    assert shared.scep(SUCCESS, {"request": notification_body(csr)["notification"]}).status_code == 400


@pytest.mark.parametrize("encoding, indent", [("utf-8", None), ("utf-8", 4), ("latin-1", None)])
def test_encodings(shared, encoding, indent):
    transaction = str(uuid.uuid4())
    csr = validated(shared, transaction)
    body = json.dumps(notification_body(csr, transaction, True, errorDescription="caf\u00e9"), ensure_ascii=False, indent=indent)
    headers = {"api-version": "2018-02-20", "client-request-id": str(uuid.uuid4()), "Authorization": "Bearer " + shared.token(),
               "Content-Type": "application/json"}
    answer = shared.http.post(f"{shared.discover(PROVIDER)}/ScepActions/{FAILURE}", data=body.encode(encoding), headers=headers)
    assert answer.json()["code"] == "Success"
    assert transaction_of(shared, transaction)["notification"]["members"]["errorDescription"] == "caf\u00e9"


@pytest.mark.parametrize("transaction", ["a b&c=d/e?f#g%41+\u00fc\"\\", "x" * 512, "<script>"])
def test_transaction_ids(shared, transaction):
    csr = validated(shared, transaction)
    assert success(shared, csr, transaction) == "Success"
    assert transaction_of(shared, transaction)["transactionId"] == transaction


def test_transaction_id_too_long(shared):
    assert shared.scep(VALIDATE, request_body(b"x", "x" * 513)).status_code == 400


# ---- headers and paths ----

@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("headers, want", [
    ({}, 200), ({"api-version": REVOCATION_API_VERSION}, 200), ({"api-version": API_VERSION}, 400), ({"api-version": None}, 400),
    ({"client-request-id": "x"}, 400), ({"Authorization": None}, 401), ({"Authorization": "Bearer x"}, 401),
    ({"Content-Type": "text/plain"}, 415), ({"UserAgent": "ExampleCA 1.0"}, 200), ({"Content-Type": "application/json; charset=utf-8"}, 200),
], ids=str)
def test_headers(shared, action, headers, want):
    body = request_body(b"x") if action == VALIDATE else notification_body(b"x", failed=action == FAILURE)
    answer = shared.scep(action, body, headers=headers)
    assert answer.status_code == want, answer.text
    if want == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_of_the_resource_is_needed(shared):
    for token in (shared.token(GRAPH_SCOPE), shared.admin_header["Authorization"].split()[1]):
        assert shared.scep(VALIDATE, request_body(b"x"), headers={"Authorization": "Bearer " + token}).status_code == 401


def test_paths(tenant):
    uri = tenant.discover(PROVIDER)
    assert uri.startswith(tenant.url + "/RACerts/") and uri != tenant.discover()
    assert tenant.scep("nothing", {}).status_code == 404
    assert tenant.http.get(f"{uri}/ScepActions/{VALIDATE}").status_code == 405
    csr = make_csr(order(tenant))
    tenant.admin("POST", "moveAccount")
    assert tenant.scep(VALIDATE, request_body(csr), uri=uri).status_code == 410
    assert validate(tenant, csr) == "Success"


def test_service_is_hidden(tenant):
    path = f"v1.0/servicePrincipals/appId={APP_ID}/endpoints"
    body = tenant.graph("GET", path).json()
    body["value"] = [item for item in body["value"] if item["providerName"] != PROVIDER]
    tenant.faults({"path": "/endpoints", "status": 200, "body": json.dumps(body)})
    with pytest.raises(KeyError):
        tenant.discover(PROVIDER)
    assert tenant.discover()
    tenant.admin("DELETE", "faults")
    assert tenant.discover(PROVIDER)


# ---- notifications ----

def test_success(tenant):
    csr = validated(tenant)
    assert success(tenant, csr) == "Success"
    kept = transaction_of(tenant)
    assert kept["certificateRequestHash"] == hashlib.sha256(csr).hexdigest().upper() and kept["validations"] == 1
    assert kept["lastCode"] == "Success" and tenant.admin("GET", f"scepChallenges/{kept['challengeId']}")["transactionId"] == "tx"
    told = kept["notification"]
    times = [datetime.datetime.fromisoformat(told.pop(name).replace("Z", "+00:00")) for name in ("firstDateTime", "lastDateTime")]
    assert times[0] == times[1]
    assert told == {"kind": "success", "count": 1, "contradictions": 0, "callerInfo": "ExampleCA 1.0", "members": {
        "certificateThumbprint": "AABB", "certificateSerialNumber": "01", "certificateExpirationDateUtc": "2027-06-11T16:11:20.090Z",
        "issuingCertificateAuthority": "CN=CA", "caConfiguration": "caConfig"}}
    assert counts(tenant) == {"validated": 1, "succeeded": 1}


def test_failure(tenant):
    csr = validated(tenant)
    assert failure(tenant, csr) == "Success"
    told = transaction_of(tenant)["notification"]
    assert told["kind"] == "failure" and told["members"] == {"hResult": 0x8000FFFF, "errorDescription": "description"}
    assert counts(tenant) == {"validated": 1, "failed": 1}


def test_repetitions(tenant):
    csr = validated(tenant)
    assert [success(tenant, csr) for _ in range(3)] == ["Success"] * 3
    # Who calls is no part of what is said: it may be newer by then.
    assert success(tenant, csr, callerInfo="ExampleCA 1.1") == "Success"
    told = transaction_of(tenant)["notification"]
    assert told["count"] == 4 and told["callerInfo"] == "ExampleCA 1.0"
    assert counts(tenant) == {"validated": 1, "succeeded": 1, "repeated": 3}

    csr = validated(tenant, "tx2")
    # Signed and unsigned are the same number.
    assert failure(tenant, csr, "tx2", hResult=-2147418113) == failure(tenant, csr, "tx2", hResult=2147549183) == "Success"
    assert transaction_of(tenant, "tx2")["notification"]["count"] == 2


@pytest.mark.parametrize("first, second", [
    (failure, success), (success, failure),
    (success, lambda t, c: success(t, c, certificateSerialNumber="02")), (success, lambda t, c: success(t, c, certificateThumbprint="CC")),
    (success, lambda t, c: success(t, c, caConfiguration=None)), (failure, lambda t, c: failure(t, c, hResult=1)),
    (failure, lambda t, c: failure(t, c, errorDescription="another")),
], ids=range(7))
def test_contradictions(tenant, first, second):
    csr = validated(tenant)
    assert first(tenant, csr) == "Success"
    kept = transaction_of(tenant)["notification"]
    assert second(tenant, csr) == "BadCertificateRequestIdInChallenge"
    assert transaction_of(tenant)["notification"] == {**kept, "contradictions": 1}
    assert first(tenant, csr) == "Success"
    assert counts(tenant)["contradicted"] == counts(tenant)["repeated"] == 1


def test_what_was_not_validated(tenant):
    csr = validated(tenant)
    for one, transaction in ((csr, "tx2"), (make_csr("x"), "tx"), (b"x", "tx")):
        assert success(tenant, one, transaction) == "BadCertificateRequestIdInChallenge"
        assert failure(tenant, one, transaction) == "BadCertificateRequestIdInChallenge"
    assert counts(tenant) == {"validated": 1, "unknown": 6}
    [kept] = tenant.scep_transactions()
    assert "notification" not in kept


def test_a_certificate_can_be_revoked_by_what_was_reported(tenant):
    csr = validated(tenant)
    assert success(tenant, csr, certificateSerialNumber="0A0B", issuingCertificateAuthority="CN=CA") == "Success"
    told = transaction_of(tenant)["notification"]["members"]
    tenant.revoke(serialNumber=told["certificateSerialNumber"], issuerName=told["issuingCertificateAuthority"],
                  caConfiguration=told["caConfiguration"])
    [request] = tenant.download_revocations(issuer="CN=CA")
    assert request["serialNumber"] == "0A0B" and request["caConfiguration"] == "caConfig"


# ---- lists ----

def test_pages(tenant):
    challenges = tenant.challenges(subjectName="CN=device-%d", count=25)
    uri, _ = tenant.discover(PROVIDER), tenant.token()
    for n, challenge in enumerate(challenges):
        csr = make_csr(challenge["challenge"], f"CN=device-{n + 1}", key=OTHER)
        assert validate(tenant, csr, f"tx {n % 2}", uri=uri) == "Success"
    page = tenant.admin("GET", "scepTransactions?$top=10")
    assert len(page["value"]) == 10 and page["@odata.nextLink"]
    for path, want in (("scepTransactions?$top=4", 25), ("scepTransactions?$top=4&transactionId=tx%201", 12),
                       ("scepTransactions?transactionId=tx%202", 0)):
        seen = []
        while path:
            page = tenant.admin("GET", path)
            seen += [t["certificateRequestHash"] for t in page["value"]]
            path = page.get("@odata.nextLink", "").replace("/admin/api/", "", 1)
        assert len(seen) == len(set(seen)) == want
    for query in ("$top=0", "$top=x", "$skiptoken=-1"):
        assert tenant.admin_answer("GET", "scepTransactions?" + query).status_code == 400


# ---- what lasts ----

def test_restart(tenant):
    challenges = tenant.challenges({"subjectName": "CN=a"}, {"subjectName": "CN=b"}, {"subjectName": "CN=c"}, {"subjectName": "CN=d"})
    done, refused, away, left = (make_csr(c["challenge"], f"CN={name}") for c, name in zip(challenges, "abcd"))
    assert validate(tenant, done, "a") == "Success" and success(tenant, done, "a") == "Success"
    assert validate(tenant, refused, "b") == "Success"
    tenant.admin("DELETE", f"scepChallenges/{challenges[2]['id']}")
    before = tenant.scep_transactions(), counts(tenant)
    tenant.kill()
    tenant.start()
    assert (tenant.scep_transactions(), counts(tenant)) == before
    assert success(tenant, done, "a") == "Success" and transaction_of(tenant, "a")["notification"]["count"] == 2
    assert failure(tenant, refused, "b") == "Success"
    assert validate(tenant, away, "c") == "ScepProfileNoLongerTargetedToTheClient"
    assert validate(tenant, refused, "d") == "BadCertificateRequestIdInChallenge"
    assert validate(tenant, left, "d") == "Success"


def test_a_database_of_the_second_schema_is_brought_up_to_date(tenant):
    tenant.revoke(serialNumber="1")
    tenant.stop()
    with sqlite3.connect(tenant.folder / "state.db") as db:
        undo_steps(db, 2)
        db.execute("DELETE FROM tenant_value WHERE name = 'scep-challenge-key'")
    db.close()
    tenant.start()
    assert len(tenant.download_revocations()) == 1
    assert success(tenant, validated(tenant)) == "Success"


def test_a_spoiled_key_is_no_key(tenant):
    tenant.stop()
    with sqlite3.connect(tenant.folder / "state.db") as db:
        db.execute("UPDATE tenant_value SET value = 'ab' WHERE name = 'scep-challenge-key'")
    db.close()
    done = subprocess.run([str(a) for a in tenant.argv()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "key of challenges" in done.stderr


def test_challenges_are_in_no_log_and_no_database(tenant):
    challenge = order(tenant)
    for csr in (make_csr(challenge), make_csr(flip(challenge, 9)), make_csr(challenge, "CN=x")):
        validate(tenant, csr)
    tenant.stop()
    written = tenant.log.read_bytes() + b"".join(path.read_bytes() for path in tenant.folder.glob("state.db*"))
    mac = body_of(challenge)[9:41]
    assert challenge.encode() not in written and mac not in written and mac.hex().encode() not in written


# ---- faults ----

@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("code", CODES + ["BadTenantIdInChallenge", "ACodeOfTomorrow", "success", "1", "", "a \"quoted\" one\n"])
def test_codes_on_demand(shared, action, code):
    csr = validated(shared, transaction := str(uuid.uuid4()))
    body = request_body(csr, transaction) if action == VALIDATE else notification_body(csr, transaction, action == FAILURE)
    before = transaction_of(shared, transaction)
    shared.faults({"path": "ScepActions/" + action, "code": code, "count": 2})
    for _ in range(2):
        answer = shared.scep(action, body)
        assert answer.status_code == 200 and answer.json() == {"code": code, "errorDescription": "a code that was asked for"}
    assert transaction_of(shared, transaction) == before
    assert call(shared, action, body) == "Success"
    shared.admin("DELETE", "faults")


@pytest.mark.parametrize("rule", [{"code": 7}, {"code": "x", "status": 500}, {"code": "x", "body": "y"}, {"code": "x", "valueFalse": True},
                                  {"code": "x" * 257}])
def test_codes_on_demand_refused(shared, rule):
    assert shared.admin_answer("PUT", "faults", {"path": "validateRequest", **rule}).status_code == 400
    assert shared.admin("GET", "faults")["value"] == []


@pytest.mark.parametrize("rule, want", [({"status": 500}, 500), ({"status": 429, "retryAfter": 3}, 429), ({"status": 503, "body": ""}, 503),
                                        ({"status": 200, "body": "<html>"}, 200), ({"status": 200, "body": "{\"code\":"}, 200)], ids=str)
def test_http_faults(tenant, rule, want):
    csr = validated(tenant)
    tenant.faults({"path": SUCCESS, "count": 1, **rule})
    answer = tenant.scep(SUCCESS, notification_body(csr))
    assert answer.status_code == want and answer.headers.get("Retry-After") == (str(rule["retryAfter"]) if "retryAfter" in rule else None)
    if "body" in rule:
        assert answer.text == rule["body"]
    assert "notification" not in transaction_of(tenant)
    assert success(tenant, csr) == "Success"


@pytest.mark.parametrize("when, want", [("before", 1), ("after", 2)])
def test_lost_connections(tenant, when, want):
    """An answer that is lost after its call took effect is seen in the count of the call's repetition."""
    csr = validated(tenant)
    tenant.faults({"path": SUCCESS, "dropRate": 1, "dropWhen": when, "count": 1})
    uri, _ = tenant.discover(PROVIDER), tenant.token()
    with pytest.raises(requests.ConnectionError):
        tenant.scep(SUCCESS, notification_body(csr), uri=uri)
    assert success(tenant, csr) == "Success"
    assert transaction_of(tenant)["notification"]["count"] == want


# ---- many ----

def test_ten_thousand_challenges(tenant):
    challenges = tenant.challenges(subjectName="CN=device-%d", count=10000)
    assert len({c["challenge"] for c in challenges}) == 10000
    csr = make_csr(challenges[9999]["challenge"], "CN=device-10000")
    assert validate(tenant, csr, "last") == "Success" and success(tenant, csr, "last") == "Success"
    assert re.fullmatch(r"[0-9A-F]{64}", transaction_of(tenant, "last")["certificateRequestHash"])
