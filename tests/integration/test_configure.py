# SPDX-License-Identifier: MIT
"""certconnector configure, in a pseudo-terminal as an administrator sees it and without questions: from a token without keys
to a connector that serves all four features, and changes of it while it runs."""

import base64
import json
import os
import pathlib
import re
import secrets
import shlex
import shutil
import signal
import socketserver
import subprocess
import threading

import pexpect
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki_rig import ask as ask_pkcs
from pki_rig import free_port, open_result
from rig import CLIENT_ID, TENANT, USER, Pfx, Recipient, Rig, run, wait_until

ROLES = ("pfx-import", "scep-ra-sign", "scep-ra-encrypt", "ca", "ocsp", "identity", "seal", "audit")
CHALLENGE = "a-challenge-typed-by-hand"


class Proxy(socketserver.ThreadingTCPServer):
    """Counts the tunnels that it makes, for who knows its password."""

    user, password = "connector", "a-password-of-the-proxy"

    daemon_threads = allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.tunnels = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Tunnel(socketserver.StreamRequestHandler):
    def handle(self):
        host, port = self.rfile.readline().split()[1].decode().rsplit(":", 1)
        headers = dict(line.decode().strip().split(": ", 1) for line in iter(self.rfile.readline, b"\r\n"))
        if headers.get("Proxy-Authorization") != "Basic " + base64.b64encode(f"{Proxy.user}:{Proxy.password}".encode()).decode():
            self.wfile.write(b"HTTP/1.1 407 Who is there?\r\nProxy-Authenticate: Basic realm=test\r\nContent-Length: 0\r\n\r\n")
            return
        with socketserver.socket.create_connection((host, int(port))) as there:
            self.server.tunnels += 1
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self.copy, args=(there, self.connection), daemon=True)
            back.start()
            self.copy(self.connection, there)
            back.join(5)

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socketserver.socket.SHUT_WR)
        except OSError:
            pass


class Terminal:
    """configure in a terminal that can do nothing but lines of 80 columns."""

    def __init__(self, world, *options):
        self.seen = open(world.rig.folder / f"terminal-{secrets.token_hex(4)}", "w+")
        self.child = pexpect.spawn(str(world.program), ["configure", "--config", str(world.config), *options], env=world.environment, encoding="utf-8",
                                   dimensions=(24, 80), timeout=20)
        self.child.logfile_read = self.seen
        self.child.delaybeforesend = None  # nothing is sent before it was asked for

    def wait(self, prompt):
        """Until it asks this; what it shows as present."""
        self.child.expect(re.escape(prompt) + r"(?: \[([^\]\r\n]*)\])?: ")
        return self.child.match.group(1)

    def ask(self, prompt, answer=""):
        present = self.wait(prompt)
        self.child.sendline(answer)
        return present

    def until(self, prompt):
        """Enter at every question before this one."""
        while True:
            self.child.expect(r"\n?([^\r\n\[\]]+?)(?: \[([^\]\r\n]*)\])?: $")
            if self.child.match.group(1).strip().endswith(prompt):
                return self.child.match.group(2)
            self.child.sendline("")

    def end(self, status=0):
        self.child.expect(pexpect.EOF)
        self.child.wait()
        text = self.text()
        assert self.child.exitstatus == status, text[-3000:]
        return text

    def text(self):
        self.seen.flush()
        return pathlib.Path(self.seen.name).read_text()


