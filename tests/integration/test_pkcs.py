# SPDX-License-Identifier: MIT
"""The way of a PKCS request: key, certificate and PFX for the device, what is refused and how it is said."""

import base64
import datetime
import ipaddress
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from pki_rig import KINDS, TOKEN_KEYS, ask, connector_with_ca, events_of, open_result
from recrypt import envelope
from rig import Pfx, Recipient, Rig, run, wait_until

SID = "S-1-5-21-1004336348-1177238915-682003330-1105"
SID_VECTOR = bytes.fromhex("303fa03d060a2b060104018237190201a02f042d532d312d352d32312d313030343333363334382d313137373233383931352d3638323030333333302d31313035")
SID_OID = x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2")


@pytest.fixture(scope="module")
def world():
    """(service, connector, authority, recipient) that all tests here share."""
    rig = Rig()
    try:
        token, service = rig.token(kinds=TOKEN_KEYS), rig.service("--retry-delay-ms", "50", "--max-attempts", "2")
        connector, authority = connector_with_ca(rig, service, token, features="pkcs, pfx-import", authority="""
authority = ca1.contoso.example
authority-name = Contoso Issuing CA""")
        yield service, connector, authority, Recipient()
    finally:
        rig.close()


# ---- what comes out ----

@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("encryption", ["aes256", "compat"])
def test_every_key_in_both_encryptions(world, kind, encryption):
    service, connector, authority, recipient = world
    done = ask(service, recipient, keyAlgorithm=kind, pfxEncryption=encryption, subjectName=f"CN={kind} {encryption}")
    result = done["result"]
    assert done["state"] == "completed", result
    key, certificate, chain, password = open_result(result, recipient)
    want_type, want_bits = KINDS[kind]
    assert isinstance(certificate.public_key(), want_type) and key.key_size == want_bits
    assert len(password) >= 16
    ca = x509.load_pem_x509_certificate(authority.certificate().read_bytes())
    assert [c.fingerprint(hashes.SHA256()) for c in chain] == [ca.fingerprint(hashes.SHA256())]
    authority.verify(certificate, "sslclient")

    assert result["certificateThumbprint"] == certificate.fingerprint(hashes.SHA1()).hex().upper()
    serial = f"{certificate.serial_number:X}"
    assert result["certificateSerialNumber"] == serial.rjust(len(serial) + len(serial) % 2, "0")
    expires = datetime.datetime.strptime(result["certificateExpirationDateTime"][:19], "%Y-%m-%dT%H:%M:%S")
    assert expires == certificate.not_valid_after
    assert result["issuingCertificateAuthority"] and result["caConfiguration"] == "corp"

    # The forms inside, told by openssl: PBES2 with AES, or 3DES as old Windows wants it.
    blob = authority.folder / "blob.pfx"
    blob.write_bytes(base64.b64decode(result["encryptedPfxBlob"]))
    secret = authority.folder / "password"
    secret.write_bytes(password)
    said = run("openssl", "pkcs12", "-legacy", "-info", "-noout", "-in", blob, "-passin", f"file:{secret}").stderr
    secret.unlink()
    if encryption == "aes256":
        assert "AES-256-CBC" in said and "hmacWithSHA256" in said and "MAC: sha256" in said, said
    else:
        assert "pbeWithSHA1And3-KeyTripleDES-CBC" in said and "MAC: sha1" in said, said
    assert sorted(events_of(connector, done["requestId"], (1000, 1001))) == [1000, 1020, 1050, 1102]


@pytest.mark.parametrize("form", ["cms", "rsaOaepSha256", "rsaOaepSha1", "rsaPkcs1"])
def test_every_form_of_password(world, form):
    service, _, _, recipient = world
    result = ask(service, recipient, passwordEncryption=form)["result"]
    assert result["succeeded"] and result["passwordEncryption"] == form
    open_result(result, recipient)


def test_a_second_device_gets_its_own_key_and_password(world):
    service, _, _, recipient = world
    first, second = (open_result(ask(service, recipient, keyAlgorithm="rsa2048")["result"], recipient) for _ in range(2))
    assert first[0].public_key().public_numbers() != second[0].public_key().public_numbers()
    assert first[3] != second[3] and first[1].serial_number != second[1].serial_number


