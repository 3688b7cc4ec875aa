"""What a look at files alone leaves open: a failure, or a layer, that is judged by something unseen is not judged at all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeVar

from gpunode.engine.results import FindingResult, LayerResult
from gpunode.findings import CATALOGUE, related
from gpunode.findings.chain import LAYERS
from gpunode.findings.evidence import Evidence

T = TypeVar("T")

COMMANDS = "commands"
TOLD_BY: dict[str, frozenset[str]] = {
    COMMANDS: frozenset({"Facts.containerd"}),
    "/proc": frozenset(
        {"Facts.driver", "Facts.kernel", "Facts.headers", "Facts.initramfs", "Evidence.kernels", "Evidence.boot"}
    ),
    "/sys": frozenset(
        {"Facts.gpus", "Facts.nvswitches", "Facts.nouveau", "Facts.secure_boot", "Evidence.gpus", "Evidence.boot"}
    ),
    "/dev": frozenset({"Evidence.nodes", "Evidence.char_links"}),
    "/run": frozenset({"Evidence.boot_wanted", "Evidence.boot_wanted_by", "Evidence.plugin"}),
}
"""What is known of a host, as CLASS.FIELD, by what it takes to know it. Sockets, as of a device plugin, are in no archive."""
LEFT_UNKNOWN = frozenset(
    {
        *("Evidence.units", "Evidence.asked", "Evidence.loader", "Evidence.compat", "Evidence.plugin"),
        *("EngineConfig.effective", "EngineConfig.stale", "EngineConfig.repairs"),
    }
)
"""What only commands tell, and evidence without them says to be unknown: no failure is proved by it, and none is ruled out."""


class Sight:
    """Evidence that was gathered without some of what a running host shows; `missing` are keys of TOLD_BY.

    A path below a place that is missing may be there or not: `Evidence.paths` then says None of it, and rules nothing out.
    """

    def __init__(self, evidence: Evidence, missing: Collection[str]) -> None:
        self.hidden = frozenset(name for key in missing for name in TOLD_BY[key])
        self._touched: set[str] = set()
        self.unknown = LEFT_UNKNOWN | (frozenset({"Evidence.paths"}) if len(missing) > 1 else frozenset())
        folders = tuple(f"{key}/" for key in missing if key.startswith("/"))
        paths = {path: None if path.startswith(folders) else there for path, there in evidence.paths.items()}
        context = self._watched(evidence.context, facts=self._watched(evidence.context.facts))
        self._evidence = self._watched(
            replace(evidence, paths=paths), context=context, config=self._watched(evidence.config)
        )

    def findings(self) -> tuple[list[tuple[str, FindingResult]], list[str]]:
        """The failures that are there for all that is seen, each with its step, and the ids of those that cannot be judged."""
        found, open_ones = [], []
        for known in CATALOGUE:
            finding = self._asked(known.recognise)
            if self._touched & self.hidden or (finding is None and self._touched & self.unknown):
                open_ones.append(known.id)
            elif finding:
                found.append((known, finding))
        return related(found), open_ones

    def layers(self) -> list[LayerResult]:
        """Each layer as it looks; unknown where that takes more than is seen."""
        found = []
        for name, look in LAYERS.items():
            state, detail = self._asked(look)
            blind = self._touched & (self.hidden | self.unknown)
            found.append(
                LayerResult(name, "unknown", "files do not tell") if blind else LayerResult(name, state, detail)
            )
        return found

    def _asked(self, question: Callable[[Evidence], T]) -> T:
        """The answer; `_touched` then holds what it was given by."""
        self._touched.clear()
        return question(self._evidence)

    def _watched(self, inner: T, **instead: Any) -> T:
        """The same data, which notes each of its fields that is read."""
        kind, touched = type(inner), self._touched

        def note(this: Any, name: str) -> Any:
            touched.add(f"{kind.__name__}.{name}")
            return object.__getattribute__(this, name)

        watched: T = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": note}))
        vars(watched).update({**vars(inner), **instead})
        return watched
