"""The nvidia runtime in containerd's configuration, for every config version and release.

The files keep their version and their section names; what is repaired besides is what would keep the runtime, or the whole
CRI plugin, from working. Every change comes with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunode.formats import toml_edit
from gpunode.formats.containerd_files import File, View, table
from gpunode.formats.containerd_place import choose, import_drop_in, told_of_main
from gpunode.formats.containerd_proof import effective_difference, unintended, without_effect
from gpunode.formats.containerd_readable import make_readable
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.containerd_repairs import repair
from gpunode.formats.engine_config import ConfigError, ConfigFiles, Edited, FileEdit, Request
from gpunode.formats.engine_keys import OTHER_BINARY
from gpunode.formats.toml_data import MISSING, Path, dotted, leaves, lookup, parse
from gpunode.formats.toml_rename import rename_table

__all__ = ["ConfigError", "edit", "effective_difference", "revert", "unintended", "without_effect"]

STYLE = "containerd"
CDI_FOLDERS = (("/etc/cdi",), ("/var/run/cdi", "/run/cdi"))
"""Where NVIDIA's tools write specifications, each folder by all the names that it has."""


def edit(files: ConfigFiles, request: Request) -> Edited:
    """The files with the nvidia runtime in them.

    Raises TomlError when the main file is not TOML, ConfigError when this containerd cannot read such files, and EditError when a
    key cannot be set without touching others.
    """
    view = View(files, request)
    make_readable(view)
    view.refuse_obstacles()
    repair(view)
    home, place = choose(view)
    if home is view.main and home.is_empty:
        why = f"containerd {request.version} writes config version {view.version}"
        view.want_in(home, ("version",), view.version, why)
    options = _runc(view, home)
    _nvidia(view, home, options)
    _cdi(view, home)
    import_drop_in(view, home)
    return Edited(_edits(view), tuple(view.reasons), place + told_of_main(view, home), tuple(view.left))


def revert(before: str | None, written: str, now: str) -> str | None:
    """As toml_edit.revert, with what other entries of the file depend on kept in place, and renamed sections named as before.

    The version line of a file that gpunode created, and runc beside runtimes that somebody else has listed since, stay.
    """
    if now == written:
        return before
    for section, name in _renamed(before, written):
        written, now = (_named_back(text, section, name) for text in (written, now))
    anchors: list[Path] = [] if parse(before or "") else [("version",)]
    for layout in knowledge().layouts.values():
        ours, found = (table(parse(text), layout.runtimes) for text in (written, now))
        if found.keys() - ours.keys():
            anchors += [(*layout.runtimes, "runc", *path) for path, _ in leaves(ours.get("runc", {}))]
    return toml_edit.revert(before, written, now, anchors=anchors)


def _renamed(before: str | None, written: str) -> list[tuple[Path, str]]:
    """The plugins that have another name since, with their old one."""
    known = knowledge()
    sections = list(dict.fromkeys(layout.cri[-1] for layout in known.layouts.values()))
    pairs = [*known.short_names.items(), *((old, new) for old in sections for new in sections)]
    old, new = (table(parse(text or ""), ("plugins",)).keys() for text in (before, written))
    found: dict[str, str] = {}
    for a, b in pairs:
        if a in old - new and b in new - old and b not in found and a not in found.values():
            found[b] = a
    return [(("plugins", b), a) for b, a in found.items()]


def _named_back(text: str, section: Path, name: str) -> str:
    try:
        return rename_table(text, section, name) if lookup(parse(text), section) is not MISSING else text
    except (toml_edit.EditError, toml_edit.TomlError) as error:
        raise toml_edit.RevertConflict(f"the file was changed since and cannot be taken back: {error}", "") from None


def _edits(view: View) -> tuple[FileEdit, ...]:
    """The files that differ from what they were. Raises EditError, with the file named where it is not the main one."""
    found = []
    for file in view.files:
        try:
            after = file.after
        except toml_edit.EditError as error:
            if file is view.main:
                raise
            raise ConfigError(f"{file.path}: {error}") from None
        if after != (file.before or ""):
            found.append(FileEdit(file.path, file.before, after, STYLE))
    return tuple(found)


# --- runc ----------------------------------------------------------------------------------------------------------


