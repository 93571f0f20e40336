# SPDX-License-Identifier: MIT
"""certconnector-token driven over its wire, on SoftHSM and NSS softokn: what comes out is checked by python3-cryptography."""

import datetime
import hashlib
import itertools
import os
import struct
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key, pkcs12
from cryptography.x509.oid import NameOID

import wire
from conftest import BUILD, SOFTHSM
from rig import Fake
from wire import TokenProcess, WireError

PROGRAM = BUILD / "bin" / "certconnector-token"
FAKE = BUILD / "tests" / "p11_fake.so"
HASHES = {"sha1": hashes.SHA1(), "sha224": hashes.SHA224(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
KEYS = ("rsa2048:import:01", "rsa2048:ra:02", "rsa3072:ca:03", "ecP256:ec256:04", "ecP384:ec384:05", "ecP521:ec521:06", "aes256:seal:07")
PASSWORD = "pässword-canary".encode("latin-1")


def make_recipient(bits=2048, days=30):
    key = rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(4711)
                   .not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(now + datetime.timedelta(days=days))
                   .sign(key, hashes.SHA256()))
    return key, certificate


@pytest.fixture(scope="module")
def recipient():
    return make_recipient()


def oaep(name):
    return padding.OAEP(padding.MGF1(HASHES[name]), HASHES[name], None)


def encrypt(public, how, data=PASSWORD):
    return public.encrypt(data, padding.PKCS1v15() if how == "pkcs1" else oaep(how))


def read(recipient, form, out, tmp_path):
    key, _ = recipient
    if form == "pkcs1":
        return key.decrypt(out, padding.PKCS1v15())
    if form.startswith("oaep"):
        return key.decrypt(out, oaep({"oaep256": "sha256", "oaep1": "sha1"}[form]))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                         serialization.NoEncryption()))
    (tmp_path / "cms.der").write_bytes(out)
    return subprocess.run(["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", tmp_path / "cms.der", "-inkey", tmp_path / "key.pem"],
                          check=True, capture_output=True, timeout=60).stdout


@pytest.fixture(params=["softhsm", "softoken"])
def make(request):
    return request.getfixturevalue(request.param)


def start(token, module=None, env=None, channels=2, **settings):
    process = TokenProcess(PROGRAM, channels, dict(token.env, **(env or {})))
    try:
        process.setup(str(module or token.module), token.uri, token.pin, token.init_args, state_dir=token.folder, **settings)
    except BaseException:
        process.close()
        raise
    return process


def fault(code, function, *args, **options):
    """function must fail with this fault; the text."""
    with pytest.raises(WireError) as caught:
        function(*args, **options)
    assert (caught.value.domain, caught.value.code) == (wire.DOM_TOKEN, code), caught.value
    return caught.value.text


# ---- Operations ----


def test_state_tells_which_token(make):
    token = make()
    with start(token) as p:
        state, told = p.state()
    assert state == wire.OPEN
    assert told["label"] == token.label
    assert told["profile"] == ("softhsm" if token.module == SOFTHSM else "nss-softokn")
    assert told["error"] == ""


def test_signatures(make):
    token = make().change(*KEYS)
    digests = {name: hashlib.new(name, b"message").digest() for name in HASHES}
    with start(token) as p:
        ca = p.add_key(wire.CA, "pkcs11:object=ca")
        public = load_der_public_key(p.public(ca))
        assert public.key_size == 3072
        for name, digest in digests.items():
            public.verify(p.sign(ca, wire.SIGN_PKCS1, digest, wire.NIDS[name]), b"message", padding.PKCS1v15(), HASHES[name])
            salt = len(digest)
            pss = p.sign(ca, wire.SIGN_PSS, digest, wire.NIDS[name], wire.NIDS[name], salt, channel=1)
            public.verify(pss, b"message", padding.PSS(padding.MGF1(HASHES[name]), salt), HASHES[name])
        for bits, name in ((256, "sha512"), (256, "sha256"), (384, "sha384"), (521, "sha512")):
            key = p.add_key(wire.OCSP, f"pkcs11:object=ec{bits}")
            load_der_public_key(p.public(key)).verify(p.sign(key, wire.SIGN_ECDSA, digests[name]), digests[name],
                                                      ec.ECDSA(Prehashed(HASHES[name])))
            fault(wire.BAD_INPUT, p.sign, key, wire.SIGN_PKCS1, digests["sha256"], wire.NIDS["sha256"])
        fault(wire.BAD_INPUT, p.sign, ca, wire.SIGN_PKCS1, b"short", wire.NIDS["sha256"])
        fault(wire.BAD_INPUT, p.sign, ca, wire.SIGN_PKCS1, bytes(374))
        p.sign(ca, wire.SIGN_PKCS1, bytes(373))
        fault(wire.BAD_INPUT, p.sign, ca, wire.SIGN_ECDSA, digests["sha256"])


