# SPDX-License-Identifier: MIT
"""Requests of all workloads while the connector dies at each of its fail points, fails there, and takes its time there.

The first run finds the points that a workload passes. Then each has its turn: requests are under way when the point is reached,
the daemon is started again as systemd would, and goes on with what it finds and with the requests of the next point. What is
passed only when it starts again has its turn after that. In the end the books agree: every request ended once, every certificate
in force belongs to whom has it, every revocation asked for is done, every device that asks again gets what it got."""

import base64
import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from cryptography.hazmat.primitives.serialization import pkcs7

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from books import check_in_force, check_requests, check_told, delivered, plain_serial, serial_of  # noqa: E402
from failpoints import NEEDED, FailPoints  # noqa: E402
from pki_rig import open_result, order  # noqa: E402
from recrypt import envelope  # noqa: E402
from rig import Pfx, Recipient, Rig, wait_until  # noqa: E402
from scep_message import SUCCESS, Message, Server, make_csr, new_key, self_signed  # noqa: E402
from scep_rig import TOKEN_KEYS, connector_with_scep  # noqa: E402

pytestmark = NEEDED
# long: every occurrence of each point, not only the first, and errors one at a time
LONG = os.environ.get("FAILPOINT_SWEEP", "short") == "long"
REACH_SECONDS = 120
READY_KEYS = 2
OURS = ("answer.get.after",)  # what a look at the status passes


class Device:
    """Asks with one and the same message until it has its certificate."""

    def __init__(self, world, profile):
        self.world, self.profile = world, profile
        self.name = f"device{world.next_number()}"
        challenge = world.admin("POST", "scepChallenges", {"subjectName": f"CN={self.name},O=Contoso"})["challenges"][0]["challenge"]
        key = world.keys[profile]
        self.message = Message(world.servers[profile], key, self_signed(key), make_csr(key, f"O=Contoso, CN={self.name}", challenge))
        self.certificate = None

    def ask(self):
        """The certificate; None while it is not to be had."""
        try:
            reply = self.message.send()
        except requests.exceptions.ConnectionError:
            return None
        if reply.status_code == 503:
            return None
        assert reply.status == SUCCESS, (self.name, reply.status_code, reply.status, reply.fail_info)
        return reply.certificates[0]

    def enrol(self):
        self.certificate = wait_until(self.ask, f"{self.name} has its certificate", 90)

    def enrol_again(self):
        again = wait_until(self.ask, f"{self.name} gets an answer again", 30)
        assert again == self.certificate, f"{self.name} got another certificate for the same message"


