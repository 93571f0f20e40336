# SPDX-License-Identifier: MIT
"""The stand-in service's queue of PKCS requests: the same calls as for imported PFX, other requests and results."""

import base64
import concurrent.futures
import datetime
import sqlite3

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helpers_tenant import Tenant, b64, failure, success, undo_steps, wait_until

QUEUE = "PkcsRequests"
MEMBERS = {
    "kind": "issue", "userPrincipalName": "user1@contoso.example", "userId": "u-1", "deviceId": "d-1",
    "subjectName": "CN=Us\u00e9r\\, One,O=Contoso", "onPremisesSecurityIdentifier": "S-1-5-21-1-2-3-1104",
    "subjectAlternativeNames": [{"type": "upn", "value": "user1@contoso.example"}, {"type": "email", "value": ""}],
    "keyAlgorithm": "rsa2048", "keyUsages": ["digitalSignature", "keyEncipherment"],
    "extendedKeyUsages": ["1.3.6.1.5.5.7.3.2"], "validityPeriodInDays": 365,
    "certificationAuthority": "ca.contoso.example", "certificationAuthorityName": "Contoso Issuing CA",
    "certificateTemplateName": "User/1", "certificationAuthorityType": "microsoft", "recipientCertificate": b64(b"recipient"),
    "passwordEncryption": "cms", "contentCipher": "aes256", "pfxEncryption": "compat",
    "aMemberOfTomorrow": {"x": [1, 2.50, None, True]},
}
RECRYPT = {"kind": "recrypt", "encryptedPfxBlob": b64(b"pfx"), "encryptedPfxPassword": b64(b"password"),
           "recipientCertificate": b64(b"recipient")}
GIVEN = ("requestContext", "requestId", "attempt", "leaseExpirationDateTime")


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


def certificate(serial=0x00AB12, name="user"):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1)
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(serial)
            .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=400)).sign(key, hashes.SHA256()))


def issued(work, cert=None, **members):
    """A success; None leaves a member out."""
    cert = cert or certificate()
    serial = f"{cert.serial_number:X}"
    result = {"requestContext": work["requestContext"], "succeeded": True, "errorCode": "None",
              "certificate": b64(cert.public_bytes(serialization.Encoding.DER)),
              "certificateThumbprint": cert.fingerprint(hashes.SHA1()).hex().upper(),
              "certificateSerialNumber": serial.zfill(len(serial) + len(serial) % 2),
              "certificateExpirationDateTime": "2027-02-05T00:00:00Z", "issuingCertificateAuthority": "CN=Contoso Issuing CA",
              "caConfiguration": "ca.contoso.example\\Contoso Issuing CA", "encryptedPfxBlob": b64(b"pfx"),
              "encryptedPfxPassword": b64(b"password"), "passwordEncryption": "cms", **members}
    return {name: value for name, value in result.items() if value is not None}


def recrypted(work, **members):
    result = {"requestContext": work["requestContext"], "succeeded": True, "errorCode": "None",
              "encryptedPfxPassword": b64(b"password"), "passwordEncryption": "rsaOaepSha256", **members}
    return {name: value for name, value in result.items() if value is not None}


def download(tenant, *arguments, **options):
    return tenant.download(*arguments, queue=QUEUE, **options)


def upload(tenant, *results, **options):
    return tenant.upload(list(results), queue=QUEUE, **options)


def try_upload(tenant, *results):
    return tenant.service(f"{QUEUE}/upload", {"connectorId": "connector-1", "results": list(results)})


# ---- requests ----

def test_members_are_handed_out_word_for_word(tenant):
    request_id = tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    assert work["requestId"] == request_id and work["attempt"] == 1 and work["leaseExpirationDateTime"].endswith("Z")
    assert {name: value for name, value in work.items() if name not in GIVEN} == MEMBERS
    assert all(name in work for name in GIVEN)
    assert download(tenant) == []

    request = tenant.request(request_id)
    assert request["state"] == "leased" and request["feature"] == "pkcs" and request["kind"] == "issue"
    assert request["userPrincipalName"] == MEMBERS["userPrincipalName"] and request["deviceId"] == "d-1"
    assert "thumbprint" not in request
    result = issued(work)
    assert upload(tenant, result) == ["accepted"]
    request = tenant.request(request_id)
    assert request["state"] == "completed" and request["result"] == result
    assert [e["event"] for e in request["history"]] == ["queued", "leased", "uploaded"]
    assert request["history"][2]["result"] == result


