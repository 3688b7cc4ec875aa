"""What verify asks of the cluster: as many devices as promised, and in a pod the one GPU that it was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpunode.catalog import load as load_catalog
from gpunode.host import facts as host_facts
from gpunode.host.facts import Gpu
from gpunode.host.reader import Reader
from gpunode.host.trial import Trial
from gpunode.lab.kubernetes.kinds import NODES
from gpunode.probes.base import Findings, ProbeFailedError
from gpunode.probes.cluster import capacity, one_of_ours, pod_manifest, promised
from gpunode.profile import load
from gpunode.steps.base import Context
from memory import MemoryMachine, gpu_host

FIRST, SECOND, INSTANCE = (
    "GPU-8f1e0e2a-0000-4000-8000-000000000000",
    "GPU-8f1e0e2a-0000-4000-8000-000000000001",
    "MIG-5c1a",
)
SHARED = '[device_plugin.sharing]\nstrategy = "time-slicing"\nreplicas."nvidia.com/gpu" = 4\n'
RENAMED = f"{SHARED}rename = true\n"
SINGLE = '[device_plugin.sharing]\nmig = "single"\n'


def context(machine: MemoryMachine, profile: str = "", gpus: int = 2) -> Context:
    catalog = load_catalog()
    cards = tuple(Gpu(f"0000:0{number}:00.0", 0x2330) for number in range(gpus))
    found = replace(host_facts.gather(Reader(machine), catalog), gpus=cards)
    return Context(load(profile.encode(), "p").profile, found, catalog)


def offering(resources: Mapping[str, tuple[int, int]]) -> MemoryMachine:
    """A machine whose node offers resources: capacity and allocatable of each."""
    machine = gpu_host()
    assert machine.cluster
    node = machine.cluster.find("node", "gpu-1")
    assert node
    for number, kind in enumerate(("capacity", "allocatable")):
        node.setdefault("status", {})[kind] = {name: str(each[number]) for name, each in resources.items()}
    with machine.cluster.lock:
        machine.cluster.put(machine.cluster.key(NODES, "", "gpu-1"), node)
    return machine


@pytest.mark.parametrize(
    ("profile", "wanted"),
    [
        ("", {"nvidia.com/gpu": 2}),
        (SHARED, {"nvidia.com/gpu": 8}),
        (RENAMED, {"nvidia.com/gpu.shared": 8}),
        (SINGLE, {}),
    ],
)
def test_gpus_times_the_pods_that_share_one_are_promised(profile: str, wanted: dict[str, int]) -> None:
    assert promised(context(gpu_host(), profile)) == wanted


@pytest.mark.parametrize(
    ("profile", "offered", "part"),
    [
        ("", {"nvidia.com/gpu": (2, 2)}, "nvidia.com/gpu: 2 capacity, 2 allocatable"),
        (SHARED, {"nvidia.com/gpu": (8, 8)}, "nvidia.com/gpu: 8 capacity"),
        (RENAMED, {"nvidia.com/gpu": (0, 0), "nvidia.com/gpu.shared": (8, 8)}, "nvidia.com/gpu.shared: 8 capacity"),
        (SINGLE, {"nvidia.com/gpu": (14, 14)}, "nvidia.com/gpu: 14 capacity"),
        (
            SINGLE.replace("single", "mixed"),
            {"nvidia.com/gpu": (0, 0), "nvidia.com/mig-3g.40gb": (4, 4)},
            "nvidia.com/mig-3g.40gb: 4",
        ),
    ],
)
def test_what_is_promised_and_offered_passes(profile: str, offered: dict[str, tuple[int, int]], part: str) -> None:
    machine = offering(offered)
    assert part in capacity(Trial(machine), context(machine, profile), Findings())


@pytest.mark.parametrize(
    ("profile", "offered", "part"),
    [
        ("", {"nvidia.com/gpu": (2, 1)}, "nvidia.com/gpu: 2 capacity, 1 allocatable; nvidia.com/gpu: 2 are wanted"),
        ("", {"nvidia.com/gpu": (8, 8)}, "2 are wanted, for 2 GPUs on PCI"),
        (SHARED, {"nvidia.com/gpu": (2, 2)}, "8 are wanted, for 2 GPUs on PCI, 4 pods on each"),
        (RENAMED, {"nvidia.com/gpu": (8, 8)}, "nothing of nvidia.com is offered"),
        (SINGLE, {"nvidia.com/gpu": (0, 0)}, "at least one instance of MIG is wanted"),
    ],
)
def test_what_is_promised_and_not_offered_is_a_failure(
    profile: str, offered: dict[str, tuple[int, int]], part: str
) -> None:
    machine = offering(offered)
    with pytest.raises(ProbeFailedError) as caught:
        capacity(Trial(machine), context(machine, profile), Findings())
    assert part in str(caught.value)


def listed(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def gpu(number: int, uuid: str) -> str:
    return f"GPU {number}: NVIDIA H100 80GB HBM3 (UUID: {uuid})"


def test_the_one_gpu_of_this_host_is_told() -> None:
    assert one_of_ours(listed(gpu(0, SECOND)), [FIRST, SECOND]) == SECOND


def test_an_instance_of_mig_is_told_and_not_the_gpu_around_it() -> None:
    lines = listed(gpu(0, FIRST), f"  MIG 1g.10gb     Device  0: (UUID: {INSTANCE})")
    assert one_of_ours(lines, [FIRST, SECOND]) == INSTANCE


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("No devices found.\n", "sees no GPU"),
        (listed(gpu(0, FIRST), gpu(1, SECOND)), "asked for one GPU and sees 2"),
        (listed(gpu(0, "GPU-dead")), "GPU-dead, which NVML does not show on this host"),
        (
            listed(
                gpu(0, FIRST), f"  MIG 1g.10gb Device 0: (UUID: {INSTANCE})", "  MIG 1g.10gb Device 1: (UUID: MIG-2)"
            ),
            "sees 2",
        ),
    ],
)
def test_another_gpu_or_more_of_them_in_the_pod_is_a_failure(lines: str, part: str) -> None:
    with pytest.raises(ProbeFailedError) as caught:
        one_of_ours(lines, [FIRST, SECOND])
    assert part in str(caught.value)


def spec(profile: str) -> Any:
    return pod_manifest(context(gpu_host(), profile), "cuda-vector-add", "nvidia.com/gpu")["spec"]


def test_a_pod_asks_for_the_runtime_except_where_cdi_brings_its_gpu() -> None:
    """The image asks the nvidia runtime for all GPUs: beside CDI that would show a pod those of others."""
    assert spec("")["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in spec("[containerd]\ncdi = true\n")
    assert spec("")["nodeSelector"] == {"kubernetes.io/hostname": "gpu-1"}
