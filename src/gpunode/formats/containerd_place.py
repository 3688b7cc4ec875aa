"""Which of containerd's files takes the keys that no file has yet, so that they take effect and nothing else changes."""

from __future__ import annotations

from gpunode.formats.containerd_files import File, View, folder
from gpunode.formats.containerd_imports import matching, patterns
from gpunode.formats.engine_config import ConfigError
from gpunode.formats.toml_data import MISSING, dotted, lookup


def choose(view: View) -> tuple[File, str]:
    """The file, which may be one that does not exist yet, and why that one.

    Raises ConfigError where there is none, or where the place that the operator asks for would reset others' settings.
    """
    if view.given.generated:
        return _beside_generated(view)
    if holder := view.holder((*view.layout.runtimes, view.request.runtime_name)):
        return holder, f"{_named(view, holder)}, because it defines the runtime {view.request.runtime_name} already"
    if view.release.imports_replace:
        return _where_section_counts(view)
    if view.request.place == "main":
        return view.main, "the main file, because containerd.place asks for it"
    if view.request.place == "drop-in":
        return _drop_in(view), "a drop-in, because containerd.place asks for it"
    if view.main.is_empty:
        return view.main, "the main file, because nobody has put anything into it yet"
    if not view.given.drop_in:
        return view.main, "the main file, because there is no place for a drop-in"
    return _drop_in(view), f"a drop-in, because containerd {view.request.version} merges it into the CRI section"


def told_of_main(view: View, home: File) -> str:
    """What becomes of the main file where the keys go elsewhere, as the end of the sentence on the place."""
    changed = {reason.path for reason in view.reasons if reason.file == view.main.path}
    if home is view.main or view.given.generated:
        return ""
    if not changed:
        return "; the main file stays as it is"
    if changed == {("imports",)}:
        return "; the main file is only told to import it"
    return "; in the main file only what keeps it from working changes"


def import_drop_in(view: View, home: File) -> None:
    """Give a new drop-in its version line, and have the main file import it where nothing does so yet."""
    if home.before is not None or home is view.main or not home.wanted:
        return
    version = view.version
    if version != 1 and (view.main.is_empty or view.main.data.get("version") == version):
        why = "a drop-in is of the main file's config version: the last version line counts for all files"
        view.want_in(home, ("version",), version, why)
        home.wanted = {("version",): version, **home.wanted}
    if is_imported(view) or view.given.generated:
        return
    if view.main.is_empty:
        view.want_in(view.main, ("version",), view.version, f"containerd {view.request.version} writes this version")
    imports = view.main.data.get("imports", [])
    if not isinstance(imports, list):
        raise ConfigError(f"{view.main.path}: imports is no list of files")
    why = "containerd reads a drop-in only where it is imported"
    view.want_in(view.main, ("imports",), [*imports, home.path], why)


def is_imported(view: View) -> bool:
    """Whether some file's imports cover the drop-in, were it there or not."""
    path = view.given.drop_in
    given = {file.path for file in view.given.imported}
    return path in given or any(_imports(view, file, path) for file in view.files)


def _imports(view: View, file: File, path: str) -> bool:
    relative = view.release.relative_imports
    found = patterns(file.path, file.data.get("imports"), relative=relative)
    return any(matching(each, [path]) for each in found)


def _beside_generated(view: View) -> tuple[File, str]:
    if view.request.place == "main":
        raise ConfigError(
            f'{view.main.path}: it is written anew at every start, so that containerd.place = "main" cannot be had'
        )
    entry = (*view.layout.runtimes, view.request.runtime_name)
    own = [file for file in view.files if view.may_edit(file) and lookup(file.data, entry) is not MISSING]
    home = own[-1] if own else _drop_in(view)
    return home, f"a drop-in, because {view.main.path} is written anew at every start"


def _where_section_counts(view: View) -> tuple[File, str]:
    """Where an imported file replaces the whole section: in the last file that has it."""
    section, release = view.layout.cri, f"containerd {view.request.version}"
    owners = view.live()
    owner = owners[-1] if owners else None
    replaces = f"in {release} an imported file replaces the whole CRI section"
    if owner is not None and owner is not view.main:
        return owner, f"{_named(view, owner)}, because {replaces}, and this is the last one that has it"
    if view.request.place != "drop-in":
        return view.main, f"the main file, because {replaces}"
    if owner is not None:
        raise ConfigError(
            f"{owner.path}: {replaces}, so that a drop-in would reset {dotted(section)}: leave containerd.place at auto"
        )
    return _drop_in(view), "a drop-in, because containerd.place asks for it, and no other file has the CRI section"


def _drop_in(view: View) -> File:
    """The drop-in, put where containerd will merge it if it is not there yet."""
    path = view.given.drop_in
    if not path:
        raise ConfigError(f"{view.main.path}: there is no place for a drop-in that containerd reads")
    if found := next((file for file in view.files if file.path == path), None):
        return found
    new = File(path, None, "", {})
    covered = is_imported(view)
    later = [
        index
        for index, file in enumerate(view.files)
        if covered and file is not view.main and folder(file.path) == folder(path) and file.path > path
    ]
    view.files.insert(later[0] if later else len(view.files), new)
    view.changed()
    return new


def _named(view: View, file: File) -> str:
    if file is view.main:
        return "the main file"
    return "the drop-in" if file.path == view.given.drop_in else file.path
