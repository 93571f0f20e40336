# SPDX-License-Identifier: MIT
"""The stand-in service's sign-in: assertions of clients, secrets that end, roles, and answers that are no JSON."""

import base64
import datetime
import hashlib
import json
import subprocess
import time
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from helpers_tenant import (APP_ID, CLIENT_ID, GRAPH_SCOPE, PROGRAM, REVOCATION_API_VERSION, SCEP_API_VERSION, Tenant, b64,
                            wait_until)

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
ENDPOINT = f"v1.0/servicePrincipals/appId={APP_ID}/endpoints"


def certificate(key=KEY, days=(-1, 30)):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a client")])
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .not_valid_before(now + datetime.timedelta(days=days[0])).not_valid_after(now + datetime.timedelta(days=days[1]))
            .sign(key, hashes.SHA256()))


CERTIFICATE = certificate()


def der(cert):
    return cert.public_bytes(serialization.Encoding.DER)


def b64url(data, pad=False):
    text = base64.urlsafe_b64encode(data).decode()
    return text if pad else text.rstrip("=")


def named(cert, how):
    """The header's member that names a certificate."""
    sha1, sha256 = hashlib.sha1(der(cert)).digest(), hashlib.sha256(der(cert)).digest()
    return {"x5t": {"x5t": b64url(sha1)}, "x5t=": {"x5t": b64url(sha1, True)},
            "x5t#S256": {"x5t#S256": b64url(sha256)}, "x5t#S256=": {"x5t#S256": b64url(sha256, True)},
            "x5c": {"x5c": [b64(der(cert))]}, "x5c, lines": {"x5c": [base64.encodebytes(der(cert)).decode(), "x"]},
            "none": {}, "kid": {"kid": b64url(sha1)}}[how]


def sign(key, alg, data):
    if alg == "PS256":
        return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def assertion(tenant, how="x5t", alg="RS256", key=KEY, cert=CERTIFICATE, signer=None, header=None, **claims):
    now = time.time()
    head = {"alg": alg, "typ": "JWT", **named(cert, how), **(header or {})}
    body = {"aud": f"{tenant.url}/{tenant.name}/oauth2/v2.0/token", "iss": CLIENT_ID, "sub": CLIENT_ID, "jti": str(uuid.uuid4()),
            "exp": now + 600, "iat": now, **claims}
    body = {name: value for name, value in body.items() if value is not None}
    text = b64url(json.dumps(head).encode()) + "." + b64url(json.dumps(body).encode())
    return text + "." + b64url((signer or sign)(key, alg, text.encode()))


def sign_in(service, text, **fields):
    return service.sign_in(**{"client_secret": None, "client_assertion_type": JWT_BEARER, "client_assertion": text, **fields})


def refused(answer, number, status=401):
    body = answer.json()
    assert answer.status_code == status and body["error_codes"] == [number], answer.text
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    return True


@pytest.fixture(scope="module")
def tenant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tenant")
    path = folder / "client.pem"
    path.write_bytes(CERTIFICATE.public_bytes(serialization.Encoding.PEM))
    service = Tenant(folder, "--client-certificate", str(path))
    yield service
    service.kill()


# ---- assertions ----

@pytest.mark.parametrize("alg", ["RS256", "PS256"])
@pytest.mark.parametrize("how", ["x5t", "x5t=", "x5t#S256", "x5t#S256=", "x5c", "x5c, lines"])
def test_assertion(tenant, alg, how):
    answer = sign_in(tenant, assertion(tenant, how, alg), scope=GRAPH_SCOPE)
    assert answer.status_code == 200, answer.text
    header = {"Authorization": "Bearer " + answer.json()["access_token"]}
    assert tenant.graph("GET", ENDPOINT, headers=header).status_code == 200


def test_assertion_goes_by_name_and_by_id(tenant):
    configuration = tenant.http.get(f"{tenant.url}/{tenant.name}/v2.0/.well-known/openid-configuration").json()
    assert configuration["token_endpoint_auth_signing_alg_values_supported"] == ["RS256", "PS256"]
    assert "private_key_jwt" in configuration["token_endpoint_auth_methods_supported"]
    guid = configuration["issuer"].split("/")[3]
    by_id = f"{tenant.url}/{guid}/oauth2/v2.0/token"
    assert sign_in(tenant, assertion(tenant, aud=by_id)).status_code == 200
    assert sign_in(tenant, assertion(tenant, aud=by_id), tenant=guid).status_code == 200
    assert sign_in(tenant, assertion(tenant), tenant=guid).status_code == 200


@pytest.mark.parametrize("claims", [
    {"exp": int(time.time()) + 600, "iat": int(time.time())}, {"iat": None}, {"nbf": time.time()}, {"nbf": time.time(), "iat": None},
    {"exp": time.time() - 200}, {"iat": time.time() + 200}, {"more": {"of": ["them"]}}], ids=str)
