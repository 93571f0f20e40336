# SPDX-License-Identifier: MIT
"""Work for a crowd of connectors: requests of all kinds at a steady pace, devices that enrol, and what was ordered."""

import base64
import collections
import contextlib
import datetime
import os
import pathlib
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]
import history as books  # noqa: E402
import scep_message as scep  # noqa: E402
from pki_rig import order as pkcs_order  # noqa: E402
from recrypt import envelope  # noqa: E402
from rig import Pfx, Recipient  # noqa: E402

DEVICE_KEYS = 8  # making them is slow: each serves many devices, which differ in their transactions
DEVICE_THREADS = 24


class Devices:
    """SCEP clients, fast ones: each comes again until it has an answer, and sometimes again when it has it."""

    def __init__(self, world, seed):
        self.world, self.chance, self.lock = world, random.Random(seed), threading.Lock()
        self.pool = ThreadPoolExecutor(DEVICE_THREADS)
        self.keys = [(key, self_signed(key)) for key in self.pool.map(lambda _: scep.new_key(), range(DEVICE_KEYS))]
        self.devices, self.futures, self.over = [], [], threading.Event()
        self.tries = collections.Counter()
        self.clients = threading.local()

    def enrol(self, count, want=books.SUCCESS, heard=True):
        """Orders challenges; each device then goes its way."""
        named = [(f"device{len(self.devices) + i:06}", self.chance.randrange(2 ** 32)) for i in range(count)]
        # What the service allows and the profile does not: the CA's side refuses.
        unit = ",OU=Nowhere" if want == books.FAILURE and heard else ""
        orders = [{"subjectName": f"CN={name}{unit},O=Contoso"} for name, _ in named]
        made = self.world.admin("POST", "scepChallenges", orders)["challenges"]
        for (name, seed), challenge in zip(named, made):
            device = books.Device(name, os.urandom(16).hex(), challenge["id"], want, heard)
            self.devices.append(device)
            subject = f"O=Contoso{unit.replace(',', ', ')}, CN={name if heard else 'somebody-else'}"
            self.futures.append(self.pool.submit(self.live, device, subject, challenge["challenge"], random.Random(seed)))

    def server(self, instance, anew=False):
        """What a thread knows of an instance's server."""
        known = self.clients.__dict__.setdefault("servers", {})
        if anew or instance.index not in known:
            session = requests.Session()
            session.trust_env = False
            url = f"http://127.0.0.1:{instance.port}/scep"
            answer = session.get(url + "?operation=GetCACert", timeout=(2, 10))
            answer.raise_for_status()
            shown = pkcs7.load_der_pkcs7_certificates(answer.content)
            known[instance.index] = scep.Server(url, session, [one for one in shown if not is_authority(one)])
        return known[instance.index]

    def live(self, device, subject, challenge, chance):
        key, certificate = chance.choice(self.keys)
        csr = scep.make_csr(key, subject, challenge)
        servers = self.world.servers()
        # Instances with a database each know nothing of one another's transactions.
        mine = servers if self.world.options.store != "sqlite" else [chance.choice(servers)]
        wanted = 2 if chance.random() < 0.2 else 1
        while len(device.answers) < wanted and not self.over.is_set():
            try:
                server = self.server(chance.choice(mine))
                message = scep.Message(server, key, certificate, csr, transaction=device.transaction)
                if chance.random() < 0.1:
                    self.hang_up(server, message)
                self.tries["messages"] += 1
                reply = message.send()
                if reply.status_code == 200:
                    device.answers.append(answer_of(reply, key))
                    continue
                self.tries[f"status {reply.status_code}"] += 1
            except (requests.RequestException, OSError) as e:
                self.tries[type(e).__name__] += 1
            self.over.wait(chance.uniform(0.1, 1.0))

    def hang_up(self, server, message):
        """Sends it and does not wait for the answer."""
        self.tries["hung up"] += 1
        with contextlib.suppress(requests.RequestException):
            requests.post(f"{server.url}?operation=PKIOperation", data=message.bytes, timeout=(2, 0.01),
                          headers={"Content-Type": "application/x-pki-message"})

    def busy(self):
        self.futures = [future for future in self.futures if not (future.done() and future.result() is None)]
        return len(self.futures)

    def close(self):
        self.over.set()
        self.pool.shutdown()


def is_authority(certificate):
    with contextlib.suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return False


def self_signed(key):
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(scep.name("CN=a device's own")).issuer_name(scep.name("CN=a device's own"))
            .public_key(key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=7))
            .not_valid_after(now + datetime.timedelta(days=7)).sign(key, hashes.SHA256()))