def test_pss_of_any_hashes_is_padded_outside_where_the_token_refuses_it(softhsm):
    """SoftHSM wants both hashes to be the same."""
    token = softhsm().change("rsa2048:ca:01")
    digest = hashlib.sha256(b"message").digest()
    for allowed in (True, False):
        with start(token, allow_raw_rsa=allowed) as p:
            ca = p.add_key(wire.CA, "pkcs11:object=ca")
            args = (ca, wire.SIGN_PSS, digest, wire.NIDS["sha256"], wire.NIDS["sha1"], 20)
            if allowed:
                load_der_public_key(p.public(ca)).verify(p.sign(*args), b"message", padding.PSS(padding.MGF1(hashes.SHA1()), 20), hashes.SHA256())
            else:
                assert "allow-raw-rsa" in fault(wire.UNSUPPORTED, p.sign, *args)


def test_decryption(make):
    token = make().change(*KEYS)
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import;type=private")
        public = load_der_public_key(p.public(key))
        for name, data in itertools.product(HASHES, (b"x", PASSWORD)):
            nid = wire.NIDS[name]
            assert p.decrypt(key, wire.DECRYPT_OAEP, encrypt(public, name, data), nid, nid) == data
        labelled = public.encrypt(b"data", padding.OAEP(padding.MGF1(HASHES["sha512"]), HASHES["sha512"], b"label"))
        assert p.decrypt(key, wire.DECRYPT_OAEP, labelled, wire.NIDS["sha512"], wire.NIDS["sha512"], b"label") == b"data"
        fault(wire.BAD_DECRYPT, p.decrypt, key, wire.DECRYPT_OAEP, labelled, wire.NIDS["sha512"], wire.NIDS["sha512"], b"other")
        assert p.decrypt(key, wire.DECRYPT_PKCS1, encrypt(public, "pkcs1"), channel=1) == PASSWORD
        block = (12345).to_bytes(256, "big")
        n = public.public_numbers()
        assert p.decrypt(key, wire.DECRYPT_RAW, pow(12345, n.e, n.n).to_bytes(256, "big")) == block
        fault(wire.BAD_DECRYPT, p.decrypt, key, wire.DECRYPT_OAEP, bytes(255), 672, 672)
        for name in HASHES:
            broken = bytearray(encrypt(public, name))
            broken[-1] ^= 1
            fault(wire.BAD_DECRYPT, p.decrypt, key, wire.DECRYPT_OAEP, bytes(broken), wire.NIDS[name], wire.NIDS[name])
            assert p.decrypt(key, wire.DECRYPT_OAEP, encrypt(public, name), wire.NIDS[name], wire.NIDS[name]) == PASSWORD


def test_oaep_needs_raw_rsa_where_the_token_lacks_the_hash(softhsm):
    token = softhsm().change("rsa2048:import:01")
    with start(token, allow_raw_rsa=False) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        assert p.decrypt(key, wire.DECRYPT_OAEP, encrypt(public, "sha1"), wire.NIDS["sha1"], wire.NIDS["sha1"]) == PASSWORD
        for _ in range(2):
            text = fault(wire.UNSUPPORTED, p.decrypt, key, wire.DECRYPT_OAEP, encrypt(public, "sha512"), wire.NIDS["sha512"], wire.NIDS["sha512"])
            assert "SHA-512" in text and "allow-raw-rsa" in text
        fault(wire.UNSUPPORTED, p.decrypt, key, wire.DECRYPT_RAW, bytes(256))


def test_sealing(make):
    token = make().change(*KEYS, "aes256:other:08")
    with start(token) as p:
        key, other = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal"), p.add_key(wire.SEAL_ROLE, "pkcs11:object=other;type=secret-key")
        for size in (1, 50, 2000, 65520):
            plain = os.urandom(size)
            sealed = p.seal(key, b"request 4711", plain)
            assert len(sealed) == size + 31
            assert p.unseal(key, b"request 4711", sealed) == plain
        sealed = p.seal(key, b"request", b"secret")
        assert sealed != p.seal(key, b"request", b"secret")
        for at in range(len(sealed)):
            spoiled = bytearray(sealed)
            spoiled[at] ^= 1
            fault(wire.BAD_DECRYPT, p.unseal, key, b"request", bytes(spoiled))
        for spoiled in (b"", sealed[:-1], sealed + b"\0", sealed[:20]):
            fault(wire.BAD_DECRYPT, p.unseal, key, b"request", spoiled)
        fault(wire.BAD_DECRYPT, p.unseal, key, b"other request", sealed)
        assert "another key" in fault(wire.BAD_DECRYPT, p.unseal, other, b"request", sealed)
        fault(wire.BAD_INPUT, p.seal, key, b"request", bytes(65521))
        fault(wire.BAD_INPUT, p.seal, key, b"request", b"")
        fault(wire.ROLE, p.public, key)


