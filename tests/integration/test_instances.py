# SPDX-License-Identifier: MIT
"""Several instances on one token, one PostgreSQL and one service: who goes on when one is gone, what a paused one may
still write, and what all of them do once."""

import collections
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from pg_rig import Postgres
from pki_rig import order
from rig import Recipient, Rig, wait_until
from scep_message import BAD_REQUEST, FAILURE, SUCCESS, Message, Server, make_csr, new_key, self_signed
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep
from test_scep import x509_chain

COUNT = 4
TAKEOVER_S = 10.0  # what is in the hands of an instance that is gone goes on within this
INSTANCE_FENCED, NAME_IN_USE = 42, 44
KEYS = [new_key() for _ in range(4)]


class World:
    def __init__(self):
        self.rig, self.postgres = Rig(), Postgres()
        self.database = "instances"
        self.uri = self.postgres.database(self.database)
        # What was on its way to an instance when that stopped is nobody's until its lease ends.
        self.service, self.token = self.rig.service("--lease-seconds", "10"), self.rig.token(kinds=TOKEN_KEYS)
        secrets = self.rig.folder / "once"
        self.rig.private_file(secrets, "\n".join(f"once-{i}" for i in range(20)).encode() + b"\n")
        once = f'[scep-profile "once"]\nchallenge = file\nchallenge-file = {secrets}\n'
        self.sceps = [connector_with_scep(self.rig, self.service, self.token, name=f"connector-{i}", init=i == 0, extra=once,
                                          features="pkcs, scep, revocation", overrides={"connector.state": self.uri})
                      for i in range(COUNT)]
        self.connectors = [scep.connector for scep in self.sceps]
        self.recipient = Recipient()
        self.ordered = 0
        self.http = requests.Session()
        self.http.trust_env = False

    def enqueue(self, count):
        for _ in range(count):
            self.service.admin("POST", "pkcsRequests", order(self.recipient))
        self.ordered += count

    def completed(self):
        return self.service.counts()["requests"]["completed"]

    def sql(self, text):
        return self.postgres.sql(text, self.database)

    def owner_of_open(self, name):
        """Whether this instance has requests in hand."""
        return int(self.sql("SELECT COUNT(*) FROM journal j JOIN store_instance i ON i.epoch = j.owner"
                            f" WHERE j.state <> 6 AND i.name = '{name}'")[0][0])

    def give_work(self, connector):
        """Until it has some in hand that it cannot do: its token process hangs; the process."""
        pid = connector.token_pid()
        os.kill(pid, signal.SIGSTOP)
        self.enqueue(40)
        wait_until(lambda: self.owner_of_open(connector.name) > 0, "it has work in hand")
        return pid

    def message(self, scep, key, challenge, profile="", **options):
        chain = x509_chain(scep)
        server = Server(scep.url + (f"/{profile}" if profile else ""), requests.Session(), chain[:-1])
        return Message(server, key, self_signed(key), make_csr(key, "O=Contoso, CN=dev1", challenge), **options)

    def check_books(self):
        """Each request has one admin event, and each certificate that is good belongs to one of them."""
        events = collections.Counter()
        for connector in self.connectors:
            for request, found in connector.admin_events().items():
                events[request] += len([e for e in found if e["id"] in (1000, 1001)])
        assert sum(1 for n in events.values() if n == 1) == self.ordered, [r for r, n in events.items() if n > 1]
        assert max(events.values()) == 1
        good = [c for c in self.sceps[0].authority.listed() if c["state"] == "issued" and c["profile"] == "user"]
        assert len(good) == self.ordered

    def close(self):
        self.rig.close()
        self.postgres.close()


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.close()


def test_they_share_everything(world):
    """One CA, one RA, one name each at the service."""
    ids = {c.status()["connectorId"] for c in world.connectors}
    assert len(ids) == COUNT
    chains = {tuple(c.fingerprint(c.signature_hash_algorithm) for c in x509_chain(scep)) for scep in world.sceps}
    assert len(chains) == 1
    assert world.sql("SELECT COUNT(*) FROM store_instance WHERE alive = 1") == [[str(COUNT)]]
    world.enqueue(40)
    wait_until(lambda: world.completed() == world.ordered, "all are done", 60)
    wait_until(lambda: world.sql("SELECT COUNT(*) FROM journal WHERE state <> 6") == [["0"]], "all are closed")
    world.check_books()


def test_work_of_an_instance_that_is_killed(world):
    victim = world.connectors[0]
    world.give_work(victim)
    victim.process.kill()
    assert world.owner_of_open(victim.name) > 0
    wait_until(lambda: world.owner_of_open(victim.name) == 0, "others have its work", TAKEOVER_S)
    wait_until(lambda: world.completed() == world.ordered, "all are done", 60)
    victim.start(wait=False)
    world.sceps[0].wait_ready()
    wait_until(lambda: world.sql("SELECT COUNT(*) FROM journal WHERE state <> 6") == [["0"]], "all are closed", 30)
    world.check_books()


