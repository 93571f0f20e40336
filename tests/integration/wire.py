# SPDX-License-Identifier: MIT
"""The daemon's side of the wire to certconnector-token (hsm/wire.h), for tests that drive that process directly."""

import os
import socket
import struct
import subprocess

(SETUP, ADD_KEY, STATE, PUBLIC, SIGN, DECRYPT, REENCRYPT, SEAL, UNSEAL, RANDOM, DEVICE_KEY_NEW, DEVICE_KEY_CSR,
 DEVICE_KEY_PFX, OPEN_CONTENT_KEY, PIN_QUESTION, PIN_ANSWER) = range(1, 17)
PFX_IMPORT, RA_SIGN, RA_ENCRYPT, CA, OCSP, IDENTITY, SEAL_ROLE, AUDIT = range(8)
STARTING, OPEN, LOST, PIN_REFUSED, CLOSED = range(5)
SIGN_PKCS1, SIGN_PSS, SIGN_RAW, SIGN_ECDSA = range(1, 5)
DECRYPT_PKCS1, DECRYPT_OAEP, DECRYPT_RAW = range(1, 4)
AUTO, TOKEN, HOST = range(3)
PADDINGS = {"pkcs1": 0, "sha1": 1, "sha256": 2, "sha384": 3, "sha512": 4}
FORMS = {"cms": 0, "oaep256": 1, "oaep1": 2, "pkcs1": 3}
CIPHERS = {"aes": 0, "3des": 1}
KEYSPECS = {"rsa2048": 0, "rsa3072": 1, "rsa4096": 2, "ecP256": 3, "ecP384": 4}
GENERATE_HOST, GENERATE_TOKEN = range(2)
PFX_ENCRYPTIONS = {"aes256": 0, "compat": 1}
NIDS = {"sha1": 64, "sha224": 675, "sha256": 672, "sha384": 673, "sha512": 674}
DOM_PKCS11, DOM_TOKEN = 7, 8
(UNAVAILABLE, REFUSED_PIN, KEY_NOT_FOUND, KEY_REPLACED, ROLE, UNSUPPORTED, BAD_DECRYPT, RECIPIENT, PFX_PASSWORD, PFX_CONTENT,
 BAD_INPUT) = range(1, 12)


class WireError(Exception):
    def __init__(self, domain, code, text):
        super().__init__(f"{domain}/{code}: {text}")
        self.domain, self.code, self.text = domain, code, text


def field(data):
    if isinstance(data, str):
        data = data.encode()
    return struct.pack(">I", len(data)) + data


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, count):
        assert len(self.data) >= count, "a reply cut short"
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, count):
        return int.from_bytes(self.take(count), "big")

    def bytes(self):
        return self.take(self.number(4))

    def end(self):
        assert self.data == b"", "bytes behind the last field"


