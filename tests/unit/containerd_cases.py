"""tests/cases/containerd read as its README tells: files, request, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.toml_data import parse

FOLDER = Path(__file__).parents[1] / "cases" / "containerd"
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpunode.toml"


@dataclass(frozen=True)
class Case:
    """One folder. `effective` is None where no binary's answer is expected."""

    name: str
    files: ConfigFiles
    request: Request
    expected: dict[str, str]
    error: str = ""
    place: str = ""
    repairs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    effective: list[dict[str, Any]] | None = None


def cases() -> list[Case]:
    """Every case, by name."""
    return [read_case(path.parent) for path in sorted(FOLDER.glob("*/host.toml"))]


def read_case(folder: Path) -> Case:
    """The case in a folder."""
    host = parse((folder / "host.toml").read_text("utf-8"))
    main = host.get("main", MAIN)
    names = host.get("files") or {path.name: f"/etc/containerd/conf.d/{path.name}" for path in _inside(folder, "*put")}
    drop_in = host.get("drop_in", DROP_IN)
    names.setdefault(drop_in.rpartition("/")[2], drop_in)
    imported = [ConfigFile(path, _text(folder / "input" / name)) for name, path in names.items()]
    given = tuple(file for file in imported if file.text is not None)
    files = ConfigFiles(ConfigFile(main, _text(folder / "input.toml")), given, drop_in, host.get("generated", False))
    expected = {names[path.name]: path.read_bytes().decode() for path in _inside(folder, "expected")}
    if (folder / "expected.toml").exists():
        expected[main] = (folder / "expected.toml").read_bytes().decode()
    request = {**host["request"], "leave": frozenset(host["request"].get("leave", ()))}
    effective = folder / "effective.toml"
    return Case(
        folder.name,
        files,
        Request(**request),
        expected,
        error=host.get("error", ""),
        place=host.get("place", ""),
        repairs=host.get("repairs", []),
        left=host.get("left", []),
        effective=parse(effective.read_text("utf-8"))["difference"] if effective.exists() else None,
    )


def after(files: ConfigFiles, edited: Edited) -> ConfigFiles:
    """The files once the edit is written; a new drop-in is read where its name puts it."""
    texts = {edit.path: edit.after for edit in edited.files}
    main = ConfigFile(files.main.path, texts.pop(files.main.path, files.main.text))
    imported = [replace(file, text=texts.pop(file.path, file.text)) for file in files.imported]
    folder = files.drop_in.rpartition("/")[0]
    for path, text in texts.items():
        later = [i for i, file in enumerate(imported) if file.path.rpartition("/")[0] == folder and file.path > path]
        imported.insert(later[0] if later else len(imported), ConfigFile(path, text))
    return replace(files, main=main, imported=tuple(imported))


def _inside(folder: Path, name: str) -> list[Path]:
    return sorted(path for each in folder.glob(name) if each.is_dir() for path in each.iterdir())


def _text(path: Path) -> str | None:
    return path.read_bytes().decode() if path.exists() else None
