# SPDX-License-Identifier: MIT
"""What monitoring sees: the metrics of a connector that does work of all kinds, alert rules and dashboard, and whether it is
ready while the token or the service is away."""

import json
import os
import re
import signal
import socket

import pytest
import requests
from prometheus_text import families, series
from pki_rig import free_port, order
from rig import PROJECT, Pfx, Recipient, Rig, run, wait_until
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep

MONITORING = PROJECT / "scripts" / "monitoring"
# What expressions have besides metrics of ours.
FOREIGN = {"up"}


class World:
    def __init__(self):
        self.rig = Rig()
        token = self.rig.token(kinds=TOKEN_KEYS)
        self.service = self.rig.service("--retry-delay-ms", "50", "--max-attempts", "2")
        self.port = free_port()
        self.scep = connector_with_scep(self.rig, self.service, token, features="pkcs, pfx-import, scep, revocation",
                                        overrides={"metrics.listen": f"127.0.0.1:{self.port}"})
        self.connector = self.scep.connector
        self.recipient = Recipient()

    def get(self, path):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.text

    def value(self, name, **labels):
        return series(self.metrics())[name, frozenset(labels.items())]

    def enrol(self, challenge, number):
        secret = self.rig.folder / f"challenge-{number}"
        self.rig.private_file(secret, challenge.encode())
        return run(self.rig.programs / "certconnector", "scep", "enrol", "--url", self.scep.url, "--subject", f"CN=device{number}.contoso.example",
                   "--dns", f"device{number}.contoso.example", "--challenge-file", secret, "--out", self.rig.folder / f"device{number}.pem", check=False)


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.rig.close()


def test_counters_are_what_was_done(world):
    service, recipient = world.service, world.recipient
    pfx = Pfx("user1@contoso.example")
    service.upload(pfx, world.connector.public_key())
    service.enqueue(pfx, recipient, count=3)
    service.admin("POST", "pkcsRequests", [order(recipient) for _ in range(4)] + [order(recipient, keyAlgorithm="rsa1024")])
    for number in range(2):
        assert world.enrol(CHALLENGE, number).returncode == 0
    assert world.enrol("wrong", 2).returncode != 0
    service.wait_none_open()
    wanted = {("pkcs", "succeeded"): 4, ("pkcs", "failed"): 1, ("pfx-import", "succeeded"): 3, ("pfx-import", "failed"): 0,
              ("scep", "succeeded"): 2, ("scep", "failed"): 1, ("revocation", "succeeded"): 0, ("revocation", "failed"): 0}

    def counts():
        text = series(world.metrics())
        return {key: text["certconnector_requests_total", frozenset({"workload": key[0], "outcome": key[1]}.items())] for key in wanted}
    wait_until(lambda: sum(counts().values()) >= sum(wanted.values()), "all that was done is counted")
    assert counts() == wanted

    text = series(world.metrics())
    assert text["certconnector_request_duration_seconds_count", frozenset({("workload", "pkcs")})] == 5
    assert text["certconnector_request_duration_seconds_count", frozenset({("workload", "pfx-import")})] == 3
    assert text["certconnector_scep_messages_total", frozenset({("answer", "success")})] == 2
    assert text["certconnector_scep_failures_total", frozenset({("fail_info", "badRequest")})] == 1
    assert sum(value for (name, labels), value in text.items()
               if name == "certconnector_request_failures_total" and ("workload", "pkcs") in labels) == 1
    issued = {"ca": "corp", "operation": "issue", "outcome": "done"}
    assert text["certconnector_ca_operations_total", frozenset(issued.items())] >= 6
    for number, count in ((1000, 4), (1001, 1), (2000, 3), (4000, 2), (4001, 1)):
        assert [value for (name, labels), value in text.items()
                if name == "certconnector_events_total" and ("id", str(number)) in labels] == [count]
    for operation in ("sign", "reencrypt", "open-content-key"):
        assert text["certconnector_token_operation_duration_seconds_count", frozenset({("operation", operation)})] > 0
    assert text["certconnector_service_call_duration_seconds_count", frozenset({("call", "PkcsRequests/upload")})] >= 1
    assert text["process_resident_memory_bytes", frozenset()] > 1 << 20 < text["certconnector_token_process_resident_memory_bytes", frozenset()]
    assert text["certconnector_oldest_request_age_seconds", frozenset({("workload", "pkcs")})] == 0


def test_format(world):
    text = world.metrics()
    done = run("promtool", "check", "metrics", input=text, check=False)
    assert done.returncode == 0 and done.stdout + done.stderr == "", done.stdout + done.stderr
    for name, (kind, samples) in families(text).items():
        assert kind in ("counter", "gauge", "histogram"), name
        if kind != "histogram":
            continue
        for labels, buckets in samples.items():
            counts = [count for _, count in sorted(buckets["bucket"].items())]
            assert counts == sorted(counts) and counts[-1] == buckets["count"], (name, labels)


