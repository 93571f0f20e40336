# SPDX-License-Identifier: MIT
"""The history checker: a small true history has no findings, and each way to break it is found by its name."""

import ast
import copy
import pathlib
import sys
import types
import unittest.mock

import pytest

CHECKER = pathlib.Path(__file__).resolve().parent / "history.py"
sys.path.insert(0, str(CHECKER.parent))
from history import (Answer, Certificate, Device, Event, FAILED, FAILURE, History, Lease, Order, Remark, Request, Transaction,  # noqa: E402
                     Upload, check)


def true_history():
    """A certificate delivered after a lost race; one that was revoked; a PFX done at the second attempt; a refused request; two
    devices, one of which asked twice, and one of which was refused."""
    return History(
        orders=[Order("issued", "issue"), Order("revoked", "issue"), Order("import", "pfx-import"), Order("refused", "issue", FAILED),
                Order("revocation", "revocation", serial="0B")],
        requests=[
            Request("issued", "issue", "completed",
                    leases=[Lease("c1", 100, 200), Lease("c2", 200, 300, 250)],
                    uploads=[Upload("c2", "accepted", serial="A1"), Upload("c2", "duplicate"),
                             Upload("c1", "alreadyCompleted", serial="A2")]),
            Request("revoked", "issue", "completed", leases=[Lease("c1", 100, 200, 150)], uploads=[Upload("c1", "accepted", serial="B")]),
            Request("import", "pfx-import", "completed", leases=[Lease("c1", 100, 200, 120), Lease("c2", 130, 230, 150)],
                    uploads=[Upload("c1", "accepted", False, requeued=True), Upload("c2", "accepted")]),
            Request("refused", "issue", "failed", leases=[Lease("c1", 100, 200, 150)], uploads=[Upload("c1", "accepted", False)]),
            Request("revocation", "revocation", "completed", uploads=[Upload("", "accepted")], serial="0B"),
        ],
        devices=[Device("d1", "t1", "h1", answers=[Answer("SUCCESS", "D1", "F1"), Answer("SUCCESS", "D1", "F1")]),
                 Device("d2", "t2", "h2", FAILURE, heard=False, answers=[Answer("FAILURE")]),
                 Device("d3", "t3", "h3", FAILURE, answers=[Answer("FAILURE")])],
        transactions=[Transaction("t1", "h1", "success", 2, 0, "F1"), Transaction("t2"), Transaction("t3", "h3", "failure", 1)],
        certificates=[Certificate("corp", "A1"), Certificate("corp", "A2", True, "superseded"), Certificate("corp", "B", True, "unspecified"),
                      Certificate("corp", "D1"), Certificate("corp", "E1", ours=True),
                      Certificate("corp", "E2", True, "cessationOfOperation", ours=True, issued=False)],
        crls={"corp": [{"A2", "B", "E2"}, {"A2", "B", "E2"}]},
        events=[Event("c2", 1000, "issued"), Event("c1", 1000, "revoked"), Event("c2", 2000, "import"), Event("c1", 1001, "refused"),
                Event("c1", 3000, "revocation"), Event("c1", 4000, "r1", "t1"), Event("c2", 4001, "r2", "t2"), Event("c1", 4001, "r2", "t2"),
                Event("c2", 4001, "r3", "t3")],
        remarks=[Remark("c1", 40, 1000 * n) for n in range(20)] + [Remark("c2", 42, 100 * n) for n in range(20)])


def one(items, **members):
    (found,) = [item for item in items if all(getattr(item, name) == value for name, value in members.items())]
    return found


def put(kind, members, **values):
    """A break that sets members of the one item of a list that has these."""
    def change(history):
        item = one(getattr(history, kind), **members)
        for name, value in values.items():
            assert getattr(item, name) != value, "nothing is broken by this"
            setattr(item, name, value)
    return change


def drop(kind, **members):
    def change(history):
        items = getattr(history, kind)
        items.remove(one(items, **members))
    return change


def add(kind, item):
    return lambda history: getattr(history, kind).append(copy.deepcopy(item))


def upload(request, **values):
    return lambda history: one(history.requests, id=request).uploads.append(Upload("c9", **values))


def answer(device, *values):
    return lambda history: one(history.devices, name=device).answers.append(Answer(*values))


def both(*changes):
    def change(history):
        for each in changes:
            each(history)
    return change


