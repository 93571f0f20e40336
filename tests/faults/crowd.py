# SPDX-License-Identifier: MIT
"""A crowd of connectors on one token and one service, with a database each or one for all; what can be done to each of them."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from pg_rig import Postgres  # noqa: E402
from rig import BUILD, USER, Connector, Rig, run, wait_until  # noqa: E402

TOKEN_KEYS = ("pfx-import=rsa2048", "ca=rsa2048", "ocsp=ecP256")
SCEP_INSTANCES = 10  # that devices may ask; all share in the rest
DISK_EVERY, CLOCK_EVERY = 10, 10  # one in so many has a small disk, or a clock that can be turned
DISK_SIZE = "64m"

PROFILES = """
[profile "user"]
templates = ContosoUser
validity = 90d
key-usages = digitalSignature, keyEncipherment
extended-key-usages = clientAuth, emailProtection
san = upn, email, dns

[profile "device"]
validity = 30d
key-usages = digitalSignature, keyEncipherment
extended-key-usages = clientAuth
subject = CN, O
"""


@dataclasses.dataclass
class Options:
    requests: int = 2000
    instances: int = 100
    store: str = "sqlite"
    seed: int = 1
    pace: float = 25.0  # requests a second, all kinds together
    lease_s: int = 8
    trouble_s: float = 0.25  # from one thing that the monkey does to the next, on average
    monkey: bool = True
    keep: bool = False


class StatusConnection(http.client.HTTPConnection):
    """To the control socket of a daemon."""

    def __init__(self, path):
        super().__init__("localhost", timeout=3)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Instance(Connector):
    """One of the crowd.  disk: its folders are on a small file system of their own; clock: it can be turned."""

    def __init__(self, world, index, disk, clock, authority, **options):
        super().__init__(world.rig, world.service, world.token, name=f"c{index:03}", start=False, **options)
        self.index, self.authority, self.disk = index, authority, disk
        self.clock = self.folder / "clock" if clock else None
        self.expected_end = False  # the monkey ended it, and starts it again
        self.port = None
        self.mounted = []
        if clock:
            self.clock.write_bytes(bytes(8))
            self.env = {"LD_PRELOAD": str(world.clock_shim), "CLOCK_SHIFT": str(self.clock)}

    def mount(self):
        for folder in (self.state, self.log) if self.disk else ():
            run("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=0750,uid={USER},gid={USER}", "certconnector-chaos", folder)
            self.mounted.append(folder)

    def unmount(self):
        for folder in self.mounted:
            subprocess.run(["umount", "--lazy", folder], check=False)

    def turn_clock(self, seconds):
        """In one step, of a file that the daemon has mapped."""
        with open(self.clock, "r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))

    def fill(self):
        for folder in (self.state, self.log):
            room = os.statvfs(folder)
            with open(folder / "filler", "wb") as filler:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_bsize)

    def free(self):
        for folder in (self.state, self.log):
            (folder / "filler").unlink(missing_ok=True)

    def status(self):
        """None: it does not answer."""
        connection = StatusConnection(self.run / "control.sock")
        try:
            connection.request("GET", "/v1/status")
            return json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def is_ready(self):
        status = self.status()
        if not status or status["token"]["state"] != "open" or status["service"]["contact"] != "ok":
            return False
        enrolment = status["workloads"].get("scep")
        return not enrolment or enrolment["state"] == "ready"

    def unsettled(self):
        """What it has still to do, in words; "" when nothing."""
        status = self.status()
        if not status:
            return "does not answer"
        due = []
        for name, workload in status["workloads"].items():
            due += [f"{name} {state} {count}" for state, count in workload.get("journal", {}).items() if count and state != "closed"]
            due += [f"{name} {key} {workload[key]}" for key in ("inWork", "notificationsDue") if workload.get(key)]
        return ", ".join(due)

    def children(self):
        with contextlib.suppress(OSError):
            return [int(word) for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
                    for word in (task / "children").read_text().split()]
        return []


def pss_mib(pids):
    """Resident memory, what is shared counted once."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            kib += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
    return kib / 1024


