# SPDX-License-Identifier: MIT
"""The way of a certificate that the service wants revoked: fetched, revoked at the CA, seen by the world, answered."""

import pytest
from cryptography import x509

from pki_rig import TOKEN_KEYS, ask, connector_with_ca, events_of, open_result
from rig import Recipient, Rig, wait_until

REASON = x509.ReasonFlags.cessation_of_operation


class World:
    """Stand-in, connector with a CA that polls each second, and a device."""

    def __init__(self, rig, **overrides):
        self.rig, self.recipient = rig, Recipient()
        self.service = rig.service("--revocation-cool-down", "1", "--retry-delay-ms", "50")
        settings = {"revocation.reason": "cessationOfOperation"}
        settings.update(overrides)
        self.ids = {}
        self.connector, self.authority = connector_with_ca(rig, self.service, rig.token(kinds=TOKEN_KEYS), overrides=settings)

    def issue(self):
        """(request id, certificate)"""
        done = ask(self.service, self.recipient)
        assert done["result"]["succeeded"], done["result"]
        return done["requestId"], open_result(done["result"], self.recipient)[1]

    def revoke(self, *orders):
        """Contexts, by which look() finds them."""
        ids = self.service.admin("POST", "revocationRequests", list(orders))["requestIds"]
        contexts = [self.service.admin("GET", f"revocationRequests/{i}")["requestContext"] for i in ids]
        self.ids.update(zip(contexts, ids))
        return contexts

    def look(self, context):
        """As the service shows it, with the results that it got as answers."""
        revocation = self.service.admin("GET", f"revocationRequests/{self.ids[context]}")
        return {**revocation, "answers": [e for e in revocation["history"] if e["event"] == "uploaded"]}

    def answered(self, context, seconds=30):
        def done():
            revocation = self.look(context)
            return revocation["answers"] and revocation
        return wait_until(done, f"revocation {context} is answered", seconds)


@pytest.fixture(scope="module")
def world():
    rig = Rig()
    try:
        yield World(rig)
    finally:
        rig.close()


def in_crl(world, serial):
    return world.authority.crl().get_revoked_certificate_by_serial_number(serial)


def test_revoked_and_the_world_sees_it(world):
    request_id, certificate = world.issue()
    assert world.authority.ocsp(certificate) == "good"
    assert in_crl(world, certificate.serial_number) is None

    (context,) = world.revoke({"requestId": request_id})
    done = world.answered(context)
    assert done["state"] == "completed"
    (answer,) = done["answers"]
    assert answer["result"] == {"requestContext": context, "succeeded": True, "errorCode": "None", "errorMessage": None}
    assert world.authority.ocsp(certificate) == "revoked"
    entry = wait_until(lambda: in_crl(world, certificate.serial_number), "the CRL has it")
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == REASON
    assert sorted(events_of(world.connector, context, (3000, 3001))) == [3000, 3020, 3050, 3102]


def test_revoked_before_counts_as_done(world):
    request_id, certificate = world.issue()
    serial = f"{certificate.serial_number:X}"
    world.connector.cli("ca", "revoke", "--serial", serial, "--reason", "keyCompromise")
    (context,) = world.revoke({"requestId": request_id})
    assert world.answered(context)["state"] == "completed"
    # What was said first stands.
    (listed,) = [c for c in world.authority.listed() if c["serialNumber"].lstrip("0") == serial.lstrip("0")]
    assert listed["reason"] == "keyCompromise"


def test_the_same_one_twice_in_one_batch(world):
    request_id, _ = world.issue()
    contexts = world.revoke({"requestId": request_id}, {"requestId": request_id})
    assert {world.answered(context)["state"] for context in contexts} == {"completed"}


def issuer(world):
    return {"issuerName": "CN=Contoso Issuing CA,O=Contoso,C=DE", "caConfiguration": "corp"}


@pytest.mark.parametrize("serial,code", [("00AA11", "CertificateNotFoundError"), ("", None), ("xyz", "ParameterDataInvalidError"),
                                         ("F" * 80, "CertificateNotFoundError"), ("F" * 200, "ParameterDataInvalidError")])
def test_what_cannot_be_revoked(world, serial, code):
    if code is None:
        answer = world.service.http.post(f"{world.service.url}/admin/api/revocationRequests", json={"serialNumber": serial},
                                         headers=world.service.admin_header, timeout=30)
        assert answer.status_code == 400
        return
    (context,) = world.revoke({"serialNumber": serial, **issuer(world)})
    done = world.answered(context)
    assert done["state"] == "failed" and done["result"]["errorCode"] == code
    assert done["result"]["errorMessage"]
    assert sorted(events_of(world.connector, context, (3000, 3001))) == [3001, 3020, 3051, 3102]


def test_another_ca_is_left_to_another_instance(world):
    (context,) = world.revoke({"serialNumber": "0102", "issuerName": "CN=Another CA", "caConfiguration": "elsewhere"})
    # Handed out again and again, and never answered.
    wait_until(lambda: world.look(context)["deliveries"] >= 2, "it was handed out twice")
    assert not world.look(context)["answers"]


def test_an_upload_that_is_not_taken_comes_again(world):
    request_id, certificate = world.issue()
    world.service.admin("PUT", "faults", [{"path": "uploadRevocationResults", "valueFalse": True, "count": 2}])
    (context,) = world.revoke({"requestId": request_id})
    assert world.answered(context, 60)["state"] == "completed"
    assert world.authority.ocsp(certificate) == "revoked"
    assert events_of(world.connector, context, (3000, 3001)).count(3000) == 1


def test_faults_of_the_service(world):
    request_id, _ = world.issue()
    world.service.admin("PUT", "faults", [{"path": "CertificateAuthorityRequests/upload", "status": 503, "retryAfter": 1, "count": 2},
                                          {"path": "CertificateAuthorityRequests/download", "dropRate": 1, "dropWhen": "after", "count": 2}])
    (context,) = world.revoke({"requestId": request_id})
    assert world.answered(context, 60)["state"] == "completed"
    world.service.admin("DELETE", "faults")


def test_killed_on_the_way_it_is_answered_once_it_is_back(world):
    made = [world.issue() for _ in range(3)]
    contexts = world.revoke(*({"requestId": request_id} for request_id, _ in made))
    world.connector.process.kill()
    world.connector.start()
    for context, (_, certificate) in zip(contexts, made):
        assert world.answered(context, 60)["state"] == "completed"
        assert world.authority.ocsp(certificate) == "revoked"


def test_nothing_is_answered_before_the_ca_confirmed():
    """While the token that signs is gone, revocation itself goes on: the database is the CA's word."""
    rig = Rig()
    try:
        world = World(rig, **{"revocation.error-codes": "number", "revocation.issuer-name": "corp"})
        request_id, certificate = world.issue()
        (mine, foreign) = world.revoke({"requestId": request_id}, {"serialNumber": "01", "issuerName": "CN=Another", "caConfiguration": "other"})
        done = world.answered(mine)
        assert done["answers"][0]["result"]["errorCode"] == "0"
        assert world.authority.ocsp(certificate) == "revoked"
        assert not world.look(foreign)["answers"]
    finally:
        rig.close()


def test_foreign_ones_are_refused_where_that_is_set():
    rig = Rig()
    try:
        world = World(rig, **{"revocation.foreign": "refuse"})
        (context,) = world.revoke({"serialNumber": "0102", "issuerName": "CN=Another CA", "caConfiguration": "elsewhere"})
        done = world.answered(context)
        assert done["state"] == "failed" and done["result"]["errorCode"] == "NotSupportedError"
    finally:
        rig.close()
