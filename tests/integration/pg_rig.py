# SPDX-License-Identifier: MIT
"""A PostgreSQL server of the tests' own: a cluster in a temporary folder, on a free port, run by the unprivileged user."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from rig import USER, as_service_user, run, wait_until

PROGRAMS = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 500
shared_buffers = 64MB
log_min_messages = warning
"""


# Memory is durable enough for programs that are killed, and disks of test machines are slow to write for certain.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """Everybody on this machine is trusted, unless hba says otherwise.  It writes as durably as it does by default."""

    def __init__(self, settings="", hba=None, start=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="certconnector-postgres.", dir=MEMORY))
        self.data = self.folder / "data"
        self.port = free_port()
        shutil.chown(self.folder, USER, USER)
        self._as_user(PROGRAMS / "initdb", "--pgdata", self.data, "--auth", "trust", "--username", USER, "--no-sync",
                      "--encoding", "UTF8", "--locale", "C")
        self.configure(settings, hba)
        self.started = False
        if start:
            self.start()

    def _as_user(self, *argv, **options):
        return run(*as_service_user(argv), cwd=self.folder, env={**os.environ, "LC_ALL": "C"}, **options)

    def configure(self, settings="", hba=None):
        with (self.data / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"{SETTINGS}port = {self.port}\nunix_socket_directories = '{self.folder}'\n{settings}\n")
        if hba is not None:
            (self.data / "pg_hba.conf").write_text(hba)

    @property
    def pid(self):
        """Of the postmaster; None when it does not run."""
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def start(self, wait=True):
        self._control("start", *(["--wait"] if wait else ["--no-wait"]), "--log", self.folder / "log")
        self.started = True

    def _control(self, *argv, check=True):
        # Its children would keep a pipe open.
        done = subprocess.run(as_service_user([PROGRAMS / "pg_ctl", "--pgdata", self.data, "--silent", *argv]), cwd=self.folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        assert not check or done.returncode == 0, (argv, self.log())

    def stop(self, mode="fast", check=True):
        self._control("stop", "--mode", mode, "--wait", check=check)
        self.started = False

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def kill(self):
        """The postmaster alone dies; its children follow when they notice."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or
                   pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z", "the postmaster is gone")
        self.started = False

    def promote(self):
        self._control("promote", "--wait")

    def log(self):
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def sql(self, text, database="postgres", check=True):
        """Rows as lists of texts."""
        done = self._as_user("/usr/bin/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
                             "--host", self.folder, "--port", self.port, "--username", USER, "--dbname", database,
                             "--command", text, check=check)
        return [line.split("|") for line in done.stdout.splitlines() if line]

    def uri(self, database, options="", host="127.0.0.1", user=USER):
        return f"postgresql://{user}@{host}:{self.port}/{database}" + (f"?{options}" if options else "")

    def database(self, name, options=""):
        """A new one; its URI."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.uri(name, options)

    def connections(self, database):
        return int(self.sql(f"SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{database}'")[0][0])

    def cut_connections(self, database):
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    def standby(self):
        """A second server that follows this one."""
        other = Postgres.__new__(Postgres)
        other.folder = pathlib.Path(tempfile.mkdtemp(prefix="certconnector-postgres.", dir=MEMORY))
        other.data = other.folder / "data"
        other.port = free_port()
        shutil.chown(other.folder, USER, USER)
        other._as_user(PROGRAMS / "pg_basebackup", "--pgdata", other.data, "--host", self.folder, "--port", self.port,
                       "--username", USER, "--write-recovery-conf", "--checkpoint", "fast", "--wal-method", "stream")
        other.configure()
        other.start()
        return other

    def close(self):
        if self.started:
            self.stop("immediate", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
