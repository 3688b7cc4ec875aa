"""The house's rules: who may do what, and who may know whom."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

import gpunode
from gpunode.host.reader import Reader
from gpunode.host.verbs import VERBS
from gpunode.host.writer import Writer

ROOT = Path(gpunode.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)
LINES_AT_MOST = 400

# Each room may know those named, itself, and the leaves.
LEAVES = {"errors", "formats", "catalog", "profile"}
MAY_KNOW = {
    "errors": set(),
    "formats": {"errors"},
    "catalog": {"errors", "formats"},
    "profile": {"errors", "formats", "catalog"},
    "host": set(),
    "resources": {"host"},
    "steps": {"host", "resources"},
    "probes": {"host", "resources", "steps"},
    "findings": {"host", "resources", "steps", "probes"},
    "engine": {"host", "resources", "probes", "findings", "steps"},
    "report": {"engine", "host"},
    "cli": {"engine", "report", "steps", "host"},
    "lab": {"engine", "report", "steps", "host", "resources", "probes", "cli"},
}
# The result models are plain data, which who finds something fills in.
RESULTS = "gpunode.engine.results"
TERMINAL_ROOMS = {"cli", "report"}
# Probes run in a process of their own and speak to the driver's libraries; the command line reads the profile that it is given
# and writes what it is asked to write. A probe loads its kernel from the package, a catalogue its data.
MACHINE_ROOMS = {"host", "lab"}
TOUCHING_MODULES = {"subprocess", "sh", "shutil", "socket", "fcntl", "tempfile", "glob", "pty"}
TOUCHING_CALLS = {"open", "os.open", "os.system", "os.popen", "os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir",
                  "os.makedirs", "os.listdir", "os.stat", "os.lstat", "os.readlink", "os.symlink", "os.chmod", "os.chown",
                  "os.walk", "os.scandir", "io.open"}  # fmt: skip


def room(path: Path) -> str:
    """The first folder below the package, or the module's name."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of modules that a module imports, wherever in it, except for type checking alone."""
    found: set[str] = set()
    for node in _walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not guarded:
            yield from _walk(child)


def test_there_is_a_house() -> None:
    assert {"host", "formats", "profile", "catalog"} <= {room(path) for path in MODULES}


def broken(rule: Callable[[Path], Collection[str]], *rooms: str) -> dict[str, list[str]]:
    """The modules of these rooms (of all, where none is named) that break a rule, each with what breaks it."""
    found = {name(path): sorted(rule(path)) for path in MODULES if not rooms or room(path) in rooms}
    return {path: what for path, what in found.items() if what}


def _forbidden_rooms(path: Path) -> set[str]:
    here = room(path)
    if here not in MAY_KNOW:  # the package's own name and version
        return set()
    allowed = MAY_KNOW[here] | {here} | (LEAVES if here not in LEAVES else {"errors"})
    below = [each for each in imports(path) if not each.startswith(RESULTS)]
    known = {each.split(".")[1] for each in below if each.startswith("gpunode.")}
    return {each for each in known if each in MAY_KNOW} - allowed


def test_arrows_point_down() -> None:
    assert not broken(_forbidden_rooms)


def _touches(path: Path) -> set[str]:
    calls = (ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
    return {each.partition(".")[0] for each in imports(path)} & TOUCHING_MODULES | {*calls} & TOUCHING_CALLS


def test_only_the_host_touches_the_machine() -> None:
    assert not broken(_touches, *(MAY_KNOW.keys() - MACHINE_ROOMS - {"cli"}))


def _does(path: Path) -> set[str]:
    verbs = {verb for verb, _ in inspect.getmembers(Writer, inspect.isfunction) if not hasattr(Reader, verb)}
    used = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    doors = {"gpunode.host.writer", "gpunode.host.local", "gpunode.host.journal", "pathlib", "requests", "httpx"}
    return used & verbs | imports(path) & doors


def test_steps_and_findings_declare_and_do_nothing() -> None:
    assert not broken(_does, "steps", "findings")


def _terminal(path: Path) -> set[str]:
    return {each.partition(".")[0] for each in imports(path)} & {"rich", "typer", "click"}


def test_only_cli_and_report_know_a_terminal() -> None:
    assert broken(_terminal).keys() == broken(_terminal, *TERMINAL_ROOMS).keys()


def _other_steps(path: Path) -> set[str]:
    if path.stem == "__init__":  # the order table
        return set()
    steps = {each.stem for each in MODULES if room(each) == "steps" and "STEP = Step(" in each.read_text()}
    return {each.split(".")[2] for each in imports(path) if each.startswith("gpunode.steps.")} & (steps - {path.stem})


def test_no_step_knows_another() -> None:
    assert not broken(_other_steps, "steps")


def test_modules_are_short() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: lines for path, lines in lengths.items() if lines > LINES_AT_MOST}


def test_the_product_does_not_know_the_lab() -> None:
    """What is emulated is emulated outside of the product's path."""
    knowing = {
        name(path) for path in MODULES if room(path) != "lab" and any("gpunode.lab" in each for each in imports(path))
    }
    assert not knowing


def test_a_reader_cannot_write() -> None:
    public = {member for member in dir(Reader) if not member.startswith("_")}
    assert public == {
        "architecture", "exists", "fetch", "forget", "free_bytes", "glob", "is_root", "kernel_release", "listdir", "lstat",
        "note_unknown", "now",
        "os_release", "probe", "query", "query_once", "read", "read_text", "realpath",
            "recall", "remember", "stream", "unknown", "wait", "which",
    }  # fmt: skip
    source = inspect.getsource(Reader)
    effects = (
        "write_atomic",
        "write_stream",
        "append_durably",
        "remove",
        "make_directory",
        "remove_directory",
        "make_link",
        "download",
        "lock",
    )
    assert not [effect for effect in effects if f"_machine.{effect}(" in source]


def test_every_verb_can_be_taken_back() -> None:
    for label, verb in VERBS.items():
        assert verb.name == label
        assert isinstance(verb.deferred, bool)
        for member in ("intent", "act", "conflict", "undo"):
            assert callable(getattr(verb, member)), f"{label} has no {member}"
        for member in ("conflict", "undo"):
            assert inspect.ismethod(getattr(verb, member)), f"{label}.{member} works from the journal alone"


def test_every_verb_is_in_the_table() -> None:
    folder = ROOT / "host" / "verbs"
    named = {
        node.value.value
        for path in folder.glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) == "name"
        and isinstance(node.value, ast.Constant)
    }
    assert named == set(VERBS)


def test_every_verb_is_reached_through_the_writer() -> None:
    source = inspect.getsource(sys.modules[Writer.__module__])
    assert not [verb.__name__ for verb in VERBS.values() if f"{verb.__name__}(" not in source]


HEAVY = ("httpx", "sh", "tomlkit", "pydantic", "rich", "distro")
IMPORTED = """
import json, sys
sys.argv = ["gpunode", *sys.argv[1:]]
try:
    from gpunode.cli import main
    main()
except SystemExit as error:
    status = error.code
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"]], ids=" ".join)
def test_a_question_about_the_program_itself_is_answered_at_once(words: list[str]) -> None:
    pytest.importorskip("gpunode.cli")
    if not hasattr(sys.modules["gpunode.cli"], "main"):
        pytest.skip("there is no command line yet")
    command = [sys.executable, "-c", IMPORTED, *words]
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    status, loaded = json.loads(done.stderr.splitlines()[-1])
    assert status in (0, None)
    # Typer itself draws its help with rich.
    heavy = [each for each in HEAVY if each in loaded and not (each == "rich" and words == ["--help"])]
    assert not heavy