class World:
    """All workloads on one connector whose fail points can be set; and the model: what was asked for."""

    def __init__(self):
        self.rig = Rig()
        self.lock = threading.Lock()  # guards the number, and is held while the service's administrator is heard
        self.number = 0
        self.points = FailPoints(self.rig)
        self.service = self.rig.service("--lease-seconds", "3", "--retry-delay-ms", "50", "--max-attempts", "1000",
                                        "--revocation-cool-down", "0")
        self.scep = connector_with_scep(
            self.rig, self.service, self.rig.token(kinds=TOKEN_KEYS), features="pkcs, pfx-import, scep, revocation", start=False,
            extra="[scep-profile \"before\"]\nchallenge = service\nnotify = before-reply\n",
            overrides={"scep.challenge": "service", "scep.challenge-secret": None, "pkcs.key-pool": str(READY_KEYS)})
        self.connector, self.authority = self.scep.connector, self.scep.authority
        self.connector.env = self.points.env
        self.recipient, self.pfx = Recipient(), Pfx("user1@contoso.example")
        self.keys = {"": new_key(), "before": new_key()}
        self.pool = ThreadPoolExecutor(16)
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))
        self.ids, self.stock, self.devices, self.enrolments, self.revocations = [], [], [], [], {}
        self.start()
        self.learn()

    def close(self):
        self.pool.shutdown(cancel_futures=True)
        self.rig.close()

    def learn(self):
        """What senders and devices are given beforehand."""
        key = self.connector.public_key()
        self.service.upload(self.pfx, key)
        self.password = base64.b64encode(envelope(key, self.pfx.password)).decode()
        ra = pkcs7.load_der_pkcs7_certificates(self.scep.get("GetCACert")[1])[:-1]
        self.servers = {profile: Server(self.scep.url + (f"/{profile}" if profile else ""), self.http, ra) for profile in self.keys}

    def next_number(self):
        with self.lock:
            self.number += 1
            return self.number

    def admin(self, *arguments):
        with self.lock:
            return self.service.admin(*arguments)

    # ---- the daemon ----

    def start(self):
        self.connector.start(wait=False)
        self.scep.wait_ready()

    def keep_running(self):
        """As systemd does."""
        if self.connector.process.running():
            return False
        self.connector.start(wait=False)
        return True

    # ---- requests ----

    def ask_pkcs(self):
        self.stock.append(self.admin("POST", "pkcsRequests", order(self.recipient, keyAlgorithm="rsa2048"))["requestId"])
        self.ids.append(self.stock[-1])

    def ask_recrypt(self):
        self.ids.append(self.admin("POST", "pkcsRequests", order(
            self.recipient, kind="recrypt", subjectName=None, encryptedPfxBlob=base64.b64encode(self.pfx.blob).decode(),
            encryptedPfxPassword=self.password))["requestId"])

    def ask_pfx_import(self):
        with self.lock:
            self.ids += self.service.enqueue(self.pfx, self.recipient)

    def ask_scep(self, profile=""):
        device = Device(self, profile)
        self.devices.append(device)
        self.enrolments.append(self.pool.submit(device.enrol))

    def ask_scep_before(self):
        self.ask_scep("before")

    def stock_up(self):
        self.stock += self.admin("POST", "pkcsRequests", order(self.recipient, count=20))["requestIds"]
        self.ids += self.stock
        self.wait_done()

    def have_stock(self):
        """A delivered certificate."""
        if not self.stock:
            self.stock_up()
        if self.service.request(self.stock[0])["state"] != "completed":
            self.wait_done()

    def ask_revocation(self):
        """Of a certificate that was delivered before."""
        self.have_stock()
        request_id = self.stock.pop(0)
        self.revocations[request_id] = self.admin("POST", "revocationRequests", [{"requestId": request_id}])["requestIds"][0]

    WORKLOADS = ("pkcs", "recrypt", "pfx_import", "scep", "scep_before", "revocation")

    def ask(self, workload):
        getattr(self, f"ask_{workload}")()

    def revoked(self):
        return all(self.admin("GET", f"revocationRequests/{i}")["state"] == "completed" for i in self.revocations.values())

    def crl_lacks(self):
        """Serial numbers that were to be revoked and are not listed."""
        serials = {int(self.service.request(request_id)["result"]["certificateSerialNumber"], 16) for request_id in self.revocations}
        return serials - {entry.serial_number for entry in self.authority.crl()}

    def is_done(self):
        return all(future.done() for future in self.enrolments) and self.revoked() and self.service.open_requests() == 0

    def wait_done(self, seconds=60):
        def done():
            self.keep_running()
            return self.is_done()
        wait_until(done, "all that was asked for is done", seconds)

    def wait_settled(self):
        """Done, and nothing is left to be told or written down."""
        self.wait_done()

        def settled():
            status = self.scep.status()
            return status and status["notificationsDue"] == 0 and status["inWork"] == 0 and self.connector.journal_open() == 0
        wait_until(settled, "all is told and written down", 90)

    # ---- the points ----

    def trace(self, workload):
        """How often each point is passed by a request and what follows from it. Twice, as other things go on as well."""
        if workload == "revocation":
            self.stock_up()
        passed = []
        for _ in range(2):
            self.wait_settled()
            wait_until(lambda: self.connector.status()["workloads"]["pkcs"]["readyKeys"] >= READY_KEYS, "keys are ready")
            self.points.set()
            self.ask(workload)
            self.wait_settled()
            wait_until(lambda: not self.crl_lacks(), "the CRL has what is revoked")
            passed.append(self.points.passed())
        return {point: min(count, passed[1][point]) for point, count in passed[0].items() if point in passed[1] and point not in OURS}

    def die(self, death):
        """In the middle of requests of all kinds."""
        self.keep_running()
        self.points.set()
        self.have_stock()
        self.points.set(f"{death} = crash@1")
        for workload in self.WORKLOADS:
            self.ask(workload)
        self.connector.process.child.wait(REACH_SECONDS)

    def trace_recovery(self, death):
        """What is passed from the start of a daemon that finds work."""
        self.die(death)
        self.points.set()
        self.wait_settled()
        return {point for point in self.points.passed() if point not in OURS}

    # ---- the books ----

    def check(self):
        self.points.set()
        self.wait_done()
        for future in self.enrolments:
            future.result()
        requests_by_id = check_requests(self.service, self.connector, self.ids)
        serials = delivered(requests_by_id)
        for request_id in self.ids[-3:]:
            result = requests_by_id[request_id]["result"]
            assert result["succeeded"]
            if request_id in serials:
                open_result(result, self.recipient)
            else:
                assert self.recipient.read(result) == self.pfx.password
        for device in self.devices:
            device.enrol_again()
        check_told(self.scep, [device.certificate for device in self.devices])
        self.check_revocations(serials)
        check_in_force(self.authority, {serial for request_id, serial in serials.items() if request_id not in self.revocations} |
                       {serial_of(device.certificate) for device in self.devices})

    def check_revocations(self, serials):
        states = {plain_serial(c["serialNumber"]): c["state"] for c in self.authority.listed()}
        assert {states[serials[request_id]] for request_id in self.revocations} <= {"revoked"}
        wait_until(lambda: not self.crl_lacks(), "the CRL has what is revoked", 60)
        contexts = {self.admin("GET", f"revocationRequests/{i}")["requestContext"] for i in self.revocations.values()}
        events = self.connector.admin_events()
        wrong = {context: [event["id"] for event in events.get(context, ())] for context in contexts
                 if [event["id"] for event in events.get(context, ())] != [3000]}
        assert not wrong, wrong


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def failing_world():
    """One that goes on when something failed, and is given the time to while another world has its crashes."""
    world = World()
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def passed(failing_world):
    """By workload: how often one request passes a point."""
    found = {}
    for workload in World.WORKLOADS:
        found[workload] = failing_world.trace(workload)
        print(f"{workload}: {len(found[workload])} points, passed {sum(found[workload].values())} times")
    print(f"{len(set().union(*found.values()))} points in all")
    return found


