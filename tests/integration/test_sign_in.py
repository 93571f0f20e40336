# SPDX-License-Identifier: MIT
"""Signing in with a certificate whose key never leaves the token, judged by a service that verifies every assertion."""

import base64
import os
import signal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from entra import Entra, Proxy, sign
from rig import CLIENT_ID, Rig, TENANT, wait_until

CERTIFICATE = {"service.client-secret": None, "keys.identity": "pkcs11:object=identity", "service.enrol": "no"}


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def entra(rig):
    return Entra(rig)


@pytest.fixture(scope="module")
def token():
    rig = Rig()
    yield rig.token(kinds=("ca=none", "ocsp=none", "audit=none", "scep-ra-sign=none", "scep-ra-encrypt=none",
                           "pfx-import=rsa2048"))
    rig.close()


def make_connector(rig, entra, token, start=True, **overrides):
    """With a certificate that the service knows, unless it is started later."""
    connector = rig.connector(entra, token, overrides=dict(
        CERTIFICATE, **{"service.client-certificate": rig.folder / "client.pem", "service.heartbeat": "500ms",
                        **{name.replace("__", "."): value for name, value in overrides.items()}}), start=False)
    register(rig, entra, connector)
    if start:
        connector.start()
    return connector


def register(rig, entra, connector, public_key=None, chain=()):
    """The certificate that an administrator makes, or one of another key; known to the service from now on."""
    file = rig.folder / "client.pem"
    if public_key is None:
        pem = connector.cli("key", "self-sign", "--role", "identity", "--subject", "CN=client").stdout.encode()
    else:
        pem = sign("client", public_key, entra.ca.subject, entra.ca_key).public_bytes(serialization.Encoding.PEM)
    certificate = x509.load_pem_x509_certificate(pem)
    rig.private_file(file, b"".join([pem, *(c.public_bytes(serialization.Encoding.PEM) for c in chain)]))
    entra.registered = [certificate]
    return certificate


def problem(connector, contact, text):
    status = connector.status()
    return status and status["service"]["contact"] == contact and text in status["service"].get("lastError", "") and status


@pytest.mark.parametrize("alg", [None, "rs256"])
def test_signs_in_with_the_key_in_the_token(rig, entra, token, alg):
    connector = make_connector(rig, entra, token, **({"service__client-assertion": alg} if alg else {}))
    wait_until(lambda: entra.called("Connectors/heartbeat") >= 2, "the connector is at work")
    assert len(entra.assertions) == 2  # for Graph and for the service, and kept
    for header, claims in entra.assertions:
        assert header["alg"] == (alg or "ps256").upper() and header["typ"] == "JWT" and "x5c" not in header
        assert claims["iss"] == claims["sub"] == CLIENT_ID
        assert claims["aud"] == f"{entra.url}/{TENANT}/oauth2/v2.0/token"
        assert all(isinstance(claims[name], int) for name in ("iat", "nbf", "exp"))
    # Who has an assertion is the client for a while: it is nowhere.
    connector.process.stop()
    texts = [connector.process.output()] + [path.read_text(errors="replace") for path in connector.log.iterdir()]
    assert not any("eyJ" in text or token in text for text in texts for token in entra.tokens)


def test_sends_the_chain_when_it_is_wanted(rig, entra, token):
    connector = make_connector(rig, entra, token, start=False, **{"service__client-chain": "yes"})
    own = register(rig, entra, connector, chain=[entra.ca])
    connector.start()
    header, _ = entra.assertions[0]
    assert [base64.b64decode(item) for item in header["x5c"]] == [
        c.public_bytes(serialization.Encoding.DER) for c in (own, entra.ca)]


def test_pfx_command_signs_in_so_too(rig, entra, token):
    connector = make_connector(rig, entra, token, start=False)
    assert connector.cli("pfx", "list").returncode == 0
    assert len(entra.assertions) == 1


def test_certificate_of_another_key_is_told_and_put_right_by_reload(rig, entra, token):
    connector = make_connector(rig, entra, token, start=False)
    register(rig, entra, connector, rsa.generate_private_key(65537, 2048).public_key())
    connector.start(wait=False)
    wait_until(lambda: problem(connector, "sign-in not possible", "is of another key than the one that signs"), "it is told")
    assert entra.called("/token") == 0
    assert [e["error"]["domain"] for e in connector.events("--id", "32")] == ["config"]
    register(rig, entra, connector)
    connector.process.child.send_signal(signal.SIGHUP)
    connector.wait_ready()


def test_files_that_are_no_certificate_stop_the_start(rig, entra, token):
    connector = make_connector(rig, entra, token, start=False)
    (rig.folder / "client.pem").unlink()
    connector.start(wait=False)
    assert connector.process.child.wait(20) == 2
    assert "client.pem: No such file" in connector.process.output()


