# SPDX-License-Identifier: MIT
"""The SCEP server, asked with messages that are put together here: who may ask what with which algorithms, what comes twice,
what is forged, and how answers look."""

import base64
import datetime
import http.client
import http.server
import json
import os
import re
import socket
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import padding as asymmetric

from rig import Rig, run, wait_until
from scep_message import (BAD_ALG, BAD_CERT_ID, BAD_MESSAGE_CHECK, BAD_REQUEST, CERT_POLL, CIPHERS, DIGESTS, FAIL_INFO_TEXT, FAILURE,
                          GET_CERT, GET_CRL, IA5, MESSAGE_TYPE, NULL, PKCS_REQ, PRINTABLE, RECIPIENT_NONCE, RENEWAL_REQ, SENDER_NONCE, SIGNED,
                          SUCCESS, T61, TRANSACTION_ID, UTF8, Message, Reply, Server, attribute, cert_id, der, envelope, integer,
                          make_csr, name, new_key, octets, oid, parse, scep_attributes, self_signed, seq, signed, text)
from scep_message import CHALLENGE as CHALLENGE_PASSWORD
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep

KEYS = [new_key() for _ in range(3)]
SUBJECT = "O=Contoso, CN=dev1"
SID = "1.3.6.1.4.1.311.25.2"


class Hook(http.server.BaseHTTPRequestHandler):
    """Accepts what says so in its transaction, and remembers what it was asked."""
    asked = []
    status = 200

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Hook.asked.append(question)
        body = json.dumps({"accepted": "good" in question["transactionId"]}).encode()
        self.send_response(Hook.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class World:
    """One connector with a SCEP profile of each kind."""

    def __init__(self):
        self.rig = Rig()
        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        self.service = self.rig.service()
        self.secrets = self.rig.folder / "scep.secrets"
        self.rig.private_file(self.secrets, "\n".join(f"once-{i}" for i in range(200)).encode() + b"\n")
        self.next_ca = self_signed(new_key(), "CN=The next CA")
        next_file = self.rig.folder / "next-ca.pem"
        self.rig.private_file(next_file, self.next_ca.public_bytes(serialization.Encoding.PEM))
        secret = f"challenge = static\nchallenge-secret = file:{self.rig.folder}/scep.secret\n"
        self.scep = connector_with_scep(
            self.rig, self.service, self.rig.token(kinds=TOKEN_KEYS), overrides={"service.allow-http": "yes"}, extra=f"""
[scep-profile "3des"]
legacy = 3des
{secret}
[scep-profile "des"]
legacy = des
{secret}
[scep-profile "queries"]
queries = yes
chain-in-reply = yes
{secret}
[scep-profile "once"]
challenge = file
challenge-file = {self.secrets}

[scep-profile "hook"]
challenge = hook
challenge-url = http://127.0.0.1:{self.hook.server_port}/

[scep-profile "service"]
challenge = service

[scep-profile "sid"]
profile = sid-uri
{secret}
[scep-profile "sid-extension"]
profile = user
{secret}
[scep-profile "late"]
renewal-window = 1d
{secret}
[scep-profile "grace"]
renewal-grace = 1d
{secret}
[scep-profile "next"]
next-ca = {next_file}
root-in-chain = no
{secret}
""")
        self.http = requests.Session()
        self.http.trust_env = False
        self.authority = self.scep.authority
        self.ra = x509_chain(self.scep)
        self.issuer = self.ra[-1]

    def server(self, profile=""):
        return Server(self.scep.url + (f"/{profile}" if profile else ""), self.http, self.ra[:-1])

    def message(self, profile="", key=KEYS[0], challenge=CHALLENGE, subject=SUBJECT, csr=None, signer=None, csr_key=None, **options):
        """A first enrolment unless options say otherwise."""
        content = csr or make_csr(csr_key or key, subject, challenge)
        return Message(self.server(profile), key, signer or self_signed(key), content, **options)

    def enrol(self, **options):
        reply = self.message(**options).send()
        assert reply.status == SUCCESS, (reply.status, reply.fail_info, reply.value(FAIL_INFO_TEXT))
        return reply.certificates[0]

    def issued(self):
        return [c for c in self.authority.listed() if c["profile"] != "scep-ra"]

    def close(self):
        self.hook.shutdown()
        self.hook.server_close()
        self.rig.close()


def x509_chain(scep):
    """GetCACert: the RA's two, and the CA's."""
    kind, body = scep.get("GetCACert")
    assert kind == "application/x-x509-ca-ra-cert"
    fields = parse(parse(parse(parse(body)[0][1])[1][1])[0][1])
    return [x509.load_der_x509_certificate(whole) for _, _, whole in parse(next(inner for tag, inner, _ in fields if tag == 0xA0))]


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


def certify(key, issuer, issuer_key, subject=SUBJECT, days=30, before=1, serial=None):
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(issuer).public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=before))
            .not_valid_after(now + datetime.timedelta(days=days)).sign(issuer_key, hashes.SHA256()))


