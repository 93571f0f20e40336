# SPDX-License-Identifier: MIT
"""What ends on a day: the daemon says so once at each threshold, whatever is restarted, with a clock that the tests set."""

import datetime
import json
import shutil
import signal
import struct

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki_rig import TOKEN_KEYS, connector_with_ca
from rig import BUILD, USER, Rig, make_certificate, wait_until

DAY = 86400
EXPIRING, EXPIRED, FINDING, LAST_DAY = 50, 51, 52, 53


@pytest.fixture(scope="module")
def rig():
    made = Rig()
    shutil.copy(BUILD / "tests/clock_shift.so", made.programs)
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(rig):
    return rig.service()


@pytest.fixture(scope="module")
def token(rig):
    return rig.token(kinds=TOKEN_KEYS)


class Clock:
    """The wall clock of one daemon."""

    def __init__(self, rig, connector):
        self.file = connector.folder / "shift"
        self.file.write_bytes(struct.pack("=q", 0))
        connector.env = {"LD_PRELOAD": str(rig.programs / "clock_shift.so"), "CLOCK_SHIFT": str(self.file)}

    def turn(self, days):
        with open(self.file, "r+b", buffering=0) as file:
            file.write(struct.pack("=q", int(days * DAY)))


def told(connector, word):
    """(id, message) of each event of the kind about what has this word in its name."""
    return [(event["id"], event["message"]) for event in connector.events("--channel", "admin")
            if event["id"] in (EXPIRING, EXPIRED, LAST_DAY) and word in event["message"]]


def listed(connector):
    status = connector.status()
    return status and status["certificates"]


def in_days(days):
    return (datetime.date.today() + datetime.timedelta(days=days)).isoformat()


def restart(connector):
    assert connector.process.stop() == 0
    connector.start(wait=False)
    wait_until(lambda: listed(connector), "the daemon lists what ends")


def test_each_threshold_once(rig, service, token):
    """Through all of them, with restarts between: one event a crossing, the level by how near it is."""
    connector, _ = connector_with_ca(rig, service, token, name="thresholds", start=False, init=False,
                                     overrides={"service.client-secret-expires": in_days(70)})
    connector.cli("ca", "init", "--subject", "CN=Short CA", "--validity", "80d")
    clock = Clock(rig, connector)
    connector.start()
    wait_until(lambda: {"ca", "client-secret", "service-ca"} <= {one["role"] for one in listed(connector)}, "all are listed")
    assert told(connector, "Short CA") == told(connector, "secret to sign in") == []
    want = [(60, EXPIRING, "expires in 59 days"), (30, EXPIRING, "expires in 29 days"), (14, EXPIRING, "expires in 13 days"),
            (7, EXPIRING, "expires in 6 days"), (1, LAST_DAY, "within a day"), (0, EXPIRED, "expired on")]
    for count, (left, event_id, words) in enumerate(want, 1):
        clock.turn(80 - left + 0.25)
        wait_until(lambda: len(told(connector, "Short CA")) == count, f"{left} days are told of")
        if count % 2 == 0:
            restart(connector)
        events = told(connector, "Short CA")
        assert len(events) == count and events[-1][0] == event_id and words in events[-1][1], events
        assert "certconnector ca init --certificate" in events[-1][1]
    assert [number for number, _ in told(connector, "secret to sign in")] == [EXPIRING] * 3 + [EXPIRED]  # 60, 30, 7, 0: the clock passed over 14
    # A clock that is set back and on again says nothing anew.
    clock.turn(0)
    restart(connector)
    clock.turn(75)
    assert connector.process.stop() == 0
    assert len(told(connector, "Short CA")) == len(want)


def test_many_restarts(rig, service, token):
    """Of one that is near its end already: once, over ten starts."""
    connector = rig.connector(service, token, name="restarts", start=False, overrides={
        "service.client-secret-expires": in_days(5)})
    connector.start()
    for _ in range(10):
        restart(connector)
    assert connector.process.stop() == 0
    assert [number for number, _ in told(connector, "secret to sign in")] == [EXPIRING]


