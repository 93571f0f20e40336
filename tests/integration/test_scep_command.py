# SPDX-License-Identifier: MIT
"""certconnector scep against a server that answers wrongly on cue, which a good server never does: whatever is not an answer
to the request, signed by the CA, for our key, must be refused, and the reason told in one line."""

import base64
import datetime
import http.server
import json
import os
import pathlib
import stat
import subprocess
import threading
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding as block_padding, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("CC_BUILD", PROJECT / "build")) / "bin" / "certconnector"
SCEP = "2.16.840.1.113733.1.9."
DATA, SIGNED, ENVELOPED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.3"
RSA, SHA256 = "1.2.840.113549.1.1.1", "2.16.840.1.101.3.4.2.1"
CIPHERS = {"2.16.840.1.101.3.4.1.42": algorithms.AES, "2.16.840.1.101.3.4.1.2": algorithms.AES, "1.2.840.113549.3.7": algorithms.TripleDES}


# ---- as much of DER as a responder needs ----

def tlv(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = b""
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7f]
        while arc := arc >> 7:
            groups.insert(0, arc & 0x7f | 0x80)
        out += bytes(groups)
    return tlv(6, out)


def integer(value):
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sequence(*parts):
    return tlv(0x30, *parts)


def set_of(*parts):
    return tlv(0x31, *sorted(parts))


def children(der):
    """[(tag, contents, whole)] of what stands in a constructed value."""
    found, at = [], 0
    while at < len(der):
        size, head = der[at + 1], 2
        if size & 0x80:
            head = 2 + (size & 0x7f)
            size = int.from_bytes(der[at + 2:at + head], "big")
        found.append((der[at], der[at + head:at + head + size], der[at:at + head + size]))
        at += head + size
    return found


def inside(der, *path):
    """The contents that a path of places leads to."""
    for place in path:
        der = children(der)[place][1]
    return der


NULL = b"\x05\x00"


def algorithm(name, parameters=NULL):
    return sequence(oid(name), parameters)


# ---- SCEP ----

def named(certificate):
    """IssuerAndSerialNumber."""
    return sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def certs_only(*certificates, crls=()):
    parts = [integer(1), tlv(0x31), sequence(oid(DATA)), tlv(0xa0, *map(der, certificates))]
    if crls:
        parts.append(tlv(0xa1, *crls))
    return sequence(oid(SIGNED), tlv(0xa0, sequence(*parts, tlv(0x31))))


