# SPDX-License-Identifier: MIT
"""The bash completion of certconnector: what it offers where, and that it is what the program takes."""

import os
import pathlib
import re
import subprocess

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CC_BUILD", PROJECT / "build"))
PROGRAM = BUILD / "bin" / "certconnector"
SCRIPT = PROJECT / "scripts" / "completion" / "certconnector"
COMMANDS = ["configure", "check-config", "check", "token", "key", "identity", "pfx", "scep", "ca", "store", "status", "events", "explain", "selftest"]
VERBS = {"identity": ["show", "remove"], "token": ["list", "init", "forget-pins"], "key": ["list", "generate", "export-public", "self-sign"], "pfx": ["import", "list", "remove"],
         "scep": ["caps", "enrol", "renew", "cert", "crl"], "ca": ["init", "issue", "revoke", "crl", "list", "pending", "approve", "deny"],
         "store": ["backup", "restore", "migrate"]}
LEAVES = [[command, *verb] for command in COMMANDS for verb in ([[v] for v in VERBS[command]] if command in VERBS else [[]])]


def complete(line, folder="/"):
    """What bash is offered at the end of a line, whose words are broken as bash breaks them."""
    words = [word for part in line.split(" ") for word in (re.findall(r"[=:]|[^=:]+", part) or [""])]
    script = ('source "$1"; shift; cd "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _certconnector\n'
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", SCRIPT, folder, *words], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def run(*argv):
    return subprocess.run([PROGRAM, *argv], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def help_options(command):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", run(command, "--help").stdout))


def offered_options(leaf):
    return set(complete(" ".join(["certconnector", *leaf, "--"]))) - {"--help"}


def test_it_can_be_loaded_and_is_bound():
    done = subprocess.run(["bash", "-c", f"source {SCRIPT}; complete -p certconnector"], capture_output=True, text=True)
    assert done.stdout == "complete -F _certconnector certconnector\n"


def test_compgen_finds_the_same():
    """By bash's own compgen, as far as it goes: the list of commands."""
    script = f"source {SCRIPT}; COMP_WORDS=(certconnector st); COMP_CWORD=1; compgen -F _certconnector -- st 2>/dev/null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout == "store\nstatus\n"


def test_the_commands_are_the_programs():
    listed = re.findall(r"^  ([a-z-]+) ", run("--help").stdout, re.M)
    assert sorted(listed) == sorted(COMMANDS)
    assert set(complete("certconnector ")) == {*listed, "help", "--help", "--version"}


@pytest.mark.parametrize("command", sorted(VERBS))
def test_the_verbs_are_the_programs(command):
    assert complete(f"certconnector {command} ") == [*VERBS[command], "--help"]
    in_help = set(re.findall(rf"certconnector {command} ([a-z-]+)", run(command, "--help").stdout))
    assert in_help == set(VERBS[command])


@pytest.mark.parametrize("leaf", LEAVES, ids=" ".join)
def test_the_options_are_those_that_the_program_takes(leaf):
    """Each that is offered is taken, each other one of the command's help is not, as the program itself tells."""
    options = help_options(leaf[0]) - {"--help"}
    offered = offered_options(leaf)
    assert offered <= options
    for option in options:
        # the word between is the option's value, or a file behind one without
        error = run(*leaf, option, "x", "--no-such-option").stderr
        # getopt takes the beginning of a single option for the whole
        takes = option in offered or sum(one.startswith(option) for one in offered) == 1
        assert ("unknown option --no-such-option" in error) == takes, (option, error)


@pytest.mark.parametrize("leaf", LEAVES, ids=" ".join)
def test_values_are_expected_where_the_program_wants_them(leaf):
    script = 'source "$1"; _certconnector_options "$2"'
    listed = subprocess.run(["bash", "-c", script, "bash", SCRIPT, " ".join(leaf)], capture_output=True, text=True).stdout.split()
    assert listed
    for option in listed:
        # one without a value leaves --help to be obeyed, one with takes it for its value
        obeyed = run(*leaf, option.rstrip("="), "--help", "--no-such-option").stdout.startswith("usage:")
        assert obeyed != option.endswith("="), option


@pytest.mark.parametrize("line, want", [
    ("certconnector e", ["events", "explain"]),
    ("certconnector se", ["selftest"]),
    ("certconnector selftest --feature p", ["pkcs", "pfx-import"]),
    ("certconnector key e", ["export-public"]),
    ("certconnector events --c", ["--channel", "--category", "--config"]),
    ("certconnector events --channel ", ["admin", "operational"]),
    ("certconnector events --channel=", ["admin", "operational"]),
    ("certconnector events --channel=o", ["operational"]),
    ("certconnector events --channel admin --fol", ["--follow"]),
    ("certconnector events --channel=admin --fol", ["--follow"]),
    ("certconnector events --category P", ["PKCS", "PKCS\\ Import"]),
    ("certconnector events --since ", []),
    ("certconnector key generate --role scep", ["scep-ra-sign", "scep-ra-encrypt"]),
    ("certconnector key generate --also scep", ["scep-ra-sign", "scep-ra-encrypt"]),
    ("certconnector ca init --sc", ["--scep"]),
    ("certconnector configure --key-type s", ["scep-ra-sign=", "scep-ra-encrypt=", "seal="]),
    ("certconnector configure --no-", ["--no-input", "--no-check"]),
    ("certconnector key generate --type ec", ["ecP256", "ecP384", "ecP521"]),
    ("certconnector key --json", []),
    ("certconnector key export-public --format ", ["pem", "cng"]),
    ("certconnector key generate --uri pkcs11:token=x --ro", ["--role"]),
    ("certconnector key list --role ", []),
    ("certconnector ca list --state h", ["held"]),
    ("certconnector ca revoke --reason key", ["keyCompromise"]),
    ("certconnector ca init --key-type ec", ["ecP256", "ecP384"]),
    ("certconnector scep enrol --key-type rsa2", ["rsa2048"]),
    ("certconnector scep renew --cipher ", ["aes256", "aes128", "3des"]),
    ("certconnector scep crl --digest sha5", ["sha512"]),
    ("certconnector key export-public --key ", []),
    ("certconnector pfx import --padding ", ["oaepSha512", "oaepSha384", "oaepSha256"]),
    ("certconnector pfx import --purpose sm", ["smimeEncryption", "smimeSigning"]),
    ("certconnector pfx import --password-encoding l", ["latin-1"]),
    ("certconnector pfx import --password ", ["file:", "credential:", "fd:", "prompt"]),
    ("certconnector pfx import --password fd:", []),
    ("certconnector token init --pin ", ["file:", "credential:"]),
    ("certconnector token init --pin credential:", []),
    ("certconnector nothing --", ["--help"]),
    ("certconnector status x", []),
])
def test_what_is_offered(line, want):
    assert complete(line) == want


@pytest.mark.parametrize("line, want", [
    ("certconnector check-config a", ["a.conf", "a.pfx", "a_folder"]),
    ("certconnector check-config a.conf a", []),
    ("certconnector events --config a.", ["a.conf", "a.pfx"]),
    ("certconnector events --directory a", ["a_folder"]),
    ("certconnector pfx import --user u a.", ["a.conf", "a.pfx"]),
    ("certconnector pfx import a.pfx b", ["b"]),
    ("certconnector pfx import --password file:b", ["b"]),
    ("certconnector pfx import --password=file:b", ["b"]),
    ("certconnector token init --pin file:b", ["b"]),
    ("certconnector token init --pin file:a.conf --so-pin file:b", ["b"]),
    ("certconnector token list a", []),
    ("certconnector store backup b", ["b"]),
    ("certconnector store restore b a", []),
    ("certconnector store migrate b", []),
    ("certconnector scep enrol --key a.", ["a.conf", "a.pfx"]),
    ("certconnector scep renew --save-reply b", ["b"]),
])
def test_files(tmp_path, line, want):
    (tmp_path / "a_folder").mkdir()
    for name in ("a.conf", "a.pfx", "b"):
        (tmp_path / name).touch()
    assert sorted(complete(line, tmp_path)) == want


@pytest.mark.parametrize("leaf, option", [
    (["key", "generate"], "--role"), (["key", "generate"], "--type"), (["key", "export-public"], "--format"),
    (["events"], "--channel"), (["events"], "--category"), (["pfx", "import"], "--padding"),
    (["pfx", "import"], "--purpose"), (["pfx", "import"], "--password-encoding"), (["scep", "enrol"], "--key-type"),
    (["scep", "enrol"], "--cipher"), (["scep", "enrol"], "--digest"),
])
def test_each_value_stands_in_the_help(leaf, option):
    values = complete(" ".join(["certconnector", *leaf, option, ""]))
    text = run(leaf[0], "--help").stdout
    assert values
    for value in values:
        assert re.search(rf"(?<![\w-]){re.escape(value.replace(chr(92), ''))}(?![\w-])", text), value
