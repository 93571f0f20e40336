# SPDX-License-Identifier: MIT
"""Tokens and keys as an administrator makes them: certconnector token and key, and scripts/token-init.sh.  What the
commands say of a key is held against what OpenSC's pkcs11-tool says."""

import datetime
import json
import os
import re
import stat
import struct
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID

from conftest import BUILD, HERE, PIN, PROJECT, SOFTHSM, SOFTOKEN
from rig import Rig, USER, as_service_user, run

ROLES = {"pfx-import": ["decrypt", "unwrap"], "scep-ra-sign": ["sign"], "scep-ra-encrypt": ["decrypt"], "ca": ["sign"],
         "ocsp": ["sign"], "identity": ["sign"], "seal": ["encrypt", "decrypt"], "audit": ["sign"]}
OTHER_HALF = {"decrypt": "encrypt", "unwrap": "wrap", "sign": "verify"}
KINDS = {"rsa2048": "RSA-2048", "rsa3072": "RSA-3072", "rsa4096": "RSA-4096", "ecP256": "P-256", "ecP384": "P-384",
         "ecP521": "P-521", "aes256": "AES-256"}
SO_PIN = "canary-so-pin-8642"


class Admin:
    """The administrator's command on a module, with a folder for PINs."""

    def __init__(self, folder, module=SOFTHSM, env=None, init_args="", label="test"):
        self.folder, self.module, self.env, self.label = folder, module, env or {}, label
        self.options = ["--module", module] + (["--init-args", init_args] if init_args else [])
        self.pin, self.so_pin = self.secret("pin", PIN), self.secret("so-pin", SO_PIN)

    def secret(self, name, text):
        path = self.folder / name
        path.write_text(text + "\n")
        path.chmod(0o600)
        return f"file:{path}"

    def cli(self, command, verb, *argv, status=0):
        done = run(BUILD / "bin/certconnector", command, verb, *self.options, *argv, check=False, env=dict(os.environ, **self.env))
        assert done.returncode == status, (argv, done.stdout, done.stderr)
        if status == 0:
            assert done.stderr == ""
        else:
            assert done.stdout == "" and len(done.stderr.splitlines()) == 1, "an error is one line"
            assert done.stderr.startswith(f"certconnector {command}: ")
        for secret in (PIN, SO_PIN):
            assert secret not in done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    def tokens(self):
        return json.loads(self.cli("token", "list", "--json"))["tokens"]

    def token(self, label=None):
        return next(t for t in self.tokens() if t["label"] == (label or self.label))

    def init(self, *argv, status=0):
        return self.cli("token", "init", "--label", self.label, *(argv or ["--pin", self.pin, "--so-pin", self.so_pin]), status=status)

    def key(self, verb, *argv, pin=None, status=0):
        return self.cli("key", verb, "--uri", f"pkcs11:token={self.label}", "--pin", pin or self.pin, *argv, status=status)

    def keys(self):
        return json.loads(self.key("list", "--json"))["keys"]

    def generate(self, role, kind, *argv, status=0):
        return self.key("generate", "--role", role, "--type", kind, *argv, status=status)

    def export(self, *argv):
        done = subprocess.run([BUILD / "bin/certconnector", "key", "export-public", *self.options, "--uri", f"pkcs11:token={self.label}",
                               "--pin", self.pin, *argv], check=True, capture_output=True, env=dict(os.environ, **self.env), timeout=60)
        return done.stdout

    def pkcs11_tool(self, *argv, **options):
        return subprocess.run(["pkcs11-tool", "--module", self.module, "--token-label", self.label, "--login", "--pin", PIN, *argv],
                              check=True, capture_output=True, env=dict(os.environ, **self.env), timeout=60, **options).stdout


@pytest.fixture
def empty(tmp_path):
    """SoftHSM without a token."""
    tokens, conf = tmp_path / "tokens", tmp_path / "softhsm2.conf"
    tokens.mkdir()
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return Admin(tmp_path, env={"SOFTHSM2_CONF": str(conf)})


@pytest.fixture
def admin(empty):
    empty.init()
    return empty


def snapshot(folder):
    """Contents, times, owners and modes of all files."""
    def facts(path):
        s = path.lstat()
        return s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, path.read_bytes() if path.is_file() else None
    return {path: facts(path) for path in sorted(folder.rglob("*"))}


def contents(folder):
    return {path: facts[-1] for path, facts in snapshot(folder).items()}


# ---- tokens ----

