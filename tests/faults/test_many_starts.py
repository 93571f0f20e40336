# SPDX-License-Identifier: MIT
"""A hundred instances on one token and one PostgreSQL, started at once: with the right PIN all of them are ready within the
promised time; with a wrong one the token sees it once."""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from pg_rig import Postgres  # noqa: E402
from pki_rig import TOKEN_KEYS, connector_with_ca  # noqa: E402
from rig import BUILD, USER, Rig, wait_until  # noqa: E402
from test_fake_module import PIN_REFUSED, FakeToken  # noqa: E402

COUNT = 100
READY_S = 30.0  # the product's promise
PIN_INCORRECT, OK = "rv=0xa0", "rv=0x0"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def status(connector):
    """As the command shows it, without a process for each question; None while there is none."""
    connection = UnixConnection(connector.run / "control.sock")
    try:
        connection.request("GET", "/v1/status")
        return json.load(connection.getresponse())
    except OSError:
        return None
    finally:
        connection.close()


def is_ready(connector):
    now = status(connector)
    return bool(now and now["token"]["state"] == "open" and now["service"]["contact"] == "ok" and
                now["keys"] and all(key["state"] == "good" for key in now["keys"]))


def token_state(connector):
    now = status(connector)
    return now and now["token"]["state"]


def token_pid(connector):
    now = status(connector)
    return now and now["token"].get("pid")


def wait_all(connectors, condition, what, seconds):
    """Until it has been true of each."""
    left = list(connectors)

    def none_left():
        left[:] = [connector for connector in left if not condition(connector)]
        return not left
    try:
        wait_until(none_left, what, seconds)
    except AssertionError as gave_up:
        one = left[0]
        raise AssertionError(f"{gave_up}: {len(left)} of {len(connectors)} are not, such as {one.name}: "
                             f"{status(one)}\n{one.process.output()[-2000:]}") from None


class World:
    """One token, one service, one database for each crowd of instances."""

    def __init__(self):
        self.rig, self.postgres = Rig(), Postgres()
        self.service, self.token = self.rig.service(), self.rig.token(kinds=TOKEN_KEYS)
        shutil.copy(BUILD / "tests" / "p11_fake.so", self.rig.programs)

    def crowd(self, name, token, count=COUNT, **overrides):
        overrides = {"connector.state": self.postgres.database(name), "revocation.poll-interval": None, "publish.listen": None,
                     "pkcs.key-pool": None, **overrides}
        return [connector_with_ca(self.rig, self.service, token, name=f"{name}-{i}", init=i == 0, start=False,
                                  features="pkcs, revocation", overrides=overrides)[0] for i in range(count)]

    def ready_keys(self, name):
        return int(self.postgres.sql("SELECT COUNT(*) FROM keypool", name)[0][0])

    def close(self):
        self.rig.close()
        self.postgres.close()


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.close()


def start(connectors):
    for connector in connectors:
        connector.start(wait=False)


def stop(connectors):
    for connector in connectors:
        connector.process.child.terminate()
    for connector in connectors:
        assert connector.process.stop() == 0


def logins(token, *results):
    """(process, what of it) of each login that was begun or ended, in order."""
    return [(words[0], words[-1] if words[1] == "C_Login" else "begun") for words in token.fake.lines()
            if words[1] in ("C_Login", "C_Login...")]


def start_in_time(connectors, capsys, what):
    begun = time.monotonic()
    start(connectors)
    started = time.monotonic()
    wait_all(connectors, is_ready, "all are ready", READY_S - (started - begun))
    with capsys.disabled():
        print(f"\n{COUNT} instances on {what}: started within {started - begun:.1f} s, "
              f"all ready within {time.monotonic() - begun:.1f} s")
    stop(connectors)


def test_a_hundred_are_ready_in_time(world, capsys):
    connectors = world.crowd("right", world.token)
    start_in_time(connectors, capsys, "a token that they cannot write")
    # SoftHSM writes a token's file at each login, if it may, without protection from other processes.
    for path in [world.token.folder / "tokens", *(world.token.folder / "tokens").rglob("*")]:
        shutil.chown(path, USER, USER)
    file, = world.token.object_bytes()
    written = file.stat().st_mtime_ns
    start_in_time(connectors, capsys, "a token that they can write")
    assert file.stat().st_mtime_ns > written and file.stat().st_size > 0


def test_a_wrong_pin_is_seen_once(world, capsys):
    token = FakeToken(world.rig, world.token, "wrong")
    connectors = world.crowd("wrong", token, **{"pkcs.key-pool": "3"})
    token.pin_file.write_text("not the PIN\n")
    token.fake.cue("C_Login delay=100")
    token.fake.forget()
    begun = time.monotonic()
    start(connectors)
    wait_all(connectors, lambda c: token_state(c) == "pin-refused", "all know that the PIN is refused", 60)
    refused = time.monotonic()
    seen = logins(token)
    assert [result for _, result in seen] == ["begun", PIN_INCORRECT], seen

    # Noticed by all, without a restart; one tries it first.
    token.fake.forget()
    token.pin_file.write_bytes(token.right_pin)
    wait_all(connectors, lambda c: token_state(c) == "open", "all have opened the token", 60)
    took = time.monotonic() - refused
    seen = logins(token)
    assert [result for _, result in seen[:2]] == ["begun", OK] and seen[0][0] == seen[1][0], seen
    assert collections.Counter(result for _, result in seen) == {"begun": COUNT, OK: COUNT}

    # And one makes the keys that lie ready for all.
    wait_until(lambda: world.ready_keys("wrong") >= 3, "keys are made ahead")
    with capsys.disabled():
        print(f"\n{COUNT} instances: a wrong PIN known to all after {refused - begun:.1f} s, the right one {took:.1f} s later")
    stop(connectors)
    assert world.ready_keys("wrong") == 3


def test_attempts_of_unknown_outcome_are_counted(world):
    """Who dies in the middle of a login may have offered a wrong PIN: a token that locks after three sees two such."""
    token = FakeToken(world.rig, world.token, "unknown")
    connectors = world.crowd("unknown", token, 3)
    token.fake.forget()
    token.fake.cue("C_Login hang")
    start(connectors)

    def hanging(count):
        """The instance that makes this attempt, and its token process."""
        seen = wait_until(lambda: len(logins(token)) == count and logins(token), f"attempt {count} is under way", 60)
        pid = int(seen[-1][0])
        return wait_until(lambda: [c for c in connectors if token_pid(c) == pid], "its daemon names it")[0], pid

    # The token process alone: its daemon knows that the outcome is not known.  Then both: nobody is left to say so.
    _, pid = hanging(1)
    os.kill(pid, signal.SIGKILL)
    victim, pid = hanging(2)
    victim.process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    left = [c for c in connectors if c is not victim]
    wait_all(left, lambda c: token_state(c) == "pin-refused", "the others try no more", 30)
    told = [event["error"]["text"] for c in left for event in c.events("--id", str(PIN_REFUSED))]
    assert len(told) == len(left) and all("certconnector token forget-pins" in text for text in told), told
    assert len(logins(token)) == 2

    # An administrator who has looked.
    token.fake.cue()
    victim.cli("token", "forget-pins")
    wait_all(left, lambda c: token_state(c) == "open", "the others have opened the token", 30)
    stop(left)
