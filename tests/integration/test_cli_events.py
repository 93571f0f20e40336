# SPDX-License-Identifier: MIT
"""certconnector events and certconnector check-config, as a person at the command line uses them."""

import datetime
import json
import os
import pathlib
import signal
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("CC_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
PROGRAM = BUILD / "bin" / "certconnector"


def run(*argv):
    return subprocess.run([str(PROGRAM), *map(str, argv)], capture_output=True, text=True, timeout=30)


def event(when, number, name, channel, category, **fields):
    return {"time": when, "id": number, "name": name, "channel": channel, "category": category, "level": "Information",
            "connector": "dc1", "message": f"what {name} says", **fields}


EVENTS = [
    event("2026-11-01T12:00:00.000Z", 1, "ConnectorStarted", "Admin", "General"),
    event("2026-11-01T12:00:01.000Z", 2020, "PkcsImportDownloadedRequest", "Operational", "PKCS Import", requestId="r-1"),
    event("2026-11-01T12:00:02.000Z", 2050, "PkcsImportReencryptSuccess", "Operational", "PKCS Import", requestId="r-1"),
    event("2026-11-01T12:00:02.000Z", 2000, "PkcsImportRequestSuccess", "Admin", "PKCS Import", requestId="r-1",
          user="user one", durationMs=17),
    event("2026-11-01T12:00:03.000Z", 4000, "ScrepRequestSuccess", "Admin", "SCEP", transactionId="t-1",
          error={"domain": "http", "code": 503, "text": "busy"}),
]


def line(entry):
    return json.dumps(entry, separators=(",", ":")) + "\n"


@pytest.fixture
def folder(tmp_path):
    """An operational channel with an archive, an admin channel without, and a configuration that names them."""
    log = tmp_path / "log"
    log.mkdir()
    (log / "admin.log").write_text("".join(line(e) for e in EVENTS if e["channel"] == "Admin"))
    (log / "operational-20261101T120001000Z-20261101T120001000Z.log").write_text(line(EVENTS[1]))
    (log / "operational.log").write_text(line(EVENTS[2]))
    (tmp_path / "cc.conf").write_text("[token]\nuri = pkcs11:token=x\npin = file:/etc/certconnector/token.pin\n"
                                      f"[log]\ndirectory = {log}\n")
    return tmp_path


def read(folder, *argv):
    done = run("events", "--config", folder / "cc.conf", "--json", *argv)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(text)["id"] for text in done.stdout.splitlines()]


@pytest.mark.parametrize("argv, want", [
    ([], [1, 2020, 2050, 2000, 4000]),
    (["--channel", "admin"], [1, 2000, 4000]),
    (["--channel=Operational"], [2020, 2050]),
    (["--id", "2000"], [2000]),
    (["--id", "ScepRequestSuccess"], [4000]),
    (["--id", "ScrepRequestSuccess"], [4000]),
    (["--category", "pkcs import"], [2020, 2050, 2000]),
    (["--since", "2026-11-01T13:00:02+01:00"], [2050, 2000, 4000]),
    (["--request", "r-1"], [2020, 2050, 2000]),
    (["--request", "t-1"], [4000]),
    (["--request", "r-2"], []),
    (["--request", "r-1", "--channel", "admin"], [2000]),
])
def test_filters(folder, argv, want):
    assert read(folder, *argv) == want


def test_json_is_what_was_written(folder):
    done = run("events", "--directory", folder / "log", "--json", "--channel", "admin")
    assert done.stdout == (folder / "log" / "admin.log").read_text()


