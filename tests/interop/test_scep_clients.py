# SPDX-License-Identifier: MIT
"""The SCEP server with clients that nobody here wrote: strongSwan's pki, certmonger, Debian's scepclient; and what it answers
opened by openssl."""

import http.server
import os
import pathlib
import sys
import threading
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from rig import Rig, run, wait_until  # noqa: E402
from scep_rig import CHALLENGE, KEYS, TOKEN_KEYS, connector_with_scep  # noqa: E402

SUCCESS, FAILURE = 4000, 4001
# Besides [scep], which also takes SHA-1 and triple DES.
PROFILES = """
[scep-profile "strict"]
ca = corp
profile = server
challenge = static
challenge-secret = file:{secret}

[profile "old"]
key-usages = digitalSignature, keyEncipherment
extended-key-usages = clientAuth
subject = CN, O, OU, C

[scep-profile "des"]
ca = corp
profile = old
challenge = static
challenge-secret = file:{secret}
legacy = des
"""


@pytest.fixture(scope="module")
def servers():
    """SCEP servers by how they keep their keys, each made when it is first asked for."""
    rig = Rig()
    made = {}
    try:
        service, token = rig.service(), rig.token(kinds=TOKEN_KEYS)

        def get(keys):
            if keys not in made:
                made[keys] = connector_with_scep(rig, service, token, keys=keys, name=f"connector-{keys}",
                                                 extra=PROFILES.format(secret=rig.folder / "scep.secret"),
                                                 overrides={"scep.legacy": "3des"})
            return made[keys]
        yield get
    finally:
        rig.close()


@pytest.fixture
def device(tmp_path):
    return tmp_path