def answer_of(reply, key):
    if reply.status == scep.SUCCESS:
        public = key.public_key().public_numbers()
        [certificate] = [one for one in reply.certificates if one.public_key().public_numbers() == public]
        return books.Answer(books.SUCCESS, f"{certificate.serial_number:X}", certificate.fingerprint(hashes.SHA1()).hex().upper())
    return books.Answer(books.FAILURE if reply.status == scep.FAILURE else "PENDING")


class Work:
    """Orders of all kinds at a steady pace, and what was ordered."""

    MIX = (("issue", 34), ("recrypt", 8), ("pfx-import", 25), ("scep", 20), ("revocation", 9), ("refused", 2), ("scep-refused", 1),
           ("scep-denied", 1))

    def __init__(self, world, seed):
        self.world, self.chance = world, random.Random(seed)
        self.recipient = Recipient(start=datetime.datetime.utcnow() - datetime.timedelta(days=7))
        self.pfx = Pfx("user1@contoso.example")
        public = world.instances[0].public_key()
        world.service.upload(self.pfx, public)
        self.recrypt = {"kind": "recrypt", "subjectName": None, "encryptedPfxBlob": base64.b64encode(self.pfx.blob).decode(),
                        "encryptedPfxPassword": base64.b64encode(envelope(public, self.pfx.password)).decode()}
        self.devices = Devices(world, seed + 1)
        self.orders = []
        self.revocable = []  # requests of certificates whose revocation nobody asked for
        self.ordered = 0

    def add(self, kind, request_ids, want=books.COMPLETED):
        self.orders += [books.Order(request_id, kind, want) for request_id in request_ids]
        return request_ids

    def order_pkcs(self, count, **members):
        return self.world.admin("POST", "pkcsRequests", pkcs_order(self.recipient, count=count, **members))["requestIds"]

    def order_revocations(self, count):
        """Of certificates that somebody got a moment ago; how many."""
        bodies = []
        for _ in range(min(count, len(self.revocable))):
            request_id = self.revocable.pop(self.chance.randrange(len(self.revocable)))
            request = self.world.admin("GET", f"requests/{request_id}")
            if request["state"] != "completed":
                self.revocable.append(request_id)
                continue
            result = request["result"]
            bodies.append({"serialNumber": result["certificateSerialNumber"], "issuerName": result["issuingCertificateAuthority"],
                           "caConfiguration": result["caConfiguration"]})
        if bodies:
            made = self.world.admin("POST", "revocationRequests", bodies)["requestIds"]
            self.orders += [books.Order(i, "revocation", serial=body["serialNumber"]) for i, body in zip(made, bodies)]
        return len(bodies)

    def order(self, kind, count):
        """How many were ordered."""
        if kind == "issue":
            self.revocable += self.add("issue", self.order_pkcs(count, subjectName="CN=user%d,O=Contoso"))
        elif kind == "recrypt":
            self.add("recrypt", self.order_pkcs(count, **self.recrypt))
        elif kind == "refused":
            self.add("issue", self.order_pkcs(count, subjectAlternativeNames=[{"type": "ip", "value": "192.0.2.1"}]), books.FAILED)
        elif kind == "pfx-import":
            body = {"userPrincipalName": self.pfx.user, "thumbprint": self.pfx.thumbprint, "count": count,
                    "recipientCertificate": base64.b64encode(self.recipient.der).decode()}
            self.add("pfx-import", self.world.admin("POST", "pfxImportRequests", body)["requestIds"])
        elif kind == "scep":
            self.devices.enrol(count)
        elif kind == "scep-denied":
            self.devices.enrol(count, books.FAILURE)
        elif kind == "scep-refused":
            self.devices.enrol(count, books.FAILURE, heard=False)
        else:
            return self.order_revocations(count)
        return count

    def run(self, stop):
        """Until all are ordered."""
        options, kinds, begin = self.world.options, [kind for kind, _ in self.MIX], time.monotonic()
        weights = [weight for _, weight in self.MIX]
        while self.ordered < options.requests and not stop.wait(0.25):
            due = min(options.requests, int((time.monotonic() - begin) * options.pace)) - self.ordered
            wanted = collections.Counter(self.chance.choices(kinds, weights, k=max(due, 0)))
            self.ordered += sum(self.order(kind, count) for kind, count in sorted(wanted.items()))

    def close(self):
        self.devices.close()