class World:
    """A machine where nothing is set up but the token, which has no keys."""

    def __init__(self):
        self.rig = Rig()
        self.service = self.rig.service("--revocation-cool-down", "1")
        self.token = self.rig.token(kinds=tuple(f"{role}=none" for role in ROLES))
        self.program = self.rig.programs / "certconnector"
        self.environment = {**{name: value for name, value in os.environ.items() if name.startswith(("PATH", "LANG", "LC_", "TMPDIR"))},
                            **self.token.env, "TERM": "dumb"}
        self.connector = self.rig.connector(self.service, self.token, start=False)
        self.config = self.connector.config
        self.config.unlink()
        self.pin, self.secret = self.token.pin(), self.service.secret_file.read_text().strip()
        self.scep_port, self.world_port = free_port(), free_port()

    def options(self):
        """What is not asked for, and is in these folders of a test only."""
        connector = self.connector
        settings = {"connector.state": connector.store, "connector.state-directory": connector.state,
                    "connector.control-socket": connector.run / "control.sock", "pkcs.key-pool": 2, "service.poll-wait": "2s",
                    "revocation.poll-interval": "1s"}
        return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]

    def configure(self, *options, check=True):
        return run(self.program, "configure", "--config", self.config, "--no-input", *options, check=check, env=self.environment, stdin=subprocess.DEVNULL)

    def secrets_of_processes(self):
        """Of the secrets, which stand in the arguments or the environment of any process."""
        found = set()
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_bytes()
                except OSError:
                    continue
                found.update(secret for secret in (self.pin, self.secret, CHALLENGE) if secret.encode() in text)
        return found


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.rig.close()


def answer_everything(world, terminal):
    """From nothing, with a few wrong turns; ends before the last question."""
    folder = world.config.parent
    # Wrong answers are explained and asked again.
    terminal.ask("Features, by number or name", "1, 2, sceb")
    terminal.child.expect("did you mean scep")
    terminal.ask("Features, by number or name", "?")
    terminal.child.expect("What the connector does for the service")
    terminal.ask("Features, by number or name", "1, 2, scep, 4")
    terminal.ask("Name of this connector, or none for the host's", "<")
    assert terminal.ask("Features, by number or name") == "pkcs, pfx-import, scep, revocation"
    terminal.ask("Name of this connector, or none for the host's", "with blanks in it")
    terminal.child.expect("letters, digits")
    terminal.ask("Name of this connector, or none for the host's", "dc1")
    terminal.ask("PKCS#11 module, by number or path", "/nonexistent.so")
    terminal.child.expect("/nonexistent.so")
    assert terminal.ask("PKCS#11 module, by number or path", world.token.module) == world.token.module
    terminal.child.expect("certconnector")
    terminal.ask("Token, by number, label or URI", "nothing of the kind")
    terminal.child.expect("no initialised token")
    terminal.ask("Token, by number, label or URI", world.token.label)
    assert terminal.ask("Where its PIN is", f"file:{folder}/pin") == "file:/etc/certconnector/token.pin"
    pin = "PIN (not shown; only Enter keeps the one in the file)"
    terminal.ask(pin, "")
    terminal.child.expect("Type it")
    terminal.ask(pin, "0000")
    terminal.child.expect("PIN")
    assert not (folder / "pin.new").exists()
    terminal.ask(pin, world.pin)
    assert terminal.ask("Key for imported PFX") == "pkcs11:object=pfx-import"
    assert terminal.ask("make one of type", "ecP256") == "rsa3072"
    terminal.child.expect("cannot be of that type")
    terminal.ask("make one of type", "rsa2048")
    terminal.ask("Key that signs SCEP answers", "scep-ra")
    terminal.ask("make one of type")
    terminal.ask("Key that opens SCEP requests", "scep-ra")
    terminal.ask("make one of type")
    terminal.ask("Key of the built-in CA")
    terminal.ask("make one of type", "ecP256")
    assert terminal.ask("Key that signs OCSP answers, or none") == "none"
    terminal.ask("Key that seals what is stored")
    terminal.ask("make one of type")
    terminal.ask("Cloud (public, usgov, dod, china, custom)", "custom")
    for prompt in ("Address of the sign-in", "Address of Graph", "Resource of the service"):
        terminal.ask(prompt, world.service.url + "/")
    terminal.ask("Certificates of its CAs, a PEM file, or none", str(world.service.ca_file))
    terminal.ask("Tenant, by name or id", "")
    terminal.child.expect("An answer is needed")
    terminal.ask("Tenant, by name or id", TENANT)
    terminal.ask("Application (client) id", "1")
    terminal.child.expect("UUID")
    terminal.ask("Application (client) id", CLIENT_ID)
    assert terminal.ask("Sign in with (secret, key)") == "secret"
    terminal.ask("Where the client secret is", f"file:{folder}/secret")
    terminal.ask("Client secret (not shown; only Enter keeps the one in the file)", world.secret)
    assert terminal.ask("Proxy, or none") == "none"
    assert terminal.ask("Name of the built-in CA") == "corp"
    assert terminal.ask("Make its certificate at the end (yes, no)") == "yes"
    terminal.ask("Subject of its certificate", "nothing like a name")
    terminal.ask("Subject of its certificate", "CN=Contoso Issuing CA,O=Contoso")
    terminal.ask("How long it is valid", "ten years")
    terminal.child.expect("its unit")
    terminal.ask("How long it is valid")
    terminal.ask("Published at HOST:PORT, or none", f"127.0.0.1:{world.world_port}")
    terminal.ask("Name of the certificate profile", "device")
    assert terminal.ask("Certificates are valid for", "90d") == "365d"
    terminal.ask("They are for", "clientAuth, nonsense")
    terminal.child.expect("item 2 of the list")
    assert terminal.ask("They are for") == "clientAuth"
    terminal.ask("Listens at HOST:PORT", f"127.0.0.1:{world.scep_port}")
    assert terminal.ask("Path of the URL") == "/scep"
    terminal.ask("Challenges (service, static, file, hook)", "static")
    terminal.ask("Where the secret is", f"file:{folder}/challenge")
    terminal.ask("Secret (not shown; only Enter keeps the one in the file)", CHALLENGE)
    terminal.ask("Directory", str(world.connector.log))
    assert terminal.ask("Largest size of a file", "20M") == "50M"
    assert world.secrets_of_processes() == set()
    assert terminal.ask("Try it now: token, keys, signing in (yes, no)") == "yes"
    terminal.child.expect("opens with its PIN, and has 0 keys")
    terminal.child.expect("signed in")


