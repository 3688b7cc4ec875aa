"""The API server stand-in, in process, driven by the real kubectl."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpunode.lab.kubernetes import pki
from gpunode.lab.kubernetes.apiserver import ApiServer, Tls
from gpunode.lab.kubernetes.field_sets import decode, encode, leaves
from gpunode.lab.kubernetes.kinds import CONFIG_MAPS
from gpunode.lab.kubernetes.kubeconfig import kubeconfig
from gpunode.lab.kubernetes.patches import json_patch, merge_patch, strategic_patch
from gpunode.lab.kubernetes.selectors import fields_match, labels_match
from gpunode.lab.kubernetes.store import Store

pytestmark = pytest.mark.slow

KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl in PATH")

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "kube-system"},
    "data": {"a": "1", "b": "2"},
}
DAEMON_SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "plugin", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"name": "plugin"}},
        "template": {
            "metadata": {"labels": {"name": "plugin"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "example.test/plugin:1",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                    }
                ]
            },
        },
    },
}


class Cluster:
    """A server in this process and a kubectl that speaks to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = pki.write(folder, "127.0.0.1")
        self.store = Store(folder / "objects.json")
        tls = Tls(folder / "apiserver.crt", folder / "apiserver.key", folder / "ca.crt")
        self.server = ApiServer(
            ("127.0.0.1", 0), self.store, tls, frozenset({"admin-token"}), folder / "logs", folder / "faults.json"
        )
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        admin = pki.client(authority, "kubernetes-admin", "system:masters")
        document = kubeconfig(self.url, authority, "kubernetes-admin", admin)
        (folder / "admin.conf").write_text(json.dumps(document))
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.request("POST", "/api/v1/namespaces", NAMESPACE)

    def kubectl(
        self, *arguments: str, stdin: Any = None, check: bool = True, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        command = [KUBECTL or "kubectl", f"--kubeconfig={self.folder / 'admin.conf'}", *arguments]
        command.append(f"--cache-dir={self.folder / 'cache'}")
        text = None if stdin is None else json.dumps(stdin)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == code, (done.stdout, done.stderr)
        return done

    def apply(self, body: Any, *more: str, manager: str = "gpunode", check: bool = True) -> str:
        arguments = ["apply", "--server-side", f"--field-manager={manager}", "-f", "-", *more]
        done = self.kubectl(*arguments, stdin=body, check=check)
        return done.stdout + done.stderr

    def answer(self, method: str, path: str, body: Any = None, credential: str = "admin-token") -> httpx.Response:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        headers = {"Authorization": f"Bearer {credential}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, verify=context)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.answer(method, path, body)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.server.shutdown()
    cluster.server.server_close()


def test_without_credentials_the_answer_is_401(cluster: Cluster) -> None:
    answer = cluster.answer("GET", "/api/v1/nodes", credential="wrong")
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


@needs_kubectl
def test_a_second_apply_changes_nothing(cluster: Cluster) -> None:
    assert "daemonset.apps/plugin serverside-applied" in cluster.apply(DAEMON_SET)
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets/plugin"
    first = cluster.request("GET", path)
    cluster.apply(DAEMON_SET)
    assert cluster.request("GET", path) == first
    assert first["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert first["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    owned = decode(first["metadata"]["managedFields"][0]["fieldsV1"])
    assert not any("f:updateStrategy" in field for field in owned)


@needs_kubectl
def test_a_conflict_names_the_other_manager_and_force_takes_over(cluster: Cluster) -> None:
    cluster.apply(CONFIG)
    changed = {**CONFIG, "data": {"a": "3", "b": "2"}}
    refusal = cluster.apply(changed, manager="somebody", check=False)
    assert 'Apply failed with 1 conflict: conflict with "gpunode" using v1: .data.a' in refusal
    assert "serverside-applied" in cluster.apply(changed, "--force-conflicts", manager="somebody")
    owners = {
        entry["manager"]: entry["fieldsV1"]["f:data"]
        for entry in cluster.request("GET", "/api/v1/namespaces/kube-system/configmaps/settings")["metadata"][
            "managedFields"
        ]
    }
    assert owners == {"gpunode": {"f:b": {}}, "somebody": {"f:a": {}, "f:b": {}}}


@needs_kubectl
def test_a_dry_run_and_a_diff_change_nothing(cluster: Cluster) -> None:
    cluster.apply(CONFIG)
    before, changed = cluster.store.version, {**CONFIG, "data": {"a": "3", "b": "2"}}
    assert "serverside-applied (server dry run)" in cluster.apply(changed, "--dry-run=server")
    difference = cluster.kubectl(
        "diff", "--server-side", "--field-manager=gpunode", "-f", "-", stdin=changed, code=1
    ).stdout
    assert '-  a: "1"' in difference
    assert '+  a: "3"' in difference
    assert cluster.kubectl("diff", "--server-side", "--field-manager=gpunode", "-f", "-", stdin=CONFIG).stdout == ""
    assert cluster.store.version == before


@needs_kubectl
def test_a_dropped_field_goes_and_a_field_with_another_owner_stays(cluster: Cluster) -> None:
    cluster.apply(DAEMON_SET)
    cluster.kubectl("-n", "kube-system", "label", "daemonset", "plugin", "team=a")
    fewer = json.loads(json.dumps(DAEMON_SET))
    del fewer["spec"]["template"]["spec"]["containers"][0]["env"][0]
    cluster.apply(fewer)
    body = cluster.request("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/plugin")
    assert body["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]
    assert body["metadata"]["labels"] == {"team": "a"}
    assert body["metadata"]["generation"] == 2


@needs_kubectl
def test_delete_waits_until_the_object_is_gone(cluster: Cluster) -> None:
    cluster.apply(CONFIG)
    assert 'configmap "settings" deleted' in cluster.kubectl("-n", "kube-system", "delete", "cm", "settings").stdout
    gone = cluster.kubectl("-n", "kube-system", "get", "cm", "settings", code=1)
    assert gone.stderr == 'Error from server (NotFound): configmaps "settings" not found\n'


@needs_kubectl
def test_objects_survive_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    cluster.apply(CONFIG)
    again = Store(tmp_path / "objects.json")
    assert [body["data"] for body in again.list(CONFIG_MAPS)] == [CONFIG["data"]]
    assert again.version > cluster.store.version


@needs_kubectl
def test_an_eviction_is_refused_by_a_budget_and_else_deletes_with_grace(cluster: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "kube-system", "labels": {"a": "b"}},
    }
    pod |= {
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7, "containers": [{"name": "c", "image": "i:1"}]}
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep", "namespace": "kube-system"},
    }
    budget |= {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}
    cluster.request("POST", "/api/v1/namespaces/kube-system/pods", pod)
    path = "/api/v1/namespaces/kube-system/pods/p"
    cluster.request("PUT", f"{path}/status", {**cluster.request("GET", path), "status": {"phase": "Running"}})
    cluster.apply(budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "kube-system"}}
    words = ("create", f"--raw={path}/eviction", "--filename=-")
    refused = cluster.kubectl(*words, stdin=eviction, code=1)
    assert "Error from server (TooManyRequests): Cannot evict pod as it would violate" in refused.stderr
    cluster.kubectl("-n", "kube-system", "delete", "pdb", "keep")
    other = {**eviction, "deleteOptions": {"preconditions": {"uid": "of-another"}}}
    assert "(Conflict)" in cluster.kubectl(*words, stdin=other, code=1).stderr
    cluster.kubectl(*words, stdin=eviction)
    assert cluster.request("GET", path)["metadata"]["deletionGracePeriodSeconds"] == 7


@needs_kubectl
def test_refusals_are_the_servers_own(cluster: Cluster) -> None:
    missing = cluster.apply({**CONFIG, "metadata": {"name": "x", "namespace": "nowhere"}}, check=False)
    assert 'namespaces "nowhere" not found' in missing
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "a"}
    cluster.apply(runtime)
    assert "handler: Invalid value" in cluster.apply({**runtime, "handler": "b"}, check=False)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "kube-system"}}
    pod |= {"spec": {"runtimeClassName": "none", "containers": [{"name": "c", "image": "i:1"}]}}
    assert 'pod rejected: RuntimeClass "none" not found' in cluster.apply(pod, check=False)


