# SPDX-License-Identifier: MIT
"""certconnector-token when the token, its PIN or its module misbehaves: a fake module over SoftHSM fails on cue."""

import concurrent.futures
import hashlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

import wire
from conftest import P11_KIT_CLIENT, PIN, SOFTHSM, copy_softhsm, make_softhsm
from rig import Fake, wait_until
from test_token_process import FAKE, HASHES, PROGRAM, encrypt, fault, make_recipient, start
from wire import TokenProcess, WireError

DIGEST = hashlib.sha256(b"x").digest()
DEVICE_ERROR, TOKEN_NOT_PRESENT, GENERAL_ERROR, SESSION_COUNT = 0x30, 0xE0, 0x05, 0xB1
PIN_CODES = {"INCORRECT": 0xA0, "INVALID": 0xA1, "LEN_RANGE": 0xA2, "EXPIRED": 0xA3, "LOCKED": 0xA4}


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_softhsm(tmp_path_factory.mktemp("model") / "token").change("rsa2048:import:01", "rsa2048:ca:02")


@pytest.fixture
def token(model, tmp_path):
    """A copy of one token with its keys: making keys takes longer than most tests."""
    return copy_softhsm(model, tmp_path / "token")


def sign(p, key, **options):
    return p.sign(key, wire.SIGN_PKCS1, DIGEST, 672, **options)


# ---- The PIN ----


def test_a_wrong_pin_is_tried_once_over_ten_restarts(token, fake):
    token.set_pin_file("wrong")
    for _ in range(10):
        with start(token, FAKE, fake.env) as p:
            state, told = p.state()
            assert state == wire.PIN_REFUSED and "PIN" in told["error"]
            key = p.add_key(wire.CA, "pkcs11:object=ca")
            fault(wire.REFUSED_PIN, sign, p, key)
    assert fake.calls("C_Login") == 1
    remembered = token.folder / "pin-refused"
    assert remembered.stat().st_mode & 0o777 == 0o600
    assert "wrong" not in remembered.read_text()
    # Another PIN passes and clears it, so that later the first would be tried again.
    token.set_pin_file(PIN)
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.OPEN
    assert fake.calls("C_Login") == 2 and not remembered.exists()


def test_a_changed_pin_lets_work_go_on_without_a_restart(token, fake):
    token.set_pin_file("wrong")
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.PIN_REFUSED
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        for _ in range(3):
            fault(wire.REFUSED_PIN, sign, p, key)
        token.set_pin_file("also wrong")
        fault(wire.REFUSED_PIN, sign, p, key)
        assert fake.calls("C_Login") == 2
        token.set_pin_file(PIN)
        sign(p, key)
        assert p.state()[0] == wire.OPEN
        assert fake.calls("C_Login") == 3


def test_an_idle_process_sees_a_changed_pin_by_itself(token):
    token.set_pin_file("wrong")
    with start(token) as p:
        assert p.state()[0] == wire.PIN_REFUSED
        token.set_pin_file(PIN)
        wait_until(lambda: p.state()[0] == wire.OPEN, "the PIN was looked at again")


@pytest.mark.parametrize("code", PIN_CODES.values(), ids=PIN_CODES.keys())
def test_each_refusal_of_a_pin_is_final(token, fake, code):
    fake.cue(f"C_Login rv={code:#x}")
    for _ in range(3):
        with start(token, FAKE, fake.env) as p:
            assert p.state()[0] == wire.PIN_REFUSED
    assert fake.calls("C_Login") == 1


@pytest.mark.parametrize("flag", [0x20000, 0x40000], ids=["FINAL_TRY", "LOCKED"])
def test_a_token_about_to_lock_is_not_tried(token, fake, flag):
    fake.cue(f"C_GetTokenInfo flags={flag:#x}")
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.PIN_REFUSED
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        fault(wire.REFUSED_PIN, sign, p, key)
        assert fake.calls("C_Login") == 0
        # The security officer has helped.
        fake.cue()
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was asked again")
        sign(p, key)
        assert fake.calls("C_Login") == 1


@pytest.mark.parametrize("code", [0x102, 0xE1, 0x05])
def test_races_at_the_start_are_no_bad_pin(token, fake, code):
    fake.cue(f"C_Login rv={code:#x} count=3")
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.OPEN
        assert fake.calls("C_Login") == 4
    assert not (token.folder / "pin-refused").exists()