def refused(reply, fail_info):
    assert reply.status_code == 200
    assert (reply.status, reply.fail_info) == (FAILURE, fail_info), reply.value(FAIL_INFO_TEXT)
    assert reply.value(FAIL_INFO_TEXT)


# ---- who may ask, and how ----

@pytest.fixture(scope="module")
def signers(world):
    """Certificates to sign with, each of KEYS[0], and whether a renewal with it is good."""
    key, stranger = KEYS[0], new_key()
    current, renewed = world.enrol(), world.enrol()
    assert world.message(signer=renewed, challenge=None).send().status == SUCCESS
    revoked, held = world.enrol(), world.enrol()
    for certificate, reason in ((revoked, "keyCompromise"), (held, "certificateHold")):
        world.scep.connector.cli("ca", "revoke", "--serial", f"{certificate.serial_number:X}", "--reason", reason)
    csr = world.scep.connector.folder / "expired.csr"
    csr.write_bytes(make_csr(key, SUBJECT))
    csr.chmod(0o644)
    said = world.scep.connector.cli("ca", "issue", "--profile", "server", "--validity", "1s", "--csr", csr)
    expired = x509.load_pem_x509_certificate(said.stdout.encode())
    wait_until(lambda: datetime.datetime.utcnow() > expired.not_valid_after + datetime.timedelta(seconds=1), "the certificate has expired")
    return {
        "self-signed": self_signed(key),
        "expired": expired,
        "current": current,
        "renewed already": renewed,
        "revoked": revoked,
        "held": held,
        "another CA's": certify(key, name("CN=Another CA"), stranger),
        "forged in the CA's name": certify(key, world.issuer.subject, stranger),
        "self-signed with a serial of 33 bytes": self_signed(key, serial=int.from_bytes(b"\x31" * 19, "big")),
    }


# What becomes of (messageType, signer), with and without a challenge in the request.
MATRIX = {
    (PKCS_REQ, "self-signed"): (None, BAD_REQUEST),
    (PKCS_REQ, "self-signed with a serial of 33 bytes"): (None, BAD_REQUEST),
    (PKCS_REQ, "current"): (None, None),  # a renewal, by clients that have no other word for it
    (PKCS_REQ, "renewed already"): (None, None),  # it is good until it ends: the answer may have been lost
    (PKCS_REQ, "expired"): (BAD_REQUEST, BAD_REQUEST),
    (PKCS_REQ, "revoked"): (BAD_REQUEST, BAD_REQUEST),
    (PKCS_REQ, "held"): (BAD_REQUEST, BAD_REQUEST),
    (PKCS_REQ, "another CA's"): (BAD_REQUEST, BAD_REQUEST),
    (PKCS_REQ, "forged in the CA's name"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "self-signed"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "current"): (None, None),
    (RENEWAL_REQ, "renewed already"): (None, None),
    (RENEWAL_REQ, "expired"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "revoked"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "held"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "another CA's"): (BAD_REQUEST, BAD_REQUEST),
    (RENEWAL_REQ, "forged in the CA's name"): (BAD_REQUEST, BAD_REQUEST),
    (3, "self-signed"): (BAD_REQUEST, BAD_REQUEST),
    (18, "current"): (BAD_REQUEST, BAD_REQUEST),
    (0, "self-signed"): (BAD_REQUEST, BAD_REQUEST),
    (CERT_POLL, "self-signed"): (BAD_REQUEST, BAD_REQUEST),
    (GET_CERT, "current"): (BAD_REQUEST, BAD_REQUEST),  # not offered by this profile
    (GET_CRL, "current"): (BAD_REQUEST, BAD_REQUEST),
}


@pytest.mark.parametrize("kind, signer", MATRIX)
def test_type_and_signer(world, signers, kind, signer):
    for want, challenge in zip(MATRIX[kind, signer], (CHALLENGE, None)):
        before = len(world.issued())
        reply = world.message(signer=signers[signer], kind=kind, challenge=challenge).send()
        if want is None:
            assert reply.status == SUCCESS
            assert len(world.issued()) == before + 1
        else:
            refused(reply, want)
            assert len(world.issued()) == before


DIGESTS_OF = {"": {"sha256", "sha384", "sha512"}, "3des": {"sha256", "sha384", "sha512", "sha1"}, "des": {"sha256", "sha384", "sha512", "sha1"}}
CIPHERS_OF = {"": {"aes128", "aes192", "aes256"}, "3des": {"aes128", "aes192", "aes256", "3des"}, "des": set(CIPHERS)}