def leftovers(world):
    return sorted(path.name for path in world.config.parent.iterdir() if path.is_file())


def test_ctrl_c_leaves_nothing(world):
    terminal = Terminal(world, *world.options())
    answer_everything(world, terminal)
    terminal.wait("Write it and put it in force (yes, no)")
    assert "pin.new" in leftovers(world)
    terminal.child.sendintr()
    assert "Nothing was changed." in terminal.end(1)
    assert leftovers(world) == []
    assert json.loads(run(world.program, "key", "list", "--json", "--module", world.token.module, "--uri", f"pkcs11:token={world.token.label}", "--pin",
                          f"file:{world.token.pin_file}", env=world.environment).stdout)["keys"] == []


def test_ctrl_c_while_a_secret_is_typed(world):
    terminal = Terminal(world, *world.options())
    terminal.until("Token, by number, label or URI")
    terminal.child.sendline("1")
    terminal.ask("Where its PIN is", f"file:{world.config.parent}/pin")
    terminal.wait("PIN (not shown; only Enter keeps the one in the file)")
    assert not terminal.child.getecho()
    terminal.child.send(world.pin)
    terminal.child.sendintr()
    terminal.child.expect("Nothing was changed.")
    assert terminal.child.getecho(), "the terminal shows again what is typed"
    assert world.pin not in terminal.end(1)
    assert leftovers(world) == []


def keys_of(world):
    return sorted(key["label"] for key in json.loads(world.connector.cli("key", "list", "--json").stdout)["keys"] if key["class"] != "public")


@pytest.fixture(scope="module")
def configured(world):
    """The guided run, and what it showed."""
    terminal = Terminal(world, *world.options())
    answer_everything(world, terminal)
    terminal.ask("Write it and put it in force (yes, no)")
    world.shown = terminal.end()
    return world