@pytest.fixture(scope="module")
def device_keys(tmp_path_factory):
    """Keys of devices by their bits, two of each: making them is slow."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}

    def get(bits):
        if bits not in made:
            made[bits] = [folder / f"{bits}-{n}.key" for n in range(2)]
            for file in made[bits]:
                run("openssl", "genrsa", "-out", file, bits)
        return made[bits]
    return get


def check_issued(scep, file, name, key=None):
    """The certificate in the file: for this name and key, and openssl verifies it against the CA."""
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    assert f"CN={name}" in certificate.subject.rfc4514_string()
    if key is not None:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        assert certificate.public_key().public_numbers() == private.public_key().public_numbers()
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", scep.authority.certificate(), file)
    return certificate


# ---- strongSwan ----

class Strongswan:
    """pki --scepca and pki --scep of a device."""

    def __init__(self, scep, folder, url=None, prefix=()):
        self.url, self.prefix = url or scep.url, prefix
        run(*prefix, "pki", "--scepca", "--url", self.url, "--caout", folder / "ca.crt", "--raout", folder / "ra.crt", "--outform", "pem")
        certificates = [folder / "ca.crt", *folder.glob("ra*.crt")]
        self.ca = certificates[0]
        # It writes them in the order of their appearance; which one is for what, their usages tell.
        usable = certificates[1:] or certificates
        self.encrypt, = [f for f in usable if self._usage(f).key_encipherment]
        self.sign, = [f for f in usable if self._usage(f).digital_signature]

    @staticmethod
    def _usage(file):
        return x509.load_pem_x509_certificate(file.read_bytes()).extensions.get_extension_for_class(x509.KeyUsage).value

    def enrol(self, key, out, name, *options, check=True):
        done = run(*self.prefix, "pki", "--scep", "--url", self.url, "--in", key, "--dn", f"O=Contoso, CN={name}", "--san", f"{name}.contoso.example",
                   "--cacert", self.ca, "--cacert-enc", self.encrypt, "--cacert-sig", self.sign, "--outform", "pem", *options, check=check)
        out.write_text(done.stdout)
        return done


CONTENT_TYPES = {"two": "application/x-x509-ca-ra-cert", "one": "application/x-x509-ca-ra-cert", "ca": "application/x-x509-ca-cert"}


@pytest.mark.parametrize("keys", KEYS)
def test_certificates_of_the_server(servers, device, keys):
    scep = servers(keys)
    kind, body = scep.get("GetCACert")
    assert kind == CONTENT_TYPES[keys]
    file = device / "answer"
    file.write_bytes(body)
    if keys == "ca":
        listed = run("openssl", "x509", "-inform", "DER", "-in", file, "-noout", "-subject").stdout
        assert "Contoso Issuing CA" in listed
    else:
        listed = run("openssl", "pkcs7", "-inform", "DER", "-in", file, "-print_certs", "-noout").stdout
        assert listed.count("subject=") == {"two": 3, "one": 2}[keys]
        pem = run("openssl", "pkcs7", "-inform", "DER", "-in", file, "-print_certs").stdout
        (device / "all.pem").write_text(pem)
        run("openssl", "verify", "-x509_strict", "-CAfile", scep.authority.certificate(), device / "all.pem")


ALGORITHMS = [("aes", "sha256"), ("aes", "sha512"), ("des3", "sha256"), ("des3", "sha1")]


@pytest.mark.parametrize("bits", [2048, 4096])
@pytest.mark.parametrize("cipher, digest", ALGORITHMS)
@pytest.mark.parametrize("keys", KEYS)
def test_strongswan_enrols_and_renews(servers, device, device_keys, keys, cipher, digest, bits):
    scep = servers(keys)
    client = Strongswan(scep, device)
    first, second = device_keys(bits)
    name = f"{keys}-{cipher}-{digest}-{bits}"
    algorithms = ["--cipher", cipher, "--digest", digest]

    client.enrol(first, device / "first.pem", name, "--password", CHALLENGE, *algorithms)
    old = check_issued(scep, device / "first.pem", name, first)
    assert old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [f"{name}.contoso.example"]
    assert old.signature_hash_algorithm.name == "sha256", "whatever the message's digest was"

    # The renewal needs no challenge: the old key signs. With SHA-1 that would not be worth a certificate.
    said = client.enrol(second, device / "second.pem", name, "--cert", device / "first.pem", "--key", first, *algorithms,
                        check=digest != "sha1")
    if digest == "sha1":
        assert said.returncode != 0 and "badAlg" in said.stderr
    else:
        new = check_issued(scep, device / "second.pem", name, second)
        assert new.serial_number != old.serial_number


REFUSED = {
    "the challenge is another": ("", ["--password", "another"], "badRequest"),
    "there is no challenge": ("", [], "badRequest"),
    "the name is not allowed": ("", ["--password", CHALLENGE, "--san", "www.fabrikam.example"], "badRequest"),
    "triple DES is not taken": ("/strict", ["--password", CHALLENGE, "--cipher", "des3"], "badAlg"),
    "SHA-1 is not taken": ("/strict", ["--password", CHALLENGE, "--digest", "sha1"], "badAlg"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_strongswan_is_refused(servers, device, device_keys, what):
    scep = servers("two")
    profile, options, fail_info = REFUSED[what]
    before = scep.admin_events()
    said = Strongswan(scep, device, scep.url + profile).enrol(device_keys(2048)[0], device / "certificate", "refused", *options, check=False)
    assert said.returncode != 0 and said.stdout == "" and f"failInfo:     {fail_info}" in said.stderr
    (event,) = wait_until(lambda: scep.admin_events()[len(before):], "there is an event of it")
    assert event["id"] == FAILURE


def test_strongswan_with_a_stolen_certificate(servers, device, device_keys):
    scep = servers("two")
    client = Strongswan(scep, device)
    first, second = device_keys(2048)
    client.enrol(first, device / "first.pem", "owner", "--password", CHALLENGE)
    said = client.enrol(second, device / "second.pem", "owner", "--cert", device / "first.pem", "--key", second, check=False)
    assert said.returncode != 0 and "failInfo" in said.stderr


# ---- what is answered, opened by openssl ----

class Recorder:
    """A proxy that keeps what went through it."""

    def __init__(self, target):
        recorder = self
        self.seen, self.requests, self.replies = [], [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.pass_on(None)

            def do_POST(self):
                self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

            def pass_on(self, body):
                recorder.seen.append((self.path, dict(self.headers)))
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(target + self.path, data=body, timeout=30) as answer:
                    kind, reply = answer.headers["Content-Type"], answer.read()
                if "PKIOperation" in self.path:
                    recorder.requests.append(body)
                    recorder.replies.append(reply)
                self.send_response(answer.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def recorder(servers):
    recorder = Recorder(f"http://127.0.0.1:{servers('two').port}")
    yield recorder
    recorder.close()


@pytest.mark.parametrize("cipher", ["aes", "des3"])
def test_answer_opened_by_openssl(servers, device, device_keys, recorder, cipher):
    scep = servers("two")
    key, other = device_keys(2048)
    Strongswan(scep, device, recorder.url + "/scep").enrol(key, device / "issued.pem", "answered", "--password", CHALLENGE,
                                                           "--cipher", cipher)
    request, reply, envelope, content = (device / name for name in ("request", "reply", "envelope", "content"))
    request.write_bytes(recorder.requests[-1])
    reply.write_bytes(recorder.replies[-1])

    verify = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", scep.authority.certificate()]
    run(*verify, "-in", reply, "-out", envelope)
    # The device's certificate that the answer is encrypted to is the one it signed its request with.
    run("openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", request, "-out", device / "asked", "-signer", device / "own.pem")
    decrypt = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", envelope, "-recip", device / "own.pem", "-out", content]
    run(*decrypt, "-inkey", key)
    listed = run("openssl", "pkcs7", "-inform", "DER", "-in", content, "-print_certs").stdout
    assert listed.count("BEGIN CERTIFICATE") == 1, "the issued one alone"
    (device / "content.pem").write_text(listed)
    assert check_issued(scep, device / "content.pem", "answered", key) == check_issued(scep, device / "issued.pem", "answered", key)

    content.unlink()
    assert run(*decrypt, "-inkey", other, check=False).returncode != 0, "for the device alone"
    spoiled = bytearray(reply.read_bytes())
    spoiled[len(spoiled) - 1] ^= 1
    reply.write_bytes(spoiled)
    assert run(*verify, "-in", reply, "-out", envelope, check=False).returncode != 0, "a byte of the signature is another"


def test_refusal_verified_by_openssl(servers, device, device_keys, recorder):
    scep = servers("two")
    said = Strongswan(scep, device, recorder.url + "/scep").enrol(device_keys(2048)[0], device / "none", "refused", "--password", "another",
                                                                  check=False)
    assert said.returncode != 0
    reply, content = device / "reply", device / "content"
    reply.write_bytes(recorder.replies[-1])
    run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", scep.authority.certificate(), "-in", reply,
        "-out", content)
    assert content.read_bytes() == b"", "a refusal carries nothing"


# ---- certmonger ----

class Certmonger:
    """Its daemon for the time of one script, everything in a folder of its own; commands reach it on a private socket."""

    DAEMON = "/usr/lib/certmonger/certmonger-session"

    def __init__(self, folder, prefix=()):
        self.prefix = prefix
        self.folder = folder / "certmonger"
        self.folder.mkdir()
        self.env = dict(os.environ, CERTMONGER_SYSTEM_LOCK_FILE=str(self.folder / "lock"))
        for name in ("CONFIG", "REQUESTS", "CAS", "LOCAL_CA", "TMP"):
            place = self.folder / name.lower()
            place.mkdir()
            self.env["CERTMONGER_TMPDIR" if name == "TMP" else f"CERTMONGER_{name}_DIR"] = str(place)

    def run(self, *commands):
        """getcert's commands one after the other; what the last "getcert list" said."""
        script, listed = self.folder / "script", self.folder / "listed"
        script.write_text("set -x\n" + "".join(f"getcert {command}\n" for command in commands) + f"getcert list >{listed}\n")
        done = run(*self.prefix, self.DAEMON, "-n", "-L", "-P", self.folder / "socket", "-c", f"sh {script}", env=self.env)
        return listed.read_text(), done.stderr


