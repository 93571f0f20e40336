# SPDX-License-Identifier: MIT
"""A connector whose PKCS#11 module fails on cue: nothing hangs, nothing is lost, a refused PIN is not tried again, another
key is not used, and who asks for status gets an answer."""

import itertools
import os
import pathlib
import shutil
import signal
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from rig import BUILD, SOFTHSM, USER, Fake, Pfx, Recipient, Rig, run, wait_until  # noqa: E402

OPENED, LOST, RECOVERED, PIN_REFUSED, KEY_REPLACED, KEY_UNUSABLE = 20, 21, 22, 23, 24, 25
WORK_FAILURE = 2052
SESSION_CODES = {"DEVICE_ERROR": 0x30, "TOKEN_NOT_PRESENT": 0xE0, "GENERAL_ERROR": 0x05, "SESSION_COUNT": 0xB1}
PIN_CODES = {"INCORRECT": 0xA0, "EXPIRED": 0xA3, "LOCKED": 0xA4}
SESSION_HANDLE_INVALID = 0xB3
RSA_PKCS, RSA_RAW, RSA_OAEP = "mechanism=0x1", "mechanism=0x3", "mechanism=0x9"


class FakeToken:
    """A copy of a token behind the fake module, with a PIN file of its own."""

    def __init__(self, rig, token, name):
        self.folder = rig.folder / f"{name}-token"
        rig.private_folder(self.folder)
        self.label, self.module = token.label, rig.programs / "p11_fake.so"
        self.right_pin = token.pin_file.read_bytes()
        self.pin_file = self.folder / "pin"
        rig.private_file(self.pin_file, self.right_pin)
        self.tokens = self.folder / "tokens"
        shutil.copytree(token.folder / "tokens", self.tokens)
        self.settle()
        conf = self.folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.fake = Fake(self.folder)
        self.softhsm_env = {"SOFTHSM2_CONF": str(conf)}
        self.env = {**self.softhsm_env, **self.fake.env, "P11_FAKE_MODULE": SOFTHSM}

    def settle(self):
        """Readable for connectors, and not to be written by them."""
        for path in [self.tokens, *self.tokens.rglob("*")]:
            shutil.chown(path, "root", USER)
            path.chmod(0o750 if path.is_dir() else 0o640)

    def change(self, *commands):
        """Commands of p11.py, past the fake module."""
        run(sys.executable, HERE.parent / "integration/p11.py", SOFTHSM, "", self.label, self.right_pin.decode().strip(), *commands,
            env=dict(os.environ, **self.softhsm_env))
        self.settle()


class Setting:
    """What all tests here share: a service, a token to copy, an uploaded PFX for each padding scheme."""

    def __init__(self, rig):
        self.rig, self.token, self.service, self.recipient = rig, rig.token(), rig.service(), Recipient()
        shutil.copy(BUILD / "tests" / "p11_fake.so", rig.programs)
        self.public_key = rig.connector(self.service, self.token, name="reader", start=False).public_key()
        self.numbers, self.pfx = itertools.count(1), {}
        for scheme in ("oaepSha512", "oaepSha1", "pkcs1"):
            self.pfx[scheme] = Pfx(f"{scheme}@contoso.example")
            self.service.upload(self.pfx[scheme], self.public_key, scheme=scheme)

    def connector(self, name, **options):
        return self.rig.connector(self.service, FakeToken(self.rig, self.token, name), name=name, **options)

    def enqueue(self, count=1, scheme="oaepSha512", **more):
        return self.service.enqueue(self.pfx[scheme], self.recipient, count, **more)

    def do(self, scheme="oaepSha512", **more):
        """One request from end to end; its result."""
        return self.service.wait_done(self.enqueue(1, scheme, **more)[0])["result"]

    def accepted(self):
        return self.service.counts()["uploads"]["accepted"]


@pytest.fixture(scope="module")
def setting():
    rig = Rig()
    try:
        yield Setting(rig)
    finally:
        rig.close()


@pytest.fixture
def start(setting):
    """Makes connectors that end with the test: the service must not give the next test's requests to them."""
    made = []

    def make(**options):
        made.append(setting.connector(f"connector-{next(setting.numbers)}", **options))
        return made[-1]
    yield make
    for connector in made:
        if connector.process is not None:
            connector.process.kill()


def events(connector, number):
    return [event for event in connector.events("--channel", "admin") if event["id"] == number]


def wait_event(connector, number, count=1):
    return wait_until(lambda: len(events(connector, number)) >= count and events(connector, number), f"event {number} ({count})")


def status_in_time(connector):
    """Whatever the token does, `certconnector status` answers within two seconds: the best of three, on a busy machine."""
    took = []
    for _ in range(3):
        begun = time.monotonic()
        status = connector.status()
        assert status, "no answer"
        took.append(time.monotonic() - begun)
        if took[-1] < 2:
            return status
    raise AssertionError(f"status took {took} s")


