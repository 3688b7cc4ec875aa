"""A real kubectl and an API server that fails it: one clear line each, nothing half-done that the next run does not end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.node import create_node
from lab.commands import gpunode

KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--cache-dir=/run/test-kubectl")
FAULTS = "/var/lib/lab-apiserver/faults.json"
APPLY = ("apply", "--step", "device_plugin", "--yes")
ROLLBACK = ("rollback", "--step", "device_plugin", "--yes")
OBJECTS = "daemonsets,configmaps,runtimeclasses"
ANSWERED = (14, 29)
"""How many requests of kubectl's are answered before the server is gone."""
INTERNAL = {"code": 500, "reason": "InternalError", "message": "etcdserver: no leader"}
WEBHOOK = 'admission webhook "policy.example.com" denied the request: no changes on Fridays'
CASES = {
    "500": ({"of": "kubectl.* PATCH .*daemonsets", **INTERNAL}, "etcdserver: no leader", "the API server's own log"),
    "403": (
        {
            "of": "kubectl.* PATCH .*runtimeclasses",
            "code": 403,
            "reason": "Forbidden",
            "message": 'runtimeclasses.node.k8s.io "nvidia" is forbidden: User "system:node:gpu-1" cannot patch it',
        },
        "is forbidden",
        "give it the rights",
    ),
    "webhook": (
        {"of": "kubectl.* PATCH .*daemonsets", "code": 403, "reason": "Forbidden", "message": WEBHOOK},
        "no changes on Fridays",
        "those who run the webhook",
    ),
    "409": (
        {
            "of": "kubectl.* PATCH .*daemonsets",
            "code": 409,
            "reason": "Conflict",
            "message": "Operation cannot be fulfilled on daemonsets.apps: the object has been modified",
        },
        "the object has been modified",
        "run it again",
    ),
}


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("api-faults") as host:
        host.boot()
        host.run("gpunode", "init")
        gpunode(host, "apply", "--yes", "--skip", "device_plugin", "--skip", "verify")
        yield host


def fail(host: LabHost, *faults: dict[str, Any]) -> None:
    """Have the API server do this wrong from now on."""
    host.write(FAULTS, json.dumps(faults))


def ours(host: LabHost) -> str:
    """The cluster's objects that are gpunode's, and the node's label."""
    names = host.run(*KUBECTL, "get", "-A", "-o", "name", OBJECTS).stdout
    labels = host.run(*KUBECTL, "get", "node", host.name, "--show-labels").stdout
    return "".join(line for line in names.splitlines(keepends=True) if "nvidia" in line) + str("nvidia.com" in labels)


def attempt(host: LabHost, *words: str) -> dict[str, Any]:
    """A command with the faults in force, and what it said; the API server works again."""
    done = host.run("gpunode", *words, "--output", "json", check=False, timeout=300)
    host.run("rm", FAULTS)
    document: dict[str, Any] = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    assert "\n" not in document["error"]
    assert (done.returncode == 0) == (document["error"] == "")
    return document


def require_undone(host: LabHost) -> None:
    gpunode(host, *ROLLBACK)
    assert ours(host) == "False"


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_is_one_line_with_what_to_do(host: LabHost, name: str) -> None:
    fault, words, hint = CASES[name]
    fail(host, fault)
    document = attempt(host, *APPLY)
    assert words in document["error"]
    assert hint in document["hint"]
    gpunode(host, *APPLY)
    require_undone(host)


def test_too_many_requests_are_asked_again_when_the_server_said(host: LabHost) -> None:
    fail(host, {"of": "kubectl.* PATCH ", "times": 1, "code": 429, "reason": "TooManyRequests", "retry_after": 1})
    assert attempt(host, *APPLY)["result"] == "changed"
    require_undone(host)


@pytest.mark.parametrize("answered", ANSWERED)
def test_an_apply_that_is_left_alone_is_undone_or_finished(host: LabHost, answered: int) -> None:
    fail(host, {"of": "^kubectl", "skip": answered})
    assert attempt(host, *APPLY)["error"]
    if answered % 2:
        gpunode(host, *APPLY)
        gpunode(host, "check", "--step", "device_plugin")
    require_undone(host)


def test_a_rollback_that_is_left_alone_is_finished_by_the_next(host: LabHost) -> None:
    gpunode(host, *APPLY)
    for answered in (0, 1):
        fail(host, {"of": "^kubectl.* DELETE", "skip": answered})
        document = attempt(host, *ROLLBACK)
        assert "Unable to connect" in document["error"]
        assert "is the API server up?" in document["hint"]
    require_undone(host)


def test_a_slow_answer_is_waited_for_no_longer_than_the_profile_says(host: LabHost) -> None:
    profile = host.read("/etc/gpunode/profile.toml")
    host.write("/etc/gpunode/profile.toml", profile.replace("[kubernetes]\n", "[kubernetes]\ntimeout = 2\n"))
    fail(host, {"of": "kubectl.* PATCH .*daemonsets", "delay": 20})
    began = time.monotonic()
    document = attempt(host, *APPLY)
    assert time.monotonic() - began < 30
    assert "kubernetes.timeout" in document["hint"]
    require_undone(host)