def test_token_is_initialised(empty):
    assert [t["initialised"] for t in empty.tokens()] == [False]
    empty.init()
    token = empty.token()
    assert token["initialised"] and token["pinInitialised"] and token["loginRequired"] and token["profile"] == "softhsm"
    assert not (token["pinCountLow"] or token["pinFinalTry"] or token["pinLocked"] or token["writeProtected"])
    assert token["model"] == "SoftHSM v2" and re.fullmatch("[0-9a-f]{16}", token["serial"])
    assert empty.keys() == []
    table = empty.cli("token", "list")
    assert re.search(r"^test +ready +SoftHSM project", table, re.MULTILINE), table


def test_the_label_is_padded_with_blanks_as_the_standard_says(rig):
    token = rig.token()
    run(sys.executable, HERE / "p11.py", token.module, "", token.label, token.pin(), env=dict(os.environ, **token.env))


def test_token_of_the_same_label_is_refused(admin):
    before = contents(admin.folder / "tokens")
    assert "already" in admin.init(status=1)
    assert contents(admin.folder / "tokens") == before
    admin.label = "other"
    admin.init()
    assert {t["label"] for t in admin.tokens() if t["initialised"]} == {"test", "other"}


@pytest.mark.parametrize("label, argv, status", [
    ("test", ["--pin", "{pin}"], 2),
    ("test", ["--so-pin", "{so}"], 2),
    ("test", ["--pin", PIN, "--so-pin", "{so}"], 2),
    ("test", ["--pin", "{pin}", "--so-pin", "file:/nonexistent"], 1),
    ("a" * 33, ["--pin", "{pin}", "--so-pin", "{so}"], 2),
    ("two\nlines", ["--pin", "{pin}", "--so-pin", "{so}"], 2),
    ("", ["--pin", "{pin}", "--so-pin", "{so}"], 2),
])
def test_bad_initialisation_changes_nothing(empty, label, argv, status):
    empty.label = label
    empty.init(*(a.format(pin=empty.pin, so=empty.so_pin) for a in argv), status=status)
    assert [t["initialised"] for t in empty.tokens()] == [False]


def test_initialisation_cut_short_is_completed(empty):
    assert "CKR_PIN_LEN_RANGE" in empty.init("--pin", empty.secret("short", "ab"), "--so-pin", empty.so_pin, status=1)
    assert empty.token()["initialised"] and not empty.token()["pinInitialised"]
    assert "token init" in empty.key("list", status=1)
    wrong = empty.secret("wrong", "not-the-so-pin")
    assert "security officer" in empty.init("--pin", empty.pin, "--so-pin", wrong, status=1)
    empty.init()
    assert empty.token()["pinInitialised"] and empty.keys() == []


# ---- keys ----

def check_keys(admin, role, kind, label):
    """Both halves as they must be; the uri of the private or secret one."""
    halves = {k["class"]: k for k in admin.keys() if k["label"] == label}
    own = halves["secret" if kind == "aes256" else "private"]
    assert own["kind"] == KINDS[kind] and own["usages"] == ROLES[role]
    assert own["sensitive"] and not own["extractable"] and own["alwaysSensitive"] and own["neverExtractable"]
    assert re.fullmatch("[0-9a-f]{40}", own["id"])
    escaped = "".join(f"%{own['id'][i:i + 2].upper()}" for i in range(0, 40, 2))
    kind_of_object = "secret-key" if kind == "aes256" else "private"
    assert own["uri"] == f"pkcs11:token={admin.label};object={label};type={kind_of_object};id={escaped}"
    if kind == "aes256":
        assert set(halves) == {"secret"}
    else:
        public = halves["public"]
        assert set(halves) == {"private", "public"}
        assert public["id"] == own["id"] and public["kind"] == own["kind"]
        assert public["usages"] == sorted((OTHER_HALF[u] for u in ROLES[role]), key="sign verify encrypt wrap".split().index)
    return own["uri"]


def check_public(admin, kind, pem):
    key = serialization.load_pem_public_key(pem)
    if kind.startswith("rsa"):
        assert isinstance(key, rsa.RSAPublicKey) and key.key_size == int(kind[3:]) and key.public_numbers().e == 65537
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == {"P": "secp"}[kind[2]] + kind[3:] + "r1"


CASES = ([(role, "aes256" if role == "seal" else "rsa2048") for role in ROLES] +
         [(role, "ecP256") for role in ("scep-ra-sign", "ca", "ocsp", "identity", "audit")] +
         [("pfx-import", "rsa3072"), ("ca", "rsa4096"), ("ca", "ecP384"), ("ca", "ecP521")])


