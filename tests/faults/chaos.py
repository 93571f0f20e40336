# SPDX-License-Identifier: MIT
"""A crowd of connectors on one token and one service, devices that enrol, certificates that are revoked, and a monkey that
kills, stops, fills disks and turns clocks all the while.  When it is over the books of all sides are compared (history.py).

As a program: chaos.py --requests 5000 --instances 100 [--store sqlite] [--seed N]; ends with 0 when there is no finding."""

import argparse
import collections
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from cryptography import x509

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]
import history as books  # noqa: E402
from crowd import Options, World  # noqa: E402
from rig import run, wait_until  # noqa: E402
from workload import Work  # noqa: E402

DAY_S = 86400
SETTLE_S = 240  # at the most, from the end of all trouble until everybody is at rest
CLOSE_S = 150  # and then until what nobody got is revoked, for which connectors look once a minute


class Journal:
    """What happened to whom, with its time; counted by kind."""

    def __init__(self, path):
        self.lock, self.counts, self.file = threading.Lock(), collections.Counter(), open(path, "w")

    def note(self, kind, text=""):
        with self.lock:
            self.counts[kind] += 1
            self.file.write(f"{datetime.datetime.utcnow().isoformat(timespec='milliseconds')}Z {kind} {text}\n")
            self.file.flush()


# ---- trouble ----