def check_exactly_once(setting, connector, ids, scheme, accepted_before):
    """Each request was done, accepted once and told of once, and no attempt took longer than two deadlines (of 4 s)."""
    for request_id in ids:
        request = setting.service.request(request_id)
        assert request["state"] == "completed"
        assert setting.recipient.read(request["result"]) == setting.pfx[scheme].password
    assert setting.accepted() - accepted_before == len(ids)
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")
    told = connector.admin_events()
    assert [[event["id"] for event in told[request_id]] for request_id in ids] == [[2000]] * len(ids)
    assert max(event.get("durationMs", 0) for event in connector.events("--category", "PKCS Import")) < 8000


# ---- Sessions ----


@pytest.mark.parametrize("code", SESSION_CODES.values(), ids=SESSION_CODES.keys())
def test_no_session_for_a_while(setting, start, code):
    connector = start(start=False, overrides={"token.deadline": "2s"})
    fake, accepted = connector.token.fake, setting.accepted()
    name = next(name for name, value in SESSION_CODES.items() if value == code)

    # From the start, and again while it works.  Sessions that a worker holds are lost with the token.
    ids = []
    for count, cues in ((1, []), (2, [f"C_DecryptInit rv={SESSION_HANDLE_INVALID:#x}"])):
        fake.cue(f"C_OpenSession rv={code:#x}", *cues)
        if connector.process is None:
            connector.start(wait=False)
        new = setting.enqueue(10)
        wait_event(connector, LOST, count)
        token = status_in_time(connector)["token"]
        assert token["state"] == "lost" and f"C_OpenSession: CKR_{name}" in token["lastError"]
        assert setting.service.open_requests() == len(new), "requests wait for the token"
        fake.cue()
        wait_event(connector, RECOVERED, count)
        setting.service.wait_none_open()
        assert connector.status()["token"]["state"] == "open"
        ids += new
    check_exactly_once(setting, connector, ids, "oaepSha512", accepted)
    assert [len(events(connector, number)) for number in (OPENED, LOST, RECOVERED)] == [0, 2, 2]


# ---- Calls that hang ----


@pytest.mark.parametrize("function, scheme, more, mode", [
    ("C_Decrypt", "oaepSha512", {}, "auto"),
    ("C_UnwrapKey", "pkcs1", {"passwordEncryption": "rsaPkcs1"}, "token"),
], ids=["C_Decrypt", "C_UnwrapKey"])
def test_a_call_that_hangs(setting, start, function, scheme, more, mode):
    connector = start(overrides={"token.deadline": "4s", "token.sessions": "4", "pfx-import.reencrypt": mode})
    fake = connector.token.fake
    assert setting.do(scheme, **more)["succeeded"]
    pid, accepted = connector.token_pid(), setting.accepted()
    fake.forget()
    fake.cue(f"{function} hang count=1")
    ids = setting.enqueue(20, scheme, **more)
    wait_until(lambda: any(words[-1] == "rv=0xdead" for words in fake.lines()), "a call hangs")
    fake.cue()
    assert status_in_time(connector)["pid"] == connector.process.pid
    setting.service.wait_none_open()

    check_exactly_once(setting, connector, ids, scheme, accepted)
    lines = fake.lines()
    beside = lines[[words[-1] for words in lines].index("rv=0xdead"):]
    assert sum(words[:2] == [str(pid), function] and words[-1] == "rv=0x0" for words in beside) >= 3, "others went on beside it"
    assert any(words[0] != str(pid) and words[1] == function for words in beside), "what hung was done by the next process"
    status = wait_until(lambda: (s := status_in_time(connector))["token"]["state"] == "open" and s, "the token is open")
    assert status["token"]["pid"] not in (0, pid) and status["token"]["restarts"] >= 1
    # On a slow machine more than one process may have been thought to hang.
    assert "deadline" in wait_event(connector, LOST)[0]["message"] and wait_event(connector, RECOVERED)


def test_a_login_that_hangs(setting, start):
    connector = start(start=False)
    fake = connector.token.fake
    fake.cue("C_Login hang")
    connector.start(wait=False)
    wait_until(lambda: fake.calls("C_Login") == 1, "the login hangs")
    status = wait_until(lambda: connector.status() and status_in_time(connector), "status")
    assert status["token"]["state"] == "starting"
    assert connector.process.stop(20) == 0
    fake.cue()
    connector.start()
    assert setting.do()["succeeded"]


# ---- The PIN ----


@pytest.mark.parametrize("code", PIN_CODES.values(), ids=PIN_CODES.keys())
def test_a_refused_pin_is_tried_once_over_ten_restarts(setting, start, code):
    connector = start(start=False)
    token, fake = connector.token, connector.token.fake
    token.pin_file.write_text("not the PIN\n")
    fake.cue(f"C_Login rv={code:#x}")
    for count in range(1, 12):
        connector.start(wait=False)
        wait_event(connector, PIN_REFUSED, count)
        assert status_in_time(connector)["token"]["state"] == "pin-refused"
        if count <= 10:
            assert connector.process.stop() == 0
    ids = setting.enqueue(3)
    assert fake.calls("C_Login") == 1
    assert len(events(connector, PIN_REFUSED)) == 11

    # Seen without a restart or a reload.
    pid = connector.process.pid
    fake.cue()
    token.pin_file.write_bytes(token.right_pin)
    wait_event(connector, RECOVERED)
    for request_id in ids:
        assert setting.recipient.read(setting.service.wait_done(request_id)["result"]) == setting.pfx["oaepSha512"].password
    assert fake.calls("C_Login") == 2 and status_in_time(connector)["pid"] == pid


