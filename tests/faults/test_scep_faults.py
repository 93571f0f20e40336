# SPDX-License-Identifier: MIT
"""Devices that enrol by SCEP, with strongSwan's client, while the connector dies, its token process dies, and the service
answers 503: whoever was told SUCCESS has its certificate at the CA, and the service heard of it exactly once."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from rig import BUILD, Rig, run, wait_until  # noqa: E402
from scep_rig import TOKEN_KEYS, connector_with_scep  # noqa: E402

CLIENTS = 64
SECONDS = int(os.environ.get("SCEP_FAULTS_SECONDS", "15"))  # 60: the long form
NOT_NOW = "HTTP 503", "HTTP 0"  # busy, or nobody there: the client is to come again


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


class World:
    def __init__(self, rig, overrides=None, start=True):
        self.rig = rig
        self.service = rig.service()
        self.token = rig.token(kinds=TOKEN_KEYS)
        self.scep = connector_with_scep(rig, self.service, self.token, start=start, overrides={
            "scep.challenge": "service", "scep.challenge-secret": None, **(overrides or {})})
        self.connector = self.scep.connector
        self.lock = threading.Lock()  # of the administrator's connection
        self.folder = rig.folder / "devices"
        self.folder.mkdir()

    def learn(self):
        """What a device is given beforehand."""
        run("pki", "--scepca", "--url", self.scep.url, "--caout", self.folder / "ca.crt", "--raout", self.folder / "ra.crt", "--outform", "pem")
        for file in self.folder.glob("ra*.crt"):
            usage = x509.load_pem_x509_certificate(file.read_bytes()).extensions.get_extension_for_class(x509.KeyUsage).value
            if usage.key_encipherment:
                self.encrypt = file
            else:
                self.sign = file

    def challenge(self, device):
        with self.lock:
            made = self.service.admin("POST", "scepChallenges", {"subjectName": f"CN={device},O=Contoso"})
        return made["challenges"][0]["challenge"]


class Device:
    """One key, and the certificates that it got."""

    def __init__(self, world, name):
        self.world, self.name, self.certificates = world, name, []
        self.key = world.folder / f"{name}.key"
        self.key.write_bytes(rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))

    def try_once(self, challenge):
        """The certificate; None when it is to come again."""
        world = self.world
        done = subprocess.run(
            ["pki", "--scep", "--url", world.scep.url, "--in", self.key, "--dn", f"O=Contoso, CN={self.name}", "--password", challenge,
             "--cacert", world.folder / "ca.crt", "--cacert-enc", world.encrypt, "--cacert-sig", world.sign,
             "--cipher", "aes", "--digest", "sha256", "--outform", "pem"], capture_output=True, timeout=120)
        if done.returncode == 0:
            return x509.load_pem_x509_certificate(done.stdout)
        said = done.stderr.decode()
        assert any(text in said for text in NOT_NOW), said
        return None

    def enrol(self, challenge, seconds=120):
        """Until it has its certificate, as devices do."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            certificate = self.try_once(challenge)
            if certificate is not None:
                self.certificates.append(certificate)
                return certificate
            time.sleep(0.2)  # the client's pause, whatever the server asks for
        raise AssertionError(f"{self.name} did not get its certificate")


def thumbprint(certificate):
    return certificate.fingerprint(hashes.SHA1()).hex().upper()


def all_transactions(service):
    found, path = [], "scepTransactions?$top=1000"
    while path:
        page = service.admin("GET", path)
        found += page["value"]
        link = page.get("@odata.nextLink")
        path = link.split("/admin/api/", 1)[1] if link else None
    return found


def check_books(world, certificates):
    """Service, CA and event log agree with what devices have."""
    scep = world.scep
    want = {thumbprint(certificate) for certificate in certificates}
    assert len(want) == len(certificates), "two devices have the same certificate"

    def told():
        status = scep.status()
        return status and status["notificationsDue"] == 0 and status["inWork"] == 0
    wait_until(told, "the service was told of everything", 60)
    heard = {}
    for transaction in all_transactions(world.service):
        notification = transaction.get("notification")
        if notification and notification["kind"] == "success":
            heard[notification["members"]["certificateThumbprint"]] = notification
    assert set(heard) == want
    assert {notification["contradictions"] for notification in heard.values()} == {0}

    # At the CA: the devices' and the RA's two, and nothing else.  A lost one is revoked within a minute.
    serials = {certificate.serial_number for certificate in certificates}

    def orphans():
        good = {int(c["serialNumber"], 16) for c in scep.authority.listed() if c["state"] != "revoked" and c["profile"] != "scep-ra"}
        return good ^ serials
    wait_until(lambda: not orphans(), "the CA has what devices have, and nothing else", 120)

    def events():
        return [event for event in scep.admin_events() if event.get("thumbprint") in want]
    wait_until(lambda: len(events()) >= len(want), "every request has its admin event", 30)
    assert sorted(event["thumbprint"] for event in events()) == sorted(want)
    assert {event["id"] for event in events()} == {4000}
    return heard


