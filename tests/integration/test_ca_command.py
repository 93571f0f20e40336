# SPDX-License-Identifier: MIT
"""The commands of the built-in CA, and what it publishes, as tools that are not ours see it."""

import datetime
import json
import os
import re
import subprocess

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki_rig import TOKEN_KEYS, connector_with_ca, fill_revoked
from rig import Rig, as_service_user, run, wait_until
from scep_rig import TOKEN_KEYS as SCEP_KEYS
from scep_rig import connector_with_scep, generate_key, leave_to_readers


@pytest.fixture(scope="module")
def world():
    """(connector, authority) with the daemon running, as commands must work beside it."""
    rig = Rig()
    try:
        service = rig.service()
        connector, authority = connector_with_ca(rig, service, rig.token(kinds=TOKEN_KEYS))
        yield connector, authority
    finally:
        rig.close()


def request_file(connector, key=None, subject="pc1", sans=("pc1.contoso.example",), name="request.pem", spoil=None, extra=()):
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in sans]), False)
    for extension in extra:
        builder = builder.add_extension(extension, False)
    request = builder.sign(key, hashes.SHA256())
    data = request.public_bytes(serialization.Encoding.DER)
    if spoil:
        data = spoil(data)
    file = connector.folder / name
    pem = subprocess.run(["openssl", "base64"], input=data, capture_output=True, check=True).stdout
    file.write_bytes(b"-----BEGIN CERTIFICATE REQUEST-----\n" + pem + b"-----END CERTIFICATE REQUEST-----\n")
    file.chmod(0o644)
    return file


def issue(connector, *options, **request):
    pem = connector.cli("ca", "issue", "--csr", request_file(connector, **request), *options).stdout
    return x509.load_pem_x509_certificate(pem.encode())


def serial(certificate):
    text = f"{certificate.serial_number:X}"
    return text.rjust(len(text) + len(text) % 2, "0")


def test_issue_by_hand(world):
    connector, authority = world
    certificate = issue(connector, "--profile", "server")
    authority.verify(certificate, "sslserver")
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == ["pc1.contoso.example"]
    assert certificate.serial_number.bit_length() in range(120, 160)
    (listed,) = [c for c in authority.listed() if c["serialNumber"] == serial(certificate)]
    assert listed["state"] == "issued" and listed["profile"] == "server"
    wait_ocsp(authority, certificate, "good")


