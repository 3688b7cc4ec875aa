"""The nvidia runtime in containerd's config.toml, for every config version and release.

The file keeps its version and its section names; what is repaired besides is what would keep the runtime, or the whole
CRI plugin, from working. Every change comes with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpunode.formats import toml_edit
from gpunode.formats.containerd_releases import ConfigError, Knowledge, Layout, Release, knowledge
from gpunode.formats.toml_data import BOM, MISSING, Path, Value, dotted, leaves, lookup, parse, same

__all__ = [
    "ConfigError",
    "Patched",
    "Reason",
    "Request",
    "effective_difference",
    "patch",
    "revert",
    "runtime_keys",
    "unintended",
]

# One effective setting that differs: its path, its value before and after (None where it is absent).
Difference = tuple[Path, Any, Any]


@dataclass(frozen=True)
class Request:
    """What the file should bring about.

    systemd_cgroup is runc's SystemdCgroup where the operator or the kubelet's cgroupDriver decides it; None leaves it
    as the file has it, and in a new file on a Kubernetes node makes it true. enable_cdi None leaves CDI as it is.
    """

    containerd_version: str
    runtime_name: str = "nvidia"
    binary: str = "/usr/bin/nvidia-container-runtime"
    set_default: bool = False
    enable_cdi: bool | None = None
    kubernetes: bool = True
    systemd_cgroup: bool | None = None


@dataclass(frozen=True)
class Reason:
    """One change: found is None where the key was absent."""

    path: Path
    found: Any
    wanted: Any
    why: str


@dataclass(frozen=True)
class Patched:
    """The new text, why it differs, and the runtimes that the file did not list before."""

    text: str
    reasons: list[Reason]
    new_runtimes: tuple[str, ...]


def runtime_keys(
    config_version: int,
    *,
    containerd_version: str,
    runtime_name: str = "nvidia",
    binary: str = "/usr/bin/nvidia-container-runtime",
    options_like_runc: Mapping[str, Any] | None = None,
    set_default: bool = False,
    enable_cdi: bool | None = None,
) -> dict[Path, Value]:
    """The keys of the nvidia runtime with the section names that this release reads from a file of config_version.

    options_like_runc are runc's own options: those that say something are copied, all but its binary.
    Raises ConfigError when the release does not read that config version or has no CDI.
    """
    known = knowledge()
    release = known.release(containerd_version)
    layout = _layout(known, release, config_version, containerd_version)
    keys: dict[Path, Value] = {}
    if set_default:
        keys[(*layout.cri, "containerd", "default_runtime_name")] = runtime_name
    entry = (*layout.runtimes, runtime_name)
    keys[(*entry, "runtime_type")] = known.runc_type
    keys[(*entry, "options", "BinaryName")] = binary
    for option, value in (options_like_runc or {}).items():
        if option != "BinaryName" and (value or option == "SystemdCgroup"):
            keys[(*entry, "options", option)] = value
    if enable_cdi is not None and release.cdi == "none":
        raise ConfigError(f"containerd {containerd_version} has no CDI, 1.7 is the first that does")
    if enable_cdi is not None:
        keys[(*layout.cri, "enable_cdi")] = enable_cdi
    return keys


def patch(text: str | None, request: Request) -> Patched:
    """The config file with the nvidia runtime in it; None stands for a file that does not exist.

    Raises TomlError when the text is not TOML, ConfigError when this containerd cannot read such a file, and EditError
    when a key cannot be set without touching others.
    """
    known = knowledge()
    release = known.release(request.containerd_version)
    data = parse(text or "")
    version = data.get("version", 1) if data else release.writes
    layout = _layout(known, release, version, request.containerd_version)
    _refuse_mixed_versions(data, version, release, known)
    changes = _Changes(data, known, layout, request)
    text = _without_bom(text or "", release, changes)
    if not data:
        changes.want(("version",), version, f"containerd {request.containerd_version} writes config version {version}")
    _enable_cri(changes)
    _repair_shims(changes)
    options = _runc(changes, release)
    _nvidia(changes, release, version, options)
    listed = changes.runtimes.keys()
    new = {path[len(layout.runtimes)] for path in changes.wanted if path[: len(layout.runtimes)] == layout.runtimes}
    return Patched(toml_edit.set_keys(text, changes.wanted), changes.reasons, tuple(sorted(new - listed)))


def revert(before: str | None, written: str, now: str) -> str | None:
    """As toml_edit.revert, with what other entries of the file depend on kept in place.

    The version line of a file that gpunode created, and runc beside runtimes that somebody else has listed since, stay.
    """
    anchors: list[Path] = [("version",)]
    for layout in knowledge().layouts.values():
        ours, found = (_table(parse(text), layout.runtimes) for text in (written, now))
        if found.keys() - ours.keys():
            anchors += [(*layout.runtimes, "runc", *path) for path, _ in leaves(ours.get("runc", {}))]
    return toml_edit.revert(before, written, now, anchors=anchors)


def effective_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs between two parsed `containerd config dump` documents."""
    old, new = dict(leaves(before)), dict(leaves(after))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        (path, old.get(path), new.get(path))
        for path in paths
        if not same(old.get(path, MISSING), new.get(path, MISSING))
    ]