def test_what_was_asked_stands_in_the_certificate(world):
    service, _, authority, recipient = world
    result = ask(service, recipient, subjectName="CN=user1,OU=Sales,O=Contoso,C=DE", onPremisesSecurityIdentifier=SID,
                 subjectAlternativeNames=[{"type": "upn", "value": "user1@contoso.example"}, {"type": "email", "value": "user1@contoso.example"},
                                          {"type": "dns", "value": "pc1.contoso.example"}, {"type": "uri", "value": "urn:uuid:1234"},
                                          {"type": "ip", "value": "2001:db8::7"}, {"type": "ip", "value": "192.0.2.5"}],
                 keyUsages=["digitalSignature"], extendedKeyUsages=["clientAuth", "1.3.6.1.5.5.7.3.4"], validityPeriodInDays=10)["result"]
    _, certificate, _, _ = open_result(result, recipient)
    assert [(a.oid, a.value) for a in certificate.subject] == [
        (NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Contoso"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "Sales"),
        (NameOID.COMMON_NAME, "user1")]
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sans.get_values_for_type(x509.RFC822Name) == ["user1@contoso.example"]
    assert sans.get_values_for_type(x509.DNSName) == ["pc1.contoso.example"]
    assert sans.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:uuid:1234"]
    assert sans.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("2001:db8::7"), ipaddress.ip_address("192.0.2.5")]
    (upn,) = sans.get_values_for_type(x509.OtherName)
    assert upn.type_id.dotted_string == "1.3.6.1.4.1.311.20.2.3" and upn.value == b"\x0c\x15user1@contoso.example"
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_encipherment
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION}
    sid = certificate.extensions.get_extension_for_oid(SID_OID)
    assert not sid.critical and sid.value.value == SID_VECTOR
    assert datetime.timedelta(days=9) < certificate.not_valid_after - certificate.not_valid_before <= datetime.timedelta(days=10, minutes=10)
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == f"{authority.url}/corp.crl"
    access = certificate.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_INFORMATION_ACCESS).value
    assert {d.access_location.value for d in access} == {f"{authority.url}/ocsp", f"{authority.url}/corp.cer"}


def test_the_profile_shortens_and_never_lengthens(world):
    service, _, _, recipient = world
    for days, want in ((3650, 30), (7, 7)):
        result = ask(service, recipient, certificateTemplateName="server", subjectName="CN=www.contoso.example",
                     subjectAlternativeNames=[{"type": "dns", "value": "www.contoso.example"}], validityPeriodInDays=days)["result"]
        assert result["succeeded"], result
        certificate = open_result(result, recipient)[1]
        assert abs((certificate.not_valid_after - datetime.datetime.utcnow()).total_seconds() - want * 86400) < 900


@pytest.mark.parametrize("template,purpose", [("ContosoUser", "sslclient"), ("ContosoUser", "smimesign"), ("server", "sslserver"),
                                              ("sid-uri", "sslclient")])
def test_every_profile_passes_strict_checks(world, template, purpose):
    service, _, authority, recipient = world
    members = {"onPremisesSecurityIdentifier": SID} if template != "server" else {}
    sans = [{"type": "dns", "value": "www.contoso.example"}]
    if purpose == "smimesign":
        sans.append({"type": "email", "value": "user1@contoso.example"})
    result = ask(service, recipient, certificateTemplateName=template, subjectName="CN=www.contoso.example,O=Contoso",
                 subjectAlternativeNames=sans, **members)["result"]
    assert result["succeeded"], result
    certificate = open_result(result, recipient)[1]
    authority.verify(certificate, purpose)
    if template == "sid-uri":
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert f"tag:microsoft.com,2022-09-14:sid:{SID}" in names.get_values_for_type(x509.UniformResourceIdentifier)
    if template == "server":
        policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
        assert [p.policy_identifier.dotted_string for p in policies] == ["1.3.6.1.4.1.55555.1.2"]


# ---- names ----

