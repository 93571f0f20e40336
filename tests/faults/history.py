# SPDX-License-Identifier: MIT
"""What a crowd of connectors did, as the books of all sides have it, and whether it adds up: nothing lost, nothing twice.

Nothing here runs or asks anything.  A History holds what was ordered, what the service wrote down, what the CAs have, what
stands on their CRLs, the admin events of all instances, and what devices were answered; check() compares them and returns
every contradiction that it finds."""

import collections
import dataclasses
import typing

COMPLETED, FAILED = "completed", "failed"
SUCCESS, FAILURE = "SUCCESS", "FAILURE"  # pkiStatus of a CertRep

# Admin events that end a request, by its kind: of success, of failure.
END_EVENTS = {"issue": (1000, 1001), "recrypt": (1200, 1201), "pfx-import": (2000, 2001), "revocation": (3000, 3001), "scep": (4000, 4001)}
SCEP_END_EVENTS = (4000, 4001, 4002)


@dataclasses.dataclass
class Lease:
    """A request given out; ended_ms: when it was given back or a result was taken, None where it ran out."""
    connector: str
    begin_ms: int
    until_ms: int
    ended_ms: typing.Optional[int] = None


@dataclasses.dataclass
class Upload:
    """A result that came, and what the service said: accepted, duplicate (the very same again), alreadyCompleted, leaseLost."""
    connector: str
    status: str
    succeeded: bool = True
    requeued: bool = False  # a failure that is tried again
    serial: typing.Optional[str] = None


@dataclasses.dataclass
class Request:
    """As the service has it; of the queues and of revocation alike."""
    id: str
    kind: str  # issue, recrypt, pfx-import, revocation
    state: str
    leases: list = dataclasses.field(default_factory=list)
    uploads: list = dataclasses.field(default_factory=list)
    serial: typing.Optional[str] = None  # of a revocation: what is to be revoked


@dataclasses.dataclass
class Order:
    """What was asked for, and how it has to end."""
    id: str
    kind: str
    want: str = COMPLETED
    serial: typing.Optional[str] = None  # of a revocation


@dataclasses.dataclass
class Certificate:
    """A row of a CA's database; ours: one that the connector issued for itself; issued: not only begun, and given up."""
    authority: str
    serial: str
    revoked: bool = False
    reason: typing.Optional[str] = None
    ours: bool = False
    issued: bool = True


@dataclasses.dataclass
class Event:
    """An admin event about a request."""
    instance: str
    id: int
    request: str
    transaction: typing.Optional[str] = None


@dataclasses.dataclass
class Remark:
    """An admin event about the instance itself."""
    instance: str
    id: int
    at_ms: int


@dataclasses.dataclass
class Answer:
    """What a device was told: SUCCESS with a certificate, or FAILURE."""
    status: str
    serial: typing.Optional[str] = None
    thumbprint: typing.Optional[str] = None


@dataclasses.dataclass
class Device:
    """One key and transaction; want: how its enrolment has to end; heard: whether the service learns how it ended."""
    name: str
    transaction: str
    challenge: str  # its id
    want: str = SUCCESS
    heard: bool = True
    answers: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Transaction:
    """As the service has it: who was validated, and what it was told."""
    id: str
    challenge: typing.Optional[str] = None
    outcome: typing.Optional[str] = None  # success, failure, None: it was told nothing
    count: int = 0
    contradictions: int = 0
    thumbprint: typing.Optional[str] = None


@dataclasses.dataclass
class History:
    orders: list = dataclasses.field(default_factory=list)
    requests: list = dataclasses.field(default_factory=list)
    devices: list = dataclasses.field(default_factory=list)
    transactions: list = dataclasses.field(default_factory=list)
    certificates: list = dataclasses.field(default_factory=list)
    crls: dict = dataclasses.field(default_factory=dict)  # authority: a list of what each of its publishers has, sets of serials
    events: list = dataclasses.field(default_factory=list)
    remarks: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Finding:
    check: str
    about: str
    text: str

    def __str__(self):
        return f"{self.check}: {self.about}: {self.text}"


def number(serial):
    """Serial numbers are compared as numbers; how they are written differs."""
    return serial and serial.upper().lstrip("0")


def twice(items):
    return [item for item, count in collections.Counter(items).items() if count > 1]


# ---- requests of the queues, and of revocation ----

def check_orders(history):
    """All that was ordered is there, once, and nothing else."""
    ordered, known = {order.id for order in history.orders}, [request.id for request in history.requests]
    for request_id in sorted(ordered - set(known)):
        yield Finding("lost", request_id, "the service does not know the request")
    for request_id in sorted(set(known) - ordered):
        yield Finding("unordered", request_id, "nobody ordered the request")
    for request_id in twice(known):
        yield Finding("twice", request_id, "the service has the request twice")


