"""Every test here boots a throw-away host and is marked `lab`."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder; without root it is skipped, and says why."""
    unable = pytest.mark.skip(reason="lab hosts need root: they mount, and boot systemd")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)
            if os.geteuid() != 0:
                item.add_marker(unable)
