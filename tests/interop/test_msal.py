# SPDX-License-Identifier: MIT
"""Microsoft's own library signs in to the stand-in service, over TLS, with a secret and with certificates."""

import datetime
import pathlib
import sys

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from helpers_tenant import APP_ID, CLIENT_ID, GRAPH_SCOPE, RESOURCE_SCOPE, Tenant

msal = pytest.importorskip("msal")

SCOPES = [GRAPH_SCOPE, RESOURCE_SCOPE, "https://api.manage.microsoft.com/.default"]


@pytest.fixture(scope="module")
def pair():
    """Key and certificate in PEM, and the thumbprint."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "msal")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
                   .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
            certificate.public_bytes(serialization.Encoding.PEM).decode(), certificate.fingerprint(hashes.SHA1()).hex())


@pytest.fixture(scope="module")
def tenant(tmp_path_factory, pair):
    folder = tmp_path_factory.mktemp("tenant")
    (folder / "client.pem").write_text(pair[1])
    service = Tenant(folder, "--client-certificate", str(folder / "client.pem"))
    yield service
    service.kill()


def application(tenant, credential):
    session = requests.Session()
    session.verify = str(tenant.chain)
    session.trust_env = False
    return msal.ConfidentialClientApplication(CLIENT_ID, authority=f"{tenant.url}/{tenant.name}", client_credential=credential,
                                              validate_authority=False, http_client=session)


def credentials(tenant, pair):
    key, certificate, thumbprint = pair
    return {"secret": tenant.secret, "x5t": {"private_key": key, "thumbprint": thumbprint},
            "x5c": {"private_key": key, "thumbprint": thumbprint, "public_certificate": certificate}}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("how", ["secret", "x5t", "x5c"])
def test_tokens(tenant, pair, how, scope):
    app = application(tenant, credentials(tenant, pair)[how])
    answer = app.acquire_token_for_client([scope])
    assert "access_token" in answer, answer
    assert answer["token_type"] == "Bearer" and answer["expires_in"] == 3599
    # And from its cache.
    assert app.acquire_token_silent([scope], None)["access_token"] == answer["access_token"]
    header = {"Authorization": "Bearer " + answer["access_token"]}
    found = tenant.graph("GET", f"v1.0/servicePrincipals/appId={APP_ID}/endpoints", headers=header)
    assert found.status_code == (200 if scope == GRAPH_SCOPE else 401), found.text


def test_what_msal_makes_of_refusals(tenant, pair):
    other = rsa.generate_private_key(65537, 2048).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                                serialization.NoEncryption()).decode()
    for credential, number in (("wrong", 7000215), ({"private_key": other, "thumbprint": pair[2]}, 700027),
                               ({"private_key": pair[0], "thumbprint": "00" * 20}, 700027)):
        answer = application(tenant, credential).acquire_token_for_client([GRAPH_SCOPE])
        assert answer["error"] == "invalid_client" and answer["error_codes"] == [number]
        assert f"AADSTS{number}: " in answer["error_description"]
