# SPDX-License-Identifier: MIT
"""A connector whose only way to the service is a proxy that wants a name and a password. Only squid knows the service's name,
so that nothing gets there past it."""

import http.server
import os
import signal
import threading

import pytest
import requests

from rig import Rig, wait_until
from scep_message import SUCCESS, Message, Server, make_csr, new_key, self_signed
from scep_rig import connector_with_scep
from squid import NAME, PASSWORD, Squid
from test_scep import Hook, x509_chain
from under_load import Load, World

HOST, HOOK_HOST = "service.test", "hook.test"
OUTAGE_S = float(os.environ.get("PROXY_OUTAGE_S", "3"))
SERVICE_UNREACHABLE, SERVICE_RECOVERED = 30, 31


def addresses(url):
    return {f"service.{key}": url + "/" for key in ("authority", "graph", "resource")}


class Proxied(World):
    def __init__(self, rig):
        # What was on its way to the connector when a call was cut is given out again when its lease ends.
        service = rig.service("--lease-seconds", "10", hosts=("localhost", HOST))
        self.password = rig.folder / "proxy.password"
        rig.private_file(self.password, PASSWORD.encode())
        self.squid = Squid(rig, [HOST, HOOK_HOST])
        self.url = f"https://{HOST}:{service.port}"
        super().__init__(rig, service, overrides={
            **addresses(self.url), "service.proxy": self.squid.url, "service.proxy-user": NAME,
            "service.proxy-password": f"file:{self.password}"})
        self.pid = self.connector.process.pid

    def last_error(self):
        return self.connector.status()["service"].get("lastError", "")


@pytest.fixture(scope="module")
def world():
    rig = Rig()
    try:
        yield Proxied(rig)
    finally:
        rig.close()


def events(world, event_id):
    return world.connector.events("--id", str(event_id))


def test_the_proxy_goes_and_comes_back(world):
    """Stopped under load, and started again a while later."""
    with Load(world) as load:
        world.squid.stop()
        world.wait_contact("lost")
        load.last(OUTAGE_S)
        world.squid.start()
        world.wait_contact("ok")
        load.more()
    load.check_books()
    [lost], [_] = events(world, SERVICE_UNREACHABLE), events(world, SERVICE_RECOVERED)
    assert HOST in lost["message"]
    assert world.connector.status()["pid"] == world.pid


def test_a_password_that_is_wrong(world):
    """It says so; a file that is corrected is read without being told."""
    with Load(world) as load:
        world.rig.private_file(world.password, b"not-the-password")
        world.reload()
        world.wait_contact("lost")
        wait_until(lambda: "refuses the user name and password: correct proxy-user" in world.last_error(), "it says why")
        assert world.squid.url in world.last_error()
        assert any("refuses the user name and password" in event["message"] for event in events(world, SERVICE_UNREACHABLE))
        world.rig.private_file(world.password, PASSWORD.encode())
        world.wait_contact("ok")
        load.more()
    load.check_books()


def test_no_name_for_the_proxy(world):
    world.reload("50-proxy.conf", f"[service]\nproxy = {world.squid.url}\nproxy-user = nobody\n")
    world.wait_contact("lost")
    wait_until(lambda: "refuses the user name and password" in world.last_error(), "it says why")
    (world.dropins / "50-proxy.conf").unlink()
    world.reload()
    world.wait_contact("ok")


def test_a_proxy_over_tls(world):
    """What goes to the proxy is as secret as what goes to the service."""
    tls = Squid(world.rig, [HOST], tls=(world.service.ca_file, world.service.folder / "tls.key"))
    world.reload("50-proxy.conf", f"[service]\nproxy = {tls.url}\n")
    world.work_once()
    world.squid.stop()
    world.work_once()
    assert world.connector.status()["service"]["contact"] == "ok"
    world.squid.start()
    (world.dropins / "50-proxy.conf").unlink()
    world.reload()
    world.work_once()
    tls.stop()
    assert (NAME, f"{HOST}:{world.service.port}", "TCP_TUNNEL/200") in tls.tunnels()


def test_the_hook_of_challenges(world):
    """It is asked through the proxy, too, until that is taken back: by SIGHUP, and without a restart of the daemon."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scep = connector_with_scep(world.rig, world.service, world.token, name="hooked", features="scep", init=True, overrides={
        "scep.challenge": "hook", "scep.challenge-secret": None, "service.allow-http": "yes", "service.no-proxy": "localhost",
        "scep.challenge-url": f"http://{HOOK_HOST}:{server.server_port}/", "service.proxy": world.squid.url, "service.proxy-user": NAME,
        "service.proxy-password": f"file:{world.password}"})
    client = Server(scep.url, requests.Session(), x509_chain(scep)[:-1])
    key = new_key()

    def enrol(transaction):
        return Message(client, key, self_signed(key), make_csr(key, "O=Contoso, CN=dev1", "once"), transaction=transaction).send()

    def ended(transaction):
        try:
            return enrol(transaction).status_code
        except requests.ConnectionError:
            return 0  # the SCEP server is started anew
    try:
        reply = enrol("good one")
        assert reply.status_code == 200 and reply.status == SUCCESS
        pid = scep.connector.status()["pid"]
        scep.connector.write_config(scep.connector.extra, {**scep.connector.overrides, "service.proxy": "none"})
        os.kill(pid, signal.SIGHUP)
        # Nobody but squid knows where the hook is.
        wait_until(lambda: scep.status() and ended(f"good {os.urandom(4).hex()}") == 503, "the hook is not asked through the proxy")
        assert scep.connector.status()["pid"] == pid
    finally:
        scep.connector.process.stop()
        server.shutdown()
        server.server_close()


def test_the_proxy_is_taken_back(world):
    """By one more file and SIGHUP, under load; then squid is not missed."""
    with Load(world) as load:
        direct = "".join(f"{key.split('.')[1]} = {value}\n" for key, value in addresses(world.service.url).items())
        world.reload("90-direct.conf", f"[service]\nproxy = none\n{direct}")
        wait_until(lambda: any("[service] proxy: was" in event["message"] for event in events(world, 12)), "it was read")
        load.more()
        world.squid.stop()
        load.more()
    load.check_books()
    assert world.contact() == "ok"
    assert world.connector.status()["pid"] == world.pid


def test_what_the_proxy_has_seen(world):
    """All there was to see: no name but ours, no host but the service, and no password anywhere."""
    if world.squid.process:
        world.squid.stop()
    tunnels = world.squid.tunnels()
    good = [tunnel for tunnel in tunnels if tunnel[2] == "TCP_TUNNEL/200"]
    assert good and set(good) == {(NAME, f"{HOST}:{world.service.port}", "TCP_TUNNEL/200")}
    assert {word for _, _, word in tunnels} <= {"TCP_TUNNEL/200", "TCP_DENIED/407"}
    for file in (*world.connector.log.rglob("*"), world.connector.process.log):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes()
    with open(f"/proc/{world.pid}/cmdline", "rb") as line, open(f"/proc/{world.pid}/environ", "rb") as environment:
        assert PASSWORD.encode() not in line.read() + environment.read()