def is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports():
    """Below those that the kernel gives to outgoing connections, of which one would be in the way of a daemon that starts again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        end = int(file.read().split()[0])
    for port in random.sample(range(10000, end), end - 10000):
        if is_free(port):
            yield port


class World:
    """Token, service and crowd."""

    def __init__(self, options):
        self.options = options
        self.rig = Rig()
        self.instances, self.postgres, self.ports = [], None, free_ports()
        try:
            self.token = self.rig.token(kinds=TOKEN_KEYS)
            self.service = self.rig.service("--lease-seconds", str(options.lease_s), "--retry-delay-ms", "500", "--max-attempts", "1000",
                                            "--revocation-cool-down", "0")
            self.http = threading.local()
            self.clock_shim = self.rig.programs / "clock_shift.so"
            shutil.copy(BUILD / "tests" / "clock_shift.so", self.clock_shim)
            if options.store == "postgres":
                self.postgres = Postgres("listen_addresses = ''\nmax_connections = 1000\nshared_buffers = 256MB")
                self.database = self.postgres.database("certconnector", f"host={self.postgres.folder}")
            for index in range(options.instances):
                self.instances.append(self.make(index))
                self.instances[-1].mount()
            self.make_authorities()
            self.start()
        except BaseException:
            self.close()
            raise

    # ---- setting up ----

    def authority_of(self, index):
        """With a database each, each instance is a CA of its own, with the same key and another name."""
        return f"ca{index:03}" if self.options.store == "sqlite" else "corp"

    def make(self, index):
        authority = self.authority_of(index)
        features, port = "pkcs, pfx-import, revocation", next(self.ports)
        overrides = {"keys.ca": "pkcs11:object=ca", "keys.ocsp": "pkcs11:object=ocsp", "publish.listen": f"127.0.0.1:{port}",
                     "pkcs.profile": "user", "pkcs.key-pool": "0", "revocation.poll-interval": f"{2 + self.options.instances // 10}s",
                     "service.max-attempts": "100", "service.poll-wait": "20s"}
        if self.postgres:
            overrides["connector.state"] = self.database
        else:
            overrides["revocation.issuer-name"] = issuer_name(authority)
        serves = index < SCEP_INSTANCES
        if serves:
            features += ", scep"
            overrides.update({"keys.scep-ra-sign": "pkcs11:object=scep-ra-sign", "keys.scep-ra-encrypt": "pkcs11:object=scep-ra-encrypt",
                              "scep.listen": f"127.0.0.1:{next(self.ports)}", "scep.ca": authority, "scep.profile": "device"})
        overrides["connector.features"] = features
        text = f'\n[ca "{authority}"]\nkind = local\ncrl-urls = http://127.0.0.1:{port}/{authority}.crl\n{PROFILES}'
        instance = Instance(self, index, index % DISK_EVERY == 1, index % CLOCK_EVERY == 2, authority,
                            extra=text, overrides=overrides)
        instance.publisher = port
        if serves:
            instance.port = int(overrides["scep.listen"].rsplit(":", 1)[1])
        return instance

    def make_authorities(self):
        def init(instance):
            instance.cli("ca", "init", "--subject", issuer_name(instance.authority))
        first = {instance.authority: instance for instance in reversed(self.instances)}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(init, first.values()))

    def start(self):
        begin = time.monotonic()
        for instance in self.instances:
            instance.start(wait=False)
        waiting = list(self.instances)

        def all_ready():
            for instance in waiting:
                assert instance.process.running(), f"{instance.name}: {instance.process.output()[-2000:]}"
            waiting[:] = [instance for instance in waiting if not instance.is_ready()]
            return not waiting
        wait_until(all_ready, "all instances are ready", 120)
        self.start_s = time.monotonic() - begin

    def servers(self):
        return [instance for instance in self.instances if instance.port]

    def admin(self, method, path, body=None):
        """rig.Service.admin() for many threads."""
        if not hasattr(self.http, "session"):
            self.http.session = requests.Session()
            self.http.session.verify, self.http.session.trust_env = str(self.service.ca_file), False
        answer = self.http.session.request(method, f"{self.service.url}/admin/api/{path}", json=body, headers=self.service.admin_header,
                                           timeout=60)
        assert answer.status_code in (200, 201, 202, 204), f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def pages(self, path):
        while path:
            page = self.admin("GET", path)
            yield from page["value"]
            path = page.get("@odata.nextLink", "").partition("/admin/api/")[2]

    def memory(self):
        return [pss_mib([instance.process.pid, *instance.children()]) for instance in self.instances]

    def close(self):
        for instance in self.instances:
            if instance.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(instance.process.pid, signal.SIGCONT)
                instance.process.kill()
        for instance in self.instances:
            instance.unmount()
        if self.postgres:
            self.postgres.close()
        if self.options.keep:
            self.service.process.kill()
        else:
            self.rig.close()


def issuer_name(authority):
    return f"CN=Chaos {authority},O=Contoso,C=DE"
