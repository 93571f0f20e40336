# SPDX-License-Identifier: MIT
"""certconnector store: a backup made while the connector works, the way back from it, and the move to PostgreSQL."""

import json
import os

import pytest
from cryptography import x509

from pg_rig import Postgres
from pki_rig import ask, connector_with_ca
from rig import USER, Recipient, Rig, as_service_user, run, wait_until
from scep_rig import TOKEN_KEYS

EXIT_CONFIG = 2


class World:
    def __init__(self):
        self.rig = Rig()
        self.service = self.rig.service()
        self.connector, self.authority = connector_with_ca(self.rig, self.service, self.rig.token(kinds=TOKEN_KEYS))
        self.recipient = Recipient()

    def issue(self, count):
        """So many requests done, and closed in the journal."""
        for _ in range(count):
            assert ask(self.service, self.recipient)["state"] == "completed"
        wait_until(lambda: self.connector.journal_open() == 0, "all are closed")

    def serials(self):
        return {one["serialNumber"] for one in self.authority.listed()}

    def crl_number(self):
        return self.authority.crl().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def use(self, uri):
        self.connector.store = uri
        self.connector.write_config(self.connector.extra, self.connector.overrides)

    def store(self, *argv, check=True):
        return self.connector.cli("store", *argv, check=check)

    def start_fails(self):
        """With a state that is not to be used; what it says."""
        done = run(*as_service_user([self.rig.programs / "certconnectord", "--config", self.connector.config]), check=False,
                   env=dict(os.environ, **self.connector.token.env))
        assert done.returncode == EXIT_CONFIG
        return done.stderr


@pytest.fixture()
def world():
    world = World()
    yield world
    world.rig.close()


@pytest.fixture(scope="module")
def postgres():
    postgres = Postgres()
    yield postgres
    postgres.close()


def test_moved_to_postgresql_and_back(world, postgres):
    """The same certificates are in each place, work goes on there, and what was left behind is not used."""
    world.issue(3)
    first, number = world.serials(), world.crl_number()
    second_place, third_place = postgres.database("moved"), f"sqlite:{world.connector.state}/third.db"
    done = world.store("migrate", "--to", second_place, check=False)
    assert done.returncode == 1 and "in use" in done.stderr
    world.connector.process.stop()
    said = world.store("migrate", "--to", second_place).stdout
    assert f"moved to {second_place}" in said and f"state = {second_place}," in said
    assert f"it was moved to {second_place}" in world.start_fails()

    world.use(second_place)
    world.connector.start()
    assert world.serials() == first
    assert world.connector.status()["workloads"]["pkcs"]["journal"]["closed"] == 3
    world.issue(2)
    second = world.serials()
    assert first < second
    done = world.store("migrate", "--to", third_place, check=False)
    assert done.returncode == 1 and "instances use it" in done.stderr
    world.connector.process.stop()
    assert json.loads(world.store("migrate", "--json", "--to", third_place).stdout)["rows"] > len(second)

    world.use(third_place)
    world.connector.start()
    assert world.serials() == second
    world.issue(1)
    assert second < world.serials()
    assert world.crl_number() >= number


def test_back_from_a_backup(world, postgres):
    """Made while the connector works; what was done since is gone, and no CRL number comes twice."""
    backup = world.connector.state / "backup.db"
    world.issue(3)
    known = world.serials()
    rows = json.loads(world.store("backup", "--json", backup).stdout)["rows"]
    assert rows > len(known)
    assert backup.stat().st_mode & 0o007 == 0
    assert not list(world.connector.state.glob("backup.db-*"))
    assert world.store("backup", backup, check=False).returncode == 2  # it is there already
    world.issue(1)
    done = world.store("restore", backup, check=False)
    assert done.returncode == 1 and "in use" in done.stderr
    world.connector.process.stop()
    done = world.store("restore", backup, check=False)
    assert done.returncode == 1 and "not empty" in done.stderr

    restored = postgres.database("restored")
    world.use(restored)
    assert f"{rows} rows restored into {restored}" in world.store("restore", backup).stdout
    world.connector.start()
    assert world.serials() == known
    world.issue(1)
    wait_until(lambda: world.crl_number() > 10000, "a new CRL is published")


def test_what_cannot_be_done_is_said(world):
    folder = world.connector.state
    done = world.store("restore", folder / "nothing.db", check=False)
    assert done.returncode == 1 and "nothing.db: No such file" in done.stderr
    assert not (folder / "nothing.db").exists()
    done = world.store("backup", "/nowhere/backup.db", check=False)
    assert done.returncode == 1 and "/nowhere/backup.db" in done.stderr
    for argv, text in [(["backup"], "one file"), (["restore", "a", "b"], "one file"), (["migrate"], "--to URI"),
                       (["migrate", "--to", "nothing"], "sqlite:PATH"), (["backup", "--to", "sqlite:x", "y"], "--to"),
                       (["migrate", "--to", f"postgresql://{USER}:word@127.0.0.1/x"], "password")]:
        done = world.store(*argv, check=False)
        assert done.returncode != 0 and text in done.stderr, (argv, done.stderr)


def test_a_backup_that_fails_leaves_nothing(world):
    """Here for want of room."""
    small = world.connector.folder / "small"
    world.rig.private_folder(small)
    run("mount", "-t", "tmpfs", "-o", f"size=128k,uid={USER},gid={USER},mode=750", "certconnector-test", small)
    try:
        world.issue(1)
        done = world.store("backup", small / "backup.db", check=False)
        assert done.returncode == 1 and "full" in done.stderr
        assert list(small.iterdir()) == []
    finally:
        run("umount", small)
