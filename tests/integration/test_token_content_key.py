# SPDX-License-Identifier: MIT
"""Content-encryption keys opened by certconnector-token: what it asks of the token, seen by a module that writes down each call."""

import struct
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

import wire
from conftest import copy_softhsm, make_softhsm
from rig import Fake
from test_token_faults import DEVICE_CODES, KEY_CODES, LOGIN_CODES, SESSION_CODES
from test_token_process import FAKE, PROGRAM, encrypt, fault, start
from wire import TokenProcess, WireError

CONTENT_KEY = bytes(range(32))
RSA_PKCS, RSA_X_509 = "mechanism=0x1", "mechanism=0x3"
GENERAL_ERROR, MECHANISM_INVALID, OPERATION_ACTIVE = 0x05, 0x70, 0x90


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_softhsm(tmp_path_factory.mktemp("model") / "token").change("rsa2048:ra:01")


@pytest.fixture
def token(model, tmp_path):
    return copy_softhsm(model, tmp_path / "token")


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def add_ra(p, role=wire.RA_ENCRYPT):
    key = p.add_key(role, "pkcs11:object=ra")
    return key, load_der_public_key(p.public(key))


def bare(public, block):
    n = public.public_numbers()
    return pow(int.from_bytes(block, "big"), n.e, n.n).to_bytes(256, "big")


def spoiled_pkcs1(public):
    """Blocks with one fault each, and ciphertexts that are none."""
    good = b"\0\2" + b"\xff" * 221 + b"\0" + CONTENT_KEY
    assert len(good) == 256
    n = public.public_numbers().n
    return [bare(public, block) for block in (
        b"\1" + good[1:],
        good[:1] + b"\1" + good[2:],
        good[:9] + b"\0" + good[10:],
        good[:100] + b"\0" + good[101:],
        good[:223] + b"\xff" + good[224:],
        good[:222] + b"\0" + good[223:],
        good[:223] + b"\xff\0" + good[225:],
        bytes(256),
    )] + [n.to_bytes(256, "big"), b"\xff" * 256, bytes(256), bytes(255), bytes(257), b""]


def open_random(p, key, encrypted, **options):
    first, second = (p.open_content_key(key, encrypted, **options) for _ in range(2))
    assert len(first) == len(second) == 32 and CONTENT_KEY not in (first, second) and first != second


def recovery(fake):
    return [name for name in ("C_OpenSession", "C_CloseSession", "C_CloseAllSessions", "C_FindObjectsInit", "C_Login", "C_Finalize")
            if fake.calls(name) != 0]


def mechanisms(fake):
    return [line[2] for line in fake.lines() if line[1] == "C_DecryptInit"]


@pytest.mark.parametrize("padding", ["pkcs1", "sha1", "sha256"])
def test_with_raw_rsa_the_token_cannot_tell_good_from_bad(token, fake, padding):
    nid = wire.NIDS.get(padding, 0)
    with start(token, FAKE, fake.env) as p:
        key, public = add_ra(p)
        good = encrypt(public, padding, CONTENT_KEY)
        assert p.open_content_key(key, good, nid=nid) == CONTENT_KEY
        fake.forget()
        bad = spoiled_pkcs1(public) + [encrypt(public, padding, CONTENT_KEY[:31]), encrypt(public, padding, CONTENT_KEY + b"x")]
        for encrypted in bad:
            open_random(p, key, encrypted, nid=nid)
            assert p.open_content_key(key, good, nid=nid) == CONTENT_KEY
        assert recovery(fake) == []
        assert mechanisms(fake) == [RSA_X_509] * 3 * len(bad)
        assert [line[2] for line in fake.lines() if line[1] == "C_Decrypt"] == ["rv=0x0"] * 3 * len(bad)


@pytest.mark.parametrize("padding", ["pkcs1", "sha1"])
def test_without_raw_rsa_the_session_stays(token, fake, padding):
    nid = wire.NIDS.get(padding, 0)
    with start(token, FAKE, fake.env, allow_raw_rsa=False) as p:
        key, public = add_ra(p)
        good = encrypt(public, padding, CONTENT_KEY)
        assert p.open_content_key(key, good, nid=nid) == CONTENT_KEY
        fake.forget()
        for encrypted in spoiled_pkcs1(public):
            open_random(p, key, encrypted, nid=nid)
            assert p.open_content_key(key, good, nid=nid) == CONTENT_KEY
        assert recovery(fake) == []
        # SoftHSM has its word for a bad padding.
        assert any(line[1] == "C_Decrypt" and line[2] == f"rv={GENERAL_ERROR:#x}" for line in fake.lines())
        assert RSA_X_509 not in mechanisms(fake)
        fault(wire.UNSUPPORTED, p.open_content_key, key, encrypt(public, "sha256", CONTENT_KEY), nid=wire.NIDS["sha256"])