def test_from_nothing_to_all_features(configured):
    world, connector = configured, configured.connector
    for secret in (world.pin, world.secret, CHALLENGE):
        assert secret not in world.shown and secret not in world.config.read_text()
    for name, secret in (("pin", world.pin), ("secret", world.secret), ("challenge", CHALLENGE)):
        path = world.config.parent / name
        assert (path.read_text(), path.stat().st_mode & 0o777, path.owner(), path.group()) == (secret, 0o640, "root", USER)
    assert leftovers(world) == ["certconnector.conf", "challenge", "pin", "secret"]
    assert (world.config.stat().st_mode & 0o777, world.config.owner(), world.config.group()) == (0o640, "root", USER)
    assert "No connector answers on" in world.shown and 'the CA "corp" was made' in world.shown
    assert keys_of(world) == ["ca", "pfx-import", "scep-ra", "seal"]

    connector.start()
    recipient = Recipient()
    # PKCS, and the revocation of what it gave
    done = ask_pkcs(world.service, recipient, certificateTemplateName="device")
    assert done["result"]["succeeded"], done["result"]
    _, certificate, _, _ = open_result(done["result"], recipient)
    assert (certificate.not_valid_after - certificate.not_valid_before).days <= 90
    (revocation,) = world.service.admin("POST", "revocationRequests", [{"requestId": done["requestId"]}])["requestIds"]
    wait_until(lambda: any(event["event"] == "uploaded" for event in world.service.admin("GET", f"revocationRequests/{revocation}")["history"]),
               "the revocation is answered")
    listed = json.loads(connector.cli("ca", "list", "--json", "--state", "revoked").stdout)["certificates"]
    assert [int(one["serialNumber"], 16) for one in listed] == [certificate.serial_number]
    # an imported PFX
    pfx = Pfx("user1@contoso.example")
    world.service.upload(pfx, connector.public_key())
    assert recipient.read(world.service.wait_done(world.service.enqueue(pfx, recipient)[0])["result"]) == pfx.password
    # SCEP
    wait_until(lambda: connector.status()["workloads"]["scep"]["state"] == "ready", "the SCEP server is ready")
    url = f"http://127.0.0.1:{world.scep_port}/scep"
    caps = json.loads(run(world.program, "scep", "caps", "--url", url, "--json").stdout)
    file = world.rig.folder / "device.pem"
    run(world.program, "scep", "enrol", "--url", url, "--subject", "CN=device1", "--key", world.rig.folder / "device.key", "--challenge-file",
        world.config.parent / "challenge", "--out", file, "--fingerprint", caps["certificates"][-1]["sha256"])
    assert x509.load_pem_x509_certificate(file.read_bytes()).subject.rfc4514_string() == "CN=device1"


def test_the_same_without_questions_is_the_same_file(configured):
    """By the command that the guided run showed, in another order."""
    world = configured
    command = world.shown.split("The same without questions:")[1].split("Try it now")[0].replace("\r", "").replace("\\\n", " ")
    words = shlex.split(command)
    assert words[:3] == ["certconnector", "configure", "--no-input"]
    pairs = [word for word in zip(words, words[1:]) if word[0] in ("--set", "--unset")]
    assert len(pairs) > 20
    other = world.rig.folder / "other.conf"
    options = [word for pair in reversed(pairs) for word in pair]
    run(world.program, "configure", "--no-input", "--no-check", "--config", other, *options, env=world.environment)
    run("cmp", world.config, other)

    # The whole of it: the same again changes nothing, and says so.
    before = world.config.stat()
    said = world.configure(*options, "--generate-keys").stdout
    assert "nothing was written" in said and "pfx-import: pkcs11:object=pfx-import is there" in said
    assert world.config.stat().st_mtime_ns == before.st_mtime_ns and world.config.stat().st_ino == before.st_ino


def change_events(connector, key):
    return [event["message"] for event in connector.events("--id", "12") if f"] {key}: " in event["message"]]


