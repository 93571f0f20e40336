# SPDX-License-Identifier: MIT
"""Fail points (include/base/failpoint.h) of the programs under test: what they shall do, and which were passed."""

import shutil

import pytest

from rig import BUILD, USER

NEEDED = pytest.mark.skipif(b"CERTCONNECTOR_FAILPOINTS_FILE" not in (BUILD / "bin/certconnectord").read_bytes(),
                            reason="the build has no fail points: cmake -DCC_FAILPOINTS=ON")


class FailPoints:
    """The specification that the processes with this environment heed, and a count of what they pass."""

    def __init__(self, rig):
        self.folder = rig.folder / "failpoints"
        rig.private_folder(self.folder)
        self.file = self.folder / "specification"
        self.env = {"CERTCONNECTOR_FAILPOINTS_FILE": str(self.file)}
        self.number = 0
        self.set()

    def set(self, *rules):
        """These and no others from now on; what is passed is counted anew."""
        self.number += 1
        self.counted = self.folder / str(self.number)
        self.counted.mkdir()
        shutil.chown(self.counted, USER, USER)
        beside = self.file.with_suffix(".new")
        beside.write_text("\n".join([f"passed = {self.counted}", *rules, ""]))
        beside.rename(self.file)

    def passed(self):
        """How often by name, since set()."""
        return {path.name: path.stat().st_size for path in self.counted.iterdir()}

    def count(self, name):
        path = self.counted / name
        return path.stat().st_size if path.exists() else 0
