# SPDX-License-Identifier: MIT
"""PKCS requests while the connector dies: each ends once, each certificate of the CA belongs to exactly one accepted
result, and one that nobody got is revoked."""

import pathlib
import random
import shutil
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from pki_rig import TOKEN_KEYS, connector_with_ca, open_result, order  # noqa: E402
from rig import BUILD, Recipient, Rig, wait_until  # noqa: E402

REQUESTS = 1000


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def serial_of(text):
    return text.lstrip("0")


def check_books(service, connector, authority, ids, recipient):
    """The books of service and CA agree."""
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed", 60)
    requests = service.all_requests()
    assert set(ids) <= set(requests)
    assert {requests[i]["state"] for i in ids} == {"completed"}
    # Each got one result that was taken; what else was uploaded was the very same again.
    delivered = {}
    for request_id in ids:
        request = service.request(request_id)
        accepted = [e for e in request["history"] if e["event"] == "uploaded" and e["status"] == "accepted"]
        assert len(accepted) == 1, request["history"]
        serial = serial_of(request["result"]["certificateSerialNumber"])
        assert serial not in delivered, f"{request_id} and {delivered[serial]} have the same certificate"
        delivered[serial] = request_id
    for request_id in random.Random(3).sample(sorted(ids), min(10, len(ids))):
        open_result(service.request(request_id)["result"], recipient)

    # At the CA: those are in force, and nothing else is.  A lost one is found and revoked at the latest a minute later.
    def orphans():
        return {serial_of(c["serialNumber"]) for c in authority.listed() if c["state"] != "revoked"} - set(delivered)
    wait_until(lambda: not orphans(), "what nobody got is revoked", 120)
    in_force = {serial_of(c["serialNumber"]) for c in authority.listed() if c["state"] == "issued"}
    assert in_force == set(delivered)
    events = connector.admin_events()
    for request_id in ids:
        assert [event["id"] for event in events[request_id]] == [1000], events[request_id]


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
    check_books(service, connector, authority, ids, recipient)


def test_killed_before_and_after_each_durable_step(rig):
    """The step moves on by one from death to death until a request comes through without one."""
    service = rig.service("--lease-seconds", "3")
    token = rig.token(kinds=TOKEN_KEYS)
    cue, shim = rig.folder / "cue", rig.programs / "kill_at_sync.so"
    shutil.copy(BUILD / "tests" / "kill_at_sync.so", shim)
    connector, authority = connector_with_ca(rig, service, token, features="pkcs", overrides={"pkcs.key-pool": "0"}, start=False)
    connector.env = {"LD_PRELOAD": str(shim), "KILL_AT_SYNC": str(cue)}
    recipient, ids = Recipient(), []
    steps = {}
    for when in ("before", "after"):
        step = 0
        survived = False
        while not survived:
            step += 1
            cue.unlink(missing_ok=True)
            connector.start()
            cue.write_text(f"{step} {when}")
            ids.append(service.admin("POST", "pkcsRequests", order(recipient))["requestId"])
            request_id = ids[-1]
            wait_until(lambda: not connector.process.running() or
                       (service.request(request_id)["state"] == "completed" and connector.journal_open() == 0),
                       f"death {when} step {step}, or the request's end", 60)
            survived = connector.process.running()
            if survived:
                connector.process.stop()
            assert step < 60
        steps[when] = step - 1
    # A journal line, the key, the certificate, the result, its upload: a request cannot do with less.
    assert min(steps.values()) >= 5, steps
    cue.unlink(missing_ok=True)
    connector.start()
    service.wait_none_open(60)
    check_books(service, connector, authority, ids, recipient)