def test_claims_that_are_good(tenant, claims):
    assert sign_in(tenant, assertion(tenant, **claims)).status_code == 200


@pytest.mark.parametrize("claims, number", [
    ({"exp": time.time() - 400}, 700024), ({"exp": time.time() + 90000}, 700024), ({"nbf": time.time() + 400}, 700024),
    ({"iat": time.time() + 400}, 700024), ({"exp": None}, 50027), ({"exp": "1"}, 50027), ({"exp": 1e300}, 50027), ({"exp": -5}, 50027),
    ({"nbf": "now"}, 50027), ({"jti": None}, 50027), ({"jti": ""}, 50027), ({"jti": 7}, 50027), ({"jti": "x" * 257}, 50027),
    ({"iss": "22222222-2222-3333-4444-555555555555"}, 700021), ({"sub": None}, 700021), ({"iss": None}, 700021),
    ({"aud": None}, 700023), ({"aud": "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"}, 700023),
    ({"aud": "/oauth2/v2.0/token"}, 700023), ({"aud": ""}, 700023)], ids=str)
def test_claims_refused(tenant, claims, number):
    assert refused(sign_in(tenant, assertion(tenant, **claims)), number)


def test_audiences_refused(tenant):
    for path in ("oauth2/v2.0/token", "fabrikam.example/oauth2/v2.0/token", f"{tenant.name}/oauth2/token", f"{tenant.name}/oauth2/v2.0/token/",
                 f"{tenant.name}//oauth2/v2.0/token", f"{tenant.name}/v2.0"):
        assert refused(sign_in(tenant, assertion(tenant, aud=f"{tenant.url}/{path}")), 700023)


def test_an_assertion_is_good_once(tenant):
    text = assertion(tenant, aud=f"{tenant.url}/x/oauth2/v2.0/token", jti="one")
    # What was refused may come again once it is mended.
    assert refused(sign_in(tenant, text), 700023)
    text = assertion(tenant, jti="one")
    assert sign_in(tenant, text).status_code == 200
    assert refused(sign_in(tenant, text), 50013)
    assert refused(sign_in(tenant, assertion(tenant, "x5c", "PS256", jti="one")), 50013)


def spoil(text, part, how):
    parts = text.split(".")
    parts[part] = how(parts[part])
    return ".".join(parts)


def test_signatures_and_keys_refused(tenant):
    wrong_salt = lambda key, _, data: key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    good = assertion(tenant)
    for text in (assertion(tenant, key=OTHER_KEY), assertion(tenant, cert=certificate(OTHER_KEY), key=OTHER_KEY),
                 assertion(tenant, "x5c", cert=certificate(OTHER_KEY), key=OTHER_KEY),
                 assertion(tenant, alg="PS256", signer=lambda key, _, data: sign(key, "RS256", data)),
                 assertion(tenant, alg="RS256", signer=lambda key, _, data: sign(key, "PS256", data)),
                 assertion(tenant, alg="PS256", signer=wrong_salt), assertion(tenant, signer=lambda *_: b""),
                 spoil(good, 1, lambda part: b64url(base64.urlsafe_b64decode(part + "==").replace(b"jti", b"ijt")))):
        assert refused(sign_in(tenant, text), 700027)
    assert sign_in(tenant, good).status_code == 200


def test_malformed_assertions(tenant):
    good = assertion(tenant)
    for text in ("x", "..", good + ".", good + ".x", good.rsplit(".", 1)[0], spoil(good, 0, lambda _: b64url(b"[]")), spoil(good, 0, lambda _: ""),
                 spoil(good, 1, lambda part: part + "!"), spoil(good, 2, lambda part: "+" + part[1:]), assertion(tenant, "none"),
                 assertion(tenant, "kid"), assertion(tenant, header={"x5t": b64url(b"x" * 32)}), assertion(tenant, header={"alg": "none"}),
                 assertion(tenant, header={"alg": "HS256"}), assertion(tenant, header={"alg": None}), assertion(tenant, "none", header={"x5c": []}),
                 assertion(tenant, "none", header={"x5c": [7]}), assertion(tenant, "none", header={"x5c": "x"}),
                 assertion(tenant, header={"x5t#S256": "AA"})):
        assert refused(sign_in(tenant, text), 50027)
    assert refused(sign_in(tenant, good, client_assertion_type=None), 50027)
    assert refused(sign_in(tenant, good, client_assertion_type="saml"), 50027)
    assert refused(sign_in(tenant, good, client_secret=tenant.secret), 900144, 400)
    assert refused(sign_in(tenant, "x" * 33000), 900144, 400)
    assert sign_in(tenant, good).status_code == 200


# ---- clients ----

