# SPDX-License-Identifier: MIT
"""SCEP messages (RFC 8894) put together byte by byte, so that they can be as wrong as a test wants them; and answers, taken
apart and verified."""

import datetime
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import padding as asymmetric
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

CERT_REP, RENEWAL_REQ, PKCS_REQ, CERT_POLL, GET_CERT, GET_CRL = 3, 17, 19, 20, 21, 22
SUCCESS, FAILURE, PENDING = 0, 2, 3
BAD_ALG, BAD_MESSAGE_CHECK, BAD_REQUEST, BAD_TIME, BAD_CERT_ID = range(5)

PRINTABLE, UTF8, IA5, T61 = 0x13, 0x0C, 0x16, 0x14
SCEP = "2.16.840.1.113733.1.9."
MESSAGE_TYPE, PKI_STATUS, FAIL_INFO, SENDER_NONCE, RECIPIENT_NONCE, TRANSACTION_ID = (SCEP + n for n in "234567")
FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"
CONTENT_TYPE, MESSAGE_DIGEST, CHALLENGE = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.7"
DATA, SIGNED, ENVELOPED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.3"
RSA_ENCRYPTION, RSA_OAEP, ECDSA_SHA256 = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.7", "1.2.840.10045.4.3.2"
DIGESTS = {"md5": ("1.2.840.113549.2.5", hashes.MD5), "sha1": ("1.3.14.3.2.26", hashes.SHA1),
           "sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256), "sha384": ("2.16.840.1.101.3.4.2.2", hashes.SHA384),
           "sha512": ("2.16.840.1.101.3.4.2.3", hashes.SHA512)}
# Name: OID, algorithm, bytes of the key, bytes of a block.  Triple DES with three equal keys is single DES.
CIPHERS = {"aes128": ("2.16.840.1.101.3.4.1.2", algorithms.AES, 16, 16), "aes192": ("2.16.840.1.101.3.4.1.22", algorithms.AES, 24, 16),
           "aes256": ("2.16.840.1.101.3.4.1.42", algorithms.AES, 32, 16), "3des": ("1.2.840.113549.3.7", algorithms.TripleDES, 24, 8),
           "des": ("1.3.14.3.2.7", algorithms.TripleDES, 8, 8)}


# ---- DER ----

def der(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def seq(*parts):
    return der(0x30, *parts)


def set_of(*parts):
    return der(0x31, *sorted(parts))


def integer(number):
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def octets(data):
    return der(0x04, data)


def oid(dotted):
    first, second, *rest = (int(part) for part in dotted.split("."))
    out = b""
    for arc in [first * 40 + second, *rest]:
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | arc & 0x7F)
        out += bytes(reversed(digits))
    return der(0x06, out)


NULL = der(0x05)


def parse(data):
    """[(tag, content, whole)] of the elements that data is made of."""
    found = []
    while data:
        size, head = data[1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[2:head], "big")
        assert len(data) >= head + size, "cut short"
        found.append((data[0], data[head:head + size], data[:head + size]))
        data = data[head + size:]
    return found


# ---- requests ----

def name(text):
    """"O=Contoso, CN=dev1", in the order of DER."""
    kinds = {"C": NameOID.COUNTRY_NAME, "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME}
    return x509.Name([x509.NameAttribute(kinds[kind], value) for kind, value in (part.strip().split("=") for part in text.split(","))])


def self_signed(key, subject="CN=a device's own", serial=None):
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(subject)).public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=7)).sign(key, hashes.SHA256()))


