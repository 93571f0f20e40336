# SPDX-License-Identifier: MIT
"""The stand-in service alone, over TLS on a free port, with both of its sides: the administrator's and a connector's."""

import base64
import datetime
import os
import pathlib
import secrets
import signal
import subprocess
import time
import urllib.parse
import uuid

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CC_BUILD", PROJECT / "build"))
PROGRAM = BUILD / "bin" / "certconnector-tenant"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
API_VERSION = "2026-11-01"
REVOCATION_API_VERSION = "5019-05-05"
SCEP_API_VERSION = "2018-02-20"
APP_ID = "0000000a-0000-0000-c000-000000000000"
GRAPH_SCOPE = "https://graph.microsoft.com/.default"
RESOURCE_SCOPE = "https://api.manage.microsoft.com//.default"


# What each step of the schema brought: tables, indexes, columns.
SCHEMA_STEPS = {
    2: "tenant_request_document tenant_revocation tenant_revocation_event tenant_clock index:tenant_request_feature",
    3: "tenant_scep_challenge tenant_scep_transaction",
    4: "tenant_client_certificate tenant_assertion tenant_client.secret_expires_ms tenant_client.roles",
    5: "tenant_identity tenant_connector.display_name tenant_connector.machine_name tenant_connector.enrolled_ms",
    6: "tenant_release",
    7: "tenant_metric_last tenant_metric tenant_connector.given_name",
    8: "index:tenant_identity_key tenant_identity.key_hash",
    9: "index:tenant_metric_minute",
}


def undo_steps(db, last):
    """Makes a database what it was with the schema's step last as its last."""
    for step, brought in reversed(SCHEMA_STEPS.items()):
        for what in brought.split() if step > last else ():
            if what.startswith("index:"):
                db.execute("DROP INDEX " + what[6:])
            elif "." in what:
                db.execute("ALTER TABLE {} DROP COLUMN {}".format(*what.split(".")))
            else:
                db.execute(f"DROP TABLE {what}")
    db.execute("UPDATE schema_version SET version = ? WHERE name = 'tenant'", (last,))


def wait_until(condition, what, seconds=20.0):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {seconds} s waiting until {what}")
        time.sleep(0.01)


def b64(data):
    return base64.b64encode(data).decode()