@pytest.mark.parametrize("keys", KEYS)
def test_certmonger_enrols_and_renews(servers, device, keys):
    scep = servers(keys)
    key, file, name = device / "key", device / "certificate", f"certmonger-{keys}.contoso.example"
    before = len(scep.admin_events())
    listed, log = Certmonger(device).run(
        f"add-scep-ca -c corp -u {scep.url} -N {scep.authority.certificate()}",
        f"request -c corp -f {file} -k {key} -N CN={name},O=Contoso -D {name} -L {CHALLENGE} -I first -w",
        f"resubmit -i first -w; cp {file} {file}.same-key",
        "rekey -i first -w")
    assert "status: MONITORING" in listed and "stuck: no" in listed, log
    check_issued(scep, file, name, key)
    check_issued(scep, device / "certificate.same-key", name)
    events = scep.admin_events()[before:]
    assert [event["id"] for event in events] == [SUCCESS] * 3
    assert len({event["serialNumber"] for event in events}) == 3
    # The same key comes with the same transaction, and gets another certificate.
    assert events[0]["transactionId"] == events[1]["transactionId"] != events[2]["transactionId"]


def test_certmonger_is_refused(servers, device):
    scep = servers("two")
    file = device / "certificate"
    listed, log = Certmonger(device).run(
        f"add-scep-ca -c corp -u {scep.url} -N {scep.authority.certificate()}",
        f"request -c corp -f {file} -k {device / 'key'} -N CN=refused,O=Contoso -L another -I first -w")
    assert "status: CA_REJECTED" in listed and "not permitted" in listed, log
    assert not file.exists()
    assert scep.admin_events()[-1]["id"] == FAILURE