def test_many_processes_with_a_wrong_pin_try_it_once(token, fake):
    token.set_pin_file("wrong")
    processes = [TokenProcess(PROGRAM, 1, dict(token.env, **fake.env)) for _ in range(20)]
    try:
        for p in processes:
            p.setup(str(FAKE), token.uri, token.pin, state_dir=token.folder, open_timeout_ms=20000)
        assert [p.state(20000)[0] for p in processes] == [wire.PIN_REFUSED] * 20
    finally:
        for p in processes:
            p.close()
    assert fake.calls("C_Login") == 1


def test_a_pin_file_that_comes_later(token):
    token.pin_file.rename(token.folder / "elsewhere")
    with start(token) as p:
        state, told = p.state()
        assert state == wire.LOST and "pin" in told["error"]
        (token.folder / "elsewhere").rename(token.pin_file)
        wait_until(lambda: p.state()[0] == wire.OPEN, "the PIN was there")


# ---- Opening ----


@pytest.mark.parametrize("code", [DEVICE_ERROR, TOKEN_NOT_PRESENT, GENERAL_ERROR, SESSION_COUNT])
def test_sessions_that_fail_while_opening(token, fake, code):
    fake.cue(f"C_OpenSession rv={code:#x}")
    with start(token, FAKE, fake.env, open_timeout_ms=1500) as p:
        state, told = p.state()
        assert state == wire.LOST and "C_OpenSession" in told["error"]
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        begun = time.monotonic()
        fault(wire.UNAVAILABLE, sign, p, key)
        assert time.monotonic() - begun < 3
        fake.cue()
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was open again")
        sign(p, key)


@pytest.mark.parametrize("code", [DEVICE_ERROR, TOKEN_NOT_PRESENT, GENERAL_ERROR, SESSION_COUNT])
def test_sessions_that_fail_for_work(token, fake, code):
    with start(token, FAKE, fake.env, open_timeout_ms=1500) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        assert p.state()[0] == wire.OPEN
        fake.cue(f"C_OpenSession rv={code:#x} count=2")
        sign(p, key)
        # The other channel has no session yet.
        fake.cue(f"C_OpenSession rv={code:#x}")
        begun = time.monotonic()
        fault(wire.UNAVAILABLE, sign, p, key, channel=1)
        assert time.monotonic() - begun < 3
        fake.cue()
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was open again")
        sign(p, key, channel=1)
        sign(p, key)


@pytest.mark.parametrize("function", ["C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_GetInfo"])
def test_opening_is_tried_until_it_works(token, fake, function):
    fake.cue(f"{function} rv=0x5 count=4")
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.OPEN


def test_a_token_made_later_is_found(softhsm, tmp_path):
    token = softhsm().change("rsa2048:ca:02")
    tokens, away = token.folder / "tokens", token.folder / "away"
    tokens.rename(away)
    tokens.mkdir()
    with start(token) as p:
        state, told = p.state()
        assert state == wire.LOST and "no initialised token" in told["error"]
        shutil.rmtree(tokens)
        away.rename(tokens)
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was found")
        sign(p, p.add_key(wire.CA, "pkcs11:object=ca"))


def test_twenty_processes_open_one_writable_token(token):
    """SoftHSM loses its token from sight in processes that start together; the lock and another try cure it."""
    for _ in range(3):
        processes = [TokenProcess(PROGRAM, 1, token.env) for _ in range(20)]
        try:
            for p in processes:
                p.setup(token.module, token.uri, token.pin, state_dir=token.folder, open_timeout_ms=20000)
            assert [p.state(20000)[0] for p in processes] == [wire.OPEN] * 20
        finally:
            for p in processes:
                p.close()


# ---- Recovery ----


def swap(token, other):
    """Another token of the same label takes the place."""
    shutil.rmtree(token.folder / "tokens")
    shutil.copytree(other.folder / "tokens", token.folder / "tokens")


def test_a_token_put_back_from_its_backup(token, model):
    with start(token) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        signature = sign(p, key)
        shutil.rmtree(token.folder / "tokens")
        (token.folder / "tokens").mkdir()
        with pytest.raises(WireError) as caught:
            sign(p, key)
        assert (caught.value.domain, caught.value.code) == (wire.DOM_TOKEN, wire.UNAVAILABLE)
        swap(token, model)
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was back")
        assert sign(p, key) == signature


