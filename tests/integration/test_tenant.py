# SPDX-License-Identifier: MIT
"""The stand-in service: every call of it, its limits, its faults, and what survives its death."""

import base64
import concurrent.futures
import json
import stat
import subprocess
import threading
import time

import pytest
import requests

from helpers_tenant import (APP_ID, CLIENT_ID, GRAPH_SCOPE, PROGRAM, RESOURCE_SCOPE, Tenant, b64, failure, pfx_body, success,
                            wait_until)


def start(tmp_path, *options):
    return Tenant(tmp_path, *options)


@pytest.fixture
def tenant(tmp_path):
    service = Tenant(tmp_path, "--retry-delay-ms", "0")
    yield service
    service.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave nothing behind that another would mind."""
    service = Tenant(tmp_path_factory.mktemp("shared"))
    yield service
    service.kill()


# ---- sign-in ----

@pytest.mark.parametrize("scope", [GRAPH_SCOPE, RESOURCE_SCOPE, "https://api.manage.microsoft.com/.default",
                                   "https://graph.microsoft.com//.default", "openid " + GRAPH_SCOPE])
def test_token(shared, scope):
    answer = shared.sign_in(scope)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["token_type"] == "Bearer" and body["expires_in"] == 3599 and len(body["access_token"]) > 40
    assert answer.headers["Cache-Control"] == "no-store"
    assert shared.sign_in(scope).json()["access_token"] != body["access_token"]


@pytest.mark.parametrize("fields, want_status, want_error, want_code", [
    ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
    ({"client_id": "nobody"}, 400, "unauthorized_client", 700016),
    ({"scope": "https://vault.example/.default"}, 400, "invalid_resource", 500011),
    ({"scope": "https://graph.microsoft.com/User.Read"}, 400, "invalid_scope", 70011),
    ({"scope": GRAPH_SCOPE + " " + RESOURCE_SCOPE}, 400, "invalid_scope", 70011),
    ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ({"client_secret": None}, 401, "invalid_client", 7000218),
    ({"tenant": "fabrikam.example"}, 400, "invalid_request", 90002),
])
def test_token_refused(shared, fields, want_status, want_error, want_code):
    answer = shared.sign_in(**fields)
    assert answer.status_code == want_status
    body = answer.json()
    assert body["error"] == want_error and body["error_codes"] == [want_code]
    assert body["error_description"].startswith(f"AADSTS{want_code}: ")
    assert body["trace_id"] and body["correlation_id"] and body["timestamp"]


def test_token_form_is_decoded_as_a_form(shared):
    form = (f"grant_type=client%5Fcredentials&client_id={CLIENT_ID}&client_secret={shared.secret}"
            "&scope=openid+https%3a%2f%2fgraph.microsoft.com/.default&client_info=1")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{shared.url}/{shared.name}/oauth2/v2.0/token"
    assert shared.http.post(url, data=form, headers=headers).status_code == 200
    for spoiled in (form.replace("%5F", "%5"), form.replace("%5F", "%00"), form + "&" * 10 + "x" * 10 + "%", ""):
        answer = shared.http.post(url, data=spoiled, headers=headers)
        assert answer.status_code == (200 if spoiled.startswith(form) else 400), spoiled
    assert shared.http.post(url, data=form, headers={"Content-Type": "text/plain"}).status_code == 400


def test_openid_configuration(shared):
    body = shared.http.get(f"{shared.url}/{shared.name}/v2.0/.well-known/openid-configuration").json()
    assert body["token_endpoint"] == f"{shared.url}/{shared.name}/oauth2/v2.0/token"
    assert body["authorization_endpoint"].startswith(shared.url)
    # The issuer names the tenant by its GUID, under which it can be reached as well.
    guid = body["issuer"].split("/")[3]
    assert shared.sign_in(tenant=guid).status_code == 200


def test_tokens_expire(tenant):
    tenant.admin("PUT", "faults", {"tokenLifetimeSeconds": 1})
    token = tenant.sign_in(GRAPH_SCOPE)
    assert token.json()["expires_in"] == 1
    header = {"Authorization": "Bearer " + token.json()["access_token"]}
    assert tenant.pfx("GET", headers=header).status_code == 200
    wait_until(lambda: tenant.pfx("GET", headers=header).status_code == 401, "the token has expired")
    answer = tenant.pfx("GET", headers=header)
    assert answer.json()["error"]["code"] == "InvalidAuthenticationToken"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    tenant.admin("DELETE", "faults")
    header = {"Authorization": "Bearer " + tenant.token(GRAPH_SCOPE)}
    assert tenant.pfx("GET", headers=header).status_code == 200
    assert tenant.admin("POST", "expireTokens", {})["expired"] >= 1
    assert tenant.pfx("GET", headers=header).status_code == 401


# ---- who may do what ----

def test_audiences(shared):
    wrong = {"Authorization": "Bearer " + shared.token(RESOURCE_SCOPE)}
    assert shared.pfx("GET", headers=wrong).status_code == 401
    answer = shared.service("Connectors/heartbeat", {}, headers={"Authorization": "Bearer " + shared.token(GRAPH_SCOPE)})
    assert answer.status_code == 401
    assert shared.service("Connectors/heartbeat", {}, headers={"Authorization": None}).status_code == 401
    assert shared.admin_answer("GET", "counts", headers=wrong).status_code == 401
    # Where both have this server's address, one token is good for both.
    both = {"Authorization": "Bearer " + shared.token(shared.url + "/.default")}
    assert shared.pfx("GET", headers=both).status_code == 200
    assert shared.service("Connectors/heartbeat", {}, headers=both).status_code == 400


@pytest.mark.parametrize("method, path, want", [
    ("GET", "nowhere", 404), ("GET", "", 404), ("PUT", "v1.0/users", 405), ("DELETE", "beta/deviceManagement/userPfxCertificates", 405),
    ("GET", "RACerts/a1/StatelessPkiConnectorService/PfxImportRequests/download", 405),
])
def test_paths_and_methods(shared, method, path, want):
    answer = shared.graph(method, path, body={} if method == "PUT" else None)
    assert answer.status_code == want
    if want == 405:
        assert answer.headers["Allow"]
    assert answer.json()["error"]["code"]


# ---- discovery ----

def test_discovery(shared):
    answer = shared.graph("GET", f"v1.0/servicePrincipals/appId={APP_ID}/endpoints")
    items = answer.json()["value"]
    assert [i["providerName"] for i in items] == ["PkiConnectorFEService", "ScepRequestValidationFEService"]
    assert all(i["uri"].startswith(shared.url + "/RACerts/") for i in items)
    assert "request-id" in answer.headers
    assert shared.graph("GET", "v1.0/servicePrincipals/appId=other/endpoints").status_code == 404


@pytest.mark.parametrize("change", [
    lambda items: items[:1], lambda items: items + [dict(items[0], uri="https://other.example/x")], lambda items: [],
    lambda items: [dict(item, providerName=item["providerName"].upper()) for item in items],
    lambda items: [{name: value for name, value in item.items() if name != "providerName"} for item in items]],
    ids=["missing", "twice", "empty", "upper case", "nameless"])
def test_lists_of_endpoints_on_demand(shared, change):
    path = f"v1.0/servicePrincipals/appId={APP_ID}/endpoints"
    body = shared.graph("GET", path).json()
    body["value"] = change(body["value"])
    shared.faults({"path": "/endpoints", "status": 200, "body": json.dumps(body), "count": 1})
    assert shared.graph("GET", path).json() == body
    assert shared.graph("GET", path).json() != body


def test_account_moves(tenant):
    old = tenant.discover()
    assert tenant.heartbeat().status_code == 200
    tenant.admin("POST", "moveAccount", {})
    answer = tenant.service("PfxImportRequests/download", {}, uri=old)
    assert answer.status_code == 410 and answer.json()["error"]["code"] == "AccountMoved"
    new = tenant.discover()
    assert new != old
    assert tenant.download() == []
    assert tenant.service("Connectors/heartbeat", {}, uri=new.replace("/a2/", "/a3/")).status_code == 404
    tenant.kill()
    tenant.start()
    assert tenant.discover() == new


def test_public_url(tmp_path):
    service = start(tmp_path, "--public-url", "https://service.example")
    try:
        assert service.discover().startswith("https://service.example/RACerts/")
    finally:
        service.kill()


# ---- imported PFX ----

def test_create(shared):
    body = pfx_body("Create@contoso.example", intendedPurpose="SmimeSigning", paddingScheme="OAEPSHA256",
                    startDateTime="2016-12-31T23:58:46.7156189-07:00")
    body["thumbprint"] = body["thumbprint"].upper()
    answer = shared.pfx("POST", body=body)
    assert answer.status_code == 201
    got = answer.json()
    user = shared.graph("GET", "beta/users?$filter=userPrincipalName eq 'create@CONTOSO.example'").json()["value"]
    assert got["id"] == user[0]["id"].replace("-", "") + "-" + body["thumbprint"].lower()
    assert got["thumbprint"] == body["thumbprint"].lower()
    assert got["userPrincipalName"] == "Create@contoso.example"
    assert (got["intendedPurpose"], got["paddingScheme"]) == ("smimeSigning", "oaepSha256")
    assert got["startDateTime"] == "2017-01-01T06:58:46.715Z"
    assert (got["encryptedPfxBlob"], got["encryptedPfxPassword"]) == ("AA==", "")
    assert (got["providerName"], got["keyName"]) == ("Contoso HSM", "PFXEncryptionKey")

    answer = shared.pfx("POST", body=body)
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "Conflict" and error["innerError"]["request-id"] == answer.headers["request-id"]
    assert error["innerError"]["date"]


@pytest.mark.parametrize("purpose", ["unassigned", "Unassigned", "SmimeEncryption", "VPN", "Wifi"])
@pytest.mark.parametrize("padding", ["none", "Pkcs1", "OaepSha1", "oaepsha384", "OaepSha512"])
def test_create_enums(shared, purpose, padding):
    got = shared.upload_pfx(intendedPurpose=purpose, paddingScheme=padding)
    assert got["intendedPurpose"].lower() == purpose.lower() and got["paddingScheme"].lower() == padding.lower()
    assert got["intendedPurpose"][0].islower() and got["paddingScheme"][0].islower()


@pytest.mark.parametrize("members", [
    {"thumbprint": None}, {"thumbprint": "abc"}, {"thumbprint": "g" * 40}, {"userPrincipalName": None}, {"userPrincipalName": "u" * 300},
    {"intendedPurpose": "other"}, {"paddingScheme": "oaep"}, {"paddingScheme": None}, {"startDateTime": "yesterday"},
    {"expirationDateTime": None}, {"encryptedPfxBlob": "%%%"}, {"encryptedPfxBlob": None}, {"encryptedPfxBlob": b64(b"x" * 300000)},
    {"encryptedPfxPassword": ""}, {"encryptedPfxPassword": 7}, {"providerName": ["x"]}, {"keyName": None},
])
def test_create_refused(shared, members):
    answer = shared.pfx("POST", body=pfx_body(**members))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "BadRequest"


@pytest.mark.parametrize("data, content_type, want", [
    ("{", "application/json", 400), ("[]", "application/json", 400), ("", "application/json", 400),
    ('{"a":1} x', "application/json", 400), ("\x00", "application/json", 400), ("{}", "text/plain", 415),
    pytest.param("[" * 2000, "application/json", 400, id="deep"),
])
def test_malformed_json(shared, data, content_type, want):
    headers = {"Authorization": "Bearer " + shared.token(GRAPH_SCOPE), "Content-Type": content_type}
    answer = shared.http.post(shared.url + "/beta/deviceManagement/userPfxCertificates", data=data, headers=headers)
    assert answer.status_code == want and answer.json()["error"]["code"]


def test_strict_users(tmp_path):
    service = start(tmp_path, "--strict-users")
    try:
        answer = service.pfx("POST", body=pfx_body("unknown@contoso.example"))
        assert answer.status_code == 404
        assert service.graph("GET", "v1.0/users?$filter=userPrincipalName eq 'unknown@contoso.example'").json()["value"] == []
        user = service.admin("POST", "users", {"userPrincipalName": "unknown@contoso.example"})
        created = service.pfx("POST", body=pfx_body("Unknown@contoso.example"))
        assert created.status_code == 201
        assert created.json()["id"].startswith(user["id"].replace("-", ""))
    finally:
        service.kill()


@pytest.mark.parametrize("spelling", ["/{}", "('{}')", "({})"])
def test_one_pfx_by_both_spellings(shared, spelling):
    pfx = shared.upload_pfx()
    key = spelling.format(pfx["id"])
    assert shared.pfx("GET", key).json() == pfx

    answer = shared.pfx("PATCH", key, {"keyName": "other", "intendedPurpose": "VPN", "encryptedPfxBlob": "AA==",
                                       "encryptedPfxPassword": ""})
    assert answer.status_code == 200
    got = answer.json()
    assert (got["keyName"], got["intendedPurpose"], got["providerName"]) == ("other", "vpn", "Contoso HSM")
    assert got["lastModifiedDateTime"] >= pfx["lastModifiedDateTime"] and got["createdDateTime"] == pfx["createdDateTime"]
    assert shared.pfx("PATCH", key, {"thumbprint": "0" * 40}).status_code == 400

    answer = shared.pfx("DELETE", key)
    assert answer.status_code == 204 and answer.content == b""
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"keyName": "x"})):
        assert shared.pfx(method, key, body).status_code == 404


def test_filters(shared):
    first = shared.upload_pfx("Filter.One@contoso.example")
    second = shared.upload_pfx("filter.one@contoso.example", intendedPurpose="vpn")
    third = shared.upload_pfx("o'hara@contoso.example")

    def ids(text):
        answer = shared.pfx("GET", params={"$filter": text})
        assert answer.status_code == 200, answer.text
        return sorted(item["id"] for item in answer.json()["value"])

    both = sorted([first["id"], second["id"]])
    lower = "tolower(userPrincipalName) eq 'filter.one@contoso.example'"
    assert ids(lower) == both
    assert ids("tolower(userPrincipalName) eq 'Filter.One@contoso.example'") == []
    assert ids("userPrincipalName eq 'Filter.One@contoso.example'") == [first["id"]]
    assert ids(f"{lower} and tolower(thumbprint) eq '{second['thumbprint']}'") == [second["id"]]
    assert ids(f"({lower}) and (intendedPurpose eq 'vpn')") == [second["id"]]
    assert ids("tolower(userPrincipalName) eq 'o''hara@contoso.example'") == [third["id"]]
    assert ids(f"thumbprint eq '{third['thumbprint']}'") == [third["id"]]
    for text in ("tolower(userPrincipalName) eq 'o'hara@contoso.example'", "x eq 'y'", "keyName ne 'a'", "", lower + " and",
                 lower + " or " + lower, f"{lower} and {lower}", "(" * 100 + lower):
        assert shared.pfx("GET", params={"$filter": text}).status_code == 400, text


def test_paging(tenant):
    want = sorted(tenant.upload_pfx(f"user{n % 3}@contoso.example")["id"] for n in range(205))
    got, sizes, url = [], [], tenant.url + "/beta/deviceManagement/userPfxCertificates"
    while url:
        page = tenant.graph("GET", url).json()
        got += [item["id"] for item in page["value"]]
        sizes.append(len(page["value"]))
        url = page.get("@odata.nextLink")
    assert got == want and sizes == [100, 100, 5]

    text = "tolower(userPrincipalName) eq 'user1@contoso.example'"
    page = tenant.pfx("GET", params={"$filter": text, "$top": "60"}).json()
    rest = tenant.graph("GET", page["@odata.nextLink"]).json()
    assert (len(page["value"]), len(rest["value"])) == (60, 8) and "@odata.nextLink" not in rest
    assert {item["userPrincipalName"] for item in page["value"] + rest["value"]} == {"user1@contoso.example"}
    assert tenant.pfx("GET", params={"$top": "0"}).status_code == 400


def test_users(shared):
    shared.upload_pfx("Some.User@contoso.example")
    answer = shared.graph("GET", "beta/users?$filter=userPrincipalName eq 'some.user@contoso.example'")
    assert len(answer.json()["value"]) == 1
    assert shared.graph("GET", "v1.0/users?$filter=userPrincipalName eq 'nobody@contoso.example'").json()["value"] == []
    assert shared.graph("GET", "v1.0/users").status_code == 400


# ---- the queue ----

def test_request_goes_its_way(tenant):
    body = pfx_body(paddingScheme="OaepSha256")
    pfx = tenant.pfx("POST", body=body).json()
    request_id = tenant.enqueue(pfx, passwordEncryption="rsaPkcs1", contentCipher="des-ede3", deviceId="device-7")
    request = tenant.request(request_id)
    assert request["state"] == "queued" and [e["event"] for e in request["history"]] == ["queued"]

    [work] = tenant.download()
    assert work["requestId"] == request_id and work["attempt"] == 1
    assert work["encryptedPfxBlob"] == body["encryptedPfxBlob"] and work["encryptedPfxPassword"] == body["encryptedPfxPassword"]
    assert base64.b64decode(work["recipientCertificate"]) == b"recipient"
    want = {"userPrincipalName": pfx["userPrincipalName"], "thumbprint": pfx["thumbprint"], "intendedPurpose": "smimeEncryption",
            "providerName": "Contoso HSM", "keyName": "PFXEncryptionKey", "paddingScheme": "oaepSha256", "deviceId": "device-7",
            "passwordEncryption": "rsaPkcs1", "contentCipher": "des-ede3"}
    assert {name: work[name] for name in want} == want
    assert tenant.download() == []
    assert tenant.request(request_id)["state"] == "leased"

    assert tenant.upload([success(work)]) == ["accepted"]
    request = tenant.request(request_id)
    assert request["state"] == "completed" and request["connectorId"] == "connector-1"
    assert request["result"] == success(work)
    assert [e["event"] for e in request["history"]] == ["queued", "leased", "uploaded"]
    assert request["history"][2]["status"] == "accepted" and request["history"][2]["result"] == success(work)
    assert tenant.counts()["requests"] == {"queued": 0, "leased": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}


def test_long_poll_wakes(tenant):
    pfx = tenant.upload_pfx()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        polls = [pool.submit(tenant.download, f"connector-{n}", 1, 30, session=tls_session(tenant)) for n in range(3)]
        wait_until(lambda: tenant.counts()["waiting"] == 3, "three calls wait")
        begun = time.monotonic()
        ids = {tenant.enqueue(pfx) for _ in range(3)}
        got = [poll.result(20) for poll in polls]
        assert time.monotonic() - begun < 10
    assert {work["requestId"] for value in got for work in value} == ids
    assert tenant.counts()["waiting"] == 0


def test_long_poll_ends_empty(tenant):
    begun = time.monotonic()
    assert tenant.download(wait=1) == []
    assert time.monotonic() - begun > 0.9


def test_long_poll_of_the_dead_gets_nothing(tenant):
    pfx = tenant.upload_pfx()
    tenant.discover()
    for turn in range(5):
        with pytest.raises(requests.exceptions.ReadTimeout):
            tenant.download("dead", wait=30, timeout=0.3, session=tls_session(tenant))
        request_id = tenant.enqueue(pfx)
        assert [work["requestId"] for work in tenant.download("alive", wait=5)] == [request_id], turn


def test_long_poll_sees_lease_end_and_release(tmp_path):
    service = start(tmp_path, "--lease-seconds", "1")
    try:
        request_id = service.enqueue(service.upload_pfx())
        [first] = service.download("dead")
        [second] = service.download("alive", wait=30)
        assert second["requestId"] == request_id and second["attempt"] == 2
        assert second["requestContext"] != first["requestContext"]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            poll = pool.submit(service.download, "third", 1, 30, session=tls_session(service))
            wait_until(lambda: service.counts()["waiting"] == 1, "a call waits")
            answer = service.service("PfxImportRequests/release",
                                     {"connectorId": "alive", "requestContexts": [second["requestContext"]]})
            assert answer.status_code == 200
            [third] = poll.result(20)
        assert third["attempt"] == 3
        # A result that comes late is welcome as long as nobody completed the request.
        assert service.upload([success(first)], "dead") == ["accepted"]
        assert service.upload([success(third)], "third") == ["alreadyCompleted"]
        history = service.request(request_id)["history"]
        assert [e["event"] for e in history] == ["queued", "leased", "leased", "released", "leased", "uploaded", "uploaded"]
        assert [e.get("connectorId") for e in history] == [None, "dead", "alive", "alive", "third", "dead", "third"]
    finally:
        service.kill()


def tls_session(service):
    session = requests.Session()
    session.verify = str(service.chain)
    session.trust_env = False
    return session


def test_upload_is_idempotent(tenant):
    request_id = tenant.enqueue(tenant.upload_pfx())
    [work] = tenant.download("one")
    assert tenant.upload([success(work)], "one") == ["accepted"]
    assert tenant.upload([success(work)], "one") == ["accepted"]
    assert tenant.upload([success(work, b"another")], "one") == ["alreadyCompleted"]
    assert tenant.upload([failure(work)], "two") == ["alreadyCompleted"]
    assert tenant.request(request_id)["result"] == success(work)
    uploads = tenant.counts()["uploads"]
    assert (uploads["accepted"], uploads["duplicates"], uploads["alreadyCompleted"]) == (1, 1, 2)
    spoiled = [dict(success(work), requestContext=c) for c in ("x", "1.1", "99.1.0", "-1.1.1", work["requestContext"] + "0",
                                                              work["requestContext"].replace(".1.", ".2."), "9" * 100)]
    assert tenant.upload(spoiled) == ["unknown"] * len(spoiled)


def test_lease_renewed_and_lost(tmp_path):
    service = start(tmp_path, "--lease-seconds", "2")
    try:
        request_id = service.enqueue(service.upload_pfx())
        [work] = service.download("one")

        def renew(connector):
            answer = service.service("PfxImportRequests/renewLeases",
                                     {"connectorId": connector, "requestContexts": [work["requestContext"], "1.1.x"]})
            assert answer.status_code == 200
            return [item["leaseExpirationDateTime"] for item in answer.json()["value"]]

        renewed = renew("one")
        assert renewed[0] > work["leaseExpirationDateTime"] and renewed[1] is None
        assert renew("two") == [None, None]
        [again] = service.download("two", wait=30)
        assert again["requestId"] == request_id
        assert renew("one") == [None, None]
        # A failure of one who lost the lease does not count while another one is at it.
        assert service.upload([failure(work)], "one") == ["leaseLost"]
        assert service.request(request_id)["state"] == "leased"
        assert service.upload([success(again)], "two") == ["accepted"]
    finally:
        service.kill()


def test_retries(tenant):
    request_id = tenant.enqueue(tenant.upload_pfx())
    for attempt in range(1, 6):
        [work] = tenant.download()
        assert work["attempt"] == attempt
        assert tenant.upload([failure(work, retryable=True)]) == ["accepted"]
        assert tenant.upload([failure(work, retryable=True)]) == ["accepted"]
        assert tenant.request(request_id)["state"] == ("queued" if attempt < 5 else "failed")
    assert tenant.download() == []
    request = tenant.request(request_id)
    assert request["failures"] == 5 and request["result"]["errorCode"] == "TokenUnavailable"
    assert tenant.counts()["uploads"]["requeued"] == 4 and tenant.counts()["uploads"]["duplicates"] == 5


def test_retry_waits_for_its_delay(tmp_path):
    service = start(tmp_path, "--retry-delay-ms", "1000", "--max-attempts", "2")
    try:
        service.enqueue(service.upload_pfx())
        [work] = service.download()
        begun = time.monotonic()
        service.upload([failure(work, retryable=True)])
        assert service.download() == []
        [work] = service.download(wait=30)
        assert 0.9 < time.monotonic() - begun < 10
        service.upload([failure(work, retryable=True)])
        assert service.counts()["requests"]["failed"] == 1
    finally:
        service.kill()


def test_failure_for_good(tenant):
    request_id = tenant.enqueue(tenant.upload_pfx())
    [work] = tenant.download()
    assert tenant.upload([failure(work, code="RecipientNotAccepted")]) == ["accepted"]
    request = tenant.request(request_id)
    assert request["state"] == "failed" and request["result"]["errorCode"] == "RecipientNotAccepted"


def test_cancelled_requests(tenant):
    pfx = tenant.upload_pfx()
    first, second = tenant.enqueue(pfx), tenant.enqueue(pfx)
    [work, other] = tenant.download()
    tenant.admin("DELETE", f"requests/{first}")
    assert tenant.admin_answer("DELETE", f"requests/{first}").status_code == 404
    assert tenant.upload([success(work)]) == ["leaseLost"]
    # With its PFX a request goes too.
    assert tenant.pfx("DELETE", f"/{pfx['id']}").status_code == 204
    assert tenant.request(second)["state"] == "cancelled"
    assert tenant.upload([success(other)]) == ["leaseLost"]


def test_batches_and_limits(tenant):
    pfx = tenant.upload_pfx()
    body = {"userPrincipalName": pfx["userPrincipalName"].upper(), "recipientCertificate": b64(b"r")}
    ids = tenant.admin("POST", "pfxImportRequests", [body] * 150)["requestIds"]
    ids += tenant.enqueue(pfx, count=100)
    assert len(set(ids)) == 250
    got = [len(tenant.download(most=100)) for _ in range(4)]
    assert got == [100, 100, 50, 0]

    # What is big comes in several answers; one request always fits.
    big = tenant.upload_pfx("big@contoso.example", encryptedPfxBlob=b64(b"x" * 262144))
    tenant.enqueue(big, count=30)
    sizes = []
    while batch := tenant.download():
        sizes.append(len(batch))
    assert sum(sizes) == 30 and max(sizes) < 15


def test_newest_pfx_of_a_purpose(tenant):
    tenant.upload_pfx(startDateTime="2026-01-01T00:00:00Z")
    newest = tenant.upload_pfx(startDateTime="2026-03-01T00:00:00Z")
    tenant.upload_pfx(startDateTime="2026-09-01T00:00:00Z", intendedPurpose="smimeSigning")
    body = {"userPrincipalName": newest["userPrincipalName"], "intendedPurpose": "SmimeEncryption", "recipientCertificate": b64(b"r")}
    tenant.admin("POST", "pfxImportRequests", body)
    assert tenant.download()[0]["thumbprint"] == newest["thumbprint"]


def test_overrides(tenant):
    tenant.enqueue(tenant.upload_pfx(), overrides={"paddingScheme": "bogus", "keyName": None, "encryptedPfxPassword": "!", "n": 7})
    [work] = tenant.download()
    assert (work["paddingScheme"], work["encryptedPfxPassword"], work["n"]) == ("bogus", "!", 7) and "keyName" not in work


@pytest.mark.parametrize("body", [
    {}, {"downloadParameters": {}}, {"downloadParameters": []}, {"downloadParameters": {"connectorId": "c", "maxRequests": 0}},
    {"downloadParameters": {"connectorId": "c", "maxRequests": 101}}, {"downloadParameters": {"connectorId": "", "maxRequests": 1}},
    {"downloadParameters": {"connectorId": "c", "maxRequests": 1, "waitSeconds": 31}},
    {"downloadParameters": {"connectorId": "c" * 129, "maxRequests": 1}}, {"downloadParameters": {"connectorId": "a b", "maxRequests": 1}},
])
def test_download_refused(shared, body):
    answer = shared.service("PfxImportRequests/download", body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "BadRequest"


@pytest.mark.parametrize("result", [
    {}, {"requestContext": "1.1.x"}, {"requestContext": "1.1.x", "succeeded": "true"}, "text", None,
    {"requestContext": "1.1.x", "succeeded": True}, {"requestContext": "1.1.x", "succeeded": False},
    {"requestContext": "1.1.x", "succeeded": False, "errorCode": "None"}, {"requestContext": "", "succeeded": False, "errorCode": "X"},
    {"requestContext": "1.1.x", "succeeded": True, "errorCode": "BadRequest", "encryptedPfxPassword": "AAAA", "passwordEncryption": "cms"},
    {"requestContext": "1.1.x", "succeeded": True, "encryptedPfxPassword": "#", "passwordEncryption": "cms"},
])
def test_upload_refused(shared, result):
    answer = shared.service("PfxImportRequests/upload", {"connectorId": "connector-1", "results": [result]})
    assert answer.status_code == 400, answer.text
    for body in ({"connectorId": "c"}, {"results": []}, {"connectorId": "c", "results": [{}] * 1001}):
        assert shared.service("PfxImportRequests/upload", body).status_code == 400


@pytest.mark.parametrize("action", ["renewLeases", "release"])
def test_contexts_refused(shared, action):
    for contexts in (None, [], [7], ["x"] * 1001, "x"):
        answer = shared.service(f"PfxImportRequests/{action}", {"connectorId": "c", "requestContexts": contexts})
        assert answer.status_code == 400


def test_headers_are_checked(shared):
    body = {"downloadParameters": {"connectorId": "connector-1", "maxRequests": 1}}
    for headers, want in (({"api-version": None}, 400), ({"api-version": "2018-02-20"}, 400), ({"client-request-id": "x"}, 400),
                          ({"Authorization": "Bearer x"}, 401), ({"Authorization": "Basic eDp4"}, 401), ({}, 200)):
        answer = shared.service("PfxImportRequests/download", body, headers=headers)
        assert answer.status_code == want, headers
    request_id = answer.request.headers["client-request-id"]
    assert answer.headers["client-request-id"] == request_id and answer.headers["request-id"]
    assert shared.service("PfxImportRequests/other", body).status_code == 404
    assert shared.service("Connectors/other", body).status_code == 404


# ---- connectors ----

def test_heartbeat(tenant):
    answer = tenant.heartbeat(features=["pfx-import", "pkcs", "unheard-of"], token={"state": "open"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["features"] == ["pfx-import", "pkcs"] and body["status"] == "Active"
    assert body["latestVersion"] and body["serverDateTime"] and body["supportedUntilDateTime"] is None
    [connector] = tenant.admin("GET", "connectors")["value"]
    assert connector["connectorId"] == "connector-1" and connector["state"] == "active" and connector["version"] == "1.0.0"
    assert connector["heartbeat"]["token"] == {"state": "open"}
    for spoiled in ({}, {"heartbeat": {"connectorId": "c"}}, {"heartbeat": {"connectorId": "c", "version": "1", "features": [1]}}):
        assert tenant.service("Connectors/heartbeat", spoiled).status_code == 400


def test_routing_by_feature(tenant):
    tenant.enqueue(tenant.upload_pfx())
    tenant.heartbeat("scep-only", features=["scep"])
    answer = tenant.service("PfxImportRequests/download", {"downloadParameters": {"connectorId": "scep-only", "maxRequests": 1}})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "FeatureNotAllowed"
    tenant.heartbeat("scep-only", features=["scep", "pfx-import"])
    assert len(tenant.download("scep-only")) == 1


def test_connector_limit(tenant):
    for n in range(100):
        assert tenant.heartbeat(f"connector-{n}").status_code == 200
    answer = tenant.heartbeat("one-too-many")
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "ConnectorLimitReached"
    answer = tenant.service("PfxImportRequests/download", {"downloadParameters": {"connectorId": "another", "maxRequests": 1}})
    assert answer.status_code == 409
    assert tenant.heartbeat("connector-7").status_code == 200

    assert tenant.service("Connectors/remove", {"connectorId": "connector-7"}).status_code == 204
    assert tenant.service("Connectors/remove", {"connectorId": "connector-7"}).status_code == 404
    assert tenant.heartbeat("connector-7").json()["error"]["code"] == "ConnectorRemoved"
    assert tenant.heartbeat("one-too-many").status_code == 200
    tenant.kill()
    tenant.start()
    assert tenant.heartbeat("connector-7").status_code == 403
    assert tenant.heartbeat("another").status_code == 409


# ---- the administrator ----

def test_admin_token(tenant):
    assert stat.S_IMODE(tenant.admin_token_file.stat().st_mode) == 0o600
    token = tenant.admin_token_file.read_text()
    assert tenant.log.read_text().count(token) == 1
    tenant.stop()
    tenant.start()
    assert tenant.admin_token_file.read_text() == token and tenant.log.read_text().count(token) == 1
    assert tenant.counts()
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": token}):
        assert tenant.admin_answer("GET", "counts", headers=headers).status_code == 401


def test_request_list(tenant):
    ids = tenant.enqueue(tenant.upload_pfx(), count=25)
    tenant.download(most=10)

    def pages(query):
        url, got, count = f"{tenant.url}/admin/api/requests?{query}", [], 0
        while url:
            page = tenant.http.get(url, headers=tenant.admin_header).json()
            got += page["value"]
            count += 1
            url = page.get("@odata.nextLink")
            url = url and (url if url.startswith("https:") else tenant.url + url)
        return [item["requestId"] for item in got], count

    assert pages("") == (ids, 1)
    assert pages("$top=10") == (ids, 3)
    assert pages("state=leased") == (ids[:10], 1)
    assert pages("state=queued&$top=5") == (ids[10:], 3)
    assert pages("state=completed") == ([], 1)
    assert tenant.admin_answer("GET", "requests?state=other").status_code == 400
    assert tenant.admin_answer("GET", "requests/nothing").status_code == 404


@pytest.mark.parametrize("members, want", [
    ({"userPrincipalName": "nobody@contoso.example"}, 404), ({"thumbprint": "0" * 40}, 404), ({"recipientCertificate": ""}, 400),
    ({"recipientCertificate": "*"}, 400), ({"passwordEncryption": "x" * 65}, 400), ({"contentCipher": 7}, 400), ({"count": 0}, 400),
    ({"count": 20001}, 400), ({"intendedPurpose": "x"}, 400), ({"userPrincipalName": None}, 400),
])
def test_enqueue_refused(shared, members, want):
    pfx = shared.upload_pfx("enqueue@contoso.example")
    body = {"userPrincipalName": pfx["userPrincipalName"], "thumbprint": pfx["thumbprint"], "recipientCertificate": b64(b"r"), **members}
    before = shared.counts()["requests"]["total"]
    assert shared.admin_answer("POST", "pfxImportRequests", body).status_code == want
    good = {"userPrincipalName": pfx["userPrincipalName"], "recipientCertificate": b64(b"r")}
    assert shared.admin_answer("POST", "pfxImportRequests", [good, body]).status_code == want
    assert shared.admin_answer("POST", "pfxImportRequests", []).status_code == 400
    assert shared.counts()["requests"]["total"] == before


# ---- faults ----

def test_fault_status(tenant):
    tenant.faults({"path": "userPfxCertificates", "status": 429, "retryAfter": 7, "msRetryAfter": 1500, "count": 2})
    for _ in range(2):
        answer = tenant.pfx("GET")
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "7" and answer.headers["x-ms-retry-after-ms"] == "1500"
        assert answer.json()["error"]["code"]
    assert tenant.pfx("GET").status_code == 200
    tenant.faults({"path": "PfxImportRequests/upload", "status": 503, "body": "<html>not JSON"})
    answer = tenant.service("PfxImportRequests/upload", {})
    assert (answer.status_code, answer.text) == (503, "<html>not JSON") and "Retry-After" not in answer.headers
    assert tenant.download() == []
    [rule] = [r for r in tenant.admin("GET", "faults")["value"] if r["path"].endswith("upload")]
    assert rule["hits"] == 1 and rule["status"] == 503
    tenant.admin("DELETE", "faults")
    assert tenant.service("PfxImportRequests/upload", {}).status_code == 400


def test_fault_latency(tenant):
    tenant.faults({"path": "userPfxCertificates", "latencyMs": 400}, {"path": "users", "latencyMs": 200, "status": 500})
    begun = time.monotonic()
    # More at once than there are workers: waiting holds no thread.
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        header = {"Authorization": "Bearer " + tenant.token(GRAPH_SCOPE)}
        calls = [pool.submit(tls_session(tenant).get, tenant.url + "/beta/deviceManagement/userPfxCertificates", headers=header)
                 for _ in range(40)]
        assert {call.result(30).status_code for call in calls} == {200}
    assert 0.4 <= time.monotonic() - begun < 4
    assert tenant.graph("GET", "v1.0/users").status_code == 500


def dropped(tenant, count):
    """Which of count calls get no answer."""
    pattern = []
    for _ in range(count):
        try:
            tenant.pfx("GET")
            pattern.append(False)
        except requests.exceptions.ConnectionError:
            pattern.append(True)
    return pattern


def test_fault_drops_follow_the_seed(tenant):
    tenant.token(GRAPH_SCOPE)
    patterns = []
    for seed in (7, 7, 8):
        tenant.admin("DELETE", "faults")
        tenant.faults({"path": "userPfxCertificates", "dropRate": 0.5, "seed": seed})
        patterns.append(dropped(tenant, 40))
    assert patterns[0] == patterns[1] != patterns[2]
    assert 8 < sum(patterns[0]) < 32


def test_fault_of_a_share_of_the_calls(tenant):
    patterns = []
    for seed in (7, 7, 8):
        tenant.admin("DELETE", "faults")
        tenant.faults({"path": "userPfxCertificates", "status": 503, "rate": 0.25, "seed": seed})
        patterns.append([tenant.pfx("GET").status_code for _ in range(40)])
    assert patterns[0] == patterns[1] != patterns[2]
    assert set(patterns[0]) == {200, 503} and 3 < patterns[0].count(503) < 20


@pytest.mark.parametrize("when, want", [("before", 0), ("after", 1)])
def test_fault_drop_before_or_after(tenant, when, want):
    pfx = tenant.upload_pfx()
    tenant.token()
    tenant.discover()
    tenant.enqueue(pfx)
    [work] = tenant.download()
    tenant.faults({"path": "PfxImportRequests/upload", "dropRate": 1, "dropWhen": when})
    with pytest.raises(requests.exceptions.ConnectionError):
        tenant.upload([success(work)])
    wait_until(lambda: tenant.counts()["uploads"]["accepted"] == want, "the upload was taken, or not")
    tenant.admin("DELETE", "faults")
    assert tenant.upload([success(work)]) == ["accepted"]
    assert tenant.counts()["uploads"]["duplicates"] == want


@pytest.mark.parametrize("body", [
    {"status": 500}, {"path": "x", "status": 99}, {"path": "x", "dropRate": 2}, {"path": "x", "dropRate": -1}, {"path": "x", "dropRate": "1"}, {"path": "x", "rate": 1.1}, {"path": "x", "rate": "1"}, {"path": "x", "count": 0},
    {"path": "x", "dropWhen": "now"}, {"path": "x", "latencyMs": -1}, {"tokenLifetimeSeconds": 0}, [1], {"path": "x" * 300, "status": 500},
])
def test_faults_refused(shared, body):
    shared.admin("DELETE", "faults")
    assert shared.admin_answer("PUT", "faults", body).status_code == 400
    assert shared.admin("GET", "faults")["value"] == []


# ---- life and death ----

def test_everything_survives_a_kill(tenant):
    pfx = tenant.upload_pfx()
    ids = tenant.enqueue(pfx, count=20)
    works = tenant.download(most=10)
    assert tenant.upload([success(w) for w in works[:5]]) == ["accepted"] * 5
    assert tenant.upload([failure(works[5])]) == ["accepted"]
    tenant.heartbeat()
    token = tenant.token()
    before = tenant.counts()
    tenant.kill()
    tenant.start()
    assert tenant.counts() == before
    tenant.tokens[RESOURCE_SCOPE] = token
    assert [i["id"] for i in tenant.pfx("GET").json()["value"]] == [pfx["id"]]
    assert tenant.upload([success(w) for w in works[:5]]) == ["accepted"] * 5
    assert tenant.upload([success(w) for w in works[6:]]) == ["accepted"] * 4
    rest = tenant.download()
    assert {w["requestId"] for w in rest} == set(ids[10:])
    assert len(tenant.admin("GET", "connectors")["value"]) == 1


def test_kills_under_load_lose_nothing(tenant):
    """What was acknowledged stands, whenever the process dies; the rest is done by asking again."""
    pfx = tenant.upload_pfx()
    ids = tenant.enqueue(pfx, count=400)
    acknowledged, works = set(), {}
    stop = threading.Event()

    def killer():
        for _ in range(4):
            if stop.wait(0.3):
                return
            tenant.kill()
            tenant.start()

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while len(acknowledged) < 400:
            assert time.monotonic() < deadline
            try:
                uri = tenant.discover()
                for work in tenant.download(most=20, uri=uri):
                    works[work["requestId"]] = work
                batch = [w for i, w in works.items() if i not in acknowledged][:20]
                if not batch:
                    break
                statuses = tenant.upload([success(w) for w in batch], uri=uri)
                assert set(statuses) == {"accepted"}
                acknowledged.update(w["requestId"] for w in batch)
            except (requests.exceptions.RequestException, KeyError):
                pass
    finally:
        stop.set()
        thread.join()
    done = {r["requestId"] for r in tenant.admin("GET", "requests?state=completed&$top=1000")["value"]}
    assert acknowledged <= done
    # Answers that got lost left leases behind, nothing else.
    left = {r["requestId"] for r in tenant.admin("GET", "requests?state=leased&$top=1000")["value"]}
    assert done | left == set(ids) and not done & left
    assert tenant.counts()["uploads"]["accepted"] == len(done)


def test_stop_answers_who_waits(tenant):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        poll = pool.submit(tenant.download, "one", 1, 30, session=tls_session(tenant))
        wait_until(lambda: tenant.counts()["waiting"] == 1, "a call waits")
        begun = time.monotonic()
        assert tenant.stop() == 0
        assert poll.result(10) == []
        assert time.monotonic() - begun < 5


def test_first_start_makes_credentials(tmp_path):
    argv = [PROGRAM, "--listen", "127.0.0.1:0", "--state", f"sqlite:{tmp_path}/state.db", "--ready-file", tmp_path / "port"]
    lines = []
    for _ in range(2):
        (tmp_path / "port").unlink(missing_ok=True)
        child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: (tmp_path / "port").exists(), "the service is ready")
        port = int((tmp_path / "port").read_text())
        child.terminate()
        lines.append(child.communicate(timeout=20)[0].splitlines())
        assert child.returncode == 0 and port > 0
    assert len(lines[0]) == 3 and len(lines[1]) == 1
    secret = (tmp_path / "client.secret").read_text()
    assert len(secret) > 40 and not any(secret in line for line in lines[0])
    assert stat.S_IMODE((tmp_path / "client.secret").stat().st_mode) == 0o600


def test_secrets_are_kept_as_hashes(tenant):
    token = tenant.token()
    tenant.stop()
    data = b"".join(path.read_bytes() for path in tenant.folder.glob("state.db*"))
    for secret in (token, tenant.secret, tenant.admin_token_file.read_text()):
        assert secret.encode() not in data


@pytest.mark.parametrize("argv, want", [
    (["--help"], 0), (["--version"], 0), ([], 2), (["--state"], 2), (["--nonsense"], 2), (["word"], 2),
    (["--state", "sqlite::memory:", "--lease-seconds", "0"], 2), (["--state", "sqlite::memory:", "--tls-key", "x"], 2),
    (["--state", "sqlite::memory:", "--client-id", "x"], 2), (["--state", "sqlite::memory:", "--public-url", "ftp://x"], 2),
    (["--state", "mysql:x", "--listen", "127.0.0.1:0"], 1), (["--state", "sqlite:/nonexistent/x", "--listen", "127.0.0.1:0"], 1),
])
def test_command_line(argv, want, tmp_path):
    done = subprocess.run([str(PROGRAM), *argv], capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert done.returncode == want, done.stderr
    if want:
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("certconnector-tenant: ")
    else:
        assert "certconnector-tenant" in done.stdout