def test_shared_state_directory(rig, service, token):
    """What one instance told of, another that shares its folder tells in its own log, and neither forgets."""
    overrides = {"service.client-secret-expires": in_days(5)}
    first = rig.connector(service, token, name="first", start=False, overrides=overrides)
    second = rig.connector(service, token, name="second", start=False, overrides={**overrides, "connector.state-directory": first.state})
    for connector in (first, second, first):
        connector.start(wait=False)
        wait_until(lambda: listed(connector), "the daemon lists what ends")
        assert connector.process.stop() == 0
        assert [number for number, _ in told(connector, "secret to sign in")] == [EXPIRING]


def test_what_renews_itself(rig, service, token):
    """The identity is told of when its renewal is overdue, and not before; renewed, it is another."""
    connector = rig.connector(service, token, name="identity", start=False)
    clock = Clock(rig, connector)
    start = datetime.datetime.utcnow()

    def write(days, begin):
        path = connector.state / f"identity-{connector.name}.pem"
        path.write_bytes(make_certificate("identity", ec.generate_private_key(ec.SECP256R1()), days=days, start=begin).public_bytes(
            serialization.Encoding.PEM))
        shutil.chown(path, USER, USER)

    def role():
        return [one for one in listed(connector) if one["role"] == "identity"]

    write(90, start)
    connector.start()
    wait_until(role, "it is listed")
    clock.turn(60.5)  # two thirds of 90 days are over, and half a day
    restart(connector)
    wait_until(role, "it is listed")
    assert told(connector, "CN=identity") == [] and role()[0]["daysLeft"] == 29 and "threshold" not in role()[0]
    clock.turn(61.5)
    wait_until(lambda: [number for number, _ in told(connector, "CN=identity")] == [EXPIRING], "it is told of")
    write(90, start + datetime.timedelta(days=61))
    restart(connector)
    wait_until(lambda: role() and role()[0]["daysLeft"] > 80, "the new one is listed")
    assert connector.process.stop() == 0
    assert len(told(connector, "CN=identity")) == 1


def test_shown(rig, service, token):
    """In the status for people and programs, and in the health message."""
    connector, _ = connector_with_ca(rig, service, token, name="shown", overrides={
        "service.heartbeat": "1s", "service.client-secret-expires": in_days(70)})
    wait_until(lambda: {"ca", "client-secret", "service-ca", "crl"} <= {one["role"] for one in listed(connector)}, "all are listed", 90)
    ends = listed(connector)
    assert [one["expirationDateTime"] for one in ends] == sorted(one["expirationDateTime"] for one in ends)
    by_role = {one["role"]: one for one in ends}
    assert by_role["client-secret"]["daysLeft"] in (68, 69) and by_role["crl"]["daysLeft"] == 6
    shown = connector.cli("status").stdout
    assert "CRL of CA \"corp\": 6 days left" in shown and "CN=localhost" in shown
    connector_id = connector.status()["connectorId"]

    def heartbeat():
        mine = [one for one in service.admin("GET", "connectors")["value"] if one["connectorId"] == connector_id]
        beat = mine and mine[0].get("heartbeat") or {}
        return {one["role"]: one["expirationDateTime"] for one in beat.get("certificates", [])}
    wait_until(lambda: "ca" in heartbeat(), "the service was told")
    assert heartbeat()["ca"] == by_role["ca"]["expirationDateTime"] and "crl" not in heartbeat()
    assert connector.process.stop() == 0


def test_reload(rig, service, token):
    """A secret's new day holds at once, and the old one is forgotten."""
    connector = rig.connector(service, token, name="reload", overrides={"service.client-secret-expires": in_days(3)})
    wait_until(lambda: [number for number, _ in told(connector, "secret to sign in")] == [EXPIRING], "it is told of")
    connector.write_config(overrides={"service.client-secret-expires": in_days(100)})
    connector.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: any(one["role"] == "client-secret" and one["daysLeft"] > 90 for one in listed(connector)), "the new day is listed", 10)
    assert connector.process.stop() == 0
    assert len(told(connector, "secret to sign in")) == 1


def test_findings_at_start(rig, service, token):
    """What is wrong with a file is an event of the start, each time."""
    connector = rig.connector(service, token, name="findings", start=False)
    connector.log.chmod(0o777)
    connector.start()
    found = [event["message"] for event in connector.events("--id", str(FINDING))]
    assert len(found) == 1 and "open to every user" in found[0] and f"chmod o= {connector.log}" in found[0], json.dumps(found)
    connector.log.chmod(0o750)
    restart(connector)
    assert connector.process.stop() == 0
    assert len(connector.events("--id", str(FINDING))) == 1
