"""Where kubelet, containerd and the container toolkit must agree: the cgroup driver, and how containers get their devices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunode.findings import runtimes
from gpunode.findings.evidence import Evidence, upstream
from gpunode.findings.model import Known, Proof
from gpunode.formats.toml_data import TomlError, dotted, parse
from gpunode.host.facts import CGROUP_DRIVER
from gpunode.steps.decisions import version_tuple

MODE = r"^\s*mode\s*="
JIT_CDI_SINCE = (1, 18)
"""The toolkit's release whose mode `auto` takes CDI; before it `auto` was the legacy hook on a host like this."""


@dataclass(frozen=True)
class _Cgroup:
    """SystemdCgroup of one runtime: as the file says, and as it is in effect. None where nothing says it, which is false."""

    said: bool | None
    real: bool | None


def _options_lost(evidence: Evidence) -> Proof | None:
    """A runtime in effect whose cgroup driver is not the kubelet's, whether its file says so, says nothing, or is shadowed."""
    kubelet, config = evidence.kubelet, evidence.config
    found = re.search(CGROUP_DRIVER, kubelet.text, re.MULTILINE) if kubelet else None
    if kubelet is None or found is None or config.data is None or not evidence.toolkit_packages:
        return None
    wanted, both = found[1] == "systemd", _cgroups(evidence)
    wrong = {name: each for name, each in both.items() if bool(each.real) is not wanted}
    if not wrong:
        return None
    place = dotted(runtimes.place(config.data, evidence.context))
    lines = [f"{kubelet.place(CGROUP_DRIVER)}: cgroupDriver is {found[1]}"]
    lines += [_line(config.path, f"{place}.{name}.options", each, wanted) for name, each in wrong.items()]
    lines += [f"{each.path}: imported over it" for each in config.imported]
    words = {"runtimes": " and ".join(wrong), "driver": found[1]}
    return Proof(tuple(lines), words)


def _cgroups(evidence: Evidence) -> dict[str, _Cgroup]:
    config, own = evidence.config, evidence.context.profile.containerd.runtime_name
    said = runtimes.in_file(config.data or {}, evidence.context)
    real = runtimes.in_dump(config.effective or {})
    found = {}
    for name in ("runc", own):
        if name in said or name in real:
            file, dump = (runtimes.systemd_cgroup(each.get(name, {})) for each in (said, real))
            found[name] = _Cgroup(file, file if dump is None else dump)
    return found


def _line(path: str, table: str, found: _Cgroup, wanted: bool) -> str:
    shadowed = found.said is not None and found.said != found.real
    though = f" in effect, though the file says {_word(found.said)}" if shadowed else ""
    return f"{path}: {table}.SystemdCgroup is {_word(found.real)}{though}, wanted {_word(wanted)}"


def _word(value: bool | None) -> str:
    return "absent (false)" if value is None else str(value).lower()


def _unknown_error(evidence: Evidence) -> Proof | None:
    mode, line = _mode(evidence)
    config, name = evidence.config, evidence.context.profile.containerd.runtime_name
    if mode != "legacy" or config.data is None or not evidence.nodes or evidence.char_links:
        return None
    listed = runtimes.in_file(config.data, evidence.context) | runtimes.in_dump(config.effective or {})
    if name not in listed or not runtimes.systemd_cgroup(listed[name]):
        return None
    lines = (
        line,
        f"{config.path}: runtime {name} with SystemdCgroup = true",
        f"/dev: {', '.join(evidence.nodes)}, and no link to them in /dev/char (195:*)",
    )
    return Proof(lines)


def _mode(evidence: Evidence) -> tuple[str, str]:
    """The mode in which the toolkit's runtime works, and where that is seen; empty when it cannot be told."""
    file = evidence.toolkit_config
    try:
        section = parse(file.text).get("nvidia-container-runtime", {}) if file else {}
    except TomlError:
        return "", ""
    mode = section.get("mode", "auto") if file and isinstance(section, dict) else ""
    if file and mode == "legacy":
        return "legacy", f'{file.place(MODE)}: mode = "legacy", wanted "cdi" or "auto"'
    package = next(iter(evidence.toolkit_packages.values()), None)
    if file and mode == "auto" and package and version_tuple(upstream(package.version)) < JIT_CDI_SINCE:
        return "legacy", f'{file.path}: mode "auto" of toolkit {package.version}, which is the legacy hook'
    return "", ""


FINDINGS = (
    Known(
        id="runtime-options-lost",
        step="containerd",
        severity="error",
        title="kubelet and containerd disagree on the cgroup driver",
        sees="pods that fail to start, or are throttled and killed oddly, after GPU support was configured",
        proof="`SystemdCgroup` of runc or nvidia in effect is not what `cgroupDriver` in `/var/lib/kubelet/config.yaml` says",
        cause="The kubelet manages cgroups by {driver} and the runtime of {runtimes} does not: limits then count in two places.",
        mend=("gpunode apply --step containerd",),
        look=_options_lost,
        references=("k3s-io/k3s#8470", "kubernetes/kubernetes#89682", "puppetlabs/puppetlabs-kubernetes#717"),
        patterns=(
            r'[Cc]group driver: "?(?P<one>\w+)"? is different from \w+ cgroup driver: "?(?P<other>\w+)"?',
            r'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups',
        ),
    ),
    Known(
        id="nvml-unknown-error",
        step="container_toolkit",
        severity="warning",
        title="Containers will lose their GPU at the next daemon-reload",
        sees="`Failed to initialize NVML: Unknown Error` in containers that worked, after a `systemctl daemon-reload`",
        proof="the toolkit in legacy mode, the systemd cgroup driver, NVIDIA's nodes in `/dev`, and no `/dev/char/195:*`",
        cause="systemd renews the device rules of running containers at a daemon-reload and finds NVIDIA's nodes only by links in "
        "/dev/char, which are missing.",
        mend=("nvidia-ctk system create-dev-char-symlinks --create-all",),
        look=_unknown_error,
        references=("NVIDIA/nvidia-docker#1730", "NVIDIA/nvidia-container-toolkit#1227", "NVIDIA/nvidia-docker#1671"),
        patterns=(r"Failed to initialize NVML: Unknown Error",),
    ),
)
