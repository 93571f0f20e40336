# SPDX-License-Identifier: MIT
"""A connector with a built-in CA: its configuration, requests of devices for certificates, and the checks of what comes
out by OpenSSL and GnuTLS alone."""

import base64
import json
import secrets
import socket
import sqlite3
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from rig import run, wait_until

KINDS = {"rsa2048": (rsa.RSAPublicKey, 2048), "rsa3072": (rsa.RSAPublicKey, 3072), "rsa4096": (rsa.RSAPublicKey, 4096),
         "ecP256": (ec.EllipticCurvePublicKey, 256), "ecP384": (ec.EllipticCurvePublicKey, 384)}
TOKEN_KEYS = ("pfx-import=rsa2048", "ca=ecP256", "ocsp=ecP256")

PROFILES = """
[profile "user"]
templates = ContosoUser
validity = 90d
key-usages = digitalSignature, keyEncipherment
extended-key-usages = clientAuth, emailProtection
san = upn, email, dns, uri, ip, guid
sid = extension

[profile "server"]
validity = 30d
key-usages = digitalSignature, keyEncipherment
extended-key-usages = serverAuth, clientAuth
subject = CN, O
san = dns
san-domains = contoso.example
policies = 1.3.6.1.4.1.55555.1.2

[profile "sid-uri"]
key-usages = digitalSignature
extended-key-usages = clientAuth
sid = uri
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Authority:
    """A connector's built-in CA, seen from outside."""

    def __init__(self, connector, port):
        self.connector, self.port = connector, port
        self.url = f"http://127.0.0.1:{port}"
        self.folder = connector.folder / "world"
        self.folder.mkdir()

    def init(self, *options, subject="CN=Contoso Issuing CA,O=Contoso,C=DE"):
        self.connector.cli("ca", "init", "--subject", subject, *options)

    def fetch(self, name):
        """A published file, as curl gets it."""
        file = self.folder / name
        run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", file, f"{self.url}/{name}")
        return file

    def is_published(self, name):
        return run("curl", "--silent", "--fail", "--noproxy", "*", "--output", "/dev/null", f"{self.url}/{name}", check=False).returncode == 0

    def certificate(self):
        """The CA's certificate as PEM file."""
        der, pem = self.fetch("corp.cer"), self.folder / "ca.pem"
        run("openssl", "x509", "-inform", "DER", "-in", der, "-out", pem)
        return pem

    def crl(self, name="corp.crl"):
        """The CRL, its signature checked by openssl. The first one is signed after the connector is ready."""
        wait_until(lambda: self.is_published(name), f"{name} is published", 60)
        der = self.fetch(name)
        said = run("openssl", "crl", "-inform", "DER", "-in", der, "-noout", "-verify", "-CAfile", self.certificate())
        assert "verify OK" in said.stderr + said.stdout
        return x509.load_der_x509_crl(der.read_bytes())

    def write(self, certificate, name="certificate.pem"):
        file = self.folder / name
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def ocsp(self, certificate, *options, check=True):
        """The word that openssl ocsp gives: good, revoked, unknown."""
        ca, file = self.certificate(), self.write(certificate)
        said = run("openssl", "ocsp", "-issuer", ca, "-cert", file, "-url", f"{self.url}/ocsp", "-CAfile", ca, *options, check=check)
        assert "Response verify OK" in said.stderr + said.stdout, said.stderr
        assert "WARNING" not in said.stderr, said.stderr
        return said.stdout.split(": ", 1)[1].split()[0]

    def listed(self, *options):
        return json.loads(self.connector.cli("ca", "list", "--json", "--state", "all", *options).stdout)["certificates"]

    def verify(self, certificate, purpose):
        """What an exacting relying party checks."""
        ca, file = self.certificate(), self.write(certificate)
        run("openssl", "verify", "-x509_strict", "-check_ss_sig", "-policy_check", "-purpose", purpose, "-CAfile", ca, file)
        chain = self.folder / "chain.pem"
        chain.write_bytes(file.read_bytes() + ca.read_bytes())
        said = run("certtool", "--verify-chain", "--verify-profile", "medium", "--infile", chain, check=False)
        assert said.returncode == 0 and "Chain verification output: Verified" in said.stdout + said.stderr, said.stdout + said.stderr


def connector_with_ca(rig, service, token, features="pkcs, revocation", extra="", authority="", overrides=None, start=True, init=True, **options):
    """(connector, authority): the CA made, the connector started and ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    text = f"""
