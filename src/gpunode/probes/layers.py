"""The layers of a GPU node from the PCI bus to a pod, each with the smoke test that proves it."""

from __future__ import annotations

from typing import Any

from gpunode.host import kubectl
from gpunode.host.facts import loaded_driver
from gpunode.host.trial import Trial
from gpunode.probes.base import Findings, Probe, ProbeFailedError
from gpunode.steps.base import Context
from gpunode.steps.device_plugin import access_of
from gpunode.steps.device_plugin import skipped as no_cluster

RESOURCE = "nvidia.com/gpu"
PASSED = "Test PASSED"
PUBLISH_SECONDS = 15


def pci(_trial: Trial, context: Context, _found: Findings) -> str:
    """Any GPU on the bus."""
    if not context.facts.gpus:
        raise ProbeFailedError("PCI shows no NVIDIA GPU")
    return ", ".join(f"{gpu.address} {context.catalog.gpu_name(gpu.device)}" for gpu in context.facts.gpus)


def kernel_module(trial: Trial, _context: Context, _found: Findings) -> str:
    """The kernel's own word of its driver."""
    driver = loaded_driver(trial)
    if driver is None:
        raise ProbeFailedError("the module nvidia is not loaded", ("→ modprobe nvidia; then dmesg | grep NVRM",))
    return f"{driver.version} ({driver.modules})"


def device_nodes(trial: Trial, context: Context, _found: Findings) -> str:
    """/dev/nvidiactl, one node for each GPU, and the one that CUDA needs for memory."""
    wanted = [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        *(f"/dev/nvidia{number}" for number in range(len(context.facts.gpus))),
    ]
    missing = [path for path in wanted if trial.lstat(path) is None]
    if missing:
        raise ProbeFailedError(f"missing: {', '.join(missing)}", ("→ nvidia-modprobe -u -c=0 makes them",))
    return f"{len(wanted)} nodes"


def nvml(trial: Trial, context: Context, found: Findings) -> str:
    """The management library, by ctypes in a child process."""
    answer = trial.probe("nvml", timeout=context.profile.verify.probe_timeout)
    _require_answer(answer)
    found.gpus = answer["gpus"]
    if len(found.gpus) != len(context.facts.gpus):
        raise ProbeFailedError(f"NVML shows {len(found.gpus)} GPUs, PCI {len(context.facts.gpus)}")
    return f"driver {answer['driver_version']}, CUDA {answer['cuda_version']}, {len(found.gpus)} GPU: {found.gpus[0]['name']}"


def vector_addition(trial: Trial, context: Context, _found: Findings) -> str:
    """A kernel from embedded PTX on every GPU, every element compared."""
    for number in range(len(context.facts.gpus)):
        answer = trial.probe("cuda", str(number), timeout=context.profile.verify.probe_timeout)
        _require_answer(answer)
        if not answer["passed"]:
            raise ProbeFailedError(f"GPU {number}: {answer['wrong']} of {answer['elements']} elements are wrong")
    return f"{answer['elements']} elements right on {len(context.facts.gpus)} GPU"


def container(trial: Trial, context: Context, _found: Findings) -> str:
    """A CUDA sample in a container started through the nvidia runtime."""
    verify = context.profile.verify
    output = trial.run_container(
        context.facts.flavour.ctr,
        image=verify.container_image,
        runtime=context.catalog.toolkit.runtime,
        timeout=verify.timeout,
    )
    if not output.ok or PASSED not in output.stdout:
        raise ProbeFailedError(f"no `{PASSED}` (exit status {output.returncode})", output.last_words(6))
    return PASSED


def plugin_socket(trial: Trial, context: Context, _found: Findings) -> str:
    """The plugin's socket beside the kubelet's."""
    folder = context.facts.flavour.device_plugins
    names = trial.listdir(folder)
    if "kubelet.sock" not in names:
        raise ProbeFailedError(
            f"no kubelet.sock in {folder}: the kubelet does not run", ("→ systemctl status kubelet",)
        )
    plugins = [name for name in names if name.startswith("nvidia") and name.endswith(".sock")]
    if not plugins:
        raise ProbeFailedError(f"no plugin socket in {folder}: the device plugin has not registered")
    return ", ".join(plugins)


