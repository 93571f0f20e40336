# SPDX-License-Identifier: MIT
"""Our own SCEP client at our own server, with the RA's keys kept in each of the three ways."""

import json
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rig import BUILD, Rig
from scep_rig import CHALLENGE, KEYS, TOKEN_KEYS, connector_with_scep

ROLES = {"two": [["RA encrypt"], ["RA sign"], ["CA"]], "one": [["RA sign", "RA encrypt"], ["CA"]], "ca": [["CA", "sign", "encrypt"]]}


class World:
    def __init__(self, rig, keys):
        self.scep = connector_with_scep(rig, rig.service(), rig.token(kinds=TOKEN_KEYS), keys=keys, overrides={"scep.queries": "yes"})
        self.folder = rig.folder / "device"
        self.folder.mkdir()
        self.challenge = self.secret("challenge", CHALLENGE)
        self.told = self.ask("caps", "--json")
        self.fingerprint = json.loads(self.told.stdout)["certificates"][-1]["sha256"]

    def secret(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def ask(self, *argv):
        return subprocess.run([BUILD / "bin" / "certconnector", "scep", argv[0], "--url", self.scep.url, *map(str, argv[1:])],
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def certificate(self, name):
        return x509.load_pem_x509_certificate((self.folder / name).read_bytes())


@pytest.fixture(scope="module", params=sorted(KEYS))
def world(request):
    rig = Rig()
    try:
        world = World(rig, request.param)
        world.keys = request.param
        yield world
    finally:
        rig.close()


def test_caps(world):
    assert (world.told.returncode, world.told.stderr) == (0, "")
    told = json.loads(world.told.stdout)
    assert "SCEPStandard" in told["capabilities"] and "Renewal" in told["capabilities"]
    assert [one["roles"] for one in told["certificates"]] == ROLES[world.keys]


@pytest.mark.parametrize("options", [(), ("--get",), ("--oaep", "--cipher", "aes128"), ("--digest", "sha512", "--get")], ids=" ".join)
def test_enrol_and_renew(world, options):
    done = world.ask("enrol", "--subject", "CN=device.contoso.example", "--dns", "device.contoso.example", "--key", world.folder / "key.pem", "--challenge-file",
                     world.challenge, "--out", world.folder / "cert.pem", "--fingerprint", world.fingerprint, *options)
    assert (done.returncode, done.stderr) == (0, ""), str(world.scep.admin_events()[-1:])
    old = world.certificate("cert.pem")
    assert old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == ["device.contoso.example"]
    (world.folder / "new-key.pem").unlink(missing_ok=True)
    done = world.ask("renew", "--certificate", world.folder / "cert.pem", "--key", world.folder / "key.pem", "--new-key", world.folder / "new-key.pem",
                     "--out", world.folder / "new.pem", "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    new = world.certificate("new.pem")
    assert new.subject == old.subject and new.serial_number != old.serial_number
    assert new.public_key().public_numbers() != old.public_key().public_numbers()
    assert json.loads(done.stdout)["certificate"]["sha256"] == new.fingerprint(hashes.SHA256()).hex()


def test_a_wrong_challenge_is_refused(world):
    done = world.ask("enrol", "--subject", "CN=device.contoso.example", "--challenge-file", world.secret("wrong", "another"), "--out", world.folder / "none.pem", "--json",
                     "--fingerprint", world.fingerprint)
    assert done.returncode == 1 and done.stderr.startswith("certconnector scep: FAILURE, badRequest"), done.stderr
    assert json.loads(done.stdout)["failInfo"] == "badRequest"
    assert not (world.folder / "none.pem").exists()


def test_certificate_and_crl(world):
    """GetCert and GetCRL, asked by who has a certificate."""
    key, file = world.folder / "asker.key", world.folder / "asker.pem"
    done = world.ask("enrol", "--subject", "CN=device.contoso.example", "--key", key, "--challenge-file", world.challenge,
                     "--fingerprint", world.fingerprint, "--out", file)
    assert done.returncode == 0, done.stderr
    mine = world.certificate("asker.pem")
    serial = f"{mine.serial_number:X}"
    done = world.ask("cert", "--serial", serial, "--certificate", file, "--key", key, "--out", world.folder / "got.pem")
    assert done.returncode == 0, done.stderr
    assert world.certificate("got.pem") == mine
    done = world.ask("cert", "--serial", "4711", "--certificate", file, "--key", key, "--out", world.folder / "none.pem")
    assert done.returncode == 1 and "badCertId" in done.stderr and not (world.folder / "none.pem").exists()
    world.scep.authority.crl()
    done = world.ask("crl", "--certificate", file, "--key", key, "--out", world.folder / "got.crl")
    assert done.returncode == 0, done.stderr
    crl = x509.load_pem_x509_crl((world.folder / "got.crl").read_bytes())
    assert crl.issuer == mine.issuer and crl.is_signature_valid(x509.load_der_x509_certificate(world.scep.authority.fetch("corp.cer").read_bytes()).public_key())
