"""A report as one JSON document, for programs."""

from __future__ import annotations

import json

from gpunode.engine.results import Report


def dump(report: Report) -> str:
    """The document, indented, without a newline at its end. Its schema's name is its first field."""
    return json.dumps(report.document(), ensure_ascii=False, indent=2)
