# SPDX-License-Identifier: MIT
"""The stand-in service's status page on the wire: who gets in, by what headers, and that nothing of a peer is markup."""

import html.parser
import re

import pytest
import requests

from helpers_tenant import Tenant, failure

PAGES = ["/admin", "/admin/", "/admin/requests", "/admin/releases", "/admin/connector?id=x", "/admin/requests/x"]
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


@pytest.fixture(scope="module")
def tenant(tmp_path_factory):
    service = Tenant(tmp_path_factory.mktemp("tenant"))
    yield service
    service.kill()


def new_session(tenant):
    session = requests.Session()
    session.verify, session.trust_env = str(tenant.chain), False
    return session


def post(tenant, path, session=None, data=None, **headers):
    headers = {"Origin": tenant.url, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return (session or new_session(tenant)).post(tenant.url + path, data=data or {}, allow_redirects=False, timeout=60,
                                                headers={n: v for n, v in headers.items() if v is not None})


def sign_in(tenant, **headers):
    session = new_session(tenant)
    answer = post(tenant, "/admin/sign-in", session, {"token": tenant.admin_token_file.read_text().strip()}, **headers)
    return session, answer


def get(tenant, session, path):
    return session.get(tenant.url + path, allow_redirects=False, timeout=60)


def check_headers(answer):
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"


# ---- who gets in ----

@pytest.mark.parametrize("path", PAGES)
def test_who_has_not_signed_in_is_sent_to_the_form(tenant, path):
    for cookie in (None, "__Host-certconnector-session=x", "__Host-certconnector-session=" + "x" * 43, "__Host-certconnector-session=" + "x" * 5000,
                   "__Host-certconnector-session", "=;;=", "certconnector-session=x"):
        session = new_session(tenant)
        answer = session.get(tenant.url + path, allow_redirects=False, headers={"Cookie": cookie} if cookie else {})
        assert answer.status_code == 303 and answer.headers["Location"] == "/admin/sign-in" and not answer.content
        check_headers(answer)
    # The API's token opens no page, nor the page's cookie the API.
    assert new_session(tenant).get(tenant.url + path, allow_redirects=False, headers=tenant.admin_header).status_code == 303
    session, _ = sign_in(tenant)
    assert get(tenant, session, "/admin/api/counts").status_code == 401


def test_sign_in_and_out(tenant):
    session, answer = sign_in(tenant)
    assert answer.status_code == 303 and answer.headers["Location"] == "/admin"
    check_headers(answer)
    cookie = answer.headers["Set-Cookie"]
    assert re.fullmatch(r"__Host-certconnector-session=[A-Za-z0-9_-]{43}; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure", cookie)
    assert tenant.admin_token_file.read_text().strip() not in cookie
    for path in PAGES:
        answer = get(tenant, session, path)
        assert answer.status_code == (404 if path.endswith("x") else 200), path
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        check_headers(answer)
    other, _ = sign_in(tenant)
    answer = post(tenant, "/admin/sign-out", session)
    assert answer.status_code == 303 and answer.headers["Location"] == "/admin/sign-in" and "Max-Age=0" in answer.headers["Set-Cookie"]
    session.headers["Cookie"] = cookie.split(";")[0]
    assert get(tenant, session, "/admin").status_code == 303
    assert get(tenant, other, "/admin").status_code == 200
    assert post(tenant, "/admin/sign-out").status_code == 303
    # Nor is there a way out, or in, that an address alone would open.
    assert get(tenant, other, "/admin/sign-out").status_code == 405
    assert get(tenant, other, "/admin").status_code == 200


@pytest.mark.parametrize("data", [{}, {"token": ""}, {"token": "x"}, {"token": "x" * 5000}, {"other": "x"}, {"token": "\0"}], ids=lambda d: str(d)[:20])
def test_wrong_tokens(tenant, data):
    answer = post(tenant, "/admin/sign-in", data=data)
    assert answer.status_code == 403 and "Set-Cookie" not in answer.headers and "not the administration token" in answer.text
    assert 'role="alert"' in answer.text and 'aria-describedby="hint trouble"' in answer.text


def test_tokens_are_taken_as_pasted(tenant):
    token = tenant.admin_token_file.read_text().strip()
    assert post(tenant, "/admin/sign-in", data={"token": f" {token}\r\n"}).status_code == 303
    assert post(tenant, "/admin/sign-in", data={"token": token[:20] + " " + token[20:]}).status_code == 403


@pytest.mark.parametrize("headers, good", [
    ({}, True), ({"Origin": None}, False), ({"Origin": "https://evil.example"}, False), ({"Origin": "null"}, False),
    ({"Origin": "http://localhost"}, False), ({"Sec_Fetch_Site": "same-origin"}, True), ({"Sec_Fetch_Site": "same-origin", "Origin": None}, True),
    ({"Sec_Fetch_Site": "cross-site"}, False), ({"Sec_Fetch_Site": "same-site"}, False), ({"Sec_Fetch_Site": "none"}, False),
], ids=str)
def test_forms_of_other_pages(tenant, headers, good):
    session, answer = sign_in(tenant, **headers)
    assert answer.status_code == (303 if good else 403)
    assert good or ("did not come from this page" in answer.text and not session.cookies)
    session, _ = sign_in(tenant)
    assert post(tenant, "/admin/sign-out", session, **headers).status_code == (303 if good else 403)
    assert get(tenant, session, "/admin").status_code == (303 if good else 200)


def test_the_oldest_session_makes_room(tenant):
    sessions = [sign_in(tenant)[0] for _ in range(66)]
    good = [get(tenant, session, "/admin").status_code == 200 for session in sessions]
    assert good == [False] * 2 + [True] * 64


def test_sessions_end_with_the_program(tmp_path):
    tenant = Tenant(tmp_path)
    try:
        session, _ = sign_in(tenant)
        assert get(tenant, session, "/admin").status_code == 200
        tenant.stop()
        tenant.start()
        assert get(tenant, session, "/admin").status_code == 303
    finally:
        tenant.kill()


def test_what_needs_no_sign_in(tenant):
    for path, kind in (("/admin/sign-in", "text/html; charset=utf-8"), ("/admin/style.css", "text/css; charset=utf-8"), ("/admin/icon.svg", "image/svg+xml")):
        answer = get(tenant, new_session(tenant), path)
        assert answer.status_code == 200 and answer.headers["Content-Type"] == kind
        check_headers(answer)
        assert "contoso.example" in answer.text or path != "/admin/sign-in"
    for path in ("/admin/x", "/admin/style", "/admin/api"):
        assert get(tenant, new_session(tenant), path).status_code == 404


def test_faults_leave_the_page_alone(tenant):
    session, _ = sign_in(tenant)
    tenant.faults({"path": "", "status": 500})
    assert get(tenant, session, "/admin").status_code == 200
    tenant.admin("DELETE", "faults")


# ---- what is on it ----

class Markup(html.parser.HTMLParser):
    """Elements and texts; that all that was opened was closed."""
    VOID = {"meta", "link", "img", "input"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.attributes = [], set(), [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


TAGS = set("""html head meta title link body a header div p img span strong nav ul li form button main h1 h2 section dl dt dd table caption thead tbody
              tr th td time footer details summary label select option input code""".split())
NASTY = "</td></table></main><script>alert('1')</script><img src=\"x\" onerror=alert(1)> \" onmouseover=\"x &lt; %s"


def page(tenant, session, path, status=200):
    answer = get(tenant, session, path)
    assert answer.status_code == status, path
    markup = Markup(answer.text)
    assert markup.tags <= TAGS, markup.tags - TAGS
    assert not [name for name, _ in markup.attributes if name.startswith("on") or name == "style"]
    assert not [value for name, value in markup.attributes if name in ("href", "src", "action") and not value.startswith(("/admin", "#"))]
    return " ".join(markup.texts)


def test_nothing_of_a_peer_is_markup(tenant):
    session, _ = sign_in(tenant)
    connector = "\"><script>x</script>&'"
    answer = tenant.heartbeat(connector, ["pkcs"], version=NASTY[:60], issues=[{"code": NASTY, "severity": NASTY, "message": NASTY}, 7, {}], queues={NASTY: 1, "x": "y"},
                              token={"label": NASTY, "state": NASTY, "model": NASTY, "manufacturer": NASTY}, metrics=[{"name": NASTY[:60], "value": 1}],
                              certificates=[{"role": NASTY, "expirationDateTime": NASTY}, "x"], startedDateTime=NASTY)
    assert answer.status_code == 200, answer.text
    request_id = tenant.enqueue_pkcs(subjectName="CN=x", userPrincipalName=NASTY, deviceId=NASTY, kind="issue")
    tenant.heartbeat("connector-1", ["pkcs"])
    [work] = tenant.download(queue="PkcsRequests", most=1)
    assert tenant.upload([{**failure(work, code="BadRequest"), "errorMessage": NASTY}], queue="PkcsRequests") == ["accepted"]
    assert NASTY[:60] in page(tenant, session, "/admin") and connector in page(tenant, session, "/admin")
    seen = page(tenant, session, "/admin/connector?id=" + requests.utils.quote(connector, safe=""))
    assert seen.count(NASTY) >= 8
    assert NASTY in page(tenant, session, "/admin/requests")
    assert NASTY in page(tenant, session, f"/admin/requests/{request_id}")


@pytest.mark.parametrize("path, status", [
    ("/admin/requests?state=queued&feature=pkcs", 200), ("/admin/requests?state=&feature=", 200), ("/admin/requests?state=%3Cscript%3E", 400),
    ("/admin/requests?feature=scep", 400), ("/admin/requests?before=x", 400), ("/admin/requests?before=0", 400), ("/admin/requests?before=1", 200),
    ("/admin/connector", 400), ("/admin/connector?id=%3Cscript%3E", 404), ("/admin/requests/%3Cscript%3E", 404)])
def test_queries(tenant, path, status):
    session, _ = sign_in(tenant)
    page(tenant, session, path, status)


def test_filter_and_pages(tmp_path):
    tenant = Tenant(tmp_path)
    try:
        session, _ = sign_in(tenant)
        assert "There is no such request" in page(tenant, session, "/admin/requests")
        ids = tenant.enqueue_pkcs(subjectName="CN=x", userPrincipalName="u@x", kind="issue", count=120)
        tenant.admin("DELETE", f"requests/{ids[0]}")
        seen, path = [], "/admin/requests?state=queued&feature=pkcs"
        for want in (50, 50, 19):
            text = get(tenant, session, path).text
            found = re.findall(r'href="/admin/requests/([0-9a-f-]{36})"', text)
            assert len(found) == want
            seen += found
            assert ("Newest" in text) == (len(seen) > 50)
            older = re.search(r'href="([^"]*before=[^"]*)" rel="next"', text)
            assert (older is None) == (want == 19)
            path = older and older.group(1).replace("&amp;", "&")
        assert seen == ids[:0:-1]
        assert re.findall(r'href="/admin/requests/([0-9a-f-]{36})"', get(tenant, session, "/admin/requests?state=cancelled").text) == ids[:1]
        assert "There is no such request" in page(tenant, session, "/admin/requests?feature=pfx-import")
        text = page(tenant, session, f"/admin/requests/{ids[0]}")
        assert "Asked for" in text and "Cancelled" in text
    finally:
        tenant.kill()


def test_an_empty_service(tmp_path):
    tenant = Tenant(tmp_path)
    try:
        session, _ = sign_in(tenant)
        assert "None has been here yet" in page(tenant, session, "/admin")
        text = page(tenant, session, "/admin/releases")
        assert "No release is known" in text and "clock" not in text
        tenant.download("silent")
        text = page(tenant, session, "/admin")
        assert "Unknown" in text and "no health message yet" in text
    finally:
        tenant.kill()


def test_without_tls(tmp_path):
    """A cookie that browsers send over plain HTTP, for this page's folder only; behind a TLS edge as with TLS."""
    class Plain(Tenant):
        def argv(self):
            argv = super().argv()
            at = argv.index("--tls-certificate")
            return argv[:at] + argv[at + 4:]

    for options, want in (((), "certconnector-session=[^;]*; Path=/admin; Max-Age=28800; HttpOnly; SameSite=Strict"),
                          (("--public-url", "https://connectors.contoso.example"), "__Host-certconnector-session=[^;]*; Path=/; .*; Secure")):
        folder = tmp_path / str(len(options))
        folder.mkdir()
        tenant = Plain(folder, *options)
        try:
            tenant.url = tenant.url.replace("https:", "http:")
            _, answer = sign_in(tenant, Origin=options[1] if options else tenant.url)
            assert answer.status_code == 303 and re.fullmatch(want, answer.headers["Set-Cookie"])
            if options:
                assert sign_in(tenant)[1].status_code == 403
        finally:
            tenant.kill()
