# SPDX-License-Identifier: MIT
"""Steady work of three kinds for one connector while something is done to what it depends on, and the books after it: what
was ordered was done, and once."""

import os
import pathlib
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from pki_rig import order
from rig import Pfx, Recipient, wait_until
from scep_message import SUCCESS, Message, Server, make_csr, new_key, self_signed
from scep_rig import TOKEN_KEYS, connector_with_scep
from test_scep import x509_chain

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "faults"))
from books import check_in_force, check_requests, check_told, delivered, serial_of  # noqa: E402

DEVICES = 4  # at once
PAUSE_S = 0.05  # between two orders, so that a run is as long as what it is about


class World:
    def __init__(self, rig, service, overrides=None, start=True, **options):
        self.rig, self.service = rig, service
        self.token = rig.token(kinds=TOKEN_KEYS)
        self.scep = connector_with_scep(rig, service, self.token, features="pkcs, pfx-import, scep", start=False, overrides={
            "scep.challenge": "service", "scep.challenge-secret": None, "service.heartbeat": "1s", **(overrides or {})}, **options)
        self.connector = self.scep.connector
        self.ids, self.certificates = [], []  # all that was ordered, and what devices got
        self.dropins = self.connector.config.with_suffix(".conf.d")
        self.dropins.mkdir()
        if start:
            self.start()

    def start(self):
        self.connector.start()
        self.scep.wait_ready()

    def reload(self, name=None, text=None):
        """With one more file, by SIGHUP."""
        if name:
            (self.dropins / name).write_text(text)
        os.kill(self.connector.process.pid, signal.SIGHUP)

    def work_once(self):
        """One request, from its order to its good end."""
        self.ids.append(self.service.admin("POST", "pkcsRequests", order(Recipient()))["requestId"])
        assert self.service.wait_done(self.ids[-1], 90)["state"] == "completed"

    def device(self):
        """A message of one that wants a certificate, to be sent."""
        session, key, name = requests.Session(), new_key(), f"device-{os.urandom(4).hex()}"
        session.trust_env = False
        server = Server(self.scep.url, session, x509_chain(self.scep)[:-1])
        made = self.service.admin("POST", "scepChallenges", {"subjectName": f"CN={name},O=Contoso"})
        return Message(server, key, self_signed(key), make_csr(key, f"O=Contoso, CN={name}", made["challenges"][0]["challenge"]))

    def contact(self):
        status = self.connector.status()
        return status and status["service"]["contact"]

    def wait_contact(self, contact, seconds=60):
        wait_until(lambda: self.contact() == contact, f"contact is {contact}: {self.connector.status()}", seconds)


class Load:
    """From entering it to leaving it, and to the end of all that was ordered."""

    def __init__(self, world):
        self.world, self.service, self.connector = world, world.service, world.connector
        self.recipient, self.pfx = Recipient(), Pfx("user1@contoso.example")
        self.service.upload(self.pfx, self.connector.public_key())
        self.ids, self.certificates = world.ids, world.certificates
        self.over, self.lock = threading.Event(), threading.Lock()
        self.keys = [new_key() for _ in range(DEVICES)]
        session = requests.Session()
        session.trust_env = False
        self.server = Server(world.scep.url, session, x509_chain(world.scep)[:-1])
        self.pool = ThreadPoolExecutor(DEVICES + 1)

    def admin(self, *what):
        with self.lock:
            return self.service.admin(*what)

    def enqueue(self):
        while not self.over.wait(PAUSE_S):
            self.ids.append(self.admin("POST", "pkcsRequests", order(self.recipient))["requestId"])
            with self.lock:
                self.ids += self.service.enqueue(self.pfx, self.recipient)

    def enrol(self, number):
        """One device after the other; each comes again until it has its certificate."""
        key, certificate = self.keys[number], self_signed(self.keys[number])
        http = requests.Session()
        http.trust_env = False
        server = Server(self.server.url, http, [self.server.encrypt, self.server.sign])
        while not self.over.wait(PAUSE_S):
            name = f"device-{number}-{os.urandom(4).hex()}"
            challenge = self.admin("POST", "scepChallenges", {"subjectName": f"CN={name},O=Contoso"})["challenges"][0]["challenge"]
            message = Message(server, key, certificate, make_csr(key, f"O=Contoso, CN={name}", challenge))
            wait_until(lambda: self.try_once(message), f"{name} has its certificate", 150)

    def try_once(self, message):
        try:
            reply = message.send()
        except requests.ConnectionError:
            return False
        if reply.status_code == 503:
            return False
        assert reply.status == SUCCESS, (reply.status_code, reply.status)
        self.certificates.append(next(c for c in reply.certificates if c.public_key().public_numbers() == message.key.public_key().public_numbers()))
        return True

    def __enter__(self):
        self.futures = [self.pool.submit(self.enqueue), *(self.pool.submit(self.enrol, i) for i in range(DEVICES))]
        self.more()
        return self

    def __exit__(self, *failed):
        self.over.set()
        self.pool.shutdown()
        if failed[0] is None:
            for future in self.futures:
                future.result()

    def done(self):
        return self.service.counts()["requests"]["completed"], len(self.certificates)

    def more(self, seconds=60):
        """Until more of each kind was done than has been by now."""
        pkcs, devices = self.done()
        wait_until(lambda: self.done()[0] > pkcs + 4 and self.done()[1] > devices, "work goes on", seconds)

    def last(self, seconds):
        """Lets it run on for so long."""
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > end, "the time is over", seconds + 5)

    def check_books(self):
        """Nothing lost, nothing twice, of all that was ordered so far."""
        self.service.wait_none_open(120)
        done = check_requests(self.service, self.connector, self.ids)
        check_told(self.world.scep, self.certificates)
        serials = list(delivered(done).values()) + [serial_of(certificate) for certificate in self.certificates]
        check_in_force(self.world.scep.authority, serials)
