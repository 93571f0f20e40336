# SPDX-License-Identifier: MIT
"""A connector with a SCEP server, its keys kept in one of the three ways that RFC 8894 knows."""

import os
import shutil

from pki_rig import connector_with_ca, free_port
from rig import USER, run, wait_until

CHALLENGE = "a-challenge-of-the-tests"
TOKEN_KEYS = ("pfx-import=rsa2048", "ca=rsa2048", "ocsp=ecP256")
# Who signs answers, and who opens envelopes; keys that do more than one thing are made beside those of the token.
KEYS = {"two": ("scep-ra-sign", "scep-ra-encrypt"), "one": ("scep-ra", "scep-ra"), "ca": ("scep-ca", "scep-ca")}


def leave_to_readers(token):
    """What root made in a SoftHSM token is root's alone at first."""
    for path in token.folder.glob("tokens/*/*"):
        shutil.chown(path, "root", USER)
        path.chmod(0o640)


def generate_key(token, programs, role, also, label):
    run(programs / "certconnector", "key", "generate", "--module", token.module, "--uri", f"pkcs11:token={token.label}", "--pin",
        f"file:{token.pin_file}", "--role", role, "--also", also, "--type", "rsa2048", "--label", label, env=dict(os.environ, **token.env))
    leave_to_readers(token)


class Scep:
    """The server of a connector: where devices find it, and what it wrote down."""

    def __init__(self, connector, authority, port):
        self.connector, self.authority, self.port = connector, authority, port
        self.url = f"http://127.0.0.1:{port}/scep"

    def status(self):
        status = self.connector.status()
        return status and status["workloads"].get("scep")

    def wait_ready(self, seconds=30):
        def ready():
            assert self.connector.process.running(), self.connector.process.output()
            status = self.status()
            return status and status["state"] == "ready"
        try:
            wait_until(ready, "the SCEP server is ready", seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.status()}\n{self.connector.process.output()[-3000:]}") from e

    def admin_events(self):
        """Of SCEP, the oldest first."""
        return self.connector.events("--channel", "admin", "--category", "SCEP")

    def get(self, query, url=None):
        """(Content-Type, body) as curl got them, of an answer with status 200."""
        body = self.connector.folder / "answer"
        said = run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", body, "--write-out", "%{content_type}",
                   f"{url or self.url}?operation={query}")
        return said.stdout, body.read_bytes()


def connector_with_scep(rig, service, token, keys="two", overrides=None, extra="", features="scep, revocation", start=True, init=True, **options):
    """A Scep whose CA is made; ready when it was started. The challenge is one secret for all unless overrides say otherwise."""
    port = free_port()
    sign, encrypt = KEYS[keys]
    if keys == "one":
        generate_key(token, rig.programs, "scep-ra-encrypt", "scep-ra-sign", encrypt)
    if keys == "ca":
        generate_key(token, rig.programs, "ca", "scep-ra-encrypt", encrypt)
    secret = rig.folder / "scep.secret"
    rig.private_file(secret, CHALLENGE.encode())
    settings = {"keys.scep-ra-sign": f"pkcs11:object={sign}", "keys.scep-ra-encrypt": f"pkcs11:object={encrypt}",
                "scep.listen": f"127.0.0.1:{port}", "scep.ca": "corp", "scep.profile": "server", "scep.challenge": "static",
                "scep.challenge-secret": f"file:{secret}"}
    if keys == "ca":
        settings["keys.ca"] = f"pkcs11:object={encrypt}"
    settings.update(overrides or {})
    connector, authority = connector_with_ca(rig, service, token, features=features, extra=extra, overrides=settings, start=False,
                                             init=False, **options)
    if init:
        authority.init(*(["--scep"] if keys == "ca" else []))
    scep = Scep(connector, authority, port)
    if start:
        connector.start(wait=False)
        scep.wait_ready()
    return scep
