# SPDX-License-Identifier: MIT
"""Health messages: what a connector tells the service of itself, and what it makes of the answer."""

import datetime
import signal

import pytest

from pki_rig import TOKEN_KEYS, free_port
from rig import Rig, run, wait_until
from service_rig import ScriptedService

FEATURE_REFUSED = 34
VERSION_WARNING, VERSION_ERROR, VERSION_SUPPORTED = 80, 81, 82
LIFECYCLE = [str(number) for number in (VERSION_WARNING, VERSION_ERROR, VERSION_SUPPORTED)]
CA = """
[ca "corp"]
kind = local
"""


@pytest.fixture(scope="module")
def shared():
    """(rig, token)"""
    rig = Rig()
    try:
        yield rig, rig.token(kinds=TOKEN_KEYS)
    finally:
        rig.close()


@pytest.fixture
def service(shared):
    service = ScriptedService(shared[0])
    yield service
    service.close()


def settings(**overrides):
    return {"service.allow-http": "yes", "service.heartbeat": "100ms", "service.poll-wait": "1s", "keys.ca": "pkcs11:object=ca", **overrides}


@pytest.fixture
def make(shared, service):
    """Makes a connector, not started, that tells this service of its health; it is stopped when the test ends."""
    rig, token = shared
    made = []

    def make(extra="", **overrides):
        connector = rig.connector(service, token, name=f"connector-{len(rig.started)}", extra=extra, overrides=settings(**overrides), start=False)
        made.append(connector)
        return connector
    yield make
    for connector in made:
        connector.process.kill()


def make_ca(connector):
    connector.cli("ca", "init", "--subject", "CN=Contoso Issuing CA")


def reload(connector, **overrides):
    connector.write_config(CA, settings(**overrides))
    connector.process.child.send_signal(signal.SIGHUP)


def issues(service):
    return {issue["code"]: issue for issue in service.heard()[-1]["issues"]}


def hear_more(service, count=2):
    """So many messages later, the last answer was taken."""
    before = len(service.heard())
    wait_until(lambda: len(service.heard()) >= before + count, f"{count} more health messages")


def send_more(connector, count=2):
    """The same, by the connector's own account."""
    before = len(connector.events("--id", "5000"))
    wait_until(lambda: len(connector.events("--id", "5000")) >= before + count, f"{count} more health messages")


def said(connector):
    return [event["id"] for number in LIFECYCLE for event in connector.events("--id", number)]


def test_what_a_message_tells(service, make):
    connector = make(CA, **{"service.heartbeat": "1h"})
    make_ca(connector)
    connector.start()
    [first] = wait_until(service.heard, "the first message")
    version = run(connector.rig.programs / "certconnector", "--version").stdout.split()[-1]
    assert first["connectorId"] == connector.status()["connectorId"]
    assert first["version"] == version and first["features"] == ["pfx-import"]
    times = [datetime.datetime.fromisoformat(first[name].replace("Z", "+00:00")) for name in ("startedDateTime", "sentDateTime")]
    assert times[0] <= times[1] <= datetime.datetime.now(datetime.timezone.utc)
    assert set(first["token"]) == {"state", "label", "manufacturer", "model"}
    assert first["queues"] == {"pfx-import": 0} and isinstance(first["issues"], list)
    assert first["metrics"] == [{"name": "pfx-import", "value": 0, "successCount": 0, "failureCount": 0}]

    # A change of features is told at once, by a last message of the old and a first of the new ones; so is a stop.
    reload(connector, **{"service.heartbeat": "1h", "connector.features": "pfx-import, revocation"})
    wait_until(lambda: service.heard()[-1]["features"] == ["pfx-import", "revocation"], "the change of features is told")
    before = len(service.heard())
    assert connector.process.stop() == 0
    assert len(service.heard()) == before + 1


def test_lifecycle(service, make):
    service.say(status="Active", latestVersion="0.0.1", features=["pfx-import"])
    connector = make()
    connector.start()
    wait_until(lambda: "lifecycle" in connector.status()["service"], "the answer is taken")
    assert connector.status()["service"]["lifecycle"] == {"status": "Active", "latestVersion": "0.0.1", "refusedFeatures": []}
    hear_more(service)
    assert said(connector) == [], "a release that was supported all the time is no news"

    service.say(status="Warning", latestVersion="9.8.7", supportedUntilDateTime="2031-05-17T00:00:00Z",
                statusReason="9.8.7 \x1b[31mis out", features=["pfx-import"])
    [event] = wait_until(lambda: connector.events("--id", str(VERSION_WARNING)), "the warning")
    assert event["level"] == "Warning" and event["name"] == "ConnectorVersionWarning"
    for part in ("2031-05-17", "update to 9.8.7", "is out"):
        assert part in event["message"]
    shown = connector.cli("status").stdout
    assert "Warning, supported until 2031-05-17, the newest release is 9.8.7: 9.8.7" in shown and "\x1b" not in shown
    hear_more(service)
    assert said(connector) == [VERSION_WARNING], "it is said once"

    # Another end of support is news, another wording of the reason is not.
    service.say(status="Warning", latestVersion="9.8.7", supportedUntilDateTime="2031-05-17T00:00:00Z", statusReason="still")
    hear_more(service)
    assert said(connector) == [VERSION_WARNING]
    service.say(status="Error", latestVersion="9.8.7", supportedUntilDateTime="2031-05-17T00:00:00Z", statusReason="over")
    wait_until(lambda: said(connector) == [VERSION_WARNING, VERSION_ERROR], "the error")
    assert "Error" in connector.cli("status").stdout

    # An answer that cannot be read changes nothing, nor does one that says nothing.
    for answer in ({"status": 7}, {}):
        service.say(**answer)
        hear_more(service)
    assert connector.events("--id", "HealthMessageUploadFailedAttempt") != []
    service.say(status="Active", latestVersion="9.8.7")
    wait_until(lambda: said(connector) == [VERSION_WARNING, VERSION_ERROR, VERSION_SUPPORTED], "the end of it")