def wait_passed(world, points, seconds=REACH_SECONDS):
    """Until these points were passed as often since the rules were set."""
    missing = {}

    def reached():
        running = world.connector.process.running()
        missing.clear()
        missing.update({point: n for point, n in points.items() if world.points.count(point) < n})
        assert running or not missing, \
            f"died on the way to {missing}:\n{world.connector.process.output()[-3000:]}"
        return not missing
    try:
        wait_until(reached, "fail points are passed", seconds)
    except AssertionError as e:
        raise AssertionError(f"{e}: {missing}") from e


def occurrences(points):
    """(point, n): the first time only, or each time that one request passes."""
    return [(point, n) for point in sorted(points) for n in range(1, points[point] + 1 if LONG else 2)]


def together(points):
    """Points that fail in one run: what is before a step and what is after it do not hide one another."""
    if LONG:
        return [{point: n} for point, n in occurrences(points)]
    return [dict.fromkeys((point for point in points if point.endswith(when)), 1) for when in (".before", ".after")]


def crl_points(passed):
    """Of the making of a CRL, which is tried again only some seconds after it failed."""
    return {point: 1 for point in passed["revocation"] if any(step in point for step in (".cadb-crl-", ".put-pieces.", ".sign."))}


@pytest.mark.parametrize("workload", World.WORKLOADS)
def test_an_error_at_each_point(failing_world, passed, workload):
    points = passed[workload]
    if workload == "revocation" and not LONG:
        points = {point: n for point, n in points.items() if point not in crl_points(passed)}
    for points in together(points):
        failing_world.points.set(*(f"{point} = error@{n}" for point, n in points.items()))
        for _ in range(5):  # what one of them fails at the others pass
            failing_world.ask(workload)
        wait_passed(failing_world, points)
        failing_world.wait_done()