def test_random(make):
    with start(make()) as p:
        p.state()
        assert len(p.random(4096)) == 4096
        assert p.random(32, channel=1) != p.random(32, channel=1)
        fault(wire.BAD_INPUT, p.random, 4097)


# ---- Re-encryption ----

# What SoftHSM does on the token: the padding in, the form out.
SOFTHSM_ON_TOKEN = {(i, o) for i in ("pkcs1", "sha1") for o in ("pkcs1", "oaep1")}


def test_reencryption_in_every_way(make, recipient, tmp_path):
    token = make().change("rsa2048:import:01")
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    on_token = {}
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        for how, form, cipher in itertools.product(wire.PADDINGS, wire.FORMS, wire.CIPHERS):
            if form != "cms" and cipher != "aes":
                continue
            for mode in (wire.AUTO, wire.HOST, wire.AUTO):
                went, out = p.reencrypt(key, mode, how, encrypt(public, how), der, form, cipher)
                assert read(recipient, form, out, tmp_path) == PASSWORD, (how, form, cipher, mode)
                assert not (mode == wire.HOST and went)
            on_token[how, form, cipher] = went
            args = (key, wire.TOKEN, how, encrypt(public, how), der, form, cipher)
            for _ in range(2):
                if went:
                    went_again, out = p.reencrypt(*args)
                    assert went_again and read(recipient, form, out, tmp_path) == PASSWORD
                else:
                    assert "the token cannot re-encrypt" in fault(wire.UNSUPPORTED, p.reencrypt, *args)
    if token.module == SOFTHSM:
        assert {(i, o) for (i, o, _), went in on_token.items() if went} == SOFTHSM_ON_TOKEN
    else:
        assert all(on_token.values()), on_token


def test_reencryption_on_the_token_is_unwrap_and_wrap(softhsm, recipient, tmp_path):
    """Seen by a module that writes down each call: nothing is decrypted, and every object is destroyed."""
    token = softhsm().change("rsa2048:import:01")
    log = tmp_path / "calls"
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token, FAKE, {"P11_FAKE_LOG": str(log)}) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        for how, mechanism in (("pkcs1", "0x1"), ("sha1", "0x9")):
            log.write_text("")
            went, out = p.reencrypt(key, wire.TOKEN, how, encrypt(public, how), der, "pkcs1")
            assert went and read(recipient, "pkcs1", out, tmp_path) == PASSWORD
            calls = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
            assert f"C_UnwrapKey mechanism={mechanism} rv=0x0" in calls
            assert "C_WrapKey mechanism=0x1 rv=0x0" in calls
            assert not any("Decrypt" in call or "GetAttribute" in call for call in calls)
            assert sum("C_DestroyObject" in call for call in calls) == 2
        # A way that was refused is not tried on each request.
        fault(wire.UNSUPPORTED, p.reencrypt, key, wire.TOKEN, "sha512", encrypt(public, "sha512"), der, "pkcs1")
        log.write_text("")
        fault(wire.UNSUPPORTED, p.reencrypt, key, wire.TOKEN, "sha512", encrypt(public, "sha512"), der, "pkcs1")
        assert p.reencrypt(key, wire.AUTO, "sha512", encrypt(public, "sha512"), der, "pkcs1")[0] is False
        assert "C_UnwrapKey" not in log.read_text()


def test_a_bad_ciphertext_is_no_lack_of_the_token(softhsm, recipient, tmp_path):
    token = softhsm().change("rsa2048:import:01")
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        for how in ("pkcs1", "sha1"):
            good = encrypt(public, how)
            for bad in (good[:-1] + bytes([good[-1] ^ 1]), bytes(256), b"\xff" * 256, good[1:], good + b"\0", b""):
                for mode in (wire.TOKEN, wire.AUTO, wire.HOST):
                    fault(wire.BAD_DECRYPT, p.reencrypt, key, mode, how, bad, der, "pkcs1")
            assert p.reencrypt(key, wire.AUTO, how, good, der, "pkcs1")[0] is True