def envelope(content, recipient, cipher):
    cls = CIPHERS[cipher]
    size = 24 if cls is algorithms.TripleDES else 32 if cipher.endswith("42") else 16
    key, iv = os.urandom(size), os.urandom(cls.block_size // 8)
    pad = block_padding.PKCS7(cls.block_size).padder()
    encryptor = Cipher(cls(key), modes.CBC(iv)).encryptor()
    encrypted = encryptor.update(pad.update(content) + pad.finalize()) + encryptor.finalize()
    to = sequence(integer(0), named(recipient), algorithm(RSA), tlv(4, recipient.public_key().encrypt(key, padding.PKCS1v15())))
    return sequence(oid(ENVELOPED), tlv(0xa0, sequence(integer(0), set_of(to), sequence(
        oid(DATA), algorithm(cipher, tlv(4, iv)), tlv(0x80, encrypted)))))


def pki_message(attributes, content, certificate, key):
    """attributes: {OID: DER of the value}."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    attributes = {"1.2.840.113549.1.9.3": oid(DATA), "1.2.840.113549.1.9.4": tlv(4, digest.finalize()), **attributes}
    signed = set_of(*(sequence(oid(name), tlv(0x31, value)) for name, value in attributes.items()))
    signer = sequence(integer(1), named(certificate), algorithm(SHA256), b"\xa0" + signed[1:], algorithm(RSA),
                      tlv(4, key.sign(signed, padding.PKCS1v15(), hashes.SHA256())))
    return sequence(oid(SIGNED), tlv(0xa0, sequence(integer(1), set_of(algorithm(SHA256)), sequence(oid(DATA), tlv(0xa0, tlv(4, content))),
                                                    tlv(0xa0, der(certificate)), set_of(signer))))


class Request:
    """A request as the responder reads it: its attributes, who signed it, what is in the envelope."""

    def __init__(self, message, key):
        signed = inside(message, 0, 1, 0)
        parts = children(signed)
        self.signer = x509.load_der_x509_certificate(children(parts[3][1])[0][2])
        info = children(children(parts[4][1])[0][1])
        attributes = next(one for one in info if one[0] == 0xa0)[1]
        self.attributes = {children(one[1])[0][2]: inside(one[1], 1, 0) for one in children(attributes)}
        self.type = int(self.attribute("2"))
        self.signer.public_key().verify(info[-1][1], tlv(0x31, attributes), padding.PKCS1v15(), hashes.SHA256())
        enveloped = children(inside(parts[2][1], 1, 0, 0, 1, 0))
        recipient = children(children(enveloped[1][1])[0][1])
        content = children(enveloped[2][1])
        self.oaep = children(recipient[2][1])[0][2] != oid(RSA)
        scheme = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None) if self.oaep else padding.PKCS1v15()
        secret = key.decrypt(recipient[3][1], scheme)
        self.cipher = next(name for name in CIPHERS if oid(name) == children(content[1][1])[0][2])
        cls = CIPHERS[self.cipher]
        decryptor = Cipher(cls(secret), modes.CBC(children(content[1][1])[1][1])).decryptor()
        pad = block_padding.PKCS7(cls.block_size).unpadder()
        self.content = pad.update(decryptor.update(content[2][1]) + decryptor.finalize()) + pad.finalize()

    def attribute(self, number):
        return self.attributes[oid(SCEP + number)]


def make_certificate(name, key, issuer=None, issuer_key=None, ca=False, usages=(), days=30):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.utcnow()
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
               .public_key(key.public_key() if hasattr(key, "public_key") else key).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=days))
               .add_extension(x509.BasicConstraints(ca, None), True))
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
             "encipher_only", "decipher_only")
    builder = builder.add_extension(x509.KeyUsage(**{one: one in usages for one in names}), True)
    return builder.sign(issuer_key or key, hashes.SHA256())


class Authority:
    """A CA with two RAs, and a server whose answers a test changes: it sets how(request) -> dict of what is different."""

    def __init__(self):
        self.keys = {name: rsa.generate_private_key(65537, 2048) for name in ("ca", "sign", "encrypt", "stranger")}
        self.ca = make_certificate("Test CA", self.keys["ca"], ca=True, usages=("key_cert_sign", "crl_sign"))
        self.sign = self.certify("RA sign", self.keys["sign"], usages=("digital_signature",))
        self.encrypt = self.certify("RA encrypt", self.keys["encrypt"], usages=("key_encipherment",))
        self.stranger = make_certificate("RA sign", self.keys["stranger"], usages=("digital_signature",))
        self.reset()

    def certify(self, name, key, **options):
        return make_certificate(name, key, issuer=self.ca, issuer_key=self.keys["ca"], **options)

    def reset(self):
        self.how = lambda request: {}
        self.requests, self.methods = [], []
        self.caps = b"POSTPKIOperation\r\nSCEPStandard\nAES\n"
        self.ca_cert = (200, "application/x-x509-ca-ra-cert", certs_only(self.encrypt, self.sign, self.ca))

    def fingerprint(self):
        return self.ca.fingerprint(hashes.SHA256()).hex()

    def answer(self, message):
        request = Request(message, self.keys["encrypt"])
        self.requests.append(request)
        if request.type in (17, 19):
            self.csr = x509.load_der_x509_csr(request.content)
            assert self.csr.is_signature_valid
        how = {"status": "0", "transaction": request.attribute("7"), "nonce": request.attribute("5"), "signer": self.sign, "key": self.keys["sign"],
               "type": "3", "subject_key": None, "recipient": request.signer, "content_type": "application/x-pki-message", **self.how(request)}
        attributes = {SCEP + "2": tlv(0x13, how["type"].encode()), SCEP + "3": tlv(0x13, how["status"].encode()),
                      SCEP + "5": tlv(4, os.urandom(16)), SCEP + "6": tlv(4, how["nonce"]), SCEP + "7": tlv(0x13, how["transaction"])}
        if "fail" in how:
            attributes[SCEP + "4"] = tlv(0x13, how["fail"].encode())
        if "fail_text" in how:
            attributes["1.3.6.1.5.5.7.24.1"] = tlv(0x0c, how["fail_text"].encode())
        content = b""
        if how["status"] == "0":
            content = envelope(how.get("content") or self.content(request, how), how["recipient"], request.cipher)
        reply = pki_message(attributes, content, how["signer"], how["key"])
        return how.get("http", 200), how["content_type"], how.get("spoil", lambda bytes_: bytes_)(reply)

    def content(self, request, how):
        """Of SUCCESS: what was asked for."""
        if request.type == 21:
            return certs_only(self.issued)
        if request.type == 22:
            now = datetime.datetime.utcnow()
            crl = x509.CertificateRevocationListBuilder().issuer_name(self.ca.subject).last_update(now).next_update(
                now + datetime.timedelta(days=1)).sign(self.keys["ca"], hashes.SHA256())
            return certs_only(crls=[crl.public_bytes(serialization.Encoding.DER)])
        subject = self.csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        self.issued = self.certify(subject, how["subject_key"] or self.csr.public_key(), usages=("digital_signature",))
        return certs_only(self.issued)


@pytest.fixture(scope="module")
def running():
    authority = Authority()

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, status, content_type, body):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            operation = query["operation"][0]
            authority.methods.append(f"GET {operation}")
            if operation == "GetCACaps":
                self.reply(200, "text/plain", authority.caps)
            elif operation == "GetCACert":
                self.reply(*authority.ca_cert)
            else:
                self.reply(*authority.answer(base64.b64decode(query["message"][0], validate=True)))

        def do_POST(self):
            authority.methods.append(f"POST {urllib.parse.urlsplit(self.path).query}")
            assert self.headers["Content-Type"] == "application/x-pki-message"
            self.reply(*authority.answer(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_port}/scep"
    yield authority
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def authority(running):
    running.reset()
    return running


def key_of(holder):
    return holder.public_key().public_numbers()


class Device:
    """Where a device keeps its key and certificate, and the command that it calls."""

    def __init__(self, authority, folder):
        self.authority, self.folder = authority, folder
        self.key, self.certificate = folder / "key.pem", folder / "cert.pem"

    def scep(self, *argv):
        return subprocess.run([PROGRAM, "scep", argv[0], "--url", self.authority.url, *map(str, argv[1:])], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)

    def enrol(self, *argv):
        return self.scep("enrol", "--subject", "CN=Device 7", "--key", self.key, "--out", self.certificate, *argv)

    def load(self, path=None):
        return x509.load_pem_x509_certificate((path or self.certificate).read_bytes())


@pytest.fixture
def device(authority, tmp_path):
    return Device(authority, tmp_path)


def said(done):
    """The one line of an error."""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("certconnector scep: "), done.stderr
    return done.stderr[len("certconnector scep: "):-1]


# ---- caps ----

def test_caps_tells_what_each_certificate_is_for(authority, device, tmp_path):
    done = device.scep("caps", "--json", "--save", tmp_path / "all.pem")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["capabilities"] == ["POSTPKIOperation", "SCEPStandard", "AES"]
    assert [(one["subject"], one["roles"]) for one in told["certificates"]] == [
        ("CN=RA encrypt", ["RA encrypt"]), ("CN=RA sign", ["RA sign"]), ("CN=Test CA", ["CA"])]
    ca = told["certificates"][2]
    assert ca["keyUsage"] == ["keyCertSign", "cRLSign"]
    for name, algorithm_ in (("sha256", hashes.SHA256()), ("sha1", hashes.SHA1()), ("md5", hashes.MD5())):
        assert ca[name] == authority.ca.fingerprint(algorithm_).hex()
    assert int(ca["serialNumber"], 16) == authority.ca.serial_number
    assert (tmp_path / "all.pem").read_text().count("BEGIN CERTIFICATE") == 3
    text = device.scep("caps").stdout
    assert text.startswith("capabilities: POSTPKIOperation SCEPStandard AES\nCN=RA encrypt (RA encrypt)\n")
    assert authority.fingerprint() in text


def test_a_lone_certificate_does_everything(authority, device):
    authority.ca_cert = (200, "application/x-x509-ca-cert", der(authority.ca))
    told = json.loads(device.scep("caps", "--json").stdout)
    assert [one["roles"] for one in told["certificates"]] == [["CA", "sign", "encrypt"]]


def test_capabilities_cannot_write_to_the_terminal(authority, device):
    authority.caps = b"AES\x1b[2J\n"
    done = device.scep("caps")
    assert done.returncode == 0 and "\x1b" not in done.stdout and "AES\\x1b[2J" in done.stdout


@pytest.mark.parametrize("answer, want", [
    ((404, "text/plain", b""), "status 404"),
    ((200, "text/html", b"<html>"), 'Content-Type "text/html"'),
    ((200, "application/x-x509-ca-cert; charset=utf-8", b""), "charset"),
    ((200, "application/x-x509-ca-cert", b"0\x03no!"), "GetCACert: "),
    ((200, "application/x-x509-ca-ra-cert", b"0\x03no!"), "GetCACert: "),
    ((200, "application/x-x509-ca-ra-cert", certs_only()), "no certificate is in it"),
])
def test_ca_certificates_that_are_none(authority, device, answer, want):
    authority.ca_cert = answer
    done = device.scep("caps")
    assert done.returncode == 1 and want in said(done)


def test_the_fingerprint_is_the_cas(authority, device):
    fingerprint = authority.fingerprint()
    colons = ":".join(fingerprint[at:at + 2] for at in range(0, 64, 2)).upper()
    assert device.scep("caps", "--fingerprint", fingerprint).returncode == 0
    assert device.scep("caps", "--fingerprint", colons).returncode == 0
    done = device.scep("caps", "--fingerprint", "00" * 32)
    assert done.returncode == 1 and "no certificate of GetCACert has this fingerprint" in said(done)
    for bad in ("00" * 31, "x" * 64, ""):
        assert device.scep("caps", "--fingerprint", bad).returncode == 2
    # somebody's RA beside the real CA
    authority.ca_cert = (200, "application/x-x509-ca-ra-cert", certs_only(authority.encrypt, authority.stranger, authority.ca))
    done = device.scep("caps", "--fingerprint", fingerprint)
    assert done.returncode == 1 and "certificate 2 of GetCACert is not of the CA" in said(done)


# ---- enrolling ----

@pytest.mark.parametrize("options, cipher, oaep, method", [
    ((), "2.16.840.1.101.3.4.1.42", False, "POST"),
    (("--get",), "2.16.840.1.101.3.4.1.42", False, "GET"),
    (("--cipher", "aes128", "--oaep"), "2.16.840.1.101.3.4.1.2", True, "POST"),
    (("--cipher", "3des"), "1.2.840.113549.3.7", False, "POST"),
])
def test_enrol(authority, device, tmp_path, options, cipher, oaep, method):
    secret = tmp_path / "challenge"
    secret.write_text("under_score\n")
    secret.chmod(0o600)
    done = device.enrol("--dns", "a.example", "--email", "a@b.example", "--upn", "u@b.example", "--uri", "urn:a:b", "--challenge-file", secret,
                        "--fingerprint", authority.fingerprint(), "--json", "--save-reply", tmp_path / "reply", *options)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    request = authority.requests[0]
    assert told["status"] == "SUCCESS" and told["transactionId"].encode() == request.attribute("7")
    assert told["certificate"]["sha256"] == device.load().fingerprint(hashes.SHA256()).hex()
    assert (request.type, request.cipher, request.oaep) == (19, cipher, oaep)
    assert len(request.attribute("5")) == 16
    assert authority.methods[-1].startswith(method)
    names = authority.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert names.get_values_for_type(x509.RFC822Name) == ["a@b.example"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:a:b"]
    assert names.get_values_for_type(x509.OtherName)[0].value == tlv(0x0c, b"u@b.example")
    assert authority.csr.attributes.get_attribute_for_oid(x509.oid.AttributeOID.CHALLENGE_PASSWORD).value == b"under_score"
    assert key_of(request.signer) == key_of(authority.csr) == key_of(device.load())
    assert stat.S_IMODE(device.key.stat().st_mode) == 0o600
    assert (tmp_path / "reply").read_bytes()[:1] == b"0"
    # once more with the key that is there now, and no challenge
    assert device.enrol().returncode == 0
    assert key_of(authority.csr) == key_of(request.signer)
    assert len(authority.csr.attributes) == 0
    assert authority.requests[1].attribute("7") != request.attribute("7")


def flip_last(reply):
    return reply[:-1] + bytes([reply[-1] ^ 1])


WRONG = {
    "nonce": (lambda a: {"nonce": b"0" * 16}, "recipientNonce"),
    "no nonce": (lambda a: {"nonce": b""}, "recipientNonce"),
    "transaction": (lambda a: {"transaction": b"another"}, "transactionID"),
    "type": (lambda a: {"type": "19"}, "no CertRep"),
    "status": (lambda a: {"status": "1"}, "pkiStatus"),
    "signed by a stranger of the same name": (lambda a: {"signer": a.stranger, "key": a.keys["stranger"]}, "not signed by a certificate of GetCACert"),
    "signed by the RA that encrypts": (lambda a: {"signer": a.encrypt, "key": a.keys["encrypt"]}, "not signed by a certificate of GetCACert"),
    "signed by the CA beside RAs": (lambda a: {"signer": a.ca, "key": a.keys["ca"]}, "not signed by a certificate of GetCACert"),
    "signed by another key": (lambda a: {"key": a.keys["stranger"]}, "signature is not good"),
    "spoiled signature": (lambda a: {"spoil": flip_last}, "signature is not good"),
    "certificate of another key": (lambda a: {"subject_key": a.keys["stranger"]}, "no certificate of our key"),
    "for another recipient": (lambda a: {"recipient": a.sign}, "another recipient"),
    "SUCCESS with failInfo": (lambda a: {"fail": "2"}, "failInfo"),
    "FAILURE without failInfo": (lambda a: {"status": "2"}, "failInfo"),
    "no certificates inside": (lambda a: {"content": b"0\x00"}, "not certificates"),
    "no message": (lambda a: {"spoil": lambda reply: b"<html>"}, "SignedData"),
    "something behind it": (lambda a: {"spoil": lambda reply: reply + b"\x00"}, "SignedData"),
    "Content-Type": (lambda a: {"content_type": "application/x-pki-message; charset=x"}, "Content-Type"),
    "HTTP status": (lambda a: {"http": 500}, "status 500"),
}


@pytest.mark.parametrize("name", WRONG)
def test_answers_that_are_none(authority, device, name):
    how, want = WRONG[name]
    authority.how = lambda request: how(authority)
    done = device.enrol("--json")
    assert done.returncode == 1 and want in said(done), done
    assert not device.certificate.exists()


def test_failure_tells_why(authority, device):
    authority.how = lambda request: {"status": "2", "fail": "0", "fail_text": "only \x1b[1mgood ciphers"}
    done = device.enrol("--json")
    assert done.returncode == 1 and said(done) == "FAILURE, badAlg: only \\x1b[1mgood ciphers"
    told = json.loads(done.stdout)
    assert (told["status"], told["failInfo"], told["failInfoText"]) == ("FAILURE", "badAlg", "only \\x1b[1mgood ciphers")
    authority.how = lambda request: {"status": "2", "fail": "4"}
    done = device.enrol()
    assert said(done) == "FAILURE, badCertId" and done.stdout.startswith("FAILURE, transaction ")


def test_pending_is_polled(authority, device):
    authority.how = lambda request: {"status": "3"} if len(authority.requests) < 3 else {}
    done = device.enrol("--poll", "1")
    assert done.returncode == 0, done.stderr
    first, *polls = authority.requests
    assert [request.type for request in authority.requests] == [19, 20, 20]
    assert len({request.attribute("7") for request in authority.requests}) == 1
    assert len({request.attribute("5") for request in authority.requests}) == 3
    for poll in polls:
        assert poll.content == sequence(authority.ca.subject.public_bytes(), authority.csr.subject.public_bytes())
        assert poll.signer == first.signer


def test_pending_without_polling_fails(authority, device):
    authority.how = lambda request: {"status": "3"}
    done = device.enrol()
    assert done.returncode == 1 and said(done).startswith("PENDING")
    assert len(authority.requests) == 1


def test_a_challenge_is_not_sent_unasked_to_anybody(authority, device, tmp_path):
    secret = tmp_path / "challenge"
    secret.write_text("secret")
    secret.chmod(0o644)
    done = device.enrol("--challenge-file", secret)
    assert done.returncode == 2 and authority.requests == [] and "mode 0644" in said(done)
    secret.chmod(0o600)
    done = device.enrol("--challenge-file", secret)
    assert done.returncode == 0 and "--fingerprint" in said(done)
    done = device.enrol("--challenge-file", secret, "--fingerprint", "00" * 32)
    assert done.returncode == 1 and len(authority.requests) == 1


# ---- with a certificate ----

@pytest.fixture
def enrolled(authority, device):
    done = device.enrol("--dns", "a.example")
    assert done.returncode == 0, done.stderr
    authority.requests.clear()
    return device


def test_renew(authority, enrolled, tmp_path):
    old, new_key, new = enrolled.load(), tmp_path / "new-key.pem", tmp_path / "new.pem"
    done = enrolled.scep("renew", "--certificate", enrolled.certificate, "--key", enrolled.key, "--new-key", new_key, "--out", new)
    assert done.returncode == 0, done.stderr
    request, = authority.requests
    assert request.type == 17 and request.signer == old
    assert authority.csr.subject == old.subject
    key = serialization.load_pem_private_key(new_key.read_bytes(), None)
    assert key_of(enrolled.load(new)) == key_of(key) != key_of(old)
    done = enrolled.scep("renew", "--certificate", enrolled.certificate, "--key", enrolled.key, "--out", new)
    assert done.returncode == 0 and key_of(enrolled.load(new)) == key_of(old)


def test_cert_and_crl(authority, enrolled, tmp_path):
    out, serial = tmp_path / "out", f"{authority.issued.serial_number:x}"
    signer = ("--certificate", enrolled.certificate, "--key", enrolled.key, "--out", out)
    done = enrolled.scep("cert", "--serial", serial.zfill(len(serial) + len(serial) % 2), *signer)
    assert done.returncode == 0, done.stderr
    assert authority.requests[0].type == 21 and authority.requests[0].content == named(authority.issued)
    assert enrolled.load(out) == authority.issued
    done = enrolled.scep("crl", *signer, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "SUCCESS"
    assert authority.requests[1].type == 22 and authority.requests[1].content == named(enrolled.load())
    assert x509.load_pem_x509_crl(out.read_bytes()).issuer == authority.ca.subject
    out.unlink()
    done = enrolled.scep("cert", "--serial", "0102", *signer)
    assert done.returncode == 1 and "no certificate of this serial number" in said(done)
    authority.how = lambda request: {"content": certs_only(authority.ca)}
    done = enrolled.scep("crl", *signer)
    assert done.returncode == 1 and "no CRL" in said(done)
    authority.how = lambda request: {"status": "2", "fail": "4"}
    done = enrolled.scep("crl", *signer)
    assert done.returncode == 1 and said(done) == "FAILURE, badCertId"
    assert not out.exists()


def test_keys_that_are_none(authority, enrolled, tmp_path):
    locked = tmp_path / "locked.pem"
    key = serialization.load_pem_private_key(enrolled.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")))
    (tmp_path / "other.pem").write_text("no key")
    for name in ("locked.pem", "other.pem", "missing.pem"):
        done = enrolled.scep("crl", "--certificate", enrolled.certificate, "--key", tmp_path / name, "--out", tmp_path / "out")
        assert done.returncode == 1 and name in said(done)
    assert authority.requests == []


# ---- the command line ----

@pytest.mark.parametrize("argv", [
    ("enrol", "--subject", "CN=a"), ("enrol", "--out", "/nowhere"), ("renew", "--key", "k"), ("cert", "--key", "k"), ("crl", "--key", "k"),
    ("caps", "extra"), ("nothing",), ("enrol", "--subject", "CN=a", "--out", "o", "--cipher", "des"),
    ("enrol", "--subject", "CN=a", "--out", "o", "--digest", "md5"), ("enrol", "--subject", "CN=a", "--out", "o", "--poll", "0"),
    ("enrol", "--subject", "CN=a", "--out", "o", "--key-type", "ecP256"), ("caps", "--timeout", "30"),
])
def test_usage(device, tmp_path, argv):
    done = subprocess.run([PROGRAM, "scep", *argv, *(() if argv == ("nothing",) else ("--url", device.authority.url))], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert done.returncode == 2, done
    said(done)


def test_the_url_is_needed():
    done = subprocess.run([PROGRAM, "scep", "caps"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--url" in said(done)