@pytest.mark.parametrize("role, kind", CASES)
def test_key_of_a_role(admin, role, kind):
    admin.generate(role, kind)
    uri = check_keys(admin, role, kind, role)
    if kind != "aes256":
        check_public(admin, kind, admin.export("--role", role))
        assert admin.export("--key", uri) == admin.export("--role", role)

    seen = admin.pkcs11_tool("--list-objects").decode()
    own = seen[seen.index("Secret Key Object" if kind == "aes256" else "Private Key Object"):].split("\n\n")[0]
    own = re.split(r"\n(?=\w)", own)[0]
    usages = re.search(r"Usage: +(.*)", own).group(1).split(", ")
    assert sorted(usages) == sorted(ROLES[role]), own
    access = re.search(r"Access: +(.*)", own).group(1)
    assert "sensitive" in access and "never extractable" in access


def test_key_of_two_roles(admin):
    said = admin.generate("scep-ra-encrypt", "rsa2048", "--also", "scep-ra-sign")
    assert "for scep-ra-encrypt and scep-ra-sign" in said
    halves = {k["class"]: k["usages"] for k in admin.keys() if k["label"] == "scep-ra-encrypt"}
    assert halves == {"private": ["sign", "decrypt"], "public": ["verify", "encrypt"]}
    # Of a type that both roles can have.
    assert "scep-ra-encrypt" in admin.generate("ca", "ecP256", "--also", "scep-ra-encrypt", status=2)
    assert "seal" in admin.generate("ca", "rsa2048", "--also", "seal", status=2)
    admin.generate("ca", "rsa2048", "--also", "scep", status=2)
    assert len(admin.keys()) == 2


def test_all_keys_on_softoken(tmp_path):
    database = tmp_path / "nss"
    database.mkdir()
    init_args = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' dbTokenDescription='test' flags="
    env = {"NSS_MIN_MP_PBE_ITERATION_COUNT": "1", "NSS_MAX_MP_PBE_ITERATION_COUNT": "1"}
    admin = Admin(tmp_path, SOFTOKEN, env, init_args)
    admin.init("--pin", admin.pin)
    assert "already" in admin.init("--pin", admin.pin, status=1)
    for role, kind in CASES:
        admin.generate(role, kind, "--label", f"{role}.{kind}")
    for role, kind in CASES:
        uri = check_keys(admin, role, kind, f"{role}.{kind}")
        if kind != "aes256":
            check_public(admin, kind, admin.export("--key", uri))
    wrong = admin.secret("wrong", "not the PIN")
    assert "tried once" in admin.key("list", pin=wrong, status=1)
    admin.options = ["--module", SOFTOKEN]
    assert "--init-args" in admin.cli("token", "list", status=2)


@pytest.mark.parametrize("role, kind", [("pfx-import", "ecP256"), ("scep-ra-encrypt", "ecP384"), ("seal", "rsa2048"),
                                        ("ca", "aes256"), ("ca", "rsa1024"), ("ca", ""), ("pfximport", "rsa2048")])
def test_key_that_a_role_cannot_have(admin, role, kind):
    admin.generate(role, kind, status=2)
    assert admin.keys() == []


@pytest.mark.parametrize("label", ["", "x" * 128, "a\x01b", "ends with a blank "])
def test_label_that_a_key_cannot_have(admin, label):
    admin.generate("ca", "ecP256", "--label", label, status=2)
    assert admin.keys() == []


def test_label_of_many_characters(admin):
    label = "Schlüssel; 100 % & mehr?"
    admin.generate("ca", "ecP256", "--label", label)
    private = next(k for k in admin.keys() if k["class"] == "private")
    assert private["label"] == label
    check_public(admin, "ecP256", admin.export("--key", private["uri"]))
    check_public(admin, "ecP256", admin.export("--key", private["uri"].replace("type=private", "type=public")))


def test_label_in_use(admin):
    admin.generate("ca", "ecP256")
    before = admin.keys()
    for role, kind in (("ca", "ecP256"), ("ocsp", "rsa2048"), ("seal", "aes256")):
        assert "already" in admin.generate(role, kind, "--label", "ca", status=1)
    assert admin.keys() == before
    admin.generate("ocsp", "ecP256", "--label", "ca2")
    assert len(admin.keys()) == len(before) + 2