def test_changes_reach_the_running_connector(configured):
    world, connector = configured, configured.connector
    proxy = Proxy()
    pid = connector.process.pid
    before = world.config.read_text()

    def settled():
        return connector.status()["service"]["contact"] == "ok"

    try:
        terminal = Terminal(world)
        # "until" answers Enter, also where a secret may be kept
        assert terminal.until("Proxy, or none") == "none"
        terminal.child.sendline("proxy.example")
        terminal.child.expect("http://")
        terminal.ask("Proxy, or none", proxy.url)
        # without its user it is found out
        terminal.until("Try it now: token, keys, signing in (yes, no)")
        terminal.child.sendline("yes")
        terminal.child.expect("and proxy-password")
        assert terminal.wait("Write it and put it in force (yes, no)") == "no"
        while terminal.child.after.strip(" :") != "User at the proxy, or none [none]":
            terminal.child.sendline("<")
            terminal.child.expect(r"[A-Z][^\r\n\[\]?]+(?: \[[^\]\r\n]*\])?: $")
        terminal.child.sendline(Proxy.user)
        terminal.ask("Where the proxy's password is", f"file:{world.config.parent}/proxy")
        terminal.ask("Its password (not shown; only Enter keeps the one in the file)", Proxy.password)
        terminal.ask("Reached without it, or none")
        terminal.until("Try it now: token, keys, signing in (yes, no)")
        terminal.child.sendline("yes")
        terminal.ask("Write it and put it in force (yes, no)")
        text = terminal.end()
        assert "The running connector has taken the new settings." in text and Proxy.password not in text
        assert proxy.tunnels > 0
        added = f"proxy = {proxy.url}\nproxy-user = {Proxy.user}\nproxy-password = file:{world.config.parent}/proxy\n"
        assert world.config.read_text() == before.replace("\n[keys]", f"{added}\n[keys]")
        assert (world.config.parent / "certconnector.conf.previous").read_text() == before
        tunnels = proxy.tunnels
        recipient = Recipient()
        assert ask_pkcs(world.service, recipient, certificateTemplateName="device")["result"]["succeeded"]
        wait_until(lambda: proxy.tunnels > tunnels, "the connector goes through the proxy")

        # Cleared: the same file as before, and no tunnel more.
        terminal = Terminal(world)
        assert terminal.until("Proxy, or none") == proxy.url
        terminal.child.sendline("none")
        terminal.until("Try it now: token, keys, signing in (yes, no)")
        terminal.child.sendline("yes")
        terminal.ask("Write it and put it in force (yes, no)")
        assert "The running connector has taken the new settings." in terminal.end()
        assert world.config.read_text() == before
        wait_until(settled, "the service is reached")
        tunnels = proxy.tunnels
        assert ask_pkcs(world.service, recipient, certificateTemplateName="device")["result"]["succeeded"]
        assert proxy.tunnels == tunnels
        assert [len(change_events(connector, key)) for key in ("proxy", "proxy-user", "proxy-password")] == [2, 2, 2]

        # The same by options.
        world.configure("--set", f"service.proxy={proxy.url}", "--set", f"service.proxy-user={Proxy.user}", "--set",
                        f"service.proxy-password=file:{world.config.parent}/proxy")
        assert proxy.tunnels > tunnels and world.config.read_text() == before.replace("\n[keys]", f"{added}\n[keys]")
        world.configure("--unset", "service.proxy", "--unset", "service.proxy-user", "--unset", "service.proxy-password")
        assert world.config.read_text() == before

        # Features go and come; the process stays the same.
        world.configure("--set", "connector.features=pkcs, revocation")
        wait_until(lambda: set(connector.status()["features"]) == {"pkcs", "revocation"}, "two features are left")
        terminal = Terminal(world)
        terminal.ask("Features, by number or name", "pkcs pfx-import scep revocation")
        terminal.until("Try it now: token, keys, signing in (yes, no)")
        terminal.child.sendline("no")
        terminal.ask("Write it and put it in force (yes, no)")
        terminal.end()
        assert world.config.read_text() == before
        wait_until(lambda: len(connector.status()["features"]) == 4, "all features are back")
        assert connector.process.pid == pid and connector.process.running()

        # What only a restart puts in force is named.
        said = world.configure("--set", f"log.directory={connector.run}", "--no-check").stdout
        assert "wait for a restart" in said and "[log] directory" in said
        world.configure("--set", f"log.directory={connector.log}", "--no-check")
    finally:
        proxy.close()