# ---- Debian's scepclient ----

def scepclient(scep, profile, folder, *options, check=True):
    return run("scepclient", "-server-url", scep.url + profile, "-private-key", folder / "key", "-certificate", folder / "certificate",
               "-cn", "scepclient", "-organization", "Contoso", *options, check=check, cwd=folder)


@pytest.mark.parametrize("keys", KEYS)
def test_scepclient_enrols_and_renews(servers, device, keys):
    scep = servers(keys)
    scepclient(scep, "/des", device, "-challenge", CHALLENGE)
    first = check_issued(scep, device / "certificate", "scepclient", device / "key")
    # With a certificate it asks for renewal; its request, which it keeps, has the challenge.
    scepclient(scep, "/des", device, "-challenge", CHALLENGE)
    assert check_issued(scep, device / "certificate", "scepclient", device / "key") != first
    # Without one its SHA-1 is not worth a certificate.
    (device / "csr.pem").unlink()
    said = scepclient(scep, "/des", device, check=False)
    assert said.returncode != 0 and "RenewalReq (17) request failed, failInfo: badAlg (0)" in said.stderr + said.stdout


def test_scepclient_with_a_wrong_challenge(servers, device):
    scep = servers("two")
    said = scepclient(scep, "/des", device, "-challenge", "another", check=False)
    assert said.returncode != 0 and "badRequest (2)" in said.stderr + said.stdout
    assert not (device / "certificate").exists()
    assert "challenge" in scep.admin_events()[-1]["message"]


@pytest.mark.parametrize("profile", ["", "/strict"])
def test_scepclient_where_single_des_is_not_taken(servers, device, profile):
    said = scepclient(servers("two"), profile, device, "-challenge", CHALLENGE, check=False)
    assert said.returncode != 0 and "badAlg (0)" in said.stderr + said.stdout
    assert not (device / "certificate").exists()