@needs_kubectl
def test_watching_kubectl_sees_a_condition_come(cluster: Cluster) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    cluster.request("POST", "/api/v1/nodes", node)
    waiting = threading.Timer(0.5, _make_ready, (cluster,))
    waiting.start()
    assert "node/n condition met" in cluster.kubectl("wait", "--for=condition=Ready", "node/n", "--timeout=10s").stdout
    assert cluster.kubectl("get", "nodes").stdout.splitlines()[1].split()[:2] == ["n", "Ready"]
    described = cluster.kubectl("describe", "node", "n").stdout
    assert "nvidia.com/gpu:  1" in described


def _make_ready(cluster: Cluster) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"nvidia.com/gpu": 1}}
    node = cluster.request("GET", "/api/v1/nodes/n")
    cluster.request("PUT", "/api/v1/nodes/n/status", node | {"status": status})


@needs_kubectl
def test_rollout_status_follows_the_daemon_set(cluster: Cluster) -> None:
    cluster.apply(DAEMON_SET)
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets/plugin"
    status = {"observedGeneration": 1, "updatedNumberScheduled": 1, "numberAvailable": 1, "desiredNumberScheduled": 1}
    rollout = ("-n", "kube-system", "rollout", "status", "daemonset/plugin", "--timeout=1s")
    assert "timed out" in cluster.kubectl(*rollout, code=1).stderr
    cluster.request("PUT", path + "/status", cluster.request("GET", path) | {"status": status})
    assert 'daemon set "plugin" successfully rolled out' in cluster.kubectl(*rollout).stdout


