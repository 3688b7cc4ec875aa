"""The layers of a GPU node from the PCI bus to a pod, each with the smoke test that proves it."""

from __future__ import annotations

from typing import Any

from gpunode.host import cdi
from gpunode.host.facts import loaded_driver
from gpunode.host.trial import Trial
from gpunode.probes.base import PASSED, Findings, Probe, ProbeFailedError
from gpunode.probes.cluster import capacity, plugin_socket, pod
from gpunode.steps.base import Context
from gpunode.steps.decisions import version_tuple
from gpunode.steps.device_plugin import unreachable

CTR_CDI_SINCE = (2, 0)
"""containerd's release from which `ctr run --device` takes a CDI name; before, it is a path to it."""


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
    """A CUDA sample in a container: through the nvidia runtime, and by its device's CDI name where containerd knows those."""
    device = cdi_device(trial, context)
    _run_sample(trial, context, runtime=context.catalog.toolkit.runtime)
    if not device:
        return f"{PASSED} through the nvidia runtime"
    _run_sample(trial, context, device=device)
    return f"{PASSED} through the nvidia runtime and by CDI ({device})"


def cdi_device(trial: Trial, context: Context) -> str:
    """The CDI name by which `ctr` gives a container a GPU; empty where it goes by the runtime alone."""
    if version_tuple(context.facts.containerd) < CTR_CDI_SINCE or cdi.toolkit_mode(trial) in ("", "legacy"):
        return ""
    found = cdi.specification(trial)
    return found.specification.device if found else ""


def _run_sample(trial: Trial, context: Context, *, runtime: str = "", device: str = "") -> None:
    verify = context.profile.verify
    output = trial.run_container(
        context.facts.flavour.ctr, image=verify.container_image, runtime=runtime, device=device, timeout=verify.timeout
    )
    if not output.ok or PASSED not in output.stdout:
        way = f"by CDI ({device})" if device else f"through {runtime}"
        raise ProbeFailedError(f"no `{PASSED}` {way} (exit status {output.returncode})", output.last_words(6))


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
    Probe(
        "capacity",
        "kubernetes",
        "the node's nvidia.com/gpu",
        "the scheduler may hand out the GPUs, as often as shared",
        capacity,
    ),
    Probe("pod", "kubernetes", "a cuda-vector-add pod", "a workload gets the GPU it is promised, and no other", pod),
)


def why_no_cluster(context: Context) -> str:
    """Why the Kubernetes layers cannot be tried from here; empty when they can."""
    if context.profile.device_plugin.mode == "none":
        return "the profile leaves the cluster alone"
    return unreachable(context)
