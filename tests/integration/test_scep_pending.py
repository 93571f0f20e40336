# SPDX-License-Identifier: MIT
"""A CA that leaves requests to an administrator: devices are told PENDING, poll, and get their certificate, or are refused."""

import json
import os
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki_rig import events_of, open_result, order
from rig import Recipient, Rig, wait_until
from scep_message import BAD_REQUEST, CERT_POLL, FAILURE, PENDING, RENEWAL_REQ, SUCCESS, Message, Server, make_csr, name, new_key, self_signed, seq
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

    def ask(self, csr, transaction, key=KEY, signer=None, **options):
        return Message(self.server, key, signer or self_signed(key), csr, transaction=transaction, **options)

    def poll(self, transaction, key=KEY, signer=None):
        content = seq(self.ra[-1].subject.public_bytes(), name(SUBJECT).public_bytes())
        return Message(self.server, key, signer or self_signed(key), content, kind=CERT_POLL, transaction=transaction).send()

    def enrol(self):
        csr, transaction = self.request()
        assert self.ask(csr, transaction).send().status == PENDING
        self.decide()
        return self.poll(transaction).certificates[0]

    def renew(self, old, transaction):
        """Asks with a new key, which is not there to sign: the old one does."""
        reply = self.ask(make_csr(OTHER, SUBJECT), transaction, signer=old, kind=RENEWAL_REQ).send()
        assert reply.status == PENDING

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
    [event] = [e for e in world.scep.admin_events() if e.get("transactionId") == transaction]
    assert "an administrator denied the request: nobody knows this device" in json.dumps(event)


def test_the_request_itself_is_asked_for_again(world):
    csr, transaction = world.request()
    message = world.ask(csr, transaction)
    assert message.send().status == PENDING
    world.decide()
    assert message.send().status == SUCCESS


def test_many_ask_at_once(world):
    csr, transaction = world.request()
    before = len(world.authority.listed())
    messages = [world.ask(csr, transaction) for _ in range(8)]
    with ThreadPoolExecutor(len(messages)) as pool:
        assert {reply.status for reply in pool.map(Message.send, messages)} == {PENDING}
        world.decide()
        replies = [reply for reply in pool.map(lambda _: world.poll(transaction), messages) if reply.status != PENDING]
    assert replies and {reply.status for reply in replies} == {SUCCESS}
    assert len({reply.certificates[0].serial_number for reply in replies}) == 1
    assert len(world.authority.listed()) == before + 1


def test_a_renewal_is_polled_for_with_the_old_certificate(world):
    old = world.enrol()
    world.renew(old, "renewal-1")
    assert world.poll("renewal-1", signer=old).status == PENDING
    # A key proves nothing here: whoever has the old one is believed for its certificate.
    for key in (KEY, OTHER):
        reply = world.poll("renewal-1", key)
        assert (reply.status, reply.fail_info) == (FAILURE, BAD_REQUEST)
    world.decide()
    new = world.poll("renewal-1", signer=old).certificates[0]
    assert new.public_key().public_numbers() == OTHER.public_key().public_numbers()
    assert world.poll("renewal-1", signer=old).certificates == [new]


def test_a_renewal_dies_with_the_old_certificate(world):
    old = world.enrol()
    world.renew(old, "renewal-2")
    world.connector.cli("ca", "revoke", "--serial", f"{old.serial_number:x}", "--reason", "keyCompromise")
    world.decide()
    before = len(world.authority.listed())
    reply = world.poll("renewal-2", signer=old)
    assert (reply.status, reply.fail_info) == (FAILURE, BAD_REQUEST)
    assert len(world.authority.listed()) == before


def test_nobody_comes_back(world):
    """A restart looks after what was left; what waits is left alone until it expires, and fails then."""
    waits, late = world.request(), world.request()
    for csr, transaction in (waits, late):
        assert world.ask(csr, transaction).send().status == PENDING
    world.connector.process.stop()
    with sqlite3.connect(world.connector.state / "state.db") as database:
        days = 86400000
        database.execute("UPDATE scep_transaction SET received_ms = received_ms - ?, expires_ms = expires_ms - ? WHERE transaction_id = ?",
                         (31 * days, 31 * days, late[1]))
        database.execute("UPDATE scep_transaction SET received_ms = received_ms - ? WHERE transaction_id = ?", (29 * days, waits[1]))
    database.close()
    world.connector.start(wait=False)
    world.scep.wait_ready()
    assert world.told(late[1])["kind"] == "failure"
    wait_until(lambda: world.admin_events(late[1]) == [4001], "one admin event")
    assert world.poll(late[1]).status == FAILURE
    assert world.poll(waits[1]).status == PENDING and world.admin_events(waits[1]) == []
    world.connector.cli("ca", "approve", "--all")
    assert world.poll(waits[1]).status == SUCCESS
    assert world.poll(late[1]).status == FAILURE


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


