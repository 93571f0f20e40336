# SPDX-License-Identifier: MIT
"""What the daemon says of a bad configuration: file, line and what to do, and exit status 2; a running one goes on with the
settings that it has."""

import os
import signal

import pytest

from rig import Pfx, Recipient, Rig, as_service_user, run, wait_until

CHANGED, REJECTED = 12, 13

# Each: section, line that is put there for the one of the same key (or added to it), and what is said of it.
REPLACED = {
    "value is empty": ("log", "directory =", "[log] directory: is empty"),
    "value holds a control byte": ("log", "directory = /var/\x1b[2Jlog", "[log] directory: holds a control byte"),
    "value is not UTF-8": ("log", "directory = /var/\udcff", "[log] directory: is not UTF-8"),
    "name has a blank": ("connector", "name = two words", "[connector] name: must be 1 to 64 letters"),
    "feature is misspelt": ("connector", "features = pfx-imprt", "did you mean pfx-import"),
    "scep without an address": ("connector", "features = pfx-import, scep", "scep has no address; add listen"),
    "feature lacks its CA": ("connector", "features = pfx-import, revocation", "revocation has no CA"),
    "store has no kind": ("connector", "state = state.db", "must be sqlite:/PATH, or postgresql://USER@HOST/DATABASE"),
    "path is relative": ("connector", "state-directory = lib", "must be an absolute path"),
    "token has no name": ("token", "uri = pkcs11:object=x", "names no token"),
    "secret stands in the file": ("token", "pin = 739182", "[token] pin: "),
    "time has no unit": ("token", "deadline = 10", "must be a time with its unit"),
    "time is out of bounds": ("token", "deadline = 1d", "must be from 100ms to 10m"),
    "number is out of bounds": ("token", "sessions = 257", "must be auto or a number from 1 to 256"),
    "number is none": ("pfx-import", "batch = many", "must be a number from 1 to 100"),
    "truth is neither yes nor no": ("token", "allow-raw-rsa = true", "must be yes or no"),
    "choice is none": ("service", "cloud = mars", "write one of public, usgov, dod, china, custom"),
    "tenant is none": ("service", "tenant = a b", "domain name or UUID"),
    "id is no UUID": ("service", "client-id = 11111111", "must be a UUID"),
    "address is not safe": ("service", "graph = http://graph.example/", "must begin with https://"),
    "proxy has a password": ("service", "proxy = http://u:p@proxy.example:3128", "without user name or password"),
    "size has another unit": ("log", "max-size = 50MB", "must be a size"),
    "key is no URI": ("keys", "seal = seal", "must be a PKCS#11 URI; begin it with pkcs11:"),
    "key names a PIN": ("keys", "seal = pkcs11:object=seal?pin-value=739182", "must not name a PIN"),
    "alias names no provider": ("key-alias", "PFXEncryptionKey = pkcs11:object=a", "an alias must be PROVIDER/KEY"),
}
ADDED = {
    "section is not closed": ("log", "[pfx-import", "has no ]"),
    "section is misspelt": ("log", "[logs]", "there is no such section; did you mean [log]?"),
    "section lacks its name": ("log", "[ca corp]", '[ca corp]: this section has a name in quotes; write [ca "NAME"]'),
    "line is none": ("log", "just words", "neither [section] nor key = value"),
    "line is too long": ("log", "; " + "x" * 5000, "too long"),
    "key is misspelt": ("token", "modul = /x", "[token] modul: there is no such key; did you mean module?"),
    "key is of another section": ("token", "tenant = contoso.example", "it belongs in [service]"),
    "role is misspelt": ("keys", "pfximport = pkcs11:object=x", "did you mean pfx-import?"),
    "key is set twice": ("token", "pin = file:/x", "[token] pin: is set a second time; line "),
}
# Each: key that is missing, the line where it is missed, and what is said of it.
MISSING = {
    "token is missing": ("uri", "[token]", "[token] uri: is missing; add for example uri = pkcs11:token=certconnector"),
    "tenant is missing": ("tenant", "[service]", "[service] tenant: is missing, and the features need it; add for example"),
    "address is missing": ("resource", "cloud = custom", "[service] cloud: custom needs resource too"),
}