def test_another_token_of_the_same_name_is_not_used(token, softhsm):
    other = softhsm("other").change("rsa2048:ca:02")
    with start(token) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        sign(p, key)
        swap(token, other)
        fault(wire.KEY_REPLACED, sign, p, key)


def test_a_missing_key_of_a_token_that_tells_nothing(token, fake):
    """As SoftHSM from the login on, where it may not write to its token."""
    with start(token, FAKE, fake.env) as p:
        assert p.state()[0] == wire.OPEN
        fake.forget()
        # At first it is believed; later it is opened anew, to see what is new on it.
        key = p.add_key(wire.CA, "pkcs11:object=none")

        def is_sought_again():
            fake.cue("C_GetTokenInfo rv=0x5 count=1")
            fault(wire.KEY_NOT_FOUND, sign, p, key)
            return fake.calls("C_Finalize") > 0
        assert not is_sought_again()
        wait_until(is_sought_again, "the token was opened anew")
        assert fake.calls("C_Finalize") == 1
        fake.forget()
        assert not is_sought_again()
        sign(p, p.add_key(wire.CA, "pkcs11:object=ca"))


def test_an_empty_token_that_tells_nothing(softhsm, fake):
    with start(softhsm(), FAKE, fake.env) as p:
        assert p.state()[0] == wire.OPEN
        fake.forget()
        # Opening looks at both slots.
        fake.cue("C_GetTokenInfo rv=0x5 count=1", "C_GetTokenInfo rv=0x5 skip=2")
        fault(wire.KEY_NOT_FOUND, sign, p, p.add_key(wire.CA, "pkcs11:object=ca"))
        assert fake.calls("C_Finalize") == 1


SESSION_CODES = [0x90]
LOGIN_CODES = [0xB3, 0xB0, 0x101]
DEVICE_CODES = [DEVICE_ERROR, 0x32, TOKEN_NOT_PRESENT, 0xE1, 0x03, 0x190]
KEY_CODES = [0x60, 0x82]


@pytest.mark.parametrize("code", KEY_CODES + SESSION_CODES + LOGIN_CODES + DEVICE_CODES, ids=hex)
@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign", "C_FindObjectsInit", "C_GetAttributeValue"])
def test_an_interrupted_operation_is_repeated(token, fake, function, code):
    with start(token, FAKE, fake.env) as p:
        first, second = (p.add_key(wire.CA, f"pkcs11:object={name}") for name in ("ca", "import"))
        public = load_der_public_key(p.public(first))
        fake.forget()
        fake.cue(f"{function} rv={code:#x} count=1")
        # The second key was not searched yet.
        key = second if function in ("C_FindObjectsInit", "C_GetAttributeValue") else first
        signature = sign(p, key)
        assert fake.calls("C_Finalize") == (code in DEVICE_CODES)
        assert fake.calls("C_Login") == (code in DEVICE_CODES + LOGIN_CODES)
        if key == first:
            public.verify(signature, b"x", padding.PKCS1v15(), HASHES["sha256"])
        sign(p, first, channel=1)


@pytest.mark.parametrize("code", [0x0, GENERAL_ERROR, 0x70, 0x20, 0x6], ids=hex)
def test_an_answer_of_the_token_is_not_repeated(token, fake, code):
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        sign(p, key)
        fake.forget()
        fake.cue(f"C_Sign rv={code:#x} count=1")
        if code != 0:
            with pytest.raises(WireError) as caught:
                sign(p, key)
            assert (caught.value.domain, caught.value.code) == (wire.DOM_PKCS11, code)
            assert caught.value.text.startswith("C_Sign: CKR_")
        assert fake.calls("C_Sign") == (code != 0)
        fake.cue()
        sign(p, key)
        # The session in which it happened was closed.
        assert fake.calls("C_CloseSession") == (code != 0)


@pytest.mark.parametrize("code", [0x2, 0x31], ids=["HOST_MEMORY", "DEVICE_MEMORY"])
def test_a_token_without_memory_does_not_judge_what_was_sealed(softhsm, tmp_path, code):
    """What cannot be unsealed is given up for ever: only for its own sake."""
    token, fake = softhsm().change("aes256:seal:07"), Fake(tmp_path)
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal")
        sealed = p.seal(key, b"request", b"secret")
        fake.cue(f"C_Decrypt rv={code:#x} count=1")
        with pytest.raises(WireError) as caught:
            p.unseal(key, b"request", sealed)
        assert (caught.value.domain, caught.value.code) == (wire.DOM_PKCS11, code)
        assert p.unseal(key, b"request", sealed) == b"secret"