def test_a_paused_instance_writes_nothing_stale(world):
    victim = world.connectors[1]
    token = world.give_work(victim)
    os.kill(victim.process.pid, signal.SIGSTOP)
    try:
        os.kill(token, signal.SIGCONT)
        wait_until(lambda: world.completed() == world.ordered, "others did its work", 60)
        commits = world.sql(f"SELECT commits FROM store_instance WHERE name = '{victim.name}' ORDER BY epoch DESC LIMIT 1")
    finally:
        os.kill(victim.process.pid, signal.SIGCONT)
    wait_until(lambda: victim.events("--id", str(INSTANCE_FENCED)), "it notices")
    assert world.sql(f"SELECT commits FROM store_instance WHERE name = '{victim.name}' AND alive = 0"
                     " ORDER BY epoch DESC LIMIT 1") == commits
    world.sceps[1].wait_ready()
    wait_until(lambda: world.sql("SELECT COUNT(*) FROM journal WHERE state <> 6") == [["0"]], "all are closed", 30)
    world.check_books()


def test_one_challenge_at_all_instances_at_once(world):
    """A hundred requests for four keys with one challenge: one certificate, for one key."""
    messages = [world.message(world.sceps[i % COUNT], KEYS[i // COUNT % len(KEYS)], "once-1", "once", transaction=f"replay {i // COUNT % len(KEYS)}")
                for i in range(100)]

    def send(message):
        """As a device does: again while the server is busy with it elsewhere."""
        while True:
            reply = message.send()
            if reply.status_code != 503:
                return reply
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(send, messages))
    good = {reply.certificates[0] for reply in replies if reply.status == SUCCESS}
    assert len(good) == 1
    assert all((reply.status, reply.fail_info) == (FAILURE, BAD_REQUEST) for reply in replies if reply.status != SUCCESS)
    issued = [c for c in world.sceps[0].authority.listed() if c["profile"] == "server"]
    assert [int(c["serialNumber"], 16) for c in issued] == [certificate.serial_number for certificate in good]


def test_a_device_may_ask_any_instance(world):
    csr = make_csr(KEYS[0], "O=Contoso, CN=dev1", CHALLENGE)
    server = Server(world.sceps[0].url, requests.Session(), x509_chain(world.sceps[0])[:-1])
    first = Message(server, KEYS[0], self_signed(KEYS[0]), csr, transaction="anywhere")
    certificate = first.send().certificates[0]
    for scep in world.sceps[1:]:
        again = Message(Server(scep.url, requests.Session(), x509_chain(scep)[:-1]), KEYS[0], first.certificate, csr,
                        transaction="anywhere")
        assert again.send().certificates == [certificate]


def test_one_keeps_the_crls(world):
    holder = world.sql("SELECT i.name FROM store_lease l JOIN store_instance i ON i.epoch = l.epoch WHERE l.name = 'crl/corp'")[0][0]
    keeper = next(i for i in range(COUNT) if world.connectors[i].name == holder)
    other = world.sceps[(keeper + 1) % COUNT]
    world.connectors[keeper].process.kill()
    serial = next(c for c in other.authority.listed() if c["state"] == "issued" and c["profile"] == "user")["serialNumber"]
    other.connector.cli("ca", "revoke", "--serial", serial)

    def on_crl():
        crl = other.authority.crl()
        return crl.get_revoked_certificate_by_serial_number(int(serial, 16))
    wait_until(on_crl, "another one signs", 20)
    numbers = world.sql("SELECT number, COUNT(*) FROM ca_crl GROUP BY number HAVING COUNT(*) > 1")
    assert numbers == []
    world.connectors[keeper].start(wait=False)
    world.sceps[keeper].wait_ready()


def test_a_second_instance_of_one_name_waits(world):
    twin = connector_with_scep(world.rig, world.service, world.token, name="twin", init=False, features="pkcs", start=False,
                               overrides={"connector.state": world.uri, "connector.name": world.connectors[2].name})
    twin.connector.start(wait=False)
    wait_until(lambda: twin.connector.events("--id", str(NAME_IN_USE)), "it says why")
    assert world.connectors[2].status()["name"] == world.connectors[2].name
    assert world.connectors[2].process.stop() == 0
    wait_until(lambda: twin.connector.status(), "it takes over", TAKEOVER_S)
    assert twin.connector.process.stop() == 0
    world.connectors[2].start(wait=False)
    world.sceps[2].wait_ready()
    assert not world.connectors[2].events("--id", str(INSTANCE_FENCED))