def test_client_with_a_certificate_alone(tenant):
    client = str(uuid.uuid4())
    assert tenant.admin("POST", "clients", {"clientId": client, "certificate": b64(der(CERTIFICATE))}) == {"clientId": client}
    text = assertion(tenant, iss=client, sub=client)
    # Of another client it is none, though the key is the same.
    assert refused(sign_in(tenant, text), 700021)
    assert sign_in(tenant, text, client_id=client).status_code == 200
    for secret in ("x", "\0", ""):
        number = 7000215 if secret == "x" else 7000218 if secret == "" else 900144
        assert refused(tenant.sign_in(client_id=client, client_secret=secret), number, 400 if secret == "\0" else 401)
    # A second certificate beside the first; another one of the same key is not known.
    second = certificate(OTHER_KEY)
    tenant.admin("POST", "clients", {"clientId": client, "certificate": b64(der(second))})
    for key, cert, good in ((KEY, CERTIFICATE, True), (OTHER_KEY, second, True), (OTHER_KEY, certificate(OTHER_KEY, (-2, 3)), False)):
        answer = sign_in(tenant, assertion(tenant, key=key, cert=cert, iss=client, sub=client), client_id=client)
        assert answer.status_code == 200 if good else refused(answer, 700027)
    tenant.admin("DELETE", f"clients/{client}")
    assert refused(sign_in(tenant, assertion(tenant, iss=client, sub=client), client_id=client), 700016, 400)
    assert tenant.admin_answer("DELETE", f"clients/{client}").status_code == 404


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)])
def test_certificate_out_of_its_time(tenant, days):
    cert, client = certificate(days=days), str(uuid.uuid4())
    tenant.admin("POST", "clients", {"clientId": client, "certificate": b64(der(cert))})
    answer = sign_in(tenant, assertion(tenant, cert=cert, iss=client, sub=client), client_id=client)
    assert refused(answer, 700027) and "expired" in answer.json()["error_description"]


def test_secret_that_ends(tenant):
    client = str(uuid.uuid4())
    end = datetime.datetime.utcnow() + datetime.timedelta(seconds=1.5)
    tenant.admin("POST", "clients", {"clientId": client, "secret": "s3cret", "secretExpirationDateTime": end.isoformat() + "Z"})
    wait_until(lambda: tenant.sign_in(client_id=client, client_secret="s3cret").status_code == 401, "the secret has ended")
    assert refused(tenant.sign_in(client_id=client, client_secret="s3cret"), 7000222)
    # Who does not know it learns nothing of its end.
    assert refused(tenant.sign_in(client_id=client, client_secret="other"), 7000215)
    tenant.admin("POST", "clients", {"clientId": client, "secretExpirationDateTime": "2999-01-01T00:00:00Z"})
    assert tenant.sign_in(client_id=client, client_secret="s3cret").status_code == 200
    tenant.admin("POST", "clients", {"clientId": client, "secret": "new"})
    assert refused(tenant.sign_in(client_id=client, client_secret="s3cret"), 7000215)
    assert tenant.sign_in(client_id=client, client_secret="new").status_code == 200


@pytest.mark.parametrize("members", [
    {"clientId": ""}, {"clientId": "x" * 129}, {"secret": 7}, {"certificate": "x"}, {"certificate": b64(b"x")}, {"roles": ["Owner"]}, {"roles": [7]},
    {"secretExpirationDateTime": "2999-01-01T00:00:00Z"}, {"secret": "x", "secretExpirationDateTime": "soon"},
    {"secret": "x", "secretExpirationDateTime": "1970-01-01T00:00:00Z"}, {"secret": "x", "secretExpirationDateTime": "1969-12-31T23:59:59.999Z"},
    {"certificate": b64(der(certificate(rsa.generate_private_key(65537, 1024))))}], ids=lambda m: ",".join(m))
def test_clients_refused(tenant, members):
    client = str(uuid.uuid4())
    answer = tenant.admin_answer("POST", "clients", {"clientId": client, **members})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "BadRequest"
    assert refused(tenant.sign_in(client_id=client), 700016, 400)


def test_ec_certificates_sign_no_assertions(tenant):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    answer = tenant.admin_answer("POST", "clients", {"clientId": "ec", "certificate": b64(der(cert))})
    assert answer.status_code == 400 and "RSA" in answer.json()["error"]["message"]


