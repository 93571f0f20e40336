# SPDX-License-Identifier: MIT
"""A crowd of connectors under constant trouble: the books of all sides agree in the end.  A hundred on one PostgreSQL, and fewer
with an SQLite file each.

More of it by the environment, by pytest itself as ctest ends a file after a quarter of an hour: CHAOS_REQUESTS=200000 for both,
which takes hours; CHAOS_INSTANCES, CHAOS_SEED, CHAOS_PACE (requests a second)."""

import json
import os
import pathlib
import sys

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from chaos import run_chaos  # noqa: E402
from crowd import Options, World  # noqa: E402

CROWDS = {"sqlite": (1200, 30), "postgres": (5000, 100)}
SEED = int(os.environ.get("CHAOS_SEED", "1"))
PACE = float(os.environ.get("CHAOS_PACE", "30"))


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_nothing_is_lost_and_nothing_done_twice(store):
    count, instances = CROWDS[store]
    report = run_chaos(Options(requests=int(os.environ.get("CHAOS_REQUESTS", count)),
                               instances=int(os.environ.get("CHAOS_INSTANCES", instances)), seed=SEED, pace=PACE, store=store))
    print(report.text())
    assert not report.findings, report.text()


def test_a_crowd_that_starts_at_once_has_one_pair_of_ra_certificates():
    """They all ask the CA for the same; none is given up while another instance is being given it."""
    world = World(Options(instances=10, store="postgres"))
    try:
        said = world.instances[0].cli("ca", "list", "--json", "--state", "all").stdout
        certificates = [one for one in json.loads(said)["certificates"] if one["profile"] == "scep-ra"]
        assert sorted((one["subject"], one["state"]) for one in certificates) == [
            ("CN=corp SCEP RA encryption", "issued"), ("CN=corp SCEP RA signing", "issued")]
        shown = {requests.get(f"http://127.0.0.1:{one.port}/scep?operation=GetCACert", timeout=20).content for one in world.servers()}
        assert len(shown) == 1
    finally:
        world.close()