class TokenProcess:
    """certconnector-token with its channels; use as a context."""

    def __init__(self, program, channels=1, env=None, stderr=None):
        pairs = [socket.socketpair() for _ in range(channels)]
        self.sockets = [ours for ours, _ in pairs]
        theirs = [other.fileno() for _, other in pairs]
        # Descriptors 3, 4 … in the child: a shell moves them there and is replaced.
        high = [os.dup2(fd, 100 + i) for i, fd in enumerate(theirs)]
        moves = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(high))
        for fd in high:
            os.set_inheritable(fd, True)
        self.child = subprocess.Popen(["bash", "-c", f'exec "$0" --channels {channels} {moves}', str(program)], pass_fds=high,
                                      env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL, stderr=stderr)
        for fd in high:
            os.close(fd)
        for _, other in pairs:
            other.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, seconds=10):
        for s in self.sockets:
            s.close()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise

    def send(self, op, body=b"", channel=0):
        frame = bytes([op]) + body
        self.sockets[channel].sendall(struct.pack(">I", len(frame)) + frame)

    def receive(self, channel=0, seconds=30):
        s = self.sockets[channel]
        s.settimeout(seconds)
        data = b""
        want = 4
        while len(data) < want:
            part = s.recv(want - len(data))
            if part == b"":
                raise EOFError("the token process closed the channel")
            data += part
            if len(data) == 4 and want == 4:
                want = 4 + struct.unpack(">I", data)[0]
        reader = Reader(data[4:])
        if reader.number(1) == 0:
            return reader
        domain, code, text = reader.number(1), reader.number(8), reader.bytes().decode()
        reader.end()
        raise WireError(domain, code, text)

    def call(self, op, body=b"", channel=0, seconds=30):
        self.send(op, body, channel)
        return self.receive(channel, seconds)

    def setup(self, module, uri, pin, init_args="", profile="auto", state_dir="", allow_raw_rsa=True, open_timeout_ms=5000, version=4, asks=False):
        body = struct.pack(">I", version) + field(module) + field(init_args) + field(uri) + field(pin) + field(profile)
        body += field(str(state_dir)) + bytes([allow_raw_rsa]) + struct.pack(">QB", open_timeout_ms, asks)
        self.call(SETUP, body).end()

    def add_key(self, role, uri, spki=b""):
        return self.call(ADD_KEY, bytes([role]) + field(uri) + field(spki)).number(2)

    def state(self, timeout_ms=5000):
        reader = self.call(STATE, struct.pack(">Q", timeout_ms))
        state = reader.number(1)
        names = ("label", "manufacturer", "model", "serial", "profile", "error")
        told = {name: reader.bytes().decode() for name in names}
        told["opening_ms"] = reader.number(8)
        told["asks"] = bool(reader.number(1))
        reader.end()
        return state, told

    def public(self, key, channel=0):
        return self.call(PUBLIC, struct.pack(">H", key), channel).bytes()

    def sign(self, key, how, digest, nid=0, mgf=0, salt=0, channel=0, **options):
        return self.call(SIGN, struct.pack(">HBHHH", key, how, nid, mgf, salt) + field(digest), channel, **options).bytes()

    def decrypt(self, key, how, ciphertext, nid=0, mgf=0, label=b"", channel=0, **options):
        return self.call(DECRYPT, struct.pack(">HBHH", key, how, nid, mgf) + field(label) + field(ciphertext), channel, **options).bytes()

    def open_content_key(self, key, encrypted, length=32, nid=0, channel=0, **options):
        """nid: the hash of OAEP, 0 for PKCS #1 v1.5."""
        body = struct.pack(">HBHHB", key, nid != 0, nid, nid, length) + field(encrypted)
        reader = self.call(OPEN_CONTENT_KEY, body, channel, **options)
        opened = reader.bytes()
        reader.end()
        return opened

    def reencrypt(self, key, mode, padding, ciphertext, recipient, form, cipher="aes", pfx=b"", thumbprint="", channel=0,
                  enveloped=False):
        body = struct.pack(">HBBB", key, mode, enveloped, PADDINGS[padding]) + field(ciphertext) + field(recipient)
        body += bytes([FORMS[form], CIPHERS[cipher]]) + field(pfx) + field(thumbprint)
        reader = self.call(REENCRYPT, body, channel)
        on_token, out = reader.number(1), reader.bytes()
        reader.end()
        return bool(on_token), out

    def seal(self, key, context, plain):
        return self.call(SEAL, struct.pack(">H", key) + field(context) + field(plain)).bytes()

    def unseal(self, key, context, sealed):
        return self.call(UNSEAL, struct.pack(">H", key) + field(context) + field(sealed)).bytes()

    def device_key_new(self, key, spec, generation, context, channel=0):
        reader = self.call(DEVICE_KEY_NEW, struct.pack(">HBB", key, KEYSPECS[spec], generation) + field(context), channel)
        sealed, spki = reader.bytes(), reader.bytes()
        reader.end()
        return sealed, spki

    def device_key_csr(self, key, context, sealed, subject, extensions=b"", channel=0):
        body = struct.pack(">H", key) + field(context) + field(sealed) + field(subject) + field(extensions)
        return self.call(DEVICE_KEY_CSR, body, channel).bytes()

    def device_key_pfx(self, key, context, sealed, certificate, recipient, chain=b"", name="device", encryption="aes256", form="cms",
                       cipher="aes", channel=0):
        body = struct.pack(">H", key) + field(context) + field(sealed) + field(certificate) + field(chain) + field(name)
        body += bytes([PFX_ENCRYPTIONS[encryption]]) + field(recipient) + bytes([FORMS[form], CIPHERS[cipher]])
        reader = self.call(DEVICE_KEY_PFX, body, channel)
        pfx, password = reader.bytes(), reader.bytes()
        reader.end()
        return pfx, password

    def random(self, length, channel=0):
        return self.call(RANDOM, struct.pack(">I", length), channel).bytes()
