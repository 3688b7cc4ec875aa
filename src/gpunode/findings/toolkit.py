"""The container toolkit's own settings, and what of the host it stumbles over: ldconfig, cgroups, a dead socket, SELinux."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpunode.findings.evidence import PERSISTENCED, Evidence, clock, upstream
from gpunode.findings.gather_containers import ldconfig_of
from gpunode.findings.kubernetes import MODE
from gpunode.findings.model import Known, Proof
from gpunode.formats.toml_data import TomlError, parse
from gpunode.host.facts import DRIVER_VERSION
from gpunode.steps.decisions import version_tuple

APPLY = ("gpunode apply --step container_toolkit",)
CONFIGURE = "nvidia-ctk config --in-place --set"
ROOT_LINE, LDCONFIG_LINE = r"^\s*root\s*=", r"^\s*ldconfig\s*="
DRIVER_ROOT = "/run/nvidia/driver"
FIRST_FOR_CGROUP_V2 = "1.8.0"
LIBRARY_PACKAGE = "libnvidia-container1"
SOCKET = "/run/nvidia-persistenced/socket"
LDCONFIG_FAILED = re.compile(
    r"ldcache error: (?:process (?P<path>\S+) (?:failed|terminated) with \S+.*|open failed: .*)"
)
DENIED = re.compile(r"avc:\s+denied.*(?:nvidia|xserver_misc_device_t)")
CONTAINER = "container_t"


def _settings(evidence: Evidence, section: str) -> Mapping[str, Any]:
    """A table of the toolkit's config.toml; empty where it has none, or cannot be read."""
    try:
        found = parse(evidence.toolkit_config.text).get(section, {}) if evidence.toolkit_config else {}
    except TomlError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _by_cdi(evidence: Evidence) -> bool:
    return _settings(evidence, "nvidia-container-runtime").get("mode") == "cdi"


def _driver_root(evidence: Evidence) -> Proof | None:
    file, root = evidence.toolkit_config, _settings(evidence, "nvidia-container-cli").get("root")
    there = evidence.paths.get(f"{DRIVER_ROOT}/usr")
    if file is None or root != DRIVER_ROOT or there is not False or evidence.context.facts.driver is None:
        return None
    lines = (
        f'{file.place(ROOT_LINE)}: root = "{root}", wanted "/"',
        f"{DRIVER_ROOT}: nothing in it",
        f"{DRIVER_VERSION}: {evidence.context.facts.driver.version} runs on the host itself",
    )
    return Proof(lines, {"path": file.path})


def _ldconfig(evidence: Evidence) -> Proof | None:
    file, said = evidence.toolkit_config, ldconfig_of(evidence.toolkit_config)
    path = said.removeprefix("@")
    if file and said.startswith("@") and evidence.paths.get(path) is False and not _by_cdi(evidence):
        lines = (
            f'{file.place(LDCONFIG_LINE)}: ldconfig = "{said}", wanted one that is there',
            f"{path}: not there",
        )
        return Proof(lines, {"why": f"{file.path} names {path}, which this host does not have"})
    failed = [line for line in evidence.asked.units or () if LDCONFIG_FAILED.search(line.text)]
    if not failed or evidence.context.facts.driver is None:
        return None
    logged = tuple(f"{line.program}: {clock(line.when)} {line.text}" for line in failed[-2:])
    mend = (f"{CONFIGURE} nvidia-container-runtime.mode=cdi  # which needs no ldconfig in the container", *APPLY)
    return Proof(logged, {"why": "it failed when a container was started"}, mend=mend)


def _cgroup_v2(evidence: Evidence) -> Proof | None:
    package = evidence.toolkit_packages.get(LIBRARY_PACKAGE)
    unaware = _settings(evidence, "nvidia-container-cli").get("no-cgroups") is True
    if package is None or not evidence.paths.get("/sys/fs/cgroup/cgroup.controllers") or unaware:
        return None
    version = upstream(package.version).partition("~")[0]
    if not version_tuple(version) or version_tuple(version) >= version_tuple(FIRST_FOR_CGROUP_V2):
        return None
    lines = (
        "/sys/fs/cgroup/cgroup.controllers: there, the host has the unified hierarchy",
        f"dpkg-query: {LIBRARY_PACKAGE} {package.version}, wanted {FIRST_FOR_CGROUP_V2} or newer",
    )
    return Proof(lines, {"version": version})


