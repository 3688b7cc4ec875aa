"""The timer on a real systemd: it verifies, is hardened, fires, writes its metrics, and is taken back; doctor of a host's tree."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families

from gpunode.engine.doctor import doctor_of_tree
from gpunode.engine.situation import Situation
from gpunode.engine.timer import SERVICE, TIMER
from gpunode.host.tree import TreeMachine
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from gpunode.profile import HostProfile
from gpunode.steps import ORDER
from lab.commands import gpunode

METRICS = "/var/lib/prometheus/node-exporter/gpunode.prom"
PROFILE = '[driver]\nbranch = "580"\n'
SECRET = "s3cr3tV4lue"  # noqa: S105 - it is nobody's
OWN = "/etc/modprobe.d/own.conf"
MOST_EXPOSED = 3.0
"""systemd-analyze's measure from 0 to 10; a service without any hardening has 9.6."""


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("dr-timer", cluster=False) as node:
        node.write("/etc/gpunode/profile.toml", PROFILE)
        node.write(OWN, f"# password = {SECRET}\n")
        node.boot()
        node.run("mkdir", "-p", METRICS.rpartition("/")[0])
        yield node


def wait_for_metrics(host: LabHost) -> str:
    """The file's text, once the timer has fired."""
    for _ in range(120):
        done = host.run("cat", METRICS, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(0.5)
    raise AssertionError(host.journal(SERVICE))


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (each.name, next(iter(each.labels.values()), "")): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def test_the_timer_fires_writes_its_metrics_and_is_taken_back(host: LabHost) -> None:
    before = Snapshot.take(host)
    by_hand = gpunode(host, "check", exits=3)
    assert gpunode(host, "timer", "enable", "--every", "10s")["result"] == "changed"
    host.run("systemd-analyze", "verify", SERVICE, TIMER)
    exposed = host.run("systemd-analyze", "security", SERVICE, "--no-pager").stdout.splitlines()[-1]
    assert float(exposed.split(":")[1].split()[0]) < MOST_EXPOSED, exposed

    told = samples(wait_for_metrics(host))
    assert told["gpunode_check_success", ""] == 1
    drift = {step["name"]: len({each["resource"] for each in step["differences"]}) for step in by_hand["steps"]}
    wanted = {name: drift[name] for name in drift if ("gpunode_drift", name) in told}
    assert {name: told["gpunode_drift", name] for name in wanted} == wanted
    assert any(wanted.values())
    findings = {each["id"] for step in by_hand["steps"] for each in step["findings"]}
    assert {label for name, label in told if name == "gpunode_finding"} == findings
    assert host.run("stat", "--format=%a", METRICS).stdout.strip() == "644"

    first = told["gpunode_check_last_success_timestamp_seconds", ""]
    deadline = time.monotonic() + 60
    while samples(wait_for_metrics(host))["gpunode_check_last_success_timestamp_seconds", ""] == first:
        assert time.monotonic() < deadline, host.journal(SERVICE)
        time.sleep(0.5)
    status = gpunode(host, "timer", "status")
    assert (status["enabled"], status["active"], status["result"], status["metrics"]) == (
        True,
        True,
        "success",
        METRICS,
    )

    undone = gpunode(host, "timer", "disable")
    assert undone["result"] == "undone"
    assert METRICS in undone["left"][0]
    assert host.run("systemctl", "cat", TIMER, check=False).returncode != 0
    host.run("rm", METRICS)
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)
    assert gpunode(host, "timer", "disable")["result"] == "in-sync"


class Hook:
    """An https server with a CA of its own, which keeps what is posted to it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == f"/hooks/{SECRET}"
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.certificate, key = certificate()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self.certificate + key)
            file.flush()
            context.load_cert_chain(file.name)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"https://127.0.0.1:{self.server.server_address[1]}/hooks/{SECRET}"

    def wait_for(self, number: int, host: LabHost) -> None:
        deadline = time.monotonic() + 60
        while len(self.bodies) < number:
            assert time.monotonic() < deadline, host.journal(SERVICE)
            time.sleep(0.2)


def certificate() -> tuple[bytes, bytes]:
    """One for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return signed.public_bytes(pem), key.private_bytes(pem, form, plain)


def test_the_webhook_is_called_on_change_and_a_rollback_takes_the_timer_back(host: LabHost) -> None:
    hook = Hook()
    network = '[network]\nca_bundle = "/etc/gpunode/ca.pem"\n'
    host.write("/etc/gpunode/ca.pem", hook.certificate.decode())
    host.write("/etc/gpunode/webhook", hook.address)
    host.run("chmod", "600", "/etc/gpunode/webhook")
    host.write("/etc/gpunode/profile.toml", f"{PROFILE}{network}")
    gpunode(host, "timer", "enable", "--every", "3s", "--webhook-file", "/etc/gpunode/webhook")
    hook.wait_for(1, host)
    assert any(each.startswith("driver: ") for each in hook.bodies[0]["new"])
    seen = checks(host)
    while checks(host) < seen + 2:
        time.sleep(0.5)
    assert len(hook.bodies) == 1
    host.write("/etc/gpunode/profile.toml", f"{PROFILE}blacklist_nouveau = false\n{network}")
    hook.wait_for(2, host)
    assert hook.bodies[1]["gone"] == ["driver: file:/etc/modprobe.d/gpunode-nouveau.conf"]
    assert SECRET not in host.journal(SERVICE) + json.dumps(hook.bodies)
    assert SECRET not in host.run("systemctl", "cat", SERVICE).stdout
    host.write("/etc/gpunode/profile.toml", PROFILE)
    assert gpunode(host, "rollback", "--yes")["result"] == "undone"
    assert host.run("systemctl", "cat", TIMER, check=False).returncode != 0


def checks(host: LabHost) -> int:
    """How often the service has run."""
    return host.journal(SERVICE).count("Finished ")


def test_the_support_archive_of_a_host_holds_no_secret(host: LabHost) -> None:
    document = gpunode(host, "doctor", "--bundle", "/root/support.tar.gz", exits=3)
    assert host.run("stat", "--format=%a", "/root/support.tar.gz").stdout.strip() == "600"
    names = {each["name"]: each["removed"] for each in document["archive"]["files"]}
    assert names[f"files{OWN}"] == 1
    assert {"report.json", "commands/dpkg-query.txt", "commands/kernel-log.txt", "files/etc/os-release"} <= set(names)
    text = host.shell("tar --extract --gzip --to-stdout --file /root/support.tar.gz")
    assert "password = [removed]" in str(text)
    assert SECRET not in str(text)


def test_a_host_s_files_are_looked_at_from_outside(host: LabHost) -> None:
    machine = TreeMachine(str(host.root))
    seen = doctor_of_tree(Situation(machine, HostProfile(), ORDER, "0"), machine.unseen())
    inside = gpunode(host, "doctor", exits=3)
    findings = {each["id"] for step in inside["steps"] for each in step["findings"]}
    shown = {each.id for step in seen.steps for each in step.findings}
    assert shown <= findings
    assert findings <= shown | set(seen.unjudged)
    assert machine.os_release()["version_id"] == "13"