def test_nobody_closes_a_way_for_others(softhsm, recipient):
    """SoftHSM refuses to wrap an empty secret, by a code that looks as if it could never wrap."""
    token = softhsm().change("rsa2048:import:01")
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        for how, form in (("pkcs1", "pkcs1"), ("sha1", "oaep1")):
            fault(wire.UNSUPPORTED, p.reencrypt, key, wire.TOKEN, how, encrypt(public, how, b""), der, form)
            assert p.reencrypt(key, wire.AUTO, how, encrypt(public, how), der, form)[0] is True


def test_recipients_are_judged_first(softhsm, recipient):
    token = softhsm().change("rsa2048:import:01")
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        good = encrypt(load_der_public_key(p.public(key)), "pkcs1")
        der = recipient[1].public_bytes(serialization.Encoding.DER)
        bad = [make_recipient(1024)[1].public_bytes(serialization.Encoding.DER),
               make_recipient(days=-1)[1].public_bytes(serialization.Encoding.DER), der + b"\0", der[:-1], b""]
        for certificate in bad:
            fault(wire.RECIPIENT, p.reencrypt, key, wire.AUTO, "pkcs1", good, certificate, "cms")


def test_in_this_process_the_pfx_is_tried(softhsm, recipient):
    token = softhsm().change("rsa2048:import:01")
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    device_key, certificate = make_recipient()
    pfx = pkcs12.serialize_key_and_certificates(b"user", device_key, certificate, None, serialization.BestAvailableEncryption(b"right"))
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex()
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))

        def go(password, file, wanted, mode=wire.HOST):
            return p.reencrypt(key, mode, "sha256", encrypt(public, "sha256", password), der, "cms", "aes", file, wanted)

        for wanted in (thumbprint, thumbprint.upper(), ""):
            assert go(b"right", pfx, wanted)[0] is False
        fault(wire.PFX_PASSWORD, go, b"wrong", pfx, thumbprint)
        fault(wire.PFX_PASSWORD, go, b"wrong", pfx, thumbprint, wire.AUTO)
        assert "not the one requested" in fault(wire.PFX_CONTENT, go, b"right", pfx, "00" * 20)
        fault(wire.PFX_CONTENT, go, b"right", pfx[:-10], thumbprint)


# ---- Passwords in messages ----


def certify(public, subject="device"):
    """A certificate for a public key whose private half is elsewhere."""
    signer = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (x509.CertificateBuilder().subject_name(name).issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]))
            .public_key(public).serial_number(815).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False).sign(signer, hashes.SHA256()))


def envelope(public, tmp_path, *options, data=PASSWORD):
    """A message as the openssl program makes it."""
    (tmp_path / "to.pem").write_bytes(certify(public).public_bytes(serialization.Encoding.PEM))
    return subprocess.run(["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", *options, "-recip", tmp_path / "to.pem",
                           *(["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"] if "-keyid" in options else [])],
                          input=data, check=True, capture_output=True, timeout=60).stdout


def test_messages_of_another_program(make, recipient, tmp_path):
    token = make().change("rsa2048:import:01")
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        for options in (["-aes256"], ["-aes128", "-keyid"], ["-des3"], ["-aes-192-cbc", "-keyid"]):
            message = envelope(public, tmp_path, *options)
            went, out = p.reencrypt(key, wire.AUTO, "pkcs1", message, der, "oaep256", enveloped=True)
            assert not went and read(recipient, "oaep256", out, tmp_path) == PASSWORD
            fault(wire.BAD_DECRYPT, p.reencrypt, key, wire.AUTO, "pkcs1", message[:-1], der, "cms", enveloped=True)
        fault(wire.UNSUPPORTED, p.reencrypt, key, wire.TOKEN, "pkcs1", message, der, "cms", enveloped=True)
        fault(wire.RECIPIENT, p.reencrypt, key, wire.AUTO, "pkcs1", message, der[:-1], "cms", enveloped=True)