BREAKS = {
    "a request vanished at the service": (both(drop("requests", id="import"), drop("events", request="import")), "lost", "import"),
    "a request came from nowhere": (
        add("requests", Request("x", "pfx-import", "completed", uploads=[Upload("c1", "accepted")])), "unordered", "x"),
    "the service has a request twice": (lambda h: h.requests.append(copy.deepcopy(one(h.requests, id="import"))), "twice", "import"),
    "a request is still queued": (put("requests", {"id": "import"}, state="queued"), "not ended", "import"),
    "a request is still leased": (put("requests", {"id": "issued"}, state="leased"), "not ended", "issued"),
    "a revocation was delivered and never answered": (put("requests", {"id": "revocation"}, state="delivered"), "not ended", "revocation"),
    "a request failed that was to succeed": (put("requests", {"id": "import"}, state="failed"), "wrong end", "import"),
    "a request succeeded that was to fail": (put("requests", {"id": "refused"}, state="completed"), "wrong end", "refused"),
    "two results were accepted": (upload("import", status="accepted"), "results", "import"),
    "no result was accepted": (lambda h: one(h.requests, id="import").uploads.pop(), "results", "import"),
    "an accepted failure stands for a success": (
        lambda h: setattr(one(h.requests, id="revoked").uploads[0], "succeeded", False), "results", "revoked"),
    "two instances had a request at once": (lambda h: setattr(one(h.requests, id="issued").leases[1], "begin_ms", 199), "lease", "issued"),
    "a request was given out while it was worked": (lambda h: setattr(one(h.requests, id="import").leases[0], "ended_ms", None), "lease", "import"),
    "a loser's certificate is valid": (
        both(put("certificates", {"serial": "A2"}, revoked=False), lambda h: [crl.discard("A2") for crl in h.crls["corp"]]), "loser", "A2"),
    "a certificate whose lease was lost is valid": (
        both(upload("import", status="leaseLost", serial="A4"), add("certificates", Certificate("corp", "A4"))), "loser", "A4"),
    "a certificate belongs to nobody": (add("certificates", Certificate("corp", "C7")), "orphan", "C7"),
    "a device never got its certificate": (put("devices", {"name": "d1"}, answers=[Answer("FAILURE")]), "orphan", "D1"),
    "two requests have one certificate": (lambda h: setattr(one(h.requests, id="revoked").uploads[0], "serial", "A1"), "shared", "A1"),
    "a device has the certificate of a request": (
        lambda h: [setattr(a, "serial", "0A1") for a in one(h.devices, name="d1").answers], "shared", "A1"),
    "no CA knows a delivered certificate": (drop("certificates", serial="A1"), "unknown", "A1"),
    "no CA knows a device's certificate": (drop("certificates", serial="D1"), "unknown", "D1"),
    "a delivered certificate was revoked": (
        both(put("certificates", {"serial": "A1"}, revoked=True), lambda h: [crl.add("A1") for crl in h.crls["corp"]]), "wrongly revoked", "A1"),
    "a connector's own certificate was revoked": (
        both(put("certificates", {"serial": "E1"}, revoked=True), lambda h: [crl.add("E1") for crl in h.crls["corp"]]), "wrongly revoked", "E1"),
    "a serial number stands twice": (add("certificates", Certificate("corp", "00a1")), "serial", "A1"),
    "a serial number stands at two CAs": (
        both(add("certificates", Certificate("other", "D1")), lambda h: h.crls.update(other=[set()])), "serial", "D1"),
    "a revocation was forgotten at the CA": (
        both(put("certificates", {"serial": "B"}, revoked=False), lambda h: [crl.discard("B") for crl in h.crls["corp"]]), "not revoked", "revocation"),
    "a revocation is not on the CRL": (lambda h: [crl.discard("B") for crl in h.crls["corp"]], "not on CRL", "B"),
    "a revocation is not on one instance's CRL": (lambda h: h.crls["corp"][1].discard("B"), "not on CRL", "B"),
    "a CRL lists what is not revoked": (lambda h: h.crls["corp"][0].add("D1"), "only on CRL", "D1"),
    "a CA published no CRL": (lambda h: h.crls.clear(), "no CRL", "corp"),
    "a request has no admin event": (drop("events", request="import"), "events", "import"),
    "a request has an event at two instances": (add("events", Event("c1", 1000, "issued")), "events", "issued"),
    "a request has an event twice at one": (add("events", Event("c2", 2000, "import")), "events", "import"),
    "a request failed and then succeeded": (add("events", Event("c9", 2001, "import")), "events", "import"),
    "a success is told as a failure": (put("events", {"request": "import"}, id=2001), "event", "import"),
    "a failure is told as a success": (put("events", {"request": "refused"}, id=1000), "event", "refused"),
    "an event is of another workload": (put("events", {"request": "import"}, id=1000), "event", "import"),
    "an event is about an unknown request": (add("events", Event("c1", 1000, "x")), "event", "x"),
    "an instance says one thing over and over": (
        lambda h: h.remarks.extend(Remark("c1", 42, 5000 + n) for n in range(21)), "storm", "c1"),
    "a device has no answer": (lambda h: one(h.devices, name="d1").answers.clear(), "unanswered", "d1"),
    "a device was refused": (answer("d1", "FAILURE"), "answer", "d1"),
    "a device was not refused": (
        both(put("devices", {"name": "d2"}, answers=[Answer("SUCCESS", "D2", "F2")]), add("certificates", Certificate("corp", "D2"))), "answer", "d2"),
    "a device was left waiting": (answer("d1", "PENDING"), "answer", "d1"),
    "a device has two certificates": (
        both(answer("d1", "SUCCESS", "D9", "F9"), add("certificates", Certificate("corp", "D9"))), "two certificates", "d1"),
    "an enrolment has no admin event": (drop("events", transaction="t1"), "events", "d1"),
    "an enrolment has an event at two instances": (add("events", Event("c2", 4000, "r1", "t1")), "events", "d1"),
    "an enrolment is told as a failure": (put("events", {"transaction": "t1"}, id=4002), "event", "d1"),
    "a refusal is told as an enrolment": (put("events", {"transaction": "t2", "instance": "c2"}, id=4000), "event", "d2"),
    "a refusal has no admin event": (lambda h: h.events.__setitem__(slice(None), [e for e in h.events if e.transaction != "t2"]), "events", "d2"),
    "a denial has an event at two instances": (add("events", Event("c1", 4001, "r3", "t3")), "events", "d3"),
    "an event is about an unknown transaction": (add("events", Event("c1", 4000, "x", "tx")), "event", "tx"),
    "the service was not told": (put("transactions", {"id": "t1"}, outcome=None, count=0), "notification", "d1"),
    "the service never saw the transaction": (drop("transactions", id="t1"), "notification", "d1"),
    "the service was told of a failure": (put("transactions", {"id": "t1"}, outcome="failure"), "notification", "d1"),
    "the service was told of a success": (put("transactions", {"id": "t3"}, outcome="success"), "notification", "d3"),
    "the service was told of another certificate": (put("transactions", {"id": "t1"}, thumbprint="F8"), "notification", "d1"),
    "the service was told of what it refused": (put("transactions", {"id": "t2"}, outcome="failure", count=1), "notification", "d2"),
    "the service was told two things": (put("transactions", {"id": "t1"}, contradictions=1), "contradiction", "d1"),
    "a challenge was good twice": (add("transactions", Transaction("t9", "h1", "success", 1, 0, "F1")), "challenge", "h1"),
    "a challenge was good twice for its device": (lambda h: h.transactions.append(copy.deepcopy(one(h.transactions, id="t1"))), "challenge", "h1"),
    "a challenge was good for a stranger": (add("transactions", Transaction("t9", "h9")), "challenge", "h9"),
    "a challenge was good for another device": (
        put("transactions", {"id": "t1"}, challenge="h2"), "challenge", "h2"),
}


