# SPDX-License-Identifier: MIT
"""A service that answers health messages as a test says: sign-in, discovery, no work, and what it heard."""

import http.server
import json
import secrets
import socket
import threading
import time
import wsgiref.handlers


class ScriptedService:
    """Of the connector service protocol as much as a connector without work needs, over plain HTTP (allow-http = yes)."""

    process = None  # for the rig's owner: nothing to be killed

    def __init__(self, rig):
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.heartbeats = []
        self.answer = {}
        self.clock_ahead = 0  # seconds
        self.secret_file = rig.folder / "client.secret"
        self.secret = secrets.token_hex(20)
        rig.private_file(self.secret_file, self.secret.encode())
        self.ca_file = None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.stopping.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def say(self, **answer):
        """What is answered from now on."""
        with self.lock:
            self.answer = answer

    def heard(self):
        with self.lock:
            return list(self.heartbeats)

    def reply(self, path, body):
        if path.endswith("/oauth2/v2.0/token"):
            return {"token_type": "Bearer", "expires_in": 3599, "access_token": "a-token-of-the-service"}
        if "servicePrincipals" in path:
            return {"value": [{"providerName": "PkiConnectorFEService", "uri": f"{self.url}/svc"}]}
        if path.endswith("/Connectors/heartbeat"):
            with self.lock:
                self.heartbeats.append(json.loads(body)["heartbeat"])
                return self.answer
        if path.endswith("/download"):
            self.stopping.wait(json.loads(body)["downloadParameters"].get("waitSeconds", 0))
            return {"value": []}
        return None

    def handler(service):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                reply = service.reply(self.path.split("?", 1)[0], body)
                text = json.dumps(reply if reply is not None else {"error": {"code": "NotFound", "message": self.path}}).encode()
                self.send_response(200 if reply is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def setup(self):
                super().setup()
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def date_time_string(self, timestamp=None):
                return wsgiref.handlers.format_date_time((timestamp or time.time()) + service.clock_ahead)

            def log_message(self, *arguments):
                pass

        return Handler
