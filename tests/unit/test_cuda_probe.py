"""The vector addition in a child process, over the mock driver's PTX interpreter: right, and wrong in every way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mock_driver import VERSION, MockDriver, install, needs_gcc, unplug

from gpunode.probes.cuda import PTX

pytestmark = [needs_gcc, pytest.mark.slow]
PROBE = "gpunode.probes.cuda"
RUN = """
import json, sys
from pathlib import Path
from gpunode.probes.cuda import run_vector_add
from gpunode.probes.devices import report
sys.exit(report(lambda: run_vector_add(Path(sys.argv[1]).read_bytes(), **json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> MockDriver:
    return install(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(installed: MockDriver) -> Iterator[MockDriver]:
    installed.plug("nvidiactl", "nvidia0")
    installed.load_module(VERSION)
    yield installed
    unplug(installed)


def run(driver: MockDriver, tmp_path: Path, ptx: bytes = PTX, **shape: int) -> dict[str, Any]:
    """The document of a run with another kernel or another shape."""
    kernel = tmp_path / "kernel.ptx"
    kernel.write_bytes(ptx)
    done = driver.run(sys.executable, "-c", RUN, str(kernel), json.dumps(shape))
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document.get("passed") else 1), done.stderr
    return document


def edited(old: bytes, new: bytes) -> bytes:
    """The probe's kernel with one passage changed."""
    assert PTX.count(old) == 1
    return PTX.replace(old, new)


def test_every_element_is_right(driver: MockDriver) -> None:
    assert driver.probe(PROBE) == (
        0,
        {
            "elements": 50000,
            "blocks": 196,
            "threads": 256,
            "wrong": 0,
            "device": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-4f1c6a2e-9d3b-5c87-a1f0-6e2d8b7c0300",
            "driver_api": 13000,
            "passed": True,
        },
    )


def test_the_named_gpu_is_the_one_that_runs(driver: MockDriver) -> None:
    driver.plug("nvidia1")
    _, document = driver.probe(PROBE, "1")
    assert document["uuid"].endswith("0301")
    status, document = driver.probe(PROBE, "2")
    assert (status, document["error"]["name"]) == (1, "CUDA_ERROR_INVALID_DEVICE")


def test_a_kernel_that_subtracts_is_wrong_everywhere(driver: MockDriver, tmp_path: Path) -> None:
    document = run(driver, tmp_path, edited(b"add.f32", b"sub.f32"))
    assert (document["wrong"], document["passed"]) == (50000, False)


def test_a_grid_one_block_short_leaves_the_last_elements_unwritten(driver: MockDriver, tmp_path: Path) -> None:
    document = run(driver, tmp_path, blocks=195)
    assert (document["wrong"], document["passed"]) == (80, False)


FAILURES = {
    "reading past the vectors": (PTX, {"elements": 50001}, 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "cuCtxSynchronize"),
    "odd addresses": (edited(b"%i, 4;", b"%i, 2;"), {}, 716, "CUDA_ERROR_MISALIGNED_ADDRESS", "cuCtxSynchronize"),
    "a loop without end": (
        edited(b"@%outside bra   end;", b"again: bra again;"),
        {},
        702,
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "cuCtxSynchronize",
    ),
    "an unknown opcode": (edited(b"add.f32", b"sin.f32"), {}, 218, "CUDA_ERROR_INVALID_PTX", "cuModuleLoadData"),
    "an undeclared register": (edited(b"%x, %y, %sum;", b"%x, %y;"), {}, 218, "CUDA_ERROR_INVALID_PTX", None),
    "an unknown label": (edited(b"end:", b"fin:"), {}, 218, "CUDA_ERROR_INVALID_PTX", "cuModuleLoadData"),
    "a newer PTX": (edited(b"6.4", b"99.0"), {}, 222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "cuModuleLoadData"),
    "another GPU's PTX": (edited(b".target sm_50", b".target sm_120"), {}, 209, "CUDA_ERROR_NO_BINARY_FOR_GPU", None),
    "no PTX": (b"ELF", {}, 200, "CUDA_ERROR_INVALID_IMAGE", "cuModuleLoadData"),
    "another kernel": (edited(b"vector_add(", b"vector_sub("), {}, 500, "CUDA_ERROR_NOT_FOUND", "cuModuleGetFunction"),
    "a block too wide": (PTX, {"threads": 1025}, 1, "CUDA_ERROR_INVALID_VALUE", "cuLaunchKernel"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failing_call_is_named_with_its_error(driver: MockDriver, tmp_path: Path, case: str) -> None:
    ptx, shape, code, name, call = FAILURES[case]
    error = run(driver, tmp_path, ptx, **shape)["error"]
    assert (error["code"], error["name"]) == (code, name)
    assert error["call"] == (call or "cuModuleLoadData")


def test_a_kernel_in_a_compilers_style_runs(driver: MockDriver, tmp_path: Path) -> None:
    ptx = b"""
    .version 7.8
    .target sm_75
    .address_size 64
    .visible .entry vector_add(.param .u64 .ptr .global .align 4 p0, .param .u64 p1, .param .u64 p2, .param .u32 p3)
    {
        .reg .pred %p<2>; .reg .b32 %r<5>; .reg .f32 %f<6>; .reg .b64 %rd<9>;
        ld.param.u32 %r1, [p3]; mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; shl.b32 %r3, %r3, 8; /* x 256 */
        or.b32 %r4, %r3, %r2;
        setp.lt.s32 %p1, %r4, %r1;
        @!%p1 bra $L_end;
        ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; ld.param.u64 %rd3, [p2];
        cvta.to.global.u64 %rd1, %rd1; cvt.s64.s32 %rd4, %r4; shl.b64 %rd4, %rd4, 2;
        mad.wide.s32 %rd5, %r4, 4, %rd1;
        add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4; sub.s64 %rd7, %rd7, 8;
        ld.global.nc.f32 %f1, [%rd5]; ld.global.nc.f32 %f2, [%rd6+0];
        mov.f32 %f3, 0f40000000; mul.rn.f32 %f4, %f2, %f3; sub.rn.f32 %f4, %f4, %f2; add.rn.f32 %f5, %f1, %f4;
        st.global.f32 [%rd7+8], %f5;
    $L_end: ret;
    }"""
    assert run(driver, tmp_path, ptx)["wrong"] == 0


def test_no_device(driver: MockDriver) -> None:
    (driver.dev / "nvidia0").unlink()
    status, document = driver.probe(PROBE)
    assert status == 1
    assert document["error"] == {
        "code": 100,
        "name": "CUDA_ERROR_NO_DEVICE",
        "message": "no CUDA-capable device is detected",
        "call": "cuInit",
    }


def test_a_module_of_another_version_is_a_mismatch(driver: MockDriver) -> None:
    driver.load_module("580.178.01")
    status, document = driver.probe(PROBE)
    assert status == 1
    assert (document["error"]["code"], document["error"]["name"]) == (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")


def test_a_missing_library_is_told_in_the_loaders_words(driver: MockDriver) -> None:
    driver.libraries = driver.libraries.with_name("nothing-here")
    try:
        status, document = driver.probe(PROBE)
    finally:
        driver.libraries = driver.libraries.with_name("lib")
    assert (status, document["error"]["code"], document["error"]["name"]) == (1, None, "LIBRARY_NOT_FOUND")
