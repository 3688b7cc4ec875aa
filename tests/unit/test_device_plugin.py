"""The device plugin's step against a cluster: labels, objects that the profile drops, other managers, and MIG on this host's GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from gpunode.catalog import load as load_catalog
from gpunode.errors import CommandError, HostError
from gpunode.host import facts as host_facts
from gpunode.host.accounts import login_home
from gpunode.host.facts import Gpu
from gpunode.host.kubectl import error
from gpunode.host.machine import Output
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.lab.kubernetes.kinds import DAEMON_SETS
from gpunode.profile import load
from gpunode.resources.base import Local, Resource
from gpunode.resources.cluster import LabelState, NodeLabels
from gpunode.resources.plugin_owner import UnlessOthers
from gpunode.steps import decisions_cluster, device_plugin
from gpunode.steps.base import Context
from memory import MemoryMachine, gpu_host
from memory.command import Answer, Call
from memory.door import apply, open_door, roll_back
from memory.kubectl import SOCKET, kubectl

T4, A100_40, H100, GB300 = 0x1EB8, 0x20B0, 0x2330, 0x31C2
SLICES = '[device_plugin.sharing]\nstrategy = "time-slicing"\nreplicas."nvidia.com/gpu" = 4\n'
CONFIGS = '[device_plugin]\nconfig = "a"\n[device_plugin.configs.a]\nstrategy = "mps"\nreplicas."nvidia.com/gpu" = 2\n'


def context(machine: MemoryMachine, profile: str = "", *gpus: int) -> Context:
    catalog = load_catalog()
    found = host_facts.gather(Reader(machine), catalog)
    cards = tuple(Gpu(f"0000:0{number}:00.0", device) for number, device in enumerate(gpus)) or found.gpus
    return Context(load(profile.encode(), "p").profile, replace(found, gpus=cards), catalog)


def make_so(machine: MemoryMachine, profile: str) -> list[str]:
    """Converge what differs; returns the fields that did, as `resource: field`."""
    told: list[str] = []

    def act(host: Writer) -> None:
        for resource in device_plugin.resources(context(machine, profile)):
            told.extend(_converge(resource, host))

    apply(machine, act)
    return told


def _converge(resource: Resource, host: Writer) -> list[str]:
    state = resource.observe(host)
    differences = resource.differences(state)
    if differences:
        resource.converge(host, state)
    assert not resource.differences(resource.observe(host))
    return [f"{resource.id}: {each.field}" for each in differences]


def objects(machine: MemoryMachine) -> set[str]:
    assert machine.cluster
    return {name for kind, _, name in machine.cluster.addresses() if not kind.startswith(("namespaces", "nodes"))}


def labels(machine: MemoryMachine) -> Any:
    assert machine.cluster
    node = machine.cluster.find("node", "gpu-1")
    assert node
    return node["metadata"].get("labels", {})


def test_the_node_is_labelled_and_the_label_goes_with_a_rollback() -> None:
    machine = gpu_host()
    assert make_so(machine, "")
    assert labels(machine) == {"nvidia.com/gpu.present": "true"}
    assert make_so(machine, "") == []
    roll_back(machine)
    assert labels(machine) == {}
    assert machine.cluster
    assert machine.cluster.find("node", "gpu-1")


def test_a_node_that_is_not_in_the_cluster_is_not_made() -> None:
    machine = gpu_host()
    assert machine.cluster
    machine.cluster.drop("node", "gpu-1")
    with pytest.raises(CommandError, match="the cluster has no node gpu-1"):
        make_so(machine, "")
    assert machine.cluster.find("node", "gpu-1") is None


def test_what_the_profile_drops_goes_and_comes_back_with_a_rollback() -> None:
    machine = gpu_host()
    make_so(machine, CONFIGS)
    assert labels(machine)["nvidia.com/mps.capable"] == "true"
    full = objects(machine)
    assert {
        "nvidia-device-plugin-configs",
        "nvidia-device-plugin-role",
        "nvidia-device-plugin-mps-control-daemon",
    } <= full
    told = make_so(machine, "")
    assert "object:dropped: daemonset/nvidia-device-plugin-mps-control-daemon" in told
    assert objects(machine) == {"nvidia", "nvidia-device-plugin-daemonset"}
    assert labels(machine) == {"nvidia.com/gpu.present": "true"}
    roll_back(machine)
    assert objects(machine) == set()


def test_a_dropped_object_that_others_have_fields_of_keeps_those() -> None:
    machine = gpu_host()
    make_so(machine, SLICES)
    assert machine.cluster
    metadata = {"name": "nvidia-device-plugin-configs", "namespace": "kube-system"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"theirs": "1"}}
    machine.cluster.change(body, "helm")
    make_so(machine, "")
    found = machine.cluster.find("configmap", metadata["name"], "kube-system")
    assert found
    assert found["data"] == {"theirs": "1"}


def test_an_object_of_somebody_elses_with_the_same_name_is_left_alone() -> None:
    machine = gpu_host()
    assert machine.cluster
    metadata = {"name": "nvidia-device-plugin-configs", "namespace": "kube-system"}
    machine.cluster.change({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}, "helm")
    make_so(machine, "")
    assert machine.cluster.find("configmap", metadata["name"], "kube-system")


ONE = """\
error: Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.template.spec.priorityClassName
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
"""
TWO = """\
error: Apply failed with 2 conflicts: conflicts with "helm" using apps/v1:
- .spec.template.spec.containers[name="nvidia-device-plugin-ctr"].image
- .spec.template.spec.runtimeClassName
Please review the fields above--they currently have other managers. Here
"""


@pytest.mark.parametrize(
    ("text", "who", "fields"),
    [
        (ONE, "kubectl-edit manages 1 field that", (".spec.template.spec.priorityClassName",)),
        (
            TWO,
            "helm manages 2 fields that",
            (
                '.spec.template.spec.containers[name="nvidia-device-plugin-ctr"].image',
                ".spec.template.spec.runtimeClassName",
            ),
        ),
    ],
)
def test_a_conflict_is_told_with_the_other_managers_name(text: str, who: str, fields: tuple[str, ...]) -> None:
    told = error(Output(("kubectl",), 1, "", text))
    assert told.message.startswith(who)
    assert told.details == fields


def old_kubectl(machine: MemoryMachine, call: Call) -> Answer:
    """As 1.20: managed fields are always shown, and there is no option for them."""
    option = "--show-managed-fields"
    if option in call.words:
        return Answer(stderr=f"Error: unknown flag: {option}\nSee 'kubectl get --help' for usage.\n", status=1)
    return kubectl(machine, replace(call, words=(*call.words, option)))


def test_a_kubectl_of_debian_12_will_do() -> None:
    machine = gpu_host()
    machine.programs["kubectl"] = old_kubectl
    assert make_so(machine, "")
    assert make_so(machine, "") == []


def mixed(name: str) -> str:
    return f'[device_plugin.sharing]\nmig = "mixed"\nstrategy = "time-slicing"\nreplicas."nvidia.com/mig-{name}" = 2\n'


@pytest.mark.parametrize(
    ("profile", "gpus", "part"),
    [
        ('[device_plugin.sharing]\nmig = "single"\n', (T4,), "MIG cannot cut this host's Tesla T4"),
        (mixed("1g.20gb"), (A100_40,), "has no MIG profile 1g.20gb: it has 1g.10gb, 1g.5gb"),
        (mixed("1g.20gb"), (H100,), ""),
        (mixed("1g.20gb"), (A100_40, H100), ""),
        (mixed("1g.20gb"), (GB300,), ""),  # not in the catalogue: nothing is said of it
        (SLICES, (T4,), ""),
    ],
)
def test_mig_is_held_against_the_gpus_of_this_host(profile: str, gpus: tuple[int, ...], part: str) -> None:
    found = device_plugin.refusals(context(gpu_host(), profile, *gpus))
    assert len(found) == bool(part)
    assert part in "".join(found)


def test_labels_of_others_are_not_looked_at() -> None:
    resource = NodeLabels(decisions_cluster.access_of(context(gpu_host())), "gpu-1", {"a": "1"}, ())
    assert not resource.differences(LabelState({"a": "1", "b": "2"}, frozenset({"a"})))


def bring_in(machine: MemoryMachine, body: dict[str, Any], manager: str) -> None:
    assert machine.cluster
    name = body["metadata"]["namespace"]
    machine.cluster.change({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "admin")
    machine.cluster.change(body, manager)


def plugin_of(namespace: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "ctr", "image": "registry.example.com/nvidia/k8s-device-plugin:v0.19.0@sha256:00"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    named = {"name": "nvidia-device-plugin-daemonset", "namespace": namespace, **metadata}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": named, "spec": spec}


OPERATOR = {"ownerReferences": [{"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": "p", "uid": "1"}]}
HELM = {"annotations": {"meta.helm.sh/release-name": "nvdp"}}


@pytest.mark.parametrize(
    ("namespace", "metadata", "who"),
    [
        ("gpu-operator", OPERATOR, "the GPU Operator"),
        ("nvidia", HELM, "Helm (release nvdp)"),
        ("kube-system", {}, "kubectl"),
    ],
)
def test_a_plugin_of_another_manager_is_told_and_nothing_is_applied(
    namespace: str, metadata: dict[str, Any], who: str
) -> None:
    machine = gpu_host()
    assert machine.cluster
    bring_in(machine, plugin_of(namespace, **metadata), "kubectl")
    others = next(each for each in device_plugin.resources(context(machine)) if each.id == "plugin:others")
    told = others.remarks(others.observe(Reader(machine)))
    assert told[0].startswith(f"{who} manages the device plugin ({namespace}/nvidia-device-plugin-daemonset)")
    before = machine.cluster.addresses()
    ready_plugin(machine, namespace)
    assert make_so(machine, "") == []
    assert machine.cluster.addresses() == before
    assert labels(machine) == {}


def ready_plugin(machine: MemoryMachine, namespace: str, ready: int = 1) -> None:
    assert machine.cluster
    found = machine.cluster.find("daemonset", "nvidia-device-plugin-daemonset", namespace)
    assert found
    found["status"] = {"desiredNumberScheduled": 1, "numberReady": ready}
    with machine.cluster.lock:
        machine.cluster.put(machine.cluster.key(DAEMON_SETS, namespace, found["metadata"]["name"]), found)


def test_a_plugin_of_another_manager_that_is_not_ready_is_left_to_that_one() -> None:
    machine = gpu_host()
    assert machine.cluster
    bring_in(machine, plugin_of("gpu-operator", **OPERATOR), "gpu-operator")
    ready_plugin(machine, "gpu-operator", ready=0)
    with pytest.raises(HostError, match="the GPU Operator manages the device plugin"):
        make_so(machine, "")


def test_a_daemonset_with_another_image_is_nobodys_plugin() -> None:
    machine = gpu_host()
    assert machine.cluster
    body = plugin_of("monitoring")
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/dcgm-exporter:1"
    bring_in(machine, body, "kubectl")
    assert make_so(machine, "")


def test_a_daemonset_that_finds_no_node_to_run_on_wants_for_nothing() -> None:
    machine = gpu_host()
    bring_in(machine, plugin_of("gpu-operator", **OPERATOR), "gpu-operator")
    assert make_so(machine, "") == []  # the API server's own status of a new one: nothing desired, nothing ready


@pytest.mark.parametrize(
    "words",
    [
        {"command": ["gpu-feature-discovery"]},
        {"command": ["/usr/bin/mps-control-daemon", "mount-shm"]},
        {"command": ["bash", "-c"], "args": ["exec config-manager"]},
    ],
)
def test_a_container_of_the_plugins_image_that_runs_something_else_is_no_plugin(words: dict[str, list[str]]) -> None:
    machine = gpu_host()
    body = plugin_of("nvidia", **HELM)
    body["spec"]["template"]["spec"]["containers"][0].update(words)
    bring_in(machine, body, "helm")
    assert make_so(machine, "")


class Telling(Local):
    """A resource that has something to say of any state."""

    id = "telling"

    def remarks(self, _state: object) -> tuple[str, ...]:
        return ("so it is",)


def test_what_a_resource_says_is_heard_unless_others_have_a_plugin() -> None:
    inner: Any = Telling()
    wrapped = UnlessOthers(decisions_cluster.access_of(context(gpu_host())), inner)
    assert wrapped.remarks("seen") == ("so it is",)
    assert wrapped.remarks(None) == ()


STATIC = '[device_plugin]\nmode = "static-pod"\n'
MANIFEST = "/etc/kubernetes/manifests/nvidia-device-plugin.yaml"


def test_a_worker_without_access_has_its_kubelet_run_the_plugin() -> None:
    machine = gpu_host()
    machine.cluster = None
    machine.files.erase("/etc/kubernetes/admin.conf")
    machine.files.lay(SOCKET, "")  # the kubelet's part, done at once
    wanted = context(machine, STATIC + SLICES)
    assert device_plugin.skipped(wanted) == ""
    assert "the cluster needs the RuntimeClass nvidia" in device_plugin.notes(wanted)[0]
    make_so(machine, STATIC + SLICES)
    pod = yaml.safe_load(machine.files.text(MANIFEST))
    assert pod["kind"] == "Pod"
    assert "affinity" not in pod["spec"]
    volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "config")
    assert volume == {"name": "config", "hostPath": {"path": "/etc/gpunode/device-plugin", "type": "Directory"}}
    assert "replicas: 4" in machine.files.text("/etc/gpunode/device-plugin/config.yaml")
    roll_back(machine)
    assert not machine.files.exists(MANIFEST)


def test_a_static_pod_is_made_anew_when_only_its_configuration_changes() -> None:
    machine = gpu_host()
    machine.files.lay(SOCKET, "")
    make_so(machine, STATIC + SLICES)
    told = make_so(machine, STATIC + SLICES.replace("= 4", "= 2"))
    assert told == ["file:/etc/gpunode/device-plugin/config.yaml: content", f"file:{MANIFEST}: content"]


def test_a_static_pod_leaves_the_daemonset_to_the_other_nodes() -> None:
    machine = gpu_host()
    make_so(machine, CONFIGS)
    before = objects(machine)
    make_so(machine, STATIC)
    assert objects(machine) == before
    assert machine.files.exists(MANIFEST)
    told = " ".join(device_plugin.notes(context(machine, STATIC)))
    assert "kubectl label node gpu-1 nvidia.com/gpu.present-" in told


def test_the_daemonset_takes_the_place_of_a_static_pod_and_a_rollback_brings_that_back() -> None:
    machine = gpu_host()
    machine.files.lay(SOCKET, "")
    make_so(machine, STATIC)
    manifest = machine.files.text(MANIFEST)
    make_so(machine, "")
    assert not machine.files.exists(MANIFEST)
    assert objects(machine) == {"nvidia", "nvidia-device-plugin-daemonset"}
    writer = open_door(machine, "rollback")
    for entry in reversed(writer.journal.runs[1].standing):
        writer.take_back(entry)
    assert machine.files.text(MANIFEST) == manifest
    assert objects(machine) == {"nvidia"}


def test_a_static_pod_of_somebody_elses_is_left_alone() -> None:
    machine = gpu_host()
    machine.files.make_folders("/etc/kubernetes/manifests")
    machine.files.lay(MANIFEST, "kind: Pod\nmetadata:\n  name: nvidia-device-plugin\n")
    make_so(machine, "")
    assert machine.files.exists(MANIFEST)


def test_no_static_pod_is_written_beside_the_plugin_of_another_manager() -> None:
    machine = gpu_host()
    bring_in(machine, plugin_of("gpu-operator", **OPERATOR), "gpu-operator")
    assert make_so(machine, STATIC) == []
    assert not machine.files.exists(MANIFEST)


def test_a_flavour_that_reads_no_manifests_is_refused() -> None:
    machine = gpu_host()
    machine.files.make_folders("/var/lib/k0s")
    found = device_plugin.refusals(context(machine, STATIC))
    assert found == ['k0s reads no manifests from a folder: set device_plugin.mode to "daemonset"']


ADMIN, ROOTS, USERS_OWN = "/etc/kubernetes/admin.conf", "/root/.kube/config", "/home/ada/.kube/config"


@pytest.mark.parametrize(
    ("profile", "files", "taken"),
    [
        ("", (ADMIN, ROOTS, USERS_OWN), ADMIN),
        ("", (ROOTS, USERS_OWN), ROOTS),
        ("", (USERS_OWN,), USERS_OWN),
        ("", (), None),
        ("/srv/other.conf", (ADMIN, ROOTS, USERS_OWN), None),  # the one that is named, or none
    ],
)
def test_the_kubeconfig_is_the_nearest_that_there_is(profile: str, files: tuple[str, ...], taken: str | None) -> None:
    machine = gpu_host()
    machine.files.erase(ADMIN)
    machine.files.lay("/etc/passwd", "root:x:0:0::/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n")
    machine.files.make_folders("/proc/self")
    machine.files.lay("/proc/self/loginuid", "1000")
    for path in files:
        machine.files.make_folders(path.rpartition("/")[0])
        machine.files.lay(path, "apiVersion: v1\n")
    found = host_facts.gather(Reader(machine), load_catalog(), kubeconfig=profile or None)
    assert found.kubeconfig == taken


@pytest.mark.parametrize(
    ("text", "uid", "taken"),
    [
        ("apiVersion: v1\n", 1000, True),
        ("apiVersion: v1\n", 1001, False),  # laid there by somebody else
        ("users:\n- user:\n    exec:\n      command: aws\n", 1000, False),
        ('{"users": [{"user": {"exec": {"command": "aws"}}}]}', 0, False),
        ("users:\n- user:\n    auth-provider:\n      config: {cmd-path: gcloud}\n", 0, False),
        ('users:\n- user:\n    "\\x65xec":\n      command: aws\n', 0, False),
    ],
)
def test_root_takes_no_kubeconfig_of_a_home_that_runs_a_program_or_is_anothers(
    text: str, uid: int, taken: bool
) -> None:
    machine = gpu_host()
    machine.files.erase(ADMIN)
    machine.files.lay("/etc/passwd", "ada:x:1000:1000::/home/ada:/bin/bash\n")
    machine.files.lay("/proc/self/loginuid", "1000")
    machine.files.lay(USERS_OWN, text)
    machine.files.put(USERS_OWN, replace(machine.files.nodes[USERS_OWN], uid=uid))
    found = host_facts.gather(Reader(machine), load_catalog())
    assert (found.kubeconfig == USERS_OWN) == taken


def test_a_service_has_no_user_who_logged_in() -> None:
    machine = gpu_host()
    machine.files.make_folders("/proc/self")
    machine.files.lay("/proc/self/loginuid", "4294967295")
    assert login_home(Reader(machine)) == ""
