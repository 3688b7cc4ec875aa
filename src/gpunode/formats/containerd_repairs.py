"""What older guides left behind in containerd's configuration, set right; each repair is a finding, and can be refused."""

from __future__ import annotations

from collections.abc import Iterator

from gpunode.formats.containerd_files import File, View, table
from gpunode.formats.containerd_releases import Layout
from gpunode.formats.toml_data import MISSING, Path, Value, dotted, leaves, lookup

REMOVED_SHIM = "runtime-removed-shim"
LINUX_SHIM = "runtime-linux-shim"
TYPE_MISSING = "runtime-type-missing"
CRI_DISABLED = "cri-disabled"
VERSION_MIXED = "config-version-mixed"
DEFINED_TWICE = "runtime-defined-twice"


def repair(view: View) -> None:
    """Every repair of single keys."""
    _enable_cri(view)
    _revive_dead_sections(view)
    _repair_linux_shim(view)
    section = table(view.merged, (*view.layout.cri, "containerd"))
    legacy = [(name,) for name in ("default_runtime", "untrusted_workload_runtime") if name in section]
    for entry in [*(("runtimes", name) for name in view.runtimes), *legacy]:
        _repair_removed_shim(view, (*view.layout.cri, "containerd", *entry))
    for name in list(view.runtimes):
        _repair_missing_type(view, name)
    _settle_double_definition(view)


def _enable_cri(view: View) -> None:
    """Take CRI out of `disabled_plugins`, in whichever file it is: containerd joins these lists. Only a kubelet needs it."""
    if not view.request.kubernetes:
        return
    for file in view.files:
        disabled = file.data.get("disabled_plugins")
        if not isinstance(disabled, list):
            continue
        enabled = [name for name in disabled if name not in view.known.cri_plugins]
        if enabled != disabled and not view.refused(CRI_DISABLED, f"{file.path} disables the CRI plugin"):
            why = "the kubelet reaches containerd through the CRI plugin"
            view.want_in(file, ("disabled_plugins",), enabled, why, repair=CRI_DISABLED)


def _revive_dead_sections(view: View) -> None:
    """Bring what a section that is not read says of runtimes over to the one that is."""
    for file, layout in list(view.dead_sections()):
        if layout.version == view.version == 1:
            continue  # containerd 2.x has never read it: what the host runs with since its upgrade stays
        what = f"{dotted(layout.cri)} in {file.path} is not read by containerd {view.request.version}"
        carried = _carried(view, file, layout)
        if carried and not view.refused(VERSION_MIXED, what):
            replacing = view.live() if view.release.imports_replace else []
            home = replacing[-1] if replacing else file
            for path, value in carried.items():
                why = "it stands under the name that the section has in another config version, which is not read"
                view.want(path, value, why, home=home, repair=VERSION_MIXED)


def _carried(view: View, file: File, layout: Layout) -> dict[Path, Value]:
    """What a dead section says of runtimes and the one in effect says nothing of; our own runtime is set by itself."""
    request, found = view.request, dict[Path, Value]()
    for path, value in leaves(table(file.data, (*layout.cri, "containerd"))):
        target = (*view.layout.cri, "containerd", *path)
        is_runtime = path[0] == "runtimes" and len(path) > 2 and path[1] != request.runtime_name
        decided = request.systemd_cgroup is not None and path == ("runtimes", "runc", "options", "SystemdCgroup")
        is_default = path == ("default_runtime_name",) and not request.set_default
        says = value not in ("", [], {}) and view.lookup(target) is MISSING
        if says and ((is_runtime and not decided) or is_default):
            found[target] = value
    return found


def _repair_linux_shim(view: View) -> None:
    """The 2020 tutorial's way: the old shim's own runtime set to nvidia's."""
    shim = (*view.layout.linux_shim, "runtime")
    for file in view.files:
        runtime = lookup(file.data, shim)
        is_nvidia = isinstance(runtime, str) and runtime.rpartition("/")[2].startswith("nvidia-container-runtime")
        if is_nvidia and not view.refused(LINUX_SHIM, f"{dotted(shim)} in {file.path} is {runtime}"):
            why = "this ran every container of the old shim under the nvidia runtime; a runtime entry of its own replaces it"
            view.want_in(file, shim, "runc", why, repair=LINUX_SHIM)