def unintended(differences: Iterable[Difference], patched: Patched) -> list[Difference]:
    """The effective differences that none of the patch's reasons accounts for.

    containerd prints every file in its own newest version: sections are compared by what they are, not by their names.
    A runtime that is listed for the first time may lack settings whose absence means the same.
    """
    known = knowledge()
    wanted = {_unversioned(reason.path, known): reason.wanted for reason in patched.reasons}
    return [each for each in differences if not _intended(_unversioned(each[0], known), each, wanted, patched, known)]


# --- deciding ----------------------------------------------------------------------------------------------------


@dataclass
class _Changes:
    """The keys to set, gathered against the file as it is."""

    data: dict[str, Any]
    known: Knowledge
    layout: Layout
    request: Request
    wanted: dict[Path, Value] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def runtimes(self) -> dict[str, Any]:
        return _table(self.data, self.layout.runtimes)

    def want(self, path: Path, value: Value, why: str) -> None:
        found = lookup(self.data, path)
        if not same(found, value) and path not in self.wanted:
            self.wanted[path] = value
            self.reasons.append(Reason(path, None if found is MISSING else found, value, why))


def _layout(known: Knowledge, release: Release, version: object, containerd_version: str) -> Layout:
    if not isinstance(version, int) or isinstance(version, bool) or version not in release.reads:
        readable = " and ".join(str(each) for each in release.reads)
        raise ConfigError(
            f"config version {version!r} is not read by containerd {containerd_version}, which reads {readable}"
        )
    return known.layouts[release.version_1_layout if version == 1 else version]


def _refuse_mixed_versions(data: dict[str, Any], version: int, release: Release, known: Knowledge) -> None:
    """plugins.cri in a version 2 file stops containerd 1.x at its start; what was meant is the operator's to say."""
    section = known.layouts[1].cri
    if version == 2 and release.version_1_layout == 1 and lookup(data, section) is not MISSING:
        raise ConfigError(
            f"{dotted(section)} belongs to config version 1 and containerd refuses it in this version 2 file: "
            f"move its keys to {dotted(known.layouts[2].cri)} or remove it"
        )


def _without_bom(text: str, release: Release, changes: _Changes) -> str:
    if not text.startswith(BOM) or release.reads_bom:
        return text
    why = f"containerd {changes.request.containerd_version} does not read a file that begins with a byte order mark"
    changes.reasons.append(Reason((), "byte order mark", None, why))
    return text.removeprefix(BOM)


def _enable_cri(changes: _Changes) -> None:
    disabled = changes.data.get("disabled_plugins")
    if isinstance(disabled, list):
        enabled = [name for name in disabled if name not in changes.known.cri_plugins]
        changes.want(("disabled_plugins",), enabled, "the kubelet reaches containerd through the CRI plugin")


def _repair_shims(changes: _Changes) -> None:
    shim = (*changes.layout.linux_shim, "runtime")
    runtime = lookup(changes.data, shim)
    if isinstance(runtime, str) and runtime.endswith("nvidia-container-runtime"):
        why = (
            "this ran every container of the old shim under the nvidia runtime; a runtime entry of its own replaces it"
        )
        changes.want(shim, "runc", why)
    section = _table(changes.data, (*changes.layout.cri, "containerd"))
    entries: list[Path] = [("runtimes", name) for name in changes.runtimes]
    entries += [(name,) for name in ("default_runtime", "untrusted_workload_runtime") if name in section]
    for entry in entries:
        _repair_shim(changes, (*changes.layout.cri, "containerd", *entry))


def _repair_shim(changes: _Changes, entry: Path) -> None:
    """The runtime type that took a removed one's place; it has the binary in its options and not beside them."""
    runtime = _table(changes.data, entry)
    found = runtime.get("runtime_type")
    if not isinstance(found, str) or found not in changes.known.removed_shims:
        return
    why = f"{found} was removed in containerd {changes.known.removed_shims[found]}"
    changes.want((*entry, "runtime_type"), changes.known.runc_type, why)
    engine = runtime.get("runtime_engine")
    own = entry == (*changes.layout.runtimes, changes.request.runtime_name)
    if engine and not own and "BinaryName" not in _table(runtime, ("options",)):
        why = f"{changes.known.runc_type} does not read runtime_engine, this is where it looks for the binary"
        changes.want((*entry, "options", "BinaryName"), engine, why)


