#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs programs, one after the other, with CC_TEST_POSTGRES naming an empty database of a server of their own.  A file of
tests (.py) is run by pytest, its rigs making databases of their own on that server."""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "integration"))
from pg_rig import Postgres  # noqa: E402


def command(program):
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", program] if program.endswith(".py") else [program]


def main(programs):
    postgres = Postgres()
    failed = []
    try:
        for i, program in enumerate(programs):
            uri = postgres.database(f"test_{i}")
            print(f"==== {program} on {uri}", flush=True)
            if subprocess.run(command(program), env={**os.environ, "CC_TEST_POSTGRES": uri}).returncode != 0:
                failed.append(program)
    finally:
        postgres.close()
    if failed:
        print("failed on PostgreSQL:", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