def approved_meanwhile(world, *argv):
    """What a client says that polls, as it is decided on."""
    client = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(world.waiting, "the request waits")
        world.decide()
        out, said = client.communicate(timeout=60)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, said
    return out


def strongswan(world, folder, key, *options):
    return x509.load_pem_x509_certificate(approved_meanwhile(
        world, "pki", "--scep", "--url", world.scep.url, "--in", key, "--dn", "O=Contoso, CN=dev1", "--cacert", folder / "ca",
        "--cacert-enc", folder / "encrypt", "--cacert-sig", folder / "sign", "--cipher", "aes", "--digest", "sha256",
        "--interval", "1", "--maxpolltime", "60", "--outform", "pem", *options))


def test_strongswan_polls(world):
    folder = world.rig.folder / "device"
    folder.mkdir()
    for file, key in (("first", KEY), ("second", OTHER)):
        (folder / file).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                                      serialization.NoEncryption()))
    for file, certificate in (("sign", world.ra[1]), ("encrypt", world.ra[0]), ("ca", world.ra[2])):
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    old = strongswan(world, folder, folder / "first", "--password", made["challenge"])
    assert old.public_key().public_numbers() == KEY.public_key().public_numbers()
    (folder / "old").write_bytes(old.public_bytes(serialization.Encoding.PEM))
    new = strongswan(world, folder, folder / "second", "--cert", folder / "old", "--key", folder / "first")
    assert new.public_key().public_numbers() == OTHER.public_key().public_numbers()


def test_our_own_client_polls(world):
    folder = world.rig.folder / "own"
    folder.mkdir()
    [made] = world.service.admin("POST", "scepChallenges", {"subjectName": "CN=dev1,O=Contoso"})["challenges"]
    world.rig.private_file(folder / "challenge", made["challenge"].encode())
    program = world.rig.programs / "certconnector"
    approved_meanwhile(world, program, "scep", "enrol", "--url", world.scep.url, "--subject", "CN=dev1,O=Contoso", "--key", folder / "first",
                       "--challenge-file", folder / "challenge", "--fingerprint", world.ra[-1].fingerprint(hashes.SHA256()).hex(),
                       "--out", folder / "old", "--poll", "1")
    approved_meanwhile(world, program, "scep", "renew", "--url", world.scep.url, "--certificate", folder / "old", "--key", folder / "first",
                       "--new-key", folder / "second", "--out", folder / "new", "--poll", "1")
    old, new = (x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in ("old", "new"))
    assert old.public_key().public_numbers() != new.public_key().public_numbers()


def test_by_hand_nothing_waits(world):
    assert "no such request" in world.connector.cli("ca", "approve", "unknown", check=False).stderr
    assert world.connector.cli("ca", "approve", check=False).returncode == 2
    csr = world.connector.folder / "csr.der"
    csr.write_bytes(make_csr(KEY, SUBJECT))
    os.chmod(csr, 0o644)
    assert "BEGIN CERTIFICATE" in world.connector.cli("ca", "issue", "--profile", "server", "--csr", csr).stdout


def order_pkcs(world, recipient):
    request_id = world.service.admin("POST", "pkcsRequests", order(recipient, certificateTemplateName="ContosoUser"))["requestId"]
    wait_until(world.waiting, "the request waits")
    assert world.service.request(request_id)["state"] == "leased"
    return request_id


def test_pkcs_request_is_approved(world):
    """The same for a request of the service: delivered when it was approved, a restart or not."""
    recipient = Recipient()
    request_id = order_pkcs(world, recipient)
    [asked] = world.waiting()
    world.restart()
    wait_until(lambda: [event["id"] for event in world.connector.events("--request", request_id)].count(1051) == 2, "each start says that it waits")
    assert world.waiting() == [asked], "it is asked for once"
    world.connector.cli("ca", "approve", asked["requestId"])
    key, *_ = open_result(world.service.wait_done(request_id, 120)["result"], recipient)
    [certificate] = [c for c in world.authority.listed() if c.get("requestId") == asked["requestId"]]
    assert certificate["state"] == "issued"
    assert [id for id in events_of(world.connector, request_id, (1000, 1001)) if id in (1000, 1001)] == [1000]


def test_pkcs_request_is_denied(world):
    request_id = order_pkcs(world, Recipient())
    [asked] = world.waiting()
    world.connector.cli("ca", "deny", asked["requestId"], "--reason", "no such user\x1b[2J")
    result = world.service.wait_done(request_id, 120)["result"]
    assert (result["succeeded"], result["errorCode"]) == (False, "CaDenied")
    assert [id for id in events_of(world.connector, request_id, (1000, 1001)) if id in (1000, 1001)] == [1001]