def test_a_token_that_refuses_raw_rsa_is_asked_once(token, fake):
    with start(token, FAKE, fake.env) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        fake.forget()
        fake.cue(f"C_DecryptInit rv={MECHANISM_INVALID:#x} count=1")
        assert p.open_content_key(key, good) == CONTENT_KEY
        assert mechanisms(fake) == [RSA_X_509, RSA_PKCS]
        fake.cue()
        fake.forget()
        for encrypted in spoiled_pkcs1(public):
            open_random(p, key, encrypted)
            assert p.open_content_key(key, good) == CONTENT_KEY
        assert set(mechanisms(fake)) == {RSA_PKCS} and recovery(fake) == []


def test_a_token_that_can_do_neither(token, fake):
    with start(token, FAKE, fake.env) as p:
        key, public = add_ra(p)
        fake.cue(f"C_DecryptInit rv={MECHANISM_INVALID:#x}")
        for encrypted in (encrypt(public, "pkcs1", CONTENT_KEY), bytes(256), b""):
            assert "CKR_MECHANISM_INVALID" in fault(wire.UNSUPPORTED, p.open_content_key, key, encrypted)


def test_a_token_that_fails_at_raw_rsa_alone(token, fake):
    with start(token, FAKE, fake.env) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        assert p.open_content_key(key, good) == CONTENT_KEY
        for code in (GENERAL_ERROR, MECHANISM_INVALID):
            fake.cue(f"C_Decrypt say={code:#x} count=1")
            fake.forget()
            assert p.open_content_key(key, good) == CONTENT_KEY
            # What it has said of one ciphertext is not held against others.
            assert p.open_content_key(key, good) == CONTENT_KEY
            assert mechanisms(fake) == [RSA_X_509, RSA_PKCS, RSA_X_509] and recovery(fake) == []


@pytest.mark.parametrize("raw", [True, False])
def test_no_word_of_the_token_comes_out(token, fake, raw):
    with start(token, FAKE, fake.env, allow_raw_rsa=raw) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        assert p.open_content_key(key, good) == CONTENT_KEY
        for code in (0x05, 0x06, 0x07, 0x20, 0x21, 0x40, 0x41, 0x68, 0x70, 0x71, 0x54, 0x80000001):
            fake.cue(f"C_Decrypt say={code:#x}")
            fake.forget()
            open_random(p, key, good)
            assert recovery(fake) == [], hex(code)
        # Here the operation goes on: nobody else gets such a session.
        fake.cue("C_Decrypt rv=0x150 count=4")
        open_random(p, key, good)
        assert fake.calls("C_CloseSession") > 0
        fake.cue()
        assert p.open_content_key(key, good) == CONTENT_KEY


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("code", KEY_CODES + SESSION_CODES + LOGIN_CODES + DEVICE_CODES, ids=hex)
@pytest.mark.parametrize("function", ["C_DecryptInit", "C_Decrypt"])
def test_what_is_interrupted_is_repeated(token, fake, function, code, raw):
    with start(token, FAKE, fake.env, allow_raw_rsa=raw) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        fake.cue(f"{function} rv={code:#x} count=1")
        assert p.open_content_key(key, good) == CONTENT_KEY
        fake.cue(f"{function} rv={code:#x} count=1")
        open_random(p, key, bytes(256))


@pytest.mark.parametrize("encrypted", ["good", "bad", "short"])
def test_a_lost_token_is_an_error_whatever_was_sent(token, fake, encrypted):
    with start(token, FAKE, fake.env, open_timeout_ms=1000) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        sent = {"good": good, "bad": bytes(256), "short": b"x"}[encrypted]
        fake.cue("C_DecryptInit rv=0x30", "C_GetSlotList rv=0x30")
        fault(wire.UNAVAILABLE, p.open_content_key, key, sent)
        fake.cue()
        assert p.state()[0] in (wire.OPEN, wire.LOST)


