# SPDX-License-Identifier: MIT
"""A connector whose state is in PostgreSQL: when the database is cut off, restarted, killed, fails over to a standby,
stands behind a pooler or TLS; and what is said when it cannot be used."""

import contextlib
import os
import signal
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pg_rig import Postgres, free_port
from pki_rig import connector_with_ca, order
from rig import USER, Recipient, Rig, as_service_user, make_certificate, run, wait_until
from scep_rig import TOKEN_KEYS

STORE_UNAVAILABLE, STORE_RECOVERED, INSTANCE_FENCED = 40, 41, 42
BACKLOG = 30  # of requests; more would only take time in the end


class World:
    """A connector that does PKCS requests."""

    def __init__(self, uri, rig=None):
        self.rig = rig or Rig()
        self.service = self.rig.service("--lease-seconds", "15")
        self.connector, self.authority = connector_with_ca(self.rig, self.service, self.rig.token(kinds=TOKEN_KEYS),
                                                           overrides={"connector.state": uri})
        self.recipient, self.ordered = Recipient(), 0

    def enqueue(self, count=1):
        for _ in range(count):
            self.service.admin("POST", "pkcsRequests", order(self.recipient))
            self.ordered += 1

    def under_load(self, *actions):
        """Runs the actions, each with work coming in and half of it done meanwhile."""
        for action in actions:
            stop = threading.Event()

            def feed():
                while not stop.is_set():
                    if self.ordered - self.completed() < BACKLOG:
                        self.enqueue(5)
                    stop.wait(0.05)
            feeder = threading.Thread(target=feed)
            before = self.completed()
            feeder.start()
            try:
                wait_until(lambda: self.completed() >= before + 10, "work is being done", 60)
                action()
                during = self.completed()
                wait_until(lambda: self.completed() >= during + 10, "work is being done again", 60)
            finally:
                stop.set()
                feeder.join()

    def completed(self):
        return self.service.counts()["requests"]["completed"]

    def check(self):
        """All is done, once, and was told once."""
        wait_until(lambda: self.completed() == self.ordered, "all are done", 60)
        wait_until(lambda: self.connector.journal_open() == 0, "all are closed", 30)
        events = {request: [e["id"] for e in found] for request, found in self.connector.admin_events().items()}
        assert len(events) == self.ordered
        assert all(ids == [1000] for ids in events.values()), [ids for ids in events.values() if ids != [1000]]
        good = [c for c in self.authority.listed() if c["state"] == "issued" and c["profile"] == "user"]
        assert len(good) == self.ordered


@pytest.fixture()
def closing():
    """What a test made, closed in the other order."""
    things = []
    yield lambda thing: things.append(thing) or thing
    for thing in reversed(things):
        thing.close()


def test_a_database_that_comes_and_goes(closing):
    postgres = closing(Postgres())
    world = World(postgres.database("state"), closing(Rig()))

    def away():
        postgres.stop("immediate")
        wait_until(lambda: world.connector.events("--id", str(STORE_UNAVAILABLE)), "it says that the database is away")
        postgres.start()
    world.under_load(lambda: postgres.cut_connections("state"), lambda: postgres.restart("fast"),
                     lambda: postgres.restart("immediate"), away)
    world.check()
    assert world.connector.process.running()
    assert world.connector.events("--id", str(STORE_RECOVERED))


