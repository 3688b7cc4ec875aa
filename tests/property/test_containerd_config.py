"""Laws of editing containerd's configuration, on generated files of every version, release and style, imports included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gpunode.formats.containerd_config import edit, revert
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.text_merge import lines_of
from gpunode.formats.toml_data import Path, leaves, lookup, parse

RELEASES = ["1.4.13", "1.6.20", "1.7.24", "2.0.5", "2.1.9", "2.3.1"]
MAIN, FOLDER = "/etc/containerd/config.toml", "/etc/containerd/conf.d"
DROP_IN = f"{FOLDER}/99-gpunode.toml"
NVIDIA, OTHER = "/usr/bin/nvidia-container-runtime", "/usr/local/nvidia/toolkit/nvidia-container-runtime"
TYPES = [
    '"io.containerd.runc.v2"',
    "'io.containerd.runc.v2'",
    '"io.containerd.runc.v1"',
    '"io.containerd.runtime.v1.linux"',
]
NOISE = ["", "", "", "", "# a comment\n", "\n", "    # indented\n", '#runtime_type = "x"\n', "# [plugins]\n"]
ROOT = ['root = "/var/lib/containerd"', "oom_score = -999", 'disabled_plugins = ["cri"]', "disabled_plugins = []"]
FOREIGN = [
    '[proxy_plugins.mine]\naddress = "/run/mine.sock" # added since\n',
    "# a remark\n",
    "[timeouts]\n  'io.containerd.timeout.task.state' = \"2s\"\n",
]


@dataclass(frozen=True)
class Example:
    """Files, and what they are to bring about."""

    files: ConfigFiles
    request: Request


@st.composite
def tables(draw: st.DrawFn, cri: Path) -> list[tuple[Path, list[str]]]:
    """Tables of a CRI section with their lines; what a GPU node's file may hold, and what older guides put there."""
    kind, option = st.sampled_from(TYPES), st.sampled_from(["true", "false"])
    binary = draw(st.sampled_from([f'"{NVIDIA}"', f"'{OTHER}'", '""']))
    image, root = draw(st.sampled_from(['"pause:3.9"', "'x'"])), draw(st.sampled_from(["", 'Root = "/r"']))
    section = draw(st.sampled_from(['default_runtime_name = "runc"', "snapshotter = 'overlayfs'", ""]))
    runc = draw(st.sampled_from([f"runtime_type = {draw(kind)}", "", 'runtime_engine = ""']))
    nvidia = draw(st.sampled_from([f"runtime_type = {draw(kind)}", ""]))
    runtimes = (*cri, "containerd", "runtimes")
    pool: list[tuple[Path, list[str]]] = [
        (cri, [f"sandbox_image = {image}", "max_container_log_line_size = 4096"]),
        ((*cri, "containerd"), [section]),
        (runtimes, []),
        ((*runtimes, "runc"), [runc]),
        ((*runtimes, "runc", "options"), [f"SystemdCgroup = {draw(option)}", root]),
        ((*runtimes, "kata"), ["runtime_type = 'io.containerd.kata.v2'"]),
        ((*runtimes, "nvidia"), [nvidia]),
        ((*runtimes, "nvidia", "options"), [f"BinaryName = {binary}", f"SystemdCgroup = {draw(option)}"]),
        ((*cri, "cni"), ["bin_dir = '/opt/cni/bin'"]),
        ((*cri, "registry", "mirrors", "docker.io"), ["endpoint = [", "  'https://a', # first", "  'https://b'", "]"]),
    ]
    return draw(st.lists(st.sampled_from(pool), max_size=len(pool), unique_by=lambda each: each[0]))


@st.composite
def texts(draw: st.DrawFn, version: int | None, cri: Path, *, imports: list[str]) -> str:
    """A file of that version in some style. A line that would make it no TOML is left out as it grows."""
    head = [f"version = {version}"] if version else []
    if imports:
        head.append(draw(st.sampled_from([f"imports = ['{imports[0]}']", f'imports = [\n  "{imports[0]}", # all\n]'])))
    head += draw(st.lists(st.sampled_from(ROOT), max_size=2, unique_by=lambda line: line.partition(" ")[0]))
    text = ""
    for line in draw(st.permutations(head)):
        text = _grown(text, draw(st.sampled_from(NOISE)) + f"{line}\n")
    shim = draw(st.sampled_from(['runtime = "nvidia-container-runtime"', "shim = 'x'"]))
    others: list[tuple[Path, list[str]]] = [
        (("grpc",), ["address = '/run/containerd/containerd.sock'"]),
        (("plugins", "io.containerd.runtime.v1.linux"), [shim]),
    ]
    chosen = [*draw(tables(cri)), *draw(st.lists(st.sampled_from(others), max_size=1))]
    for path, lines in draw(st.permutations(chosen)):
        text = _grown(text, draw(st.sampled_from(NOISE)))
        text = _grown(text, draw(written(path, [line for line in lines if line])))
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return text.replace("\n", "\r\n") if draw(st.integers(0, 4)) == 0 else text


