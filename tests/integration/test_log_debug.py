# SPDX-License-Identifier: MIT
"""What the logs say at the start, on a change of configuration, and with [log] debug = all while every kind of request, good and
bad, runs through; and that no secret of all that is in them."""

import base64
import json
import re
import secrets
import signal
import subprocess
import urllib.parse

import pytest
import requests

from pki_rig import ask, open_result
from rig import Pfx, Recipient, Rig, wait_until
from scep_message import FAILURE, SUCCESS, Message, Server, make_csr, new_key, self_signed
from scep_rig import TOKEN_KEYS, connector_with_scep
from test_scep import SUBJECT, x509_chain

LOADED, SETTING, CHANGED, REJECTED = 10, 11, 12, 13
PIN_REFUSED, SIGN_IN_FAILED = 23, 32
ADMIN_DEBUG, OPERATIONAL_DEBUG = 90, 91
TOKEN_OF_THE_SERVICE = re.compile(rb"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
KEY = new_key()


class World:
    def __init__(self):
        self.rig = Rig()
        self.secrets = {}
        self.service = self.rig.service("--revocation-cool-down", "1", "--retry-delay-ms", "50", "--max-attempts", "2")
        self.token = self.rig.token(kinds=TOKEN_KEYS)
        self.scep = connector_with_scep(self.rig, self.service, self.token, features="scep, pkcs, pfx-import, revocation", overrides={
            "scep.challenge": "service", "scep.challenge-secret": None, "log.debug": "all", "service.poll-wait": "1s", "service.heartbeat": "1s"})
        self.connector = self.scep.connector
        self.connector.wait_ready()
        self.keep("PIN", self.token.pin())
        self.keep("client secret", self.service.secret_file.read_text())

    def keep(self, name, secret):
        self.secrets[name] = secret if isinstance(secret, bytes) else secret.encode()
        return secret

    def new_secret(self, name):
        """(reference, secret) in a file of its own."""
        file = self.rig.folder / f"{name}.secret"
        secret = self.keep(name, secrets.token_hex(20))
        self.rig.private_file(file, secret.encode())
        return f"file:{file}"

    def reload(self, *changes):
        """Each an old line, or what stands for it, and a new one."""
        text = self.connector.config.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.connector.config.write_text(text)
        self.connector.process.child.send_signal(signal.SIGHUP)

    def events(self, number):
        return self.connector.events("--id", str(number))

    def logs(self):
        """All that was written for people, archives and the output of the programs included."""
        for path in sorted(self.connector.log.iterdir()):
            yield path, subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout if path.suffix == ".zst" else path.read_bytes()
        yield self.connector.process.log, self.connector.process.log.read_bytes()
        yield "status", json.dumps(self.connector.status()).encode()


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.rig.close()


def test_each_setting_is_logged_at_the_start(world):
    """As check-config shows them, and nothing else."""
    shown = json.loads(world.connector.cli("check-config", "--json").stdout)
    want = {f"[{section}] {key} = {value}" for section, keys in shown.items() for key, value in keys.items()}
    assert {event["message"] for event in world.events(SETTING)} == want
    assert "[service] client-secret = ***" in want and "[token] pin = ***" in want and "[log] debug = all" in want
    [loaded] = world.events(LOADED)
    assert str(world.connector.config) in loaded["message"]
    assert loaded["channel"] == "Admin" and {event["channel"] for event in world.events(SETTING)} == {"Operational"}


def pfx_import(world):
    recipient, public_key = Recipient(), world.connector.public_key()
    good, bad = Pfx("good@contoso.example"), Pfx("bad@contoso.example")
    world.service.upload(good, public_key)
    world.keep("password of a PFX", good.password)
    bad.password = world.keep("password that is none", secrets.token_hex(12).encode())
    world.service.upload(bad, public_key)
    assert recipient.read(world.service.wait_done(world.service.enqueue(good, recipient)[0])["result"]) == good.password
    assert world.service.wait_done(world.service.enqueue(bad, recipient)[0])["state"] == "failed"


def pkcs(world):
    recipient = Recipient()
    done = ask(world.service, recipient, certificateTemplateName="server", subjectName="CN=host1,O=Contoso")
    *_, password = open_result(done["result"], recipient)
    world.keep("password of a delivered PFX", password)
    assert ask(world.service, recipient, certificateTemplateName="Nowhere")["state"] == "failed"
    return done["requestId"]


def scep(world):
    http = requests.Session()
    http.trust_env = False
    ra = x509_chain(world.scep)
    server = Server(world.scep.url, http, ra[:-1])
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    good = world.keep("challenge", made["challenge"])
    # One that the service does not take, in a form that it reads and in one that it does not.
    for name, challenge, want in (("good", good, SUCCESS), ("foreign", base64.b64encode(secrets.token_bytes(60)).decode(), FAILURE),
                                  ("malformed", "no base64 " + secrets.token_hex(20), FAILURE)):
        world.keep(f"challenge {name}", challenge)
        assert Message(server, KEY, self_signed(KEY), make_csr(KEY, SUBJECT, challenge), transaction=name).send().status == want


def revocation(world, issued):
    [request] = world.service.admin("POST", "revocationRequests", [{"requestId": issued}])["requestIds"]
    wait_until(lambda: any(event["event"] == "uploaded" for event in world.service.admin("GET", f"revocationRequests/{request}")["history"]),
               "the revocation is answered")


def trouble(world):
    """A client secret and a PIN that are refused, and a configuration that is."""
    config = world.connector.config.read_text()
    secret, pin = world.new_secret("wrong-client-secret"), world.new_secret("wrong-pin")
    world.reload((f"client-secret = file:{world.service.secret_file}", f"client-secret = {secret}"))
    wait_until(lambda: world.events(SIGN_IN_FAILED), "the sign-in is refused")
    world.reload((f"pin = file:{world.token.pin_file}", f"pin = {pin}"))
    wait_until(lambda: world.events(PIN_REFUSED), "the PIN is refused")
    literal = world.keep("secret in the place of a reference", secrets.token_hex(20))
    world.reload((f"pin = {pin}", f"pin = {literal}"))
    wait_until(lambda: world.events(REJECTED), "the configuration is rejected")
    world.connector.config.write_text(config)
    world.connector.process.child.send_signal(signal.SIGHUP)
    world.connector.wait_ready()


def forms(secret):
    """As it may be written: plain, and in the forms in which it travels or is shown."""
    yield secret
    yield base64.b64encode(secret)
    yield base64.b64encode(secret).rstrip(b"=")
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield urllib.parse.quote_from_bytes(secret, safe="").encode()
    yield json.dumps(secret.decode("latin-1"))[1:-1].encode()


def test_no_secret_is_in_any_log(world):
    pfx_import(world)
    scep(world)
    revocation(world, pkcs(world))
    trouble(world)
    for number in (ADMIN_DEBUG, OPERATIONAL_DEBUG):
        wait_until(lambda: world.events(number), f"debug events {number}")
    assert len(world.secrets) >= 10
    for where, data in world.logs():
        for name, secret in world.secrets.items():
            assert len(secret) >= 4
            for form in forms(secret):
                assert form not in data, f"{name} is in {where}: {data[max(0, data.index(form) - 200):data.index(form)]}"
        assert b"Bearer" not in data and b"access_token" not in data and b"BEGIN" not in data, where
        assert not TOKEN_OF_THE_SERVICE.search(data), where
    assert TOKEN_OF_THE_SERVICE.fullmatch(world.service.token().encode()), "tokens look as they are searched for"


def test_changes_are_logged_with_both_values(world):
    """After the trouble: what was changed there, references to secrets unseen, and the rest in full."""
    said = [event["message"] for event in world.events(CHANGED)]
    assert "[service] client-secret: was ***, is ***" in said and "[token] pin: was ***, is ***" in said
    world.reload(("heartbeat = 1s", "heartbeat = 2s"))
    wait_until(lambda: "[service] heartbeat: was 1s, is 2s" in [event["message"] for event in world.events(CHANGED)], "the change is logged")
    [rejected] = world.events(REJECTED)
    assert f"{world.connector.config}:" in rejected["message"] and "[token] pin" in rejected["message"]
    assert {event["channel"] for event in world.events(CHANGED) + [rejected]} == {"Admin"}