def check_ends(history):
    """Each has ended, as it had to, with one result."""
    want = {order.id: order.want for order in history.orders}
    for request in history.requests:
        final = [upload for upload in request.uploads if upload.status == "accepted" and not upload.requeued]
        if request.state not in (COMPLETED, FAILED):
            yield Finding("not ended", request.id, f"its state is {request.state}")
            continue
        if request.state != want.get(request.id, request.state):
            yield Finding("wrong end", request.id, f"it {request.state}, and {want[request.id]} was expected")
        if len(final) != 1:
            yield Finding("results", request.id, f"{len(final)} results were accepted for good")
        elif final[0].succeeded != (request.state == COMPLETED):
            yield Finding("results", request.id, f"it {request.state}, and its result says otherwise")


def check_leases(history):
    """No two instances have the same request at the same time."""
    for request in history.requests:
        leases = sorted(request.leases, key=lambda lease: lease.begin_ms)
        for before, after in zip(leases, leases[1:]):
            end = before.until_ms if before.ended_ms is None else min(before.ended_ms, before.until_ms)
            if after.begin_ms < end:
                yield Finding("lease", request.id, f"given to {after.connector} while {before.connector} had it, {end - after.begin_ms} ms too soon")


# ---- certificates ----

def owners(history):
    """Who holds a certificate, by serial number: requests with accepted results, and devices."""
    found = collections.defaultdict(set)
    for request in history.requests:
        for upload in request.uploads:
            if upload.status == "accepted" and upload.succeeded and upload.serial:
                found[number(upload.serial)].add(request.id)
    for device in history.devices:
        for answer in device.answers:
            if answer.serial:
                found[number(answer.serial)].add(device.name)
    return found


def losers(history):
    """Serial numbers of results that the service did not take."""
    return {number(upload.serial): request.id for request in history.requests for upload in request.uploads
            if upload.status in ("alreadyCompleted", "leaseLost") and upload.serial}


def check_serials(history):
    """No serial number stands twice, in one CA's database or in two."""
    for serial in twice(number(certificate.serial) for certificate in history.certificates):
        yield Finding("serial", serial, "was given twice")


def check_certificates(history):
    """What is valid belongs to one accepted result or one device; what anybody holds is valid unless its revocation was asked for."""
    held, asked, lost = owners(history), {number(order.serial) for order in history.orders if order.kind == "revocation"}, losers(history)
    known = {number(certificate.serial): certificate for certificate in history.certificates}
    for serial, certificate in known.items():
        if certificate.ours and certificate.revoked and certificate.issued and serial not in asked:
            yield Finding("wrongly revoked", serial, f"is a connector's own, and was revoked ({certificate.reason})")
        if certificate.ours or certificate.revoked or serial in held:
            continue
        if serial in lost:
            yield Finding("loser", serial, f"the result of {lost[serial]} was not taken and its certificate is valid")
        else:
            yield Finding("orphan", serial, f"is valid at {certificate.authority}, and nobody has it")
    for serial, who in held.items():
        certificate = known.get(serial)
        if len(who) > 1:
            yield Finding("shared", serial, "is held by " + " and ".join(sorted(who)))
        if certificate is None:
            yield Finding("unknown", serial, f"is held by {min(who)}, and no CA has it")
        elif certificate.revoked and serial not in asked:
            yield Finding("wrongly revoked", serial, f"is held by {min(who)}, and was revoked ({certificate.reason})")


def check_revocations(history):
    """What was to be revoked is, at the CA and on each CRL; and a CRL has nothing else."""
    known = {number(certificate.serial): certificate for certificate in history.certificates}
    for order in history.orders:
        if order.kind != "revocation" or order.want != COMPLETED:
            continue
        certificate = known.get(number(order.serial))
        if certificate is None or not certificate.revoked:
            yield Finding("not revoked", order.id, f"{order.serial} is not revoked at the CA")
    for authority, crls in history.crls.items():
        revoked = {number(c.serial) for c in history.certificates if c.authority == authority and c.revoked}
        for crl in crls:
            listed = {number(serial) for serial in crl}
            for serial in sorted(revoked - listed):
                yield Finding("not on CRL", serial, f"is revoked, and not on a CRL of {authority}")
            for serial in sorted(listed - revoked):
                yield Finding("only on CRL", serial, f"is on a CRL of {authority}, and not revoked in its database")
    for authority in sorted({certificate.authority for certificate in history.certificates} - set(history.crls)):
        yield Finding("no CRL", authority, "has published none")


# ---- admin events ----

