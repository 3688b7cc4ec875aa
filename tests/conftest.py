"""Tests share what lies beside them: the package `memory` is found here, the cases in `unit`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "unit")]