def _runc(changes: _Changes, release: Release) -> dict[str, Any]:
    """Lists runc where it must be and settles its cgroup driver; returns the options that nvidia takes over."""
    entry = (*changes.layout.runtimes, "runc")
    runc = _table(changes.data, entry)
    options = dict(_table(changes.data, (*entry, "options")))
    cgroup = _systemd_cgroup(changes.request, new_file=not changes.data)
    sets_cgroup = cgroup is not None and options.get("SystemdCgroup", False) != cgroup
    if not runc.get("runtime_type"):
        if "runc" in changes.runtimes:
            why = "runc is listed without a runtime type, and then starts no container"
            changes.want((*entry, "runtime_type"), changes.known.runc_type, why)
        elif release.replaces_runtimes and _loses_runc(changes):
            why = f"in containerd {changes.request.containerd_version} listing any runtime takes the built-in runc away"
            changes.want((*entry, "runtime_type"), changes.known.runc_type, why)
        elif sets_cgroup:
            changes.want((*entry, "runtime_type"), changes.known.runc_type, "runc's options are set, so it is listed")
    if sets_cgroup:
        options["SystemdCgroup"] = cgroup
        why = "the kubelet and the runtimes must use the same cgroup driver, on Kubernetes the systemd one by default"
        changes.want((*entry, "options", "SystemdCgroup"), bool(cgroup), why)
    return options


def _systemd_cgroup(request: Request, *, new_file: bool) -> bool | None:
    if request.systemd_cgroup is None and new_file and request.kubernetes:
        return True
    return request.systemd_cgroup


def _loses_runc(changes: _Changes) -> bool:
    """Whether runc is there now by default, or is the default runtime and missing already."""
    default = lookup(changes.data, (*changes.layout.cri, "containerd", "default_runtime_name"))
    return lookup(changes.data, changes.layout.runtimes) is MISSING or default in {MISSING, "", "runc"}


def _nvidia(changes: _Changes, release: Release, version: int, options: Mapping[str, Any]) -> None:
    request = changes.request
    cdi = None if _cdi_is(changes, release, request.enable_cdi) else request.enable_cdi
    keys = runtime_keys(
        version,
        containerd_version=request.containerd_version,
        runtime_name=request.runtime_name,
        binary=request.binary,
        options_like_runc=options,
        set_default=request.set_default,
        enable_cdi=cdi,
    )
    for path, value in keys.items():
        changes.want(path, value, _why(path, changes))


def _cdi_is(changes: _Changes, release: Release, wanted: bool | None) -> bool:
    """Whether CDI is as wanted without a word in the file, or by one that is there."""
    found = lookup(changes.data, (*changes.layout.cri, "enable_cdi"))
    return (release.cdi == "on" if found is MISSING else found) is wanted


def _why(path: Path, changes: _Changes) -> str:
    name = changes.request.runtime_name
    if path[-1] == "runtime_type":
        return f"pods of the RuntimeClass {name} need a runtime of that name{_dead_entry(changes)}"
    if path[-1] == "BinaryName":
        return "this is the binary that puts the GPUs into a container before it calls runc"
    if path[-1] == "default_runtime_name":
        return f"the profile makes {name} the runtime of every pod that names none"
    if path[-1] == "enable_cdi":
        return "the profile decides whether containers get devices by their CDI names"
    return "the option is as runc's in this file"


def _dead_entry(changes: _Changes) -> str:
    """A hint at an entry that is in the file already, under a section name that is not read there."""
    for layout in changes.known.layouts.values():
        entry = (*layout.runtimes, changes.request.runtime_name)
        if layout.cri != changes.layout.cri and lookup(changes.data, entry) is not MISSING:
            version = changes.request.containerd_version
            return f"; the one under {dotted(layout.cri)} is not read from this file by containerd {version}"
    return ""


def _table(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = lookup(data, path)
    return found if isinstance(found, dict) else {}


# --- comparing ---------------------------------------------------------------------------------------------------


def _unversioned(path: Path, known: Knowledge) -> Path:
    """The path with one name for a section that has another in every config version."""
    for layout in known.layouts.values():
        for name, section in (("cri", layout.cri), ("linux_shim", layout.linux_shim)):
            if path[: len(section)] == section:
                return (name, *path[len(section) :])
    return path


def _intended(
    path: Path, difference: Difference, wanted: Mapping[Path, Any], patched: Patched, known: Knowledge
) -> bool:
    full_path, found, after = difference
    if path in wanted:
        return same(wanted[path], after)
    if path == ("imports",):
        return _is_candidate_beside(found, after)
    if found == {} and any(each[: len(path)] == path for each in wanted):
        return True
    if found is None and ("disabled_plugins",) in wanted and known.cri_plugins & set(full_path[1:2]):
        return True  # CRI was off, and its whole section was absent
    if path[:3] != ("cri", "containerd", "runtimes") or len(path) < 5 or path[3] not in patched.new_runtimes:
        return False
    implied = known.implied.get(path[-1])
    return bool((found or implied or None) == (after or implied or None))


def _is_candidate_beside(found: Any, after: Any) -> bool:
    """containerd 1.x prints the name of the file it reads among the imports; that of a candidate is another one."""
    old, new = (set(each) if isinstance(each, list) else set() for each in (found, after))
    return len(old - new) <= 1 and len(new - old) <= 1
