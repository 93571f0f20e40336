# SPDX-License-Identifier: MIT
"""certconnector explain: the story of a request, whatever became of it, and what to do about it."""

import json
import shlex
import signal

import pytest
from cryptography import x509

from pki_rig import events_of, order
from rig import Recipient, wait_until
from scep_message import FAILURE, PENDING, SUCCESS, make_csr
from test_scep import SUBJECT
from test_scep_pending import KEY, World


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.rig.close()


def explain(world, asked):
    return json.loads(world.connector.cli("explain", asked, "--json").stdout)


def explain_or_none(world, asked):
    done = world.connector.cli("explain", asked, "--json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def story(world, asked, outcome):
    """Once it has come so far; it is checked for what holds of each."""
    def told():
        said = explain_or_none(world, asked)
        return said.get("outcome") == outcome and said
    said = wait_until(told, f"{asked} is explained as {outcome}")
    steps = said["steps"]
    times = [step["time"] for step in steps]
    assert times == sorted(times) and all(step["text"] and step["source"] for step in steps)
    assert "afterMs" not in steps[0] and all(step["afterMs"] >= 0 for step in steps[1:])
    assert said["asked"] == asked
    return said


def ids(said):
    return [step["id"] for step in said["steps"] if "id" in step]


def follow(world, advice):
    """Does what it says, word for word."""
    command = advice.split(": ", 1)[1].split(",", 1)[0]
    program, *words = shlex.split(command)
    assert program == "certconnector"
    world.connector.cli(*words)


def ask_pkcs(world, **members):
    return world.service.admin("POST", "pkcsRequests", order(Recipient(), certificateTemplateName="server", subjectName="CN=host1,O=Contoso",
                                                             **members))["requestId"]


def test_pkcs_that_waits_is_tried_again_and_succeeds(world):
    request = ask_pkcs(world)
    wait_until(lambda: explain_or_none(world, request).get("waitsFor", "").startswith("an administrator of the CA"), "it waits for somebody")
    said = story(world, request, "waiting")
    assert said["kind"] == "PKCS request" and said["user"] == "user1@contoso.example" and said["ca"] == "corp"
    assert said["daemonAnswers"] and "1020" in map(str, ids(said)) and 1000 not in ids(said)
    shown = world.connector.cli("explain", request).stdout
    assert "waiting, for " in shown and "an administrator of the CA" in shown and "[1020]" in shown

    # Without the daemon the same is known, and that there is none.
    world.connector.process.stop()
    said = story(world, request, "waiting")
    assert not said["daemonAnswers"] and "no daemon answers here" in said["waitsFor"]
    world.connector.start(wait=False)
    world.scep.wait_ready()
    wait_until(lambda: ids(explain(world, request)).count(1051) >= 1, "it was tried again")

    follow(world, explain(world, request)["advice"])
    assert world.service.wait_done(request)["state"] == "completed"
    said = story(world, request, "succeeded")
    assert {1020, 1050, 1051, 1102, 1000} <= set(ids(said))
    assert "waitsFor" not in said and "advice" not in said and "failure" not in said
    assert "in force" in said["certificate"] and said["serialNumber"] in said["certificate"]
    shown = world.connector.cli("explain", request.upper()).stdout
    assert "succeeded; from first to last step" in shown and "[1000]" in shown and "what to do" not in shown

    # By its serial number, as openssl and browsers write it; a revocation is part of the story.
    serial = said["serialNumber"]
    world.connector.cli("ca", "revoke", "--serial", serial, "--reason", "superseded")
    pairs = ":".join(serial[i:i + 2] for i in range(0, len(serial), 2))
    said = story(world, pairs.lower(), "succeeded")
    assert said["requestId"] == request and 1020 in ids(said)
    assert said["steps"][-1]["text"].endswith("was revoked (superseded)") and "revoked: superseded" in said["certificate"]


def test_a_certificate_that_only_the_ca_knows(world):
    """Issued at the command line: there is no request, and no event of one."""
    csr = world.connector.folder / "by-hand.csr"
    csr.write_bytes(make_csr(KEY, SUBJECT))
    csr.chmod(0o644)
    pem = world.connector.cli("ca", "issue", "--profile", "server", "--csr", csr).stdout
    serial = f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:X}"
    serial = serial.rjust(len(serial) + len(serial) % 2, "0")
    said = story(world, serial, "succeeded")
    assert said["ca"] == "corp" and "in force" in said["certificate"]
    assert f'CA "corp" issued certificate {serial}' in [step["text"] for step in said["steps"]]
    world.connector.cli("ca", "revoke", "--serial", serial, "--reason", "superseded")
    said = story(world, serial, "succeeded")
    assert said["steps"][-1]["text"].endswith("was revoked (superseded)") and "revoked: superseded" in said["certificate"]


def test_pkcs_that_failed(world):
    request = world.service.admin("POST", "pkcsRequests", order(Recipient(), certificateTemplateName="Nowhere"))["requestId"]
    events_of(world.connector, request, (1001,))
    said = story(world, request, "failed")
    assert said["errorCode"] == "BadRequest" and "Nowhere" in said["failure"]
    assert "[profile] templates" in said["advice"] and "waitsFor" not in said
    assert {1052, 1001} <= set(ids(said)) and 1000 not in ids(said)
    shown = world.connector.cli("explain", request).stdout
    assert "failed" in shown and "what to do" in shown and "BadRequest" in shown


