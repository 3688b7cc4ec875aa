"""What the NVML probe tells of a GPU's health, over a library of a few lines that answers as the C header has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mock_driver import needs_gcc

from gpunode.findings.machine import nvml_of

pytestmark = needs_gcc

# Two GPUs: one with everything to tell, one that is lost. Asked for what it was not given a constant for, a call is not supported.
LIBRARY = """
#include <string.h>
typedef int R; typedef void *D; typedef unsigned U; typedef unsigned long long L;
typedef struct { char legacy[16]; U domain, bus, device, id, subsystem; char full[32]; } Pci;
#define UNSUPPORTED 3
#define INVALID 2
static int lost(D gpu) { return gpu == (D)2 ? 15 : 0; }
R nvmlInit_v2(void) { return 0; }
R nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(R code) { return code == 15 ? "GPU is lost" : "not so"; }
R nvmlSystemGetDriverVersion(char *t, U n) { strncpy(t, "580.159.04", n); return 0; }
R nvmlSystemGetNVMLVersion(char *t, U n) { strncpy(t, "13.580.159.04", n); return 0; }
R nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 13000; return 0; }
R nvmlDeviceGetCount_v2(U *n) { *n = 2; return 0; }
R nvmlDeviceGetHandleByIndex_v2(U i, D *gpu) { *gpu = (D)(L)(i + 1); return lost(*gpu); }
R nvmlDeviceGetName(D g, char *t, U n) { strncpy(t, "NVIDIA H100", n); return 0; }
R nvmlDeviceGetUUID(D g, char *t, U n) { strncpy(t, "GPU-1", n); return 0; }
R nvmlDeviceGetPciInfo_v3(D g, Pci *p) { memset(p, 0, sizeof *p); p->bus = 0x65; return 0; }
R nvmlDeviceGetMemoryInfo(D g, L *m) { m[0] = 80; m[1] = 79; m[2] = 1; return 0; }
R nvmlDeviceGetMinorNumber(D g, U *n) { *n = 7; return 0; }
R nvmlDeviceGetTotalEccErrors(D g, U kind, U counter, L *n) { if (kind != 1 || counter != 0) return INVALID; *n = 1ULL << 40; return 0; }
R nvmlDeviceGetRemappedRows(D g, U *a, U *b, U *c, U *d) { *a = 1; *b = 2; *c = 1; *d = 0; return 0; }
R nvmlDeviceGetRetiredPagesPendingStatus(D g, U *p) { return UNSUPPORTED; }
R CLOCKS(D g, L *bits) { *bits = 0x48; return 0; }
R nvmlDeviceGetTemperature(D g, U sensor, U *t) { if (sensor != 0) return INVALID; *t = 91; return 0; }
R nvmlDeviceGetPerformanceState(D g, U *p) { *p = 0; return 0; }
R nvmlDeviceGetCurrPcieLinkGeneration(D g, U *n) { *n = 3; return 0; }
R nvmlDeviceGetCurrPcieLinkWidth(D g, U *n) { *n = 8; return 0; }
R nvmlDeviceGetMaxPcieLinkGeneration(D g, U *n) { *n = 5; return 0; }
R nvmlDeviceGetMaxPcieLinkWidth(D g, U *n) { *n = 16; return 0; }
R nvmlDeviceGetMigMode(D g, U *now, U *then) { *now = 0; *then = 1; return 0; }
R nvmlDeviceGetNvLinkState(D g, U link, U *up) { if (link > 2) return INVALID; *up = link != 1; return 0; }
"""
NEW, OLD = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"


def _asked(folder: Path, text: str) -> tuple[int, dict[str, Any]]:
    source, library = folder / "nvml.c", folder / "libnvidia-ml.so.1"
    source.write_text(text)
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60)
    command = [sys.executable, "-m", "gpunode.probes.nvml", "health"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("clocks", [NEW, OLD])
def test_tells_how_each_gpu_is(tmp_path: Path, clocks: str) -> None:
    status, document = _asked(tmp_path, LIBRARY.replace("CLOCKS", clocks))
    assert status == 0
    well, lost = document["gpus"]
    assert lost == {"index": 1, "error": "NVML_ERROR_GPU_IS_LOST"}
    assert {key: well[key] for key in ("index", "pci", "minor")} == {"index": 0, "pci": "0000:65:00.0", "minor": 7}
    assert well["ecc_uncorrected"] == 1 << 40
    assert well["rows"] == [1, 2, 1, 0]
    assert well["pages_pending"] is None
    assert (well["slowdown"], well["temperature"], well["performance_state"]) == (0x48, 91, 0)
    assert well["link"] == {"generation": 3, "width": 8, "max_generation": 5, "max_width": 16}
    assert well["mig"] == [0, 1]
    assert well["nvlinks"] == [True, False, True]


def test_a_driver_that_tells_nothing_of_it_is_no_failure(tmp_path: Path) -> None:
    known = LIBRARY.partition("R nvmlDeviceGetMinorNumber")[0]
    status, document = _asked(tmp_path, known)
    assert status == 0
    told = {key: value for key, value in document["gpus"][0].items() if value not in (None, [], {}) and key != "link"}
    assert sorted(told) == ["index", "memory_total", "name", "pci", "uuid"]
    assert set(document["gpus"][0]["link"].values()) == {None}


def test_the_answer_as_data(tmp_path: Path) -> None:
    _, document = _asked(tmp_path, LIBRARY.replace("CLOCKS", NEW))
    nvml = nvml_of(document)
    assert (nvml.error, nvml.cuda) == ("", "13.0")
    assert [gpu.label for gpu in nvml.gpus] == ["GPU 0 (0000:65:00.0)", "GPU 1"]
    assert nvml.has("0000:65:00.0")
    assert not nvml.has("0000:66:00.0")
