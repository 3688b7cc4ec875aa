"""containerd as it runs: not at all, without settings that its own main file has, or another one than the kubelet's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpunode.findings import runtimes
from gpunode.findings.containerd import effective_runtimes
from gpunode.findings.containers import RUNTIME
from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.formats.toml_data import MISSING, TomlError, dotted, leaves, lookup, parse, same
from gpunode.steps.decisions import version_tuple

ENDPOINT = r"^containerRuntimeEndpoint:\s*[\"']?(?:unix://)?(\S*?)[\"']?\s*$"
DEEP_MERGE_SINCE = (2, 0)
"""containerd's release from which an imported file no longer replaces whole tables."""
NAMED_AT_MOST = 5


def _stopped(evidence: Evidence) -> Proof | None:
    unit, facts = evidence.engine, evidence.context.facts
    kubelet = re.search(ENDPOINT, evidence.kubelet.text, re.MULTILINE) if evidence.kubelet else None
    other = kubelet is not None and "containerd" not in kubelet[1]
    if unit is None or not unit.loaded or unit.active or not facts.kubelet or other:
        return None
    if not unit.enabled and unit.started is None and kubelet is None:
        return None  # installed beside another engine, and never meant to run
    lines = [f"systemctl show {unit.name}: {unit.state}, result {unit.result or 'unknown'}, wanted active (running)"]
    lines += [f"{line.program}: {line.text}" for line in evidence.asked.units or () if _complains(line.text)][-2:]
    return Proof(tuple(lines), {"unit": unit.name, "state": unit.state, "config": evidence.config.path})


def _complains(text: str) -> bool:
    return "level=fatal" in text or "containerd: " in text


def _lost(evidence: Evidence) -> Proof | None:
    """Of the main file: what `config dump` has otherwise, and no imported file sets so."""
    config, release = evidence.config, version_tuple(evidence.context.facts.containerd)
    if not config.imported or config.data is None or config.effective is None or release >= DEEP_MERGE_SINCE:
        return None
    cri = runtimes.place(config.data, evidence.context)[:-2]
    lost = {path: value for path, value in _settings(config.data, cri) if not _holds(evidence, path, value)}
    if not lost:
        return None
    shown = list(lost.items())[:NAMED_AT_MOST]
    lines = [
        f"{config.path}: {dotted(path)} is {value!r}, in effect {_word(config.effective, path)}"
        for path, value in shown
    ]
    lines += [f"{each.path}: imported over it" for each in config.imported]
    words = {"file": config.imported[-1].path, "main": config.path, "keys": ", ".join(path[-1] for path, _ in shown)}
    return Proof(tuple(lines), words)


def _settings(data: Mapping[str, Any], cri: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The CRI section's values; the cgroup driver is told of by a finding of its own."""
    section = lookup(data, cri)
    for path, value in leaves(section) if isinstance(section, Mapping) else ():
        if path[-1] != "SystemdCgroup" and not isinstance(value, Mapping):
            yield (*cri, *path), value


def _holds(evidence: Evidence, path: tuple[str, ...], value: Any) -> bool:
    """True where the value is in effect, or an imported file sets another on purpose."""
    found = lookup(evidence.config.effective or {}, path)
    if found is not MISSING and same(found, value):
        return True
    return any(lookup(_data(each.text), path) is not MISSING for each in evidence.config.imported)


def _data(text: str) -> Mapping[str, Any]:
    try:
        return parse(text)
    except TomlError:
        return {}


def _word(effective: Mapping[str, Any], path: tuple[str, ...]) -> str:
    found = lookup(effective, path)
    return "nothing" if found is MISSING else repr(found)


def _other_daemon(evidence: Evidence) -> Proof | None:
    """Docker's containerd beside a kubelet's is as it should be, as long as nobody put the runtime into the wrong one of the two."""
    name, listed = evidence.context.profile.containerd.runtime_name, effective_runtimes(evidence)
    wrong = next((each for each in evidence.beside if RUNTIME in each.text), None)
    if wrong is None or listed is None or name in listed or evidence.config.file is None:
        return None
    flavour = evidence.context.facts.flavour
    lines = (
        f"{wrong.place(RUNTIME)}: the runtime is here",
        f"{evidence.config.path}: has no runtime {name} (listed: {', '.join(sorted(listed)) or 'none'})",
        f"{flavour.socket}: the socket of {flavour.name}'s own containerd, which the kubelet uses",
    )
    return Proof(lines, {"file": wrong.path, "flavour": flavour.name})


FINDINGS = (
    Known(
        id="engine-wrong-binary",
        step="containerd",
        severity="warning",
        title="The nvidia runtime was put into another containerd than the kubelet's",
        sees='`no runtime for "nvidia" is configured` although `/etc/containerd/config.toml` has it',
        proof="the host's Kubernetes distribution has a containerd of its own, whose configuration has no nvidia runtime, and the "
        "files of the "
        "plain containerd have one",
        cause="The nvidia runtime is in {file}, and the kubelet uses the containerd of {flavour}, which does not read that file.",
        mend=("gpunode apply --step containerd",),
        look=_other_daemon,
        explains=("runtime-not-configured",),
        references=("NVIDIA/nvidia-container-toolkit#982", "NVIDIA/gpu-operator#522", "NVIDIA/gpu-operator#1694"),
    ),
    Known(
        id="engine-settings-lost",
        step="containerd",
        severity="error",
        title="An imported file cost containerd other settings",
        sees='`failed to find plugin "…" in path [/opt/cni/bin]`, pods that crash after a restart, runc gone, after a toolkit container or '
        "nvidia-ctk wrote the configuration",
        proof="containerd before 2.0, an imported file, and keys of the main file's CRI section that `containerd config dump` has "
        "otherwise "
        "though no imported file sets them",
        cause="{file} replaced whole tables of {main}, so that {keys} is without effect.",
        mend=("gpunode apply --step containerd",),
        look=_lost,
        explains=("runtime-options-lost", "engine-stopped"),
        references=("NVIDIA/nvidia-container-toolkit#1222", "NVIDIA/nvidia-container-toolkit#1040"),
        patterns=(
            r'failed to find plugin "(?P<plugin>[\w-]+)" in path \[(?P<path>[^\]]+)\]',
            r'no corresponding runtime configured in `containerd\.runtimes` for .*"runc"',
        ),
    ),
    Known(
        id="engine-stopped",
        step="containerd",
        severity="error",
        title="The container engine does not run",
        sees="`dial unix /run/containerd/containerd.sock: connect: connection refused`; the node goes NotReady: `container "
        "runtime is down`",
        proof="the unit of the engine that the kubelet uses is installed and not active",
        cause="{unit} is {state}, and without it the kubelet starts no container.",
        mend=(
            "containerd --config {config} config dump > /dev/null  # says what it refuses",
            "systemctl enable --now {unit}",
        ),
        look=_stopped,
        explains=("plugin-no-resource", "plugin-not-registered"),
        references=("NVIDIA/gpu-operator#120", "NVIDIA/gpu-operator#712", "NVIDIA/gpu-operator#549"),
        patterns=(
            r"dial unix (?:unix://)?(?P<socket>\S*containerd\.sock): (?:connect: (?:connection refused|no such file or directory)|timeout)",
            r"container runtime is down",
            r"Cannot connect to the Docker daemon at",
        ),
    ),
)
