# SPDX-License-Identifier: MIT
"""The books of service, CA, event log and devices, held against one another after something died."""

from cryptography.hazmat.primitives import hashes

from rig import wait_until


def plain_serial(text):
    return text.lstrip("0").upper()


def serial_of(certificate):
    return f"{certificate.serial_number:X}"


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


def check_requests(service, connector, ids):
    """Each ended once: completed, one upload of it accepted and any other the very same again, one admin event of its success.
    Returns what the service has of each."""
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed", 60)
    known = service.all_requests()
    assert set(ids) <= set(known)
    assert {request_id: known[request_id]["state"] for request_id in ids} == dict.fromkeys(ids, "completed")
    requests = {request_id: service.request(request_id) for request_id in ids}
    for request in requests.values():
        accepted = [e for e in request["history"] if e["event"] == "uploaded" and e["status"] == "accepted"]
        assert len(accepted) == 1, request["history"]
    events = connector.admin_events()
    wrong = {request_id: [event["id"] for event in events.get(request_id, ())] for request_id in ids
             if [event["id"] for event in events.get(request_id, ())] not in ([1000], [1200], [2000])}
    assert not wrong, wrong
    return requests


def delivered(requests):
    """Serial number by request id of those that were for a certificate: each has one of its own."""
    serials = {request_id: plain_serial(request["result"]["certificateSerialNumber"]) for request_id, request in requests.items()
               if request["result"].get("certificateSerialNumber")}
    assert len(set(serials.values())) == len(serials), "two requests have the same certificate"
    return serials


def check_told(scep, certificates):
    """Devices have each a certificate of their own, the service heard of each and of no other, and it has one admin event.
    Returns what the service heard by thumbprint."""
    want = {thumbprint(certificate) for certificate in certificates}
    assert len(want) == len(certificates), "two devices have the same certificate"

    def told():
        status = scep.status()
        return status and status["notificationsDue"] == 0 and status["inWork"] == 0
    wait_until(told, "the service was told of everything", 60)
    heard = {}
    for transaction in all_transactions(scep.connector.service):
        notification = transaction.get("notification")
        if notification and notification["kind"] == "success":
            heard[notification["members"]["certificateThumbprint"]] = notification
    assert set(heard) == want
    assert {notification["contradictions"] for notification in heard.values()} <= {0}

    def events():
        return [event for event in scep.admin_events() if event.get("thumbprint") in want]
    wait_until(lambda: len(events()) >= len(want), "every certificate has its admin event", 30)
    assert sorted(event["thumbprint"] for event in events()) == sorted(want)
    assert {event["id"] for event in events()} <= {4000}
    return heard


def check_in_force(authority, serials):
    """At the CA these certificates are in force, besides those of a SCEP server itself, and no other is: what nobody got is
    found and revoked, at the latest a minute later."""
    want = set(serials)

    def difference():
        return want ^ {plain_serial(c["serialNumber"]) for c in authority.listed() if c["state"] != "revoked" and c["profile"] != "scep-ra"}
    try:
        wait_until(lambda: not difference(), "what nobody got is revoked", 120)
    except AssertionError as e:
        odd = difference()
        raise AssertionError(f"{e}: missing {odd & want}, orphans {[c for c in authority.listed() if plain_serial(c['serialNumber']) in odd]}") from e
    unfinished = [c for c in authority.listed() if c["state"] not in ("issued", "revoked")]
    assert not unfinished, unfinished