def check_events(history):
    """Each request that ended has one admin event over all instances, of the right kind."""
    events = collections.defaultdict(list)
    for event in history.events:
        if event.id not in SCEP_END_EVENTS:
            events[event.request].append(event)
    for request in history.requests:
        found = events.pop(request.id, [])
        good, bad = END_EVENTS[request.kind]
        if len(found) != 1:
            told = ", ".join(f"{event.id} of {event.instance}" for event in found)
            yield Finding("events", request.id, f"{request.kind}, {request.state}: {len(found)} admin events ({told})")
        elif found[0].id != (good if request.state == COMPLETED else bad):
            yield Finding("event", request.id, f"it {request.state}, and its event is {found[0].id}")
    for request_id, found in events.items():
        yield Finding("event", request_id, f"event {found[0].id} of {found[0].instance} is about an unknown request")


STORM_EVENTS, STORM_MS = 20, 10000  # what is said so often in so little time tells nobody anything


def check_remarks(history):
    """No instance says one thing over and over."""
    said = collections.defaultdict(list)
    for remark in history.remarks:
        said[remark.instance, remark.id].append(remark.at_ms)
    for (instance, event_id), times in said.items():
        times.sort()
        if any(later - earlier < STORM_MS for earlier, later in zip(times, times[STORM_EVENTS:])):
            yield Finding("storm", instance, f"says event {event_id} again and again, {len(times)} times in all")


# ---- SCEP ----

def check_devices(history):
    """Each device came to its end, and all that it was answered is the same."""
    for device in history.devices:
        statuses = {answer.status for answer in device.answers}
        certificates = {(number(answer.serial), answer.thumbprint) for answer in device.answers if answer.status == SUCCESS}
        if not statuses:
            yield Finding("unanswered", device.name, "has no answer")
        elif statuses != {device.want}:
            yield Finding("answer", device.name, f"was told {' and '.join(sorted(statuses))}, and {device.want} was expected")
        if len(certificates) > 1:
            yield Finding("two certificates", device.name, "was given " + " and ".join(sorted(str(serial) for serial, _ in certificates)))


def check_device_events(history):
    """One admin event for each transaction; of one that the service found nothing good in nobody keeps a record, and each message has one."""
    events = collections.defaultdict(list)
    for event in history.events:
        if event.id in SCEP_END_EVENTS:
            events[event.transaction].append(event)
    good, bad = END_EVENTS["scep"]
    for device in history.devices:
        found = events.pop(device.transaction, [])
        wrong = {event.id for event in found} - {good if device.want == SUCCESS else bad}
        if not found or (len(found) > 1 and device.heard):
            told = ", ".join(f"{event.id} of {event.instance}" for event in found)
            yield Finding("events", device.name, f"SCEP, {device.want}: {len(found)} admin events ({told})")
        for event_id in sorted(wrong):
            yield Finding("event", device.name, f"{device.want} was expected, and its event is {event_id}")
    for transaction, found in events.items():
        yield Finding("event", str(transaction), f"event {found[0].id} of {found[0].instance} is about an unknown transaction")


def check_notifications(history):
    """The service heard of each outcome, of the certificate that the device has, and never of two."""
    told = {transaction.id: transaction for transaction in history.transactions}
    for device in history.devices:
        transaction = told.get(device.transaction)
        wanted = device.want.lower() if device.heard else None
        if transaction is None or transaction.outcome != wanted or (wanted and transaction.count < 1):
            yield Finding("notification", device.name, f"{wanted} was to be told, and the service heard {transaction and transaction.outcome}")
        elif wanted and device.answers and transaction.thumbprint != device.answers[-1].thumbprint:
            yield Finding("notification", device.name, f"the service heard of certificate {transaction.thumbprint}, and the device has another")
        if transaction is not None and transaction.contradictions:
            yield Finding("contradiction", device.name, f"the service heard {transaction.contradictions} times something else")


def check_challenges(history):
    """A challenge was good for one transaction, that of the device it was made for."""
    wanted = {device.transaction: device for device in history.devices}
    used = [transaction for transaction in history.transactions if transaction.challenge]
    for challenge in twice(transaction.challenge for transaction in used):
        yield Finding("challenge", challenge, "was good for two transactions")
    for transaction in used:
        device = wanted.get(transaction.id)
        if device is None:
            yield Finding("challenge", transaction.challenge, f"was good for transaction {transaction.id}, which no device made")
        elif device.challenge != transaction.challenge:
            yield Finding("challenge", transaction.challenge, f"was good for {device.name}, which was given another")


CHECKS = (check_orders, check_ends, check_leases, check_serials, check_certificates, check_revocations, check_events, check_remarks,
          check_devices, check_device_events, check_notifications, check_challenges)


def check(history):
    """All findings; none: nothing was lost, and nothing done twice."""
    return [finding for one in CHECKS for finding in one(history)]