def spoil(text, section, line, add):
    """The text with the bad line, and its number."""
    lines = [*text.splitlines(), ""]
    begin = lines.index(f"[{section}]") + 1
    end = lines.index("", begin)
    same = [i for i in range(begin, end) if lines[i].split(" =")[0] == line.split(" =")[0]]
    if same and not add:
        lines[same[0]] = line
        return lines, same[0] + 1
    lines.insert(end, line)
    return lines, end + 1


def remove(text, key, missed):
    """The text without the key, and the number of the line where it is missed."""
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} = ")]
    return lines, lines.index(missed) + 1


def cases(text):
    """Name, bad text, number of the bad line, and what is said."""
    for table, add in ((REPLACED, False), (ADDED, True)):
        for name, (section, line, want) in table.items():
            yield name, *spoil(text, section, line, add), want
    for name, (key, missed, want) in MISSING.items():
        yield name, *remove(text, key, missed), want


def write(connector, lines):
    connector.config.write_bytes("\n".join([*lines, ""]).encode(errors="surrogateescape"))


@pytest.fixture(scope="module")
def setting():
    rig = Rig()
    try:
        yield rig, rig.service(), rig.token()
    finally:
        rig.close()


def test_start(setting):
    rig, service, token = setting
    connector = rig.connector(service, token, name="never-started", overrides={"pfx-import.batch": "50"}, start=False)
    daemon = as_service_user([rig.programs / "certconnectord", "--config", connector.config])
    good = connector.config.read_text()
    kinds = list(cases(good))
    assert len(kinds) >= 20
    for name, lines, number, want in kinds:
        write(connector, lines)
        for options in ([], ["--check-config"]):
            done = run(*daemon, *options, check=False, env=dict(os.environ, **token.env))
            assert done.returncode == 2 and done.stdout == "", (name, done)
            said = done.stderr.splitlines()
            assert len(said) == 1 and said[0].startswith(f"{connector.config}:{number}: ") and want in said[0], (name, number, done.stderr)
            assert "739182" not in done.stderr and "\x1b" not in done.stderr, name
    assert not any(connector.state.iterdir()) and not any(connector.log.iterdir()), "a bad configuration leaves nothing behind"
    connector.config.unlink()
    done = run(*daemon, check=False, env=dict(os.environ, **token.env))
    assert done.returncode == 2 and str(connector.config) in done.stderr
    connector.config.write_text(good)
    assert run(*daemon, "--check-config", check=False).returncode == 0


def test_reload(setting):
    rig, service, token = setting
    connector = rig.connector(service, token, name="reloaded", overrides={"pfx-import.batch": "50"})
    good, pids = connector.config.read_text(), (connector.process.pid, connector.token_pid())
    pfx, recipient = Pfx("user1@contoso.example"), Recipient()
    service.upload(pfx, connector.public_key())

    def events(number):
        return [event for event in connector.events("--channel", "admin") if event["id"] == number]

    def reload_and_see(number, count):
        connector.process.child.send_signal(signal.SIGHUP)
        return wait_until(lambda: len(events(number)) >= count and events(number), f"event {number} ({count})")

    # Each comes with a good change, which must not come into force either.
    changed = good.replace("batch = 50", "batch = 51\nreencrypt = token")
    for count, (name, lines, number, want) in enumerate(cases(changed), 1):
        write(connector, lines)
        said = reload_and_see(REJECTED, count)[count - 1]["message"]
        assert f"{connector.config}:{number}: " in said and want in said, (name, number, said)
        assert "739182" not in said, name
    assert events(CHANGED) == []
    # The command reads the file too.
    connector.config.write_text(good)
    assert (connector.status()["pid"], connector.token_pid()) == pids
    # On the token alone this could not be done.
    assert recipient.read(service.wait_done(service.enqueue(pfx, recipient)[0])["result"]) == pfx.password

    connector.config.write_text(changed)
    said = " ".join(event["message"] for event in reload_and_see(CHANGED, 2))
    assert "batch: was 50, is 51" in said and "reencrypt: was auto, is token" in said
    assert service.wait_done(service.enqueue(pfx, recipient)[0])["result"]["errorCode"] == "NotSupportedError"
