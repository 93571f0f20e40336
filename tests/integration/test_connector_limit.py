# SPDX-License-Identifier: MIT
"""A connector that the tenant has no place for: it says so, asks at leisure, and works as soon as there is room."""

import pytest

from helpers_tenant import API_VERSION
from rig import Pfx, Recipient, Rig, wait_until

LIMIT = 100
CONNECTOR_LIMIT, SERVICE_RECOVERED = 35, 31
DOWNLOAD_FAILURE = 2203
ASKS_AGAIN_S = 20


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


class Others:
    """Connectors that say nothing but that they are there."""

    def __init__(self, service):
        self.service, self.header = service, {"Authorization": "Bearer " + service.token()}

    def call(self, action, body):
        url = f"{self.service.url}/RACerts/a1/StatelessPkiConnectorService/Connectors/{action}"
        answer = self.service.http.post(url, json=body, headers={**self.header, "api-version": API_VERSION}, timeout=30)
        assert answer.status_code in (200, 204), answer.text

    def arrive(self, name):
        self.call("heartbeat", {"heartbeat": {"connectorId": name, "version": "1.0.0", "features": ["pfx-import"]}})

    def remove(self, name):
        self.call("remove", {"connectorId": name})


def test_the_101st_connector_waits_for_a_place(rig):
    service, token = rig.service(), rig.token()
    others = Others(service)
    for number in range(LIMIT):
        others.arrive(f"other-{number}")
    connector = rig.connector(service, token, overrides={"service.heartbeat": "1s"}, start=False)
    connector.start(wait=False)
    wait_until(lambda: connector.status() and connector.status()["service"]["contact"] == "connector limit reached",
               "the connector knows that there is no place for it")
    [event] = connector.events("--id", str(CONNECTOR_LIMIT))
    for text in (event["message"], connector.status()["service"]["lastError"]):
        assert "100 connectors" in text and "remove one" in text
    assert "connector limit reached" in connector.cli("status").stdout
    pfx, recipient = Pfx("user@contoso.example"), Recipient()
    service.upload(pfx, connector.public_key())
    [request] = service.enqueue(pfx, recipient)
    # Several heartbeats later nothing is said anew.
    health = len(connector.events("--category", "Health"))
    wait_until(lambda: len(connector.events("--category", "Health")) >= health + 3, "more health messages")
    assert len(connector.events("--id", str(CONNECTOR_LIMIT))) == 1
    assert len(connector.events("--id", str(DOWNLOAD_FAILURE))) == 1
    assert service.request(request)["state"] == "queued"

    others.remove("other-17")
    assert service.wait_done(request, ASKS_AGAIN_S + 30)["state"] == "completed"
    assert len(connector.events("--id", str(SERVICE_RECOVERED))) == 1
    assert connector.status()["service"]["contact"] == "ok"