def test_no_word_of_the_token_tells_of_the_padding(softhsm, recipient, tmp_path):
    """What a token says to a ciphertext is its own; what comes of it here is one answer, that to a message with a bad content."""
    token = softhsm().change("rsa2048:import:01")
    fake = Fake(tmp_path)
    der = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.PFX_IMPORT, "pkcs11:object=import")
        public = load_der_public_key(p.public(key))
        message = envelope(public, tmp_path, "-aes256", data=b"sixteen letters!")

        def answer(data=message):
            # Under a random key one message in 256 has a padding that passes.
            for _ in range(5):
                try:
                    _, out = p.reencrypt(key, wire.AUTO, "pkcs1", data, der, "pkcs1", enveloped=True)
                    assert read(recipient, "pkcs1", out, tmp_path) != b"sixteen letters!"
                except WireError as error:
                    return error.domain, error.code, error.text
            raise AssertionError("opens again and again")

        spoiled = bytearray(message)
        spoiled[-17] ^= 1
        wanted = answer(bytes(spoiled))
        assert wanted[:2] == (wire.DOM_TOKEN, wire.BAD_DECRYPT)
        for code in (0x05, 0x06, 0x07, 0x20, 0x21, 0x40, 0x41, 0x68, 0x70, 0x71, 0x150):
            fake.cue(f"C_Decrypt rv={code:#x}")
            assert answer() == wanted, hex(code)
        # Before it has seen the ciphertext, its answer is about itself.
        fake.cue("C_DecryptInit rv=0x70")
        fault(wire.UNSUPPORTED, p.reencrypt, key, wire.AUTO, "pkcs1", message, der, "pkcs1", enveloped=True)
        fake.cue()
        _, out = p.reencrypt(key, wire.AUTO, "pkcs1", message, der, "pkcs1", enveloped=True)
        assert read(recipient, "pkcs1", out, tmp_path) == b"sixteen letters!"


# ---- Keys of devices ----

CONTEXT = b"key 4711"
SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device-1")])


def certificate_of(csr):
    return certify(csr.public_key()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("generation", [wire.GENERATE_HOST, wire.GENERATE_TOKEN])
@pytest.mark.parametrize("spec", ["rsa2048", "ecP256", "ecP384"])
def test_a_device_key_from_its_making_to_its_pfx(make, recipient, tmp_path, spec, generation):
    token = make().change("aes256:seal:07")
    to = recipient[1].public_bytes(serialization.Encoding.DER)
    with start(token) as p:
        key = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal")
        sealed, spki = p.device_key_new(key, spec, generation, CONTEXT)
        csr = x509.load_der_x509_csr(p.device_key_csr(key, CONTEXT, sealed, SUBJECT.public_bytes(), channel=1))
        assert csr.is_signature_valid and csr.subject == SUBJECT
        encoded = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        assert csr.public_key().public_bytes(*encoded) == spki
        certificate = certificate_of(csr)
        passwords = set()
        for encryption, form in itertools.product(wire.PFX_ENCRYPTIONS, wire.FORMS):
            pfx, encrypted = p.device_key_pfx(key, CONTEXT, sealed, certificate, to, chain=to, encryption=encryption, form=form)
            password = read(recipient, form, encrypted, tmp_path)
            passwords.add(password)
            private, own, chain = pkcs12.load_key_and_certificates(pfx, password)
            assert private.public_key().public_bytes(*encoded) == spki
            assert own.public_bytes(serialization.Encoding.DER) == certificate
            assert [c.public_bytes(serialization.Encoding.DER) for c in chain] == [to]
        assert len(passwords) == 8 and all(len(password) == 32 for password in passwords)


def test_sealed_device_keys(softhsm, recipient):
    token = softhsm().change("aes256:seal:07", "aes256:other:08", "rsa2048:ca:01")
    to = recipient[1].public_bytes(serialization.Encoding.DER)
    subject = SUBJECT.public_bytes()
    with start(token) as p:
        key, other, ca = (p.add_key(role, f"pkcs11:object={name}") for role, name in
                          ((wire.SEAL_ROLE, "seal"), (wire.SEAL_ROLE, "other"), (wire.CA, "ca")))
        sealed, spki = p.device_key_new(key, "ecP256", wire.GENERATE_HOST, CONTEXT)
        certificate = certificate_of(x509.load_der_x509_csr(p.device_key_csr(key, CONTEXT, sealed, subject)))
        for at in range(len(sealed)):
            spoiled = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1:]
            fault(wire.BAD_DECRYPT, p.device_key_csr, key, CONTEXT, spoiled, subject)
        for spoiled in (b"", sealed[:-1], sealed + b"\0"):
            fault(wire.BAD_DECRYPT, p.device_key_pfx, key, CONTEXT, spoiled, certificate, to)
        fault(wire.BAD_DECRYPT, p.device_key_pfx, key, b"key 4712", sealed, certificate, to)
        fault(wire.BAD_DECRYPT, p.device_key_csr, other, CONTEXT, sealed, subject)
        # Bytes and keys are sealed under one key, and neither opens as the other.
        fault(wire.BAD_DECRYPT, p.unseal, key, CONTEXT, sealed)
        fault(wire.BAD_DECRYPT, p.unseal, key, CONTEXT, b"\1" + sealed[1:])
        fault(wire.BAD_DECRYPT, p.device_key_csr, key, CONTEXT, p.seal(key, CONTEXT, b"bytes"), subject)
        _, wrong = make_recipient()
        for call, args in ((p.device_key_new, ("ecP256", wire.GENERATE_HOST, CONTEXT)), (p.device_key_csr, (CONTEXT, sealed, subject)),
                           (p.device_key_pfx, (CONTEXT, sealed, certificate, to))):
            fault(wire.ROLE, call, ca, *args)
            fault(wire.BAD_INPUT, call, 99, *args)
        fault(wire.BAD_INPUT, p.device_key_pfx, key, CONTEXT, sealed, wrong.public_bytes(serialization.Encoding.DER), to)
        for chain in (b"x", to[:-1], to * 17):
            fault(wire.BAD_INPUT, p.device_key_pfx, key, CONTEXT, sealed, certificate, to, chain)
        for bad in (make_recipient(days=-1)[1].public_bytes(serialization.Encoding.DER), certificate, b"", to + b"\0"):
            fault(wire.RECIPIENT, p.device_key_pfx, key, CONTEXT, sealed, certificate, bad)
        for subject, extensions in ((b"", b""), (b"\x30", b""), (SUBJECT.public_bytes(), b"x")):
            fault(wire.BAD_INPUT, p.device_key_csr, key, CONTEXT, sealed, subject, extensions)
        fault(wire.BAD_INPUT, p.device_key_new, key, "ecP256", wire.GENERATE_HOST, bytes(4097))


