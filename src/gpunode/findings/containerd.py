"""containerd: a configuration without the nvidia runtime, one that the daemon has not read, entries that start nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gpunode.findings import runtimes
from gpunode.findings.evidence import EngineConfig, Evidence, TextFile, clock
from gpunode.findings.model import Known, Proof
from gpunode.findings.repairs import left_behind
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.toml_data import dotted, leaves
from gpunode.steps.decisions import version_tuple

APPLY = "gpunode apply --step containerd"


def _toolkit_installed(evidence: Evidence) -> bool:
    return evidence.toolkit_installed


def effective_runtimes(evidence: Evidence) -> runtimes.Runtimes | None:
    """The runtimes that containerd would run with; None when that is unknown."""
    config = evidence.config
    if config.effective is not None:
        return runtimes.in_dump(config.effective)
    if config.data is None or config.imported:
        return None
    return runtimes.in_file(config.data, evidence.context)


def _self_configured(evidence: Evidence) -> bool:
    return evidence.context.facts.flavour.engine == "self"


def _not_configured(evidence: Evidence) -> Proof | None:
    name, config = evidence.context.profile.containerd.runtime_name, evidence.config
    listed = effective_runtimes(evidence)
    containerd_here = bool(evidence.context.facts.containerd) or _self_configured(evidence)
    if not containerd_here or not _toolkit_installed(evidence) or listed is None or name in listed:
        return None
    if _self_configured(evidence) and config.file is None:
        return None  # it is generated at the engine's first start
    others = ", ".join(sorted(listed)) or "none"
    table = dotted((*runtimes.place(config.data or {}, evidence.context), name))
    lines = [f"{config.path}: {table} is absent (runtimes listed: {others}), wanted present"]
    lines += _overwritten_lines(config)
    lines += _not_yet_read(evidence, name)
    return Proof(tuple(lines), {"path": config.path, "runtime": name, "reason": _reason(config)})


def _reason(config: EngineConfig) -> str:
    if config.file is None:
        return "the file is not there, and the daemon runs with its defaults"
    if config.written and config.overwritten:
        return f"somebody else wrote the file since gpunode's run {config.written.run}, most often a configuration-management run"
    return "it was never added, or a configuration-management run has written the file anew"


def _overwritten_lines(config: EngineConfig) -> list[str]:
    if not (config.written and config.overwritten and config.file):
        return []
    run, sha = config.written.run, config.written.sha[:12]
    return [
        f"gpunode's journal, run {run}: the file was written with content {sha}; it has other content since {clock(config.file.modified)}"
    ]


def _not_yet_read(evidence: Evidence, name: str) -> list[str]:
    unit, newest = evidence.engine, evidence.config.newest
    if unit is None or not evidence.config.stale or newest is None:
        return []
    when = f"started {clock(unit.started)}, before the file of {clock(newest.modified)}"
    return [f"{unit.name}: {when}: until its next restart it may still know {name}"]


def _stale(evidence: Evidence) -> Proof | None:
    unit, newest = evidence.engine, evidence.config.newest
    if unit is None or newest is None or not evidence.config.stale:
        return None
    # Without the runtime in the file a restart would make it worse: that is the other finding.
    if not _toolkit_installed(evidence) or _not_configured(evidence):
        return None
    started, changed = clock(unit.started), clock(newest.modified)
    lines = (
        f"systemctl show {unit.name}: started {started}, wanted after {changed}",
        f"{newest.path}: changed {changed}",
    )
    words = {"unit": unit.name, "path": newest.path, "started": started, "changed": changed}
    return Proof(lines, {**words, "config": evidence.config.path})


def _removed_shim(evidence: Evidence) -> Proof | None:
    removed, release = knowledge().removed_shims, version_tuple(evidence.context.facts.containerd)
    for path, value in leaves(evidence.config.data or {}):
        if isinstance(value, str) and value in removed and release and release >= version_tuple(removed[value]):
            place = _place(evidence.config.file, value)
            lines = (f'{place}: {dotted(path)} = "{value}", wanted "{knowledge().runc_type}"',)
            return Proof(lines, {"type": value, "since": removed[value], "release": evidence.context.facts.containerd})
    left = left_behind("runtime-removed-shim")(evidence)  # in another file, or of a release that still has it
    return (
        replace(left, cause="{path} names a runtime type that has no future: {why}.", severity="warning")
        if left
        else None
    )


def _type_missing(evidence: Evidence) -> Proof | None:
    """Only a runtime that the file lists with a binary: containerd has a type of its own for runc in 2.x."""
    for name, entry in _listed(evidence):
        own = name == evidence.context.profile.containerd.runtime_name
        if own and not entry.get("runtime_type"):
            table = dotted((*runtimes.place(evidence.config.data or {}, evidence.context), name))
            place = _place(evidence.config.file, f"runtimes.{name}")
            lines = (f'{place}: {table} has no runtime_type, wanted "{knowledge().runc_type}"',)
            return Proof(lines, {"runtime": name})
    left = left_behind("runtime-type-missing")(evidence)  # another runtime's, or in another file
    return replace(left, cause="{path} lists a runtime without its type: {why}.") if left else None


def _listed(evidence: Evidence) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if evidence.config.data is not None and not _self_configured(evidence):
        yield from runtimes.in_file(evidence.config.data, evidence.context).items()


def _place(file: TextFile | None, words: str) -> str:
    """File and line of the first line that holds the words."""
    lines = file.text.splitlines() if file else []
    number = next((number for number, line in enumerate(lines, start=1) if words in line.replace('"', "")), 0)
    return f"{file.path} line {number}" if file and number else file.path if file else "the configuration"


FINDINGS = (
    Known(
        id="runtime-not-configured",
        step="containerd",
        severity="error",
        title="containerd does not know the nvidia runtime",
        sees='`Failed to create pod sandbox: no runtime for "nvidia" is configured`',
        proof="the container toolkit is installed, and neither the file nor `containerd config dump` lists the runtime",
        cause="{path} has no runtime {runtime}: {reason}.",
        mend=(APPLY,),
        look=_not_configured,
        explains=("runtime-not-default", "plugin-no-resource", "toml:{path}"),
        references=(
            "NVIDIA/gpu-operator#1323",
            "NVIDIA/gpu-operator#549",
            "NVIDIA/gpu-operator#1651",
            "NVIDIA/nvidia-container-toolkit#803",
        ),
        patterns=(
            r'no runtime for "?(?P<runtime>nvidia[\w-]*)"? is configured',
            r'RuntimeHandler "(?P<runtime>[\w-]+)" not supported',
        ),
    ),
    Known(
        id="runtime-config-stale",
        step="containerd",
        severity="error",
        title="containerd runs with an older configuration than its file",
        sees='`no runtime for "nvidia" is configured` although the file has it',
        proof="the daemon's main process was started before its configuration changed",
        cause="{unit} was started {started} and {path} changed {changed}: the daemon reads it only when it starts.",
        mend=(APPLY,),
        look=_stale,
        explains=("runtime-not-default", "plugin-no-resource", "toml:{config}"),
        references=("NVIDIA/gpu-operator#399", "NVIDIA/gpu-operator#1323"),
        patterns=(r'no runtime for "?(?P<runtime>nvidia[\w-]*)"? is configured',),
    ),
    Known(
        id="runtime-removed-shim",
        step="containerd",
        severity="error",
        title="The configuration names a runtime type that containerd no longer has",
        sees='after an upgrade to containerd 2.x no container starts: `runtime type "io.containerd.runtime.v1.linux" …`',
        proof="the file names `io.containerd.runtime.v1.linux` or `io.containerd.runc.v1`, and containerd is 2.0 or newer",
        cause="{type} was removed in containerd {since}, and this host runs {release}.",
        mend=(APPLY,),
        look=_removed_shim,
        explains=("engine-stopped",),
        references=("containerd/containerd#8262", "containerd RELEASES.md"),
        patterns=(
            r'(?:runtime type|unknown runtime|invalid runtime name) "?(?P<type>io\.containerd\.(?:runtime\.v1\.linux|runc\.v1))"?',
        ),
    ),
    Known(
        id="runtime-type-missing",
        step="containerd",
        severity="error",
        title="The nvidia runtime has no runtime type",
        sees="`container.Runtime.Name must be set`",
        proof="the file lists the runtime without `runtime_type`",
        cause="The entry of the runtime {runtime} names no runtime_type, and without one it starts no container.",
        mend=(APPLY,),
        look=_type_missing,
        references=("NVIDIA/nvidia-container-toolkit#1956",),
        patterns=(r"container\.Runtime\.Name must be set",),
    ),
)
