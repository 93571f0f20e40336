# SPDX-License-Identifier: MIT
"""What is released has no fail points: built as README.md says, no object knows of them."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from rig import PROJECT, run  # noqa: E402

# What a build with them has: who is called, the variable, and the names that point's names are made of.
TRACES = (b"cc_failpoint", b"CERTCONNECTOR_FAILPOINTS", b"fail point", b"db_write_step")


def sources():
    """Files with a point, or that pass one through a macro."""
    found = []
    for folder in ("src", "hsm"):
        for path in sorted((PROJECT / folder).rglob("*.c")):
            if re.search(r'CC_FAILPOINT|"(base/failpoint|store_int|cadb_int)\.h"', path.read_text()):
                found.append(path.relative_to(PROJECT))
    return found


def objects(build):
    """Their targets in a build."""
    names = [str(path) for path in sources()]
    targets = [line.split(":")[0] for line in run("ninja", "-C", build, "-t", "targets", "all").stdout.splitlines()]
    found = [target for target in targets if any(target.endswith(".o") and "CMakeFiles" in target and
             re.sub(r"CMakeFiles/[^/]+\.dir/", "", target) == name + ".o" for name in names)]
    assert len(found) == len(names) >= 15, (names, found)
    return found


def traces(build, names):
    run("ninja", "-C", build, *names)
    return {trace for name in names for trace in TRACES if trace in (build / name).read_bytes()}


def test_no_fail_point_in_what_is_released(tmp_path):
    run("cmake", "-S", PROJECT, "-B", tmp_path, "-G", "Ninja")
    names = objects(tmp_path)
    found = traces(tmp_path, names)
    assert not found, found
    # The same files have all of it when they are asked to.
    run("cmake", "-S", PROJECT, "-B", tmp_path, "-DCC_FAILPOINTS=ON")
    assert traces(tmp_path, names) == set(TRACES)
