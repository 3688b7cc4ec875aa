"""MIG profiles and layouts, against what NVIDIA's user guide says of them."""

from __future__ import annotations

import re

import pytest

from gpunode.catalog.mig import MigGpu, mig_gpu, mig_gpus, mig_resources


def kind(device: int) -> MigGpu:
    found = mig_gpu(device)
    assert found
    return found


@pytest.mark.parametrize(
    ("device", "profile", "most"),
    [
        (0x20B7, "1g.6gb", 4),
        (0x20B7, "2g.12gb", 2),
        (0x20B0, "1g.5gb", 7),
        (0x20B0, "1g.10gb", 4),  # the same name is seven on the GPU with twice the memory
        (0x20B2, "1g.10gb", 7),
        (0x2330, "1g.20gb", 4),
        (0x2330, "2g.20gb", 3),
        (0x2335, "3g.71gb", 2),
        (0x2901, "7g.180gb", 1),
        (0x2330, "1g.10gb+me", 1),
    ],
)
def test_as_many_instances_as_the_guide_says(device: int, profile: str, most: int) -> None:
    gpu = kind(device)
    assert gpu.most(profile) == most
    assert gpu.fits([profile] * most)
    assert not gpu.fits([profile] * (most + 1))


@pytest.mark.parametrize(
    ("layout", "fits"),
    [
        (["3g.40gb", "3g.40gb"], True),
        (["4g.40gb", "3g.40gb"], True),
        (["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"], True),
        (["3g.40gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb"], True),  # the three at 4, the ones at 0 to 3
        (["4g.40gb", "1g.10gb", "1g.10gb", "1g.10gb"], True),
        (["4g.40gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb"], False),  # the eighth part computes nothing
        (["7g.80gb", "1g.10gb"], False),
        (["4g.40gb", "4g.40gb"], False),
        (["1g.10gb+me", "1g.10gb+me"], False),
        ([], True),
    ],
)
def test_a_layout_fits_where_its_instances_find_their_places(layout: list[str], fits: bool) -> None:
    assert kind(0x2330).fits(layout) is fits


def test_a_gpu_without_mig_has_no_kind() -> None:
    assert mig_gpu(0x1EB8) is None


def test_no_device_is_of_two_kinds() -> None:
    devices = [device for gpu in mig_gpus() for device in gpu.devices]
    assert len(devices) == len(set(devices))


def test_resources_have_names_that_kubernetes_takes() -> None:
    assert mig_resources()["nvidia.com/mig-1g.10gb.me"] == "1g.10gb+me"
    assert all(re.fullmatch(r"nvidia\.com/[a-z0-9.-]{1,63}", name) for name in mig_resources())
