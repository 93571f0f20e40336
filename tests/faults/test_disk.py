# SPDX-License-Identifier: MIT
"""A disk that is full, read-only, or fails to sync: what was acknowledged is durable, nothing is taken while nothing can be
made durable, status and events say so once, and work goes on by itself when there is room."""

import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import pytest
import requests
from cryptography import x509

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from pki_rig import open_result, order  # noqa: E402
from rig import BUILD, USER, Pfx, Recipient, Rig, run, wait_until  # noqa: E402
from scep_message import SUCCESS, Message, Server, make_csr, new_key, self_signed  # noqa: E402
from scep_rig import TOKEN_KEYS, connector_with_scep  # noqa: E402

FEATURES = "pkcs, pfx-import, scep, revocation"
KEY = new_key()  # of all devices: the tests are about the server


class SmallDisk:
    """A tmpfs in place of a folder."""

    def __init__(self, folder, size="24m"):
        self.folder = folder
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=750", "certconnector-test", folder)
        shutil.chown(folder, USER, USER)

    def fill(self):
        """To the last byte."""
        with open(self.folder / "filler", "ab", buffering=0) as f:
            block = 1 << 20
            while block:
                try:
                    f.write(b"\0" * block)
                except OSError:
                    block //= 2

    def fill_behind(self, database):
        """The same, with no room left in the log of the database either, which would last for a while."""
        log = pathlib.Path(f"{database}-wal")

        def filled():
            self.free()
            connection = sqlite3.connect(database, timeout=10)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            self.fill()
            return log.stat().st_size == 0
        wait_until(filled, "the disk and the log of the database are full")

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self):
        run("umount", "--lazy", self.folder, check=False)


