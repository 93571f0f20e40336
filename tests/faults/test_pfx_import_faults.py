# SPDX-License-Identifier: MIT
"""A thousand imported-PFX requests while something dies all the time: every request ends accepted exactly once, with
one admin event, and the token is as it was."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from rig import Pfx, Recipient, Rig, as_service_user, wait_until  # noqa: E402

REQUESTS = 1000
P11_KIT_CLIENT = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
P11_KIT_SERVER = "/usr/libexec/p11-kit/p11-kit-server"


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def setting(rig):
    """Token, service with an uploaded PFX, recipient; the connector is the test's own."""
    token = rig.token()
    return token, rig.service("--lease-seconds", "20"), Pfx("user1@contoso.example"), Recipient()


def repeat(action, seconds, done):
    """Runs action every so often in a thread until done is set."""
    def loop():
        while not done.wait(seconds()):
            action()
    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def work_through(service, pfx, recipient, trouble, every, at_least):
    """Sends the requests while trouble happens, and more on a machine that is done with them before trouble has
    happened often enough; returns the ids when all are done."""
    done, count = threading.Event(), [0]

    def action():
        if trouble():
            count[0] += 1
    ids = service.enqueue(pfx, recipient, REQUESTS)
    thread = repeat(action, every, done)
    try:
        service.wait_none_open(240)
        while count[0] < at_least:
            ids += service.enqueue(pfx, recipient, REQUESTS // 4)
            service.wait_none_open(240)
    finally:
        done.set()
        thread.join()
    return ids


def check_exactly_once(service, connector, ids, pfx, recipient):
    requests = service.all_requests()
    assert set(requests) == set(ids)
    assert {request["state"] for request in requests.values()} == {"completed"}
    counts = service.counts()
    assert counts["uploads"]["accepted"] == len(ids), counts
    for request_id in random.Random(1).sample(sorted(ids), 20):
        result = service.request(request_id)["result"]
        assert result["succeeded"] and recipient.read(result) == pfx.password
    # The last admin events may be written a moment after the service has accepted.
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")
    events = connector.admin_events()
    assert set(events) == set(ids)
    for request_id, written in events.items():
        assert [event["id"] for event in written] == [2000], written


def check_token(before, token):
    assert token.object_bytes() == before
    assert all(before.values())


def token_signal(connector, number):
    def send():
        pid = connector.token_pid()
        if not pid:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True
    return send


def test_token_process_killed_every_200_ms(rig, setting):
    token, service, pfx, recipient = setting
    before = token.object_bytes()
    connector = rig.connector(service, token)
    service.upload(pfx, connector.public_key())
    ids = work_through(service, pfx, recipient, token_signal(connector, signal.SIGKILL), lambda: 0.2, 10)
    check_exactly_once(service, connector, ids, pfx, recipient)
    check_token(before, token)
    assert connector.status()["token"]["restarts"] >= 10


def test_token_process_stopped(rig, setting):
    token, service, pfx, recipient = setting
    before = token.object_bytes()
    connector = rig.connector(service, token, overrides={"token.deadline": "1s"})
    service.upload(pfx, connector.public_key())
    ids = work_through(service, pfx, recipient, token_signal(connector, signal.SIGSTOP), lambda: 0.2, 2)
    check_exactly_once(service, connector, ids, pfx, recipient)
    check_token(before, token)


def test_daemon_killed(rig, setting):
    token, service, pfx, recipient = setting
    before = token.object_bytes()
    connector = rig.connector(service, token)
    service.upload(pfx, connector.public_key())
    chance = random.Random(2)

    def kill_and_start():
        connector.process.kill()
        connector.start(wait=False)
        return True
    ids = work_through(service, pfx, recipient, kill_and_start, lambda: chance.uniform(0.15, 0.45), 3)
    connector.wait_ready()
    check_exactly_once(service, connector, ids, pfx, recipient)
    check_token(before, token)


class RemoteToken:
    """The same token behind p11-kit's server, as a network HSM would be."""

    def __init__(self, rig, token):
        self.label, self.pin_file, self.module = token.label, token.pin_file, P11_KIT_CLIENT
        self.socket = rig.folder / "p11-kit" / "socket"
        rig.private_folder(self.socket.parent)
        self.env = {**token.env, "P11_KIT_SERVER_ADDRESS": f"unix:path={self.socket}"}
        self.token = token
        self.process = None
        rig.started.append(self)
        self.start()

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.process = ServerProcess(self)
        wait_until(self.socket.exists, "p11-kit's server listens")

    def pin(self):
        return self.token.pin()


class ServerProcess:
    """p11-kit's server forks a process a connection: killed as the process group that it is."""

    def __init__(self, remote):
        self.child = subprocess.Popen(
            as_service_user([P11_KIT_SERVER, "-f", "-n", remote.socket, "--provider", remote.token.module,
                             "pkcs11:"]),
            env=dict(os.environ, **remote.env, XDG_RUNTIME_DIR=str(remote.socket.parent)), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)

    def kill(self):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait(10)


def test_p11_kit_server_killed_and_restarted(rig, setting):
    token, service, pfx, recipient = setting
    before = token.object_bytes()
    remote = RemoteToken(rig, token)
    connector = rig.connector(service, remote)
    service.upload(pfx, connector.public_key())

    def kill_and_start():
        remote.process.kill()
        remote.start()
        return True
    ids = work_through(service, pfx, recipient, kill_and_start, lambda: 0.7, 2)
    check_exactly_once(service, connector, ids, pfx, recipient)
    check_token(before, token)