def _no_cgroups(evidence: Evidence) -> Proof | None:
    """A kubelet's engine is root's: containers then have the nodes, and may not open them."""
    file, value = evidence.toolkit_config, _settings(evidence, "nvidia-container-cli").get("no-cgroups")
    mode = _settings(evidence, "nvidia-container-runtime").get("mode")
    if file is None or value is not True or mode != "legacy" or not evidence.context.facts.kubelet:
        return None
    place = file.place(r"^\s*no-cgroups\s*=")
    lines = (f"{place}: no-cgroups = true, wanted false", f'{file.place(MODE)}: mode = "legacy"')
    return Proof(lines, {"place": place})


def _dead_socket(evidence: Evidence) -> Proof | None:
    unit = evidence.units.get(PERSISTENCED)
    if not evidence.paths.get(SOCKET) or unit is None or unit.active or evidence.asked.matching("nvidia-persiste"):
        return None
    return Proof((f"{SOCKET}: there", f"systemctl show {PERSISTENCED}: {unit.state}, wanted active"))


def _selinux(evidence: Evidence) -> Proof | None:
    if not evidence.boot.enforcing:
        return None
    logged = [line.text for line in evidence.asked.kernel or () if DENIED.search(line.text)]
    denied = [line for line in (*evidence.boot.denials, *logged) if CONTAINER in line]
    if not denied:
        return None
    target = re.search(r'(?:path|name)="([^"]+)"', denied[-1])
    lines = ("/sys/fs/selinux/enforce: 1", f"SELinux: {denied[-1]}")
    return Proof(lines, {"target": target[1] if target else "NVIDIA's devices"})


