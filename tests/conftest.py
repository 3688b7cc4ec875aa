"""Tests share what lies beside them: the package `memory` is found here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
