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
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import pg_rig  # noqa: E402
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


def openssl_rate(seconds, *options):
    """Operations a second; of processor time unless several processes work at once."""
    done = rigging.run("openssl", "speed", "-seconds", max(1, int(seconds)), *options, "rsa2048")
    return float(re.search(r"^rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", done.stdout, re.M).group(1))


def rss_mib(*pids):
    kib = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        kib += int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))
    return kib / 1024


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        bench.add("openssl_rsa2048_ops", openssl_rate(seconds, "-multi", os.cpu_count()), "1/s", f"openssl speed, {os.cpu_count()} processes")
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


def measure_growth(bench, connector, service, pfx, recipient):
    """Whether what was done is remembered in memory."""
    if not bench.wants("rss_after_10k_mib", "rss_after_100k_mib"):
        return
    connector.process.stop()
    connector.start()
    tenth = bench.amount(10000, 1000)
    for name, count in (("rss_after_10k_mib", tenth), ("rss_after_100k_mib", 9 * tenth)):
        for _ in range(count // tenth):
            work_off(service, pfx, recipient, tenth)
        note = "daemon and token process, resident, after so many requests" + (" and a tenth of them" if bench.scale < 1 else "")
        bench.add(name, rss_mib(connector.process.pid, connector.token_pid()), "MiB", note)


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


# ---- much of it ----

def measure_full_store(bench, rig):
    """Rounds in turn: the same requests at a CA that issued nothing yet, and at one that issued many; with keys that are
    quickly made and used, so that the store has its share."""
    service, recipient = rig.service(), rigging.Recipient()
    token = rig.token(kinds=("pfx-import=rsa2048", "scep-ra-sign=none", "scep-ra-encrypt=none", "ca=ecP256", "ocsp=ecP256",
                             "identity=none", "audit=none"))
    many, count = bench.amount(1000000, 100000), bench.amount(1000, 200)
    empty, full = (pki.connector_with_ca(rig, service, token, features="pkcs", name=name, start=False,
                                         overrides={"pkcs.key-pool": "0", "publish.listen": None})[0] for name in ("empty", "full"))
    pki.fill_issued(full, many, secrets.token_bytes(850))
    rates = {"empty": [], "full": []}
    for _ in range(5):
        for connector in (empty, full):
            connector.start()
            rates[connector.name].append(certify(service, recipient, "ecP256", count))
            memory = rss_mib(connector.process.pid)
            connector.process.stop()
    ratio = statistics.median(rates["full"]) / statistics.median(rates["empty"])
    bench.add("store_1m_ratio", ratio, "ratio", f"{many} certificates in the CA's database against none, {count} requests a round, "
              f"medians of 5: {statistics.median(rates['full']):.0f} and {statistics.median(rates['empty']):.0f}/s; daemon {memory:.0f} MiB")


def stop_all(connectors):
    for connector in connectors:
        os.kill(connector.process.pid, signal.SIGTERM)
    for connector in connectors:
        connector.process.stop(120)


def measure_instances(bench, rig):
    """One instance, a hundred, and one again: on one token, one PostgreSQL and one queue."""
    postgres = pg_rig.Postgres()
    try:
        token = rig.token(kinds=("pfx-import=rsa2048", "scep-ra-sign=none", "scep-ra-encrypt=none", "ca=none", "ocsp=none",
                                 "identity=none", "audit=none"))
        service, state = rig.service(), postgres.database("bench")
        crowd = [rig.connector(service, token, name=f"bench-{i}", start=False, overrides={"connector.state": state}) for i in range(100)]
        pfx, recipient = rigging.Pfx("user1@contoso.example"), rigging.Recipient()
        crowd[0].start()
        service.upload(pfx, crowd[0].public_key())
        count, one, all_of_them = bench.amount(5000, 1000), [], []
        for _ in range(2):
            one.append(count / work_off(service, pfx, recipient, count))
            for connector in crowd[1:]:
                connector.start(wait=False)
            for connector in crowd[1:]:
                connector.wait_ready(120)
            all_of_them.append(count / work_off(service, pfx, recipient, count))
            stop_all(crowd[1:])
        one.append(count / work_off(service, pfx, recipient, count))
        bench.add("instances100_ratio", statistics.mean(all_of_them) / statistics.mean(one), "ratio",
                  f"{statistics.mean(all_of_them):.0f} imported PFX a second by 100 instances, {statistics.mean(one):.0f} by one, in turn")
    finally:
        postgres.close()


def measure_much(bench):
    for measure, figure in ((measure_full_store, "store_1m_ratio"), (measure_instances, "instances100_ratio")):
        if bench.wants(figure):
            rig = rigging.Rig()
            try:
                measure(bench, rig)
            finally:
                rig.close()


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


# ---- SCEP ----

SCEP_CLIENTS = (1, 4, 16, 64)
SCEP_NAMES = ([f"scep_{kind}_c{clients}" for kind in ("rate", "p50_ms", "p99_ms") for clients in SCEP_CLIENTS] +
              ["scep_efficiency_c16", "scep_cpu_rsa_ops", "scep_cpu_token_rsa_ops", "scep_rss_mib", "scep_rate_static_c16",
               "scep_efficiency_static_c16"])
SCEP_PEER_NAMES = ("scep_peer_rate_c16", "scep_peer_rss_mib")
SCEP_SECRET = "a-secret-for-all"
SCEP_SECTIONS = """
[scep-profile "static"]
ca = corp
profile = user
challenge = static
challenge-secret = file:{secret}
"""


class ScepServer:
    """Where devices enrol; order gives the challenges of devices by their names."""

    def __init__(self, folder, port, path, order, *options):
        self.folder, self.port, self.path, self.order, self.options = folder, port, path, order, options

    def enrol(self, clients, count):
        """What the load generator found."""
        file, names = self.folder / "devices", [secrets.token_hex(8) for _ in range(count)]
        file.write_text("".join(f"{name} {challenge}\n" for name, challenge in zip(names, self.order(names))))
        done = subprocess.run([rigging.BUILD / "tests/scep_load", *self.options, str(self.port), self.path, file, str(clients)],
                              capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def scep_challenges(service):
    def order(names):
        bodies = [{"subjectName": f"CN={name},O=Contoso", "userPrincipalName": "user1@contoso.example"} for name in names]
        return [one["challenge"] for one in service.admin("POST", "scepChallenges", bodies)["challenges"]]
    return order


def scep_secret(names):
    return [SCEP_SECRET] * len(names)


def enrol_well(server, clients, count):
    found = server.enrol(clients, count)
    assert found["failed"] == 0 and found["doubled"] == 0, f"enrolments failed: nothing was measured: {found}"
    return found


def scep_connector(rig, service, token):
    """(connector, its server where the service says of challenges, and where one secret is good for all)."""
    port, secret = pki.free_port(), rig.folder / "scep.secret"
    rig.private_file(secret, SCEP_SECRET.encode())
    connector, _ = pki.connector_with_ca(rig, service, token, features="scep", name="scep", extra=SCEP_SECTIONS.format(secret=secret), overrides={
        "scep.listen": f"127.0.0.1:{port}", "scep.ca": "corp", "scep.profile": "user",
        "keys.scep-ra-sign": "pkcs11:object=scep-ra-sign", "keys.scep-ra-encrypt": "pkcs11:object=scep-ra-encrypt"})
    rigging.wait_until(lambda: connector.status()["workloads"]["scep"]["state"] == "ready", "the SCEP server is ready", 60)
    return (connector, ScepServer(connector.folder, port, "/scep", scep_challenges(service)),
            ScepServer(connector.folder, port, "/scep/static", scep_secret))


def scep_settled(connector):
    rigging.wait_until(lambda: connector.status()["workloads"]["scep"]["notificationsDue"] == 0, "the service was told of all", 600)


def measure_scep_cpu(bench, connector, server, count):
    """The processor time of an enrolment, its aftermath included."""
    pids = (connector.process.pid, connector.token_pid())
    before = [cpu_seconds(pid) for pid in pids]
    enrol_well(server, 16, count)
    bench.add("scep_rss_mib", rss_mib(*pids), "MiB", "daemon and token process, resident, right behind 16 clients")
    scep_settled(connector)
    daemon, token = [(cpu_seconds(pid) - start) / count for pid, start in zip(pids, before)]
    operation = 1 / openssl_rate(max(1.0, 5 * bench.scale))
    bench.add("scep_cpu_rsa_ops", daemon / operation, "ops", f"the daemon's time an enrolment over openssl's time of an operation, {count} enrolments")
    bench.add("scep_cpu_token_rsa_ops", (daemon + token) / operation, "ops", "with the token process, three operations of which are the token's work")


def measure_scep(bench, rig, service, token):
    """Rounds in turn: the token alone, then clients against the service's challenges and against a secret."""
    if not bench.wants(*SCEP_NAMES):
        return
    connector, server, static = scep_connector(rig, service, token)
    count, seconds, found, efficiency = bench.amount(1500, 200), max(1.0, 5 * bench.scale), {}, {server: [], static: []}
    for clients in SCEP_CLIENTS:
        if clients != 16:
            found[clients] = enrol_well(server, clients, count)
            scep_settled(connector)
    rounds, static_rates = [], []
    for _ in range(3):
        raw = max(raw_rate(token, threads, seconds) for threads in (2, 4))
        rounds.append(enrol_well(server, 16, count))
        scep_settled(connector)
        static_rates.append(enrol_well(static, 16, count)["rate"])
        efficiency[server].append(3 * rounds[-1]["rate"] / raw)
        efficiency[static].append(3 * static_rates[-1] / raw)
    found[16] = sorted(rounds, key=lambda one: one["rate"])[1]
    for clients in SCEP_CLIENTS:
        bench.add(f"scep_rate_c{clients}", found[clients]["rate"], "1/s", f"{clients} clients, {count} devices, the service is asked and told")
        bench.add(f"scep_p50_ms_c{clients}", found[clients]["p50Ms"], "ms", "message to answer")
        bench.add(f"scep_p99_ms_c{clients}", found[clients]["p99Ms"], "ms", f"2 x clients / rate is {2000 * clients / found[clients]['rate']:.1f}")
    note = "three operations an enrolment, of the token's raw rate in the same round; {} the same processors"
    bench.add("scep_efficiency_c16", statistics.median(efficiency[server]), "ratio", note.format("clients and service work on"))
    bench.add("scep_rate_static_c16", statistics.median(static_rates), "1/s", "one secret for all: no service")
    bench.add("scep_efficiency_static_c16", statistics.median(efficiency[static]), "ratio", note.format("the clients work on"))
    measure_scep_cpu(bench, connector, server, count)
    connector.process.stop()


def measure_scep_peer(bench, rig):
    """The same load for a server with its keys in files, which knows nothing but old algorithms."""
    if not bench.wants(*SCEP_PEER_NAMES):
        return
    folder, port, count = rig.folder / "peer", pki.free_port(), bench.amount(1500, 200)
    folder.mkdir()
    rigging.run("scepserver", "ca", "-init", "-keySize", 2048, "-depot", folder / "depot")
    server = ScepServer(folder, port, "/scep", scep_secret, "--des")
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(["scepserver", "-depot", folder / "depot", "-port", str(port), "-challenge", SCEP_SECRET], stdout=log, stderr=log)
    try:
        rigging.wait_until(lambda: rigging.run("curl", "--silent", "--noproxy", "*", f"http://127.0.0.1:{port}/scep?operation=GetCACaps",
                                               check=False).returncode == 0, "the other SCEP server is ready")
        found = [server.enrol(16, count) for _ in range(3)]
        one = sorted(found, key=lambda one: one["rate"])[1]
        bench.add("scep_peer_rate_c16", one["rate"], "1/s", f"Debian's scepserver, keys in files; {one['failed']} of {count} failed, "
                  f"{one['doubled']} serial numbers given twice")
        bench.add("scep_peer_rss_mib", rss_mib(child.pid), "MiB", "resident, right behind that load")
    finally:
        child.terminate()
        child.wait(10)


def measure_enrolments(bench):
    rig = rigging.Rig()
    try:
        token = rig.token(kinds=("pfx-import=rsa2048", "scep-ra-sign=rsa2048", "scep-ra-encrypt=rsa2048", "ca=rsa2048", "ocsp=ecP256",
                                 "identity=none", "audit=none"))
        measure_scep(bench, rig, rig.service(), token)
        measure_scep_peer(bench, rig)
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
        measure_growth(bench, connector, service, pfx, recipient)
    finally:
        rig.close()
    measure_certificates(bench)
    measure_enrolments(bench)
    measure_much(bench)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"figures": bench.figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