def test_every_metric_is_documented(world):
    page = (PROJECT / "scripts" / "man" / "certconnector-metrics.7").read_text()
    documented = dict(re.findall(r"^\.It Cm ([a-z_]+) Pq (\w+)$", page, re.M))
    assert {name: kind for name, (kind, _) in families(world.metrics()).items()} == documented


def test_rules_and_dashboard(world):
    for argv in (("check", "rules", "certconnector.rules.yml"), ("test", "rules", "certconnector.rules.test.yml")):
        run("promtool", *argv, cwd=MONITORING)
    names = {name for name, _ in series(world.metrics())}
    dashboard = json.loads((MONITORING / "certconnector.dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    alerts = re.findall(r"^ +expr: '(.*)'$", (MONITORING / "certconnector.rules.yml").read_text(), re.M)
    assert len(queries) > 20 and len(alerts) > 15
    for query in queries + alerts:
        used = set(re.findall(r"\b(?:certconnector|process)_[a-z_]+|\bup\b", re.sub(r'"[^"]*"', '""', query)))
        assert used and used <= names | FOREIGN, (query, used - names)


def test_peers_make_no_series(world):
    before = {key for key in series(world.metrics())}
    bodies = [order(world.recipient, certificateTemplateName=f"none-{i}\n\"x", keyAlgorithm=f"rsa{i}", userPrincipalName=f"user{i}\u2028@example") for i in range(40)]
    world.service.admin("POST", "pkcsRequests", bodies)
    world.service.wait_none_open()
    for i in range(20):
        requests.post(f"{world.scep.url}?operation=PKIOperation&x={i}", data=os.urandom(50), timeout=10)
        requests.get(f"{world.scep.url}?operation=nothing-{i}", timeout=10)
        world.get(f"/metrics/{i}")
    assert {key for key in series(world.metrics())} == before


def test_other_paths_and_methods(world):
    assert world.get("/").status_code == 404
    assert requests.post(f"http://127.0.0.1:{world.port}/metrics", data=b"x", timeout=10).status_code == 405
    assert world.get("/healthz").text == "alive\n"


def test_not_ready_without_token_or_service(world):
    wait_until(lambda: world.get("/readyz").status_code == 200, "it is ready")
    restarts = world.value("certconnector_token_restarts_total")
    os.kill(world.connector.token_pid(), signal.SIGKILL)
    wait_until(lambda: world.value("certconnector_token_restarts_total") == restarts + 1, "a token process is started")
    wait_until(lambda: world.get("/readyz").status_code == 200, "it is ready again")
    world.service.process.stop()
    try:
        wait_until(lambda: world.get("/readyz").status_code == 503, "it is not ready")
        assert world.get("/readyz").text == "not ready: service lost\n"
        assert world.value("certconnector_ready") == 0
        assert world.value("certconnector_service_contact", contact="lost") == 1
        assert world.get("/healthz").status_code == 200
    finally:
        world.service.start()
    wait_until(lambda: world.get("/readyz").status_code == 200, "it is ready again", 60)


def reload(connector):
    """What the connector says of it."""
    said = run("curl", "--silent", "--show-error", "--unix-socket", connector.run / "control.sock", "--data", "", "http://localhost/v1/reload")
    return json.loads(said.stdout)


def test_a_reload_moves_it(world):
    connector, pid = world.connector, world.connector.process.pid
    overrides = dict(connector.overrides)
    path = connector.run / "monitor.sock"
    connector.write_config(connector.extra, dict(overrides, **{"metrics.listen": f"unix:{path}"}))
    os.kill(pid, signal.SIGHUP)
    wait_until(path.exists, "the socket is there")
    said = run("curl", "--silent", "--unix-socket", path, "http://localhost/healthz").stdout
    assert said == "alive\n"
    with pytest.raises(requests.ConnectionError):
        world.get("/healthz")

    # Addresses that overlap are had one after the other.
    for address in (f"0.0.0.0:{world.port}", f"127.0.0.1:{world.port}", f"unix:{path}"):
        connector.write_config(connector.extra, dict(overrides, **{"metrics.listen": address}))
        assert reload(connector)["taken"]
        assert path.exists() == address.startswith("unix:")
        assert path.exists() or world.get("/healthz").status_code == 200

    # An address that is taken is refused with all that came with it, and the one before stays; until it is free.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        connector.write_config(connector.extra, dict(overrides, **{"metrics.listen": f"127.0.0.1:{taken.getsockname()[1]}", "pkcs.batch": "7"}))
        for _ in range(2):
            answer = reload(connector)
            assert not answer["taken"] and "[metrics] listen" in answer["error"]
        assert run("curl", "--silent", "--unix-socket", path, "http://localhost/healthz").stdout == "alive\n"
        assert not any("[pkcs] batch" in event["message"] for event in connector.events("--id", "12"))
    assert reload(connector)["taken"] and not path.exists()
    connector.write_config(connector.extra, overrides)
    assert reload(connector)["taken"] and connector.process.pid == pid
    assert world.get("/healthz").status_code == 200
