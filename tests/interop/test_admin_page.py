# SPDX-License-Identifier: MIT
"""The stand-in service's status page in a browser: two widths, light and dark, by keyboard, over half a year of a release."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from helpers_tenant import Tenant, failure
from test_tenant_pkcs import MEMBERS, download, issued, upload

HERE = pathlib.Path(__file__).resolve().parent
MODULES = pathlib.Path(os.environ.get("CC_BROWSER_MODULES", pathlib.Path.home() / ".cache/certconnector/browser/node_modules"))
CHROMIUM, NODE = shutil.which("chromium"), shutil.which("node")
SCREENSHOTS = os.environ.get("CC_SCREENSHOTS")  # a folder, to look at them
VIEWS = [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp; \u202egnp.exe"

pytestmark = pytest.mark.skipif(not CHROMIUM or not NODE or not (MODULES / "playwright-core").is_dir(),
                                reason="chromium, node or playwright-core is missing: scripts/install-deps.sh --test")


class Browser:
    def __init__(self, folder):
        env = dict(os.environ, BROWSER=CHROMIUM, BROWSER_MODULES=str(MODULES), HOME=str(folder))
        self.process = subprocess.Popen([NODE, str(HERE / "browser" / "drive.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self("start")

    def __call__(self, command, **members):
        self.process.stdin.write(json.dumps({"command": command, **members}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self):
        if self.process.poll() is None:
            try:
                self("stop")
            finally:
                self.process.stdin.close()
                self.process.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driven = Browser(tmp_path_factory.mktemp("browser"))
    yield driven
    driven.close()


def heartbeat(tenant, connector, version, **members):
    answer = tenant.heartbeat(connector, ["pkcs", "pfx-import", "scep"], version=version, **members)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def tenant(tmp_path_factory):
    """With connectors of all kinds and requests in all states."""
    service = Tenant(tmp_path_factory.mktemp("tenant"), "--retry-delay-ms", "0")
    heartbeat(service, "7d0e8b52-8f0e-4c5e-9f43-0f6f3a1b5c01", "1.0.0", startedDateTime="2026-01-02T03:04:05Z",
              token={"state": "open", "label": "certconnector", "manufacturer": "SoftHSM project", "model": "SoftHSM v2"},
              queues={"pkcs": 3, "pfx-import": 0}, metrics=[{"name": "pkcs", "value": 1204, "successCount": 1200, "failureCount": 4}],
              issues=[{"code": "TokenSlow", "severity": "warning", "message": "the token takes 2.4 s for a signature"}],
              certificates=[{"role": "ra", "expirationDateTime": "2027-03-01T00:00:00Z"}])
    heartbeat(service, "7d0e8b52-8f0e-4c5e-9f43-0f6f3a1b5c02", "1.1.0")
    heartbeat(service, "hostile", HOSTILE[:60], issues=[{"code": HOSTILE, "severity": HOSTILE, "message": HOSTILE}],
              queues={HOSTILE: 7}, token={"label": HOSTILE}, metrics=[{"name": HOSTILE[:40], "value": 1}],
              certificates=[{"role": HOSTILE, "expirationDateTime": HOSTILE}])
    heartbeat(service, "gone", "0.9.0")
    service.admin("DELETE", "connectors/gone")
    for connector, name in (("7d0e8b52-8f0e-4c5e-9f43-0f6f3a1b5c01", "Dublin 1"), ("hostile", HOSTILE)):
        assert service.graph("PATCH", f"beta/deviceManagement/ndesConnectors/{connector}", {"displayName": name}).status_code == 200
    service.enqueue_pkcs(count=60, **{**MEMBERS, "userPrincipalName": HOSTILE[:40] + "@contoso.example"})
    service.enqueue_pkcs(**MEMBERS)
    for work, result in zip(download(service, most=3), (issued, lambda w: failure(w, code="CaDenied"), lambda w: failure(w, True, HOSTILE[:30]))):
        upload(service, result(work))
    service.download(connector="7d0e8b52-8f0e-4c5e-9f43-0f6f3a1b5c01", most=1, queue="PkcsRequests")
    service.enqueue(service.upload_pfx())
    yield service
    service.kill()


def sign_in(browser, tenant):
    """With the keyboard alone."""
    browser("go", url=tenant.url + "/admin")
    tags = []
    for _ in range(8):
        browser("press", key="Tab")
        tags.append(browser("focused"))
        if tags[-1]["id"] == "token":
            break
    assert [tag["text"] for tag in tags if tag["tag"] == "A"] == ["Skip to content"] and tags[-1]["id"] == "token"
    assert all(tag["outlined"] for tag in tags)
    browser("type", text=tenant.admin_token_file.read_text().strip())
    assert browser("press", key="Enter", goes=True)["url"] == tenant.url + "/admin"


def check(browser, name, view, heading):
    """What holds for each page."""
    seen = browser("look")
    if SCREENSHOTS:
        browser("screenshot", path=f"{SCREENSHOTS}/{name}-{view[0]}-{view[1]}.png")
    assert browser("troubles") == []
    assert seen["lang"] == "en" and seen["title"].startswith(heading) and seen["scripts"] == 0
    assert seen["headings"][0] == ["H1", heading] and [h[0] for h in seen["headings"]].count("H1") == 1
    assert {"header", "main", "footer"} <= set(seen["landmarks"])
    for fault in ("unlabelled", "faint", "outside"):
        assert seen[fault] == [], (fault, seen[fault])
    for fault in ("captionless", "scopeless", "small", "timeless"):
        assert seen[fault] == 0, fault
    assert seen["overflow"] <= 0, seen["outside"]
    return seen


def request_in(tenant, state):
    return tenant.admin("GET", f"requests?state={state}")["value"][0]["requestId"]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_pages(browser, tenant, view):
    browser("open", width=view[0], scheme=view[1])
    browser("go", url=tenant.url + "/admin")
    check(browser, "sign-in", view, "Sign in")
    sign_in(browser, tenant)
    seen = check(browser, "overview", view, "Overview")
    assert HOSTILE.replace("\u202e", "\ufffd") in seen["text"] and "Dublin 1" in seen["text"] and "Removed (1)" in seen["text"]
    for name, path, heading in (
            ("requests", "requests", "Requests"), ("releases", "releases", "Releases"), ("hostile", "connector?id=hostile", HOSTILE.replace("\u202e", "\ufffd")),
            ("connector", "connector?id=7d0e8b52-8f0e-4c5e-9f43-0f6f3a1b5c01", "Dublin 1"),
            ("completed", "requests/" + request_in(tenant, "completed"), "Request"), ("failed", "requests/" + request_in(tenant, "failed"), "Request")):
        assert browser("go", url=f"{tenant.url}/admin/{path}")["status"] == 200
        check(browser, name, view, heading)


def test_what_is_looked_for_is_found(browser, tenant):
    """A page with everything that the others must not have."""
    browser("open", width=360, scheme="light")
    browser("inject", html="<style>p{color:red}</style><script>throw 1</script><link rel=stylesheet href=/admin/nothing.css>"
                           "<link rel=icon href=https://elsewhere.example/x.png>")
    browser("go", url=tenant.url + "/admin/sign-in")
    troubles = " ".join(browser("troubles"))
    for trouble in ("policy: style-src-elem inline", "policy: script-src-elem inline", "console: ", "status: 404"):
        assert trouble in troubles, troubles
    assert browser("look")["scripts"] == 1
    browser("open", width=360, scheme="light")
    browser("inject", html="</head><body><div style='width:900px'>wide</div><table><tr><th>x</table><input><a href=x></a><img src=x><time>x</time>")
    browser("go", url=tenant.url + "/admin/sign-in")
    seen = browser("look")
    assert len(seen["unlabelled"]) == 3 and seen["captionless"] == 1 and seen["scopeless"] == 1 and seen["timeless"] == 1
    browser("open", width=360, scheme="light")
    browser("inject", html="<meta name=x></head><body><table><tr><td width=900>wide</table><font color=#777788>faint</font>")
    browser("go", url=tenant.url + "/admin/sign-in")
    seen = browser("look")
    assert seen["overflow"] > 0 and any("faint" in text for text in seen["faint"])
    browser("troubles")


def test_a_wrong_token_is_told(browser, tenant):
    browser("open", width=1280, scheme="light")
    browser("go", url=tenant.url + "/admin")
    for _ in range(2):
        browser("press", key="Tab")
    browser("type", text="wrong")
    assert browser("press", key="Enter", goes=True)["url"] == tenant.url + "/admin/sign-in"
    seen = browser("look")
    assert "That is not the administration token." in seen["text"] and seen["unlabelled"] == [] and seen["faint"] == []
    assert [trouble.split()[:2] for trouble in browser("troubles") if not trouble.startswith("console")] == [["status:", "403"]]
    assert browser("cookies") == []


def test_filter_and_sign_out_with_the_keyboard(browser, tenant):
    browser("open", width=1280, scheme="light")
    sign_in(browser, tenant)
    assert [(c["httpOnly"], c["secure"], c["sameSite"]) for c in browser("cookies")] == [(True, True, "Strict")]
    browser("go", url=tenant.url + "/admin/requests")
    order = []
    while not order or order[-1]["id"] != "state":
        browser("press", key="Tab")
        order.append(browser("focused"))
        assert len(order) < 10
    assert [stop["text"] for stop in order[:-1] if stop["tag"] in ("A", "BUTTON")] == ["Skip to content", "Overview", "Requests", "Releases", "Sign out"]
    assert all(stop["outlined"] for stop in order)
    browser("type", text="Failed")
    for _ in range(2):
        browser("press", key="Tab")
    assert browser("focused")["text"] == "Show"
    assert browser("press", key="Enter", goes=True)["url"] == tenant.url + "/admin/requests?state=failed&feature="
    rows = browser("look")["rows"]
    assert len(rows) == 1 and "Failed" in rows[0][2]
    # The skip link leads past the navigation.
    browser("press", key="Tab")
    browser("press", key="Enter")
    browser("press", key="Tab")
    assert browser("focused")["id"] == "state"
    assert browser("click", selector="a[rel=next], .sign-out button")["url"] == tenant.url + "/admin/sign-in"
    assert browser("cookies") == []
    assert browser("go", url=tenant.url + "/admin")["url"] == tenant.url + "/admin/sign-in"
    assert browser("troubles") == []


@pytest.mark.parametrize("view", [(360, "dark"), (1280, "light")], ids=str)
def test_half_a_year(browser, tmp_path, view):
    tenant = Tenant(tmp_path)
    try:
        for version, day in (("1.0.0", "2026-01-10"), ("1.1.0", "2026-03-31")):
            tenant.admin("POST", "releases", {"version": version, "releaseDateTime": day + "T12:00:00Z"})
        browser("open", width=view[0], scheme=view[1])
        sign_in(browser, tenant)
        for time, status, why in (
                ("2026-03-30T00:00:00Z", "Active", "Supported; a newer release is announced."),
                ("2026-04-01T00:00:00Z", "Warning", "The version 1.0.0 was followed by 1.1.0 on 2026-03-31 and is supported until 2026-09-30."),
                ("2026-10-01T00:00:00Z", "Error", "The version 1.0.0 was followed by 1.1.0 on 2026-03-31 and is not supported since 2026-09-30.")):
            tenant.admin("POST", "lifecycleClock", {"dateTime": time})
            heartbeat(tenant, "old", "1.0.0")
            heartbeat(tenant, "new", "1.1.0")
            browser("go", url=tenant.url + "/admin")
            seen = check(browser, "overview-" + status, view, "Overview")
            rows = {row[0]: row for row in seen["rows"]}
            assert status in rows["old"][1] and rows["old"][2] == why and rows["old"][3] == "1.0.0"
            assert "Active" in rows["new"][1] and rows["new"][2] == "Up to date."
            browser("go", url=tenant.url + "/admin/connector?id=old")
            assert why in check(browser, "old-" + status, view, "old")["text"]
            browser("go", url=tenant.url + "/admin/releases")
            seen = check(browser, "releases-" + status, view, "Releases")
            assert "the lifecycle's clock was set" in seen["text"]
            rows = {row[0]: row for row in seen["rows"]}
            assert status in rows["1.0.0"][1] and rows["1.0.0"][4] == "1"
            assert ("Announced" if status == "Active" else "Active") in rows["1.1.0"][1]
    finally:
        tenant.kill()