def test_since_a_while_ago(folder):
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes in (90, 10):
        when = (now - datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        with open(folder / "log" / "admin.log", "a") as log:
            log.write(line(event(when, 1 if minutes == 90 else 2, "x", "Admin", "General")))
    assert read(folder, "--since", "30m") == [2]
    assert read(folder, "--since", "2h") == [1, 2]


def test_for_people(folder):
    done = run("events", "--config", folder / "cc.conf")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[3] == ("2026-11-01T12:00:02.000Z Information 2000 PkcsImportRequestSuccess: "
                        "what PkcsImportRequestSuccess says requestId=r-1 user=\"user one\" durationMs=17")
    assert lines[4].endswith("transactionId=t-1 error=http/503: busy")


def test_no_text_reaches_the_terminal_raw(folder):
    evil = "a\x1b[2J\n2026-11-01T12:00:00.000Z Information 2000 Forged: \x07\u202e\u2028\x9b\x7f"
    entry = event("2026-11-01T12:00:04.000Z", 2001, "PkcsImportRequestFailure", "Admin", "PKCS Import", user=evil,
                  requestId=evil, error={"domain": evil, "code": 1, "text": evil})
    for name in ("message", "name", "level"):
        entry[name] = evil
    (folder / "log" / "admin.log").write_text(line(entry))
    done = run("events", "--config", folder / "cc.conf", "--channel", "admin")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.rstrip("\n").isprintable()


def test_follow(folder):
    follower = subprocess.Popen([PROGRAM, "events", "--directory", folder / "log", "--follow", "--json"],
                                stdout=subprocess.PIPE, text=True)
    try:
        first = [json.loads(follower.stdout.readline())["id"] for _ in EVENTS]
        assert first == [1, 2020, 2050, 2000, 4000]
        log = folder / "log"
        for number in (1, 2, 3):  # written, then archived, then a new file
            with open(log / "admin.log", "a") as live:
                live.write(line(event("2026-11-01T12:00:05.000Z", number, "x", "Admin", "General")))
            assert json.loads(follower.stdout.readline())["id"] == number
            os.rename(log / "admin.log", log / f"admin-20261101T12000{number}000Z-20261101T12000{number}000Z.log")
    finally:
        follower.send_signal(signal.SIGTERM)
        follower.wait(10)


def test_a_reader_that_leaves(folder):
    entry = line(event("2026-11-01T12:00:04.000Z", 1, "x", "Admin", "General"))
    (folder / "log" / "admin.log").write_text(entry * 20000)
    events = subprocess.Popen([PROGRAM, "events", "--directory", folder / "log"], stdout=subprocess.PIPE)
    events.stdout.readline()
    events.stdout.close()
    assert events.wait(30) == 0


@pytest.mark.parametrize("argv, want", [
    (["events", "--channel", "both"], "--channel must be admin or operational"),
    (["events", "--id", "15"], "there is no such event"),
    (["events", "--id", "Nonsense"], "there is no such event"),
    (["events", "--category", "x"], "--category must be"),
    (["events", "--since", "yesterday"], "--since must be"),
    (["events", "--since"], "needs a value"),
    (["events", "--nonsense"], "unknown option"),
    (["events", "x"], "takes options only"),
    (["check-config", "a", "b"], "takes one file"),
    (["nonsense"], "unknown command"),
    ([], "usage"),
])
def test_bad_usage(argv, want):
    done = run(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert want in done.stderr
    if argv:
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("argv", [["--help"], ["events", "--help"], ["check-config", "--help"]])
def test_help(argv):
    done = run(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: certconnector ")


def test_version():
    assert run("--version").stdout.startswith("certconnector ")


def test_no_log(folder):
    done = run("events", "--directory", folder / "none")
    assert done.returncode == 1
    assert "No such file" in done.stderr and len(done.stderr.splitlines()) == 1


def test_check_config_good(folder):
    done = run("check-config", folder / "cc.conf")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"directory = {folder}/log" in done.stdout
    assert "pin = ***" in done.stdout and "token.pin" not in done.stdout

    # what it prints, with the secret's place put back, is a configuration of the same meaning
    again = folder / "again.conf"
    kept = [text for text in done.stdout.splitlines()
            if not text.startswith(("authority", "graph =", "resource"))]
    again.write_text("\n".join(kept).replace("***", "file:/etc/certconnector/token.pin"))
    second = run("check-config", again)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.splitlines()[1:] == done.stdout.splitlines()[1:]


def test_check_config_json(folder):
    settings = json.loads(run("check-config", folder / "cc.conf", "--json").stdout)
    assert settings["token"]["pin"] == "***"
    assert settings["log"]["max-size"] == "50M"
    assert settings == json.loads(run("check-config", "--json", "--config", folder / "cc.conf").stdout)


def test_check_config_bad(folder):
    (folder / "cc.conf").write_text("[token]\nuri = pkcs11:token=x\npim = file:/etc/certconnector/token.pin\n")
    done = run("check-config", folder / "cc.conf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"certconnector check-config: {folder}/cc.conf:3: [token] pim: there is no such key; "
                           "did you mean pin?\n")


def test_check_config_none(folder):
    done = run("check-config", folder / "none.conf")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.conf" in done.stderr