def send(pid, number):
    """A signal, unless the process has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Monkey:
    """Does harm, and undoes it a while later; one thing at a time to each instance."""

    SERVICE_FAULTS = ({"status": 429, "retryAfter": 1}, {"status": 503, "rate": 0.7}, {"status": 500, "rate": 0.5}, {"dropRate": 0.5},
                      {"dropRate": 1.0, "dropWhen": "after", "rate": 0.5}, {"latencyMs": 1500})
    SERVICE_PATHS = ("Requests/", "PkcsRequests/upload", "PfxImportRequests/upload", "Requests/download", "Requests/renewLeases",
                     "CertificateAuthorityRequests/", "ScepActions/", "ScepActions/successNotification", "oauth2/")

    def __init__(self, world, seed):
        self.world, self.chance, self.journal = world, random.Random(seed), Journal(world.rig.folder / "chaos.log")
        self.ends = []  # (when, what undoes it, whom it concerns)
        self.troubled = set()
        self.died = []

    def actions(self):
        """(how often, what, to whom); None: there is no such thing."""
        return [(4, self.kill, self.world.instances), (2, self.stop, self.world.instances), (4, self.kill_token, self.world.instances),
                (2, self.fill_disk, [one for one in self.world.instances if one.disk]),
                (2, self.turn_clock, [one for one in self.world.instances if one.clock]), (3, self.spoil_service, [self.world.service]),
                (1, self.restart_postgres, [self.world.postgres]), (1, self.cut_postgres, [self.world.postgres])]

    def run(self, over):
        actions = [action for action in self.actions() if action[2] and action[2][0]]
        while not over.wait(self.chance.expovariate(1 / self.world.options.trouble_s)):
            self.undo(time.monotonic())
            self.look_after()
            [(_, action, whom)] = self.chance.choices(actions, [weight for weight, *_ in actions])
            victim = self.chance.choice(whom)
            if id(victim) not in self.troubled and len(self.troubled) < max(2, len(self.world.instances) // 3):
                action(victim)
        self.undo()

    def until(self, seconds, victim, undo):
        self.troubled.add(id(victim))
        self.ends.append((time.monotonic() + seconds, undo, victim))

    def undo(self, before=None):
        for end in list(self.ends):
            if before is None or end[0] <= before:
                self.ends.remove(end)
                end[1]()
                self.troubled.discard(id(end[2]))

    def look_after(self):
        """As a service manager: who ended by itself is started again, and who crashed is told of."""
        for instance in self.world.instances:
            if instance.expected_end or instance.process.running():
                continue
            code = instance.process.child.returncode
            self.journal.note("ended by itself", f"{instance.name} {code}")
            self.died.append((instance.name, code, instance.process.output()[-1500:]))
            instance.start(wait=False)

    def kill(self, instance):
        self.journal.note("kill", instance.name)
        instance.expected_end = True
        instance.process.kill()

        def again():
            instance.start(wait=False)
            instance.expected_end = False
            self.journal.note("start", instance.name)
        self.until(self.chance.uniform(0.2, 5), instance, again)

    def stop(self, instance):
        self.journal.note("stop", instance.name)
        send(instance.process.pid, signal.SIGSTOP)

        def go_on():
            send(instance.process.pid, signal.SIGCONT)
            self.journal.note("continue", instance.name)
        self.until(self.world.options.lease_s + self.chance.uniform(1, 6), instance, go_on)

    def kill_token(self, instance):
        self.journal.note("kill token", instance.name)
        for pid in instance.children():
            send(pid, signal.SIGKILL)

    def fill_disk(self, instance):
        self.journal.note("fill disk", instance.name)
        instance.fill()

        def free():
            instance.free()
            self.journal.note("free disk", instance.name)
        self.until(self.chance.uniform(2, 8), instance, free)

    def turn_clock(self, instance):
        days = self.chance.choice((-1, 1))
        self.journal.note("turn clock", f"{instance.name} {days:+d} day")
        instance.turn_clock(days * DAY_S)

        def back():
            instance.turn_clock(0)
            self.journal.note("turn clock back", instance.name)
        self.until(self.chance.uniform(3, 12), instance, back)

    def spoil_service(self, service):
        fault = {"path": self.chance.choice(self.SERVICE_PATHS), **self.chance.choice(self.SERVICE_FAULTS), "seed": self.chance.randrange(10 ** 6)}
        self.journal.note("spoil service", json.dumps(fault))
        self.world.admin("PUT", "faults", fault)

        def mend():
            self.world.admin("DELETE", "faults")
            self.journal.note("mend service")
        self.until(self.chance.uniform(1, 4), service, mend)

    def cut_postgres(self, postgres):
        self.journal.note("postgres connections cut")
        postgres.cut_connections("certconnector")

    def restart_postgres(self, postgres):
        mode = self.chance.choice(("fast", "immediate"))
        self.journal.note(f"postgres {mode}")
        postgres.stop(mode)

        def again():
            postgres.start()
            self.journal.note("postgres started")
        self.until(self.chance.uniform(0, 2), postgres, again)


# ---- the end ----

def settle(world, work, monkey):
    """Waits until everybody is at rest; what is not, when time is up, and what was the last to come to rest."""
    left, last = {}, {}

    def at_rest():
        monkey.look_after()
        counts, left_now = world.admin("GET", "counts"), {}
        waiting = counts["requests"]["queued"] + counts["requests"]["leased"]
        revocations = counts["revocation"]["queued"] + counts["revocation"]["delivered"]
        if waiting or revocations or work.devices.busy():
            left_now["service"] = f"{waiting} requests, {revocations} revocations, {work.devices.busy()} devices"
        else:
            left_now.update((one.name, what) for one in world.instances if (what := one.unsettled()))
        left.clear()
        left.update(left_now)
        if left:
            last.clear()
            last.update(left)
        return not left
    try:
        wait_until(at_rest, "everything is at rest", SETTLE_S)
    except AssertionError:
        pass
    return left, last


def parse_ms(text):
    return text and int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def read_request(world, row):
    """A request of the queues with its history, which says nothing of renewals: a lease lasted at least as long as it says."""
    full = world.admin("GET", f"requests/{row['requestId']}")
    kind = "pfx-import" if row["feature"] == "pfx-import" else row["kind"]
    request = books.Request(row["requestId"], kind, row["state"])
    for event in full["history"]:
        if event["event"] == "leased":
            request.leases.append(books.Lease(event["connectorId"], parse_ms(event["dateTime"]), parse_ms(event["leaseExpirationDateTime"])))
        elif event["event"] == "uploaded":
            result = event.get("result", {})  # none: the very same again
            request.uploads.append(books.Upload(event["connectorId"], event["status"], result.get("succeeded", False),
                                                event.get("requeued", False), result.get("certificateSerialNumber")))
        if event["event"] in ("uploaded", "released") and request.leases and event.get("status") in (None, "accepted"):
            request.leases[-1].ended_ms = parse_ms(event["dateTime"])
    return request


def read_revocation(world, row):
    full = world.admin("GET", f"revocationRequests/{row['requestId']}")
    request = books.Request(row["requestId"], "revocation", row["state"], serial=row["serialNumber"])
    request.uploads = [books.Upload("", event["status"], event.get("result", {}).get("succeeded", False), event.get("requeued", False))
                       for event in full["history"] if event["event"] == "uploaded"]
    return request


def read_transaction(row):
    told = row.get("notification") or {}
    return books.Transaction(row["transactionId"], row.get("challengeId"), told.get("kind"), told.get("count", 0), told.get("contradictions", 0),
                             told.get("members", {}).get("certificateThumbprint"))


def read_certificates(instance):
    said = instance.cli("ca", "list", "--json", "--state", "all").stdout
    return [books.Certificate(instance.authority, row["serialNumber"], row["state"] == "revoked", row.get("reason"), row["profile"] == "scep-ra",
                              "issuedDateTime" in row)
            for row in json.loads(said)["certificates"]]


def read_crl(instance):
    answer = requests.get(f"http://127.0.0.1:{instance.publisher}/{instance.authority}.crl", timeout=20)
    answer.raise_for_status()
    return {f"{revoked.serial_number:X}" for revoked in x509.load_der_x509_crl(answer.content)}


def read_events(instance, ids):
    """Of its admin log with archives: those about requests, and what it says of itself."""
    for path in sorted(instance.log.glob("admin*")):
        text = run("zstd", "-dc", path).stdout if path.suffix == ".zst" else path.read_text()
        for line in text.splitlines():
            event = json.loads(line)
            if "requestId" in event:
                yield books.Event(instance.name, event["id"], ids.get(event["requestId"], event["requestId"]), event.get("transactionId"))
            else:
                at = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
                yield books.Remark(instance.name, event["id"], int(at.timestamp() * 1000))


def authorities(world):
    """One instance of each CA that answers for it."""
    return list({instance.authority: instance for instance in world.instances}.values())


def read_books(world, work):
    """What does not change any more once everything is at rest."""
    history = books.History(orders=work.orders, devices=work.devices.devices)
    rows, revocations = list(world.pages("requests?$top=1000")), list(world.pages("revocationRequests?$top=1000"))
    with ThreadPoolExecutor(4) as pool:
        history.requests = list(pool.map(lambda row: read_request(world, row), rows))
        history.requests += pool.map(lambda row: read_revocation(world, row), revocations)
    ids = {row["requestContext"]: row["requestId"] for row in revocations}  # events know them by their contexts
    history.transactions = [read_transaction(row) for row in world.pages("scepTransactions?$top=1000")]
    for said in (event for instance in world.instances for event in read_events(instance, ids)):
        (history.events if isinstance(said, books.Event) else history.remarks).append(said)
    return history


def read_authorities(world, history):
    with ThreadPoolExecutor(4) as pool:
        history.certificates = [row for rows in pool.map(read_certificates, authorities(world)) for row in rows]
        history.crls = collections.defaultdict(list)
        for instance, crl in zip(world.instances, pool.map(read_crl, world.instances)):
            history.crls[instance.authority].append(crl)


def close_books(world, work):
    """The findings that stay; what nobody got is looked for by its connector once a minute, and a CRL takes a moment."""
    history, findings = read_books(world, work), []

    def agree():
        read_authorities(world, history)
        findings[:] = books.check(history)
        return not any(finding.check in ("orphan", "loser", "not on CRL", "only on CRL") for finding in findings)
    with contextlib.suppress(AssertionError):
        wait_until(agree, "the books agree", CLOSE_S)
    return history, findings


@dataclasses.dataclass
class Report:
    summary: dict
    findings: list

    def text(self):
        lines = [f"{name}: {value}" for name, value in self.summary.items()]
        shown = [str(finding) for finding in self.findings[:40]]
        return "\n".join(lines + [f"findings: {len(self.findings)}"] + shown)


def finish(world, work, monkey, seconds):
    begin = time.monotonic()
    left, last = settle(world, work, monkey)
    findings = [books.Finding("unsettled", name, what) for name, what in left.items()]
    settled = time.monotonic() - begin
    monkey.journal.note("at rest" if not left else "not at rest", json.dumps(left))
    history, found = close_books(world, work)
    findings += found
    findings += [books.Finding("ended by itself", name, f"with {code}: {output}") for name, code, output in monkey.died]
    memory = world.memory()
    counts = world.admin("GET", "counts")
    trouble = {kind: count for kind, count in sorted(monkey.journal.counts.items())}
    return Report({
        "requests": f"{work.ordered} ordered in {seconds:.0f} s by {len(world.instances)} instances on {world.options.store}, "
                    f"{work.ordered / (seconds + settled):.1f}/s until all was at rest",
        "kinds": dict(collections.Counter(order.kind for order in work.orders), scep=len(work.devices.devices)),
        "seed": world.options.seed,
        "started in": f"{world.start_s:.1f} s",
        "at rest after": f"{settled:.1f} s" + "".join(f"; the last, {name}: {what}" for name, what in list(last.items())[:3]),
        "books closed in": f"{time.monotonic() - begin - settled:.1f} s",
        "trouble": trouble, "ended by itself": dict(collections.Counter(code for _, code, _ in monkey.died)),
        "uploads": counts["uploads"], "leases": counts["leases"], "revocations": counts["revocation"], "scep": counts["scep"],
        "devices": dict(work.devices.tries),
        "certificates": f"{len(history.certificates)}, {sum(c.revoked for c in history.certificates)} revoked",
        "memory": f"{sum(memory):.0f} MiB for all, the most of one {max(memory):.1f} MiB (daemon and token process)",
    }, findings)


def run_chaos(options):
    world = World(options)
    try:
        work, monkey = Work(world, options.seed), Monkey(world, options.seed)
        over, failed = threading.Event(), []

        def trouble():
            try:
                monkey.run(over)
            except BaseException as e:  # told of by the main thread
                failed.append(e)
        thread = threading.Thread(target=trouble)
        begin = time.monotonic()
        try:
            if options.monkey:
                thread.start()
            work.run(threading.Event())
        finally:
            over.set()
            if options.monkey:
                thread.join()
        if failed:
            raise failed[0]
        try:
            return finish(world, work, monkey, time.monotonic() - begin)
        finally:
            work.close()
    finally:
        if options.keep:
            print(f"kept: {world.rig.folder}")
        world.close()


def main():
    defaults = Options()
    parser = argparse.ArgumentParser(prog="chaos.py", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=defaults.requests)
    parser.add_argument("--instances", type=int, default=defaults.instances)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default=defaults.store)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--pace", type=float, default=defaults.pace, help="requests a second")
    parser.add_argument("--lease-s", type=int, default=defaults.lease_s)
    parser.add_argument("--trouble-s", type=float, default=defaults.trouble_s, help="mean seconds from one fault to the next")
    parser.add_argument("--no-monkey", dest="monkey", action="store_false", help="work only")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs and states")
    options = Options(**vars(parser.parse_args()))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # with everything that was started and mounted undone
    report = run_chaos(options)
    print(report.text())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
