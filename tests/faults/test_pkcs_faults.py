# SPDX-License-Identifier: MIT
"""PKCS requests while the connector dies at random: each ends once, each certificate of the CA belongs to exactly one accepted
result, and one that nobody got is revoked."""

import pathlib
import random
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from books import check_in_force, check_requests, delivered  # noqa: E402
from pki_rig import TOKEN_KEYS, connector_with_ca, open_result, order  # noqa: E402
from rig import Recipient, Rig  # noqa: E402

REQUESTS = 1000


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def test_a_thousand_with_the_daemon_killed(rig):
    service = rig.service("--lease-seconds", "20")
    connector, authority = connector_with_ca(rig, service, rig.token(kinds=TOKEN_KEYS), features="pkcs")
    recipient, chance, done = Recipient(), random.Random(4), threading.Event()
    kills = [0]

    def trouble():
        while not done.wait(chance.uniform(0.3, 0.9)):
            connector.process.kill()
            connector.start(wait=False)
            kills[0] += 1
    ids = service.admin("POST", "pkcsRequests", order(recipient, subjectName="CN=user%d,O=Contoso", count=REQUESTS))["requestIds"]
    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        service.wait_none_open(300)
        while kills[0] < 5:
            ids += service.admin("POST", "pkcsRequests", order(recipient, count=REQUESTS // 4))["requestIds"]
            service.wait_none_open(300)
    finally:
        done.set()
        thread.join()
    connector.wait_ready()
    finished = check_requests(service, connector, ids)
    for request_id in chance.sample(sorted(ids), 10):
        open_result(finished[request_id]["result"], recipient)
    serials = delivered(finished)
    assert len(serials) == len(ids)
    check_in_force(authority, serials.values())
