# SPDX-License-Identifier: MIT
"""certconnector pfx: upload, list, remove, as an administrator does it."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from rig import KEY_NAME, Pfx, Recipient, Rig, as_service_user, run, wait_until  # noqa: E402


@pytest.fixture(scope="module")
def setting():
    rig = Rig()
    try:
        token = rig.token()
        service = rig.service()
        yield rig, service, rig.connector(service, token)
    finally:
        rig.close()


@pytest.fixture
def folder(setting, request):
    rig = setting[0]
    path = rig.folder / request.node.name
    rig.private_folder(path)
    return path


def save(rig, folder, pfx, password=None):
    name = pfx.user.split("@")[0]
    rig.private_file(folder / f"{name}.pfx", pfx.blob)
    rig.private_file(folder / f"{name}.password", password if password is not None else pfx.password)
    return folder / f"{name}.pfx"


def write_csv(rig, folder, rows, heading="file,user,password"):
    path = folder / "list.csv"
    rig.private_file(path, "\n".join([heading, *rows, ""]).encode())
    return path


def deliver(service, pfx):
    """What a device gets of it."""
    recipient = Recipient()
    request = service.wait_done(service.enqueue(pfx, recipient)[0])
    assert request["result"]["succeeded"], request
    return recipient.read(request["result"])


def test_one_file_with_the_key_from_the_token(setting, folder):
    rig, service, connector = setting
    pfx = Pfx("one@contoso.example")
    file = save(rig, folder, pfx)
    done = connector.cli("pfx", "import", "--user", pfx.user, "--password", f"file:{folder}/one.password", file)
    assert "1 uploaded, 0 failed" in done.stdout
    assert deliver(service, pfx) == pfx.password


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_password_with_accents(setting, folder, encoding):
    rig, service, connector = setting
    text = "Crème Brûlée für £2"
    pfx = Pfx(f"accents-{encoding}@contoso.example", password=text.encode("utf-8"))  # PKCS#12 wants text
    file = save(rig, folder, pfx, text.encode(encoding))
    connector.cli("pfx", "import", "--user", pfx.user, "--password", f"file:{file.with_suffix('.password')}", file)
    assert deliver(service, pfx) == text.encode("latin-1")


def test_a_password_that_cannot_be_delivered_is_refused(setting, folder):
    rig, _, connector = setting
    pfx = Pfx("snowman@contoso.example", password="☃".encode())
    file = save(rig, folder, pfx)
    done = connector.cli("pfx", "import", "--user", pfx.user, "--password", f"file:{folder}/snowman.password", file,
                         check=False)
    assert done.returncode == 1
    assert "ISO 8859-1" in done.stderr


def test_wrong_password_and_no_pfx_fail_and_the_others_go_on(setting, folder):
    rig, service, connector = setting
    good, bad = Pfx("good@contoso.example"), Pfx("bad@contoso.example")
    save(rig, folder, good)
    save(rig, folder, bad, b"another")
    rig.private_file(folder / "nothing.pfx", b"nothing like a PFX")
    path = write_csv(rig, folder, ["bad.pfx,bad@contoso.example,file:" + str(folder / "bad.password"),
                                   "nothing.pfx,bad@contoso.example,file:" + str(folder / "bad.password"),
                                   "missing.pfx,bad@contoso.example,file:" + str(folder / "bad.password"),
                                   f"good.pfx,{good.user},file:{folder}/good.password"])
    done = connector.cli("pfx", "import", "--csv", path, "--json", check=False)
    assert done.returncode == 1
    assert [outcome["outcome"] for outcome in json.loads(done.stdout)] == ["failed", "failed", "failed", "uploaded"]
    assert len(done.stderr.splitlines()) == 3
    assert deliver(service, good) == good.password


def test_a_run_that_was_interrupted_goes_on(setting, folder):
    rig, service, connector = setting
    users = [Pfx(f"bulk{number}@contoso.example", key=Recipient().key) for number in range(30)]
    rows = []
    for pfx in users:
        save(rig, folder, pfx)
        name = pfx.user.split("@")[0]
        rows.append(f"{name}.pfx,{pfx.user},file:{folder}/{name}.password")
    path = write_csv(rig, folder, rows)
    progress = pathlib.Path(f"{path}.progress")
    service.admin("PUT", "faults", {"path": "/beta/deviceManagement/userPfxCertificates", "latencyMs": 50})
    argv = as_service_user([rig.programs / "certconnector", "pfx", "import", "--csv", path, "--config", connector.config])
    child = subprocess.Popen(argv, env=dict(os.environ, **connector.token.env), stdout=subprocess.DEVNULL)
    wait_until(lambda: progress.exists() and progress.stat().st_size >= 5 * 65, "some are uploaded")
    child.send_signal(signal.SIGKILL)
    child.wait()
    service.admin("DELETE", "faults")
    before = progress.stat().st_size // 65
    assert before < len(users)
    done = connector.cli("pfx", "import", "--csv", path)
    assert f"{before} uploaded in a run before" in done.stdout and "0 failed" in done.stdout
    assert not progress.exists()
    listed = json.loads(connector.cli("pfx", "list", "--json").stdout)
    assert {pfx.user for pfx in users} <= {entry["userPrincipalName"] for entry in listed}


def test_what_is_there_is_replaced_only_when_told(setting, folder):
    rig, _, connector = setting
    pfx = Pfx("twice@contoso.example")
    file = save(rig, folder, pfx)
    options = ["--user", pfx.user, "--password", f"file:{folder}/twice.password", file]
    connector.cli("pfx", "import", *options)
    again = connector.cli("pfx", "import", *options)
    assert "0 uploaded, 1 were there already" in again.stdout
    connector.cli("pfx", "import", "--update", "--padding", "oaepSha256", *options)
    listed = json.loads(connector.cli("pfx", "list", "--user", pfx.user, "--json").stdout)
    assert [(entry["thumbprint"], entry["paddingScheme"]) for entry in listed] == [(pfx.thumbprint, "oaepSha256")]


@pytest.mark.parametrize("export", ["pem", "cng"])
def test_public_key_from_a_file_and_password_from_a_descriptor(setting, folder, export):
    rig, service, connector = setting
    key = folder / "import.key"
    connector.cli("key", "export-public", "--role", "pfx-import", "--format", export, "--out", key)
    pfx = Pfx(f"descriptor-{export}@contoso.example")
    file = save(rig, folder, pfx)
    read, write = os.pipe()
    os.write(write, pfx.password)
    os.close(write)
    provider, name = KEY_NAME.split("/")
    argv = as_service_user([rig.programs / "certconnector", "pfx", "import", "--config", connector.config, "--user", pfx.user,
                            "--password", f"fd:{read}", "--public-key", key, "--provider", provider, "--key-name", name, file])
    done = subprocess.run(argv, pass_fds=[read], capture_output=True, text=True, timeout=60)
    os.close(read)
    assert done.returncode == 0, done.stderr
    assert deliver(service, pfx) == pfx.password


def test_password_from_a_prompt_without_echo(setting, folder):
    rig, service, connector = setting
    pfx = Pfx("prompt@contoso.example")
    file = save(rig, folder, pfx)
    argv = [str(word) for word in (rig.programs / "certconnector", "pfx", "import", "--config", connector.config, "--user",
                                   pfx.user, file)]
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(connector.token.env)
        os.execv(argv[0], argv)
    seen = b""
    while b"Password of" not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, pfx.password + b"\n")
    try:
        while True:
            seen += os.read(terminal, 1024)
    except OSError:
        pass  # the terminal's end
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, seen
    assert pfx.password not in seen
    assert b"[" in seen and b"1/1" in seen  # the progress bar
    assert deliver(service, pfx) == pfx.password


def test_remove(setting, folder):
    rig, _, connector = setting
    pfx = Pfx("gone@contoso.example")
    file = save(rig, folder, pfx)
    connector.cli("pfx", "import", "--user", pfx.user, "--password", f"file:{folder}/gone.password", file)
    connector.cli("pfx", "remove", "--user", pfx.user, "--thumbprint", pfx.thumbprint)
    assert json.loads(connector.cli("pfx", "list", "--user", pfx.user, "--json").stdout) == []
    assert connector.cli("pfx", "remove", "--user", pfx.user, check=False).returncode == 1


@pytest.mark.parametrize("arguments, says", [
    (["import"], "wants --user USER and files"),
    (["import", "--user", "u@contoso.example"], "wants --user USER and files"),
    (["import", "--padding", "oaepSha1", "--user", "u@contoso.example", "x.pfx"], "--padding oaepSha1"),
    (["import", "--purpose", "fun", "--user", "u@contoso.example", "x.pfx"], "--purpose fun"),
    (["import", "--provider", "x", "--user", "u@contoso.example", "x.pfx"], "go together"),
    (["import", "--csv", "/nonexistent/list.csv"], "list.csv"),
    (["fetch"], "unknown: fetch"),
    (["list", "--bogus"], "unknown option --bogus"),
])
def test_bad_usage(setting, arguments, says):
    _, _, connector = setting
    done = connector.cli("pfx", *arguments, check=False)
    assert done.returncode in (1, 2) and says in done.stderr and len(done.stderr.splitlines()) == 1, done


def test_an_option_without_its_value(setting):
    rig = setting[0]
    done = run(rig.programs / "certconnector", "pfx", "import", "--user", check=False)
    assert done.returncode == 2 and "--user needs a value" in done.stderr


@pytest.mark.parametrize("text, line, says", [
    ("user,password\nx,y\n", 1, "must name the columns"),
    ('file,user,password\n"a,b,c\n', 2, "not a line of CSV"),
    ("file,user,password\na.pfx,,file:x\n", 2, "must all be there"),
    ("file,user,password\n", None, "nothing to upload"),
    ("", None, "nothing to upload"),
])
def test_bad_csv(setting, folder, text, line, says):
    rig, _, connector = setting
    path = folder / "list.csv"
    rig.private_file(path, text.encode())
    done = connector.cli("pfx", "import", "--csv", path, check=False)
    assert done.returncode == 2 and says in done.stderr
    assert line is None or f"list.csv:{line}:" in done.stderr


def test_exported_key_is_the_tokens(setting):
    _, _, connector = setting
    pem = connector.cli("key", "export-public", "--role", "pfx-import", "--format", "pem").stdout
    assert serialization.load_pem_public_key(pem.encode()).key_size == 2048