@contextlib.contextmanager
def locked(postgres, table):
    locker = subprocess.Popen(as_service_user(["/usr/bin/psql", "--no-psqlrc", "--quiet", "--host", postgres.folder, "--port",
                                               postgres.port, "--username", USER, "--dbname", "state"]), stdin=subprocess.PIPE, text=True)
    try:
        locker.stdin.write(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;\n")
        locker.stdin.flush()
        wait_until(lambda: postgres.sql("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
                                        f" AND relation = '{table}'::regclass", "state"), "the lock is held")
        yield
    finally:
        locker.kill()
        locker.wait()


def test_a_database_that_goes_away_while_it_begins_anew(closing):
    postgres = closing(Postgres())
    world = World(postgres.database("state"), closing(Rig()))
    world.enqueue(3)
    world.check()
    with locked(postgres, "ca_authority"):
        postgres.sql("UPDATE store_instance SET alive = 0", "state")
        wait_until(lambda: postgres.sql("SELECT 1 FROM store_instance WHERE alive = 1", "state"), "it joined again")
        postgres.stop("immediate")
        wait_until(lambda: world.connector.events("--id", str(STORE_UNAVAILABLE)), "it says that the database is away")
    assert world.connector.process.running()
    postgres.start()
    world.enqueue(3)
    world.check()
    assert world.connector.events("--id", str(INSTANCE_FENCED))


def test_a_database_that_hangs(closing):
    """Locks that somebody holds, and a server that stopped: nothing waits for ever, nothing is lost."""
    postgres = closing(Postgres())
    world = World(postgres.database("state"), closing(Rig()))
    world.enqueue(5)
    world.check()
    with locked(postgres, "ca_certificate"):
        world.enqueue(3)
        wait_until(lambda: world.connector.events("--id", "1051"), "an attempt fails instead of waiting", 40)
    world.check()

    servers = [postgres.pid, *(int(pid) for [pid] in postgres.sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))]
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    try:
        world.enqueue(3)
        wait_until(lambda: world.connector.events("--id", str(STORE_UNAVAILABLE)), "it says so instead of waiting", 40)
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
    world.check()


def test_failover(closing):
    first = closing(Postgres("wal_level = replica\nmax_wal_senders = 4\nsynchronous_standby_names = '*'\nsynchronous_commit = local"))
    first.sql("CREATE DATABASE state")
    second = closing(first.standby())
    first.sql("ALTER SYSTEM SET synchronous_commit = on")
    first.sql("SELECT pg_reload_conf()")
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    world = World(f"postgresql://{USER}@{hosts}/state", closing(Rig()))

    def fail_over():
        first.stop("immediate")
        second.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        second.promote()
        second.sql("SELECT pg_reload_conf()")
    world.under_load(fail_over)
    world.check()


