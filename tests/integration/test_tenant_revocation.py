# SPDX-License-Identifier: MIT
"""The stand-in service's API of certificates to be revoked: download, cool-down, filters, results, faults."""

import json
import subprocess
import time
import uuid

import pytest
import requests

from helpers_tenant import API_VERSION, GRAPH_SCOPE, PROGRAM, REVOCATION_API_VERSION, Tenant, failure, wait_until
from test_tenant_pkcs import MEMBERS, RECRYPT, issued, recrypted

DOWNLOAD, UPLOAD = "downloadRevocationRequests", "uploadRevocationResults"
CODES = {0: "None", 4000: "NonRetryableServiceException", 4001: "DataSerializationError", 4002: "ParameterDataInvalidError",
         4003: "CryptographyError", 4004: "CertificateNotFoundError", 4005: "ConflictError", 4006: "NotSupportedError",
         4007: "PayloadTooLargeError", 4100: "RetryableServiceException", 4101: "ServiceUnavailableException",
         4102: "ServiceTooBusyException", 4103: "AuthenticationException"}


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path)
    yield service
    service.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave nothing behind that another would mind, and have no cool-down."""
    service = Tenant(tmp_path_factory.mktemp("shared"), "--revocation-cool-down", "0")
    yield service
    service.kill()


def ask(**parameters):
    return {"downloadParameters": {"maxRequests": 100, "issuerName": None, **parameters}}


def result(request, code="0", **members):
    """A result of a request that was downloaded, or of a context."""
    context = request if isinstance(request, str) else request["requestContext"]
    return {"requestContext": context, "succeeded": str(code) in ("0", "None"), "errorCode": code, **members}


def serials(value):
    return [request["serialNumber"] for request in value]


def over(tenant):
    """The cool-down is over."""
    return tenant.admin("POST", "revocationClock", {"advanceSeconds": 3600})


def counts(tenant):
    return tenant.counts()["revocation"]


# ---- download ----

def test_download(tenant):
    ids = tenant.revoke({"serialNumber": "0A", "issuerName": "CN=CA", "caConfiguration": "conf"}, {"serialNumber": "0B"},
                        {"serialNumber": "0C", "issuerName": None, "caConfiguration": None})
    answer = tenant.authority_requests(DOWNLOAD, ask())
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("application/json")
    body = answer.json()
    assert body["@odata.context"].endswith("/$metadata#Collection(microsoft.management.services.api.caRevocationRequest)")
    assert sorted(body) == ["@odata.context", "value"]
    contexts = [request.pop("requestContext") for request in body["value"]]
    assert len(set(contexts)) == 3 and all(contexts)
    assert body["value"] == [{"serialNumber": "0A", "issuerName": "CN=CA", "caConfiguration": "conf"},
                             {"serialNumber": "0B", "issuerName": None, "caConfiguration": None},
                             {"serialNumber": "0C", "issuerName": None, "caConfiguration": None}]
    assert [tenant.revocation(i)["requestContext"] for i in ids] == contexts
    assert [tenant.revocation(i)["state"] for i in ids] == ["delivered"] * 3


@pytest.mark.parametrize("parameters, want", [
    ({"maxRequests": 1}, 200), ({"maxRequests": 500}, 200), ({"maxRequests": 0}, 400), ({"maxRequests": 501}, 400),
    ({"maxRequests": -1}, 400), ({"maxRequests": "1"}, 400), ({"maxRequests": 1.0}, 400), ({"maxRequests": None}, 400),
    ({"issuerName": ""}, 200), ({"issuerName": "\u00fc" * 256}, 200), ({"issuerName": "\u00fc" * 257}, 400),
    ({"issuerName": "x" * 257}, 400), ({"issuerName": 7}, 400), ({"aMemberOfTomorrow": 1}, 200),
], ids=str)
def test_download_parameters(tenant, parameters, want):
    tenant.revoke(serialNumber="1")
    answer = tenant.authority_requests(DOWNLOAD, ask(**parameters))
    assert answer.status_code == want
    # What was refused began no cool-down.
    assert (tenant.admin("GET", "revocationClock")["leftSeconds"] > 0) == (want == 200)
    if want == 400:
        assert answer.json()["error"]["code"] == "BadRequest"
        assert serials(tenant.download_revocations()) == ["1"]


@pytest.mark.parametrize("body", [{}, {"downloadParameters": None}, {"downloadParameters": []}, {"downloadParameters": {}}, []])
def test_download_refused(shared, body):
    assert shared.authority_requests(DOWNLOAD, body).status_code == 400


def test_max_requests_cuts(tenant):
    tenant.revoke(*[{"serialNumber": str(n)} for n in range(600)])
    assert serials(tenant.download_revocations(500)) == [str(n) for n in range(500)]
    over(tenant)
    # Those that were never handed out come first.
    assert serials(tenant.download_revocations(101)) == [str(n) for n in range(500, 600)] + ["0"]


# ---- headers and paths ----

@pytest.mark.parametrize("action", [DOWNLOAD, UPLOAD])
@pytest.mark.parametrize("headers, want", [
    ({}, None), ({"api-version": API_VERSION}, 400), ({"api-version": None}, 400), ({"api-version": "2018-02-20"}, 400),
    ({"client-request-id": "x"}, 400), ({"client-request-id": None}, None), ({"Authorization": None}, 401),
    ({"Authorization": "Bearer x"}, 401), ({"Content-Type": "text/plain"}, 415), ({"UserAgent": "ExampleCA 1.0"}, None),
    ({"Content-Type": "application/json; charset=utf-8"}, None),
], ids=str)
def test_headers(shared, action, headers, want):
    body = ask() if action == DOWNLOAD else {"results": [result("x")]}
    answer = shared.authority_requests(action, body, headers=headers)
    assert answer.status_code == (want or 200), answer.text
    if want == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_of_the_resource_is_needed(shared):
    headers = {"Authorization": "Bearer " + shared.token(GRAPH_SCOPE)}
    assert shared.authority_requests(DOWNLOAD, ask(), headers=headers).status_code == 401
    headers = {"Authorization": shared.admin_header["Authorization"]}
    assert shared.authority_requests(DOWNLOAD, ask(), headers=headers).status_code == 401


def test_paths(tenant):
    assert tenant.authority_requests("nothing", ask()).status_code == 404
    assert tenant.http.get(f"{tenant.discover()}/CertificateAuthorityRequests/{DOWNLOAD}").status_code == 405
    uri = tenant.discover()
    tenant.admin("POST", "moveAccount")
    assert tenant.authority_requests(DOWNLOAD, ask(), uri=uri).status_code == 410
    assert tenant.authority_requests(DOWNLOAD, ask()).status_code == 200


def test_tokens_expire(tenant):
    assert tenant.authority_requests(DOWNLOAD, ask()).status_code == 200
    uri = tenant.discover()
    tenant.admin("POST", "expireTokens")
    assert tenant.authority_requests(DOWNLOAD, ask(), uri=uri).status_code == 401


def test_no_feature_is_asked_for(tenant):
    tenant.heartbeat(features=["pkcs"])
    tenant.revoke(serialNumber="1")
    assert len(tenant.download_revocations()) == 1


# ---- the cool-down ----

def test_cool_down(tenant):
    assert tenant.admin("GET", "revocationClock") == {"coolDownSeconds": 3600, "leftSeconds": 0}
    # An empty answer begins it as well.
    assert tenant.download_revocations() == []
    tenant.revoke(serialNumber="1")
    assert tenant.download_revocations() == []
    clock = tenant.admin("POST", "revocationClock", {"advanceSeconds": 3000})
    assert clock["coolDownSeconds"] == 3600 and 590 <= clock["leftSeconds"] <= 600
    assert tenant.download_revocations() == []
    assert tenant.admin("POST", "revocationClock", {"advanceSeconds": 600})["leftSeconds"] == 0
    assert serials(tenant.download_revocations()) == ["1"]
    assert tenant.download_revocations() == []
    assert tenant.admin("POST", "revocationClock", {"reset": True})["leftSeconds"] == 0
    assert serials(tenant.download_revocations()) == ["1"]


def test_cool_down_is_the_tenants_and_lasts(tenant):
    tenant.revoke(serialNumber="1")
    assert len(tenant.download_revocations()) == 1
    tenant.kill()
    tenant.start()
    assert tenant.download_revocations() == []
    assert 3590 <= tenant.admin("GET", "revocationClock")["leftSeconds"] <= 3600
    # Filters make no difference: the clock is one.
    assert tenant.download_revocations(issuer="CN=CA") == []


def test_cool_down_by_option(tmp_path):
    service = Tenant(tmp_path, "--revocation-cool-down", "1")
    try:
        service.revoke(serialNumber="1")
        begun = time.monotonic()
        assert len(service.download_revocations()) == 1
        wait_until(service.download_revocations, "the cool-down is over")
        assert time.monotonic() - begun > 0.9
        assert service.admin("GET", "revocationClock")["coolDownSeconds"] == 1
    finally:
        service.kill()


@pytest.mark.parametrize("body", [{}, {"advanceSeconds": 0}, {"advanceSeconds": -1}, {"advanceSeconds": "1"}, {"reset": False}, {"reset": 1},
                                  {"advanceSeconds": 1, "reset": True}, {"advanceSeconds": 10**12}, [1]])
def test_clock_refused(shared, body):
    assert shared.admin_answer("POST", "revocationClock", body).status_code == 400


def test_unanswered_requests_come_again(tenant):
    [request_id] = tenant.revoke({"serialNumber": "1"})
    contexts = set()
    for delivery in range(1, 4):
        [request] = tenant.download_revocations()
        contexts.add(request["requestContext"])
        assert tenant.revocation(request_id)["deliveries"] == delivery
        over(tenant)
    assert len(contexts) == 1
    assert [e["event"] for e in tenant.revocation(request_id)["history"]] == ["queued"] + ["delivered"] * 3
    assert tenant.upload_revocations(result(contexts.pop())) is True
    assert tenant.download_revocations() == []


# ---- the filter ----

FILTER_CASES = [
    ("documented", None, 500, "1 2 3 4"), ("documented", "CN=B", 500, "3 4"), ("documented", "CN=B", 1, "3"),
    ("documented", "conf B", 500, ""), ("documented", "cn=b", 500, ""), ("documented", "", 3, "1 2 3"),
    ("real", None, 2, "1 2"), ("real", "conf B", 500, "3 4"), ("real", "conf B", 3, "3"), ("real", "conf B", 2, ""),
    ("real", "CN=B", 500, ""), ("real", "", 3, "1 2 3"),
]


@pytest.mark.parametrize("kind, issuer, most, want", FILTER_CASES)
def test_filter(tenant, kind, issuer, most, want):
    for n, ca in ((1, "A"), (2, "A"), (3, "B"), (4, "B")):
        tenant.revoke(serialNumber=str(n), issuerName=f"CN={ca}", caConfiguration=f"conf {ca}")
    if kind == "real":
        tenant.admin("PUT", "revocationFilter", {"filter": "real"})
    assert " ".join(serials(tenant.download_revocations(most, issuer))) == want
    assert counts(tenant)["delivered"] == len(want.split())
    # What a filter held back is handed out without it.
    over(tenant)
    tenant.admin("PUT", "revocationFilter", {"filter": "documented"})
    assert sorted(serials(tenant.download_revocations())) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kind, want", [("documented", ["1"]), ("real", ["2"])])
def test_filter_by_option(tmp_path, kind, want):
    service = Tenant(tmp_path, "--revocation-filter", kind)
    try:
        service.revoke({"serialNumber": "1", "issuerName": "X"}, {"serialNumber": "2", "caConfiguration": "X"})
        assert serials(service.download_revocations(issuer="X")) == want
    finally:
        service.kill()


@pytest.mark.parametrize("body", [{}, {"filter": "other"}, {"filter": 1}, {"filter": None}, {"filter": "Real"}])
def test_filter_refused(shared, body):
    assert shared.admin_answer("PUT", "revocationFilter", body).status_code == 400


# ---- upload ----

@pytest.mark.parametrize("number, name", CODES.items())
@pytest.mark.parametrize("spelling", ["name", "text", "number"])
def test_error_codes(shared, number, name, spelling):
    shared.admin("POST", "revocationClock", {"reset": True})
    request_id = shared.revoke(serialNumber="1")
    context = shared.revocation(request_id)["requestContext"]
    assert context in [request["requestContext"] for request in shared.download_revocations()]
    sent = result(context, {"name": name, "text": str(number), "number": number}[spelling])
    if number != 0:
        sent["errorMessage"] = "it did not work"
    assert sent["succeeded"] == (number == 0)
    assert shared.upload_revocations(sent) is True
    request = shared.revocation(request_id)
    assert request["result"] == sent and request["history"][-1]["status"] == "accepted"
    assert request["state"] == ("completed" if number == 0 else "queued" if number >= 4100 else "failed")
    assert request["history"][-1].get("requeued", False) == (number >= 4100)
    again = context in [r["requestContext"] for r in shared.download_revocations()]
    assert again == (number >= 4100)
    if again:
        shared.upload_revocations(result(context))


def test_upload_answer(tenant):
    tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    answer = tenant.authority_requests(UPLOAD, {"results": [result(request)]})
    assert answer.status_code == 200 and answer.json()["value"] is True and answer.json()["@odata.context"]
    assert sorted(answer.json()) == ["@odata.context", "value"]


@pytest.mark.parametrize("spell", [
    lambda name: name[0].upper() + name[1:], str.upper, str.lower,
], ids=["PascalCase", "UPPER", "lower"])
def test_member_names_in_any_case(tenant, spell):
    ids = tenant.revoke({"serialNumber": "1"}, {"serialNumber": "2"})
    first, second = tenant.download_revocations()
    sent = [{spell(name): value for name, value in one.items()}
            for one in (result(first, "None", errorMessage=None), result(second, "ConflictError", errorMessage="state"))]
    assert tenant.upload_revocations(*sent) is True
    assert [tenant.revocation(i)["state"] for i in ids] == ["completed", "failed"]
    assert [tenant.revocation(i)["result"] for i in ids] == sent


@pytest.mark.parametrize("members, want", [
    # The rules of Microsoft's libraries.
    ({"succeeded": True, "errorCode": "4004"}, 400), ({"succeeded": False, "errorCode": "0"}, 400),
    ({"succeeded": False, "errorCode": "None"}, 400), ({"succeeded": False, "errorCode": 0}, 400),
    ({"succeeded": True, "errorCode": 4101}, 400), ({"requestContext": ""}, 400), ({"requestContext": None}, 400),
    ({"requestContext": 7}, 400), ({"errorMessage": "all is well"}, 400), ({"errorMessage": ""}, 200), ({"errorMessage": " \t"}, 200),
    ({"errorMessage": None}, 200), ({"errorMessage": 7}, 400),
    # Spellings that are none.
    ({"errorCode": None}, 400), ({"errorCode": ""}, 400), ({"errorCode": "none"}, 400), ({"errorCode": "00"}, 400), ({"errorCode": 0.0}, 400),
    ({"errorCode": False}, 400), ({"succeeded": False, "errorCode": "4008"}, 400), ({"succeeded": False, "errorCode": 4104}, 400),
    ({"succeeded": False, "errorCode": " 4004"}, 400), ({"succeeded": False, "errorCode": "04004"}, 400),
    ({"succeeded": False, "errorCode": "SomethingElse"}, 400), ({"succeeded": "true"}, 400), ({"succeeded": None}, 400),
    ({"succeeded": 1}, 400), ({"Succeeded": True}, 400), ({"aMemberOfTomorrow": 1}, 200),
], ids=str)
def test_rules_of_results(tenant, members, want):
    request_id = tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    good = result("x", "4004")
    # One bad result refuses all of them.
    answer = tenant.authority_requests(UPLOAD, {"results": [good, {**result(request), **members}]})
    assert answer.status_code == want, answer.text
    assert tenant.revocation(request_id)["state"] == ("completed" if want == 200 else "delivered")
    assert counts(tenant)["unknown"] == (want == 200)
    if want == 400:
        assert "results[1]" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["requestContext", "succeeded", "errorCode"])
def test_members_that_must_be_there(shared, name):
    sent = result("x", "4004")
    del sent[name]
    assert shared.authority_requests(UPLOAD, {"results": [sent]}).status_code == 400


@pytest.mark.parametrize("body", [{}, {"results": []}, {"results": None}, {"results": {}}, {"results": [1]}, {"results": [None]}, [],
                                  {"results": [{}] * 10001}])
def test_upload_refused(shared, body):
    assert shared.authority_requests(UPLOAD, body).status_code == 400


def test_unknown_context(tenant):
    before = counts(tenant)
    sent = [result("nobody's"), result(str(uuid.uuid4()), "4101", errorMessage="\u001b[31m")]
    assert tenant.upload_revocations(*sent) is True
    assert counts(tenant) == {**before, "unknown": 2}
    events = tenant.admin("GET", "unknownRevocationResults")["value"]
    assert [(e["event"], e["status"], e["result"]) for e in events] == [("uploaded", "unknown", one) for one in sent]


def test_results_for_the_same_context_twice(tenant):
    request_id = tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    assert tenant.upload_revocations(result(request), result(request)) is True
    assert tenant.upload_revocations(result(request, "4005", errorMessage="revoked already")) is True
    view = tenant.revocation(request_id)
    assert view["state"] == "completed" and view["result"] == result(request)
    assert [e.get("status") for e in view["history"]] == [None, None, "accepted", "repeated", "repeated"]
    assert view["history"][4]["result"]["errorCode"] == "4005"
    assert (counts(tenant)["accepted"], counts(tenant)["repeated"], counts(tenant)["completed"]) == (1, 2, 1)


def test_a_success_stands_over_a_failure_that_may_be_retried(tenant):
    request_id = tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    assert tenant.upload_revocations(result(request, "4102")) is True
    assert tenant.upload_revocations(result(request, "4102")) is True
    assert tenant.revocation(request_id)["state"] == "queued"
    assert tenant.upload_revocations(result(request)) is True
    assert [e.get("status") for e in tenant.revocation(request_id)["history"][2:]] == ["accepted", "repeated", "accepted"]
    assert tenant.revocation(request_id)["state"] == "completed"
    over(tenant)
    assert tenant.download_revocations() == []


def test_failures_that_may_be_retried_are_offered_after_the_cool_down(tenant):
    tenant.revoke({"serialNumber": "1"}, {"serialNumber": "2"}, {"serialNumber": "3"})
    first, second, third = tenant.download_revocations()
    assert tenant.upload_revocations(result(first, 4101), result(second, 4004), result(third, 0)) is True
    assert counts(tenant)["requeued"] == 1
    assert tenant.download_revocations() == []
    over(tenant)
    assert tenant.download_revocations() == [first]


def test_latin_1_of_the_java_library(tenant):
    request_id = tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    body = json.dumps({"results": [result(request, "4003", errorMessage="cl\u00e9 perdue")]}, ensure_ascii=False).encode("latin-1")
    headers = {"Authorization": "Bearer " + tenant.token(), "Content-Type": "application/json", "api-version": REVOCATION_API_VERSION}
    answer = tenant.http.post(f"{tenant.discover()}/CertificateAuthorityRequests/{UPLOAD}", data=body, headers=headers)
    assert answer.status_code == 200 and answer.json()["value"] is True
    assert tenant.revocation(request_id)["result"]["errorMessage"] == "cl\u00e9 perdue"
    assert tenant.http.post(f"{tenant.discover()}/CertificateAuthorityRequests/{UPLOAD}", data=b"\xe9", headers=headers).status_code == 400


# ---- faults ----

@pytest.mark.parametrize("action", [DOWNLOAD, UPLOAD])
@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_fault_status(tenant, action, status):
    request_id = tenant.revoke(serialNumber="1")
    context = tenant.revocation(request_id)["requestContext"]
    if action == UPLOAD:
        tenant.download_revocations()
    body = ask() if action == DOWNLOAD else {"results": [result(context)]}
    tenant.faults({"path": action, "status": status, "retryAfter": 7, "count": 1})
    answer = tenant.authority_requests(action, body)
    assert answer.status_code == status and answer.headers["Retry-After"] == "7" and answer.json()["error"]["code"]
    # It had no effect: the same call works then.
    assert tenant.revocation(request_id)["state"] == ("queued" if action == DOWNLOAD else "delivered")
    answer = tenant.authority_requests(action, body)
    assert answer.status_code == 200 and answer.json()["value"]


def test_fault_value_false(tenant):
    request_id = tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    tenant.faults({"path": UPLOAD, "valueFalse": True, "count": 1})
    answer = tenant.authority_requests(UPLOAD, {"results": [result(request)]})
    assert answer.status_code == 200 and answer.json()["value"] is False
    # Nothing was taken: it comes again.
    assert tenant.revocation(request_id)["state"] == "delivered"
    over(tenant)
    assert tenant.download_revocations() == [request]
    assert tenant.upload_revocations(result(request)) is True
    assert tenant.revocation(request_id)["state"] == "completed"


@pytest.mark.parametrize("body", [{"valueFalse": 1}, {"valueFalse": True, "status": 500}, {"valueFalse": True, "body": "x"}])
def test_fault_value_false_refused(shared, body):
    assert shared.admin_answer("PUT", "faults", {"path": UPLOAD, **body}).status_code == 400
    assert shared.admin("GET", "faults")["value"] == []


def test_lost_answer_of_a_download_begins_the_cool_down(tenant):
    request_id = tenant.revoke(serialNumber="1")
    uri, _ = tenant.discover(), tenant.token()
    tenant.faults({"path": DOWNLOAD, "dropRate": 1, "dropWhen": "after", "count": 1})
    with pytest.raises(requests.exceptions.ConnectionError):
        tenant.download_revocations(uri=uri)
    wait_until(lambda: tenant.revocation(request_id)["state"] == "delivered", "it was handed out")
    assert tenant.download_revocations() == []
    over(tenant)
    assert serials(tenant.download_revocations()) == ["1"]


@pytest.mark.parametrize("when, want", [("before", 0), ("after", 1)])
def test_lost_answer_of_an_upload(tenant, when, want):
    tenant.revoke(serialNumber="1")
    [request] = tenant.download_revocations()
    uri = tenant.discover()
    tenant.faults({"path": UPLOAD, "dropRate": 1, "dropWhen": when, "count": 1})
    with pytest.raises(requests.exceptions.ConnectionError):
        tenant.upload_revocations(result(request), uri=uri)
    wait_until(lambda: counts(tenant)["accepted"] == want, "the upload was taken, or not")
    assert tenant.upload_revocations(result(request)) is True
    assert (counts(tenant)["accepted"], counts(tenant)["repeated"]) == (1, want)


# ---- the administrator ----

@pytest.mark.parametrize("body, want", [
    ({}, 400), ([], 400), ([1], 400), ({"serialNumber": ""}, 400), ({"serialNumber": 1}, 400), ({"serialNumber": "x" * 257}, 400),
    ({"serialNumber": "1", "issuerName": 1}, 400), ({"serialNumber": "1", "caConfiguration": []}, 400),
    ({"serialNumber": "1", "issuerName": "x" * 1025}, 400), ({"requestId": str(uuid.uuid4())}, 404), ({"requestId": 7}, 400),
    ({"requestId": "x" * 37}, 400), ([{"serialNumber": "1"}, {}], 400), ([{"serialNumber": "1"}, {"requestId": "x"}], 404),
], ids=str)
def test_order_refused(shared, body, want):
    before = counts(shared)
    assert shared.admin_answer("POST", "revocationRequests", body).status_code == want
    assert counts(shared) == before


def test_order_by_pkcs_request(tenant):
    pkcs_id, other = tenant.enqueue_pkcs(MEMBERS, RECRYPT)
    for early in (pkcs_id, other):
        assert tenant.admin_answer("POST", "revocationRequests", {"requestId": early}).status_code == 400
    work, to_recrypt = tenant.download(queue="PkcsRequests")
    # The result counts that made it complete, not a failure before.
    assert tenant.upload([issued(work), recrypted(to_recrypt)], queue="PkcsRequests") == ["accepted"] * 2
    sent = tenant.request(pkcs_id)["result"]
    ids = tenant.revoke({"requestId": pkcs_id}, {"serialNumber": "FF"})
    request, plain = tenant.download_revocations()
    assert request["serialNumber"] == sent["certificateSerialNumber"] == "AB12"
    assert request["issuerName"] == sent["issuingCertificateAuthority"]
    assert request["caConfiguration"] == sent["caConfiguration"]
    assert plain["serialNumber"] == "FF" and tenant.revocation(ids[0])["serialNumber"] == "AB12"
    # A recrypt issued nothing, and an imported PFX is none of ours.
    assert tenant.admin_answer("POST", "revocationRequests", {"requestId": other}).status_code == 400
    imported = tenant.enqueue(tenant.upload_pfx())
    assert tenant.admin_answer("POST", "revocationRequests", {"requestId": imported}).status_code == 404


def test_order_by_pkcs_request_that_failed_first(tmp_path):
    service = Tenant(tmp_path, "--retry-delay-ms", "0")
    try:
        pkcs_id = service.enqueue_pkcs(**MEMBERS)
        [work] = service.download(queue="PkcsRequests")
        assert service.upload([failure(work, True)], queue="PkcsRequests") == ["accepted"]
        [work] = service.download(queue="PkcsRequests")
        good = issued(work, issuingCertificateAuthority=None, caConfiguration=None)
        assert service.upload([good], queue="PkcsRequests") == ["accepted"]
        assert service.upload([failure(work)], queue="PkcsRequests") == ["alreadyCompleted"]
        service.revoke(requestId=pkcs_id)
        [request] = service.download_revocations()
        assert (request["serialNumber"], request["issuerName"], request["caConfiguration"]) == ("AB12", None, None)
    finally:
        service.kill()


def test_list_and_view(tenant):
    ids = tenant.revoke(*[{"serialNumber": str(n), "issuerName": "CN=CA"} for n in range(7)])
    works = tenant.download_revocations(4)
    tenant.upload_revocations(result(works[0]), result(works[1], "4004"), result(works[2], "4100"))

    def pages(query):
        url, got = f"{tenant.url}/admin/api/revocationRequests?{query}", []
        while url:
            page = tenant.http.get(url, headers=tenant.admin_header).json()
            got += [item["requestId"] for item in page["value"]]
            url = page.get("@odata.nextLink") and tenant.url + page["@odata.nextLink"]
        return got

    assert pages("") == pages("$top=3") == pages("$top=7") == ids
    assert pages("state=completed") == ids[:1] and pages("state=failed") == ids[1:2] and pages("state=delivered") == ids[3:4]
    assert pages("state=queued&$top=2") == [ids[2]] + ids[4:]
    for spoiled in ("state=leased", "state=", "$top=0", "$top=1001", "$skiptoken=x"):
        assert tenant.admin_answer("GET", f"revocationRequests?{spoiled}").status_code == 400, spoiled
    assert tenant.admin_answer("GET", "revocationRequests/nothing").status_code == 404
    view = tenant.revocation(ids[2])
    assert view["state"] == "queued" and view["deliveries"] == 1 and view["issuerName"] == "CN=CA" and "caConfiguration" not in view
    assert [e["event"] for e in view["history"]] == ["queued", "delivered", "uploaded"] and view["history"][2]["requeued"] is True
    assert view["result"] == result(works[2], "4100") and view["createdDateTime"] <= view["lastModifiedDateTime"]
    assert counts(tenant) == {"queued": 4, "delivered": 1, "completed": 1, "failed": 1, "accepted": 3, "repeated": 0, "unknown": 0,
                              "requeued": 1, "deliveries": 4}
    for path in ("revocationRequests", "revocationClock", "unknownRevocationResults"):
        assert tenant.admin_answer("GET", path, headers={}).status_code == 401


# ---- life and death ----

def test_everything_survives_a_kill(tenant):
    ids = tenant.revoke(*[{"serialNumber": str(n)} for n in range(4)])
    works = tenant.download_revocations(3)
    tenant.upload_revocations(result(works[0]), result(works[1], "4101"), result("nobody's"))
    before, views = counts(tenant), [tenant.revocation(i) for i in ids]
    tenant.kill()
    tenant.start()
    assert counts(tenant) == before and [tenant.revocation(i) for i in ids] == views
    assert len(tenant.admin("GET", "unknownRevocationResults")["value"]) == 1
    assert tenant.upload_revocations(result(works[2])) is True
    assert tenant.download_revocations() == []
    over(tenant)
    assert serials(tenant.download_revocations()) == ["3", "1"]


@pytest.mark.parametrize("argv", [["--revocation-cool-down", "-1"], ["--revocation-cool-down", "x"], ["--revocation-cool-down", "604801"],
                                  ["--revocation-filter", "other"], ["--revocation-filter", ""], ["--revocation-filter"]])
def test_command_line_refused(argv, tmp_path):
    done = subprocess.run([str(PROGRAM), "--state", f"sqlite:{tmp_path}/x.db", *argv], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
