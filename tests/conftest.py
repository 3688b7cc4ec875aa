"""Tests share what lies beside them: the package `memory` is found here, the cases in `unit`."""

import sys
from pathlib import Path

import gpunode.lab.kubernetes  # noqa: F401 - says how gRPC is to behave in a process that starts others, before a test imports it

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "unit")]