REFUSED = {
    "signature is wrong": (dict(spoil=lambda der: der[:-1] + bytes([der[-1] ^ 1])), "signature"),
    "key is weak": (dict(key=lambda: rsa.generate_private_key(65537, 1024)), "key"),
    "exponent is small": (dict(key=lambda: rsa.generate_private_key(3, 2048)), "key"),
    "curve is not allowed": (dict(key=lambda: ec.generate_private_key(ec.SECP521R1())), "key"),
    "SAN is not allowed": (dict(sans=("www.fabrikam.example",)), "dns|subjectAlternativeName"),
    "it wants to be a CA": (dict(extra=(x509.BasicConstraints(True, 0),)), "basicConstraints|CA"),
    "extension is not allowed": (dict(extra=(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),)), "1.2.3.4|extension"),
    "it is no request": (dict(spoil=lambda der: der[:40]), "PKCS|request"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_refused_by_hand(world, what):
    connector, authority = world
    request, word = REFUSED[what]
    request = dict(request)
    if "key" in request:
        request["key"] = request["key"]()
    before = len(authority.listed())
    done = connector.cli("ca", "issue", "--profile", "server", "--csr", request_file(connector, **request), check=False)
    assert done.returncode == 1 and not done.stdout
    assert re.search(word, done.stderr), done.stderr
    assert len(authority.listed()) == before


def crl_entry(authority, certificate, want=True):
    """Of the published CRL, which follows within a second or so."""
    def look():
        entry = authority.crl().get_revoked_certificate_by_serial_number(certificate.serial_number)
        return (entry is not None) == want and (entry or True)
    return wait_until(look, "the published CRL says so")


def wait_ocsp(authority, certificate, want):
    """What other processes did is seen within a second or so."""
    wait_until(lambda: authority.ocsp(certificate) == want, f"OCSP says {want}")


REASONS = {"keyCompromise": "key_compromise", "affiliationChanged": "affiliation_changed", "superseded": "superseded",
           "cessationOfOperation": "cessation_of_operation", "privilegeWithdrawn": "privilege_withdrawn",
           "aACompromise": "aa_compromise", "cACompromise": "ca_compromise"}


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason(world, reason):
    connector, authority = world
    certificate = issue(connector, "--profile", "server")
    connector.cli("ca", "revoke", "--serial", serial(certificate), "--reason", reason)
    entry = crl_entry(authority, certificate)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags[REASONS[reason]]
    wait_ocsp(authority, certificate, "revoked")


def test_unspecified_is_not_written(world):
    connector, authority = world
    certificate = issue(connector, "--profile", "server")
    connector.cli("ca", "revoke", "--serial", serial(certificate))
    assert len(crl_entry(authority, certificate).extensions) == 0


def test_hold_and_release(world):
    connector, authority = world
    certificate = issue(connector, "--profile", "server")
    connector.cli("ca", "revoke", "--serial", serial(certificate), "--reason", "certificateHold")
    wait_ocsp(authority, certificate, "revoked")
    crl_entry(authority, certificate)
    connector.cli("ca", "revoke", "--serial", serial(certificate), "--release")
    wait_ocsp(authority, certificate, "good")
    crl_entry(authority, certificate, want=False)


def crl_by_hand(connector, *options):
    return subprocess.run(as_service_user([connector.rig.programs / "certconnector", "ca", "crl", *options, "--config", connector.config]),
                          capture_output=True, check=True, timeout=60, env=dict(os.environ, **connector.token.env)).stdout


def test_deltas_combine():
    """A base, then changes that only the delta has; openssl combines both by itself."""
    rig = Rig()
    try:
        connector, authority = connector_with_ca(rig, rig.service(), rig.token(kinds=TOKEN_KEYS), authority="delta-interval = 12h\ndelta-crl-urls = http://pki.contoso.example/corp-delta.crl")
        first, second, released, good = (issue(connector, "--profile", "server") for _ in range(4))
        connector.cli("ca", "revoke", "--serial", serial(first), "--reason", "superseded")
        connector.cli("ca", "revoke", "--serial", serial(released), "--reason", "certificateHold")
        full = x509.load_der_x509_crl(crl_by_hand(connector))
        assert {entry.serial_number for entry in full} == {first.serial_number, released.serial_number}
        connector.cli("ca", "revoke", "--serial", serial(second), "--reason", "keyCompromise")
        connector.cli("ca", "revoke", "--serial", serial(released), "--release")
        delta = x509.load_der_x509_crl(crl_by_hand(connector, "--delta"))
        indicator = delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
        base = full.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert indicator.critical and indicator.value.crl_number == base
        assert delta.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > base
        reasons = {entry.serial_number: entry.extensions.get_extension_for_class(x509.CRLReason).value.reason for entry in delta}
        assert reasons == {second.serial_number: x509.ReasonFlags.key_compromise, released.serial_number: x509.ReasonFlags.remove_from_crl}

        both = authority.folder / "both.pem"
        both.write_bytes(full.public_bytes(serialization.Encoding.PEM) + delta.public_bytes(serialization.Encoding.PEM))
        for certificate, want in ((first, False), (second, False), (good, True)):
            done = run("openssl", "verify", "-crl_check", "-extended_crl", "-use_deltas", "-CAfile", authority.certificate(),
                       "-CRLfile", both, authority.write(certificate), check=False)
            assert (done.returncode == 0) == want, done.stdout + done.stderr
    finally:
        rig.close()


def test_a_crl_of_100000_entries():
    rig = Rig()
    try:
        connector, authority = connector_with_ca(rig, rig.service(), rig.token(kinds=TOKEN_KEYS), start=False)
        fill_revoked(connector, 100000)
        connector.start()
        crl = authority.crl()
        assert len(crl) == 100000
        assert crl.get_revoked_certificate_by_serial_number(int.from_bytes(b"\x40" + (99999).to_bytes(19, "big"), "big")) is not None
        # What is not on it is good, and so says OpenSSL with this CRL in hand.
        good = issue(connector, "--profile", "server")
        pem = authority.folder / "large.pem"
        run("openssl", "crl", "-inform", "DER", "-in", authority.folder / "corp.crl", "-out", pem)
        run("openssl", "verify", "-crl_check", "-CAfile", authority.certificate(), "-CRLfile", pem, authority.write(good))
    finally:
        rig.close()


def test_ocsp_as_ocsptool_asks(world):
    connector, authority = world
    good, bad = issue(connector, "--profile", "server"), issue(connector, "--profile", "server")
    connector.cli("ca", "revoke", "--serial", serial(bad), "--reason", "keyCompromise")
    wait_ocsp(authority, bad, "revoked")
    ca = authority.certificate()
    # A certificate that names the CA and that it never issued.
    key = ec.generate_private_key(ec.SECP256R1())
    unknown = (x509.CertificateBuilder().subject_name(good.subject).issuer_name(good.issuer).public_key(key.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(good.not_valid_before)
               .not_valid_after(good.not_valid_after).sign(key, hashes.SHA256()))
    for certificate, word in ((good, "good"), (bad, "revoked"), (unknown, "unknown")):
        file = authority.write(certificate)
        done = run("ocsptool", f"--ask={authority.url}/ocsp", "--nonce", "--load-issuer", ca, "--load-cert", file,
                   "--load-trust", ca, check=False)
        said = done.stdout + done.stderr
        assert f"Certificate Status: {word}" in said and "Verifying OCSP Response: Success" in said, said


def test_ocsp_of_a_serial_that_was_never_issued(world):
    _, authority = world
    ca = authority.certificate()
    for options in ((), ("-no_nonce",), ("-sha256",)):
        said = run("openssl", "ocsp", "-issuer", ca, *options, "-serial", "0x1234", "-url", f"{authority.url}/ocsp", "-CAfile", ca)
        assert "0x1234: unknown" in said.stdout and "Response verify OK" in said.stderr


def test_ocsp_answer_repeats_the_nonce(world):
    connector, authority = world
    certificate = issue(connector, "--profile", "server")
    ca, file = authority.certificate(), authority.write(certificate)
    request, response = authority.folder / "request.der", authority.folder / "response.der"
    run("openssl", "ocsp", "-issuer", ca, "-cert", file, "-nonce", "-reqout", request)
    run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--data-binary", f"@{request}", "--header",
        "Content-Type: application/ocsp-request", "--output", response, f"{authority.url}/ocsp")
    nonce = ocsp.load_der_ocsp_request(request.read_bytes()).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    answer = ocsp.load_der_ocsp_response(response.read_bytes())
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    # The signer is delegated: its own certificate, good for that alone and without a status of its own.
    (signer,) = answer.certificates
    assert ExtendedKeyUsageOID.OCSP_SIGNING in signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    signer.extensions.get_extension_for_class(x509.OCSPNoCheck)


def test_an_intermediate_below_a_root_elsewhere():
    """init makes a request, a root elsewhere signs it, and a second init takes the certificate."""
    rig = Rig()
    try:
        service = rig.service()
        connector, authority = connector_with_ca(rig, service, rig.token(kinds=TOKEN_KEYS), start=False, init=False)
        csr = x509.load_pem_x509_csr(connector.cli("ca", "init", "--intermediate", "--subject", "CN=Contoso Sub CA,O=Contoso").stdout.encode())
        assert csr.is_signature_valid
        root_key = rsa.generate_private_key(65537, 3072)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root elsewhere")])
        now = datetime.datetime.utcnow() - datetime.timedelta(minutes=5)

        def sign(subject, key, length):
            return (x509.CertificateBuilder().issuer_name(name).subject_name(subject).public_key(key).serial_number(x509.random_serial_number())
                    .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=900))
                    .add_extension(x509.BasicConstraints(True, length), True)
                    .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
                    .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
                    .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
                    .sign(root_key, hashes.SHA256()))
        root = sign(name, root_key.public_key(), None)
        sub = sign(csr.subject, csr.public_key(), 0)
        files = {}
        for file, certificate in (("root.pem", root), ("sub.pem", sub)):
            files[file] = authority.folder / file
            files[file].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        connector.cli("ca", "init", "--certificate", files["sub.pem"], "--chain", files["root.pem"])
        connector.start()
        leaf = issue(connector, "--profile", "server")
        run("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", files["root.pem"], "-untrusted", files["sub.pem"],
            authority.write(leaf))
        # Another key's certificate is not taken.
        stranger = authority.folder / "stranger.pem"
        stranger.write_bytes(sign(csr.subject, ec.generate_private_key(ec.SECP256R1()).public_key(), 0).public_bytes(serialization.Encoding.PEM))
        done = connector.cli("ca", "init", "--certificate", stranger, check=False)
        assert done.returncode == 1 and "key" in done.stderr, done.stderr
        authority.crl()
    finally:
        rig.close()