def test_count_and_numbered_subjects(tenant):
    ids = tenant.enqueue_pkcs(count=1000, subjectName="CN=device%d,OU=%d%%d", keyAlgorithm="rsa2048")
    assert len(set(ids)) == 1000
    works = [work for _ in range(10) for work in download(tenant)]
    assert [work["requestId"] for work in works] == ids
    assert [work["subjectName"] for work in works] == [f"CN=device{n},OU={n}%{n}" for n in range(1, 1001)]
    assert all("count" not in work and work["keyAlgorithm"] == "rsa2048" for work in works)


def test_an_array_goes_on_counting(tenant):
    ids = tenant.enqueue_pkcs({"subjectName": "CN=a%d", "count": 2}, {"subjectName": "CN=same", "count": 2}, {"subjectName": "CN=b%d"})
    works = download(tenant)
    assert [work["requestId"] for work in works] == ids
    assert [work["subjectName"] for work in works] == ["CN=a1", "CN=a2", "CN=same", "CN=same", "CN=b5"]
    assert len(tenant.admin("POST", "pkcsRequests", {"count": 1})["requestIds"]) == 1


def test_recrypt(tenant):
    request_id = tenant.enqueue_pkcs(**RECRYPT)
    [work] = download(tenant)
    assert {name: value for name, value in work.items() if name not in GIVEN} == RECRYPT
    assert base64.b64decode(work["encryptedPfxBlob"]) == b"pfx"
    assert upload(tenant, recrypted(work)) == ["accepted"]
    assert tenant.request(request_id)["kind"] == "recrypt" and tenant.request(request_id)["result"] == recrypted(work)


def test_overrides(tenant):
    request_id = tenant.enqueue_pkcs(**MEMBERS, overrides={"recipientCertificate": None, "attempt": "first", "keyAlgorithm": 7})
    [work] = download(tenant)
    assert "recipientCertificate" not in work and "overrides" not in work
    assert work["attempt"] == "first" and work["keyAlgorithm"] == 7 and work["requestId"] == request_id
    # The kind counts as it was handed out.
    tenant.enqueue_pkcs(overrides={"kind": "recrypt"})
    tenant.enqueue_pkcs(**RECRYPT, overrides={"kind": None})
    to_recrypt, to_issue = download(tenant)
    assert "kind" not in to_issue
    assert try_upload(tenant, recrypted(to_issue)).status_code == 400
    assert upload(tenant, recrypted(to_recrypt), issued(to_issue)) == ["accepted", "accepted"]


def test_what_cannot_be_done_is_ordered_all_the_same(tenant):
    body = {"kind": "other", "keyAlgorithm": "rsa1", "validityPeriodInDays": -1, "subjectAlternativeNames": [{}],
            "keyUsages": ["nothing"], "recipientCertificate": "", "passwordEncryption": "none", "subjectName": None}
    tenant.enqueue_pkcs(**body)
    [work] = download(tenant)
    assert {name: value for name, value in work.items() if name not in GIVEN} == body
    tenant.enqueue_pkcs()
    assert sorted(download(tenant)[0]) == sorted(GIVEN)


@pytest.mark.parametrize("members", [
    {name: 7} for name, value in MEMBERS.items() if isinstance(value, str)] + [
    {"kind": "x" * 65}, {"validityPeriodInDays": "365"}, {"validityPeriodInDays": 1.5}, {"keyUsages": "x"}, {"keyUsages": [1]},
    {"extendedKeyUsages": {}}, {"extendedKeyUsages": [None]}, {"subjectAlternativeNames": ["x"]},
    {"subjectAlternativeNames": [{"type": 1}]}, {"subjectAlternativeNames": [{"type": "dns", "value": []}]},
    {"recipientCertificate": "*"}, {"recipientCertificate": "QUI"}, {"encryptedPfxBlob": "QUI=\n"}, {"encryptedPfxPassword": 7},
    {"overrides": []}, {"count": 0}, {"count": 20001}, {"count": "2"}, {"requestContext": "x"}, {"requestId": "x"},
    {"attempt": 1}, {"leaseExpirationDateTime": "x"},
], ids=str)
def test_enqueue_refused(shared, members):
    before = shared.counts()["requests"]["total"]
    body = {**MEMBERS, **members}
    assert shared.admin_answer("POST", "pkcsRequests", body).status_code == 400
    assert shared.admin_answer("POST", "pkcsRequests", [MEMBERS, body]).status_code == 400
    assert shared.counts()["requests"]["total"] == before


