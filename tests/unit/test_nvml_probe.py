"""The NVML probe in a child process, over the mock library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mock_driver import VERSION, MockDriver, install, needs_gcc, unplug

pytestmark = [needs_gcc, pytest.mark.slow]
PROBE = "gpunode.probes.nvml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> MockDriver:
    return install(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(installed: MockDriver) -> Iterator[MockDriver]:
    installed.plug("nvidiactl", "nvidia0")
    installed.load_module(VERSION)
    yield installed
    unplug(installed)


def test_tells_versions_and_the_gpu(driver: MockDriver) -> None:
    status, document = driver.probe(PROBE)
    assert status == 0
    assert document == {
        "driver_version": VERSION,
        "nvml_version": f"13.{VERSION}",
        "cuda_version": "13.0",
        "gpus": [
            {
                "index": 0,
                "name": "NVIDIA H100 80GB HBM3",
                "uuid": "GPU-4f1c6a2e-9d3b-5c87-a1f0-6e2d8b7c0300",
                "pci": "0000:65:00.0",
                "memory_total": 85520809984,
            }
        ],
    }


def test_tells_every_gpu_apart(driver: MockDriver) -> None:
    driver.plug("nvidia1", "nvidia2")
    _, document = driver.probe(PROBE)
    assert [gpu["pci"] for gpu in document["gpus"]] == ["0000:65:00.0", "0000:66:00.0", "0000:67:00.0"]
    assert len({gpu["uuid"] for gpu in document["gpus"]}) == 3


def test_a_module_of_another_version_is_a_mismatch(driver: MockDriver) -> None:
    driver.load_module("580.178.01")
    status, document = driver.probe(PROBE)
    assert status == 1
    assert document["error"] == {
        "code": 18,
        "name": "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
        "message": "Driver/library version mismatch",
        "call": "nvmlInit_v2",
    }


def test_no_module_loaded(driver: MockDriver) -> None:
    unplug(driver)
    status, document = driver.probe(PROBE)
    assert status == 1
    assert document["error"]["code"] == 9
    assert document["error"]["name"] == "NVML_ERROR_DRIVER_NOT_LOADED"


def test_a_missing_library_is_told_in_the_loaders_words(driver: MockDriver) -> None:
    driver.libraries = driver.libraries.with_name("nothing-here")
    try:
        status, document = driver.probe(PROBE)
    finally:
        driver.libraries = driver.libraries.with_name("lib")
    assert status == 1
    assert document["error"]["code"] is None
    assert document["error"]["name"] == "LIBRARY_NOT_FOUND"
    assert "libnvidia-ml.so.1: cannot open shared object file" in document["error"]["message"]
