# SPDX-License-Identifier: MIT
"""The benchmarks behind scripts/bench.sh: the token alone and the connector on it, alternately in one run.

Efficiency is requests a second, times private-key operations a request, over the raw operations a second of the same
token in the same run.  A software token computes on the very processors that the connector and the stand-in service
need, so its efficiency is bounded by what these cost; a hardware token leaves the processors free."""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import rig as rigging  # noqa: E402

THREADS = (1, 2, 4, 8)


class Bench:
    def __init__(self, quick, only):
        self.scale = 0.1 if quick else 1.0
        self.only = only
        self.figures = []

    def wants(self, *names):
        return not self.only or any(name.startswith(prefix) or prefix.startswith(name) for name in names for prefix in self.only)

    def add(self, name, value, unit, note=""):
        self.figures.append({"name": name, "value": round(value, 3), "unit": unit, "note": note})
        print(f"{name:24} {value:12.3f} {unit:10} {note}", flush=True)

    def amount(self, full, least):
        return max(least, int(full * self.scale))


def raw_rate(token, threads, seconds):
    done = rigging.run(rigging.BUILD / "tests/raw_token", token.module, token.label, token.pin_file, "pfx-import",
                       threads, seconds, env=dict(os.environ, **token.env))
    return float(done.stdout)


def openssl_rate(seconds):
    done = rigging.run("openssl", "speed", "-seconds", max(1, int(seconds)), "-multi", os.cpu_count(), "rsa2048")
    return float(re.search(r"^rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", done.stdout, re.M).group(1))


def rss_mib(*pids):
    kib = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        kib += int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))
    return kib / 1024


def completed(service):
    return service.counts()["requests"]["completed"]


def work_off(service, pfx, recipient, total):
    """Enqueues, and waits until the service has no open request; the seconds from the one to the other."""
    before = completed(service)
    service.enqueue(pfx, recipient, total)
    begin = time.monotonic()
    rigging.wait_until(lambda: service.open_requests() == 0, f"{total} requests are done", 1800)
    seconds = time.monotonic() - begin
    assert completed(service) - before == total, "requests failed: nothing was measured"
    return seconds


def measure_token(bench, token):
    seconds = max(1.0, 5 * bench.scale)
    if bench.wants("openssl_rsa2048_ops"):
        bench.add("openssl_rsa2048_ops", openssl_rate(seconds), "1/s", f"openssl speed, {os.cpu_count()} processes")
    if bench.wants("token_rsa2048_ops"):
        rates = {threads: raw_rate(token, threads, seconds) for threads in THREADS}
        for threads, rate in rates.items():
            bench.add(f"token_rsa2048_ops_t{threads}", rate, "1/s", f"{threads} threads, raw PKCS#11")
        bench.add("token_rsa2048_ops", max(rates.values()), "1/s", "the best of these")


def measure_rate(bench, service, token, pfx, recipient):
    """Rounds in turn: the token alone, then a queue full of requests."""
    if not bench.wants("pfx_import_rate", "pfx_import_efficiency"):
        return
    count, seconds, rates, ratios = bench.amount(5000, 1000), max(1.0, 5 * bench.scale), [], []
    for _ in range(3):
        raw = max(raw_rate(token, threads, seconds) for threads in (2, 4))
        rate = count / work_off(service, pfx, recipient, count)
        rates.append(rate)
        ratios.append(rate / raw)
    bench.add("pfx_import_rate", statistics.median(rates), "1/s", f"{count} queued requests, median of 3 rounds")
    bench.add("pfx_import_efficiency", statistics.median(ratios), "ratio",
              "of the token's raw rate in the same round; the service works on the same processors")


def measure_latency(bench, service, pfx, recipient):
    if not bench.wants("latency_p50_ms", "latency_p99_ms"):
        return
    count, took = bench.amount(300, 30), []
    for _ in range(count):
        begin = time.monotonic()
        request_id = service.enqueue(pfx, recipient)[0]
        while service.request(request_id)["state"] != "completed":
            time.sleep(0.001)
        took.append((time.monotonic() - begin) * 1000)
    took.sort()
    bench.add("latency_p50_ms", took[len(took) // 2], "ms", f"enqueue to result, idle system, {count} requests one by one")
    bench.add("latency_p99_ms", took[int(len(took) * 0.99)], "ms", "measured from outside, two HTTPS calls included")


def measure_memory(bench, connector, service, pfx, recipient):
    if not bench.wants("rss_idle_mib", "rss_10k_mib"):
        return
    connector.process.stop()
    connector.start()
    bench.add("rss_idle_mib", rss_mib(connector.process.pid, connector.token_pid()), "MiB", "daemon and token process, resident")
    count = bench.amount(10000, 1000)
    service.enqueue(pfx, recipient, count)
    peak = 0.0
    while service.open_requests() > 0:
        pids = [connector.process.pid, connector.token_pid()]
        if all(pids):
            peak = max(peak, rss_mib(*pids))
        time.sleep(0.05)
    bench.add("rss_10k_mib", peak, "MiB", f"the most while {count} requests wait and are worked")


def measure_start(bench, connector):
    if not bench.wants("start_ms"):
        return
    took = []
    for _ in range(5):
        connector.process.stop()
        path = str(connector.run / "notify")
        pathlib.Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            os.chmod(path, 0o666)
            notify.settimeout(60)
            os.environ["NOTIFY_SOCKET"] = path
            begin = time.monotonic()
            connector.start(wait=False)
            while b"READY=1" not in notify.recv(4096):
                pass
            took.append((time.monotonic() - begin) * 1000)
            del os.environ["NOTIFY_SOCKET"]
        connector.wait_ready()
    bench.add("start_ms", statistics.median(took), "ms", "from exec to READY=1, token being opened meanwhile")


def main():
    parser = argparse.ArgumentParser(prog="bench.sh")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json")
    options = parser.parse_args()
    bench = Bench(options.quick, options.only)
    rig = rigging.Rig()
    try:
        token = rig.token(kinds=("pfx-import=rsa2048", "scep-ra-sign=none", "scep-ra-encrypt=none", "ca=none", "ocsp=none",
                                 "identity=none", "audit=none"))
        measure_token(bench, token)
        service = rig.service()
        connector = rig.connector(service, token)
        pfx, recipient = rigging.Pfx("user1@contoso.example"), rigging.Recipient()
        service.upload(pfx, connector.public_key())
        measure_start(bench, connector)
        measure_latency(bench, service, pfx, recipient)
        measure_rate(bench, service, token, pfx, recipient)
        measure_memory(bench, connector, service, pfx, recipient)
    finally:
        rig.close()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"figures": bench.figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
