# SPDX-License-Identifier: MIT
"""The stand-in service's releases, and what they make of a connector's version over the months."""

import datetime
import struct

import pytest

from helpers_tenant import BUILD, Tenant


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path)
    yield service
    service.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    service = Tenant(tmp_path_factory.mktemp("shared"))
    yield service
    service.kill()


def release(tenant, version, day):
    tenant.admin("POST", "releases", {"version": version, "releaseDateTime": day + "T12:00:00Z"})


def at(tenant, time):
    return tenant.admin("POST", "lifecycleClock", {"dateTime": time})


def beat(tenant, version="1.0.0", connector="connector-1"):
    answer = tenant.heartbeat(connector, version=version)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return {name: body[name] for name in ("status", "statusReason", "supportedUntilDateTime", "latestVersion")}


def test_without_releases(shared):
    assert beat(shared) == {"status": "Active", "statusReason": "", "supportedUntilDateTime": None, "latestVersion": "0.1.0"}


def test_six_months(tenant):
    release(tenant, "1.0.0", "2026-01-10")
    release(tenant, "1.1.0", "2026-03-31")
    until = "2026-09-30T12:00:00.000Z"
    for time, want in (("2026-01-10T12:00:00Z", "Active"), ("2026-03-31T11:59:59Z", "Active"), ("2026-03-31T12:00:00Z", "Warning"),
                       ("2026-09-30T11:59:50Z", "Warning"), ("2026-09-30T12:00:00Z", "Error"), ("2027-01-01T00:00:00Z", "Error"),
                       ("2026-03-31T11:00:00Z", "Active")):
        at(tenant, time)
        answer = beat(tenant)
        assert answer["status"] == want, time
        # What is to come is told before it comes.
        assert answer["supportedUntilDateTime"] == until
        assert answer["latestVersion"] == ("1.0.0" if want == "Active" else "1.1.0")
        assert answer["statusReason"] == {"Active": "", "Warning": "version 1.0.0 was followed by 1.1.0 on 2026-03-31 and is supported until 2026-09-30",
                                          "Error": "version 1.0.0 was followed by 1.1.0 on 2026-03-31 and is not supported since 2026-09-30"}[want]
        entry, = tenant.admin("GET", "connectors")["value"]
        assert (entry["status"], entry["statusReason"], entry["supportedUntilDateTime"]) == (want, answer["statusReason"], until)
        # The clock is the lifecycle's alone.
        assert entry["state"] == "active"
        assert beat(tenant, "1.1.0", "connector-1")["status"] == "Active"
        beat(tenant)


def test_versions(tenant):
    for version, day in (("1.0.0", "2026-01-01"), ("1.1.0", "2026-02-01"), ("2.0.0", "2026-03-01"), ("1.1.1", "2026-04-01"), ("1.10.0", "2026-05-01")):
        release(tenant, version, day)
    at(tenant, "2026-06-01T00:00:00Z")
    ends = {"0.9": "2026-07-01", "1.0.0": "2026-08-01", "1.1.0": "2026-09-01", "1.1.1": "2026-09-01", "1.2.0": "2026-09-01", "1.10.0": "2026-09-01",
            "2.0.0-rc1": "2026-09-01", "2.0.0": None, "2.0.1": None, "10": None, "tea": "2026-07-01", "<b>\u202e": "2026-07-01"}
    for version, end in ends.items():
        answer = beat(tenant, version)
        assert answer["supportedUntilDateTime"] == (end and end + "T12:00:00.000Z"), version
        assert answer["status"] == ("Warning" if end else "Active") and answer["latestVersion"] == "2.0.0"
        assert "\u202e" not in answer["statusReason"]


def test_releases_and_clock_last(tenant):
    release(tenant, "1.0.0", "2026-01-10")
    release(tenant, "1.10.0", "2026-02-10")
    release(tenant, "1.2.0", "2026-02-20")
    release(tenant, "1.2.0", "2026-02-01")
    assert at(tenant, "2031-01-01T00:00:00Z")["dateTime"].startswith("2031-01-01T00:00:0")
    later = tenant.admin("POST", "lifecycleClock", {"advanceSeconds": 86400})["dateTime"]
    tenant.stop()
    tenant.start()
    assert tenant.admin("GET", "releases")["value"] == [
        {"version": "1.10.0", "releaseDateTime": "2026-02-10T12:00:00.000Z"}, {"version": "1.2.0", "releaseDateTime": "2026-02-01T12:00:00.000Z"},
        {"version": "1.0.0", "releaseDateTime": "2026-01-10T12:00:00.000Z"}]
    assert later[:10] == "2031-01-02" and tenant.admin("GET", "lifecycleClock")["dateTime"][:10] == "2031-01-02"
    assert beat(tenant)["status"] == "Error"
    tenant.admin("DELETE", "releases/1.10.0")
    tenant.admin("DELETE", "releases/1.2.0")
    assert tenant.admin_answer("DELETE", "releases/1.2.0").status_code == 404
    assert beat(tenant)["status"] == "Active"
    now = tenant.admin("POST", "lifecycleClock", {"reset": True})
    assert now["aheadSeconds"] == 0 and now["dateTime"][:10] == datetime.datetime.utcnow().date().isoformat()


def test_inactive_after_ten_minutes(tmp_path):
    shift = tmp_path / "shift"
    shift.write_bytes(struct.pack("=q", 0))
    tenant = Tenant(tmp_path, env={"LD_PRELOAD": str(BUILD / "tests" / "clock_shift.so"), "CLOCK_SHIFT": str(shift)})
    try:
        for seconds, want in ((0, "active"), (590, "active"), (610, "inactive")):
            with open(shift, "r+b") as file:
                file.write(struct.pack("=q", 0))
            beat(tenant)
            with open(shift, "r+b") as file:
                file.write(struct.pack("=q", seconds))
            # That it asks for work says nothing of its health.
            tenant.download()
            entry, = tenant.admin("GET", "connectors")["value"]
            assert entry["state"] == want
            assert (datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds - 60)).isoformat() < entry["lastContactDateTime"]
        beat(tenant)
        assert tenant.admin("GET", "connectors")["value"][0]["state"] == "active"
    finally:
        tenant.kill()


@pytest.mark.parametrize("path, body", [
    ("releases", {}), ("releases", {"version": "1.0.0"}), ("releases", {"version": "v1", "releaseDateTime": "2026-01-01T00:00:00Z"}),
    ("releases", {"version": "1.0.0", "releaseDateTime": "soon"}), ("releases", {"version": "1" * 65, "releaseDateTime": "2026-01-01T00:00:00Z"}),
    ("releases", {"version": "<b>", "releaseDateTime": "2026-01-01T00:00:00Z"}), ("lifecycleClock", {}), ("lifecycleClock", {"dateTime": "soon"}),
    ("lifecycleClock", {"dateTime": "2031-01-01T00:00:00Z", "reset": True}), ("lifecycleClock", {"advanceSeconds": 0}),
    ("lifecycleClock", {"dateTime": "2199-01-01T00:00:00Z"})], ids=str)
def test_refused(shared, path, body):
    assert shared.admin_answer("POST", path, body).status_code == 400
    assert shared.admin("GET", "releases")["value"] == []
