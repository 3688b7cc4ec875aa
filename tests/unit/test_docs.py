"""The documentation names what is there: links, commands, options, files, profiles and exit statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from gpunode.catalog import load as load_catalog
from gpunode.cli import app
from gpunode.errors import ExitCode
from gpunode.lab.__main__ import parser as lab_parser
from gpunode.profile import load as load_profile

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"profile.md", "failures.md"}
"""Made from the code and compared with it elsewhere; docs/profile.md shows a wrong profile on purpose."""
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in GENERATED)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CALL = re.compile(r"(?<![\w/.-])gpunode ((?:--)?[a-z][^`\n;|&>()#…]*)")
LAB_CALL = re.compile(r"-m gpunode\.lab ([^`\n#;]+)")
FOLDERS = ("src", "docs", "tests", "scripts", "examples", "requirements")
PATH = re.compile(rf"(?<![\w/.-])(?:\./)?((?:{'|'.join(FOLDERS)})/[\w./*-]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    return [Block(*found.groups()) for found in FENCE.finditer(text_of(page))]


def prose(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def code(page: Path) -> str:
    """What is set as code on a page, Python and data aside: commands, outputs, inline words."""
    kept = [block.text for block in blocks(page) if block.language in ("sh", "console")]
    return "\n".join([*SPAN.findall(prose(page)), *kept])


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def root_command() -> Any:
    """typer's own command object: which package its class comes from differs between typer's releases."""
    return typer.main.get_command(app)


def inner_commands(command: Any) -> dict[str, Any]:
    """The commands of a group; none of a command."""
    return getattr(command, "commands", {})


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words lead to, and the words left. Raises LookupError for one that is none."""
    command, left = root_command(), list(words)
    while inner_commands(command) and left and not left[0].startswith("-"):
        word = left.pop(0)
        if word not in inner_commands(command):
            raise LookupError(f"there is no command {word}")
        command = inner_commands(command)[word]
    return command, left


def options_of(command: Any) -> set[str]:
    return {"-h", "--help", *(option for parameter in command.params for option in parameter.opts)}


def every_command(command: Any) -> Iterator[Any]:
    yield command
    for inner in inner_commands(command).values():
        yield from every_command(inner)


def test_the_pages_are_there() -> None:
    expected = {
        "README.md",
        "tutorial.md",
        "how-it-works.md",
        "writing-a-step.md",
        "security.md",
        "recovery.md",
        "lab.md",
    }
    assert expected <= {page.name for page in PAGES}
    assert "Apache License" in text_of(ROOT / "LICENSE")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{name(page)}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(found), f"{name(page)}: {link}: no such heading"


@pytest.mark.slow  # the whole command line is loaded for it
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_and_option_named_exists(page: Path) -> None:
    for call in CALL.findall(code(page)):
        command, left = command_of(call.strip().split())
        wrong = {word.partition("=")[0] for word in left if word.startswith("-") and len(word) > 1} - options_of(
            command
        )
        assert not wrong, f"{name(page)}: gpunode {call}: no option {', '.join(wrong)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_named_alone_exists(page: Path) -> None:
    known = {option for command in every_command(root_command()) for option in options_of(command)}
    known.add("--fast")  # of scripts/test
    named = {span.split()[0].partition("=")[0] for span in SPAN.findall(prose(page)) if span.startswith("--")}
    assert named <= known, f"{name(page)}: {named - known}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_the_lab_is_one(page: Path) -> None:
    for call in LAB_CALL.findall(code(page)):
        lab_parser().parse_args(call.split())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_of_the_project_named_is_there(page: Path) -> None:
    missing = {
        path
        for path in PATH.findall(code(page))
        if not any(ROOT.glob(path.rstrip("/."))) and f"{path}<" not in code(page)  # `tests/cases/findings/<id>/…`
    }
    assert not missing, f"{name(page)}: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_profile_and_catalogue_shown_loads(page: Path) -> None:
    for block in blocks(page):
        if block.language == "toml" and "catalog.d" in block.text:
            load_catalog([(name(page), block.text)])
        elif block.language == "toml":
            load_profile(block.text.encode(), name(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_and_json_shown_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, name(page), "exec")
        elif block.language == "json":
            assert [json.loads(line) for line in block.text.splitlines()]


def test_every_command_is_in_the_readme() -> None:
    shown = text_of(ROOT / "README.md") + text_of(ROOT / "CHANGELOG.md")
    assert not [word for word in inner_commands(root_command()) if f"gpunode {word}" not in shown]


def test_every_exit_status_is_in_the_readme() -> None:
    _, _, after = text_of(ROOT / "README.md").partition("## Exit status")
    rows = re.findall(r"^\| (\d) \|", after.partition("\n## ")[0], re.MULTILINE)
    assert [int(row) for row in rows] == sorted(code.value for code in ExitCode)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_of_prose_are_wrapped(page: Path) -> None:
    lines = [line for line in prose(page).splitlines() if not line.startswith("|")]
    assert not [line for line in lines if len(line) > 120]