@st.composite
def written(draw: st.DrawFn, path: Path, lines: list[str]) -> str:
    """A table as a header with its lines, as dotted keys of the root's, or as an inline table of its parent's."""
    mark = draw(st.sampled_from(['"', "'"]))
    parts = [part if part.replace("_", "").isalnum() else f"{mark}{part}{mark}" for part in path]
    style = draw(st.sampled_from(["header"] * 6 + ["inline"]))
    if style == "inline" and len(path) > 3 and all(" = " in line for line in lines):
        return f"[{'.'.join(parts[:-1])}]\n{parts[-1]} = {{ {', '.join(lines)} }}\n"
    indent = draw(st.sampled_from(["", "  ", "\t"]))
    comment = draw(st.sampled_from(["", "", " # why"]))
    return f"{indent}[{'.'.join(parts)}]{comment}\n" + "".join(f"{indent}  {line}\n" for line in lines)


def _grown(text: str, more: str) -> str:
    try:
        parse(text + more)
    except ValueError:
        return text
    return text + more


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """A main file, up to two imports, a release, and what is wished."""
    known, version_text = knowledge(), draw(st.sampled_from(RELEASES))
    release = known.release(version_text)
    version = draw(st.sampled_from([None, *(each for each in release.reads if each > 1)]))
    right = known.layouts[release.version_1_layout if version is None else version].cri
    other = draw(st.sampled_from([right] * 5 + [layout.cri for layout in known.layouts.values()]))
    names = draw(st.sampled_from([[], [], ["10-site.toml"], ["10-site.toml", "99-nvidia.toml"], ["99-gpunode.toml"]]))
    main = draw(texts(version, right, imports=[f"{FOLDER}/*.toml"] if names else []))
    imported = tuple(ConfigFile(f"{FOLDER}/{name}", draw(texts(version, other, imports=[]))) for name in names)
    request = Request(
        version=version_text,
        set_default=draw(st.booleans()),
        cdi=draw(st.sampled_from([None, None, True, False])) if release.cdi != "none" else None,
        kubernetes=draw(st.booleans()),
        systemd_cgroup=draw(st.sampled_from([None, True, False])),
        place=draw(st.sampled_from(["auto", "auto", "main"])),
    )
    return Example(ConfigFiles(ConfigFile(MAIN, main or None), imported, DROP_IN), request)


def _edit(example: Example) -> Edited:
    """The edit; a refusal that says what to do is no example."""
    try:
        return edit(example.files, example.request)
    except ConfigError as error:
        assume(not str(error).startswith("/"))  # it names the file and the key: nothing was edited
        raise


def _after(files: ConfigFiles, edited: Edited) -> ConfigFiles:
    texts = {each.path: each.after for each in edited.files}
    main = ConfigFile(files.main.path, texts.get(files.main.path, files.main.text))
    paths = sorted({each.path for each in files.imported} | (texts.keys() - {files.main.path}))
    before = {each.path: each.text for each in files.imported}
    return ConfigFiles(
        main, tuple(ConfigFile(path, texts.get(path, before.get(path))) for path in paths), files.drop_in
    )


def the_laws_hold(example: Example, foreign: str) -> None:
    """All laws of one edit."""
    edited = _edit(example)
    after = _after(example.files, edited)
    assert edit(after, example.request).files == (), "a second edit changes nothing"
    wanted = {(reason.file, reason.path) for reason in edited.reasons}
    for each in edited.files:
        before = each.before or ""
        _only_ours_differs(before, each.after, {path for file, path in wanted if file == each.path})
        _comments_and_order_survive(before, each.after)
        assert each.after.count("\r\n") == each.after.count("\n") or "\r\n" not in before
        assert revert(each.before, each.after, each.after) == each.before, "rollback after apply is the identity"
        _an_edit_made_since_is_kept(each.before, each.after, foreign)


def _only_ours_differs(before: str, after: str, ours: set[Path]) -> None:
    old, new = ({path: value for path, value in leaves(parse(text)) if value != {}} for text in (before, after))
    renamed = any(path[:2] == ("plugins", "cri") for path in ours)
    for path in old.keys() | new.keys():
        if path not in ours and not (renamed and path[:1] == ("plugins",)):
            assert path in old, f"{path} is new and nobody's"
            assert path in new, f"{path} is lost"
            assert old[path] == new[path], path
    for path in ours:
        assert lookup(parse(after), path) is not None


def _comments_and_order_survive(before: str, after: str) -> None:
    remaining = iter(line.strip("\r\n") for line in lines_of(after))
    for line in lines_of(before):
        if line.strip().startswith("#"):
            assert any(line.strip("\r\n") == each for each in remaining), f"lost: {line!r}"


def _an_edit_made_since_is_kept(before: str | None, written: str, foreign: str) -> None:
    ending = "\r\n" if "\r\n" in written else "\n"
    edit_since = foreign.replace("\n", ending)
    now = written + ("" if written.endswith("\n") else ending) + edit_since
    reverted = revert(before, written, now)
    if reverted is None:
        assert foreign.startswith("#"), "the file went although somebody had added settings to it"
        return
    assert edit_since in reverted
    expected: dict[Path, Any] = {path: value for path, value in leaves(parse(before or "")) if value != {}}
    expected |= {path: value for path, value in leaves(parse(foreign)) if value != {}}
    found = {path: value for path, value in leaves(parse(reverted)) if value != {}}
    assert found | {("version",): 0} == expected | {
        ("version",): 0
    }  # of a file that is new it stays: others depend on it


@given(examples(), st.sampled_from(FOREIGN))
def test_the_laws_of_an_edit(example: Example, foreign: str) -> None:
    the_laws_hold(example, foreign)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(examples(), st.sampled_from(FOREIGN))
def test_the_laws_of_an_edit_ten_thousand_times(example: Example, foreign: str) -> None:
    the_laws_hold(example, foreign)