def make_csr(key, subject="O=Contoso, CN=dev1", challenge=None, digest=hashes.SHA256, extensions=(), dns=()):
    """DER of a PKCS #10."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(subject))
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in dns]), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if challenge is not None:
        builder = builder.add_attribute(x509.ObjectIdentifier(CHALLENGE), challenge.encode())
    return builder.sign(key, digest()).public_bytes(serialization.Encoding.DER)


def cert_id(certificate):
    return seq(certificate.issuer.public_bytes(), integer(certificate.serial_number))


def recipient_info(certificate, encrypted, oaep=False):
    algorithm = seq(oid(RSA_OAEP), seq()) if oaep else seq(oid(RSA_ENCRYPTION), NULL)
    return seq(integer(0), cert_id(certificate), algorithm, octets(encrypted))


def encrypt_key(certificate, key, oaep=False):
    scheme = asymmetric.OAEP(asymmetric.MGF1(hashes.SHA1()), hashes.SHA1(), None) if oaep else asymmetric.PKCS1v15()
    return certificate.public_key().encrypt(key, scheme)


def encrypt_content(cipher, key, iv, content, padded=True):
    _, algorithm, _, block = CIPHERS[cipher]
    if padded:
        padder = padding.PKCS7(block * 8).padder()
        content = padder.update(content) + padder.finalize()
    encryptor = Cipher(algorithm(key), modes.CBC(iv)).encryptor()
    return encryptor.update(content) + encryptor.finalize()


def enveloped(recipients, cipher, iv, ciphertext):
    content = seq(oid(DATA), seq(oid(CIPHERS[cipher][0]), octets(iv)), der(0x80, ciphertext))
    return seq(oid(ENVELOPED), der(0xA0, seq(integer(0), set_of(*recipients), content)))


def envelope(content, recipient, cipher="aes128", oaep=False):
    _, _, size, block = CIPHERS[cipher]
    key, iv = os.urandom(size), os.urandom(block)
    return enveloped([recipient_info(recipient, encrypt_key(recipient, key, oaep), oaep)], cipher, iv,
                     encrypt_content(cipher, key, iv, content))


def attribute(kind, *values):
    return seq(oid(kind), set_of(*values))


def signed(content, attributes, certificate, key, digest="sha256", spoil=False, certificates=None, order=sorted):
    """SignedData with one signer; content None: there is none, b"": of no length."""
    digest_oid, algorithm = DIGESTS[digest]
    context = hashes.Hash(algorithm())
    context.update(content or b"")
    attributes = [*attributes, attribute(CONTENT_TYPE, oid(DATA)), attribute(MESSAGE_DIGEST, octets(context.finalize()))]
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    scheme = (ec.ECDSA(algorithm()),) if elliptic else (asymmetric.PKCS1v15(), algorithm())
    signature = bytearray(key.sign(der(0x31, *order(attributes)), *scheme))
    if spoil:
        signature[-1] ^= 1
    info = seq(oid(DATA), der(0xA0, octets(content))) if content is not None else seq(oid(DATA))
    signer = seq(integer(1), cert_id(certificate), seq(oid(digest_oid), NULL), der(0xA0, *order(attributes)),
                 seq(oid(ECDSA_SHA256)) if elliptic else seq(oid(RSA_ENCRYPTION), NULL), octets(bytes(signature)))
    shown = [certificate] if certificates is None else certificates
    return seq(oid(SIGNED), der(0xA0, seq(
        integer(1), set_of(seq(oid(digest_oid), NULL)), info,
        der(0xA0, *(c.public_bytes(serialization.Encoding.DER) for c in shown)), set_of(signer))))


def text(value, tag=PRINTABLE):
    return der(tag, value.encode())


def scep_attributes(kind, transaction, nonce, without=(), also=()):
    attributes = {MESSAGE_TYPE: attribute(MESSAGE_TYPE, text(str(kind))), TRANSACTION_ID: attribute(TRANSACTION_ID, text(transaction)),
                  SENDER_NONCE: attribute(SENDER_NONCE, octets(nonce))}
    return [value for key, value in attributes.items() if key not in without] + list(also)


class Message:
    """A request, and what it takes to read its answer."""

    def __init__(self, server, key, certificate, content, kind=PKCS_REQ, transaction=None, digest="sha256", cipher="aes128", oaep=False,
                 envelope_bytes=None, **options):
        self.server, self.key, self.certificate = server, key, certificate
        self.transaction, self.nonce = transaction or os.urandom(16).hex(), os.urandom(16)
        signing = {name: options.pop(name) for name in ("spoil", "certificates", "order") if name in options}
        inner = envelope_bytes if envelope_bytes is not None else envelope(content, server.encrypt, cipher, oaep)
        self.bytes = signed(inner, scep_attributes(kind, self.transaction, self.nonce, **options), certificate, key, digest, **signing)

    def send(self):
        return self.server.post(self.bytes, self)


class Server:
    """What a client knows of one; ra: certificates of GetCACert."""

    def __init__(self, url, http, ra):
        self.url, self.http = url, http
        usages = [(c, c.extensions.get_extension_for_class(x509.KeyUsage).value) for c in ra]
        self.encrypt = next(c for c, usage in usages if usage.key_encipherment)
        self.sign = next(c for c, usage in usages if usage.digital_signature)

    def post(self, data, message=None):
        answer = self.http.post(f"{self.url}?operation=PKIOperation", data=data, timeout=60,
                                headers={"Content-Type": "application/x-pki-message"})
        return Reply(answer, self, message)


class Reply:
    """An answer: its HTTP status, and where it is a CertRep what is in it, verified."""

    def __init__(self, http, server, message):
        self.http, self.status_code, self.bytes = http, http.status_code, http.content
        self.status = None
        if http.status_code != 200:
            return
        assert http.headers["Content-Type"] == "application/x-pki-message"
        [(_, info, _)] = parse(http.content)
        self.signed = parse(parse(info)[1][1])[0][1]
        parts = parse(self.signed)
        content = parse(parts[2][1])
        self.content_info = content[1][2]
        self.envelope = parse(content[1][1])[0][1]
        certificates = [x509.load_der_x509_certificate(whole) for _, _, whole in parse(parts[3][1])]
        assert certificates == [server.sign]
        [(_, signer, _)] = parse(parts[4][1])
        fields = parse(signer)
        attributes = fields[3]
        self.attributes = {}
        for _, one, _ in parse(attributes[1]):
            kind, values = parse(one)
            assert kind[2] not in self.attributes
            [value] = parse(values[1])
            self.attributes[kind[2]] = value
        self.digest = next(n for n, (dotted, _) in DIGESTS.items() if oid(dotted) == parse(fields[2][1])[0][2])
        server.sign.public_key().verify(fields[5][1], der(0x31, attributes[1]), asymmetric.PKCS1v15(), DIGESTS[self.digest][1]())
        context = hashes.Hash(DIGESTS[self.digest][1]())
        context.update(self.envelope)
        assert self.value(MESSAGE_DIGEST) == context.finalize()
        assert self.number(MESSAGE_TYPE) == CERT_REP
        self.status = self.number(PKI_STATUS)
        self.fail_info = self.number(FAIL_INFO)
        assert (self.status == FAILURE) == (self.fail_info is not None)
        if self.status != SUCCESS:
            assert self.content_info == bytes.fromhex("a0020400")
        if message is not None:
            assert self.value(TRANSACTION_ID) == message.transaction.encode()
            assert self.value(RECIPIENT_NONCE) == message.nonce
            assert len(self.value(SENDER_NONCE)) == 16 and self.value(SENDER_NONCE) != message.nonce
            if self.status == SUCCESS:
                self.open(message.key, message.certificate)

    def value(self, kind):
        found = self.attributes.get(oid(kind))
        return found and found[1]

    def number(self, kind):
        value = self.value(kind)
        return None if value is None else int(value)

    def open(self, key, certificate):
        """.certificates and .crl, by the recipient."""
        [(_, info, _)] = parse(self.envelope)
        parts = parse(parse(parse(info)[1][1])[0][1])
        [(_, recipient, _)] = parse(parts[1][1])
        _, who, algorithm, encrypted = parse(recipient)
        assert who[2] == cert_id(certificate)
        self.oaep = parse(algorithm[1])[0][2] == oid(RSA_OAEP)
        scheme = asymmetric.OAEP(asymmetric.MGF1(hashes.SHA1()), hashes.SHA1(), None) if self.oaep else asymmetric.PKCS1v15()
        content_key = key.decrypt(encrypted[1], scheme)
        _, cipher, ciphertext = parse(parts[2][1])
        kind, iv = parse(cipher[1])
        self.cipher = next(n for n, (dotted, *_) in CIPHERS.items() if oid(dotted) == kind[2])
        _, algorithm, _, block = CIPHERS[self.cipher]
        decryptor = Cipher(algorithm(content_key), modes.CBC(iv[1])).decryptor()
        unpadder = padding.PKCS7(block * 8).unpadder()
        plain = unpadder.update(decryptor.update(ciphertext[1]) + decryptor.finalize()) + unpadder.finalize()
        [(_, info, _)] = parse(plain)
        fields = parse(parse(parse(info)[1][1])[0][1])
        self.certificates, self.crl = [], None
        for tag, inner, _ in fields:
            if tag == 0xA0:
                self.certificates = [x509.load_der_x509_certificate(whole) for _, _, whole in parse(inner)]
            elif tag == 0xA1 and inner:
                self.crl = x509.load_der_x509_crl(inner)


def new_key(bits=2048, exponent=65537):
    return rsa.generate_private_key(exponent, bits)
