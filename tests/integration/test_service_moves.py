# SPDX-License-Identifier: MIT
"""What becomes of work when the service moves the account, sign-in is down, or the secret is another: nothing is lost, nothing
is done twice, and the daemon goes on without a restart. And a clock that is wrong, and addresses that are not to be trusted."""

import os
import secrets
import shutil
import struct

import pytest

from pki_rig import order
from rig import BUILD, CLIENT_ID, Recipient, Rig, wait_until
from scep_message import SUCCESS
from under_load import Load, World

OUTAGE_S = float(os.environ.get("SERVICE_OUTAGE_S", "3"))
SERVICE_UNREACHABLE, SERVICE_RECOVERED, SIGN_IN_FAILED, ACCOUNT_MOVED, CLOCK_SKEW, CLOCK_RIGHT = 30, 31, 32, 33, 36, 29


@pytest.fixture(scope="module")
def world():
    rig = Rig()
    try:
        shutil.copy(BUILD / "tests/clock_shift.so", rig.programs)
        # What was on its way to a connector when a call was cut is given out again when its lease ends.
        world = World(rig, rig.service("--lease-seconds", "10"), start=False)
        world.clock = rig.folder / "shift"
        world.turn = lambda seconds: world.clock.write_bytes(struct.pack("=q", seconds))
        world.turn(0)
        world.connector.env = {"LD_PRELOAD": str(rig.programs / "clock_shift.so"), "CLOCK_SHIFT": str(world.clock)}
        world.start()
        world.pid = world.connector.process.pid
        yield world
    finally:
        rig.close()


def events(world, event_id):
    return world.connector.events("--id", str(event_id))


def test_the_account_moves(world):
    with Load(world) as load:
        for moves in range(1, 4):
            world.service.admin("POST", "moveAccount")
            wait_until(lambda: len(events(world, ACCOUNT_MOVED)) == moves, "the move is logged")  # noqa: B023
            load.more()
    load.check_books()
    assert not events(world, SERVICE_UNREACHABLE)
    assert world.connector.status()["pid"] == world.pid


def test_sign_in_is_down(world):
    """Tokens live so short that sign-in is needed meanwhile."""
    before = len(events(world, SERVICE_UNREACHABLE)), len(events(world, SERVICE_RECOVERED))
    with Load(world) as load:
        world.service.admin("PUT", "faults", [{"tokenLifetimeSeconds": 60}, {"path": "/oauth2/v2.0/token", "status": 503}])
        world.service.admin("POST", "expireTokens")
        world.wait_contact("lost")
        load.last(OUTAGE_S)
        world.service.admin("DELETE", "faults")
        world.wait_contact("ok")
        load.more()
    load.check_books()
    assert (len(events(world, SERVICE_UNREACHABLE)), len(events(world, SERVICE_RECOVERED))) == (before[0] + 1, before[1] + 1)
    assert world.connector.status()["pid"] == world.pid


def test_the_secret_is_another(world):
    """Put into the file before the old one ends, as it is done: nobody notices. After it: sign-in fails until the file is right."""
    with Load(world) as load:
        for _ in range(2):
            secret = secrets.token_hex(20)
            world.service.admin("POST", "clients", {"clientId": CLIENT_ID, "secret": secret})
            world.rig.private_file(world.service.secret_file, secret.encode())
            world.reload()
            load.more()
        assert not events(world, SIGN_IN_FAILED)
        secret = secrets.token_hex(20)
        world.service.admin("POST", "clients", {"clientId": CLIENT_ID, "secret": secret})
        world.service.admin("POST", "expireTokens")
        world.wait_contact("sign-in refused")
        world.rig.private_file(world.service.secret_file, secret.encode())
        world.reload()
        world.wait_contact("ok")
        load.more()
    load.check_books()
    assert events(world, SIGN_IN_FAILED)
    assert world.connector.status()["pid"] == world.pid


def test_a_clock_that_is_wrong(world):
    """Nothing is issued while it is; what was asked for is issued when it is right."""
    world.turn(3600)
    wait_until(lambda: events(world, CLOCK_SKEW), "it is noticed")
    [event] = events(world, CLOCK_SKEW)
    assert "s ahead of that of the service" in event["message"] and "NTP" in event["message"]
    status = world.connector.status()["service"]
    assert status["contact"] == "ok" and status["clockSkewMs"] < -3500000
    assert "the clock of this host is wrong" in status["clockWarning"]
    assert "the clock of this host is wrong" in world.connector.cli("status").stdout
    issued = len(world.scep.authority.listed())
    recipient = Recipient()
    request_id = world.service.admin("POST", "pkcsRequests", order(recipient))["requestId"]
    wait_until(lambda: any("the clock of this host is" in event["message"] for event in world.connector.events("--id", "1051")),
               "the request is put off")
    device = world.device()
    assert device.send().status_code == 503
    assert len(world.scep.authority.listed()) == issued
    world.turn(0)
    wait_until(lambda: events(world, CLOCK_RIGHT), "it is noticed that it is right")
    assert world.service.wait_done(request_id, 90)["state"] == "completed"
    wait_until(lambda: device.send().status == SUCCESS, "the device has its certificate", 60)
    assert len(events(world, CLOCK_SKEW)) == 1
    assert "clockWarning" not in world.connector.status()["service"]


@pytest.mark.parametrize("text, said", [
    ("private-addresses = no", "is inside of our own network"),
    ("allowed-hosts = manage.contoso.example", "is at a host that [service] allowed-hosts does not have"),
])
def test_addresses_that_are_not_trusted(world, text, said):
    """Discovery says where: the connector goes only where it may."""
    world.reload("50-strict.conf", f"[service]\n{text}\n")
    world.wait_contact("lost")
    assert said in world.connector.status()["service"]["lastError"]
    (world.dropins / "50-strict.conf").unlink()
    world.reload()
    world.wait_contact("ok")