def test_a_key_signs_in_instead_of_the_secret(configured):
    """And the secret again."""
    world = configured
    before = world.config.read_text()
    pem = world.config.parent / "client.pem"

    terminal = Terminal(world)
    terminal.until("Sign in with (secret, key)")
    terminal.child.sendline("key")
    terminal.ask("Key to sign in with")
    terminal.ask("make one of type")
    terminal.ask("File with its certificate", str(pem))
    terminal.ask("It is not there; make it, self-signed (yes, no)")
    terminal.until("Try it now: token, keys, signing in (yes, no)")
    terminal.child.sendline("yes")
    terminal.child.expect("not tried: its certificate is made first")
    terminal.ask("Write it and put it in force (yes, no)")
    text = terminal.end()
    assert "Register this certificate" in text and "thumbprint " in text and "has taken the new settings" in text
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=dc1"
    written = world.config.read_text()
    assert "identity = pkcs11:object=identity\n" in written and f"client-certificate = {pem}\n" in written and "client-secret" not in written

    # Known to the service from now on, it can be tried; what nobody registered is refused.
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    assert world.configure(check=False).returncode == 1
    world.service.admin("POST", "clients", {"clientId": CLIENT_ID, "certificate": der})
    assert "signed in" in world.configure().stdout
    assert ask_pkcs(world.service, Recipient(), certificateTemplateName="device")["result"]["succeeded"]

    # The secret again; the key stays, as the connector has an identity with it now.
    terminal = Terminal(world)
    assert terminal.until("Sign in with (secret, key)") == "key"
    terminal.child.sendline("secret")
    terminal.ask("Where the client secret is", f"file:{world.config.parent}/secret")
    terminal.until("Try it now: token, keys, signing in (yes, no)")
    terminal.child.sendline("yes")
    terminal.child.expect("signed in")
    terminal.ask("Write it and put it in force (yes, no)")
    terminal.end()
    assert sorted(world.config.read_text().splitlines()) == sorted([*before.splitlines(), "identity = pkcs11:object=identity"])
    assert ask_pkcs(world.service, Recipient(), certificateTemplateName="device")["result"]["succeeded"]


def test_what_is_wrong_changes_nothing(configured):
    world = configured
    before = world.config.read_bytes()
    for options, want, status in (
            (["--set", "log.debug=much"], '"much" is no choice', 2),
            (["--set", "log.debag=all"], "did you mean debug?", 2),
            (["--set", "log.debug=all", "--unset", "log.debug"], "changed twice", 2),
            (["--unset", f"log.directory={world.connector.log}"], "--unset takes a name alone", 2),
            (["--unset", "token.uri"], "[token] uri: is missing", 2),
            (["--set", "keys.audit=pkcs11:object=nothing"], "the token has no private or secret key", 1),
            (["--set", "service.client-id=99999999-2222-3333-4444-555555555555"], "signing in to the service", 1),
            (["--set", f"token.pin=file:{world.config.parent}/challenge"], "the token", 1),
            (["--key-type", "seal=rsa2048"], "--key-type is ROLE=TYPE", 2),
            (["--init-ca", "no name"], "--init-ca", 1),
            # found wrong by the running connector alone
            (["--set", "token.module=/nonexistent.so", "--no-check"], "the running connector does not take it", 1)):
        said = world.configure(*options, check=False)
        assert (said.returncode, want in said.stderr) == (status, True), (options, said)
        assert world.config.read_bytes() == before, options
    assert world.connector.process.running()


def test_what_fails_at_the_end_is_put_back(configured):
    """A CA is not made twice; nothing of what was written before that stays."""
    world = configured
    before = {path: path.read_bytes() for path in world.config.parent.iterdir() if path.is_file() and path.suffix != ".previous"}
    terminal = Terminal(world)
    terminal.until("Name of this connector, or none for the host's")
    terminal.child.sendline("another")
    terminal.until("Client secret (not shown; only Enter keeps the one in the file)")
    terminal.child.sendline("another-secret")
    terminal.until("Make its certificate at the end (yes, no)")
    terminal.child.sendline("yes")
    terminal.ask("Subject of its certificate", "CN=Another")
    terminal.until("Try it now: token, keys, signing in (yes, no)")
    terminal.child.sendline("no")
    terminal.ask("Write it and put it in force (yes, no)")
    text = terminal.end(1)
    assert "Written: " in text and "The configuration is what it was before." in text
    assert {path: path.read_bytes() for path in world.config.parent.iterdir() if path.is_file() and path.suffix != ".previous"} == before