def _runc(view: View, home: File) -> dict[str, Any]:
    """List runc where it must be and settle its cgroup driver; returns the options that nvidia takes over."""
    entry = (*view.layout.runtimes, "runc")
    options = dict(table(view.merged, (*entry, "options")))
    cgroup = _systemd_cgroup(view)
    sets_cgroup = cgroup is not None and options.get("SystemdCgroup", False) != cgroup
    if "runc" not in view.runtimes:
        _list_runc(view, home, (*entry, "runtime_type"), sets_cgroup)
    if sets_cgroup and cgroup is not None:
        asked = view.request.systemd_cgroup is not None
        whose = (
            f"the kubelet's is {'systemd' if cgroup else 'cgroupfs'}"
            if asked
            else "on Kubernetes the systemd one by default"
        )
        why = f"the kubelet and the runtimes must use the same cgroup driver: {whose}"
        view.want((*entry, "options", "SystemdCgroup"), cgroup, why, home=home)
    own = table(view.merged, (*view.layout.runtimes, view.request.runtime_name, "options"))
    if cgroup is not None and (sets_cgroup or own.get("SystemdCgroup", False) != cgroup):
        options["SystemdCgroup"] = cgroup
    return options


def _list_runc(view: View, home: File, path: Path, sets_cgroup: bool) -> None:
    if view.release.replaces_runtimes and not view.given.generated and _loses_runc(view):
        why = f"in containerd {view.request.version} listing any runtime takes the built-in runc away"
        view.want(path, view.known.runc_type, why, home=home)
    elif sets_cgroup and not view.given.generated:
        view.want(path, view.known.runc_type, "runc's options are set, so it is listed", home=home)


def _systemd_cgroup(view: View) -> bool | None:
    is_new = view.says_nothing and not view.given.generated
    if view.request.systemd_cgroup is None and is_new and view.request.kubernetes:
        return True
    return view.request.systemd_cgroup


def _loses_runc(view: View) -> bool:
    """Whether runc is there now by default, or is missing although no other runtime has taken its place."""
    default = view.lookup((*view.layout.cri, "containerd", "default_runtime_name"))
    known = (MISSING, "", "runc", view.request.runtime_name)
    return lookup(view.merged, view.layout.runtimes) is MISSING or default in known


# --- nvidia, CDI ---------------------------------------------------------------------------------------------------


def _nvidia(view: View, home: File, options: Mapping[str, Any]) -> None:
    """The runtime's own entry; options as runc's, of which only those that say something."""
    request, entry = view.request, (*view.layout.runtimes, view.request.runtime_name)
    if request.set_default:
        why = f"the profile makes {request.runtime_name} the runtime of every pod that names none"
        view.want((*view.layout.cri, "containerd", "default_runtime_name"), request.runtime_name, why, home=home)
    why = f"pods of the RuntimeClass {request.runtime_name} need a runtime of that name{_dead_entry(view)}"
    view.want((*entry, "runtime_type"), view.known.runc_type, why, home=home)
    _binary(view, (*entry, "options", "BinaryName"), home)
    for option, value in options.items():
        if option != "BinaryName" and (value or option == "SystemdCgroup"):
            view.want((*entry, "options", option), value, "the option is as runc's", home=home)


def _binary(view: View, path: Path, home: File) -> None:
    """The toolkit's runtime; another one's is replaced as a repair, which the operator can refuse."""
    found, wanted = view.lookup(path), view.request.binary
    other = found not in (MISSING, "", wanted)
    if other and view.refused(OTHER_BINARY, f"{dotted(path)} is {found}", keeping=path):
        return
    why = "this is the binary that puts the GPUs into a container before it calls runc"
    view.want(path, wanted, why, home=home, repair=OTHER_BINARY if other else "")


def _dead_entry(view: View) -> str:
    """A hint at an entry that is there already, under a section name that is not read."""
    for file, layout in view.dead_sections():
        if lookup(file.data, (*layout.runtimes, view.request.runtime_name)) is not MISSING:
            release = f"containerd {view.request.version}"
            return f"; the one under {dotted(layout.cri)} is not read from {file.path} by {release}"
    return ""


def _cdi(view: View, home: File) -> None:
    """enable_cdi as the profile wants it, and the two folders where specifications lie; nothing that is so by default."""
    wanted, release = view.request.cdi, view.release
    if wanted is None or (release.cdi == "none" and not wanted):
        return
    if release.cdi == "none":
        raise ConfigError(f"containerd {view.request.version} has no CDI, 1.7 is the first that does")
    path = (*view.layout.cri, "enable_cdi")
    found = view.lookup(path)
    if (release.cdi == "on" if found is MISSING else found) is not wanted:
        view.want(path, wanted, "the profile decides whether containers get devices by their CDI names", home=home)
    folders = view.lookup((*view.layout.cri, "cdi_spec_dirs"))
    missing = [names[0] for names in CDI_FOLDERS if isinstance(folders, list) and not set(names) & set(folders)]
    if wanted and missing:
        why = "NVIDIA's tools write the specifications of the GPUs there"
        view.want((*view.layout.cri, "cdi_spec_dirs"), [*folders, *missing], why, home=home)