def writable_memory(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                try:
                    memory.seek(begin)
                    yield line, memory.read(end - begin)
                except OSError:
                    continue  # a guard page


@pytest.mark.parametrize("spec", ["rsa2048", "ecP384"])
def test_a_device_key_leaves_no_trace_in_the_process(make, recipient, tmp_path, spec):
    """Not on the heap, and not where the stack of a function was: softokn leaves the private number of an EC key there."""
    token = make().change("aes256:seal:07")
    to = recipient[1].public_bytes(serialization.Encoding.DER)
    secrets = {}
    with start(token) as p:
        key = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal")
        # The last one, of the token, has no others behind it that would write over what it left.
        for number, generation in enumerate((wire.GENERATE_HOST, wire.GENERATE_TOKEN)):
            sealed, _ = p.device_key_new(key, spec, generation, CONTEXT)
            certificate = certificate_of(x509.load_der_x509_csr(p.device_key_csr(key, CONTEXT, sealed, SUBJECT.public_bytes())))
            pfx, encrypted = p.device_key_pfx(key, CONTEXT, sealed, certificate, to)
            password = read(recipient, "cms", encrypted, tmp_path)
            numbers = pkcs12.load_key_and_certificates(pfx, password)[0].private_numbers()
            number_of_key = numbers.p if spec.startswith("rsa") else numbers.private_value
            value = number_of_key.to_bytes((number_of_key.bit_length() + 7) // 8, "big")
            # As in DER and as the processor has it; of the password the half that an allocator does not write over.
            secrets[f"key {number}"] = [value[:16], value[::-1][:16]]
            secrets[f"password {number}"] = [password[16:], password[16:].decode().encode("utf-16-be")]
        memory = list(writable_memory(p.child.pid))
        # A search that cannot find anything proves nothing.
        assert any(token.pin.encode() in data for _, data in memory)
        assert not [f"{name} in {line}" for line, data in memory for name, forms in secrets.items() for form in forms if form in data]


def test_a_pair_of_the_token_leaves_nothing_there(softhsm, tmp_path):
    """Whichever step fails: what was made is destroyed, or its session is closed."""
    token = softhsm().change("aes256:seal:07")
    fake = Fake(tmp_path)
    with start(token, FAKE, fake.env) as p:
        key = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal")

        def new(spec="ecP256"):
            return p.device_key_new(key, spec, wire.GENERATE_TOKEN, CONTEXT)

        def made():
            words = [line[1:] for line in fake.lines() if line[-1] == "rv=0x0"]
            names = [line[0] for line in words]
            return 2 * names.count("C_GenerateKeyPair") + names.count("C_CreateObject"), names.count("C_DestroyObject")

        new()
        for step in ("C_GenerateKeyPair", "C_CreateObject", "C_WrapKey", "C_GetAttributeValue"):
            fake.cue(f"{step} rv=0x6")
            fake.forget()
            if step == "C_GetAttributeValue":
                assert "does not tell the public half" in fault(wire.UNSUPPORTED, new)
            else:
                with pytest.raises(WireError) as caught:
                    new()
                assert (caught.value.domain, caught.value.code) == (wire.DOM_PKCS11, 6), step
                assert f"{step}: CKR_FUNCTION_FAILED" in caught.value.text
            created, destroyed = made()
            assert created == destroyed == {"C_GenerateKeyPair": 0, "C_CreateObject": 2}.get(step, 3), step
            # What a token that cannot do it says.
            fake.cue(f"{step} rv=0x70")
            if step != "C_GetAttributeValue":
                assert step in fault(wire.UNSUPPORTED, new)
        # An object that is not destroyed goes with its session.
        fake.cue("C_DestroyObject rv=0x6 count=1")
        fake.forget()
        new()
        p.random(1)
        said = [line[1:] for line in fake.lines()]
        failed, = [i for i, words in enumerate(said) if words[0] == "C_DestroyObject" and words[-1] == "rv=0x6"]
        assert "C_CloseSession" in [words[0] for words in said[failed:]]
        # The next way of wrapping is tried; SoftHSM has no padded CBC.
        fake.cue()
        fake.forget()
        new("rsa2048")
        assert [line[2:] for line in fake.lines() if line[1] == "C_WrapKey"] == [["mechanism=0x1085", "rv=0x70"], ["mechanism=0x210a", "rv=0x0"]]
        fake.cue("C_WrapKey rv=0x70 count=2")
        fake.forget()
        new("rsa2048")
        assert [line[2] for line in fake.lines() if line[1] == "C_WrapKey"] == ["mechanism=0x1085", "mechanism=0x210a", "mechanism=0x2109"]


# ---- Keys ----


def test_a_key_answers_its_role_alone(softhsm):
    token = softhsm().change(*KEYS)
    digest = hashlib.sha256(b"x").digest()
    with start(token) as p:
        roles = {wire.PFX_IMPORT: "D", wire.RA_SIGN: "S", wire.RA_ENCRYPT: "DS", wire.CA: "S", wire.OCSP: "S", wire.IDENTITY: "S", wire.AUDIT: "S"}
        for role, allowed in roles.items():
            key = p.add_key(role, "pkcs11:object=import")
            cipher = encrypt(load_der_public_key(p.public(key)), "pkcs1")
            for letter, call in (("S", lambda: p.sign(key, wire.SIGN_PKCS1, digest, 672)), ("D", lambda: p.decrypt(key, wire.DECRYPT_PKCS1, cipher))):
                if letter in allowed:
                    call()
                else:
                    fault(wire.ROLE, call)
            fault(wire.ROLE, p.seal, key, b"", b"x")
            # A bare signature is a decryption by another name.
            if allowed == "S":
                fault(wire.ROLE, p.sign, key, wire.SIGN_RAW, bytes(256))
                fault(wire.ROLE, p.reencrypt, key, wire.AUTO, "pkcs1", cipher, b"", "cms")
        seal = p.add_key(wire.SEAL_ROLE, "pkcs11:object=seal")
        fault(wire.ROLE, p.sign, seal, wire.SIGN_PKCS1, digest, 672)
        fault(wire.ROLE, p.decrypt, seal, wire.DECRYPT_PKCS1, bytes(256))
        fault(wire.ROLE, p.public, p.add_key(wire.PFX_IMPORT, "pkcs11:object=ec256"))
        fault(wire.BAD_INPUT, p.public, 999)


def test_a_key_must_be_the_only_one_of_its_uri(softhsm):
    token = softhsm().change("rsa2048:twin:01", "rsa2048:twin:02", "rsa2048:single:03")
    with start(token) as p:
        assert "more than one" in fault(wire.KEY_NOT_FOUND, p.public, p.add_key(wire.CA, "pkcs11:object=twin"))
        assert "no key" in fault(wire.KEY_NOT_FOUND, p.public, p.add_key(wire.CA, "pkcs11:object=none"))
        fault(wire.KEY_NOT_FOUND, p.public, p.add_key(wire.CA, "pkcs11:object=single;id=%02"))
        one, two = (p.public(p.add_key(wire.CA, f"pkcs11:object=twin;id=%0{i}")) for i in (1, 2))
        assert one != two
        for uri in ("pkcs11:", "pkcs11:object=a;token=other", "pkcs11:object=a;type=public", "object=a", "pkcs11:object=a?pin-value=1"):
            fault(wire.BAD_INPUT, p.add_key, wire.CA, uri)


@pytest.mark.parametrize("restart", [False, True])
def test_a_replaced_key_is_refused(make, restart):
    token = make().change("rsa2048:ca:01")
    digest = hashlib.sha256(b"x").digest()
    with start(token) as p:
        key = p.add_key(wire.CA, "pkcs11:object=ca")
        spki = p.public(key)
        p.sign(key, wire.SIGN_PKCS1, digest, 672)
        if not restart:
            token.change("-ca", "rsa2048:ca:01")
            fault(wire.KEY_REPLACED, p.sign, key, wire.SIGN_PKCS1, digest, 672)
            fault(wire.KEY_REPLACED, p.public, key)
            return
    token.change("-ca", "rsa2048:ca:01")
    with start(token) as p:
        fault(wire.KEY_REPLACED, p.sign, p.add_key(wire.CA, "pkcs11:object=ca", spki), wire.SIGN_PKCS1, digest, 672)
        p.sign(p.add_key(wire.CA, "pkcs11:object=ca"), wire.SIGN_PKCS1, digest, 672)


# ---- The process ----


def test_started_by_hand_it_says_who_starts_it():
    for arguments in ([], ["--channels", "1"], ["--channels", "0"], ["--help"]):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
        assert done.returncode == 2
        assert "not by hand" in done.stderr


def test_settings_that_can_never_work(softhsm):
    token = softhsm()
    good = {"module": token.module, "uri": token.uri, "pin": token.pin}
    for spoiled in ({"module": "/nonexistent.so"}, {"module": "/usr/lib/x86_64-linux-gnu/libz.so.1"}, {"uri": "pkcs11:nonsense=1"},
                    {"uri": "pkcs11:token=a;object=b"}, {"pin": "1234"}, {"profile": "unheard-of"}, {"profile": "nss-softokn"}, {"version": 99},
                    {"open_timeout_ms": 0}):
        with TokenProcess(PROGRAM, 1, token.env) as p:
            with pytest.raises(WireError) as caught:
                p.setup(**dict(good, **spoiled))
            assert "1234" not in caught.value.text
            p.setup(**good)
            assert p.state()[0] == wire.OPEN


def test_a_malformed_frame_ends_the_process(softhsm):
    token = softhsm().change("rsa2048:ca:01")
    frames = [b"\x00", b"\xff", b"\x05\x00", bytes([wire.PUBLIC]) + b"\0\0\0", bytes([wire.SETUP]), bytes([wire.RANDOM]) + b"\0\0\0\1x",
              bytes([wire.SIGN]) + b"\0\0\1\0\0\0\0\0\0\xff\xff\xff\xff", bytes([wire.ADD_KEY]) + b"\0" + wire.field(b"a\0b") + wire.field(b"")]
    empty = wire.field(b"")
    new, pfx = bytes([wire.DEVICE_KEY_NEW]) + b"\0\0", bytes([wire.DEVICE_KEY_PFX]) + b"\0\0" + 4 * empty
    frames += [new, new + b"\5\0" + empty, new + b"\0\2" + empty, new + b"\0\0" + empty + b"x",
               bytes([wire.DEVICE_KEY_CSR]) + b"\0\0" + 3 * empty, bytes([wire.DEVICE_KEY_CSR]) + b"\0\0" + 4 * empty + b"x",
               pfx + empty + b"\2" + empty + b"\0\0", pfx + empty + b"\0" + empty + b"\4\0", pfx + empty + b"\0" + empty + b"\0\2",
               pfx + wire.field(256 * b"n") + b"\0" + empty + b"\0\0", pfx + wire.field(b"a\0b") + b"\0" + empty + b"\0\0",
               bytes([wire.REENCRYPT]) + b"\0\0\0\2\0" + empty + empty + b"\0\0" + empty + empty,
               bytes([wire.DEVICE_KEY_PFX + 1]) + b"\0\0"]
    for channel, frame in itertools.product((0, 1), frames):
        with start(token) as p:
            p.sockets[channel].sendall(struct.pack(">I", len(frame)) + frame)
            with pytest.raises((EOFError, ConnectionResetError)):
                p.receive(channel)
            with pytest.raises((EOFError, ConnectionResetError)):
                p.receive(0)
            assert p.child.wait(10) in (0, 1)
    for length in (0, 512 * 1024 + 1, 0xFFFFFFFF):
        with start(token) as p:
            p.sockets[0].sendall(struct.pack(">I", length))
            assert p.child.wait(10) == 1


def test_operations_need_their_setup():
    with TokenProcess(PROGRAM, 1) as p:
        p.send(wire.STATE, bytes(8))
        assert p.child.wait(10) == 1


def test_the_pin_shows_nowhere(softhsm):
    token = softhsm()
    with start(token) as p:
        assert p.state()[0] == wire.OPEN
        pid = p.child.pid
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as f:
                assert b"canary" not in f.read()
        with open(f"/proc/{pid}/limits", encoding="ascii") as f:
            assert [line.split()[4:6] for line in f if line.startswith("Max core")] == [["0", "0"]]
    for path in token.folder.rglob("*"):
        if path.is_file() and path != token.pin_file:
            assert b"canary" not in path.read_bytes(), path