@pytest.mark.parametrize("body", [[], [1], "x", [{"count": 20000}, {}], {"count": 20000, "subjectName": "x" * 20000}])
def test_enqueue_refused_as_a_whole(shared, body):
    assert shared.admin_answer("POST", "pkcsRequests", body).status_code == 400
    assert shared.counts()["requests"]["total"] == 0


# ---- results ----

@pytest.mark.parametrize("members, want", [
    ({"certificate": None}, 400), ({"certificate": ""}, 400), ({"certificate": "*"}, 400), ({"certificate": b64(b"\x30\x00")}, 400),
    ({"certificateThumbprint": None}, 400), ({"certificateThumbprint": "0" * 40}, 400),
    ({"certificateThumbprint": certificate().fingerprint(hashes.SHA1()).hex()}, 400),
    ({"certificateSerialNumber": None}, 400), ({"certificateSerialNumber": "AB13"}, 400), ({"certificateSerialNumber": "ab12"}, 400),
    ({"certificateSerialNumber": "00AB12"}, 400), ({"certificateSerialNumber": str(0xAB12)}, 400),
    ({"encryptedPfxBlob": None}, 400), ({"encryptedPfxBlob": "*"}, 400), ({"encryptedPfxPassword": None}, 400),
    ({"encryptedPfxPassword": ""}, 400), ({"passwordEncryption": None}, 400), ({"passwordEncryption": ""}, 400),
    ({"succeeded": "true"}, 400), ({"succeeded": None}, 400), ({"errorCode": "BadRequest"}, 400), ({"requestContext": None}, 400),
    ({"errorCode": None}, 200), ({"errorCode": "0"}, 200), ({"issuingCertificateAuthority": None, "caConfiguration": None}, 200),
    ({"aMemberOfTomorrow": 1}, 200),
], ids=str)
def test_success_of_an_issue(tenant, members, want):
    tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    answer = try_upload(tenant, issued(work, **members))
    assert answer.status_code == want, answer.text
    assert tenant.counts()["features"]["pkcs"]["completed"] == (want == 200)
    if want == 400:
        assert answer.json()["error"]["code"] == "BadRequest" and "results[0]" in answer.json()["error"]["message"]
        assert upload(tenant, issued(work)) == ["accepted"]


@pytest.mark.parametrize("spoil", [lambda der: der[:-1], lambda der: der + b"\0", lambda der: b"\x31" + der[1:]])
def test_certificate_that_does_not_parse(tenant, spoil):
    tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    good = issued(work)
    spoiled = dict(good, certificate=b64(spoil(base64.b64decode(good["certificate"]))))
    assert try_upload(tenant, spoiled).status_code == 400
    assert upload(tenant, good) == ["accepted"]


def test_serial_numbers_have_whole_octets(tenant):
    tenant.enqueue_pkcs(**MEMBERS, count=2)
    for work, serial, want in zip(download(tenant), (0x7, 0x80FF), ("07", "80FF")):
        result = issued(work, certificate(serial))
        assert result["certificateSerialNumber"] == want
        assert try_upload(tenant, dict(result, certificateSerialNumber=want.lstrip("0") + "0")).status_code == 400
        assert upload(tenant, result) == ["accepted"]


@pytest.mark.parametrize("members, want", [
    ({}, 200), ({"certificate": "*"}, 200), ({"encryptedPfxPassword": None}, 400), ({"passwordEncryption": None}, 400),
    ({"encryptedPfxPassword": "*"}, 400),
])
def test_success_of_a_recrypt(tenant, members, want):
    tenant.enqueue_pkcs(**RECRYPT)
    [work] = download(tenant)
    assert try_upload(tenant, recrypted(work, **members)).status_code == want
    assert tenant.counts()["requests"]["completed"] == (want == 200)


