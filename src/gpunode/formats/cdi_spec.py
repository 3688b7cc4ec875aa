"""A CDI specification, YAML or JSON, as far as one has to know it to tell whether it fits a host.

What `nvidia-ctk` writes is plain: one scalar behind each key, every item of a list in lines of its own. So its keys are read
one by one, and the rest of YAML is left to the engines that use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ITEM = re.compile(r"^[ \t]*-[ \t]|[{}]", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_FIELD = re.compile(
    r"""(?:^|[\s{,])["']?(kind|name|path|hostPath|containerPath)["']?[ \t]*:[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^\s,"'}\]]+))"""
)
_DRIVER_LIBRARY = re.compile(r"/(?:libcuda|libnvidia-ml)\.so\.(\d+\.\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class CdiSpecification:
    """What a specification offers and what it takes from the host.

    `kind` is `nvidia.com/gpu`, `devices` are the names behind it, `host_paths` the nodes, libraries and programs that it gives
    to a container, `driver` the version of the driver's libraries among them, empty where it names none.
    """

    kind: str
    devices: tuple[str, ...]
    host_paths: tuple[str, ...]
    driver: str

    @property
    def device(self) -> str:
        """The full name of its first GPU, as `--device` takes it; empty where it has none."""
        name = "0" if "0" in self.devices else next(iter(self.devices), "")
        return f"{self.kind}={name}" if name else ""


def parse(text: str) -> CdiSpecification | None:
    """The specification in a text; None where the text is none."""
    items = [dict(_fields(item)) for item in _ITEM.split(_COMMENT.sub("", text))]
    kind = next((item["kind"] for item in items if "kind" in item), "")
    if not kind:
        return None
    # A node may lie at another path in the container; a hook has none there.
    paths = [item.get("hostPath") or item.get("path", "") for item in items]
    host_paths = tuple(dict.fromkeys(path for path in paths if path.startswith("/")))
    versions = (found[1] for path in host_paths if (found := _DRIVER_LIBRARY.search(path)))
    devices = tuple(item["name"] for item in items if "name" in item)
    return CdiSpecification(kind, devices, host_paths, next(versions, ""))


def _fields(item: str) -> Iterator[tuple[str, str]]:
    for found in _FIELD.finditer(item):
        yield found[1], found[2] or found[3] or found[4] or ""