def test_authority_whose_key_serves_scep():
    rig = Rig()
    try:
        token = rig.token(kinds=("pfx-import=rsa2048", "ca=rsa2048", "ocsp=ecP256"))
        options = dict(overrides={"keys.ca": "pkcs11:object=issuing"}, init=False, start=False)
        connector, _ = connector_with_ca(rig, rig.service(), token, **options)
        init = [rig.programs / "certconnector", "ca", "init", "--config", connector.config, "--subject", "CN=Contoso Issuing",
                "--scep", "--intermediate"]
        run(*init, "--key-type", "rsa2048", env=dict(os.environ, **token.env), check=False)  # its readers cannot see it yet
        leave_to_readers(token)
        request = run(*init, "--key-type", "rsa2048", env=dict(os.environ, **token.env)).stdout.encode()
        usage = x509.load_pem_x509_csr(request).extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign, usage.crl_sign) == (True,) * 4
        (key,) = [k for k in json.loads(connector.cli("key", "list", "--json").stdout)["keys"]
                  if k["label"] == "issuing" and k["class"] == "private"]
        assert key["usages"] == ["sign", "decrypt"]

        connector.overrides["keys.ca"] = "pkcs11:object=other"
        connector.write_config(connector.extra, connector.overrides)
        said = run(*init, "--key-type", "ecP256", env=dict(os.environ, **token.env), check=False)
        assert said.returncode == 2 and "scep-ra-encrypt" in said.stderr, "a type that SCEP clients do not know"
    finally:
        rig.close()


