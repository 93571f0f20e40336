# SPDX-License-Identifier: MIT
"""A CA that leaves requests to an administrator: devices are told PENDING, poll, and get their certificate, or are refused."""

import json
import os
import subprocess

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki_rig import open_result, order
from rig import Recipient, Rig, wait_until
from scep_message import BAD_REQUEST, CERT_POLL, FAILURE, PENDING, SUCCESS, Message, Server, make_csr, name, new_key, self_signed, seq
from scep_rig import TOKEN_KEYS, connector_with_scep
from test_scep import SUBJECT, x509_chain

KEY, OTHER = new_key(), new_key()


class World:
    def __init__(self):
        self.rig = Rig()
        self.service = self.rig.service()
        self.token = self.rig.token(kinds=TOKEN_KEYS)
        self.scep = connector_with_scep(self.rig, self.service, self.token, features="scep, pkcs", authority="approval = manual",
                                        overrides={"scep.challenge": "service", "scep.challenge-secret": None, "pkcs.key-pool": "0"})
        self.connector, self.authority = self.scep.connector, self.scep.authority
        self.http = requests.Session()
        self.http.trust_env = False
        self.ra = x509_chain(self.scep)
        self.server = Server(self.scep.url, self.http, self.ra[:-1])
        self.ids = iter(range(1000))

    def request(self, key=KEY, transaction=None):
        """(CSR, transactionID) with a challenge of its own."""
        [made] = self.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
        return make_csr(key, SUBJECT, made["challenge"]), transaction or f"waits-{next(self.ids)}"

    def ask(self, csr, transaction, key=KEY):
        return Message(self.server, key, self_signed(key), csr, transaction=transaction)

    def poll(self, transaction, key=KEY):
        content = seq(self.ra[-1].subject.public_bytes(), name(SUBJECT).public_bytes())
        return Message(self.server, key, self_signed(key), content, kind=CERT_POLL, transaction=transaction).send()

    def waiting(self):
        return json.loads(self.connector.cli("ca", "pending", "--json").stdout)["requests"]

    def decide(self, verb="approve", *options):
        [waits] = self.waiting()
        assert waits["subject"] == "CN=dev1,O=Contoso" and waits["profile"] == "server"
        self.connector.cli("ca", verb, waits["requestId"], *options)
        assert self.waiting() == []

    def restart(self):
        self.connector.process.stop()
        self.connector.start(wait=False)
        self.scep.wait_ready()

    def transaction(self, transaction):
        [found] = self.service.admin("GET", f"scepTransactions?transactionId={transaction}")["value"]
        return found

    def told(self, transaction):
        return wait_until(lambda: self.transaction(transaction).get("notification"), "the service was told")

    def admin_events(self, transaction):
        return [event["id"] for event in self.scep.admin_events() if event.get("transactionId") == transaction]


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.rig.close()


def test_pending_then_approved(world):
    csr, transaction = world.request()
    message = world.ask(csr, transaction)
    assert message.send().status == PENDING
    assert message.send().status == PENDING  # the very same, as some clients poll
    assert world.ask(csr, transaction).send().status == PENDING
    assert world.poll(transaction).status == PENDING
    assert (world.poll(transaction, OTHER).status, world.poll("another").status) == (FAILURE, FAILURE)
    assert world.scep.status()["pending"] == 1
    world.restart()
    assert world.poll(transaction).status == PENDING
    world.decide()
    world.restart()
    certificate = world.poll(transaction).certificates[0]
    assert certificate.public_key().public_numbers() == KEY.public_key().public_numbers()
    assert world.poll(transaction).certificates == [certificate]
    assert message.send().certificates == world.ask(csr, transaction).send().certificates == [certificate]
    assert world.told(transaction)["count"] == 1 and world.transaction(transaction)["validations"] == 1
    wait_until(lambda: world.admin_events(transaction) == [4000], "one admin event")
    assert world.scep.status()["pending"] == 0


def test_pending_then_denied(world):
    csr, transaction = world.request()
    message = world.ask(csr, transaction)
    assert message.send().status == PENDING
    world.decide("deny", "--reason", "nobody knows this device")
    reply = world.poll(transaction)
    assert (reply.status, reply.fail_info) == (FAILURE, BAD_REQUEST)
    assert message.send().status == FAILURE
    assert world.told(transaction)["kind"] == "failure"
    wait_until(lambda: world.admin_events(transaction) == [4001], "one admin event")


def test_the_request_itself_is_asked_for_again(world):
    csr, transaction = world.request()
    message = world.ask(csr, transaction)
    assert message.send().status == PENDING
    world.decide()
    assert message.send().status == SUCCESS


def test_another_instance_goes_on(world):
    """On the same store, when the first is gone."""
    csr, transaction = world.request()
    assert world.ask(csr, transaction).send().status == PENDING
    world.decide()
    world.connector.process.stop()
    second = world.rig.folder / "second.conf"
    second.write_text(world.connector.config.read_text().replace("name = connector-1", "name = connector-2"))
    first, world.connector.config = world.connector.config, second
    try:
        world.connector.start(wait=False)
        world.scep.wait_ready()
        assert world.poll(transaction).status == SUCCESS
    finally:
        world.connector.process.stop()
        world.connector.config = first
        world.connector.start(wait=False)
        world.scep.wait_ready()


def test_strongswan_polls(world):
    folder = world.rig.folder / "device"
    folder.mkdir()
    (folder / "key").write_bytes(OTHER.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                                   serialization.NoEncryption()))
    for file, certificate in (("sign", world.ra[1]), ("encrypt", world.ra[0]), ("ca", world.ra[2])):
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    client = subprocess.Popen(
        ["pki", "--scep", "--url", world.scep.url, "--in", folder / "key", "--dn", "O=Contoso, CN=dev1", "--password", made["challenge"],
         "--cacert", folder / "ca", "--cacert-enc", folder / "encrypt", "--cacert-sig", folder / "sign", "--cipher", "aes",
         "--digest", "sha256", "--interval", "1", "--maxpolltime", "60", "--outform", "pem"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        wait_until(world.waiting, "the request waits")
        world.decide()
        out, _ = client.communicate(timeout=60)
    finally:
        client.kill()
        client.wait()
    assert x509.load_pem_x509_certificate(out).public_key().public_numbers() == OTHER.public_key().public_numbers()


def test_by_hand_nothing_waits(world):
    assert "no such request" in world.connector.cli("ca", "approve", "unknown", check=False).stderr
    assert world.connector.cli("ca", "approve", check=False).returncode == 2
    csr = world.connector.folder / "csr.der"
    csr.write_bytes(make_csr(KEY, SUBJECT))
    os.chmod(csr, 0o644)
    assert "BEGIN CERTIFICATE" in world.connector.cli("ca", "issue", "--profile", "server", "--csr", csr).stdout


def test_pkcs_request(world):
    """The same for a request of the service: delivered when it was approved."""
    recipient = Recipient()
    request_id = world.service.admin("POST", "pkcsRequests", order(recipient, certificateTemplateName="ContosoUser"))["requestId"]
    wait_until(world.waiting, "the request waits")
    assert world.service.request(request_id)["state"] == "leased"
    world.connector.cli("ca", "approve", "--all")
    open_result(world.service.wait_done(request_id, 120)["result"], recipient)