def test_wrong_pin(admin):
    wrong = admin.secret("wrong", "canary-wrong-pin")
    for verb, *argv in (["list"], ["generate", "--role", "ca", "--type", "ecP256"], ["export-public", "--role", "ca"]):
        message = admin.key(verb, *argv, pin=wrong, status=1)
        assert "tried once" in message and wrong in message and "token list" in message
        assert "canary-wrong-pin" not in message
    assert admin.token()["pinCountLow"]
    assert "a wrong PIN was tried" in admin.cli("token", "list")
    assert admin.keys() == []
    assert not admin.token()["pinCountLow"]


def test_pin_file_that_others_can_read(admin):
    (admin.folder / "pin").chmod(0o644)
    assert str(admin.folder / "pin") in admin.key("list", status=2)


def test_without_a_pin_only_public_keys_are_seen(admin):
    admin.generate("ca", "ecP256")
    admin.generate("seal", "aes256")
    seen = json.loads(admin.cli("key", "list", "--uri", "pkcs11:token=test", "--json"))["keys"]
    assert [(k["label"], k["class"]) for k in seen] == [("ca", "public")]
    assert "--pin" in admin.cli("key", "generate", "--uri", "pkcs11:token=test", "--role", "ocsp", "--type", "ecP256", status=2)


def test_token_that_is_not_there(admin):
    admin.label = "absent"
    assert "no initialised token" in admin.key("list", status=1)
    assert "--uri" in admin.cli("key", "list", status=2)
    admin.options = ["--module", "/nonexistent.so"]
    assert "/nonexistent.so" in admin.cli("token", "list", status=1)
    admin.options = ["--module", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"]
    assert "not a PKCS#11 module" in admin.cli("token", "list", status=1)


def test_usage(admin):
    for command, verb, *argv in (["token", "lists"], ["token", "init"], ["key", "list", "extra"], ["key", "list", "--nonsense"],
                                 ["key", "generate"], ["key", "generate", "--role", "ca"], ["key", "export-public"],
                                 ["key", "export-public", "--role", "ca", "--key", "pkcs11:object=ca"],
                                 ["key", "export-public", "--role", "ca", "--format", "der"]):
        admin.cli(command, verb, *argv, status=2)
    for command in ("token", "key"):
        assert run(BUILD / "bin/certconnector", command, "--help").stdout.startswith(f"usage: certconnector {command} list")


# ---- the public half ----

def test_exported_key_is_the_key(admin):
    def of(label):  # pkcs11-tool takes no label here
        return next(k["id"] for k in admin.keys() if k["label"] == label)

    admin.generate("pfx-import", "rsa2048")
    public = serialization.load_pem_public_key(admin.export("--role", "pfx-import"))
    encrypted = public.encrypt(b"a password", padding.PKCS1v15())
    assert admin.pkcs11_tool("--decrypt", "--mechanism", "RSA-PKCS", "--id", of("pfx-import"), input=encrypted) == b"a password"

    admin.generate("ca", "ecP256")
    public = serialization.load_pem_public_key(admin.export("--key", "pkcs11:object=ca"))
    digest = os.urandom(32)
    signature = admin.pkcs11_tool("--sign", "--mechanism", "ECDSA", "--signature-format", "openssl", "--id", of("ca"), input=digest)
    public.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072"])
def test_cng_blob(admin, kind):
    admin.generate("pfx-import", kind)
    numbers = serialization.load_pem_public_key(admin.export("--role", "pfx-import", "--format", "pem")).public_numbers()
    blob = admin.export("--role", "pfx-import", "--format", "cng")
    magic, bits, e_len, n_len, p_len, q_len = struct.unpack("<4sIIIII", blob[:24])
    assert (magic, bits, p_len, q_len) == (b"RSA1", int(kind[3:]), 0, 0) and len(blob) == 24 + e_len + n_len
    assert int.from_bytes(blob[24:24 + e_len], "big") == numbers.e
    assert int.from_bytes(blob[24 + e_len:], "big") == numbers.n


def test_exported_file_is_never_overwritten(admin):
    admin.generate("pfx-import", "rsa2048")
    out = admin.folder / "import.pem"
    assert admin.key("export-public", "--role", "pfx-import", "--out", out) == ""
    assert out.read_bytes() == admin.export("--role", "pfx-import") and stat.S_IMODE(out.stat().st_mode) == 0o644
    before = out.read_bytes()
    assert "not overwritten" in admin.key("export-public", "--role", "pfx-import", "--format", "cng", "--out", out, status=2)
    assert out.read_bytes() == before


@pytest.mark.parametrize("kind", ["rsa2048", "ecP256"])
def test_self_signed_certificate(admin, kind):
    admin.generate("identity", kind)
    out = admin.folder / "client.pem"
    said = admin.key("self-sign", "--role", "identity", "--out", out, "--subject", "CN=dc1,O=Contoso", "--days", "30")
    certificate = x509.load_pem_x509_certificate(out.read_bytes())
    assert said == f"thumbprint {certificate.fingerprint(hashes.SHA1()).hex()}\n"
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == "CN=dc1,O=Contoso"
    assert certificate.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo) == admin.export("--role", "identity")
    run("openssl", "verify", "-check_ss_sig", "-CAfile", out, "-partial_chain", out)
    lifetime = certificate.not_valid_after - certificate.not_valid_before
    assert lifetime.days == 30 and certificate.not_valid_before <= datetime.datetime.utcnow()
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    before = out.read_bytes()
    assert "not overwritten" in admin.key("self-sign", "--role", "identity", "--out", out, status=2)
    assert out.read_bytes() == before
    # Without a file to standard output, and another serial number each time.
    again = x509.load_pem_x509_certificate(admin.key("self-sign", "--role", "identity").encode())
    assert again.serial_number != certificate.serial_number and again.subject.rfc4514_string() == "CN=certconnector"


