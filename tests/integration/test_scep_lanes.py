# SPDX-License-Identifier: MIT
"""Two CAs behind one SCEP server: what one of them cannot do is no other's loss."""

import pytest
import requests

from rig import Rig, wait_until
from scep_message import PKCS_REQ, SUCCESS, Message, Server, make_csr, new_key, self_signed
from scep_rig import CHALLENGE, TOKEN_KEYS, connector_with_scep, generate_key
from test_scep import SUBJECT, x509_chain

LAB_KEY = "pkcs11:object=lab"
TURNED_AWAY = 12
FAILURES = 5  # in a row, then a CA is tried with one message at a time


def profiles(rig, key):
    return f"""
[ca "lab"]
kind = local
key = {key}

[scep-profile "lab"]
ca = lab
challenge = static
challenge-secret = file:{rig.folder}/scep.secret
"""


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


class Devices:
    """Each enrols once, at one of the two profiles."""

    def __init__(self, scep):
        self.scep, self.key = scep, new_key()
        self.http = requests.Session()
        self.http.trust_env = False
        self.chains = {profile: self.chain(profile) for profile in ("", "lab")}

    def url(self, profile):
        return self.scep.url + (f"/{profile}" if profile else "")

    def chain(self, profile):
        class At:
            get = staticmethod(lambda query: self.scep.get(query, self.url(profile)))
        return x509_chain(At)[:-1]

    def enrol(self, profile):
        server = Server(self.url(profile), self.http, self.chains[profile])
        return Message(server, self.key, self_signed(self.key), make_csr(self.key, SUBJECT, CHALLENGE), kind=PKCS_REQ).send()


def ca_events(scep):
    return [(e["name"], e.get("ca")) for e in scep.connector.events("--channel", "admin") if e["id"] in (73, 74)]


def test_a_ca_that_fails_turns_away_its_own_devices_only(rig):
    token = rig.token(kinds=TOKEN_KEYS)
    generate_key(token, rig.programs, "ca", "ca", "lab")
    scep = connector_with_scep(rig, rig.service(), token, start=False)
    config = scep.connector.config
    config.write_text(config.read_text() + profiles(rig, LAB_KEY))
    scep.connector.cli("ca", "init", "--ca", "lab", "--subject", "CN=Contoso Lab CA")
    scep.connector.start(wait=False)
    scep.wait_ready()
    devices = Devices(scep)
    assert devices.enrol("lab").status == SUCCESS
    # Its key is gone from the token, as far as the connector can see.
    scep.connector.process.stop()
    text = config.read_text()
    assert text.count(LAB_KEY) == 1
    config.write_text(text.replace(LAB_KEY, "pkcs11:object=gone"))
    scep.connector.start(wait=False)
    scep.wait_ready()
    for _ in range(TURNED_AWAY):
        answer = devices.enrol("lab")
        assert answer.status_code == 503 and int(answer.http.headers["Retry-After"]) > 0
        assert devices.enrol("").status == SUCCESS
    assert ca_events(scep) == [("CaUnavailable", "lab")]
    # Not each of them was worked on.
    received = [e for e in scep.connector.events("--category", "SCEP") if e["name"] == "ScepRequestReceived" and e.get("ca") == "lab"]
    assert FAILURES <= len(received) < 1 + TURNED_AWAY
