"""What must be so before containerd reads its files at all, or reads of them what their authors meant: done before any key is set.

What each release does with keys of one config version in a file of another is told in catalog/containerd.toml.
"""

from __future__ import annotations

from gpunode.formats.containerd_files import File, View, table
from gpunode.formats.containerd_repairs import CRI_DISABLED, VERSION_MIXED
from gpunode.formats.engine_config import ConfigError
from gpunode.formats.toml_data import BOM, MISSING, Path, dotted, lookup
from gpunode.formats.toml_edit import EditError
from gpunode.formats.toml_rename import rename_table

MOVABLE = {"enable_cdi", "cdi_spec_dirs", "containerd", "runtimes", "default_runtime_name"}
"""Keys of version 2's CRI section that mean the same in version 3's; its others went to several sections."""


def make_readable(view: View) -> None:
    """Drop a byte order mark, and mend what is of another config version than the rest.

    Raises ConfigError where containerd does not start with the files as they are and what was meant is the operator's to say.
    """
    for file in view.files:
        _drop_bom(view, file)
    _say_version(view)
    for file in view.files[1:]:
        _agree_with_main(view, file)
    for file in view.files:
        if view.version == 2:
            _rename_version_1(view, file)


def _drop_bom(view: View, file: File) -> None:
    if file.text.startswith(BOM) and not view.release.reads_bom:
        why = f"containerd {view.request.version} does not read a file that begins with a byte order mark"
        view.tell(file, (), "byte order mark", None, why)
        file.replace(file.text.removeprefix(BOM))


def _say_version(view: View) -> None:
    """Version 2's section in files that come to version 1: nothing of it is read, silently."""
    two = view.known.layouts[2].cri
    meant = [file for file in view.files if lookup(file.data, two) is not MISSING]
    others = {view.known.layouts[1].cri, *({view.newest.cri} if view.reads_newest else ())}
    other = any(lookup(file.data, cri) is not MISSING for file in view.files for cri in others)
    if view.version != 1 or not meant or other or any(_short_names(view, file) for file in view.files):
        return
    what = f"{dotted(two)} in {meant[-1].path} is of config version 2, and {view.main.path} does not say that version"
    if view.may_edit(view.main) and not view.refused(VERSION_MIXED, what):
        why = f"without this line containerd takes the file for version 1 and passes over {dotted(two)}"
        _set_version(view, view.main, 2, why)


def _short_names(view: View, file: File) -> list[str]:
    """Names of version 1 by which containerd refuses a file of a later one."""
    listed = [*table(file.data, ("plugins",))]
    goes = set() if CRI_DISABLED in view.request.leave else {"cri"}
    for key in ("disabled_plugins", "required_plugins"):
        names = file.data.get(key)
        listed += [str(name) for name in names if name not in goes] if isinstance(names, list) else []
    return [name for name in listed if not name.startswith("io.containerd.")]


def _rename_version_1(view: View, file: File) -> None:
    """Version 1 names below plugins among files of version 2: containerd 1.x refuses them, 2.x reads or passes over plugins.cri."""
    refused = not view.reads_newest
    for name in [name for name in table(file.data, ("plugins",)) if not name.startswith("io.containerd.")]:
        if refused or name == "cri":
            _rename_short(view, file, name, refused=refused)


def _rename_short(view: View, file: File, name: str, *, refused: bool) -> None:
    path, new = ("plugins", name), view.known.short_names.get(name)
    taken = new is not None and lookup(file.data, ("plugins", new)) is not MISSING
    if new is not None and not taken and VERSION_MIXED not in view.request.leave:
        why = "the name is of config version 1, and containerd reads these files as version 2, which has this one"
        _rename(view, file, path, new, why)
    elif refused:
        advice = f"move its keys to {dotted(('plugins', new))}" if new else "give it the name that it has there"
        what = f"{dotted(path)} belongs to config version 1 and containerd refuses it in this version 2 file"
        raise ConfigError(f"{file.path}: {what}: {advice} or remove it")
    else:
        view.refused(VERSION_MIXED, f"{dotted(path)} in {file.path}")


def _agree_with_main(view: View, file: File) -> None:
    """A version line in an import counts for all files: one that is not the main file's has sections read under other names."""
    main, own = view.main.data.get("version"), file.data.get("version")
    if main in (None, 1) or own in (None, main):
        return
    old, new = (view.known.layouts[version].cri for version in (own, main))
    has = lookup(file.data, old) is not MISSING
    newest = any(each is not file and lookup(each.data, view.newest.cri) is not MISSING for each in view.files)
    moves = has and old != new and not (main == 2 and newest)  # there the newest names are read, too
    if own == 2 < main and not all(_movable(view, each) for each in view.files):
        return  # with version 2 the newer names are read, too; what is not read is brought over as from any dead section
    if moves and lookup(file.data, new) is not MISSING:
        return  # likewise
    what = f"{file.path} is of config version {own} and {view.main.path} of {main}"
    if view.refused(VERSION_MIXED, what):
        return
    why = f"its main file has version {main}, and the last version line that containerd reads counts for all files"
    if moves:
        _rename(view, file, old, new[-1], f"the section's name in config version {main}, which its main file has")
    _set_version(view, file, main, why)


def _movable(view: View, file: File) -> bool:
    """Whether all that the file says by older names can be said by the newest ones, and will be."""
    one, two = (lookup(file.data, view.known.layouts[version].cri) for version in (1, 2))
    if one is MISSING and two is MISSING:
        return True
    keys = {*two, *table(two, ("containerd",))} if isinstance(two, dict) else {""}
    newest = lookup(file.data, view.newest.cri)
    return one is MISSING and newest is MISSING and file.data.get("version") == 2 and keys <= MOVABLE


def _set_version(view: View, file: File, version: int, why: str) -> None:
    view.want_in(file, ("version",), version, why, repair=VERSION_MIXED)
    file.replace(file.after)
    file.wanted.clear()


def _rename(view: View, file: File, path: Path, name: str, why: str) -> None:
    new = (*path[:-1], name)
    try:
        text = rename_table(file.text, path, name)
    except EditError as error:
        raise ConfigError(f"{file.path}: {error}") from None
    view.tell(file, path, dotted(path), dotted(new), why, repair=VERSION_MIXED)
    file.replace(text)
    view.changed()