def test_a_true_history():
    assert check(true_history()) == []


def test_an_empty_history():
    assert check(History()) == []


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_found(name):
    change, kind, about = BREAKS[name]
    history = true_history()
    change(history)
    found = check(history)
    assert (kind, about) in {(finding.check, finding.about) for finding in found}, [str(finding) for finding in found]


def mutants():
    """The checker with one of its findings taken out, each in turn; and which."""
    def findings(tree):
        return [node for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    text = CHECKER.read_text()
    for n in range(len(findings(ast.parse(text)))):
        tree = ast.parse(text)
        taken_out = findings(tree)[n]
        what = f"line {taken_out.lineno}: {ast.unparse(taken_out)}"
        taken_out.value = ast.Constant(None)
        module = types.ModuleType("history_without")
        with unittest.mock.patch.dict(sys.modules, {module.__name__: module}):  # dataclasses look there
            exec(compile(ast.fix_missing_locations(tree), CHECKER.name, "exec"), module.__dict__)
        yield what, module.check


def misses(check_less, break_):
    change, kind, about = break_
    history = true_history()
    change(history)
    return (kind, about) not in {(finding.check, finding.about) for finding in check_less(history) if finding is not None}


def test_every_finding_has_its_break():
    """Nothing that the checker looks for can be taken out without a test that fails."""
    assert [what for what, check_less in mutants() if not any(misses(check_less, each) for each in BREAKS.values())] == []