class World:
    """Stand-in and a connector with all workloads; state and log may lie on small disks of their own."""

    def __init__(self, disks=(), overrides=None, shim=False, start=True):
        self.rig, self.disks = Rig(), {}
        try:
            self.open(disks, overrides, shim, start)
        except BaseException:
            self.close()
            raise

    def open(self, disks, overrides, shim, start):
        rig = self.rig
        self.service = rig.service("--lease-seconds", "5", "--retry-delay-ms", "50", "--revocation-cool-down", "1")
        self.recipient, self.pfx = Recipient(), Pfx("user1@contoso.example")
        # Before the CA is made, which writes.
        made = rig.private_folder

        def private_folder(path):
            made(path)
            if path.name in disks and path.parent.name == "connector-1":
                self.disks[path.name] = SmallDisk(path)
        rig.private_folder = private_folder
        self.scep = connector_with_scep(rig, self.service, rig.token(kinds=TOKEN_KEYS), features=FEATURES, start=False,
                                        overrides={"scep.challenge": "service", "scep.challenge-secret": None, "pkcs.key-pool": "2",
                                                   "revocation.reason": "superseded", **(overrides or {})})
        self.connector, self.authority = self.scep.connector, self.scep.authority
        self.database = self.connector.state / "state.db"
        if shim:
            library = rig.programs / "disk_fault.so"
            shutil.copy(BUILD / "tests" / "disk_fault.so", library)
            rig.private_folder(rig.folder / "hits")
            self.cue_file = rig.folder / "hits" / "cue"
            self.connector.env = {"LD_PRELOAD": str(library), "DISK_FAULT": str(self.cue_file)}
        self.service.upload(self.pfx, self.connector.public_key())
        self.http = requests.Session()
        self.http.trust_env = False
        if start:
            self.start()

    def start(self):
        self.connector.start()
        self.scep.wait_ready()
        body = self.scep.get("GetCACert")[1]
        pem = subprocess.run(["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=body, capture_output=True,
                             check=True).stdout
        end = b"-----END CERTIFICATE-----"
        chain = [x509.load_pem_x509_certificate(one + end) for one in pem.split(end)[:-1]]
        self.server = Server(self.scep.url, self.http, chain[:-1])

    def close(self):
        self.rig.close()
        for disk in self.disks.values():
            disk.close()
        shutil.rmtree(self.rig.folder, ignore_errors=True)

    def cue(self, text):
        """From now on the disk fails like this, see disk_fault.c."""
        new = self.cue_file.with_name("new")
        new.write_text(text)
        new.chmod(0o644)
        new.rename(self.cue_file)

    # ---- work ----

    def ask_pkcs(self):
        return self.service.admin("POST", "pkcsRequests", order(self.recipient))["requestId"]

    def ask_pfx(self):
        return self.service.enqueue(self.pfx, self.recipient)[0]

    def ask_revocation(self, request_id):
        """Of the certificate that this request got."""
        return self.service.admin("POST", "revocationRequests", [{"requestId": request_id}])["requestIds"][0]

    def message(self, name):
        """A device's first enrolment; the same message may be sent again."""
        made = self.service.admin("POST", "scepChallenges", {"subjectName": f"CN={name},O=Contoso"})
        content = make_csr(KEY, f"O=Contoso, CN={name}", made["challenges"][0]["challenge"])
        return Message(self.server, KEY, self_signed(KEY), content)

    def enrol(self, message, seconds=40):
        """As a device does that is told to come again."""
        def sent():
            try:
                reply = message.send()
            except requests.ConnectionError:
                return None
            assert reply.status_code in (200, 503), reply.status_code
            return reply if reply.status_code == 200 else None
        reply = wait_until(sent, "the device is answered", seconds)
        assert reply.status == SUCCESS
        return reply.certificates[0]

    def pkcs_certificate(self, request_id):
        return open_result(self.service.request(request_id)["result"], self.recipient)[1]

    def revocation(self, request_id):
        return self.service.admin("GET", f"revocationRequests/{request_id}")

    def is_revoked(self, serial):
        return any(int(c["serialNumber"], 16) == serial and c["state"] == "revoked" for c in self.authority.listed())

    # ---- what must hold ----

    def journal_open(self):
        status = self.connector.status()
        return status and sum(count for workload in status["workloads"].values()
                              for state, count in workload.get("journal", {}).items() if state != "closed")

    def state_of(self, what):
        """Of "store" or "eventLog"."""
        status = self.connector.status()
        return status and status[what]["state"]

    def events(self, *ids):
        return [event for event in self.connector.events("--channel", "admin") if event["id"] in ids]

    def whole_lines(self):
        """Every line of the log is one whole event."""
        for name in ("admin.log", "operational.log"):
            data = (self.connector.log / name).read_bytes()
            assert data == b"" or data.endswith(b"\n"), f"{name} ends in half a line"
            for line in data.splitlines():
                json.loads(line)

    def check_books(self, requests_, devices):
        """Each request ended once and has one admin event; the CA's certificates in force are those that somebody has."""
        wait_until(lambda: self.journal_open() == 0, "the journal is closed", 60)
        have = {certificate.serial_number for certificate in devices}
        for request_id in requests_:
            request = self.service.request(request_id)
            assert request["state"] == "completed", request
            taken = [e for e in request["history"] if e["event"] == "uploaded" and e["status"] == "accepted"]
            assert len(taken) == 1, request["history"]
            if "certificate" in request["result"]:
                have.add(self.pkcs_certificate(request_id).serial_number)

        def in_force():
            return {int(c["serialNumber"], 16) for c in self.authority.listed()
                    if c["state"] == "issued" and c["profile"] != "scep-ra"}
        wait_until(lambda: in_force() <= have, "what nobody has is revoked", 70)
        by_request = self.connector.admin_events()
        for request_id in requests_:
            assert len(by_request[request_id]) == 1, by_request[request_id]

        serials = sorted(certificate.serial_number for certificate in devices)

        def told():
            return sorted(int(e["serialNumber"], 16) for e in self.scep.admin_events() if int(e.get("serialNumber", "0"), 16) in serials)
        wait_until(lambda: len(told()) >= len(serials), "the devices' enrolments have their events", 30)
        assert told() == serials
        self.whole_lines()
        check = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        check.close()


@pytest.fixture
def make_world():
    worlds = []

    def make(*args, **options):
        worlds.append(World(*args, **options))
        return worlds[-1]
    yield make
    for world in worlds:
        world.close()


class Load:
    """One request of each workload, asked for while everything works or nothing does."""

    def __init__(self, world, old, name):
        """old: a fulfilled PKCS request, whose certificate is to be revoked."""
        self.world, self.old = world, old
        self.serial = world.pkcs_certificate(old).serial_number
        self.message = world.message(name)
        self.pkcs, self.pfx = world.ask_pkcs(), world.ask_pfx()
        self.revocation = world.ask_revocation(old)

    def check_nothing_taken(self, listens=True):
        """Nobody was told that something is done; a device is told to come again before anything is."""
        world = self.world
        try:
            answer = world.http.post(f"{world.scep.url}?operation=PKIOperation", data=self.message.bytes, timeout=30,
                                     headers={"Content-Type": "application/x-pki-message"})
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        except requests.ConnectionError:
            assert not listens
        for request_id in (self.pkcs, self.pfx):
            assert world.service.request(request_id)["state"] in ("queued", "leased")
        assert world.revocation(self.revocation)["state"] not in ("completed", "failed")

    def finish(self):
        """(requests, certificates of devices); to be done when there is room."""
        world = self.world
        certificate = world.enrol(self.message)
        for request_id in (self.pkcs, self.pfx):
            world.service.wait_done(request_id, 40)
        wait_until(lambda: world.revocation(self.revocation)["state"] == "completed", "the certificate is revoked", 40)
        assert world.is_revoked(self.serial)
        return [self.pkcs, self.pfx], [certificate]


def first_round(world):
    """A PKCS request that is fulfilled."""
    request_id = world.ask_pkcs()
    assert world.service.wait_done(request_id, 40)["state"] == "completed"
    return request_id


@pytest.mark.parametrize("notify, end", [("durable", "goes on"), ("before-reply", "is killed")])
def test_state_disk_full(make_world, notify, end):
    world = make_world(disks=("state",), overrides={"scep.notify": notify})
    connector, disk = world.connector, world.disks["state"]
    old = first_round(world)
    csr = world.rig.folder / "request.csr"
    run("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", world.rig.folder / "request.key", "-subj", "/CN=cli",
        "-out", csr)
    disk.fill_behind(world.database)
    load = Load(world, old, "full")
    wait_until(lambda: world.state_of("store") == "lost", "the store is known to be full")
    load.check_nothing_taken()
    status = connector.status()["store"]
    assert "full" in status["lastError"] and status["outages"] == 1
    # The administrator's commands fail as well, and say why.
    before, out = len(world.authority.listed()), connector.folder / "cli.pem"
    for command in (("issue", "--csr", csr, "--profile", "server", "--out", out), ("revoke", "--serial", f"{load.serial:X}")):
        said = connector.cli("ca", *command, check=False)
        assert said.returncode == 1 and "full" in said.stderr and not out.exists(), (said.stdout, said.stderr)
    assert len(world.authority.listed()) == before and not world.is_revoked(load.serial)
    load.check_nothing_taken()
    assert [event["id"] for event in world.events(40, 41)] == [40]

    if end == "is killed":
        connector.process.kill()
        # It waits for the room that it needs to start, and can be asked what it waits for.
        connector.start(wait=False)
        wait_until(lambda: world.state_of("store") == "lost", "the store is known to be full after a start", 40)
        load.check_nothing_taken(listens=False)
        disk.free()
    else:
        disk.free()
        wait_until(lambda: world.state_of("store") == "ok", "the store is used again")
        assert [event["id"] for event in world.events(40, 41)] == [40, 41]
    asked, devices = load.finish()
    world.check_books(asked, devices)


@pytest.mark.parametrize("notify, end", [("before-reply", "goes on"), ("durable", "is killed")])
def test_log_disk_full(make_world, notify, end):
    world = make_world(disks=("log",), overrides={"scep.notify": notify})
    connector, disk = world.connector, world.disks["log"]
    old = first_round(world)
    # What is under way when the disk is full: done, reported, and not closed before its event is on disk.
    under_way = [world.ask_pkcs() for _ in range(10)]
    disk.fill()
    message = world.message("under-way")
    try:
        reply = message.send()
    except requests.ConnectionError:
        reply = None
    assert reply is None or reply.status_code == 503 or reply.status == SUCCESS
    load = Load(world, old, "full")
    wait_until(lambda: world.state_of("eventLog") == "lost", "the log is known to be full")
    load.check_nothing_taken()
    status = connector.status()["eventLog"]
    assert "space" in status["lastError"] and status["waiting"] > 0 and status["lost"] == 0
    assert "event log" in connector.cli("status").stdout
    world.whole_lines()
    assert connector.process.output().count("events are kept until the log can be written") <= 2  # one a file
    if end == "is killed":
        connector.process.kill()
        connector.start(wait=False)
        wait_until(lambda: world.state_of("eventLog") == "lost", "the log is known to be full after a start")
        world.scep.wait_ready()
        load.check_nothing_taken()
        disk.free()
    else:
        disk.free()
        wait_until(lambda: world.state_of("eventLog") == "ok", "the log is written again")
        wait_until(lambda: [event["id"] for event in world.events(45, 46)] == [45, 46], "the log tells of it")
        assert connector.status()["eventLog"]["waiting"] == 0
    asked, devices = load.finish()
    devices.append(world.enrol(message))
    for request_id in under_way:
        world.service.wait_done(request_id)
    world.check_books(asked + under_way + [old], devices)


@pytest.mark.parametrize("part", ["state.db", "admin.log"])
def test_killed_after_each_failed_sync(make_world, part):
    """What the sync should have made durable is lost, and the daemon dies before it can do anything about it.  The sync that
    fails moves on by one from request to request until a request comes through without it."""
    world = make_world(shim=True, overrides={"pkcs.key-pool": "0"})
    hits = world.cue_file.with_name("cue.hits")
    asked, messages, step, hit = [], [], 0, True
    while hit:
        step += 1
        hits.unlink(missing_ok=True)
        world.cue(f"sync EIO {step} 1 {part} lose")
        asked.append(world.ask_pkcs())
        messages.append(world.message(f"device-{step}"))
        try:
            messages[-1].send()
        except requests.ConnectionError:
            pass
        wait_until(lambda: hits.exists() or (world.service.request(asked[-1])["state"] == "completed" and world.journal_open() == 0),
                   f"sync {step} fails, or the request's end", 40)
        hit = hits.exists()
        world.connector.process.kill()
        world.cue_file.unlink()
        world.start()
        assert step < 40
    assert step > 2
    devices = [world.enrol(message) for message in messages]
    for request_id in asked:
        world.service.wait_done(request_id, 40)
    world.check_books(asked, devices)


def test_syncs_fail_now_and_then(make_world):
    """The daemon goes on by itself; the file of the database is brought up to its log again after a sync of it failed."""
    world = make_world(shim=True)
    hits = world.cue_file.with_name("cue.hits")
    asked = []
    for fault in ("sync EIO 1 1 state.db-wal lose", "sync EIO 2 1 state.db$ lose", "sync EIO 5 1 admin.log lose"):
        hits.unlink(missing_ok=True)
        world.cue(fault)

        def goes_through():
            asked.extend(world.service.admin("POST", "pkcsRequests", order(world.recipient, count=50))["requestIds"])
            world.service.wait_none_open()
            return hits.exists()
        wait_until(goes_through, f"{fault} was met", 60)
    world.cue_file.unlink()
    wait_until(lambda: world.journal_open() == 0, "the journal is closed")
    assert [event["id"] for event in world.events(40, 41)] == [40, 41]  # what stands in its log is safe
    assert [event["id"] for event in world.events(45, 46)] == [45, 46]
    world.connector.process.kill()
    world.start()
    world.check_books(asked, [])


def test_before_reply_is_settled_later(make_world):
    """The device has its certificate, the service the news; the event and the row's end follow when they can."""
    world = make_world(shim=True, overrides={"scep.notify": "before-reply"})
    world.cue("sync EIO 1 1 admin.log lose")
    devices = [world.enrol(world.message("settled"))]
    wait_until(lambda: world.cue_file.with_name("cue.hits").exists(), "the sync fails")
    wait_until(lambda: "oldestRequestDateTime" not in world.scep.status(), "the enrolment is settled", 20)
    world.check_books([], devices)


@pytest.mark.parametrize("fault", ["write EROFS 1 0 state.db", "sync EIO 1 0 .log lose", "write EROFS 1 0 .log"])
def test_all_fail(make_world, fault):
    """Until the disk is changed; killed before that, as an administrator might."""
    world = make_world(shim=True)
    what = "eventLog" if ".log" in fault else "store"
    old = first_round(world)
    world.cue(fault)
    first = world.ask_pkcs()  # may be the one that finds out
    wait_until(lambda: world.state_of(what) == "lost", "the fault is known")
    load = Load(world, old, "broken")
    load.check_nothing_taken()
    if what == "eventLog" and world.service.request(first)["state"] == "completed":
        assert world.journal_open() == 1  # it has no event yet
    world.connector.process.kill()
    world.cue_file.unlink()
    world.start()
    asked, devices = load.finish()
    world.service.wait_done(first)
    world.check_books(asked + [old, first], devices)


def test_service_disk_full():
    """The stand-in says no to what it cannot keep; what it said yes to is there after a crash."""
    rig = Rig()
    disks = []
    made = rig.private_folder

    def private_folder(path):
        made(path)
        if path.name == "service":
            disks.append(SmallDisk(path))
    rig.private_folder = private_folder
    try:
        service = rig.service()
        recipient = Recipient()
        database = service.folder / "state.db"
        accepted = [service.admin("POST", "pkcsRequests", order(recipient))["requestId"]]

        def post():
            answer = service.http.post(f"{service.url}/admin/api/pkcsRequests", json=order(recipient), headers=service.admin_header,
                                       timeout=30)
            if answer.status_code < 300:
                accepted.append(answer.json()["requestId"])
            return answer
        disks[0].fill_behind(database)
        wait_until(lambda: post().status_code >= 500, "a request is refused")
        answer = post()
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0, (answer.status_code, answer.text)
        assert service.process.running()
        service.process.kill()
        disks[0].free()
        service.start()
        assert set(service.all_requests()) == set(accepted)
        assert post().status_code < 300
    finally:
        rig.close()
        for disk in disks:
            disk.close()
        shutil.rmtree(rig.folder, ignore_errors=True)