# ---- Re-encryption on the token ----


def calls_of(fake, *functions):
    """(function, mechanism) of the calls that went well."""
    return [tuple(words[1:3]) for words in fake.lines() if words[1] in functions and words[-1] == "rv=0x0"]


def test_reencryption_stays_on_the_token(setting, start):
    connector = start(overrides={"pfx-import.reencrypt": "token"})
    fake = connector.token.fake
    for scheme, unwrap in (("pkcs1", RSA_PKCS), ("oaepSha1", RSA_OAEP)):
        for form, wrap in (("rsaPkcs1", RSA_PKCS), ("rsaOaepSha1", RSA_OAEP)):
            fake.forget()
            result = setting.do(scheme, passwordEncryption=form)
            assert setting.recipient.read(result) == setting.pfx[scheme].password
            assert result["reencryptedIn"] == "token"
            assert calls_of(fake, "C_UnwrapKey", "C_WrapKey") == [("C_UnwrapKey", unwrap), ("C_WrapKey", wrap)]
            assert fake.calls("C_DecryptInit") == 0 and fake.calls("C_Decrypt") == 0

    # What SoftHSM has not is refused, in words that say what it is; nothing is decrypted.
    for scheme, form, want in (("oaepSha512", "rsaPkcs1", "it does not unwrap a secret that came under oaepSha512"),
                               ("pkcs1", "cms", "it does not wrap a secret with a block cipher (CBC, padded), after pkcs1"),
                               ("pkcs1", "rsaOaepSha256", "it does not wrap a secret for the recipient, after pkcs1")):
        fake.forget()
        before = len(connector.events("--id", str(WORK_FAILURE)))
        result = setting.do(scheme, passwordEncryption=form)
        assert not result["succeeded"] and result["errorCode"] == "NotSupportedError" and not result["retryable"]
        assert "the token cannot do this in a way that the settings allow" in result["errorMessage"]
        told = connector.events("--id", str(WORK_FAILURE))[before:]
        assert len(told) == 1 and f"the token cannot re-encrypt {scheme} to {form}" in told[0]["message"] and want in told[0]["message"]
        assert fake.calls("C_DecryptInit") == 0 and fake.calls("C_Decrypt") == 0

    connector.write_config(overrides={"pfx-import.reencrypt": "auto"})
    connector.process.child.send_signal(signal.SIGHUP)
    wait_event(connector, 12)
    fake.forget()
    result = setting.do("oaepSha512")
    assert setting.recipient.read(result) == setting.pfx["oaepSha512"].password and result["reencryptedIn"] == "host"
    assert calls_of(fake, "C_DecryptInit") == [("C_DecryptInit", RSA_RAW)]


# ---- Another key ----


def test_a_key_replaced_on_the_token_is_not_used(setting, start):
    connector = start()
    token, fake, service = connector.token, connector.token.fake, setting.service
    assert setting.do()["succeeded"]
    pids = {str(connector.token_pid())}

    def refused(pfx):
        result = service.wait_done(service.enqueue(pfx, setting.recipient)[0])["result"]
        assert not result["succeeded"] and result["errorCode"] == "KeyNotFound" and not result["retryable"]
        return True

    def refused_until(number):
        """SoftHSM sees no new objects of a token that it may not write: it is opened anew for it, but not at each search."""
        return wait_until(lambda: refused(setting.pfx["oaepSha512"]) and events(connector, number), f"event {number}")

    token.change("-pfx-import")
    refused_until(KEY_UNUSABLE)
    fake.forget()  # what went before may have been a look at the good key
    token.change("rsa2048:pfx-import:4711")
    assert "was replaced on the token and is not used" in refused_until(KEY_REPLACED)[0]["message"]
    fake.forget()  # and what was refused until here may have met a look that began before
    # Not for what was encrypted under it either, and by no process that comes later.
    new = Pfx("new.key@contoso.example")
    new_key = connector.public_key()
    assert new_key.public_numbers() != setting.public_key.public_numbers()
    service.upload(new, new_key)
    assert refused(new)
    os.kill(int(min(pids)), signal.SIGKILL)
    connector.wait_ready()
    pids.add(str(wait_until(connector.token_pid, "the next token process")))
    assert len(pids) == 2
    assert refused(new)
    assert [len(events(connector, number)) for number in (KEY_UNUSABLE, KEY_REPLACED)] == [1, 1], "told once each"
    used = [words for words in fake.lines() if words[0] in pids and words[1] in ("C_Decrypt", "C_UnwrapKey") and words[-1] == "rv=0x0"]
    assert used == []
    assert status_in_time(connector)["token"]["state"] == "open"

    # An administrator who means it restarts.
    assert connector.process.stop() == 0
    connector.start()
    assert setting.recipient.read(service.wait_done(service.enqueue(new, setting.recipient)[0])["result"]) == new.password