def test_keys_that_sign_no_certificate_for_themselves(admin):
    admin.generate("pfx-import", "rsa2048")
    assert "role" in admin.key("self-sign", "--role", "pfx-import", status=1)
    assert "no key" in admin.key("self-sign", "--role", "identity", status=1)
    assert "TYPE=value" in admin.key("self-sign", "--role", "identity", "--subject", "nobody", status=1)
    admin.key("self-sign", "--role", "nobody", status=2)
    admin.key("self-sign", status=2)
    admin.key("self-sign", "--role", "identity", "--days", "0", status=2)


def test_keys_that_cannot_be_exported(admin):
    admin.generate("ca", "ecP256")
    admin.generate("seal", "aes256")
    assert "RSA" in admin.key("export-public", "--role", "ca", "--format", "cng", status=1)
    assert "no key" in admin.key("export-public", "--key", "pkcs11:object=seal", status=1)
    assert "no key" in admin.key("export-public", "--key", "pkcs11:object=absent", status=1)
    admin.key("export-public", "--key", "pkcs11:object=seal;type=secret-key", status=2)
    for uri in ("ca", "pkcs11:", "pkcs11:token=other;object=ca", "pkcs11:object=ca?pin-value=1"):
        admin.key("export-public", "--key", uri, status=1)


def test_two_keys_of_one_label_are_not_told_apart(admin):
    for number in ("01", "02"):
        admin.pkcs11_tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "twice", "--id", number)
    assert "more than one" in admin.key("export-public", "--key", "pkcs11:object=twice", status=1)
    first, second = (admin.export("--key", f"pkcs11:object=twice;id=%{number}") for number in ("01", "02"))
    assert first != second
    assert admin.export("--key", "pkcs11:id=%02") == second


# ---- the configuration, and the process behind ----

def test_token_of_the_configuration(admin, tmp_path):
    admin.generate("pfx-import", "rsa2048", "--label", "import-2026")
    config = tmp_path / "certconnector.conf"
    text = (f"[connector]\nfeatures = pfx-import\n[token]\nmodule = {SOFTHSM}\nuri = pkcs11:token=test\npin = {admin.pin}\n{{more}}"
            "[service]\ntenant = contoso.example\nclient-id = 11111111-2222-3333-4444-555555555555\n"
            f"client-secret = {admin.pin}\n[keys]\npfx-import = pkcs11:object=import-2026\nseal = pkcs11:object=seal\n")
    config.write_text(text.format(more=""))
    by_options = admin.export("--key", "pkcs11:object=import-2026")
    admin.options = ["--config", config]
    assert admin.cli("key", "export-public", "--role", "pfx-import").encode() == by_options
    assert {k["label"] for k in json.loads(admin.cli("key", "list", "--json"))["keys"]} == {"import-2026"}
    assert "test" in {t["label"] for t in admin.tokens()}
    assert "no initialised token" in admin.cli("key", "list", "--uri", "pkcs11:token=absent", status=1)
    config.write_text(text.format(more="helper = /bin/false\n"))
    assert "status 1" in admin.cli("key", "list", status=1)
    config.write_text("[nonsense]\n")
    assert f"{config}:1" in admin.cli("key", "list", status=2)


# ---- scripts/token-init.sh ----

