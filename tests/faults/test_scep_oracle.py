# SPDX-License-Identifier: MIT
"""Envelopes that are wrong in every way: one answer to all of them, and no difference in its time. A difference would let
anybody decrypt other devices' messages piece by piece (Bleichenbacher 1998, and what came after)."""

import http.client
import math
import os
import pathlib
import random
import shutil
import statistics
import sys
import time

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from conftest import PIN, make_softoken  # noqa: E402
from rig import USER, Rig, as_service_user, run  # noqa: E402
from scep_message import (BAD_MESSAGE_CHECK, FAIL_INFO, FAIL_INFO_TEXT, FAILURE, MESSAGE_TYPE, PKI_STATUS, Message, Reply,  # noqa: E402
                          Server, encrypt_content, encrypt_key, enveloped, make_csr, new_key, oid, recipient_info, self_signed)
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep  # noqa: E402
from test_scep import x509_chain  # noqa: E402

# The long form is 100000: a round then tells times that are some 7 us apart, one of 10000 some 20 us.
COUNT = int(os.environ.get("SCEP_ORACLE_COUNT", "10000"))
BATCH = 1000  # messages that are made, then sent, then looked at
LIMIT = 4.5  # of |t|: by chance once in 100,000
ROUNDS = 3  # what one round finds another must find, too: the machine does other things meanwhile

KEY = new_key()
CERTIFICATE = self_signed(KEY)


def raw(certificate, block):
    """Bare RSA of a block: a padding of our own."""
    numbers = certificate.public_key().public_numbers()
    return pow(int.from_bytes(block, "big"), numbers.e, numbers.n).to_bytes((numbers.n.bit_length() + 7) // 8, "big")


def block(head, key, size=256):
    """00 02, non-zero padding, 00, key: spoiled by head, which takes the place of the beginning."""
    padding = bytes(random.randrange(1, 256) for _ in range(size - 3 - len(key)))
    whole = b"\x00\x02" + padding + b"\x00" + key
    return head + whole[len(head):]


class Spoiler:
    """Envelopes of each kind for a recipient."""

    def __init__(self, recipient, other):
        self.recipient, self.other = recipient, other
        self.csr = make_csr(KEY, "O=Contoso, CN=dev1", CHALLENGE)

    def message(self, encrypted, key, plain=None, padded=True, recipients=None, content=None):
        iv = os.urandom(16)
        ciphertext = content if content is not None else encrypt_content("aes128", key, iv, plain or self.csr, padded)
        return enveloped(recipients or [recipient_info(self.recipient, encrypted)], "aes128", iv, ciphertext)

    def bad_first_byte(self):
        key = os.urandom(16)
        return self.message(raw(self.recipient, block(b"\x00\x03", key)), key)

    def zero_in_the_padding(self):
        key = os.urandom(16)
        return self.message(raw(self.recipient, block(b"\x00\x02" + b"\x11" * 9 + b"\x00", key)), key)

    def short_key(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key[:15]), key)

    def long_key(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key + b"\x01"), key)

    def other_key(self):
        return self.message(encrypt_key(self.recipient, os.urandom(16)), os.urandom(16))

    def bad_block_padding(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key), key, self.csr + b"\0" * (-len(self.csr) % 16), padded=False)

    def no_csr(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key), key, os.urandom(len(self.csr)))

    def wrong_recipient(self):
        key = os.urandom(16)
        return self.message(None, key, recipients=[recipient_info(self.other, encrypt_key(self.recipient, key))])

    def two_recipients(self, second=None):
        key = os.urandom(16)
        one = recipient_info(self.recipient, encrypt_key(self.recipient, os.urandom(16)))
        return self.message(None, key, recipients=[one, recipient_info(second or self.recipient, encrypt_key(self.recipient, key))])

    def two_of_which_one_is_ours(self):
        return self.two_recipients(self.other)

    def short_ciphertext(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key)[:-1], key)

    def large_ciphertext(self):
        return self.message(b"\xff" * 256, os.urandom(16))

    def cut_short(self):
        key = os.urandom(16)
        return self.message(encrypt_key(self.recipient, key), key)[:-40]

    def not_one(self):
        """As long as one: how long it takes to read is no secret."""
        size = len(self.other_key()) - 4
        return b"\x30\x82" + size.to_bytes(2, "big") + os.urandom(size)


KINDS = [name for name in vars(Spoiler) if not name.startswith("_") and name != "message"]
PADDING, CONTENT = "bad_first_byte", "other_key"  # what all others are held against: a padding that is bad, and good ones of nothing good
LONGER = "two_of_which_one_is_ours"  # the same for messages that have as much to read


def references(kind):
    if kind == "two_recipients":
        return [LONGER]
    return [reference for reference in (PADDING, CONTENT) if reference != kind]


