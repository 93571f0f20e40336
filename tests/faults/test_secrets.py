# SPDX-License-Identifier: MIT
"""After real work, PFX passwords, keys of devices and the PIN are where they belong and nowhere else."""

import base64
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from pki_rig import KINDS, TOKEN_KEYS, connector_with_ca, open_result, order  # noqa: E402
from recrypt import envelope  # noqa: E402
from rig import Pfx, Recipient, Rig, wait_until  # noqa: E402


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def readable_memory(pid):
    """The contents of every mapping that a process can have written to, as (what it is, bytes)."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not found:
                continue
            begin, end = int(found.group(1), 16), int(found.group(2), 16)
            try:
                memory.seek(begin)
                yield line, memory.read(end - begin)
            except OSError:
                continue  # a guard page or a mapping that went away


def forms(secret):
    """How a secret may lie about: as it is, and as PKCS#12 derives keys from it."""
    return [secret, secret.decode("latin-1").encode("utf-16-be"), secret.decode("latin-1").encode("utf-16-le")]


def find_in_memory(pid, secrets):
    return [f"secret {number} in {where}" for where, data in readable_memory(pid)
            for number, secret in enumerate(secrets) for form in forms(secret) if form in data]


def find_in_files(folder, secrets):
    return [f"secret {number} in {path}" for path in folder.rglob("*") if path.is_file()
            for number, secret in enumerate(secrets) for form in forms(secret) if form in path.read_bytes()]


def find_in_arguments(secrets):
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                data = (process / name).read_bytes()
            except OSError:
                continue
            found += [f"secret {number} in {name} of {process.name}" for number, secret in enumerate(secrets) if secret in data]
    return found


def test_secrets_leave_no_trace(rig):
    token, service, recipient = rig.token(), rig.service(), Recipient()
    connector = rig.connector(service, token, extra="[pfx-import]\ncheck-pfx = yes\n")
    public_key = connector.public_key()
    files = [Pfx(f"user{number}@contoso.example") for number in range(10)]
    for pfx in files:
        service.upload(pfx, public_key)
    secrets = [pfx.password for pfx in files] + [token.pin().encode(), service.secret_file.read_bytes()]

    # A search that cannot find anything proves nothing: what must be there is found the same way.
    assert find_in_memory(connector.process.pid, [str(connector.state).encode()])

    for form in ("cms", "rsaOaepSha256", "rsaOaepSha1", "rsaPkcs1"):
        for pfx in files:
            service.enqueue(pfx, recipient, passwordEncryption=form)
    # One that fails late, with the password already decrypted: the wrong password for its PFX.
    wrong = Pfx("wrong@contoso.example")
    right = wrong.password
    wrong.password = b"not the one that opens it"
    service.upload(wrong, public_key)
    failed = service.enqueue(wrong, recipient)[0]
    while service.open_requests():
        assert not find_in_arguments(secrets)
    assert service.wait_done(failed)["result"]["errorCode"] == "DecryptFailed"
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")
    secrets += [right, wrong.password]

    # The client secret is the daemon's own; it must not stay in memory after sign-in either.
    assert not find_in_memory(connector.process.pid, secrets)
    assert not find_in_memory(connector.token_pid(), secrets)
    connector.process.stop()
    for folder in (connector.state, connector.log, connector.run, service.folder):
        assert not find_in_files(folder, secrets)
    assert not find_in_arguments(secrets)


def parts_of_key(key):
    """What of a private key is secret, as it lies in memory: big-endian as in DER, and little-endian as in OpenSSL's
    numbers; and the beginning of its base64."""
    numbers = key.private_numbers()
    values = [numbers.private_value] if isinstance(key, ec.EllipticCurvePrivateKey) else [numbers.d, numbers.p, numbers.q]
    found = []
    for value in values:
        data = value.to_bytes((value.bit_length() + 7) // 8, "big")
        found += [data[:24], data[::-1][:24]]
    return found


def find_bytes_in_memory(pid, needles):
    return [f"needle {number} in {where}" for where, data in readable_memory(pid)
            for number, needle in enumerate(needles) if needle in data]


def find_bytes_in_files(folder, needles):
    return [f"needle {number} in {path}" for path in folder.rglob("*") if path.is_file()
            for number, needle in enumerate(needles) if needle in path.read_bytes()]


@pytest.mark.parametrize("generation", ["host", "token"])
def test_device_keys_leave_no_trace(rig, generation):
    token, service, recipient = rig.token(kinds=TOKEN_KEYS), rig.service(), Recipient()
    connector, _ = connector_with_ca(rig, service, token, features="pkcs", overrides={"pkcs.key-generation": generation})
    ids = [service.admin("POST", "pkcsRequests", order(recipient, keyAlgorithm=kind, pfxEncryption=encryption))["requestId"]
           for kind in sorted(KINDS) for encryption in ("aes256", "compat")]
    # One payload that is re-encrypted, and one that cannot be.
    import_key, pfx = connector.public_key(), Pfx("user1@contoso.example")
    members = dict(kind="recrypt", subjectName=None, encryptedPfxBlob=base64.b64encode(pfx.blob).decode())
    recrypts = [service.admin("POST", "pkcsRequests", order(recipient, encryptedPfxPassword=base64.b64encode(
        envelope(import_key, password)).decode(), **members))["requestId"] for password in (pfx.password, b"not this password")]
    service.wait_none_open(300)
    needles, passwords = [], [pfx.password, b"not this password"]
    for request_id in ids:
        key, _, _, password = open_result(service.wait_done(request_id)["result"], recipient)
        needles += parts_of_key(key)
        passwords.append(password)
    assert [service.wait_done(i)["state"] for i in recrypts] == ["completed", "failed"]
    wait_until(lambda: connector.journal_open() == 0, "the journal is closed")

    # A search that cannot find anything proves nothing: what must be there is found the same way.
    assert find_bytes_in_memory(connector.process.pid, [str(connector.state).encode()])
    for pid in (connector.process.pid, connector.token_pid()):
        assert not find_bytes_in_memory(pid, needles)
        assert not find_in_memory(pid, passwords)
    before = token.object_bytes()
    connector.process.stop()
    for folder in (connector.state, connector.log, connector.run, service.folder):
        assert not find_bytes_in_files(folder, needles)
        assert not find_in_files(folder, passwords)
    assert token.object_bytes() == before