def test_one_spoiled_result_refuses_all(tenant):
    tenant.enqueue_pkcs(MEMBERS, RECRYPT, MEMBERS)
    first, second, third = download(tenant)
    answer = try_upload(tenant, issued(first), recrypted(second), recrypted(third))
    assert answer.status_code == 400 and "results[2]" in answer.json()["error"]["message"]
    assert tenant.counts()["requests"]["leased"] == 3
    assert upload(tenant, issued(first), recrypted(second), failure(third)) == ["accepted"] * 3


def test_failures_and_retries(tenant):
    request_id = tenant.enqueue_pkcs(**MEMBERS)
    for attempt in range(1, 6):
        [work] = download(tenant)
        assert work["attempt"] == attempt
        assert upload(tenant, failure(work, retryable=True, code="CaUnavailable")) == ["accepted"]
    assert download(tenant) == [] and tenant.request(request_id)["state"] == "failed"
    request_id = tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    assert upload(tenant, failure(work, code="CaDenied")) == ["accepted"]
    assert tenant.request(request_id)["result"]["errorCode"] == "CaDenied"


def test_upload_is_idempotent(tenant):
    tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    cert = certificate()
    assert upload(tenant, issued(work, cert)) == ["accepted"]
    assert upload(tenant, issued(work, cert)) == ["accepted"]
    assert upload(tenant, issued(work, certificate(5))) == ["alreadyCompleted"]
    assert upload(tenant, issued({"requestContext": "x"}), recrypted({"requestContext": "y"})) == ["unknown", "unknown"]


# ---- the four calls, apart from the other queue ----

def test_queues_are_apart(tenant):
    tenant.enqueue(tenant.upload_pfx())
    tenant.enqueue_pkcs(**MEMBERS)
    [pfx_work], [work] = tenant.download(), download(tenant)
    assert "thumbprint" in pfx_work and "subjectName" in work
    assert tenant.upload([success(work)]) == ["unknown"]
    assert upload(tenant, recrypted(pfx_work)) == ["unknown"]
    for queue, mine, other in ((QUEUE, work, pfx_work), ("PfxImportRequests", pfx_work, work)):
        contexts = {"connectorId": "connector-1", "requestContexts": [mine["requestContext"], other["requestContext"]]}
        renewed = tenant.service(f"{queue}/renewLeases", contexts).json()["value"]
        assert renewed[0]["leaseExpirationDateTime"] and renewed[1]["leaseExpirationDateTime"] is None
        assert tenant.service(f"{queue}/release", dict(contexts, requestContexts=[other["requestContext"]])).status_code == 200
    assert tenant.counts()["released"] == 0
    states = dict.fromkeys(("queued", "completed", "failed", "cancelled"), 0)
    want = {**states, "leased": 1, "total": 1, "waiting": 0}
    assert tenant.counts()["features"] == {"pkcs": want, "pfx-import": want}
    assert tenant.counts()["requests"] == {**states, "leased": 2, "total": 2}
    assert tenant.service(f"{QUEUE}/release", {"connectorId": "connector-1", "requestContexts": [work["requestContext"]]}).ok
    assert tenant.counts()["features"]["pkcs"]["queued"] == 1 and download(tenant)[0]["attempt"] == 2


def session(tenant):
    one = requests.Session()
    one.verify, one.trust_env = str(tenant.chain), False
    return one


def test_each_queue_wakes_its_own(tenant):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        polls = [pool.submit(tenant.download, "one", 1, 30, queue, session=session(tenant)) for queue in ("PfxImportRequests", QUEUE)]
        wait_until(lambda: tenant.counts()["waiting"] == 2, "two calls wait")
        assert [tenant.counts()["features"][f]["waiting"] for f in ("pkcs", "pfx-import")] == [1, 1]
        request_id = tenant.enqueue_pkcs(**MEMBERS)
        assert [work["requestId"] for work in polls[1].result(20)] == [request_id]
        assert tenant.counts()["features"]["pfx-import"]["waiting"] == 1
        request_id = tenant.enqueue(tenant.upload_pfx())
        assert [work["requestId"] for work in polls[0].result(20)] == [request_id]