def test_a_token_that_stays_away_is_answered_in_time(token, fake):
    with start(token, FAKE, fake.env, open_timeout_ms=1000) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        sign(p, key)
        fake.cue("C_Sign rv=0x30", "C_GetSlotList rv=0x30")
        for _ in range(3):
            begun = time.monotonic()
            fault(wire.UNAVAILABLE, sign, p, key)
            assert time.monotonic() - begun < 2.5
        assert p.state()[0] == wire.LOST
        fake.cue()
        wait_until(lambda: p.state()[0] == wire.OPEN, "the token was back")
        sign(p, key)


def test_sessions_do_not_leak(token, fake):
    with start(token, FAKE, fake.env) as p:
        ca, imported = p.add_key(wire.CA, "pkcs11:object=ca"), p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        for i in range(200):
            sign(p, ca, channel=i % 2)
            if i % 4 == 0:
                fault(wire.BAD_DECRYPT, p.decrypt, imported, wire.DECRYPT_PKCS1, bytes(256), channel=i % 2)
        assert fake.calls("C_OpenSession") - fake.calls("C_CloseSession") <= 3


def test_many_threads_through_failures(token, fake):
    with start(token, FAKE, fake.env, channels=8) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        signature = sign(p, key)
        # Far enough apart that no operation meets two: it is repeated once.
        fake.cue(*(f"C_Sign rv={code:#x} skip={skip} count=1" for code, skip in ((0x30, 40), (0xB3, 110), (0x82, 180), (0x30, 250), (0x101, 320))))

        def work(channel):
            return [sign(p, key, channel=channel) == signature for _ in range(50)]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert all(all(result) for result in pool.map(work, range(8)))


def test_a_call_that_hangs_keeps_nobody_else(token, fake):
    with start(token, FAKE, fake.env) as p:
        ca, imported = p.add_key(wire.CA, "pkcs11:object=ca"), p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        cipher = encrypt(load_der_public_key(p.public(imported)), "pkcs1")
        fake.cue("C_Decrypt hang")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            hung = pool.submit(p.decrypt, imported, wire.DECRYPT_PKCS1, cipher, channel=1)
            wait_until(lambda: "0xdead" in fake.log.read_text(), "the call hangs")
            for _ in range(5):
                sign(p, ca)
            begun = time.monotonic()
            p.child.send_signal(signal.SIGTERM)
            assert p.child.wait(10) == 0
            assert time.monotonic() - begun < 5
            with pytest.raises((EOFError, ConnectionResetError)):
                hung.result()


def test_a_hanging_login_does_not_keep_the_process(token, fake):
    fake.cue("C_Login hang")
    with start(token, FAKE, fake.env, open_timeout_ms=1000) as p:
        assert p.state(300)[0] == wire.STARTING
        fault(wire.UNAVAILABLE, sign, p, p.add_key(wire.CA, "pkcs11:object=ca"))
        assert p.close(10) == 0


def test_it_tells_how_long_the_module_has_been_opening(token, fake):
    with start(token, FAKE, fake.env, open_timeout_ms=300) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        sign(p, key)
        assert p.state()[1]["opening_ms"] == 0
        fake.cue("C_Sign rv=0x30 count=1", "C_Initialize hang")
        fault(wire.UNAVAILABLE, sign, p, key)
        before = p.state(0)[1]["opening_ms"]
        assert before >= 100
        wait_until(lambda: p.state(0)[1]["opening_ms"] > before, "time goes on")


@pytest.mark.parametrize("how", ["end of channel", "SIGTERM"])
def test_it_ends_in_order(token, fake, how):
    with start(token, FAKE, fake.env) as p:
        sign(p, p.add_key(wire.CA, "pkcs11:object=ca"))
        p.child.send_signal(signal.SIGINT)
        sign(p, 0)
        begun = time.monotonic()
        if how == "SIGTERM":
            p.child.send_signal(signal.SIGTERM)
            assert p.child.wait(10) == 0
        assert p.close() == 0
        assert time.monotonic() - begun < 2.5
    assert fake.calls("C_Finalize") == 1