def test_a_first_host_that_does_not_answer(closing):
    """It is connected to, and silent: the next one in the URI has its turn all the same."""
    silent, good = closing(Postgres()), closing(Postgres())
    good.database("state")
    pid = silent.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        world = World(f"postgresql://{USER}@127.0.0.1:{silent.port},127.0.0.1:{good.port}/state", closing(Rig()))
        world.enqueue()
        wait_until(lambda: world.completed() == 1, "work is done", 60)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_behind_a_pooler(closing):
    """pgbouncer in transaction mode: no two transactions need be on one connection."""
    postgres = closing(Postgres())
    postgres.database("state")
    rig = closing(Rig())
    folder, port = rig.folder / "pooler", free_port()
    rig.private_folder(folder)
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
state = host=127.0.0.1 port={postgres.port} dbname=state
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
auth_file =
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
""")
    (folder / "pgbouncer.ini").write_text((folder / "pgbouncer.ini").read_text().replace("state = host", f"state = user={USER} host"))
    with (folder / "log").open("w") as log:
        pooler = subprocess.Popen(as_service_user(["/usr/sbin/pgbouncer", folder / "pgbouncer.ini"]), stdout=log, stderr=log)
    try:
        wait_until(lambda: f"listening on 127.0.0.1:{port}" in (folder / "log").read_text(), "the pooler listens")
        world = World(f"postgresql://{USER}@127.0.0.1:{port}/state", rig)
        world.under_load(lambda: postgres.cut_connections("state"))
        world.check()
    finally:
        pooler.terminate()
        pooler.wait()


def connect(rig, uri, *more):
    """What the CLI says that opens the state of this URI."""
    config = rig.folder / "probe.conf"
    config.write_text(f"[connector]\nstate = {uri}\nstate-directory = {rig.folder}\n[token]\nmodule = /usr/lib/softhsm/libsofthsm2.so\n"
                      "uri = pkcs11:token=x\npin = file:/dev/null\n[keys]\nca = pkcs11:object=ca\n[ca \"corp\"]\nkind = local\n")
    return run(*as_service_user([rig.programs / "certconnector", "ca", "list", "--config", config]), check=False,
               env={**os.environ, "HOME": str(rig.folder)})


def test_passwords_and_tls(closing):
    rig = closing(Rig())
    key = rsa.generate_private_key(65537, 2048)
    server = make_certificate("localhost", key)
    postgres = closing(Postgres(start=False))
    for name, data, mode in (("server.crt", server.public_bytes(serialization.Encoding.PEM), 0o644),
                             ("server.key", key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                              serialization.NoEncryption()), 0o600)):
        path = postgres.data / name
        path.write_bytes(data)
        path.chmod(mode)
        run("chown", USER, path)
    postgres.configure("ssl = on", hba="local all all trust\nhostssl all all all scram-sha-256\n")
    postgres.start()
    postgres.sql("CREATE ROLE connector LOGIN PASSWORD 'correct horse'")
    postgres.sql("CREATE DATABASE state OWNER connector")
    (rig.folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    other = make_certificate("Another CA", rsa.generate_private_key(65537, 2048))
    (rig.folder / "other.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    passwords = rig.folder / "passwords"
    passwords.write_text("*:*:*:connector:correct horse\n")
    run("chown", USER, passwords)
    passwords.chmod(0o600)
    base = f"postgresql://connector@localhost:{postgres.port}/state?passfile={passwords}&sslmode=verify-full&sslrootcert={rig.folder}"
    said = connect(rig, f"{base}/server.pem")
    assert "there is no CA \"corp\"" in said.stderr, said.stderr

    said = connect(rig, f"{base}/other.pem")
    assert said.returncode != 0 and "certificate verify failed" in said.stderr
    said = connect(rig, f"{base.replace('connector@', 'nobody@')}/server.pem")
    assert said.returncode != 0 and "no password supplied" in said.stderr or "authentication failed" in said.stderr
    said = connect(rig, f"{base.replace('/state?', '/nothing?')}/server.pem")
    assert said.returncode != 0 and 'database "nothing" does not exist' in said.stderr
    said = connect(rig, f"postgresql://connector@localhost:{postgres.port}/state?no-such-option=1")
    assert said.returncode != 0 and "no-such-option" in said.stderr
    said = connect(rig, f"postgresql://connector:secret@localhost:{postgres.port}/state")
    assert said.returncode == 2 and "must not hold a password" in said.stderr and "secret" not in said.stderr


def test_many_open_a_new_database_at_once(closing):
    postgres, rig = closing(Postgres()), closing(Rig())
    uri = postgres.database("state")
    connect(rig, "sqlite:/nonexistent/x")  # writes the configuration
    config = rig.folder / "probe.conf"
    config.write_text(config.read_text().replace("sqlite:/nonexistent/x", uri))
    programs = [subprocess.Popen(as_service_user([rig.programs / "certconnector", "ca", "list", "--config", config]),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(30)]
    said = [program.communicate(timeout=60)[1] for program in programs]
    assert all('there is no CA "corp"' in text for text in said), said
    assert postgres.sql("SELECT COUNT(*) FROM schema_version", "state") == [["1"]]


def test_a_newer_schema(closing):
    postgres, rig = closing(Postgres()), closing(Rig())
    uri = postgres.database("state")
    connect(rig, uri)
    # The next version adds something that this one need not know.
    postgres.sql("UPDATE schema_version SET version = version + 1", "state")
    assert 'there is no CA "corp"' in connect(rig, uri).stderr
    postgres.sql("UPDATE schema_oldest SET version = (SELECT version FROM schema_version)", "state")
    said = connect(rig, uri)
    assert said.returncode != 0 and "used by a newer version" in said.stderr