@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def of_rig(rig, token):
    """The administrator's command on the rig's token."""
    admin = Admin(rig.folder, env=token.env, label=token.label)
    admin.pin = f"file:{token.pin_file}"
    return admin


def as_user(rig, token, verb, *argv):
    return run(*as_service_user([rig.programs / "certconnector", "key", verb, "--module", SOFTHSM, "--uri", f"pkcs11:token={token.label}",
                                 "--pin", f"file:{token.pin_file}", *argv]), check=False, env=dict(os.environ, **token.env))


def modes(folder):
    return {(path.owner(), path.group(), stat.S_IMODE(path.stat().st_mode), path.is_dir())
            for path in (folder, *folder.rglob("*"))}


def test_token_init_script(rig):
    token = rig.token(kinds=("pfx-import=rsa2048", "ca=ecP256", "scep-ra-sign=ecP384", "ocsp=none"))
    admin = of_rig(rig, token)
    wanted = {"pfx-import": "rsa2048", "scep-ra-sign": "ecP384", "scep-ra-encrypt": "rsa2048", "ca": "ecP256", "identity": "rsa2048",
              "seal": "aes256", "audit": "ecP256"}
    assert {k["label"] for k in json.loads(as_user(rig, token, "list", "--json").stdout)["keys"]} == set(wanted)
    for role, kind in wanted.items():
        check_keys(admin, role, kind, role)


def test_token_init_script_leaves_a_token_that_connectors_cannot_write(rig):
    token = rig.token()
    tokens = token.folder / "tokens"
    assert modes(tokens) == {("root", USER, 0o750, True), ("root", USER, 0o640, False)}
    facts = {path.name: (path.owner(), path.group(), stat.S_IMODE(path.stat().st_mode)) for path in token.folder.iterdir()}
    assert facts["pin"] == ("root", USER, 0o640) and facts["pin.so"] == ("root", "root", 0o600)
    assert facts["token-backup"] == ("root", "root", 0o700)
    assert token.pin() != (token.folder / "pin.so").read_text().strip()

    before = snapshot(tokens)
    assert as_user(rig, token, "list").returncode == 0
    failed = as_user(rig, token, "generate", "--role", "audit", "--type", "ecP256", "--label", "another")
    assert failed.returncode == 1 and "only another user can write" in failed.stderr
    assert snapshot(tokens) == before
    backup = list((token.folder / "token-backup").iterdir())
    assert [b.read_bytes() for b in backup] == list(token.object_bytes().values())


def test_token_init_script_again_changes_nothing(rig):
    token = rig.token()
    before = snapshot(token.folder)
    rig.token()
    assert snapshot(token.folder) == before


def test_token_init_script_adds_what_is_missing(rig):
    token = rig.token(kinds=("audit=none", "ca=ecP256", "pfx-import=rsa2048"))
    before = snapshot(token.folder / "tokens")
    rig.token(kinds=("ca=rsa2048", "pfx-import=rsa2048"))
    after = snapshot(token.folder / "tokens")
    assert [path for path in before if path.suffix == ".object" and path.name != "token.object" and after[path] != before[path]] == []
    assert modes(token.folder / "tokens") == {("root", USER, 0o750, True), ("root", USER, 0o640, False)}
    kinds = {k["label"]: k["kind"] for k in of_rig(rig, token).keys()}
    assert kinds["audit"] == "P-256" and kinds["ca"] == "P-256", "what is there stays as it is"


def test_token_init_script_completes_a_token_without_pin(rig):
    folder = rig.folder / "token"
    (folder / "tokens").mkdir(parents=True)
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    so_pin = folder / "pin.so"
    so_pin.write_text(SO_PIN)
    so_pin.chmod(0o600)
    run("pkcs11-tool", "--module", SOFTHSM, "--init-token", "--slot-index", "0", "--label", "certconnector", "--so-pin", SO_PIN,
        env=dict(os.environ, SOFTHSM2_CONF=str(conf)))
    token = rig.token()
    assert as_user(rig, token, "list").returncode == 0
    assert len(token.object_bytes()) == 1


def test_token_init_script_usage(tmp_path):
    script = PROJECT / "scripts/token-init.sh"
    assert "--token-dir" in run(script, "--help").stdout
    assert run(script, "--nonsense", check=False).returncode == 2
    for bad in (["--label"], ["--key", "nonsense=rsa2048"], ["--bin-dir", tmp_path]):
        done = run(script, "--token-dir", tmp_path / "tokens", "--pin-file", tmp_path / "pin", *bad, check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())
