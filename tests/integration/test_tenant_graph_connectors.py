# SPDX-License-Identifier: MIT
"""Graph's view of the stand-in service's connectors: lists, items, names, removal, health metrics and their series."""

import datetime
import struct
import uuid

import pytest

from helpers_tenant import BUILD, Tenant

NDES, DETAILS = "beta/deviceManagement/ndesConnectors", "beta/deviceManagement/certificateConnectorDetails"


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path)
    yield service
    service.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests with connectors of their own."""
    service = Tenant(tmp_path_factory.mktemp("shared"))
    yield service
    service.kill()


def get(tenant, path, status=200):
    answer = tenant.graph("GET", path)
    assert answer.status_code == status, answer.text
    return answer.json()


def metric(name, succeeded, failed=0):
    return {"name": name, "value": succeeded + failed, "successCount": succeeded, "failureCount": failed}


def beat(tenant, connector, *metrics, **members):
    answer = tenant.heartbeat(connector, metrics=list(metrics), **members)
    assert answer.status_code == 200, answer.text


def now():
    return datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def test_lists_and_items(tenant):
    assert get(tenant, NDES) == {"@odata.context": f"{tenant.url}/beta/$metadata#deviceManagement/ndesConnectors", "value": []}
    assert get(tenant, DETAILS)["value"] == []
    before = now()
    tenant.download("silent")
    beat(tenant, "told", version="1.2.3")
    silent, told = get(tenant, NDES)["value"]
    assert {name: silent[name] for name in ("id", "state", "displayName", "roleScopeTagIds")} == {
        "id": "silent", "state": "none", "displayName": "silent", "roleScopeTagIds": ["0"]}
    assert {name: told[name] for name in ("id", "state", "displayName", "connectorVersion")} == {
        "id": "told", "state": "active", "displayName": "told", "connectorVersion": "1.2.3"}
    assert before <= told["enrolledDateTime"] <= told["lastConnectionDateTime"] <= now()
    assert get(tenant, f"{NDES}/told") == {"@odata.context": f"{tenant.url}/beta/$metadata#deviceManagement/ndesConnectors/$entity", **told}
    detail = get(tenant, f"{DETAILS}/told")
    assert {name: detail[name] for name in ("id", "connectorName", "connectorVersion")} == {"id": "told", "connectorName": "told", "connectorVersion": "1.2.3"}
    assert detail["enrollmentDateTime"] == told["enrolledDateTime"] and detail["lastCheckinDateTime"] == told["lastConnectionDateTime"]
    assert [d["id"] for d in get(tenant, DETAILS)["value"]] == ["silent", "told"]
    for path in (NDES, DETAILS):
        assert get(tenant, f"{path}/nobody", 404)["error"]["code"] == "ResourceNotFound"


def test_names_and_removal(tenant):
    beat(tenant, "c")
    answer = tenant.graph("PATCH", f"{NDES}/c", {"displayName": "Dublin <1>"})
    assert answer.status_code == 200 and answer.json()["displayName"] == "Dublin <1>"
    beat(tenant, "c")
    tenant.stop()
    tenant.start()
    assert get(tenant, f"{DETAILS}/c")["connectorName"] == "Dublin <1>"
    assert tenant.admin("GET", "connectors")["value"][0]["displayName"] == "Dublin <1>"
    for body in ({}, {"displayName": ""}, {"displayName": 7}, {"displayName": "x" * 257}):
        assert tenant.graph("PATCH", f"{NDES}/c", body).status_code == 400
    assert tenant.graph("PATCH", f"{NDES}/nobody", {"displayName": "x"}).status_code == 404
    assert tenant.graph("DELETE", f"{NDES}/c").status_code == 204
    assert tenant.graph("DELETE", f"{NDES}/c").status_code == 404
    assert tenant.graph("PATCH", f"{NDES}/c", {"displayName": "x"}).status_code == 404
    assert get(tenant, NDES)["value"] == get(tenant, DETAILS)["value"] == []
    get(tenant, f"{NDES}/c", 404)
    assert tenant.heartbeat("c").status_code == 403


def metrics(tenant, connector, **body):
    answer = tenant.graph("POST", f"{DETAILS}/{connector}/getHealthMetrics", body)
    assert answer.status_code == 200, answer.text
    return {item["name"]: item["value"] for item in answer.json()["value"]}


def series(tenant, connector, name, **members):
    answer = tenant.graph("POST", f"{DETAILS}/{connector}/getHealthMetricTimeSeries", {"timeSeriesParameter": {"metricName": name, **members}})
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


def test_health_metrics(shared):
    beat(shared, "m", metric("pkcs", 5, 1), metric("scep", 2))
    beat(shared, "m", metric("pkcs", 8, 1), {"name": "latency", "value": 12.9})
    assert metrics(shared, "m") == {"latency": 12, "pkcs": 9, "scep": 2}
    assert metrics(shared, "m", metricNames=["pkcs", "tea"]) == {"pkcs": 9}
    assert metrics(shared, "m", metricNames=[]) == {}
    beat(shared, "other")
    assert metrics(shared, "other") == {} and series(shared, "other", "pkcs") == []
    for path, body, want in (("m/getHealthMetrics", {"metricNames": "x"}, 400), ("m/getHealthMetrics", {"metricNames": ["x"] * 65}, 400),
                             ("nobody/getHealthMetrics", {}, 404), ("m/getHealthMetricTimeSeries", {}, 400),
                             ("m/getHealthMetricTimeSeries", {"timeSeriesParameter": {}}, 400), ("m/getHealth", {}, 404),
                             ("m/getHealthMetricTimeSeries", {"timeSeriesParameter": {"metricName": "x", "startDateTime": "soon"}}, 400),
                             ("nobody/getHealthMetricTimeSeries", {"timeSeriesParameter": {"metricName": "x"}}, 404)):
        assert shared.graph("POST", f"{DETAILS}/{path}", body).status_code == want, (path, body)


@pytest.mark.parametrize("bad", [{}, [], [7], [{}], [{"name": ""}], [{"name": "x" * 65}], [{"name": "x", "value": "1"}], [{"name": "x", "value": -1}],
                                 [{"name": "x", "successCount": 1e300}], [{"name": "x", "failureCount": True}], [{"name": str(n)} for n in range(65)]],
                         ids=lambda bad: str(bad)[:24])
def test_spoiled_metrics(shared, bad):
    connector = str(uuid.uuid4())
    answer = shared.heartbeat(connector, metrics=bad)
    assert answer.status_code == (200 if bad == [] else 400)
    assert metrics(shared, connector) == {} if bad == [] else get(shared, f"{DETAILS}/{connector}", 404)


def test_only_so_many_metrics_are_kept(shared):
    beat(shared, "many", *[metric(f"a{n:02}", 1) for n in range(40)])
    beat(shared, "many", *[metric(f"b{n:02}", 1) for n in range(40)], metric("a00", 2))
    kept = metrics(shared, "many")
    assert len(kept) == 64 and kept["a00"] == 2 and "b23" in kept and "b24" not in kept
    assert series(shared, "many", "b24") == [] and len(series(shared, "many", "a00")) == 1


def test_series(tmp_path):
    shift = tmp_path / "shift"
    shift.write_bytes(struct.pack("=q", 0))
    tenant = Tenant(tmp_path, env={"LD_PRELOAD": str(BUILD / "tests" / "clock_shift.so"), "CLOCK_SHIFT": str(shift)})
    # In the middle of a minute, so that none ends on the way.
    start = datetime.datetime.utcnow()
    ahead = 90 - start.second

    def later(minutes):
        with open(shift, "r+b") as file:
            file.write(struct.pack("=q", ahead + minutes * 60))
        tenant.tokens = {}

    def minute(minutes):
        time = start + datetime.timedelta(seconds=ahead + minutes * 60)
        return time.strftime("%Y-%m-%dT%H:%M:00.000Z")

    try:
        later(0)
        beat(tenant, "c", metric("pkcs", 3, 1))
        beat(tenant, "c", metric("pkcs", 5, 1))
        later(1)
        beat(tenant, "c", metric("pkcs", 5, 4), metric("scep", 1))
        later(3)
        # A counter that is lower began anew.
        beat(tenant, "c", metric("pkcs", 2, 0))
        points = [{"dateTime": minute(0), "successCount": 2, "failureCount": 0}, {"dateTime": minute(1), "successCount": 0, "failureCount": 3},
                  {"dateTime": minute(3), "successCount": 2, "failureCount": 0}]
        assert series(tenant, "c", "pkcs") == points
        assert series(tenant, "c", "pkcs", startDateTime=minute(1)) == points[1:]
        assert series(tenant, "c", "pkcs", startDateTime=minute(1), endDateTime=minute(2)) == points[1:2]
        assert series(tenant, "c", "scep") == series(tenant, "c", "tea") == []
        # A day later what was a day ago is gone.
        later(24 * 60 + 2)
        beat(tenant, "c", metric("pkcs", 2))
        assert series(tenant, "c", "pkcs") == [points[2], {"dateTime": minute(24 * 60 + 2), "successCount": 0, "failureCount": 0}]
        assert metrics(tenant, "c") == {"pkcs": 2}
    finally:
        tenant.kill()