def make_tls(folder):
    """A self-signed certificate for localhost: paths of chain and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.utcnow() - datetime.timedelta(minutes=1)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now)
                   .not_valid_after(now + datetime.timedelta(days=2))
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
                   .sign(key, hashes.SHA256()))
    chain, private = folder / "tls.pem", folder / "tls.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
    private.chmod(0o600)
    return chain, private


class Tenant:
    """The program and a session with it.  folder: an empty one of its own, kept between start() and start()."""

    def __init__(self, folder, *options, name="contoso.example", env=None):
        self.folder = pathlib.Path(folder)
        self.options, self.env = options, env
        self.name = name
        self.chain, self.key = make_tls(self.folder)
        self.secret = secrets.token_urlsafe(30)
        self.secret_file = self.folder / "client.secret"
        self.secret_file.write_text(self.secret)
        self.secret_file.chmod(0o600)
        self.admin_token_file = self.folder / "admin.token"
        self.log = self.folder / "tenant.out"
        self.http = requests.Session()
        self.http.verify = str(self.chain)
        self.http.trust_env = False
        self.port = 0
        self.process = None
        self.start()

    def argv(self):
        return [PROGRAM, "--listen", f"127.0.0.1:{self.port}", "--state", f"sqlite:{self.folder}/state.db",
                "--tls-certificate", self.chain, "--tls-key", self.key, "--tenant", self.name,
                "--client-id", CLIENT_ID, "--client-secret-file", self.secret_file,
                "--admin-token-file", self.admin_token_file, "--ready-file", self.folder / "port", *self.options]

    def start(self):
        ready = self.folder / "port"
        ready.unlink(missing_ok=True)
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([str(a) for a in self.argv()], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                            env=dict(os.environ, **self.env) if self.env else None)
        wait_until(lambda: (ready.exists() and ready.read_text()) or self.process.poll() is not None, "the service is ready")
        assert self.process.poll() is None, self.log.read_text()
        self.port = int(ready.read_text())
        self.url = f"https://localhost:{self.port}"
        self.admin_header = {"Authorization": "Bearer " + self.admin_token_file.read_text().strip()}
        self.tokens = {}

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    # ---- sign-in and discovery ----

    def sign_in(self, scope=RESOURCE_SCOPE, tenant=None, **fields):
        """The answer of the token endpoint."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": self.secret, "scope": scope}
        form.update(fields)
        form = {name: value for name, value in form.items() if value is not None}
        return self.http.post(f"{self.url}/{tenant or self.name}/oauth2/v2.0/token", data=form, timeout=60)

    def token(self, scope=RESOURCE_SCOPE):
        if scope not in self.tokens:
            answer = self.sign_in(scope)
            assert answer.status_code == 200, answer.text
            self.tokens[scope] = answer.json()["access_token"]
        return self.tokens[scope]

    def discover(self, provider="PkiConnectorFEService"):
        """The URI of one of the account's services."""
        answer = self.graph("GET", f"v1.0/servicePrincipals/appId={APP_ID}/endpoints")
        assert answer.status_code == 200, answer.text
        return {item["providerName"]: item["uri"] for item in answer.json()["value"]}[provider]

    # ---- Graph ----

    def graph(self, method, path, body=None, **options):
        if "headers" not in options:
            options["headers"] = {"Authorization": "Bearer " + self.token(GRAPH_SCOPE)}
        url = path if path.startswith("https://") else f"{self.url}/{path}"
        return self.http.request(method, url, json=body, timeout=60, **options)

    def pfx(self, method, key="", body=None, **options):
        return self.graph(method, "beta/deviceManagement/userPfxCertificates" + key, body, **options)

    def upload_pfx(self, user="user1@contoso.example", **members):
        """Uploads an imported PFX of random bytes; the object."""
        answer = self.pfx("POST", body=pfx_body(user, **members))
        assert answer.status_code == 201, answer.text
        return answer.json()

    # ---- the administrator ----

    def admin_answer(self, method, path, body=None, **options):
        options.setdefault("headers", self.admin_header)
        return self.http.request(method, f"{self.url}/admin/api/{path}", json=body, timeout=60, **options)

    def admin(self, method, path, body=None):
        answer = self.admin_answer(method, path, body)
        assert answer.status_code in (200, 201, 204), f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def enqueue_pkcs(self, *bodies, count=None, **members):
        """Requests of certificates: the id, or the list of ids."""
        if bodies:
            return self.admin("POST", "pkcsRequests", list(bodies))["requestIds"]
        if count is not None:
            return self.admin("POST", "pkcsRequests", {**members, "count": count})["requestIds"]
        return self.admin("POST", "pkcsRequests", members)["requestId"]

    def revoke(self, *bodies, **members):
        """Certificates to be revoked: the id, or the list of ids."""
        if bodies:
            return self.admin("POST", "revocationRequests", list(bodies))["requestIds"]
        return self.admin("POST", "revocationRequests", members)["requestId"]

    def revocation(self, request_id):
        return self.admin("GET", f"revocationRequests/{request_id}")

    def enqueue(self, pfx, count=None, **members):
        """A device's request, or count of them: the id, or the list of ids."""
        body = {"userPrincipalName": pfx["userPrincipalName"], "thumbprint": pfx["thumbprint"],
                "recipientCertificate": b64(b"recipient"), **members}
        if count is not None:
            body["count"] = count
        answer = self.admin("POST", "pfxImportRequests", body)
        return answer["requestId"] if count is None else answer["requestIds"]

    def request(self, request_id):
        return self.admin("GET", f"requests/{request_id}")

    def counts(self):
        return self.admin("GET", "counts")

    def faults(self, *rules):
        self.admin("PUT", "faults", list(rules))

    # ---- a connector ----

    def service(self, action, body, uri=None, headers=None, **options):
        """One call to the account; the answer."""
        all_headers = {"client-request-id": str(uuid.uuid4()), "api-version": API_VERSION, **(headers or {})}
        if "Authorization" not in all_headers:
            all_headers["Authorization"] = "Bearer " + self.token()
        all_headers = {name: value for name, value in all_headers.items() if value is not None}
        options.setdefault("timeout", 60)
        session = options.pop("session", self.http)
        return session.post(f"{uri or self.discover()}/{action}", json=body, headers=all_headers, **options)

    def download(self, connector="connector-1", most=100, wait=0, queue="PfxImportRequests", **options):
        answer = self.service(f"{queue}/download", {"downloadParameters": {
            "connectorId": connector, "maxRequests": most, "waitSeconds": wait}}, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def upload(self, results, connector="connector-1", queue="PfxImportRequests", **options):
        """Statuses in the order of the results."""
        answer = self.service(f"{queue}/upload", {"connectorId": connector, "results": results}, **options)
        assert answer.status_code == 200, answer.text
        return [item["status"] for item in answer.json()["value"]]

    def authority_requests(self, action, body, headers=None, **options):
        """One call of the API of certificates to be revoked; the answer."""
        return self.service(f"CertificateAuthorityRequests/{action}", body,
                            headers={"api-version": REVOCATION_API_VERSION, **(headers or {})}, **options)

    def download_revocations(self, most=500, issuer=None, **options):
        answer = self.authority_requests("downloadRevocationRequests", {
            "downloadParameters": {"maxRequests": most, "issuerName": issuer}}, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def upload_revocations(self, *results, **options):
        answer = self.authority_requests("uploadRevocationResults", {"results": list(results)}, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def scep(self, action, body, headers=None, **options):
        """One SCEP action; the answer."""
        options.setdefault("uri", None)
        options["uri"] = options["uri"] or self.discover("ScepRequestValidationFEService")
        return self.service(f"ScepActions/{action}", body, headers={"api-version": SCEP_API_VERSION, **(headers or {})}, **options)

    def challenges(self, *bodies, **members):
        """Orders challenges: a list of {"id", "challenge"}."""
        return self.admin("POST", "scepChallenges", list(bodies) if bodies else members)["challenges"]

    def scep_transactions(self, transaction_id=None):
        """All of them, page by page."""
        path = "scepTransactions?$top=1000"
        if transaction_id is not None:
            path += "&transactionId=" + urllib.parse.quote(transaction_id, safe="")
        value = []
        while path:
            page = self.admin("GET", path)
            value += page["value"]
            path = page.get("@odata.nextLink", "").replace("/admin/api/", "", 1)
        return value

    def heartbeat(self, connector="connector-1", features=("pfx-import",), **members):
        return self.service("Connectors/heartbeat", {"heartbeat": {
            "connectorId": connector, "version": "1.0.0", "features": list(features), **members}})


def pfx_body(user="user1@contoso.example", **members):
    """What a client sends to create an imported PFX; None leaves a member out."""
    body = {"thumbprint": secrets.token_hex(20), "intendedPurpose": "smimeEncryption", "userPrincipalName": user,
            "startDateTime": "2026-01-01T00:00:00Z", "expirationDateTime": "2028-01-01T00:00:00Z",
            "providerName": "Contoso HSM", "keyName": "PFXEncryptionKey", "paddingScheme": "oaepSha512",
            "encryptedPfxBlob": b64(secrets.token_bytes(300)), "encryptedPfxPassword": b64(secrets.token_bytes(256))}
    body.update(members)
    return {name: value for name, value in body.items() if value is not None}


def success(work, password=b"encrypted"):
    return {"requestContext": work["requestContext"], "succeeded": True, "errorCode": "None",
            "encryptedPfxPassword": b64(password), "passwordEncryption": "cms", "reencryptedIn": "token"}


def failure(work, retryable=False, code="TokenUnavailable"):
    return {"requestContext": work["requestContext"], "succeeded": False, "errorCode": code,
            "errorMessage": "it did not work", "retryable": retryable}