[ca "corp"]
kind = local
profile = user
crl-urls = {url}/corp.crl
issuer-urls = {url}/corp.cer
ocsp-urls = {url}/ocsp
{authority}
{PROFILES}
{extra}
"""
    settings = {"connector.features": features, "keys.ca": "pkcs11:object=ca", "keys.ocsp": "pkcs11:object=ocsp",
                "publish.listen": f"127.0.0.1:{port}", "pkcs.key-pool": "4", "revocation.poll-interval": "1s"}
    settings.update(overrides or {})
    connector = rig.connector(service, token, extra=text, overrides=settings, start=False, **options)
    world = Authority(connector, port)
    if init:
        world.init()
    if start:
        connector.start()
    return connector, world


def fill_revoked(connector, count):
    """Puts count revoked certificates into the database of the CA, as fast as SQL can: the daemon must not run."""
    database = sqlite3.connect(connector.state / "state.db")
    now = int(time.time() * 1000)
    with database:
        (authority, change), = database.execute("SELECT id, change FROM ca_authority")
        rows = ((authority, b"\x40" + i.to_bytes(19, "big"), change + 1 + i, i % 2, now - i, 0, now + 86400000 * 365) for i in range(count))
        database.executemany("INSERT INTO ca_revoked (authority, serial, change, reason, revoked_ms, invalidity_ms, not_after_ms)"
                             " VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("UPDATE ca_authority SET change = change + ?", (count,))
        database.execute("INSERT INTO ca_count VALUES (?, 'filled', 1, 0, 0, 0, ?, 0)", (authority, count))
    database.close()


def fill_issued(connector, count, certificate):
    """The same with issued ones, each with the bytes of this certificate and the key hash of none."""
    database = sqlite3.connect(connector.state / "state.db")
    now = int(time.time() * 1000)
    with database:
        (authority,), = database.execute("SELECT id FROM ca_authority")
        serials = [b"\x41" + secrets.token_bytes(19) for _ in range(count)]
        database.executemany("INSERT INTO ca_certificate (authority, serial, state, request_id, profile, subject, key_hash, not_before_ms,"
                             " not_after_ms, reserved_ms, issued_ms) VALUES (?, ?, 2, ?, 'user', ?, ?, ?, ?, ?, ?)",
                             ((authority, serial, f"filled-{i}", f"CN=device{i},O=Contoso", secrets.token_bytes(32), now - count + i,
                               now + 86400000 * 365, now - count + i, now - count + i) for i, serial in enumerate(serials)))
        database.executemany("INSERT INTO ca_certificate_der (authority, reserved_ms, serial, certificate) VALUES (?, ?, ?, ?)",
                             ((authority, now - count + i, serial, certificate) for i, serial in enumerate(serials)))
        database.execute("INSERT INTO ca_count VALUES (?, 'filled', ?, 0, ?, 0, 0, 0)", (authority, count, count))
    database.close()


def order(recipient, **members):
    """What a device's profile makes of it; None leaves a member out."""
    body = {"userPrincipalName": "user1@contoso.example", "subjectName": "CN=user1,O=Contoso",
            "keyAlgorithm": "ecP256", "validityPeriodInDays": 30, "certificateTemplateName": "ContosoUser",
            "recipientCertificate": base64.b64encode(recipient.der).decode()}
    body.update(members)
    return {name: value for name, value in body.items() if value is not None}


def ask(service, recipient, **members):
    """The finished request."""
    request_id = service.admin("POST", "pkcsRequests", order(recipient, **members))["requestId"]
    return service.wait_done(request_id, 60)


def open_result(result, recipient):
    """(key, certificate, chain, password) of the delivered PFX, password decrypted by the recipient."""
    password = recipient.read(result)
    blob = base64.b64decode(result["encryptedPfxBlob"])
    key, certificate, chain = pkcs12.load_key_and_certificates(blob, password)
    assert certificate.public_key().public_numbers() == key.public_key().public_numbers()
    assert base64.b64decode(result["certificate"]) == certificate.public_bytes(serialization.Encoding.DER)
    return key, certificate, chain, password


def events_of(connector, request_id, last):
    """Ids of a request's events once one of those in last was written."""
    def ids():
        found = [event["id"] for event in connector.events("--request", request_id)]
        return found if set(last) & set(found) else None
    return wait_until(ids, f"request {request_id} has its admin event")