def _repair_removed_shim(view: View, entry: Path) -> None:
    """The runtime type that took a removed one's place; it has the binary in its options and not beside them."""
    runtime, key = table(view.merged, entry), (*entry, "runtime_type")
    found, home = runtime.get("runtime_type"), view.holder(key)
    if not isinstance(found, str) or found not in view.known.removed_shims or home is None:
        return
    if view.refused(REMOVED_SHIM, f"{dotted(key)} in {home.path} is {found}", keeping=key):
        return
    why = f"{found} was removed in containerd {view.known.removed_shims[found]}"
    view.want_in(home, key, view.known.runc_type, why, repair=REMOVED_SHIM)
    own = entry == (*view.layout.runtimes, view.request.runtime_name)
    for old, option in view.known.linux_shim_settings.items():
        _move_shim_setting(view, entry, home, old, "" if own and option == "BinaryName" else option)


def _move_shim_setting(view: View, entry: Path, home: File, old: str, option: str) -> None:
    """What the removed type had beside it, put where its successor looks: beside it, it keeps the whole CRI plugin from loading."""
    runtime = table(view.merged, entry)
    value = runtime.get(old)
    if not value:
        return
    if option and option not in table(runtime, ("options",)):
        why = f"{view.known.runc_type} does not read {old}, this is where it looks for it"
        view.want_in(home, (*entry, "options", option), value, why, repair=REMOVED_SHIM)
    why = f"CRI does not load where an entry of another type than the removed shim has a {old}"
    view.want((*entry, old), "", why, home=home, repair=REMOVED_SHIM)


def _repair_missing_type(view: View, name: str) -> None:
    """An entry without a runtime type starts no container. Of others' only what has runc's own option is known to be runc-like."""
    entry = (*view.layout.runtimes, name)
    runtime, key = table(view.runtimes, (name,)), (*entry, "runtime_type")
    built_in = name == "runc" and view.release.typeless_runc
    runs_by_runc = name in ("runc", view.request.runtime_name) or "BinaryName" in table(runtime, ("options",))
    home = view.holder(entry)
    if runtime.get("runtime_type") or built_in or not runs_by_runc or home is None:
        return
    if not isinstance(lookup(view.merged, entry), dict):
        return
    if not view.refused(TYPE_MISSING, f"{dotted(entry)} in {home.path} has no runtime_type", keeping=key):
        why = f"{name} is listed without a runtime type, and then starts no container"
        view.want(key, view.known.runc_type, why, home=home, repair=TYPE_MISSING)


def _settle_double_definition(view: View) -> None:
    """One runtime with several binaries: what takes effect must be the right one, wherever the others stand."""
    path = (*view.layout.runtimes, view.request.runtime_name, "options", "BinaryName")
    home = view.holder(path)
    if home is None or lookup(home.data, path) == view.request.binary:
        return
    found = lookup(home.data, path)
    others = [f"{value} in {where}" for where, value in _definitions(view) if value != found]
    if not others:
        return
    what = f"{view.request.runtime_name} runs {found} by {home.path}, and {' and '.join(others)}"
    if not view.refused(DEFINED_TWICE, what, keeping=path):
        why = f"the runtime is defined twice, and this one takes effect; {' and '.join(others)} does not"
        view.want_in(home, path, view.request.binary, why, repair=DEFINED_TWICE)


def _definitions(view: View) -> Iterator[tuple[str, str]]:
    """Where the runtime's binary is named, in whichever file and under whichever section name, and as what."""
    for file in view.files:
        for cri in dict.fromkeys(layout.cri for layout in view.known.layouts.values()):
            value = lookup(
                file.data, (*cri, "containerd", "runtimes", view.request.runtime_name, "options", "BinaryName")
            )
            if isinstance(value, str):
                yield (file.path if cri == view.layout.cri else f"{file.path} under {dotted(cri)}"), value