def capacity(trial: Trial, context: Context, _found: Findings) -> str:
    """What the kubelet offers the scheduler."""
    name, deadline = node_name(context), trial.now() + PUBLISH_SECONDS
    offered = _offered(trial, context, name)
    while offered["allocatable"] < len(context.facts.gpus) and trial.now() < deadline:
        trial.wait(0.5)  # the kubelet publishes with delay
        offered = _offered(trial, context, name)
    if offered["allocatable"] < len(context.facts.gpus):
        raise ProbeFailedError(
            f"{RESOURCE}: {offered['allocatable']} allocatable, {len(context.facts.gpus)} GPUs on PCI"
        )
    return f"{RESOURCE}: {offered['capacity']} capacity, {offered['allocatable']} allocatable on {name}"


def _offered(trial: Trial, context: Context, name: str) -> dict[str, int]:
    node = kubectl.get(trial, access_of(context), "node", name)
    if node is None:
        raise ProbeFailedError(f"the cluster has no node {name}", ("→ kubernetes.node_name in the profile names it",))
    status = node.get("status", {})
    return {kind: int(status.get(kind, {}).get(RESOURCE, 0)) for kind in ("capacity", "allocatable")}


def pod(trial: Trial, context: Context, _found: Findings) -> str:
    """The classic cuda-vector-add pod, on this node, taken away afterwards."""
    ended, log = trial.run_pod(access_of(context), vector_add_pod(context), timeout=context.profile.verify.timeout)
    phase = ended["status"]["phase"]
    if phase != "Succeeded" or PASSED not in log:
        raise ProbeFailedError(f"the pod ended as {phase} without `{PASSED}`", tuple(log.splitlines()[-6:]))
    return PASSED


def node_name(context: Context) -> str:
    """The node's name in the cluster: the profile's, else the host's own, in lower case as the kubelet registers it."""
    return context.profile.kubernetes.node_name or context.facts.hostname.lower()


def namespace_of(context: Context) -> str:
    """A name space of this node's own, so that two nodes can be tried at once."""
    return f"gpunode-verify-{node_name(context).replace('.', '-')}"[:63].rstrip("-")


def vector_add_pod(context: Context) -> dict[str, Any]:
    """The pod's manifest: one GPU, this node, once."""
    limits = {"limits": {RESOURCE: 1}}
    spec = {
        "restartPolicy": "Never",
        "runtimeClassName": context.profile.containerd.runtime_name,
        "nodeSelector": {"kubernetes.io/hostname": node_name(context)},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "cuda-vector-add", "image": context.profile.verify.pod_image, "resources": limits}],
    }
    metadata = {"name": "cuda-vector-add", "namespace": namespace_of(context)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _require_answer(answer: dict[str, Any]) -> None:
    if "error" in answer:
        error = answer["error"]
        where = f"{error['call']}: " if error.get("call") else ""
        raise ProbeFailedError(f"{where}{error['message']} ({error['name']})")


PROBES: tuple[Probe, ...] = (
    Probe("pci", "host", "devices of vendor 10de on PCI", "the GPU is there and powered", pci),
    Probe("module", "host", "/proc/driver/nvidia/version", "the kernel drives it", kernel_module),
    Probe("nodes", "host", "/dev/nvidia*", "programs can open it", device_nodes),
    Probe("nvml", "host", "libnvidia-ml.so.1 by ctypes", "library and module are one version", nvml),
    Probe("cuda", "host", "a vector addition from PTX", "the GPU computes, and right", vector_addition),
    Probe("container", "container", "a CUDA sample by ctr", "toolkit and runtime give containers the GPU", container),
    Probe(
        "plugin", "kubernetes", "sockets beside kubelet.sock", "the device plugin speaks to the kubelet", plugin_socket
    ),
    Probe("capacity", "kubernetes", "the node's nvidia.com/gpu", "the scheduler may hand the GPU out", capacity),
    Probe("pod", "kubernetes", "a cuda-vector-add pod", "a workload gets the GPU, the whole way", pod),
)


def why_no_cluster(context: Context) -> str:
    """Why the Kubernetes layers cannot be tried from here; empty when they can."""
    return no_cluster(context)