def welch(a, b):
    """t of Welch's test, of each sample's fastest nine tenths: what is slower measures the machine."""
    a, b = (sorted(x)[:len(x) * 9 // 10] for x in (a, b))
    variance = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(variance)


class Client:
    """One connection that stays, so that the time is the server's."""

    def __init__(self, scep):
        self.connection = http.client.HTTPConnection("127.0.0.1", scep.port, timeout=60)
        self.connection.connect()

    def post(self, data):
        """(body, seconds)"""
        begin = time.perf_counter()
        self.connection.request("POST", "/scep?operation=PKIOperation", data, {"Content-Type": "application/x-pki-message"})
        answer = self.connection.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - begin
        assert answer.status == 200
        return body, seconds


def same_for_all(reply):
    """What an answer says, without what is each message's own."""
    own = {oid(kind) for kind in (MESSAGE_TYPE, PKI_STATUS, FAIL_INFO, FAIL_INFO_TEXT)}
    return len(reply.bytes), tuple(sorted((kind, value[2]) for kind, value in reply.attributes.items() if kind in own)), \
        tuple(sorted(reply.attributes)), reply.content_info


class Softoken:
    """NSS's token instead of SoftHSM's, as far as the rig wants to know of one."""

    def __init__(self, rig):
        made = make_softoken(rig.folder / "softoken", "certconnector")
        self.label, self.module, self.env, self.init_args = made.label, made.module, made.env, made.init_args
        self.pin_file = rig.folder / "softoken" / "pin"
        rig.private_file(self.pin_file, PIN.encode())
        for path in [made.folder, *made.folder.rglob("*")]:
            shutil.chown(path, USER, USER)


def connector_with_softoken(rig):
    """Its keys are made by the connector's own command."""
    token = Softoken(rig)
    config = rig.folder / "provision.conf"
    config.write_text(f"[token]\nmodule = {token.module}\ninit-args = {token.init_args}\nuri = pkcs11:token={token.label}\n"
                      f"pin = file:{token.pin_file}\n")
    for role, kind in (("scep-ra-sign", "rsa2048"), ("scep-ra-encrypt", "rsa2048"), ("ca", "rsa2048"), ("ocsp", "ecP256"), ("seal", "aes256"),
                       ("pfx-import", "rsa2048")):
        run(*as_service_user([rig.programs / "certconnector", "key", "generate", "--role", role, "--type", kind, "--config", config]),
            env=dict(os.environ, **token.env))
    return connector_with_scep(rig, rig.service(), token, overrides={"token.init-args": token.init_args})


@pytest.fixture(scope="module", params=["softhsm", "softoken"])
def scep(request):
    rig = Rig()
    try:
        if request.param == "softoken":
            yield connector_with_softoken(rig)
        else:
            yield connector_with_scep(rig, rig.service(), rig.token(kinds=TOKEN_KEYS))
    finally:
        rig.close()


def measure(scep, kinds, count, check=None):
    """Seconds of each kind, in turn by chance. Nothing else is done while they are sent, so that no kind is sent after a longer pause."""
    ra = x509_chain(scep)
    server = Server(scep.url, requests.Session(), ra[:-1])
    spoiler, client = Spoiler(server.encrypt, server.sign), Client(scep)
    order = [kinds[i % len(kinds)] for i in range(count)]
    random.Random(count).shuffle(order)
    times = {kind: [] for kind in kinds}
    for begin in range(0, count, BATCH):
        batch = []
        for kind in order[begin:begin + BATCH]:
            spoil = kind == "bad_signature"
            content = getattr(spoiler, CONTENT if spoil else kind)()
            batch.append((kind, Message(server, KEY, CERTIFICATE, None, envelope_bytes=content, spoil=spoil, transaction="t" * 32)))
        answers = [(kind, message, *client.post(message.bytes)) for kind, message in batch]
        for kind, message, body, seconds in answers:
            times[kind].append(seconds)
            if check is not None:
                check(kind, message, body)
    return times


def test_one_answer_and_one_time(scep):
    answers = {}

    def check(kind, message, body):
        class Answer:
            status_code, content, headers = 200, body, {"Content-Type": "application/x-pki-message"}
        reply = Reply(Answer, message.server, message)
        assert (reply.status, reply.fail_info) == (FAILURE, BAD_MESSAGE_CHECK), kind
        answers.setdefault(same_for_all(reply), set()).add(kind)

    suspects = [(kind, reference) for kind in KINDS for reference in references(kind) if kind != LONGER]
    for _ in range(ROUNDS):
        times = measure(scep, KINDS, COUNT, check)
        assert len(answers) == 1, answers.values()
        t = {pair: welch(times[pair[0]], times[pair[1]]) for pair in suspects}
        suspects = [pair for pair in suspects if abs(t[pair]) >= LIMIT]
        if not suspects:
            break
    assert not suspects, {pair: round(t[pair], 1) for pair in suspects}
    assert scep.status()["badMessages"] >= COUNT


def test_the_test_would_find_it(scep):
    """A message whose signature is bad never gets to the token, and everybody may know that."""
    times = measure(scep, [CONTENT, "bad_signature"], max(COUNT // 20, 200))
    assert abs(welch(times["bad_signature"], times[CONTENT])) > LIMIT


def test_the_test_would_find_it_where_the_token_unpads():
    """SoftHSM takes some 15 us longer to say that a padding is bad, and that is why the bare operation is allowed unless
    somebody forbids it."""
    rig = Rig()
    try:
        scep = connector_with_scep(rig, rig.service(), rig.token(kinds=TOKEN_KEYS), overrides={"token.allow-raw-rsa": "no"})
        found = []
        while len(found) < ROUNDS and not any(abs(t) > LIMIT for t in found):
            times = measure(scep, [PADDING, CONTENT], COUNT)
            found.append(welch(times[PADDING], times[CONTENT]))
        assert any(abs(t) > LIMIT for t in found), found
    finally:
        rig.close()
