# SPDX-License-Identifier: MIT
"""A small service over TLS, as strict about who calls as Entra ID and the connectors' service are: it verifies each
assertion with python3-cryptography.  It serves no work."""

import base64
import datetime
import http.server
import json
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import NameOID

from rig import CLIENT_ID

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def sign(name, public_key, issuer, key, days=30, names=(), start=None):
    now = datetime.datetime.utcnow()
    builder = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
               .issuer_name(issuer).public_key(public_key).serial_number(x509.random_serial_number())
               .not_valid_before(start or now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=days)))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
    if name == "CA":
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return builder.sign(key, hashes.SHA256())


class Refused(Exception):
    """Of sign-in, with the number that Entra ID gives it."""


class Entra:
    """Counts, remembers and judges what is asked; what it answers can be changed while it runs."""

    def __init__(self, rig, names=("localhost",), service=None):
        self.rig, self.process = rig, None
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = sign("CA", self.ca_key.public_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]), self.ca_key)
        self.ca_file = rig.folder / "service-ca.pem"
        self.ca_file.write_bytes(self.ca.public_bytes(serialization.Encoding.PEM))
        self.registered = []  # certificates of the application
        self.clock_ms = 0  # ours before that of everybody else
        self.lock = threading.Lock()
        self.calls = []  # (host, path, body)
        self.assertions = []  # (header, claims)
        self.refusals = []
        self.tokens = set()
        self.service = service  # the host that discovery names; None: the one that was asked
        self.wanted = None  # refuses sign-in with this number
        self.secret_file = rig.folder / "client.secret"
        rig.private_file(self.secret_file, uuid.uuid4().hex.encode())
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.context = self.make_context(names)
        self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        rig.started.append(self)
        self.process = self  # the rig ends what it started by this

    def kill(self):
        self.server.shutdown()
        self.server.server_close()

    def make_context(self, names):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = sign(names[0], key.public_key(), self.ca.subject, self.ca_key, names=names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    # ---- what is asked

    def handler(self):
        entra = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return super().date_time_string(time.time() + entra.clock_ms / 1000)

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                status, answer = entra.answer(self, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

        return Handler

    def answer(self, request, body):
        host, path = request.headers["Host"], request.path
        with self.lock:
            self.calls.append((host, path, body))
            if path.endswith("/oauth2/v2.0/token"):
                return self.sign_in(f"https://{host}{path}", urllib.parse.parse_qs(body))
            if request.headers.get("Authorization", "")[7:] not in self.tokens:
                return 401, {"error": {"code": "Unauthorized", "message": "no such token"}}
            if path.endswith("/endpoints"):
                return 200, {"value": [{"providerName": "PkiConnectorFEService", "uri": f"https://{self.service or host}/svc"}]}
            return self.serve(request, path.removeprefix("/svc/"), json.loads(body) if body else {})

    def serve(self, request, what, body):
        """The connectors' service: it has no work."""
        return 200, {"value": []}

    def sign_in(self, url, form):
        try:
            if self.wanted is not None:
                raise Refused(self.wanted)
            if "client_assertion" in form:
                self.judge(url, form)
            elif form.get("client_secret") != [self.secret_file.read_text()]:
                raise Refused(7000215)
        except Refused as refusal:
            number = refusal.args[0]
            self.refusals.append(number)
            return 401, {"error": "invalid_client", "error_description": f"AADSTS{number}: no", "error_codes": [number]}
        token = uuid.uuid4().hex
        self.tokens.add(token)
        return 200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token}

    def judge(self, url, form):
        assert form["client_assertion_type"] == [ASSERTION_TYPE], form
        assert "client_secret" not in form and form["client_id"] == [CLIENT_ID]
        parts = form["client_assertion"][0].split(".")
        header, claims = json.loads(decode(parts[0])), json.loads(decode(parts[1]))
        known = [c for c in self.registered if decode(header["x5t"]) == c.fingerprint(hashes.SHA1()) and
                 decode(header["x5t#S256"]) == c.fingerprint(hashes.SHA256())]
        if not known:
            raise Refused(700027)
        scheme = {"PS256": padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size),
                  "RS256": padding.PKCS1v15()}[header["alg"]]
        known[0].public_key().verify(decode(parts[2]), f"{parts[0]}.{parts[1]}".encode(), scheme, hashes.SHA256())
        now = time.time() + self.clock_ms / 1000
        if not claims["nbf"] - 60 <= now <= claims["exp"] or not now - 60 <= claims["iat"] <= now + 60:
            raise Refused(700024)
        if claims["jti"] in [before["jti"] for _, before in self.assertions]:
            raise Refused(700027)
        assert claims["aud"] == url and claims["exp"] == claims["iat"] + 600
        self.assertions.append((header, claims))

    # ---- what a test looks at

    def called(self, what):
        with self.lock:
            return sum(path.endswith(what) for _, path, _ in self.calls)


class Proxy:
    """An HTTP proxy whose every CONNECT leads to the same port here, whatever name is asked for."""

    def __init__(self, rig, port):
        proxy = self
        self.hosts = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_CONNECT(self):
                proxy.hosts.append(self.path)
                proxy.join(self.connection, port)
                self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.process = self
        rig.started.append(self)

    def kill(self):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def join(client, port):
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

            def copy(source, target):
                try:
                    while data := source.recv(65536):
                        target.sendall(data)
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()
