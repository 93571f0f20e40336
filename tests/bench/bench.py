# SPDX-License-Identifier: MIT
"""The benchmarks behind scripts/bench.sh: the token alone and the connector on it, alternately in one run.

Efficiency is requests a second, times private-key operations a request, over the raw operations a second of the same
token in the same run.  A software token computes on the very processors that the connector and the stand-in service
need, so its efficiency is bounded by what these cost; a hardware token leaves the processors free."""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import pki_rig as pki  # noqa: E402
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
    """Private-key operations a second of the key for imported PFX, by several threads that do nothing else."""
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


# ---- certificates ----

def certify(service, recipient, kind, total):
    """Enqueues PKCS requests and waits for them; requests a second."""
    before = completed(service)
    service.admin("POST", "pkcsRequests", pki.order(recipient, keyAlgorithm=kind, subjectName="CN=device%d,O=Contoso", count=total))
    begin = time.monotonic()
    rigging.wait_until(lambda: service.open_requests() == 0, f"{total} requests are done", 1800)
    seconds = time.monotonic() - begin
    assert completed(service) - before == total, "requests failed: nothing was measured"
    return total / seconds


def wait_pool(connector, size):
    rigging.wait_until(lambda: connector.status()["workloads"]["pkcs"]["readyKeys"] >= size, f"{size} keys are ready", 3600)


def measure_pkcs(bench, rig, service, token, recipient):
    """Rounds in turn: the token alone, then a queue full of requests, with a CA of the same kind of key."""
    if not bench.wants("pkcs_rate_ready", "pkcs_rate_unready", "pkcs_efficiency"):
        return
    count, seconds = bench.amount(1000, 100), max(1.0, 5 * bench.scale)
    connector, _ = pki.connector_with_ca(rig, service, token, features="pkcs", name="pkcs", overrides={"pkcs.key-pool": count})
    ready, efficiency = {"rsa2048": [], "ecP256": []}, []
    for _ in range(3):
        for kind, rates in ready.items():
            wait_pool(connector, count)
            raw = max(raw_rate(token, threads, seconds) for threads in (2, 4))
            rates.append(certify(service, recipient, kind, count))
            if kind == "rsa2048":
                efficiency.append(rates[-1] / raw)
    bench.add("pkcs_rate_ready", statistics.median(ready["rsa2048"]), "1/s", f"RSA-2048 out of the pool, {count} queued requests, median of 3 rounds")
    bench.add("pkcs_rate_ready_ecP256", statistics.median(ready["ecP256"]), "1/s", "keys made with the request")
    bench.add("pkcs_efficiency", statistics.median(efficiency), "ratio", "of the token's raw RSA-3072 rate; the CA's key is of that kind")
    connector.process.stop()
    connector.write_config(connector.extra, {**connector.overrides, "pkcs.key-pool": "0"})
    connector.start()
    # What is still in the store is used up first.
    certify(service, recipient, "rsa2048", count + 16)
    bench.add("pkcs_rate_unready", certify(service, recipient, "rsa2048", bench.amount(300, 50)), "1/s", "RSA-2048 without a pool")
    connector.process.stop()


def ocsp_client(port, request, seconds, ret):
    """Asks over one connection for so long; appends how often."""
    count, end = 0, time.monotonic() + seconds
    head = (f"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: {len(request)}\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", port)) as s:
        while time.monotonic() < end:
            s.sendall(head + request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += s.recv(65536)
            header, body = answer.split(b"\r\n\r\n", 1)
            assert b" 200 " in header.split(b"\r\n", 1)[0], header
            length = int(re.search(rb"content-length: (\d+)", header, re.I).group(1))
            while len(body) < length:
                body += s.recv(65536)
            count += 1
    ret.put(count)


def ocsp_rate(port, request, seconds, clients):
    counts = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=ocsp_client, args=(port, request, seconds, counts)) for _ in range(clients)]
    for process in processes:
        process.start()
    total = sum(counts.get(timeout=seconds + 60) for _ in processes)
    for process in processes:
        process.join()
    return total / seconds


def measure_ocsp(bench, rig, service, token, recipient):
    if not bench.wants("ocsp_rate", "ocsp_rate_nonce"):
        return
    connector, authority = pki.connector_with_ca(rig, service, token, features="pkcs", name="ocsp")
    request_id = service.admin("POST", "pkcsRequests", pki.order(recipient))["requestId"]
    certificate = pki.open_result(service.wait_done(request_id)["result"], recipient)[1]
    seconds, file = max(2.0, 10 * bench.scale), authority.folder / "request.der"
    for name, option, note in (("ocsp_rate", "-no_nonce", "out of the cache"), ("ocsp_rate_nonce", "-nonce", "signed each time, P-256")):
        rigging.run("openssl", "ocsp", "-issuer", authority.certificate(), "-cert", authority.write(certificate), option, "-reqout", file)
        bench.add(name, ocsp_rate(authority.port, file.read_bytes(), seconds, 8), "1/s", f"8 clients on this machine, {note}")
    connector.process.stop()


def measure_crl(bench, rig, service, token):
    """The command that signs one, its start and the token's included."""
    if not bench.wants("crl_10k_seconds", "crl_10k_mib", "crl_100k_seconds", "crl_100k_mib", "crl_1m_seconds", "crl_1m_mib"):
        return
    sizes = [("10k", 10 ** 4), ("100k", 10 ** 5)] + ([("1m", 10 ** 6)] if bench.scale == 1.0 else [])
    for label, count in sizes:
        connector, authority = pki.connector_with_ca(rig, service, token, name=f"crl-{label}", start=False)
        pki.fill_revoked(connector, count)
        file = connector.state / "out.crl"
        begin = time.monotonic()
        child = subprocess.Popen(rigging.as_service_user([rig.programs / "certconnector", "ca", "crl", "--config", connector.config, "--out", file]),
                                 env=dict(os.environ, **token.env))
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begin
        assert status == 0
        bench.add(f"crl_{label}_seconds", seconds, "s", f"{count} entries, {file.stat().st_size / 1e6:.1f} MB")
        bench.add(f"crl_{label}_mib", usage.ru_maxrss / 1024, "MiB", "the most that the command had resident")
        connector.start()
        assert "verify OK" in rigging.run("openssl", "crl", "-inform", "DER", "-in", file, "-noout", "-verify", "-CAfile",
                                          authority.certificate()).stderr
        connector.process.stop()


def measure_certificates(bench):
    rig = rigging.Rig()
    try:
        token = rig.token(kinds=("pfx-import=rsa3072", "scep-ra-sign=none", "scep-ra-encrypt=none", "ca=rsa3072", "ocsp=ecP256",
                                 "identity=none", "audit=none"))
        service, recipient = rig.service(), rigging.Recipient()
        measure_pkcs(bench, rig, service, token, recipient)
        measure_ocsp(bench, rig, service, token, recipient)
        measure_crl(bench, rig, service, token)
    finally:
        rig.close()


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
    measure_certificates(bench)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"figures": bench.figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