@pytest.mark.parametrize("profile", ["", "3des", "des"])
def test_digest_and_cipher(world, signers, profile):
    """Answers are in what the request was in; SHA-1 alone never vouches for a renewal."""
    for digest in DIGESTS:
        for cipher in CIPHERS:
            good = digest in DIGESTS_OF[profile] and cipher in CIPHERS_OF[profile]
            reply = world.message(profile, digest=digest, cipher=cipher).send()
            if good:
                assert reply.status == SUCCESS, (digest, cipher)
                assert (reply.digest, reply.cipher, reply.oaep) == (digest, cipher, False)
            else:
                refused(reply, BAD_ALG)
                assert reply.digest == (digest if digest in DIGESTS_OF[profile] else "sha256")
        renewal = world.message(profile, digest=digest, signer=signers["current"], challenge=None).send()
        if digest in DIGESTS_OF[profile] and digest != "sha1":
            assert renewal.status == SUCCESS
        else:
            refused(renewal, BAD_ALG)
        renewal = world.message(profile, digest=digest, signer=signers["current"]).send()
        assert renewal.status == (SUCCESS if digest in DIGESTS_OF[profile] else FAILURE)


def test_oaep_is_answered_with_oaep(world):
    reply = world.message(oaep=True, cipher="aes256").send()
    assert reply.status == SUCCESS and reply.oaep and reply.cipher == "aes256"


# ---- requests that are refused ----

def csr_with(*challenges):
    """A CSR with a challengePassword attribute for each set of values."""
    info = parse(parse(make_csr(KEYS[0], SUBJECT))[0][1])[0]
    parts = [whole for _, _, whole in parse(info[1])][:3]
    info = seq(*parts, der(0xA0, *(seq(oid(CHALLENGE_PASSWORD), values) for values in challenges)))
    algorithm = seq(oid("1.2.840.113549.1.1.11"), NULL)
    return seq(info, algorithm, der(0x03, b"\0" + KEYS[0].sign(info, asymmetric.PKCS1v15(), hashes.SHA256())))


def spoil_csr(der):
    return der[:-1] + bytes([der[-1] ^ 1])


def refusals():
    other, weak, exponent, elliptic = new_key(), new_key(1024), new_key(2048, 3), ec.generate_private_key(ec.SECP256R1())
    key = KEYS[0]
    ca = (x509.BasicConstraints(True, None), True)
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False)
    policies = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.21.10"), b"\x30\x00"), False)
    return {
        "another key than the signer's": ({"csr_key": other}, BAD_REQUEST),
        "a wrong challenge": ({"challenge": CHALLENGE + "x"}, BAD_REQUEST),
        "an empty challenge": ({"challenge": ""}, BAD_REQUEST),
        "no challenge": ({"challenge": None}, BAD_REQUEST),
        "a bad signature of the CSR": ({"csr": spoil_csr(make_csr(key, SUBJECT, CHALLENGE))}, BAD_REQUEST),
        "an MD5 CSR": ({"csr": make_csr(key, SUBJECT, CHALLENGE, hashes.MD5)}, BAD_ALG),
        "a SHA-1 CSR": ({"csr": make_csr(key, SUBJECT, CHALLENGE, hashes.SHA1)}, BAD_ALG),
        "a key of 1024 bits": ({"key": weak}, BAD_ALG),
        "an exponent of 3": ({"key": exponent}, BAD_ALG),
        "an EC key in the CSR": ({"csr": make_csr(elliptic, SUBJECT, CHALLENGE)}, BAD_REQUEST),
        "a CA": ({"csr": make_csr(key, SUBJECT, CHALLENGE, extensions=[ca])}, BAD_REQUEST),
        "an unknown extension": ({"csr": make_csr(key, SUBJECT, CHALLENGE, extensions=[unknown])}, BAD_REQUEST),
        "application policies": ({"csr": make_csr(key, SUBJECT, CHALLENGE, extensions=[policies])}, BAD_REQUEST),
        "a subject that the profile does not allow": ({"subject": "C=DE, CN=dev1"}, BAD_REQUEST),
        "no CSR at all": ({"csr": b"\x30\x03\x02\x01\x00"}, BAD_MESSAGE_CHECK),
        "a CSR and something behind it": ({"csr": make_csr(key, SUBJECT, CHALLENGE) + b"\0"}, BAD_MESSAGE_CHECK),
        "a bad signature of the message": ({"spoil": True}, BAD_MESSAGE_CHECK),
        "no messageType": ({"without": [MESSAGE_TYPE]}, BAD_REQUEST),
    }