def test_command_for_elsewhere_has_what_was_said(configured):
    """A CA of the command line, of which nothing was asked: only what there is of it."""
    world = configured
    terminal = Terminal(world, "--no-check", "--init-ca", "CN=Another")
    terminal.ask("Features, by number or name", "pfx-import")
    terminal.until("Write it and put it in force (yes, no)")
    terminal.child.sendintr()
    command = terminal.end(1).split("The same without questions:")[1].split("Write it")[0]
    words = shlex.split(command.replace("\r", "").replace("\\\n", " "))
    assert words[words.index("--init-ca") + 1] == "CN=Another"
    assert "" not in words and "--ca" not in words and "--ca-validity" not in words


def test_dry_run_shows_and_writes_nothing(configured):
    world = configured
    before = world.config.read_bytes()
    said = world.configure("--dry-run", "--set", "log.debug=all", "--unset", "log.max-size").stdout
    assert said == f"--- {world.config}\n+++ {world.config}\n [log]\n-max-size = 20M\n+debug = all\n"
    assert world.config.read_bytes() == before


def test_drop_in_is_changed_where_it_is_set(configured):
    world = configured
    folder = pathlib.Path(f"{world.config}.d")
    folder.mkdir()
    drop_in = folder / "50-site.conf"
    drop_in.write_text("; the site's\n[log]\ndebug = admin\n")
    before = world.config.read_bytes()
    try:
        said = world.configure("--set", "log.debug=none", "--no-check").stdout
        assert f"Written: {drop_in}" in said
        assert drop_in.read_text() == "; the site's\n[log]\ndebug = none\n" and world.config.read_bytes() == before
    finally:
        shutil.rmtree(folder)


def test_from_nothing_without_questions():
    """Keys and CA made by options."""
    world = World()
    try:
        shutil.copy(world.token.pin_file, world.config.parent / "pin")
        shutil.chown(world.config.parent / "pin", "root", USER)
        settings = {"connector.features": "pkcs, revocation", "token.module": world.token.module, "token.uri": f"pkcs11:token={world.token.label}",
                    "token.pin": f"file:{world.config.parent}/pin", "service.cloud": "custom", "service.authority": world.service.url,
                    "service.graph": world.service.url, "service.resource": world.service.url, "service.ca-file": world.service.ca_file,
                    "service.tenant": TENANT, "service.client-id": CLIENT_ID, "service.client-secret": f"file:{world.service.secret_file}",
                    "keys.ca": "pkcs11:object=ca", "keys.ocsp": "pkcs11:object=ca", "keys.seal": "pkcs11:object=seal",
                    "keys.identity-next": "pkcs11:object=next", "keys.scep-ra-encrypt": "pkcs11:object=scep-ra", "ca.corp.kind": "local", "profile.device.validity": "30d",
                    "log.directory": world.connector.log}
        options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")] + world.options()
        refused = world.configure(*options, check=False)
        assert refused.returncode == 1 and "--generate-keys" in refused.stderr and leftovers(world) == ["pin"]
        options += ["--generate-keys", "--key-type", "ca=ecP256", "--init-ca", "CN=Contoso Issuing CA"]
        world.configure(*options)
        again = world.configure(*options).stdout
        assert "nothing was written" in again and 'the CA "corp" is there already' in again
        assert keys_of(world) == ["ca", "next", "scep-ra", "seal"]
        keys = {key["label"]: key for key in json.loads(world.connector.cli("key", "list", "--json").stdout)["keys"] if key["class"] == "private"}
        assert keys["ca"]["kind"] == "P-256", "the type that was said, though the key signs OCSP answers too"
        assert {"decrypt", "sign"} <= set(keys["scep-ra"]["usages"]), "it signs SCEP answers, too"
        world.connector.start()
        assert ask_pkcs(world.service, Recipient(), certificateTemplateName="device")["result"]["succeeded"]
    finally:
        world.rig.close()


def test_without_a_terminal_it_says_so():
    rig = Rig()
    try:
        said = subprocess.run([rig.programs / "certconnector", "configure"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        assert said.returncode == 2 and "--no-input" in said.stderr
    finally:
        rig.close()