FINDINGS = (
    Known(
        id="toolkit-root-leftover",
        step="container_toolkit",
        severity="error",
        title="The container toolkit looks for the driver in a container that is not there",
        sees="`load library failed` or `driver error: failed to process request` although the host's driver works",
        proof="`nvidia-container-cli.root` is `/run/nvidia/driver` in the toolkit's configuration, that folder is empty, and the "
        "driver runs on "
        "the host",
        cause="{path} sends the toolkit to /run/nvidia/driver, where the GPU Operator's driver container once was, and the driver is at /.",
        mend=(f"{CONFIGURE} nvidia-container-cli.root=/",),
        look=_driver_root,
        explains=("library-unfound", "gpu-init-failed", "ldconfig-fails"),
        references=("NVIDIA/nvidia-docker#683", "NVIDIA/gpu-operator#375"),
    ),
    Known(
        id="toolkit-too-old-for-cgroupv2",
        step="container_toolkit",
        severity="error",
        title="The container toolkit is older than this host's cgroups",
        sees="`nvidia-container-cli: container error: cgroup subsystem devices not found`",
        proof="the unified cgroup hierarchy is mounted, libnvidia-container1 is older than 1.8.0, and it is not told to leave "
        "cgroups alone",
        cause="The host uses cgroup v2 alone, and libnvidia-container {version} knows only v1.",
        mend=APPLY,
        look=_cgroup_v2,
        explains=("plugin-no-resource", "packages:container toolkit"),
        references=("NVIDIA/nvidia-docker#1447", "NVIDIA/nvidia-docker#1660", "NVIDIA/libnvidia-container#151"),
        patterns=(
            r"container error: cgroup subsystem devices not found",
            r"failed to call BPF_PROG_ATTACH \(BPF_CGROUP_DEVICE",
        ),
    ),
    Known(
        id="toolkit-no-cgroups",
        step="container_toolkit",
        severity="error",
        title="The container toolkit leaves the device rules to nobody",
        sees="`Failed to initialize NVML: Unknown Error` at once in every container; with rootless engines and the reverse setting "
        "`bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted`",
        proof="`no-cgroups = true` and mode `legacy` in the toolkit's configuration on a host with a kubelet, whose engine is root's",
        cause="{place} is for engines without root: here containers get the nodes and are not allowed to open them.",
        mend=(
            f"{CONFIGURE} nvidia-container-cli.no-cgroups=false",
            f"{CONFIGURE} nvidia-container-runtime.mode=cdi  # instead, where rootless engines are here too: it serves both",
        ),
        look=_no_cgroups,
        explains=("plugin-no-resource",),
        references=(
            "NVIDIA/libnvidia-container#154",
            "NVIDIA/nvidia-container-toolkit#1487",
            "NVIDIA/nvidia-container-toolkit#580",
        ),
        patterns=(
            r"failed to add device rules:.*bpf_prog_query\(BPF_CGROUP_DEVICE\) failed: operation not permitted",
            r"/sys/fs/cgroup/devices/user\.slice/devices\.allow: permission denied",
        ),
    ),
    Known(
        id="ldconfig-fails",
        step="container_toolkit",
        severity="error",
        title="The container toolkit's ldconfig fails",
        sees="`nvidia-container-cli: ldcache error: process /sbin/ldconfig.real failed with error code: 1`, or `terminated with signal 9`",
        proof="`nvidia-container-cli.ldconfig` names a file that the host does not have, or the engine's log of this boot has the error",
        cause="The toolkit runs ldconfig for every GPU container, and {why}.",
        mend=(f"{CONFIGURE} nvidia-container-cli.ldconfig=@/sbin/ldconfig",),
        look=_ldconfig,
        explains=("plugin-no-resource",),
        references=(
            "NVIDIA/nvidia-docker#587",
            "NVIDIA/nvidia-container-toolkit#1246",
            "NVIDIA/k8s-device-plugin#1400",
        ),
        patterns=(
            r"ldcache error: process (?P<path>\S+) (?:failed with error code: (?P<code>\d+)|terminated with signal (?P<signal>\d+))",
            r"ldcache error: open failed: (?P<path>\S+): no such file or directory",
        ),
    ),
    Known(
        id="persistenced-socket-dead",
        step="driver",
        severity="error",
        title="A dead socket of the persistence daemon stops containers",
        sees="`mount error: file creation failed: …/run/nvidia-persistenced/socket: no such device or address`",
        proof=f"`{SOCKET}` is there, and the daemon does not run",
        cause="The persistence daemon is gone and left its socket, which the toolkit mounts into containers.",
        mend=(f"systemctl restart {PERSISTENCED}", f"rm {SOCKET}  # where the daemon is not wanted"),
        look=_dead_socket,
        explains=("plugin-no-resource",),
        references=("containerd/containerd#3151", "NVIDIA/nvidia-docker#1690", "NVIDIA/nvidia-docker#1300"),
        patterns=(r"file creation failed: \S*/nvidia-persistenced/socket: no such device or address",),
    ),
    Known(
        id="selinux-denies-gpu",
        step="container_toolkit",
        severity="error",
        title="SELinux denies containers the GPU",
        sees="`Failed to initialize NVML: Insufficient Permissions` in a container that works with `--privileged`",
        proof="SELinux enforces, and a line of this boot denies a container's domain one of NVIDIA's devices or files",
        cause="SELinux denied a container access to {target}.",
        mend=("setsebool -P container_use_devices on", "restorecon -v /dev/nvidia*"),
        look=_selinux,
        explains=("plugin-no-resource",),
        references=(
            "NVIDIA/nvidia-container-toolkit#33",
            "fedora-selinux/selinux-policy#1695",
            "redhat-et/triton-dev-containers#61",
        ),
        patterns=(
            r"avc:\s+denied\s+\{[^}]*\}.*(?:nvidia|xserver_misc_device_t)",
            r"Failed to initialize NVML: Insufficient Permissions",
        ),
    ),
)