@pytest.mark.parametrize("what", refusals())
def test_refused(world, what):
    options, fail_info = refusals()[what]
    before = len(world.issued())
    reply = world.message(**options).send()
    refused(reply, fail_info)
    assert len(world.issued()) == before
    assert CHALLENGE.encode() not in reply.bytes


@pytest.mark.parametrize("what", ["no transactionID", "no senderNonce", "no certificate", "two signers", "garbage", "nothing", "cut short"])
def test_what_cannot_be_answered(world, what):
    message = world.message(without={"no transactionID": [TRANSACTION_ID], "no senderNonce": [SENDER_NONCE]}.get(what, ()),
                            **({"certificates": []} if what == "no certificate" else {}))
    data = message.bytes
    if what == "two signers":
        # The SET of SignerInfos, doubled; lengths along the way grow with it.
        parts = parse(parse(parse(parse(data)[0][1])[1][1])[0][1])
        [(_, _, signer)] = parse(parts[4][1])
        data = seq(oid(SIGNED), der(0xA0, seq(*(p[2] for p in parts[:4]), der(0x31, signer, signer))))
    data = {"garbage": os.urandom(500), "nothing": b"", "cut short": data[:-10]}.get(what, data)
    assert world.server().post(data).status_code == 400


def test_an_ec_key_signs_a_message(world):
    """The answer could not be encrypted for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(key)
    transaction, nonce = os.urandom(16).hex(), os.urandom(16)
    content = envelope(make_csr(key, SUBJECT, CHALLENGE), world.server().encrypt)
    before = len(world.issued())
    reply = world.server().post(signed(content, scep_attributes(PKCS_REQ, transaction, nonce), certificate, key))
    refused(reply, BAD_ALG)
    assert (reply.value(TRANSACTION_ID), reply.value(RECIPIENT_NONCE)) == (transaction.encode(), nonce)
    assert len(world.issued()) == before


@pytest.mark.parametrize("tag, transaction", [
    (PRINTABLE, b"1"), (PRINTABLE, b"7" * 128), (UTF8, "Ger\u00e4t_1@contoso".encode()), (T61, b"*&;<script>\x1b[2J\r\n"), (IA5, b"a_b")])
@pytest.mark.parametrize("size", [1, 16, 64])
def test_what_is_echoed(world, tag, transaction, size):
    """The bytes as they came; and the type, where the string is none that a PrintableString could be."""
    nonce = os.urandom(size)
    transaction = transaction[:120] + os.urandom(4).hex().encode()
    attributes = [attribute(MESSAGE_TYPE, text(str(PKCS_REQ))), attribute(TRANSACTION_ID, der(tag, transaction)),
                  attribute(SENDER_NONCE, octets(nonce))]
    for challenge, want in ((CHALLENGE, SUCCESS), ("wrong", FAILURE)):
        content = envelope(make_csr(KEYS[0], SUBJECT, challenge), world.server().encrypt)
        reply = world.server().post(signed(content, attributes, self_signed(KEYS[0]), KEYS[0]))
        assert reply.status == want
        assert (reply.value(TRANSACTION_ID), reply.value(RECIPIENT_NONCE)) == (transaction, nonce)
        if tag != PRINTABLE and not re.fullmatch(rb"[A-Za-z0-9 '()+,./:=?-]*", transaction):
            assert reply.attributes[oid(TRANSACTION_ID)][0] == tag


def test_challenges_of_other_string_types(world):
    types = {"PrintableString": (PRINTABLE, CHALLENGE.encode()), "T61String": (T61, CHALLENGE.encode()), "IA5String": (IA5, CHALLENGE.encode()),
             "BMPString": (0x1E, CHALLENGE.encode("utf-16-be"))}
    for kind, (tag, value) in types.items():
        assert world.message(csr=csr_with(der(0x31, der(tag, value)))).send().status == SUCCESS, kind
        refused(world.message(csr=csr_with(der(0x31, der(tag, value[:-2])))).send(), BAD_REQUEST)
    twice = der(0x31, text(CHALLENGE, UTF8), text(CHALLENGE, UTF8))
    refused(world.message(csr=csr_with(twice)).send(), BAD_REQUEST)
    one = der(0x31, text(CHALLENGE, UTF8))
    refused(world.message(csr=csr_with(one, one)).send(), BAD_REQUEST)


def test_attributes_of_other_string_types(world):
    for tag in (UTF8, T61):
        nonce = os.urandom(16)
        attributes = [attribute(MESSAGE_TYPE, text(str(PKCS_REQ), tag)), attribute(TRANSACTION_ID, text("a transaction", tag)),
                      attribute(SENDER_NONCE, octets(nonce))]
        data = signed(envelope(make_csr(KEYS[0], SUBJECT, CHALLENGE), world.server().encrypt), attributes, self_signed(KEYS[0]), KEYS[0])
        assert world.server().post(data).status == SUCCESS


# ---- what comes twice ----

def admin_events(world, transaction):
    return [event["id"] for event in world.scep.admin_events() if event.get("transactionId") == transaction]


def test_the_same_message_gets_the_same_answer(world):
    message = world.message()
    first = message.send()
    before = len(world.issued())
    assert {message.send().bytes for _ in range(3)} == {first.bytes}
    assert len(world.issued()) == before
    wait_until(lambda: admin_events(world, message.transaction) == [4000], "one admin event")
    bad = world.message(challenge="wrong")
    assert bad.send().bytes == bad.send().bytes
    wait_until(lambda: admin_events(world, bad.transaction) == [4001], "one admin event")


def test_the_same_request_in_another_message_gets_the_same_certificate(world):
    csr = make_csr(KEYS[0], SUBJECT, CHALLENGE)
    replies = [world.message(csr=csr, transaction="the same").send() for _ in range(2)]
    assert replies[0].bytes != replies[1].bytes
    assert replies[0].certificates == replies[1].certificates
    # Another request of the same transaction is another.
    other = world.message(csr=make_csr(KEYS[0], SUBJECT, CHALLENGE, dns=["dev1.contoso.example"]), transaction="the same").send()
    assert other.certificates != replies[0].certificates
    wait_until(lambda: admin_events(world, "the same") == [4000, 4000], "one admin event for each of the two")


def test_the_service_is_asked_once(world):
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    csr = make_csr(KEYS[0], SUBJECT, made["challenge"])
    replies = [world.message("service", csr=csr, transaction="asked once").send() for _ in range(3)]
    assert len({r.certificates[0] for r in replies}) == 1

    def told():
        [transaction] = world.service.admin("GET", "scepTransactions?transactionId=asked%20once")["value"]
        return transaction.get("notification") and transaction
    transaction = wait_until(told, "the service was told")
    assert transaction["validations"] == 1 and transaction["notification"]["count"] == 1
    certificate = replies[0].certificates[0]
    members = transaction["notification"]["members"]
    assert members["certificateThumbprint"] == certificate.fingerprint(hashes.SHA1()).hex().upper()
    assert int(members["certificateSerialNumber"], 16) == certificate.serial_number
    # The same challenge with another key is for nobody.
    refused(world.message("service", key=KEYS[1], challenge=made["challenge"]).send(), BAD_REQUEST)


def test_the_service_refuses(world):
    """And is not told of what it refused itself; of what we refuse, it is."""
    refused(world.message("service", challenge="forged", transaction="forged").send(), BAD_REQUEST)
    assert admin_events(world, "forged") == [] or wait_until(lambda: admin_events(world, "forged") == [4001], "its event")
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,C=DE"})["challenges"]
    refused(world.message("service", challenge=made["challenge"], subject="C=DE, CN=dev1", transaction="against our rules").send(), BAD_REQUEST)

    def told():
        [transaction] = world.service.admin("GET", "scepTransactions?transactionId=against%20our%20rules")["value"]
        return transaction.get("notification") and transaction
    notification = wait_until(told, "the service was told")["notification"]
    assert notification["kind"] == "failure" and notification["count"] == 1
    assert "C" in notification["members"]["errorDescription"]
    wait_until(lambda: admin_events(world, "against our rules") == [4001], "one admin event")


def test_a_renewal_is_for_whom_the_old_certificate_is(world):
    current = world.enrol(csr=make_csr(KEYS[0], SUBJECT, CHALLENGE, dns=["dev1.contoso.example"]))
    for subject, dns in (("O=Contoso, CN=dev2", ["dev1.contoso.example"]), (SUBJECT, []), (SUBJECT, ["dev1.contoso.example", "dev2.contoso.example"])):
        refused(world.message(signer=current, csr=make_csr(KEYS[1], subject, dns=dns)).send(), BAD_REQUEST)
    csr = make_csr(KEYS[1], SUBJECT, dns=["dev1.contoso.example"])
    first = world.message(signer=current, csr=csr, transaction="renewal").send().certificates[0]
    assert first.public_key().public_numbers() == KEYS[1].public_key().public_numbers()
    # Sent again it is the same; with the new certificate it is another renewal.
    assert world.message(signer=current, csr=csr, transaction="renewal").send().certificates == [first]
    second = world.message(key=KEYS[1], signer=first, csr=csr, transaction="renewal").send().certificates[0]
    assert second != first
    # A renewal with a wrong challenge is none.
    refused(world.message(signer=current, challenge="wrong").send(), BAD_REQUEST)


def test_too_early_to_renew(world):
    current = world.enrol(profile="late")
    refused(world.message("late", signer=current, challenge=None).send(), BAD_REQUEST)


def test_late_but_in_the_time_of_grace(world, signers):
    assert world.message("grace", signer=signers["expired"], challenge=None).send().status == SUCCESS


# ---- challenges ----

def test_a_secret_of_the_file_is_good_once(world):
    assert world.message("once", challenge="once-0").send().status == SUCCESS
    refused(world.message("once", challenge="once-0", key=KEYS[1]).send(), BAD_REQUEST)
    refused(world.message("once", challenge="once-0", subject="O=Contoso, CN=dev2").send(), BAD_REQUEST)
    refused(world.message("once", challenge="once-").send(), BAD_REQUEST)
    assert world.message("once", challenge="once-1").send().status == SUCCESS


def test_a_hundred_replays_of_one_challenge(world):
    """At once, each another request: one certificate."""
    before = len(world.issued())
    messages = [world.message("once", key=KEYS[i % 3], challenge="once-50", subject=f"O=Contoso, CN=replay{i}") for i in range(100)]
    sessions = [requests.Session() for _ in range(100)]
    for message, session in zip(messages, sessions):
        session.trust_env = False
        message.server = Server(message.server.url, session, world.ra[:-1])
    with ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(lambda message: message.send(), messages))
    assert [r.status for r in replies].count(SUCCESS) == 1
    assert len(world.issued()) == before + 1


def test_a_hundred_times_the_same_message(world):
    before = len(world.issued())
    message = world.message("once", challenge="once-60")

    def send(_):
        return requests.post(f"{message.server.url}?operation=PKIOperation", data=message.bytes, timeout=60, proxies={"http": None})
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(send, range(100)))
    replies = [Reply(answer, message.server, message) for answer in answers]
    assert {r.status for r in replies} == {SUCCESS}
    assert len({r.certificates[0] for r in replies}) == 1
    assert len(world.issued()) == before + 1


def test_hook(world):
    assert world.message("hook", challenge="for the hook", transaction="good 1").send().status == SUCCESS
    refused(world.message("hook", challenge="for the hook 2", transaction="bad 1").send(), BAD_REQUEST)
    assert [q["transactionId"] for q in Hook.asked] == ["good 1", "bad 1"]
    assert Hook.asked[0]["profile"] == "hook" and not Hook.asked[0]["renewal"]
    csr = x509.load_der_x509_csr(base64.b64decode(Hook.asked[0]["certificateRequest"]))
    assert csr.subject == name(SUBJECT)
    # Its challenge is spent on the first request, whatever the hook says of another; the same request needs no asking.
    csr = make_csr(KEYS[0], SUBJECT, "for the hook 4")
    certificate = world.message("hook", csr=csr, transaction="good 4").send().certificates[0]
    assert world.message("hook", csr=csr, transaction="good 4").send().certificates == [certificate]
    assert [q["transactionId"] for q in Hook.asked].count("good 4") == 1
    refused(world.message("hook", key=KEYS[1], challenge="for the hook 4", transaction="good 5").send(), BAD_REQUEST)
    # A hook that is out of order refuses nobody.
    Hook.status = 500
    try:
        answer = world.message("hook", challenge="for the hook 3", transaction="good 2").send()
        assert answer.status_code == 503 and int(answer.http.headers["Retry-After"]) > 0
    finally:
        Hook.status = 200


def test_a_sid_needs_somebody_who_vouches_for_it(world):
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001")])
    sid = octets(b"S-1-5-21-1-2-3-1001")
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(SID), seq(der(0xA0, oid(SID + ".1"), der(0xA0, sid))))
    for profile in ("sid", "sid-extension"):
        for asked in (uri, extension):
            certificate = world.enrol(profile=profile, csr=make_csr(KEYS[0], SUBJECT, CHALLENGE, extensions=[(asked, False)]))
            assert b"S-1-5-21" not in certificate.public_bytes(serialization.Encoding.DER)


# ---- queries ----

def test_poll_of_what_is_done(world):
    message = world.message(transaction="polled")
    certificate = message.send().certificates[0]
    issuer_and_subject = seq(world.issuer.subject.public_bytes(), name(SUBJECT).public_bytes())
    for _ in range(2):
        assert world.message(csr=issuer_and_subject, kind=CERT_POLL, transaction="polled").send().certificates == [certificate]
    refused(world.message(key=KEYS[1], csr=issuer_and_subject, kind=CERT_POLL, transaction="polled").send(), BAD_REQUEST)
    refused(world.message(csr=issuer_and_subject, kind=CERT_POLL, transaction="another").send(), BAD_REQUEST)


def test_certificates_and_crl(world, signers):
    current = signers["current"]
    ask = cert_id(current)
    reply = world.message("queries", signer=current, csr=ask, kind=GET_CERT).send()
    assert reply.certificates[0] == current and reply.crl is None
    wait_until(lambda: world.authority.is_published("corp.crl"), "there is a CRL")
    reply = world.message("queries", signer=current, csr=ask, kind=GET_CRL).send()
    assert reply.crl is not None and reply.crl.issuer == world.issuer.subject and reply.certificates == []
    unknown = seq(world.issuer.subject.public_bytes(), integer(4711))
    refused(world.message("queries", signer=current, csr=unknown, kind=GET_CERT).send(), BAD_CERT_ID)
    foreign = seq(name("CN=Another CA").public_bytes(), integer(current.serial_number))
    refused(world.message("queries", signer=current, csr=foreign, kind=GET_CERT).send(), BAD_CERT_ID)
    # Who comes late may still look at what is public; who was revoked, or is a stranger, may not.
    assert world.message("queries", signer=signers["expired"], csr=ask, kind=GET_CERT).send().certificates[0] == current
    for signer in ("self-signed", "revoked", "held", "another CA's", "forged in the CA's name"):
        for kind in (GET_CERT, GET_CRL):
            refused(world.message("queries", signer=signers[signer], csr=ask, kind=kind).send(), BAD_REQUEST)


def test_the_next_ca(world):
    """Signed by the RA, as openssl verifies; inside are the certificates that will be."""
    base = f"{world.scep.url}/next"
    assert "GetNextCACert" in world.http.get(f"{base}?operation=GetCACaps").text.split()
    answer = world.http.get(f"{base}?operation=GetNextCACert")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-x509-next-ca-cert")
    folder = world.authority.folder
    (folder / "next.der").write_bytes(answer.content)
    run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", folder / "next.der", "-CAfile", world.authority.certificate(),
        "-purpose", "any", "-out", folder / "next.p7")
    said = run("openssl", "pkcs7", "-inform", "DER", "-in", folder / "next.p7", "-print_certs")
    assert x509.load_pem_x509_certificate(said.stdout[said.stdout.index("-----BEGIN"):].encode()) == world.next_ca


def test_the_chain_may_come_with_the_certificate(world):
    reply = world.message("queries").send()
    assert reply.certificates[1:] == [world.issuer]
    assert len(world.message().send().certificates) == 1


# ---- HTTP ----

def raw(world, data):
    """What a client of its own gets for these bytes."""
    with socket.create_connection(("127.0.0.1", world.scep.port), timeout=30) as peer:
        peer.sendall(data)
        answer = b""
        while chunk := peer.recv(65536):
            answer += chunk
    return answer


ENCODINGS = {
    "as it should be": lambda data: urllib.parse.quote(base64.b64encode(data), safe=""),
    "only = is escaped": lambda data: base64.b64encode(data).decode().replace("=", "%3D"),
    "nothing is escaped": lambda data: base64.b64encode(data).decode(),
    "line ends": lambda data: urllib.parse.quote(base64.encodebytes(data), safe=""),
    "line ends of two bytes": lambda data: urllib.parse.quote(base64.encodebytes(data).replace(b"\n", b"\r\n"), safe=""),
    "the other alphabet": lambda data: base64.urlsafe_b64encode(data).decode().replace("=", "%3D"),
    "no padding": lambda data: urllib.parse.quote(base64.b64encode(data).rstrip(b"="), safe=""),
    "blanks for +": lambda data: base64.b64encode(data).decode().replace("+", "%20").replace("/", "%2F").replace("=", "%3D"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_get(world, encoding):
    for _ in range(3):  # so that + and / are in it
        message = world.message()
        path = f"/scep?operation=PKIOperation&message={ENCODINGS[encoding](message.bytes)}"
        answer = raw(world, f"GET {path} HTTP/1.1\r\nHost: scep\r\nConnection: close\r\n\r\n".encode())
        head, body = answer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ") and b"Content-Type: application/x-pki-message\r\n" in head + b"\r\n"

        class Answer:
            status_code, content, headers = 200, body, {"Content-Type": "application/x-pki-message"}
        assert Reply(Answer, message.server, message).status == SUCCESS


@pytest.mark.parametrize("message", ["", "!!!!", "AAAA%", "AAAA%4", "%00%00", "A"])
def test_get_of_what_is_no_base64(world, message):
    assert world.http.get(f"{world.scep.url}?operation=PKIOperation&message={message}").status_code == 400


def test_http_1_0(world):
    message = world.message()
    answer = raw(world, f"POST /scep?operation=PKIOperation HTTP/1.0\r\nContent-Length: {len(message.bytes)}\r\n\r\n".encode() + message.bytes)
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b" 200 " in head.splitlines()[0] and b"chunked" not in head.lower()
    assert int(re.search(rb"content-length: (\d+)", head.lower()).group(1)) == len(body)


PATHS = ["/scep", "/scep/", "/scep/pkiclient.exe", "/scep/3des", "/scep/3des/", "/scep/3des/pkiclient.exe", "/cgi-bin/pkiclient.exe"]


def test_paths_and_operations(world):
    base = f"http://127.0.0.1:{world.scep.port}"
    for path in PATHS:
        answer = world.http.get(f"{base}{path}?operation=GetCACaps&message=whatever")
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/plain"
        assert ("DES3" in answer.text.split()) == ("3des" in path)
        assert {"POSTPKIOperation", "SCEPStandard", "AES", "SHA-256", "Renewal"} <= set(answer.text.split())
        assert "GetNextCACert" not in answer.text
    for path in ("/", "/other", "/scep/none", "/scepx", "/scep/3des/other", "/cgi-bin/other"):
        assert world.http.get(f"{base}{path}?operation=GetCACaps").status_code == 404
    assert world.http.get(f"{base}/scep").status_code == 400
    assert world.http.get(f"{base}/scep?operation=GetCAChain").status_code == 501
    assert world.http.get(f"{base}/scep?operation=GetNextCACert").status_code == 404
    assert world.http.put(f"{base}/scep?operation=PKIOperation", data=b"x").status_code == 405
    assert world.http.post(f"{base}/scep?operation=PKIOperation", data=b"x" * 65537).status_code == 413
    assert world.http.get(f"{base}/scep?operation=PKIOperation&message={'A' * 16384}").status_code == 414
    # Whatever the operation of a POST is called, it is the only one that there is; and its type is not looked at.
    for query, headers in (("", {}), ("?operation=pkioperation&x=y", {"Content-Type": None}), ("?x=y", {"Content-Type": "application/octet-stream"})):
        message = world.message()
        answer = world.http.post(f"{base}/scep{query}", data=message.bytes, headers=headers)
        assert Reply(answer, message.server, message).status == SUCCESS


def test_garbage_leaves_nothing_behind(world):
    """Ten thousand posts of no message: the memory is what it was after the first few of them."""
    def resident_kib():
        with open(f"/proc/{world.scep.connector.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    start = world.message().bytes
    connection = http.client.HTTPConnection("127.0.0.1", world.scep.port, timeout=60)
    for i in range(10000):
        if i == 2000:
            before = resident_kib()
        connection.request("POST", "/scep?operation=PKIOperation", os.urandom(3000) if i % 2 else start[:100 + i % (len(start) - 100)])
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
    connection.close()
    assert resident_kib() - before < 1024


# ---- after a restart ----

def test_a_restart_forgets_nothing(world):
    csr = make_csr(KEYS[0], SUBJECT, "once-80")
    message = world.message("once", csr=csr)
    certificate = message.send().certificates[0]
    polled = world.message(transaction="polled after a restart")
    issued = polled.send().certificates[0]
    before = len(world.issued())
    assert world.scep.connector.process.stop() == 0
    world.scep.connector.start(wait=False)
    world.scep.wait_ready()
    # The answer is signed anew, as it was kept in memory alone.
    assert message.send().certificates == [certificate]
    assert world.message("once", csr=csr, transaction=message.transaction).send().certificates == [certificate]
    refused(world.message("once", challenge="once-80", key=KEYS[1]).send(), BAD_REQUEST)
    poll = seq(world.issuer.subject.public_bytes(), name(SUBJECT).public_bytes())
    assert world.message(csr=poll, kind=CERT_POLL, transaction=polled.transaction).send().certificates == [issued]
    assert len(world.issued()) == before


# ---- what is written down ----

def test_no_challenge_is_written_down(world):
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    world.enrol(profile="service", challenge=made["challenge"])
    world.enrol(profile="once", challenge="once-70")
    secrets = [CHALLENGE, made["challenge"], "once-70"]
    forms = [form for secret in secrets for form in (secret.encode(), base64.b64encode(secret.encode())[:-4], secret.encode().hex().encode())]
    places = [file for folder in (world.scep.connector.log, world.scep.connector.state) for file in folder.rglob("*") if file.is_file()]
    assert len(places) > 3
    for file in places:
        data = file.read_bytes()
        for form in forms:
            assert form not in data, (file, form)


def test_every_request_has_one_admin_event(world):
    """Of all that was asked here."""
    time.sleep(0)
    wait_until(lambda: world.scep.status()["inWork"] == 0, "nothing is in work")
    received = {event["requestId"] for event in world.scep.connector.events("--id", "4003")}

    def counts():
        found = {}
        for event in world.scep.admin_events():
            found[event["requestId"]] = found.get(event["requestId"], 0) + 1
        return found
    # A request that was told to come again, at the hook, is not at its end.
    wait_until(lambda: len(received - set(counts())) <= 1, "each has its event")
    assert set(counts().values()) == {1}