def test_clock_is_corrected_by_that_of_the_service(rig, entra, token):
    entra.clock_ms = 3 * 3600 * 1000
    make_connector(rig, entra, token)
    assert entra.refusals == [700024]  # then it knew
    assert len(entra.assertions) == 2


def test_refusal_says_what_to_do_and_a_new_certificate_is_used_after_reload(rig, entra, token):
    connector = make_connector(rig, entra, token)
    known, entra.registered = entra.registered, []
    entra.tokens.clear()
    wait_until(lambda: problem(connector, "sign-in refused", "upload the one that [service] client-certificate names"),
               "the refusal is told")
    entra.registered = known
    wait_until(lambda: connector.status()["service"]["contact"] == "ok", "it is let in again")
    # Rotation: the tenant knows the new one alone.
    certificate = register(rig, entra, connector)
    entra.tokens.clear()
    connector.process.child.send_signal(signal.SIGHUP)
    count = len(entra.assertions)
    wait_until(lambda: len(entra.assertions) >= count + 2, "it signed in with the new certificate")
    assert certificate in entra.registered and connector.status()["service"]["contact"] == "ok"


def test_secret_rotated(rig, entra, token):
    connector = rig.connector(entra, token, overrides={"service.heartbeat": "500ms"})
    rig.private_file(entra.secret_file, b"another one")
    entra.tokens.clear()
    connector.process.child.send_signal(signal.SIGHUP)
    beats = entra.called("heartbeat")
    wait_until(lambda: entra.called("heartbeat") >= beats + 2, "it goes on")
    assert entra.refusals == []


def test_token_away_is_no_refusal(rig, entra, token):
    connector = make_connector(rig, entra, token, start=False, **{"token__deadline": "1s"})
    # What the token process needs is moved away, so that it cannot come up again.
    tokens = token.folder / "tokens"
    tokens.rename(token.folder / "away")
    connector.start(wait=False)
    wait_until(lambda: problem(connector, "sign-in not possible", "sign-in for the Graph token: assertion: "), "it cannot sign in")
    wait_until(lambda: connector.status()["token"]["state"] == "lost", "the token is away")
    assert entra.called("/token") == 0
    wait_until(lambda: {e["id"] for e in connector.events("--category", "general")} >= {21, 32}, "both are told")
    assert not [e for e in connector.events() if "refused to sign" in e["message"]]
    (token.folder / "away").rename(tokens)
    connector.wait_ready()


def test_token_process_killed_while_it_signs(rig, entra, token):
    connector = make_connector(rig, entra, token)
    killed = 0
    for _ in range(3):
        killed = wait_until(lambda: (connector.token_pid() or killed) != killed and connector.token_pid(), "there is a process")
        os.kill(killed, signal.SIGKILL)
        count = len(entra.assertions)
        entra.tokens.clear()
        wait_until(lambda: len(entra.assertions) > count, "it signed in by the next process")
    wait_until(lambda: connector.status()["service"]["contact"] == "ok", "all is well")
    assert entra.refusals == []


@pytest.mark.parametrize("cloud, authority, graph, resource", [
    ("public", "login.microsoftonline.com", "graph.microsoft.com", "https://api.manage.microsoft.com/"),
    ("usgov", "login.microsoftonline.us", "graph.microsoft.us", "https://api.manage.microsoft.us/"),
    ("dod", "login.microsoftonline.us", "dod-graph.microsoft.us", "https://api.manage.microsoft.us/"),
    ("china", "login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn", "https://api.manage.example/"),
])
def test_addresses_of_the_clouds(rig, token, cloud, authority, graph, resource):
    """What is really called, through a proxy that leads every name to us."""
    host = resource.split("/")[2].replace("api.", "fef.")
    entra = Entra(rig, names=(authority, graph, host), service=host)
    proxy = Proxy(rig, entra.port)
    make_connector(rig, entra, token, **{
        "service__cloud": cloud, "service__authority": None, "service__graph": None, "service__proxy": proxy.url,
        "service__resource": resource if cloud == "china" else None,
        "service__allowed-hosts": "manage.example" if cloud == "china" else None})
    first = [(host, path) for host, path, _ in entra.calls][:3]
    assert first == [(authority, f"/{TENANT}/oauth2/v2.0/token"),
                     (graph, "/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-000000000000/endpoints"),
                     (authority, f"/{TENANT}/oauth2/v2.0/token")]
    assert f"scope=https%3A%2F%2F{graph}%2F.default" in entra.calls[0][2]
    wanted = resource.replace(":", "%3A").replace("/", "%2F")
    assert f"scope={wanted}%2F.default" in entra.calls[2][2]
    assert set(proxy.hosts) == {f"{authority}:443", f"{graph}:443", f"{host}:443"}
    assert all(claims["aud"] == f"https://{authority}/{TENANT}/oauth2/v2.0/token" for _, claims in entra.assertions)