def test_failures_in_the_middle_of_reencryption_leave_no_object(token, fake):
    der = make_recipient()[1].public_bytes(Encoding.DER)
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        cipher = encrypt(load_der_public_key(p.public(key)), "pkcs1")
        assert p.reencrypt(key, wire.TOKEN, "pkcs1", cipher, der, "pkcs1")[0]
        for function, code in (("C_UnwrapKey", 0x5), ("C_CreateObject", 0x5), ("C_WrapKey", 0x5), ("C_WrapKey", 0x70), ("C_DestroyObject", 0x5)):
            fake.forget()
            fake.cue(f"{function} rv={code:#x} count=1")
            went, _ = p.reencrypt(key, wire.AUTO, "pkcs1", cipher, der, "pkcs1")
            assert went == (function == "C_DestroyObject")
            lines = fake.log.read_text().splitlines()
            made = sum(line.split()[1] in ("C_UnwrapKey", "C_CreateObject") and line.endswith("rv=0x0") for line in lines)
            destroyed = sum(line.split()[1] == "C_DestroyObject" for line in lines)
            assert made == destroyed
            # A way that worked once is not given up.
            fake.cue()
            assert p.reencrypt(key, wire.AUTO, "pkcs1", cipher, der, "pkcs1")[0]
        fake.cue("C_UnwrapKey rv=0x30 count=1")
        assert p.reencrypt(key, wire.TOKEN, "pkcs1", cipher, der, "pkcs1")[0]


def test_unwrap_templates_are_tried_from_the_strictest(token, fake):
    der = make_recipient()[1].public_bytes(Encoding.DER)
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        cipher = encrypt(load_der_public_key(p.public(key)), "pkcs1")
        fake.cue("C_UnwrapKey rv=0x10 count=1")
        # Without CKA_EXTRACTABLE SoftHSM makes an object that cannot be wrapped: said, not guessed.
        assert p.reencrypt(key, wire.AUTO, "pkcs1", cipher, der, "pkcs1")[0] is False
        # Twice for the request, and once to see whether a secret of our own fares as badly: it does not.
        assert fake.calls("C_UnwrapKey") == 3
        assert p.reencrypt(key, wire.TOKEN, "pkcs1", cipher, der, "pkcs1")[0] is True


# ---- A p11-kit server ----


class Server:
    """p11-kit server over SoftHSM on a socket of its own; the token is mounted read-only, as a kill in the midst of a login
    destroys one that may be written."""

    def __init__(self, token, processes):
        self.token, self.processes, self.socket = token, processes, token.folder / "p11.sock"
        self.start()

    def start(self):
        read_only = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"', self.token.folder / "tokens"]
        self.child = self.processes([*read_only, "p11-kit", "server", "-f", "--provider", SOFTHSM, "-n", self.socket, f"pkcs11:token={self.token.label}"],
                                    env=dict(os.environ, **self.token.env, P11_KIT_STRICT="1"), stdout=subprocess.DEVNULL)
        wait_until(self.socket.exists, "the server listens")

    def kill(self):
        children = subprocess.run(["pgrep", "-P", str(self.child.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in [self.child.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
        self.child.wait()
        self.socket.unlink(missing_ok=True)


def sign_when_there(p, key, channel):
    """Who asks while the token is away is told so, and asks again."""
    def signed():
        try:
            return sign(p, key, channel=channel)
        except wire.WireError as e:
            if "the token is away" not in str(e):
                raise
            return None
    return wait_until(signed, "the token is there again", 20)


def test_a_server_that_is_killed_and_restarted(token, processes):
    server = Server(token, processes)
    env = {"P11_KIT_SERVER_ADDRESS": f"unix:path={server.socket}"}
    with start(token, P11_KIT_CLIENT, env, channels=4, open_timeout_ms=10000) as p:
        state, told = p.state()
        assert (state, told["profile"]) == (wire.OPEN, "p11-kit-client")
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        signature = sign(p, key)
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                done = []

                def work(channel):
                    for _ in range(60):
                        done.append(sign_when_there(p, key, channel) == signature)

                results = [pool.submit(work, channel) for channel in range(4)]
                goal = len(done) + 20
                wait_until(lambda: len(done) >= goal, "work is under way")
                server.kill()
                server.start()
                for result in results:
                    result.result()
                assert all(done)