def test_authority_that_scep_cannot_use(world):
    connector, _ = world
    said = connector.cli("ca", "init", "--subject", "CN=Contoso Issuing", "--scep", check=False)
    assert said.returncode == 2 and "RSA" in said.stderr, "its key is on a curve"


UNFIT = {
    "the CA's certificate is for a CA alone": ("pkcs11:object=own", "pkcs11:object=own", "ca init --scep"),
    "the key opens messages alone": (None, "pkcs11:object=scep-ra-encrypt", "the key that signs answers"),
    "the key signs alone": ("pkcs11:object=ca", "pkcs11:object=ca", "the key that opens messages"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_scep_with_a_key_that_does_not_do(what):
    """The server is not ready: devices would be issued what they cannot use or never get."""
    sign, encrypt, said = UNFIT[what]
    rig = Rig()
    try:
        token = rig.token(kinds=SCEP_KEYS)
        generate_key(token, rig.programs, "ca", "scep-ra-encrypt", "own")
        scep = connector_with_scep(rig, rig.service(), token, start=False, overrides={
            "keys.scep-ra-sign": sign, "keys.scep-ra-encrypt": encrypt, "keys.ca": "pkcs11:object=own" if sign else "pkcs11:object=ca"})
        scep.connector.start(wait=False)
        status = wait_until(lambda: (s := scep.status()) and said in s.get("lastError", "") and s, "the SCEP server says what it lacks")
        assert status["state"] != "ready"
    finally:
        rig.close()