def test_all_points_slow(failing_world):
    failing_world.points.set("* = delay:20")
    for workload in World.WORKLOADS * 2:
        failing_world.ask(workload)
    failing_world.wait_done()


def test_errors_of_the_crl(failing_world, passed):
    """Seen to their end when the books are checked."""
    failing_world.points.set(*(f"{point} = error@1" for point in crl_points(passed)))
    failing_world.ask("revocation")


def crash(world, point, n, ask, *rules):
    """At the nth passing, on the way of what ask() asks for."""
    world.have_stock()  # now, as it may wait and start the daemon again
    world.points.set(f"{point} = crash@{n}", *rules)
    world.keep_running()
    ask()
    wait_passed(world, {point: n})
    if not point.startswith("token."):
        world.connector.process.child.wait(10)
    if LONG:
        world.wait_done()


@pytest.mark.parametrize("workload", World.WORKLOADS)
def test_a_crash_at_each_point(world, passed, workload):
    for point, n in occurrences(passed[workload]):
        crash(world, point, n, lambda: world.ask(workload))


# Where it died before: with a certificate that no device has, with a result that was not kept, with an end not written down.
DEATHS = ("store.scepdb-end.before", "store.journal-finish-batch.before", "event.admin.before")


def crash_again(world, death, point):
    """A second death, on the way of what the first one left; whether it is reached depends on what that was."""
    world.die(death)
    world.points.set(f"{point} = crash@1")
    world.keep_running()

    def reached():
        over = world.is_done()
        return world.points.count(point) > 0 or over
    wait_until(lambda: not world.connector.process.running() or reached(), f"{point} is passed, or all is done", REACH_SECONDS)
    return world.points.count(point) > 0


@pytest.mark.parametrize("when", ("before", "after"))
def test_a_crash_while_leases_are_renewed(world, when):
    for service, workload in (("pkcs", "recrypt"), ("pfx-import", "pfx_import")):
        crash(world, f"service.{service}-requests-renew-leases.{when}", 1, lambda: world.ask(workload),
              "channel.reencrypt.before = delay:2000")


def test_a_crash_at_each_point_of_the_next_start(world, passed):
    """The daemon finds work that another crash left, and dies again."""
    known, missed, tried = set().union(*passed.values()), [], 0
    for death in DEATHS:
        found = world.trace_recovery(death) - known
        known |= found
        new = {point for point in found if "renew-leases" not in point}
        if not LONG:  # before a step all is as it was after the one before it; of a call the token's side is enough
            new = {point for point in new if not point.startswith("channel.") and
                   (point.endswith(".after") or point.removesuffix("before") + "after" not in new)}
        print(f"next start after {death}: {len(new)} points more")
        for point in sorted(new):
            if not any(crash_again(world, death, point) for _ in range(2)):
                missed.append(point)
        tried += len(new)
    print(f"not passed again: {missed}")
    # What a clock brings may come too late.
    assert tried > 2 * len(missed)


def test_the_books_agree(world):
    world.check()


def test_the_books_agree_where_it_failed(failing_world, passed):
    wait_passed(failing_world, crl_points(passed))
    failing_world.check()