@needs_kubectl
def test_logs_come_from_the_containers_file(cluster: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod |= {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    uid = cluster.request("POST", "/api/v1/namespaces/kube-system/pods", pod)["metadata"]["uid"]
    logs = ("-n", "kube-system", "logs", "p")
    assert "waiting to start: ContainerCreating" in cluster.kubectl(*logs, code=1).stderr
    (cluster.folder / "logs" / uid).mkdir(parents=True)
    (cluster.folder / "logs" / uid / "c-0.log").write_text("one\ntwo\n")
    assert cluster.kubectl(*logs).stdout == "one\ntwo\n"
    assert cluster.kubectl(*logs, "--tail=1").stdout == "two\n"


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_deleting_a_daemon_set_deletes_its_pods(cluster: Cluster, policy: str) -> None:
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    owner = cluster.request("POST", path, DAEMON_SET)["metadata"]
    reference = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "plugin", "uid": owner["uid"]}
    metadata = {"generateName": "plugin-", "ownerReferences": [reference]}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    pods = "/api/v1/namespaces/kube-system/pods"
    assert cluster.request("POST", pods, pod)["metadata"]["name"].startswith("plugin-")
    cluster.request("DELETE", f"{path}/plugin", {"propagationPolicy": policy})
    assert cluster.request("GET", pods)["items"] == []
    assert cluster.request("GET", path)["items"] == []


def test_field_sets_survive_their_written_form() -> None:
    paths = frozenset(leaves(DAEMON_SET))
    assert decode(encode(paths)) == paths
    assert encode(paths)["f:spec"]["f:selector"] == {}


def test_patches() -> None:
    body = {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "x": 1}
    patch = {"containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}], "x": None}
    assert strategic_patch(body, patch) == {"containers": [{"name": "a", "image": "2"}]}
    assert merge_patch(body, {"containers": [], "x": None}) == {"containers": []}
    operations: list[dict[str, Any]] = [
        {"op": "replace", "path": "/x", "value": 2},
        {"op": "remove", "path": "/containers/0"},
    ]
    assert json_patch(body, operations) == {"containers": [{"name": "b"}], "x": 2}


def test_selectors() -> None:
    labels = {"a": "1", "b": "2"}
    assert labels_match("a=1,b in (2, 3),!c,a!=2", labels)
    assert not labels_match("a notin (1)", labels)
    assert fields_match("spec.nodeName=n,status.phase!=Failed", {"spec": {"nodeName": "n"}})
    assert not fields_match("metadata.name=x", {"metadata": {"name": "y"}})
