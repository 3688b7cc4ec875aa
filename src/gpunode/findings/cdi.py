"""CDI: containers that would get their GPUs by a specification that is not there, or that fits another driver."""

from __future__ import annotations

import re

from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.model import Known, Proof, Severity
from gpunode.formats.toml_data import TomlError, lookup, parse
from gpunode.host.cdi import FOLDERS, KIND, MODE, FoundSpecification
from gpunode.resources.cdi import PATH_UNIT, SERVICE
from gpunode.steps import decisions

APPLY = ("gpunode apply --step container_toolkit",)
REFRESH = (f"systemctl enable --now {PATH_UNIT} {SERVICE}",)
FAULTS_SHOWN = 5
UNRESOLVED = re.compile(rf"unresolvable CDI devices {re.escape(KIND)}=(?P<names>[^\s,\"]+(?:,[^\s,=\"]+)*)")
GENERATE = "nvidia-ctk cdi generate --device-name-strategy=index --device-name-strategy=uuid --output={path}"
MODE_LINE = r"^\s*mode\s*="


def _missing(evidence: Evidence) -> Proof | None:
    """Only on a host whose driver runs: without one there is nothing that a specification could name."""
    user = _user(evidence)
    toolkit_here = bool(evidence.toolkit_packages) or evidence.toolkit_runtime
    if evidence.cdi is None or not toolkit_here or evidence.context.facts.driver is None:
        return None
    if evidence.cdi:
        return _unnamed(evidence, evidence.cdi[0])
    if not user:
        return None
    lines = (f"no specification of {KIND} in {' or '.join(FOLDERS)}, wanted one", user)
    return Proof(lines, mend=_mend(evidence))


def _unnamed(evidence: Evidence, found: FoundSpecification) -> Proof | None:
    """A specification that is there and lacks the name that somebody asked for."""
    for line in reversed(evidence.asked.units or ()):
        match = UNRESOLVED.search(line.text)
        names = [name for name in match["names"].split(",") if name not in found.specification.devices] if match else []
        if names:
            lines = (
                f"{line.program}: {clock(line.when)} {line.text}",
                f"{found.path}: has {', '.join(found.specification.devices)}",
            )
            cause = "The specification {path} has no device {name}, which a container asks for."
            return Proof(
                lines, {"path": found.path, "name": names[0]}, cause=cause, mend=(GENERATE.format(path=found.path),)
            )
    return None


def _user(evidence: Evidence) -> str:
    """What would use a specification on this host; empty where nothing would."""
    file = evidence.toolkit_config
    try:
        mode = lookup(parse(file.text), MODE) if file else ""
    except TomlError:
        mode = ""
    if file and mode == "cdi":
        return f'{file.place(MODE_LINE)}: mode = "cdi": the nvidia runtime gives containers what it says'
    return decisions.cdi_wanted(evidence.context)


def _mend(evidence: Evidence) -> tuple[str, ...]:
    """Where the profile has nothing of CDI, an apply brings no specification."""
    return APPLY if decisions.cdi_wanted(evidence.context) else REFRESH


def _stale(evidence: Evidence) -> Proof | None:
    driver = evidence.context.facts.driver
    if driver is None or not evidence.cdi or not evidence.cdi[0].faults:
        return None
    if evidence.library_version not in ("", driver.version):
        return None  # a finding of its own: which of the two the specification should name is not settled
    if not evidence.units:
        return None  # not known: it may be being written now
    writer = evidence.units.get(SERVICE)
    if writer and writer.state.startswith("activating"):
        return None  # it is, or is about to be tried once more
    found = evidence.cdi[0]
    more = len(found.faults) - FAULTS_SHOWN
    lines = [f"{found.path}: {fault}" for fault in found.faults[:FAULTS_SHOWN]]
    lines += [f"{found.path}: and {more} more of the kind"] if more > 0 else []
    severity: Severity = "error" if _user(evidence) else "warning"
    words = {"path": found.path, "driver": driver.version}
    return Proof(tuple(lines), words, mend=_mend(evidence), severity=severity)


FINDINGS = (
    Known(
        id="cdi-spec-missing",
        step="container_toolkit",
        severity="error",
        title="Containers get their GPUs by CDI, and there is no CDI specification",
        sees="`CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0`",
        proof=f"{' and '.join(FOLDERS)} hold no specification of `{KIND}`, the driver is loaded, and the toolkit's mode is "
        "`cdi` or the profile wants CDI; or there is one, and the engine's log of this boot asks for a device that it does not name",
        cause=f"Neither {SERVICE} nor anybody else has written one since the host was started, or it was removed.",
        mend=APPLY,
        look=_missing,
        explains=(f"cdi:{KIND}",),
        references=(
            "NVIDIA/nvidia-container-toolkit#1239",
            "NVIDIA/nvidia-container-toolkit#434",
            "vespa-engine/vespa#27945",
        ),
        patterns=(r"unresolvable CDI devices (?P<devices>\S+)", r'could not select device driver "cdi"'),
    ),
    Known(
        id="cdi-spec-stale",
        step="container_toolkit",
        severity="error",
        title="The CDI specification is of another driver or of other devices",
        sees="`error mounting … libcuda.so.580.126.20 … no such file or directory` when a container with a GPU is started",
        proof=f"the specification of `{KIND}` that counts names libraries of another version than the loaded driver's, or paths "
        "that are not there",
        cause="{path} was written before the driver {driver} or the devices of this host became what they are, and nobody wrote it anew.",
        mend=APPLY,
        look=_stale,
        explains=(f"cdi:{KIND}",),
        references=(
            "Igalia/webkit-container-sdk#23",
            "podman-container-tools/podman#26233",
            "NVIDIA/nvidia-container-toolkit#692",
        ),
        patterns=(
            r"(?:error stat'ing file|cannot stat) `?(?P<path>\S+?)`?: No such file or directory",
            r'error mounting "(?P<path>\S+\.so\S*)" to rootfs.*no such file or directory',
        ),
    ),
)
