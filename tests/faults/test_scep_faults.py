# SPDX-License-Identifier: MIT
"""Devices that enrol by SCEP, with strongSwan's client, while the token process dies and the service answers 503:
whoever was told SUCCESS has its certificate at the CA, and the service heard of it exactly once."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from books import check_in_force, check_told, serial_of  # noqa: E402
from rig import Rig, run  # noqa: E402
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
    def __init__(self, rig, overrides=None):
        self.rig = rig
        self.service = rig.service()
        self.token = rig.token(kinds=TOKEN_KEYS)
        self.scep = connector_with_scep(rig, self.service, self.token, overrides={
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


def check_books(world, certificates):
    """Service, CA and event log agree with what devices have."""
    heard = check_told(world.scep, certificates)
    check_in_force(world.scep.authority, map(serial_of, certificates))
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