def test_six_months_at_the_stand_in(shared):
    """The life of this release there, by a set clock: in its list of connectors, in status, in metrics and as events."""
    rig, token = shared
    port = free_port()
    service = rig.service()
    connector = rig.connector(service, token, name="ages", overrides={"service.heartbeat": "100ms", "metrics.listen": f"127.0.0.1:{port}"})
    version = connector.status()["version"]
    for released, day in ((version, "2026-01-10"), ("98.0.0", "2026-03-31")):
        service.admin("POST", "releases", {"version": released, "releaseDateTime": day + "T12:00:00Z"})

    def at(time, want):
        service.admin("POST", "lifecycleClock", {"dateTime": time})
        lifecycle = wait_until(lambda: (now := connector.status()["service"]["lifecycle"])["status"] == want and
                               now.get("supportedUntilDateTime") == "2026-09-30T12:00:00.000Z" and now, f"it is {want}")
        [listed] = service.admin("GET", "connectors")["value"]
        assert (listed["status"], listed["statusReason"]) == (want, lifecycle.get("statusReason", ""))
        shown = run("curl", "--silent", "--fail", "--noproxy", "*", f"http://127.0.0.1:{port}/metrics").stdout
        assert [line.split()[1] for line in shown.splitlines() if line.startswith("certconnector_version_status") and f'"{want}"' in line] == ["1"]
        return lifecycle

    at("2026-03-31T11:59:59Z", "Active")
    send_more(connector)
    assert said(connector) == []
    assert at("2026-03-31T12:00:00Z", "Warning")["latestVersion"] == "98.0.0"
    at("2026-09-30T11:59:50Z", "Warning")
    send_more(connector)
    at("2026-09-30T12:00:01Z", "Error")
    wait_until(lambda: said(connector) == [VERSION_WARNING, VERSION_ERROR], "both are told")
    [warning], [error] = (connector.events("--id", str(number)) for number in (VERSION_WARNING, VERSION_ERROR))
    assert "until 2026-09-30: update to 98.0.0" in warning["message"] and "since 2026-09-30: update to 98.0.0" in error["message"]
    assert connector.process.stop() == 0 and service.process.stop() == 0


def test_features_that_are_not_allowed(service, make):
    service.say(status="Active", features=["pkcs"])
    connector = make()
    connector.start()

    def refused():
        return connector.events("--id", str(FEATURE_REFUSED))

    [event] = wait_until(refused, "it is said")
    assert "pfx-import" in event["message"]
    hear_more(service)
    assert len(refused()) == 1
    assert connector.status()["service"]["lifecycle"]["refusedFeatures"] == ["pfx-import"]
    assert "not allowed   pfx-import" in connector.cli("status").stdout
    service.say(status="Active", features=["pkcs", "pfx-import"])
    wait_until(lambda: connector.status()["service"]["lifecycle"]["refusedFeatures"] == [], "it is allowed")
    service.say(status="Active", features=[])
    wait_until(lambda: len(refused()) == 2, "it is said anew")


def test_issues(service, make):
    connector = make(CA)
    make_ca(connector)
    # The key of the CA is not on the token.
    connector.write_config(CA, settings(**{"keys.ca": "pkcs11:object=nowhere"}))
    connector.start(wait=False)
    wait_until(lambda: service.heard() and {"CaUnavailable", "KeyUnusable"} <= set(issues(service)), "the issues are told")
    assert "corp" in issues(service)["CaUnavailable"]["message"] and "ca: " in issues(service)["KeyUnusable"]["message"]
    assert "ClockSkew" not in issues(service)
    for issue in issues(service).values():
        assert issue["severity"] in ("error", "warning") and issue["message"]

    service.clock_ahead = 3600
    wait_until(lambda: "ClockSkew" in issues(service), "the clock is told")
    assert "behind" in issues(service)["ClockSkew"]["message"]
    service.clock_ahead = 0

    # What ends soon is told, with what there is to do; and when everything ends.
    soon = datetime.date.today() + datetime.timedelta(days=10)
    reload(connector, **{"keys.ca": "pkcs11:object=nowhere", "service.client-secret-expires": soon.isoformat()})
    wait_until(lambda: "Expiring" in issues(service), "the end of the secret is told")
    assert issues(service)["Expiring"]["severity"] == "warning" and soon.isoformat() in issues(service)["Expiring"]["message"]
    ends = {certificate["role"]: certificate["expirationDateTime"] for certificate in service.heard()[-1]["certificates"]}
    assert ends["client-secret"].startswith(soon.isoformat()) and "ca" in ends

    # The right key is named, the secret has no end: the issues go.
    reload(connector)
    wait_until(lambda: service.heard()[-1]["issues"] == [], "there is nothing to tell")


def test_refused_pin_is_an_issue(service, make):
    connector = make()
    right = connector.token.pin_file.read_text()
    connector.token.pin_file.write_text("13579\n")
    try:
        connector.start(wait=False)
        wait_until(lambda: service.heard() and "TokenPinRefused" in issues(service), "the refused PIN is told")
    finally:
        connector.token.pin_file.write_text(right)
    wait_until(lambda: service.heard()[-1]["issues"] == [], "there is nothing to tell")
    assert right.strip() not in str(service.heard()) and "13579" not in str(service.heard())
