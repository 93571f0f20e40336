# SPDX-License-Identifier: MIT
"""The daemon itself: starting, changing its configuration, stopping."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from pki_rig import connector_with_ca, free_port
from rig import USER, Pfx, Recipient, Rig, as_service_user, run, wait_until

LOADED, CHANGED, REJECTED = 10, 12, 13


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def setting(rig):
    token, service = rig.token(), rig.service()
    return rig, service, token


def events(connector, number):
    """From the files themselves: the configuration may be bad just now, and commands would say so."""
    lines = [line for path in sorted(connector.log.glob("*.log")) for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["id"] == number]


def wait_event(connector, number, count=1):
    return wait_until(lambda: len(events(connector, number)) >= count and events(connector, number), f"event {number}")


def daemon(connector, *options):
    return run(*as_service_user([connector.rig.programs / "certconnectord", "--config", connector.config, *options]),
               check=False, env=dict(os.environ, **connector.token.env))


def test_command_line(setting):
    rig, service, token = setting
    connector = rig.connector(service, token, start=False)
    assert daemon(connector, "--check-config").returncode == 0
    assert daemon(connector, "--version").stdout.startswith("certconnectord ")
    assert daemon(connector, "--help").returncode == 0
    for options in (["--nonsense"], ["extra"], ["--set", "log.debug=loud"], ["--set", "log.nothing=1"]):
        bad = daemon(connector, "--check-config", *options)
        assert bad.returncode == 2 and bad.stderr.strip(), options
    connector.write_config(extra="[log]\n[pfx-import]\nbatch = many\n")
    for options in ([], ["--check-config"]):
        bad = daemon(connector, *options)
        assert bad.returncode == 2
        line = 1 + connector.config.read_text().splitlines().index("batch = many")
        assert f"{connector.config}:{line}:" in bad.stderr
    assert not any(connector.state.iterdir()), "a bad configuration must leave nothing behind"


def test_start_and_stop(setting):
    rig, service, token = setting
    connector = rig.connector(service, token)
    first = connector.status()
    shown = connector.cli("status").stdout
    assert re.search(r"^  last contact {2,}\d+ s ago$", shown, re.M), shown
    assert connector.process.stop() == 0
    assert [len(events(connector, number)) for number in (LOADED, 1, 2, 20)] == [1, 1, 1, 1]
    assert any("[token] pin = ***" in event["message"] for event in events(connector, 11))
    done = connector.cli("status", check=False)
    assert done.returncode == 1 and "start it" in done.stderr
    connector.start()
    assert connector.status()["connectorId"] == first["connectorId"], "an instance keeps its name"
    beats = wait_until(lambda: [c for c in service.admin("GET", "connectors")["value"] if c["connectorId"] == first["connectorId"]],
                       "the service knows the connector")
    assert len(beats) == 1


def test_token_first_and_service_later(setting):
    rig, service, token = setting
    nothing = {f"service.{key}": None for key in ("tenant", "client-id", "client-secret")}
    connector = rig.connector(service, token, overrides=dict(nothing, **{"connector.features": None}), start=False)
    connector.start(wait=False)
    wait_until(lambda: (connector.status() or {}).get("token", {}).get("state") == "open", "the token is open")
    status = connector.status()
    assert status["service"]["contact"] == "none" and status["features"] == []
    connector.write_config()
    os.kill(connector.process.pid, signal.SIGHUP)
    connector.wait_ready()
    assert connector.process.stop() == 0


def test_status_of_scep(setting):
    rig, service, token = setting
    port = free_port()
    rig.private_file(rig.folder / "challenge", b"a secret of all devices")
    absent = rig.folder / "absent.pem"
    connector, _ = connector_with_ca(
        rig, service, token, features="scep", extra=f'[scep-profile "routers"]\nlegacy = 3des\nra-sign = {absent}\n',
        overrides={"scep.listen": f"127.0.0.1:{port}", "scep.profile": "server", "scep.challenge": "static",
                   "scep.challenge-secret": f"file:{rig.folder}/challenge", "keys.scep-ra-sign": "pkcs11:object=scep-ra-sign",
                   "keys.scep-ra-encrypt": "pkcs11:object=scep-ra-encrypt"})

    # Not before the RA of each profile has its certificates, and until then the status says why.
    scep = wait_until(lambda: (found := connector.status()["workloads"]["scep"]).get("lastError") and found, "the status says why")
    assert scep["state"] == "starting" and str(absent) in scep["lastError"]
    shown = connector.cli("status").stdout
    assert re.search(rf"^scep {{2,}}starting; 0 in work, 0 pending at the CA\n  because {{2,}}.*{absent}", shown, re.M), shown

    connector.config.write_text(connector.config.read_text().replace(f"ra-sign = {absent}\n", ""))
    connector.process.child.send_signal(signal.SIGHUP)
    scep = wait_until(lambda: (found := connector.status()["workloads"].get("scep", {})).get("state") == "ready" and found, "the RA has its certificates")
    assert (scep["succeeded"], scep["failed"], scep["pending"], scep["notificationsDue"], scep["badMessages"]) == (0, 0, 0, 0, 0)
    assert scep["port"] == port and scep["legacy"] == "3des" and "lastError" not in scep
    shown = connector.cli("status").stdout
    lines = [r"scep {2,}ready; 0 in work, 0 pending at the CA", rf"  port {{2,}}{port}", r"  in all {2,}0 succeeded, 0 failed",
             r"  outcomes {2,}0 not told to the service yet", r"  messages {2,}0 could not be opened since start",
             r"  warning {2,}a profile takes old algorithms \(legacy = 3des\)"]
    assert re.search("^" + "\n".join(lines) + "$", shown, re.M), shown


def test_reload(setting):
    rig, service, token = setting
    connector = rig.connector(service, token)
    pid = connector.token_pid()

    # Good: each changed key with both values, in force at once, the token process left alone.
    connector.write_config(overrides={"pfx-import.reencrypt": "token", "service.heartbeat": "2s"})
    connector.process.child.send_signal(signal.SIGHUP)
    said = " ".join(event["message"] for event in wait_event(connector, CHANGED, 2))
    assert "auto" in said and "token" in said and "2s" in said
    assert connector.token_pid() == pid
    pfx = Pfx("user1@contoso.example")
    service.upload(pfx, connector.public_key())
    result = service.wait_done(service.enqueue(pfx, Recipient())[0])["result"]
    assert result["errorCode"] == "NotSupportedError", "SoftHSM cannot do OAEP-SHA-512 inside the token"

    # Bad: said, and nothing changes.
    text = connector.config.read_text()
    connector.config.write_text(text + "nonsense = 1\n")
    connector.process.child.send_signal(signal.SIGHUP)
    assert f"{connector.config}:{len(text.splitlines()) + 1}:" in wait_event(connector, REJECTED)[0]["message"]
    assert connector.process.running()

    # Settings of the token: it is opened anew, and work goes on.
    connector.write_config(overrides={"token.sessions": "2", "pfx-import.reencrypt": "auto"})
    connector.process.child.send_signal(signal.SIGHUP)
    wait_event(connector, CHANGED, 5)
    wait_until(lambda: connector.token_pid() not in (0, pid), "another token process")
    connector.wait_ready()
    recipient = Recipient()
    assert recipient.read(service.wait_done(service.enqueue(pfx, recipient)[0])["result"]) == pfx.password
    assert connector.status()["token"]["sessions"] == 2

    # Settings that cannot work: the ones before are in force again.
    pid = connector.token_pid()
    connector.write_config(overrides={"token.module": "/nonexistent.so"})
    connector.process.child.send_signal(signal.SIGHUP)
    wait_event(connector, REJECTED, 2)
    connector.wait_ready()
    assert recipient.read(service.wait_done(service.enqueue(pfx, recipient)[0])["result"]) == pfx.password


def ask_reload(connector, method="POST"):
    """(status, answer) of the control socket."""
    said = run("curl", "--silent", "--request", method, "--data", "", "--unix-socket", connector.run / "control.sock", "--write-out", "\n%{http_code}",
               "http://localhost/v1/reload").stdout
    body, status = said.rsplit("\n", 1)
    return int(status), json.loads(body) if body.startswith("{") else body


def test_reload_by_the_control_socket_tells_its_outcome(setting):
    rig, service, token = setting
    connector = rig.connector(service, token)
    pid = connector.token_pid()
    assert ask_reload(connector) == (200, {"taken": True, "changed": 0})

    connector.write_config(overrides={"service.heartbeat": "2s", "connector.state-directory": connector.run})
    assert ask_reload(connector) == (200, {"taken": True, "changed": 2, "needsRestart": "[connector] state-directory"})
    assert connector.token_pid() == pid

    text = connector.config.read_text()
    connector.config.write_text(text + "nonsense = 1\n")
    status, answer = ask_reload(connector)
    assert status == 200 and not answer["taken"]
    assert f"{connector.config}:{len(text.splitlines()) + 1}:" in answer["error"]

    # What is found wrong only when it is put in force is told as well.
    connector.write_config(overrides={"token.module": "/nonexistent.so"})
    status, answer = ask_reload(connector)
    assert status == 200 and not answer["taken"] and "/nonexistent.so" in answer["error"]
    connector.wait_ready()
    assert ask_reload(connector, "GET") == (405, "only POST\n")

    # Many at once: each is told, by one reload or by several.
    connector.write_config()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask_reload(connector), range(6)))
    assert all(status == 200 and answer["taken"] for status, answer in answers), answers
    assert connector.process.stop() == 0


def test_stop_gives_work_back(setting):
    rig, service, token = setting
    connector = rig.connector(service, token)
    pfx, recipient = Pfx("user1@contoso.example"), Recipient()
    service.upload(pfx, connector.public_key())
    # The token process stands still: nothing can be finished.
    os.kill(connector.token_pid(), signal.SIGSTOP)
    ids = service.enqueue(pfx, recipient, 20)
    wait_until(lambda: service.counts()["requests"]["leased"] > 0, "requests are leased")
    assert connector.process.stop(40) == 0
    assert service.counts()["requests"]["leased"] == 0
    connector.start()
    for request_id in ids:
        assert recipient.read(service.wait_done(request_id)["result"]) == pfx.password


def test_store_away_at_start(setting):
    rig, service, token = setting
    connector = rig.connector(service, token, start=False)
    connector.state.chmod(0o000)
    connector.start(wait=False)
    wait_event(connector, 40)
    connector.state.chmod(0o750)
    connector.wait_ready()
    assert len(events(connector, 41)) == 1


def test_token_away_and_back(setting):
    rig, service, token = setting
    tokens, hidden = token.folder / "tokens", token.folder / "hidden"
    connector = rig.connector(service, token, start=False)
    tokens.rename(hidden)
    connector.start(wait=False)
    wait_event(connector, 21)
    status = connector.status()
    assert status["token"]["state"] == "lost" and status["token"]["lastError"]
    hidden.rename(tokens)
    connector.wait_ready(60)
    assert wait_event(connector, 22)


def test_refused_pin_and_reload(setting):
    rig, service, token = setting
    right = token.pin_file.read_text()
    token.pin_file.write_text("00000000\n")
    connector = rig.connector(service, token, start=False)
    connector.start(wait=False)
    wait_event(connector, 23)
    assert connector.status()["token"]["state"] == "pin-refused"
    token.pin_file.write_text(right)
    connector.process.child.send_signal(signal.SIGHUP)
    connector.wait_ready()


def test_keys_are_tried_before_a_request_needs_them(setting):
    rig, service, token = setting
    connector = rig.connector(service, token, overrides={"keys.seal": "pkcs11:object=nothing", "keys.ca": "pkcs11:object=ca"})

    def tried():
        keys = {key["role"]: key for key in connector.status()["keys"]}
        return len(keys) == 3 and all(key["state"] != "unknown" for key in keys.values()) and keys
    keys = wait_until(tried, "all keys are tried")
    assert {role: key["state"] for role, key in keys.items()} == {"pfx-import": "good", "ca": "good", "seal": "bad"}
    assert keys["seal"]["error"] and "error" not in keys["ca"]
    assert len(wait_event(connector, 25)) == 1
    assert "seal" in events(connector, 25)[0]["message"]
    assert "seal bad" in connector.cli("status").stdout


@pytest.mark.parametrize("level, ids", [("none", set()), ("admin", {90}), ("operational", {91}), ("all", {90, 91})])
def test_debug_events_only_where_asked_for(setting, level, ids):
    rig, service, token = setting
    connector = rig.connector(service, token, overrides={"log.debug": level, "service.poll-wait": "1s"})
    wait_event(connector, 5000)
    for number in ids:
        wait_event(connector, number)
    assert connector.process.stop() == 0
    assert {number for number in (90, 91) if events(connector, number)} == ids


def full_log(size):
    """Numbered events in lines of 4 KiB, and how many; together exactly that size."""
    def line(number, length):
        text = ('{"time":"2026-11-01T12:00:00.000Z","id":2020,"name":"PkcsImportDownloadedRequest","channel":"Operational",'
                f'"category":"PKCS Import","level":"Information","connector":"connector-1","message":"{number} ')
        return text + "x" * (length - len(text) - 3) + '"}\n'
    return "".join(line(number, 4096) for number in range(size // 4096)), size // 4096


def test_a_log_of_50_mib_and_a_byte(setting):
    """The default size, full to the byte when the daemon starts: what comes next goes into a new file, and nothing is lost."""
    rig, service, token = setting
    connector = rig.connector(service, token, start=False)
    text, count = full_log(50 << 20)
    live = connector.log / "operational.log"
    rig.private_file(live, text.encode())
    shutil.chown(live, USER, USER)
    connector.start()
    assert connector.process.stop() == 0

    archives = list(connector.log.glob("operational-*"))
    assert len(archives) == 1 and archives[0].name.endswith(".log.zst") and live.stat().st_size < 1 << 20
    assert subprocess.run(["zstd", "-dcq", archives[0]], capture_output=True, check=True).stdout == text.encode()
    seen = connector.events("--channel", "operational")
    assert [int(event["message"].split()[0]) for event in seen[:count]] == list(range(count))
    assert len(seen) - count == len(live.read_text().splitlines()) > 0
