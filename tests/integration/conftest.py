# SPDX-License-Identifier: MIT
"""What the tests of programs share: where they are built, tokens that live as long as a test, free ports, processes that are
ended by their id."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path.insert(0, str(HERE))

BUILD = pathlib.Path(os.environ.get("CC_BUILD", PROJECT / "build"))
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
SOFTOKEN = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
P11_KIT_CLIENT = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
PIN = "7531-canary-pin"


class Token:
    """A token in a folder of its own: how to reach it, and how to change what is on it."""

    def __init__(self, folder, module, label, env=None, init_args=""):
        self.folder, self.module, self.label, self.env, self.init_args = folder, module, label, env or {}, init_args
        self.uri = f"pkcs11:token={label}"
        self.pin_file = folder / "pin"
        self.set_pin_file(PIN)

    @property
    def pin(self):
        return f"file:{self.pin_file}"

    def set_pin_file(self, pin):
        self.pin_file.write_text(pin + "\n")
        self.pin_file.chmod(0o600)

    def change(self, *commands, pin=PIN):
        """Commands of p11.py."""
        subprocess.run([sys.executable, str(HERE / "p11.py"), self.module, self.init_args, self.label, pin, *commands], check=True,
                       env=dict(os.environ, **self.env), timeout=120)
        return self


def configure_softhsm(folder):
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return {"SOFTHSM2_CONF": str(conf)}


def make_softhsm(folder, label="test"):
    (folder / "tokens").mkdir(parents=True)
    env = configure_softhsm(folder)
    subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "24681357", "--pin", PIN], check=True,
                   env=dict(os.environ, **env), capture_output=True, timeout=60)
    return Token(folder, SOFTHSM, label, env)


def copy_softhsm(token, folder):
    """The same token with its keys in another folder, to be spoiled."""
    folder.mkdir(parents=True)
    shutil.copytree(token.folder / "tokens", folder / "tokens")
    return Token(folder, SOFTHSM, token.label, configure_softhsm(folder))


def make_softoken(folder, label="test"):
    database = folder / "nss"
    database.mkdir(parents=True)
    # A database whose keys are not stretched: attributes are decrypted at each use.
    env = {"NSS_MIN_MP_PBE_ITERATION_COUNT": "1", "NSS_MAX_MP_PBE_ITERATION_COUNT": "1"}
    init_args = (f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' dbTokenDescription='{label}' flags=")
    return Token(folder, SOFTOKEN, label, env, init_args).change("init-pin")


@pytest.fixture
def softhsm(tmp_path):
    """Makes SoftHSM tokens: softhsm("name")."""
    return lambda name="softhsm": make_softhsm(tmp_path / name)


@pytest.fixture
def softoken(tmp_path):
    """Makes NSS softokn tokens."""
    return lambda name="softoken": make_softoken(tmp_path / name)


@pytest.fixture
def free_port():
    """A function that gives TCP ports of the loopback that nobody listens on."""

    def find():
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    return find


@pytest.fixture
def processes():
    """Starts programs; those still running at the end are terminated, then killed, each by its id."""
    started = []

    def start(argv, **options):
        child = subprocess.Popen([str(a) for a in argv], **options)
        started.append(child)
        return child

    yield start
    for child in reversed(started):
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