def test_many_devices_and_trouble(rig):
    """The token process is killed every second, and a third of what is asked of the service is answered with 503."""
    world = World(rig)
    world.learn()
    devices = [Device(world, f"device{i}") for i in range(CLIENTS)]
    world.service.admin("PUT", "faults", {"path": "ScepActions/", "status": 503, "rate": 0.33, "seed": 11})
    over, kills = threading.Event(), [0]

    def trouble():
        while not over.wait(1):
            pid = world.connector.token_pid()
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills[0] += 1
                except ProcessLookupError:
                    pass

    def live(device):
        while not over.is_set():
            device.enrol(world.challenge(device.name))

    thread = threading.Thread(target=trouble)
    thread.start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        lives = [pool.submit(live, device) for device in devices]
        over.wait(SECONDS)
        over.set()
        for one in lives:
            one.result()
    thread.join()
    world.service.admin("DELETE", "faults")
    assert kills[0] >= SECONDS // 3
    certificates = [certificate for device in devices for certificate in device.certificates]
    assert len(certificates) >= CLIENTS
    for notification in check_books(world, certificates).values():
        assert notification["count"] == 1, notification


@pytest.mark.parametrize("notify", ["durable", "before-reply"])
def test_killed_before_and_after_each_durable_step(rig, notify):
    """The step moves on by one from death to death until an enrolment comes through without one."""
    world = World(rig, overrides={"scep.notify": notify}, start=False)
    cue, shim = rig.folder / "cue", rig.programs / "kill_at_sync.so"
    shutil.copy(BUILD / "tests" / "kill_at_sync.so", shim)
    world.connector.env = {"LD_PRELOAD": str(shim), "KILL_AT_SYNC": str(cue)}
    steps, certificates, device = {}, [], None
    for when in ("before", "after"):
        step, survived = 0, False
        while not survived:
            step += 1
            cue.unlink(missing_ok=True)
            world.connector.start(wait=False)
            world.scep.wait_ready()
            if device is None:
                world.learn()
                device = Device(world, "device1")
            challenge = world.challenge(device.name)
            cue.write_text(f"{step} {when}")
            certificate = device.try_once(challenge)

            def settled():
                status = world.scep.status()
                return not world.connector.process.running() or (status and status["notificationsDue"] == 0 and
                                                                 status.get("oldestRequestDateTime") is None)
            wait_until(settled, f"death {when} step {step}, or the enrolment's end", 60)
            survived = world.connector.process.running()
            if not survived:
                cue.unlink(missing_ok=True)
                world.connector.start(wait=False)
                world.scep.wait_ready()
                again = device.enrol(challenge)
                assert certificate is None or certificate == again, "another certificate for the same request"
                certificate = again
            certificates.append(certificate)
            world.connector.process.stop()
            assert step < 60
        steps[when] = step - 1
    # Its row, the serial, the certificate, the outcome: an enrolment cannot do with less.
    assert min(steps.values()) >= 4, steps
    cue.unlink(missing_ok=True)
    world.connector.start(wait=False)
    world.scep.wait_ready()
    check_books(world, certificates)


def test_the_service_has_the_first_word(rig):
    """before-reply: what the service does not accept nobody gets, and it is revoked; what it cannot take just now waits."""
    world = World(rig, overrides={"scep.notify": "before-reply"})
    world.learn()
    device = Device(world, "device1")
    world.service.admin("PUT", "faults", {"path": "ScepActions/successNotification", "code": "ChallengeExpired", "count": 1})
    with pytest.raises(AssertionError, match="badRequest"):
        device.try_once(world.challenge(device.name))
    states = [c["state"] for c in world.scep.authority.listed() if c["profile"] != "scep-ra"]
    assert states == ["revoked"]
    assert [event["id"] for event in world.scep.admin_events()] == [4002]

    world.service.admin("PUT", "faults", {"path": "ScepActions/successNotification", "status": 503})
    challenge = world.challenge(device.name)
    assert device.try_once(challenge) is None
    assert world.scep.status()["notificationsDue"] == 1
    world.service.admin("DELETE", "faults")
    certificate = device.enrol(challenge)
    check_books(world, [certificate])