def test_a_result_that_the_service_does_not_take_yet(world):
    world.service.admin("PUT", "faults", {"path": "PkcsRequests/upload", "status": 503, "count": 1000})
    request = world.service.admin("POST", "pkcsRequests", order(Recipient(), certificateTemplateName="Nowhere"))["requestId"]
    wait_until(lambda: explain_or_none(world, request).get("waitsFor") == "the service to take its result, and is tried again; the service does not "
               "answer well", "it waits for the service")
    assert "events 30" in explain(world, request)["advice"]
    world.service.admin("DELETE", "faults")
    story(world, request, "failed")


def test_scep_that_waits_and_succeeds(world):
    csr, transaction = world.request()
    assert world.ask(csr, transaction).send().status == PENDING
    said = story(world, transaction, "waiting")
    assert said["kind"] == "SCEP request" and said["waitsFor"].startswith("an administrator of the CA")
    assert {4003, 4004} <= set(ids(said))
    follow(world, said["advice"])
    certificate = world.poll(transaction).certificates[0]
    said = story(world, transaction, "succeeded")
    wait_until(lambda: 4000 in ids(explain(world, transaction)), "the service was told")
    serial = f"{certificate.serial_number:X}"
    for name in (said["requestId"], serial):
        again = story(world, name, "succeeded")
        assert again["transactionId"] == transaction and int(again["serialNumber"], 16) == certificate.serial_number
        assert {4003, 4004, 4006, 4000} <= set(ids(again))


def test_scep_that_failed(world):
    csr, transaction = make_csr(KEY, SUBJECT, "a challenge of nobody"), "fails-1"
    assert world.ask(csr, transaction).send().status == FAILURE
    said = story(world, transaction, "failed")
    assert 4005 in ids(said) and "was refused: ChallengeDecodingError" in said["failure"] and "a challenge serves one request" in said["advice"]
    csr, transaction = world.request()
    assert world.ask(csr, transaction).send().status == PENDING
    world.decide("deny", "--reason", "nobody knows this device")
    assert world.poll(transaction).status == FAILURE
    said = wait_until(lambda: (said := explain(world, transaction))["outcome"] == "failed" and 4001 in ids(said) and said, "it was denied")
    assert "nobody knows this device" in said["failure"] and said["advice"]


def test_archives_are_read(world):
    def fail():
        request = world.service.admin("POST", "pkcsRequests", order(Recipient(), certificateTemplateName="Nowhere"))["requestId"]
        events_of(world.connector, request, (1001,))
        return request

    request = fail()
    before = story(world, request, "failed")
    text = world.connector.config.read_text()
    world.connector.config.write_text(text.replace("[log]", "[log]\nmax-size = 4K"))
    world.connector.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: any("max-size" in event["message"] for event in world.connector.events("--id", "12")), "the size is in force")
    for channel in ("admin", "operational"):
        live = world.connector.log / f"{channel}.log"
        wait_until(lambda: request not in live.read_text() or not fail(), f"the {channel} log is archived")
    assert story(world, request, "failed")["steps"] == before["steps"]
    world.connector.config.write_text(text)


def test_what_was_tried_for_days_is_told_in_short(world):
    request = world.service.admin("POST", "pkcsRequests", order(Recipient(), certificateTemplateName="Nowhere"))["requestId"]
    events_of(world.connector, request, (1001,))
    with open(world.connector.log / "operational.log", "a") as log:
        for number in range(30):
            log.write(json.dumps({"time": f"2031-01-{number + 1:02}T12:00:00.000Z", "id": 1051, "name": "PkcsIssuedFailedAttempt", "channel": "Operational",
                                  "category": "PKCS", "level": "Warning", "connector": "connector-1", "message": f"attempt number {number}",
                                  "requestId": request}, separators=(",", ":")) + "\n")
    assert ids(explain(world, request)).count(1051) == 30
    shown = world.connector.cli("explain", request).stdout
    assert [f"attempt number {number}  " in shown for number in (0, 1, 28, 29)] == [True, False, False, True]
    assert "and 28 more times  [1051]" in shown


def test_what_is_not_known(world):
    done = world.connector.cli("explain", "00000000-0000-0000-0000-000000000000", check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    for part in ("nothing is known", str(world.connector.log), "archives", "journal", "state store"):
        assert part in done.stderr
    for wrong in ([], ["a", "b"], [""], ["x" * 400]):
        assert world.connector.cli("explain", *wrong, check=False).returncode == 2


def test_what_cannot_be_looked_into_is_said(world):
    csr, transaction = world.request()
    assert world.ask(csr, transaction).send().status == PENDING
    world.decide()
    assert world.ask(csr, transaction).send().status == SUCCESS
    wait_until(lambda: 4000 in ids(explain(world, transaction)), "its events stand")
    text = world.connector.config.read_text()
    try:
        world.connector.config.write_text(text.replace(world.connector.store, f"sqlite:{world.connector.folder}/no/such.db"))
        said = story(world, transaction, "succeeded")
        assert "such.db" in said["storeError"] and {4003, 4006, 4000} <= set(ids(said))
        world.connector.config.write_text(text.replace(f"directory = {world.connector.log}", f"directory = {world.connector.folder}/nowhere"))
        said = story(world, transaction, "succeeded")
        assert "nowhere" in said["logError"] and ids(said) == [] and said["steps"]
    finally:
        world.connector.config.write_text(text)
