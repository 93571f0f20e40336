# SPDX-License-Identifier: MIT
"""Squid, Debian's, as an unprivileged user on a port of its own: a proxy that wants a name and a password, and that knows hosts
which nobody else does."""

import shutil
import subprocess

from pki_rig import free_port
from rig import Process, run, wait_until

PROGRAM, CHECKER = "/usr/sbin/squid", "/usr/lib/squid/basic_ncsa_auth"
NAME, PASSWORD = "connector", "a-password-of-the-proxy"


class Squid:
    def __init__(self, rig, hosts, tls=None):
        assert shutil.which(PROGRAM), "Debian's squid is needed: scripts/install-deps.sh --test"
        self.rig, self.port, self.process = rig, free_port(), None
        self.folder = rig.folder / f"squid-{self.port}"
        rig.private_folder(self.folder)
        self.access_log = self.folder / "access.log"
        digest = run("openssl", "passwd", "-apr1", PASSWORD).stdout.strip()
        rig.private_file(self.folder / "users", f"{NAME}:{digest}\n".encode())
        rig.private_file(self.folder / "hosts", "".join(f"127.0.0.1 {host}\n" for host in hosts).encode())
        listen = f"https_port 127.0.0.1:{self.port} tls-cert={tls[0]} tls-key={tls[1]}" if tls else f"http_port 127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        rig.private_file(self.folder / "squid.conf", f"""
{listen}
auth_param basic program {CHECKER} {self.folder}/users
auth_param basic children 2 startup=1
auth_param basic realm proxy
auth_param basic credentialsttl 1 second
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
hosts_file {self.folder}/hosts
access_log stdio:{self.access_log}
cache_log {self.folder}/cache.log
pid_filename {self.folder}/squid.pid
coredump_dir {self.folder}
cache deny all
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
visible_hostname proxy.test
""".encode())
        self.start()
        rig.started.append(self)

    def start(self):
        self.process = Process("squid", [PROGRAM, "-N", "-f", self.folder / "squid.conf"], self.rig.folder)
        wait_until(self.answers, f"squid answers: {self.process.output()}", 30)

    def answers(self):
        assert self.process.running(), self.process.output()
        return subprocess.run(["curl", "--silent", "--insecure", "--output", "/dev/null", self.url], timeout=30, check=False).returncode == 0

    def stop(self):
        """It ends its tunnels, and writes them down."""
        self.process.stop()
        self.process = None

    def tunnels(self):
        """(user, host:port, squid's word) of each CONNECT that has ended, or was refused."""
        lines = [line.split() for line in self.access_log.read_text().splitlines()] if self.access_log.exists() else []
        return [(words[7], words[6], words[3]) for words in lines if words[5] == "CONNECT"]