@pytest.mark.parametrize("code", [0x2, 0x31], ids=["HOST_MEMORY", "DEVICE_MEMORY"])
@pytest.mark.parametrize("raw", [True, False])
def test_a_token_without_memory_does_not_judge(token, fake, code, raw):
    with start(token, FAKE, fake.env, allow_raw_rsa=raw) as p:
        key, public = add_ra(p)
        fake.cue(f"C_Decrypt rv={code:#x} count=1")
        with pytest.raises(WireError) as caught:
            p.open_content_key(key, encrypt(public, "pkcs1", CONTENT_KEY))
        assert (caught.value.domain, caught.value.code) == (wire.DOM_PKCS11, code)


@pytest.mark.parametrize("raw", [True, False])
def test_a_search_that_fails_does_not_judge(token, fake, raw):
    with start(token, FAKE, fake.env, allow_raw_rsa=raw) as p:
        key, public = add_ra(p)
        fake.cue("C_Decrypt rv=0x82 count=1", f"C_FindObjectsInit rv={GENERAL_ERROR:#x}")
        with pytest.raises(WireError) as caught:
            p.open_content_key(key, encrypt(public, "pkcs1", CONTENT_KEY))
        assert (caught.value.domain, caught.value.code) == (wire.DOM_PKCS11, GENERAL_ERROR)


def test_a_token_that_does_not_end_what_failed_costs_a_session(token, fake):
    with start(token, FAKE, fake.env, allow_raw_rsa=False) as p:
        key, public = add_ra(p)
        good = encrypt(public, "pkcs1", CONTENT_KEY)
        assert p.open_content_key(key, good) == CONTENT_KEY
        # Answered before SoftHSM has seen it, so that to SoftHSM the operation goes on.
        fake.cue(f"C_Decrypt rv={GENERAL_ERROR:#x} count=1")
        fake.forget()
        assert p.open_content_key(key, good) != CONTENT_KEY and recovery(fake) == []
        assert p.open_content_key(key, good) == CONTENT_KEY
        assert [line[3] for line in fake.lines() if line[1] == "C_DecryptInit"] == ["rv=0x0", f"rv={OPERATION_ACTIVE:#x}", "rv=0x0"]
        assert recovery(fake) == ["C_OpenSession", "C_CloseSession"]


def test_a_bad_ciphertext_is_not_logged(token):
    p = TokenProcess(PROGRAM, 2, token.env, stderr=subprocess.PIPE)
    try:
        p.setup(token.module, token.uri, token.pin, state_dir=token.folder, allow_raw_rsa=False)
        key, public = add_ra(p)
        for encrypted in spoiled_pkcs1(public):
            open_random(p, key, encrypted)
    finally:
        p.close()
    assert p.child.stderr.read() == b""
    p.child.stderr.close()


def test_only_roles_that_decrypt(token):
    with start(token) as p:
        for role in (wire.PFX_IMPORT, wire.RA_SIGN, wire.RA_ENCRYPT, wire.CA, wire.OCSP, wire.IDENTITY, wire.AUDIT):
            key, public = add_ra(p, role)
            encrypted = encrypt(public, "pkcs1", CONTENT_KEY)
            if role in (wire.PFX_IMPORT, wire.RA_ENCRYPT):
                assert p.open_content_key(key, encrypted) == CONTENT_KEY
            else:
                fault(wire.ROLE, p.open_content_key, key, encrypted)
        fault(wire.ROLE, p.open_content_key, p.add_key(wire.SEAL_ROLE, "pkcs11:object=ra"), encrypted)
        fault(wire.KEY_NOT_FOUND, p.open_content_key, p.add_key(wire.RA_ENCRYPT, "pkcs11:object=none"), encrypted)
        fault(wire.BAD_INPUT, p.open_content_key, 999, encrypted)


@pytest.mark.parametrize("oaep, length, tail", [(2, 32, b""), (0, 7, b""), (0, 65, b""), (0, 0, b""), (1, 32, b"x")])
def test_a_malformed_call_ends_the_process(token, oaep, length, tail):
    with start(token) as p:
        key, _ = add_ra(p)
        with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
            p.call(wire.OPEN_CONTENT_KEY, struct.pack(">HBHHB", key, oaep, 64, 64, length) + wire.field(bytes(256)) + tail)
        assert p.child.wait(10) != 0