def test_features_are_admitted(tenant):
    answer = tenant.heartbeat(features=("pfx-import", "pkcs", "revocation", "scep", "coffee"))
    assert answer.json()["features"] == ["pfx-import", "pkcs", "revocation", "scep"]
    assert download(tenant) == [] and tenant.download() == []
    for features, want_pkcs, want_import in ((["pkcs"], 200, 403), (["pfx-import"], 403, 200), (["revocation"], 403, 403)):
        tenant.heartbeat(features=features)
        for queue, want in ((QUEUE, want_pkcs), ("PfxImportRequests", want_import)):
            body = {"downloadParameters": {"connectorId": "connector-1", "maxRequests": 1}}
            answer = tenant.service(f"{queue}/download", body)
            assert answer.status_code == want, (features, queue)
            contexts = {"connectorId": "connector-1", "requestContexts": ["x"]}
            assert tenant.service(f"{queue}/renewLeases", contexts).status_code == want
            assert tenant.service(f"{queue}/release", contexts).status_code == want
            results = {"connectorId": "connector-1", "results": [failure({"requestContext": "x"})]}
            assert tenant.service(f"{queue}/upload", results).status_code == want


@pytest.mark.parametrize("action, headers, want", [
    ("PkcsRequests/download", {"api-version": "5019-05-05"}, 400), ("PkcsRequests/download", {"api-version": None}, 400),
    ("PkcsRequests/download", {"Authorization": None}, 401), ("pkcsrequests/download", {}, 200), ("PkcsRequests/nothing", {}, 404),
    ("PfxRequests/download", {}, 404), ("Requests/download", {}, 404), ("PkcsRequests", {}, 404),
])
def test_paths(shared, action, headers, want):
    body = {"downloadParameters": {"connectorId": "connector-1", "maxRequests": 1}}
    assert shared.service(action, body, headers=headers).status_code == want


# ---- the administrator ----

def test_request_list_by_feature(tenant):
    imports = tenant.enqueue(tenant.upload_pfx(), count=4)
    certificates = tenant.enqueue_pkcs(**MEMBERS, count=7)
    download(tenant, most=3)

    def pages(query):
        url, got = f"{tenant.url}/admin/api/requests?{query}", []
        while url:
            page = tenant.http.get(url, headers=tenant.admin_header).json()
            got += [item["requestId"] for item in page["value"]]
            url = page.get("@odata.nextLink") and tenant.url + page["@odata.nextLink"]
        return got

    assert pages("$top=2") == imports + certificates
    assert pages("feature=pkcs&$top=2") == certificates
    assert pages("feature=pfx-import&$top=3") == imports
    assert pages("feature=pkcs&state=leased") == certificates[:3]
    assert pages("state=queued&feature=pkcs&$top=1") == certificates[3:]
    assert pages("feature=pfx-import&state=leased") == []
    for spoiled in ("feature=revocation", "feature=", "feature=PKCS", "state=other&feature=pkcs", "feature=pkcs&$top=0"):
        assert tenant.admin_answer("GET", f"requests?{spoiled}").status_code == 400, spoiled


def test_cancel(tenant):
    request_id = tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    tenant.admin("DELETE", f"requests/{request_id}")
    assert upload(tenant, issued(work)) == ["leaseLost"]
    assert tenant.request(request_id)["state"] == "cancelled"


# ---- life and death ----

def test_everything_survives_a_kill(tenant):
    ids = tenant.enqueue_pkcs(**MEMBERS, count=6)
    first, second, *_ = download(tenant, most=3)
    assert upload(tenant, issued(first)) == ["accepted"]
    before = tenant.counts()
    tenant.kill()
    tenant.start()
    assert tenant.counts() == before
    assert upload(tenant, issued(second)) == ["accepted"]
    rest = download(tenant)
    assert [work["requestId"] for work in rest] == ids[3:] and rest[0]["subjectName"] == MEMBERS["subjectName"]


def test_a_database_of_the_first_schema_is_brought_up_to_date(tenant):
    request_id = tenant.enqueue(tenant.upload_pfx())
    tenant.stop()
    with sqlite3.connect(tenant.folder / "state.db") as db:
        undo_steps(db, 1)
    db.close()
    tenant.start()
    assert tenant.request(request_id)["state"] == "queued"
    [work] = tenant.download()
    assert tenant.upload([success(work)]) == ["accepted"]
    tenant.enqueue_pkcs(**MEMBERS)
    [work] = download(tenant)
    assert upload(tenant, issued(work)) == ["accepted"]
    tenant.revoke(serialNumber="1")
    assert len(tenant.download_revocations()) == 1