def test_a_restart_leaves_the_client_of_the_command_line_as_it_was_told(tmp_path):
    tenant = Tenant(tmp_path)
    try:
        tenant.admin("POST", "clients", {"clientId": CLIENT_ID, "roles": ["scep_challenge_provider"]})
        assert tenant.pfx("GET").status_code == 403
        tenant.stop()
        tenant.start()
        assert tenant.sign_in().status_code == 200 and tenant.pfx("GET").status_code == 403
        # A certificate instead of the secret's file does not take the secret.
        (tmp_path / "client.pem").write_bytes(CERTIFICATE.public_bytes(serialization.Encoding.PEM))
        argv = tenant.argv()
        at = argv.index("--client-secret-file")
        argv[at:at + 2] = ["--client-certificate", tmp_path / "client.pem"]
        tenant.stop()
        tenant.argv = lambda: argv
        tenant.start()
        assert tenant.sign_in().status_code == 200 and tenant.pfx("GET").status_code == 403
        assert sign_in(tenant, assertion(tenant)).status_code == 200
    finally:
        tenant.kill()


@pytest.mark.parametrize("role, may", [
    ("Application.Read.All", {"discovery"}), ("DeviceManagementConfiguration.Read.All", {"list"}),
    ("DeviceManagementConfiguration.ReadWrite.All", {"list", "create"}), ("scep_challenge_provider", {"scep", "revocation", "queue"}),
    ("pfx_cert_provider", {"revocation", "queue"}), ("User.Read.All", {"users"}), (None, set())])
def test_roles(tenant, role, may):
    client, uris = str(uuid.uuid4()), {name: tenant.discover(name) for name in ("PkiConnectorFEService", "ScepRequestValidationFEService")}
    tenant.admin("POST", "clients", {"clientId": client, "secret": "s", "roles": [role] if role else []})
    header = {"Authorization": "Bearer " + tenant.sign_in(tenant.url + "/.default", client_id=client, client_secret="s").json()["access_token"]}
    pki = uris["PkiConnectorFEService"]
    answers = {
        "discovery": tenant.graph("GET", ENDPOINT, headers=header), "list": tenant.pfx("GET", headers=header),
        "users": tenant.graph("GET", "v1.0/users?$filter=userPrincipalName eq 'user1@contoso.example'", headers=header),
        "create": tenant.pfx("POST", body={}, headers=header),
        "scep": tenant.service("ScepActions/validateRequest", {}, uris["ScepRequestValidationFEService"], {"api-version": SCEP_API_VERSION, **header}),
        "revocation": tenant.service("CertificateAuthorityRequests/downloadRevocationRequests", {}, pki,
                                     {"api-version": REVOCATION_API_VERSION, **header}),
        "queue": tenant.service("PkcsRequests/download", {}, pki, header)}
    refusals = {"discovery": 403, "list": 403, "users": 403, "create": 403, "scep": 401, "revocation": 401, "queue": 403}
    for what, answer in answers.items():
        # A body that is empty is refused only of those who may come in.
        assert answer.status_code == ((200 if what in ("discovery", "list", "users") else 400) if what in may else refusals[what]), what
        if what not in may and refusals[what] == 403:
            assert answer.json()["error"]["code"] == ("Forbidden" if what == "queue" else "Authorization_RequestDenied")
    # And of a client that was removed nothing is known.
    tenant.admin("DELETE", f"clients/{client}")
    assert tenant.pfx("GET", headers=header).status_code == tenant.graph("GET", "v1.0/users", headers=header).status_code == 401


# ---- answers that a client must get over ----

@pytest.mark.parametrize("rule, want", [
    ({"status": 500, "body": "<html>", "contentType": "text/html"}, (500, "text/html", "<html>")),
    ({"status": 200, "body": "{\"value\":["}, (200, "application/json; charset=utf-8", "{\"value\":[")),
    ({"status": 200, "body": ""}, (200, "application/json; charset=utf-8", "")),
    ({"status": 503}, (503, "application/json; charset=utf-8", None)),
], ids=str)
def test_bodies_on_demand(tenant, rule, want):
    tenant.faults({"path": "downloadRevocationRequests", **rule})
    answer = tenant.authority_requests("downloadRevocationRequests", {"downloadParameters": {"maxRequests": 1, "issuerName": None}})
    tenant.admin("DELETE", "faults")
    assert (answer.status_code, answer.headers["Content-Type"]) == want[:2]
    assert answer.text == want[2] or (want[2] is None and answer.json()["error"]["code"] == "Fault")


def test_command_line(tmp_path):
    bad, secret = tmp_path / "bad.pem", tmp_path / "secret"
    bad.write_text("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")
    secret.write_text("s")
    secret.chmod(0o600)
    for options, status, text in (
            (["--client-certificate", str(bad)], 2, "goes with"), (["--client-id", "x"], 2, "goes with"),
            (["--client-id", "x", "--client-certificate", str(bad)], 1, "not of a certificate"),
            (["--client-id", "x", "--client-certificate", str(tmp_path / "none")], 1, "none")):
        done = subprocess.run([str(PROGRAM), "--state", "sqlite::memory:", "--listen", "127.0.0.1:0", *options], capture_output=True, text=True,
                              timeout=20)
        assert (done.returncode, text in done.stderr) == (status, True), done.stderr