SUBJECTS = {
    "every escape": (r'CN=\"\+\,\;\<\>\\\=\#x\ ,O=Contoso', '"+,;<>\\=#x '),
    "hash and space in front": (r"CN=\#1\20,O=Contoso", "#1 "),
    "hexadecimal UTF-8": (r"CN=Lu\C4\8Di\C4\87,O=Contoso", "Lučić"),
    "UTF-8": ("CN=山田 太郎 – Crème,O=Contoso", "山田 太郎 – Crème"),
    "astral": ("CN=\U0001f511 key,O=Contoso", "\U0001f511 key"),
    "plus": ("CN=user1+emailAddress=user1@contoso.example,O=Contoso", "user1"),
}


@pytest.mark.parametrize("what", sorted(SUBJECTS))
def test_subjects_come_out_exactly(world, what):
    service, _, _, recipient = world
    text, want = SUBJECTS[what]
    result = ask(service, recipient, subjectName=text)["result"]
    assert result["succeeded"], result
    certificate = open_result(result, recipient)[1]
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == want


# ---- what is refused: the code, and a word that the message has ----

REFUSED = {
    "subject has an empty value": (dict(subjectName="CN=,O=Contoso"), "ParameterDataInvalidError", "subject"),
    "subject has a NUL": (dict(subjectName=r"CN=a\00b"), "ParameterDataInvalidError", "subject"),
    "subject has a NUL in JSON": (dict(overrides={"subjectName": "CN=a\u0000b"}), None, "subjectName"),
    "subject ends in an escape": (dict(subjectName="CN=a\\"), "ParameterDataInvalidError", "subject"),
    "subject has an unknown attribute": (dict(subjectName="XX=a"), "ParameterDataInvalidError", "subject"),
    "subject is no UTF-8 behind escapes": (dict(subjectName=r"CN=\C3\28"), "ParameterDataInvalidError", "subject"),
    "subject is missing": (dict(subjectName=None), None, "subject"),
    "subject attribute is not allowed": (dict(certificateTemplateName="server", subjectName="CN=a,OU=b"), "ParameterDataInvalidError", "OU"),
    "SAN is empty": (dict(subjectAlternativeNames=[{"type": "upn", "value": ""}]), "ParameterDataInvalidError", "upn"),
    "SAN has no value": (dict(subjectAlternativeNames=[{"type": "email"}]), None, "email"),
    "SAN type is unknown": (dict(subjectAlternativeNames=[{"type": "x400", "value": "a"}]), "ParameterDataInvalidError", "x400"),
    "SAN type is not allowed": (dict(certificateTemplateName="server", subjectName="CN=a", subjectAlternativeNames=[{"type": "upn", "value": "a@b.example"}]), "ParameterDataInvalidError", "upn"),
    "SAN domain is not allowed": (dict(certificateTemplateName="server", subjectName="CN=a", subjectAlternativeNames=[{"type": "dns", "value": "www.fabrikam.example"}]), "ParameterDataInvalidError", "dns"),
    "SAN domain only looks alike": (dict(certificateTemplateName="server", subjectName="CN=a", subjectAlternativeNames=[{"type": "dns", "value": "evilcontoso.example"}]), "ParameterDataInvalidError", "dns"),
    "IP address is none": (dict(subjectAlternativeNames=[{"type": "ip", "value": "300.1.1.1"}]), "ParameterDataInvalidError", "ip"),
    "key algorithm is weak": (dict(keyAlgorithm="rsa1024"), None, "keyAlgorithm"),
    "key usage is forbidden": (dict(keyUsages=["keyCertSign"]), "ParameterDataInvalidError", "keyCertSign"),
    "key usage is unknown": (dict(keyUsages=["x"]), "ParameterDataInvalidError", "keyUsages"),
    "extended key usage is forbidden": (dict(extendedKeyUsages=["codeSigning"]), "ParameterDataInvalidError", "1.3.6.1.5.5.7.3.3|codeSigning"),
    "template is unknown": (dict(certificateTemplateName="Unknown"), "BadRequest", "Unknown"),
    "SID as a name": (dict(subjectAlternativeNames=[{"type": "uri", "value": "TAG:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"}]), "ParameterDataInvalidError", "security identifier"),
    "SID is none": (dict(onPremisesSecurityIdentifier="S-1-x"), "ParameterDataInvalidError", "[sS]ecurityIdentifier|SID"),
    "passwordEncryption is unknown": (dict(passwordEncryption="rot13"), "NotSupportedError", "passwordEncryption"),
    "pfxEncryption is unknown": (dict(pfxEncryption="rc2"), "NotSupportedError", "pfxEncryption"),
    "kind is unknown": (dict(kind="renew"), "NotSupportedError", "kind"),
    "recipient has a short key": (dict(recipientCertificate=base64.b64encode(Recipient(1024).der).decode()), "RecipientNotAccepted", "recipient"),
    "recipient is missing": (dict(recipientCertificate=None), None, "recipientCertificate"),
    "usages are a text": (dict(overrides={"keyUsages": "digitalSignature"}), "DataSerializationError", "keyUsages"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_refused_with_the_reason_and_nothing_is_issued(world, what):
    service, connector, authority, recipient = world
    members, code, word = REFUSED[what]
    before = len(authority.listed())
    done = ask(service, recipient, **members)
    result = done["result"]
    assert done["state"] == "failed" and not result["succeeded"] and not result["retryable"], result
    if code is not None:
        assert result["errorCode"] == code, result
    assert re.search(word, result["errorMessage"]), result
    assert "encryptedPfxBlob" not in result and "certificate" not in result
    assert len(authority.listed()) == before
    ids = events_of(connector, done["requestId"], (1000, 1001))
    assert 1001 in ids and 1000 not in ids and 1050 not in ids


# ---- recrypt, and what the connector tells of itself ----

def test_recrypt(world):
    service, connector, _, recipient = world
    key = connector.public_key()
    pfx = Pfx("user1@contoso.example")
    members = {"kind": "recrypt", "subjectName": None, "encryptedPfxBlob": base64.b64encode(pfx.blob).decode(),
               "encryptedPfxPassword": base64.b64encode(envelope(key, pfx.password)).decode()}
    done = ask(service, recipient, **members)
    result = done["result"]
    assert result["succeeded"], result
    assert recipient.read(result) == pfx.password and base64.b64decode(result["encryptedPfxBlob"]) == pfx.blob
    ids = events_of(connector, done["requestId"], (1200, 1201))
    assert sorted(ids) == [1200, 1220, 1250, 1251, 1302]

    # Three ways in which it cannot be opened look the same.
    stranger = rsa.generate_private_key(65537, 2048).public_key()
    answers = set()
    for bad in (envelope(stranger, pfx.password), envelope(key, b"not the password")):
        members["encryptedPfxPassword"] = base64.b64encode(bad).decode()
        done = ask(service, recipient, **members)
        assert done["state"] == "failed"
        answers.add((done["result"]["errorCode"], done["result"]["errorMessage"]))
        ids = events_of(connector, done["requestId"], (1200, 1201))
        assert 1201 in ids and 1252 in ids
    ((code, _),) = answers
    assert code == "DecryptFailed"


def test_status_tells_of_it(world):
    service, connector, _, recipient = world
    before = connector.status()["workloads"]["pkcs"]
    done = [ask(service, recipient), ask(service, recipient, certificateTemplateName="Unknown")]
    for request in done:
        events_of(connector, request["requestId"], (1000, 1001))
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")
    after = connector.status()["workloads"]["pkcs"]
    assert after["succeeded"] - before["succeeded"] == 1 and after["failed"] - before["failed"] == 1
    wait_until(lambda: connector.status()["workloads"]["pkcs"]["readyKeys"] >= 4, "the pool is full again")
    shown = connector.cli("status").stdout
    assert "\npkcs " in shown and "\npfx-import " in shown and "ready keys" in shown


def test_a_request_names_its_ca(world):
    service, _, _, recipient = world
    named = ask(service, recipient, certificationAuthority="ca1.contoso.example", certificationAuthorityName="Contoso Issuing CA")
    assert named["result"]["succeeded"]
