"""`gpunode render containerd`: what goes to standard output, to standard error, and the exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpunode.formats.toml_data import DEEPEST, TomlError, parse

pytestmark = pytest.mark.slow

CRI = '[plugins."io.containerd.grpc.v1.cri"]\n'
DOCS = Path(__file__).parents[2] / "docs" / "containerd.md"
A_TOML = "/etc/containerd/conf.d/a.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpunode.toml"
MAIN = "/etc/containerd/config.toml"


def render(folder: Path, *options: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gpunode", "render", "containerd", *options]
    return subprocess.run(command, input=stdin.encode(), cwd=folder, capture_output=True, check=False)


def refusal(folder: Path, *options: str) -> str:
    """The one line of an input that cannot be used."""
    done = render(folder, *options)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    return line


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_bytes(text.encode())
    return name


# --- standard output -------------------------------------------------------------------------------------------------


def test_the_main_file_alone_is_given_byte_for_byte(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", f"version = 2\r\n# mine\r\n{CRI}x = 1")
    done = render(tmp_path, "--config", main)
    assert done.returncode == 0
    assert done.stdout.startswith(b"version = 2\r\n# mine\r\n")
    assert not done.stderr


def test_where_nothing_changes_the_main_file_comes_bare(tmp_path: Path) -> None:
    once = render(tmp_path).stdout.rstrip(b"\n")
    (tmp_path / "c.toml").write_bytes(once)
    assert render(tmp_path, "--config", "c.toml").stdout == once


def test_a_drop_in_alone_has_its_header(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", f'version = 2\nimports = ["{DROP_IN[:-15]}*.toml"]\n{CRI}x = 1\n')
    done = render(tmp_path, "--config", main, "--containerd-version", "2.1.9")
    assert re.findall(r"^# --- (.*) ---$", done.stdout.decode(), re.MULTILINE) == [DROP_IN]


def test_several_files_have_headers(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", f"version = 2\n{CRI}x = 1")
    done = render(tmp_path, "--config", main, "--containerd-version", "2.1.9")
    assert sorted(re.findall(r"^# --- (.*) ---$", done.stdout.decode(), re.MULTILINE)) == [DROP_IN, MAIN]


@pytest.mark.parametrize(
    ("version", "files"), [("1.7.24", [MAIN]), ("2.1.9", [DROP_IN, MAIN])], ids=["one file", "several"]
)
def test_the_recipe_of_the_docs_spreads_the_output(tmp_path: Path, version: str, files: list[str]) -> None:
    (recipe,) = re.findall(
        r"^gpunode render containerd [^\n]*\| (awk .*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    main = write(tmp_path, "c.toml", f"version = 2\n{CRI}x = 1\n")
    text = render(tmp_path, "--config", main, "--containerd-version", version).stdout
    done = subprocess.run(["sh", "-c", recipe], input=text, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    image = tmp_path / "image"
    written = {f"/{path.relative_to(image)}": path.read_bytes() for path in image.rglob("*.toml")}
    assert sorted(written) == files
    whole = b"".join(f"# --- {path} ---\n".encode() + content for path, content in written.items())
    assert sorted((text if len(files) > 1 else whole).splitlines()) == sorted(whole.splitlines())
    assert len(files) > 1 or written[MAIN] == text


# --- imports ---------------------------------------------------------------------------------------------------------


def test_imports_merge_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", 'version = 2\nimports = ["conf.d/*.toml"]\n')
    for name in "ab":
        write(tmp_path, f"{name}.toml", f"version = 2\n{CRI}x = 1\n")
    given = [f"--import=/etc/containerd/conf.d/{name}.toml={name}.toml" for name in "ba"]
    done = render(tmp_path, "--config", main, *given)
    assert done.stdout.startswith(b"# --- /etc/containerd/conf.d/b.toml ---\n")
    assert not done.stderr


def test_an_absolute_file_is_at_its_own_path(tmp_path: Path) -> None:
    other = tmp_path / write(tmp_path, "a.toml", f"version = 2\n{CRI}x = 1\n")
    main = write(tmp_path, "c.toml", f'version = 2\nimports = ["{other}"]\n')
    assert render(tmp_path, "--config", main, "--import", str(other)).stdout.startswith(f"# --- {other} ---\n".encode())


def test_an_import_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", "version = 2\n")
    assert f"c.toml: nothing imports {A_TOML}" in refusal(tmp_path, "--config", main, f"--import={A_TOML}=c.toml")
    assert f"nothing imports {MAIN}" in refusal(tmp_path, "--config", main, f"--import={MAIN}=c.toml")


def test_a_relative_import_names_nothing_on_old_releases(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", 'version = 2\nimports = ["conf.d/a.toml"]\n')
    other = write(tmp_path, "a.toml", "version = 2\n")
    options = ["--config", main, f"--import={A_TOML}={other}"]
    assert "nothing imports" in refusal(tmp_path, *options, "--containerd-version", "1.6.20")
    assert render(tmp_path, *options, "--containerd-version", "1.7.24").returncode == 0


def test_an_import_by_name_that_is_not_given_is_refused(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", 'imports = ["/a.toml", "/b.toml"]\n')
    assert "c.toml: /a.toml, /b.toml is imported" in refusal(tmp_path, "--config", main)
    assert "c.toml: /b.toml is imported" in refusal(tmp_path, "--config", main, f"--import=/a.toml={os.devnull}")


def test_a_wildcard_that_nothing_was_given_for_is_a_note(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", 'version = 2\nimports = ["conf.d/*.toml"]\n')
    done = render(tmp_path, "--config", main)
    assert done.returncode == 0
    assert re.fullmatch(
        rb"note: c.toml: nothing was given for its import /etc/containerd/conf.d/\*.toml, .*\n", done.stderr
    )


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--flavour", "k3s"], "nothing to render; with a template of your own"),
        (["--flavour", "microk8s"], "none to begin with; give a copy of"),
        (["--flavour", "talos"], "'--flavour'"),
        (["--color", "red"], "'--color'"),
        (["--config"], "--config"),
        (["--config", "absent.toml"], "cannot read absent.toml"),
        (["--profile", "bad.toml"], "bad.toml: 2 mistakes; line 1"),
        (["--import", "conf.d/a.toml"], "--import HOSTPATH=conf.d/a.toml"),
        (["--config", "-", "--import", "/a.toml=-"], "standard input can be read once"),
        (["--containerd-version", "latest"], "gpunode: --containerd-version: 'latest' is no containerd version"),
        (["--containerd-version", "1.2"], "gpunode: --containerd-version: containerd 1.2 is too old"),
        (["--containerd-version", "3.0"], "gpunode: --containerd-version: containerd 3.0 is not known"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, options: list[str], said: str) -> None:
    write(tmp_path, "bad.toml", "foo = 1\nbar = 2\n")
    assert said in refusal(tmp_path, *options)


def test_the_file_that_is_wrong_is_named_as_the_operator_names_it(tmp_path: Path) -> None:
    main = write(tmp_path, "c.toml", 'version = 2\nimports = ["conf.d/*.toml"]\n')
    other = write(tmp_path, "mine.toml", "x = 1\ny =\n")
    assert refusal(tmp_path, "--config", other).startswith("gpunode: mine.toml: line 2, column 4: ")
    line = refusal(tmp_path, "--config", main, f"--import={A_TOML}={other}")
    assert line.startswith("gpunode: mine.toml: line 2, column 4: ")


@pytest.mark.parametrize(("version", "known"), [("1.10", "1.7"), ("2.99.1", "2.3"), ("1.6.20", ""), ("2.2.7", "")])
def test_a_newer_minor_is_a_note(tmp_path: Path, version: str, known: str) -> None:
    done = render(tmp_path, "--containerd-version", version)
    minor = ".".join(version.split(".")[:2])
    said = f"note: containerd {minor} is not known, and is treated as {known}\n" if known else ""
    assert (done.returncode, done.stderr.decode()) == (0, said)


DEEP = {
    "arrays": f"x = 1\na = {'[' * 3000}",
    "inline tables": f"x = 1\na = {'{a=' * 3000}1{'}' * 3000}",
    "a dotted key": f"x = 1\n{'a.' * 3000}a = 1",
    "a header": f"x = 1\n[{'a.' * 3000}a]",
    "what the parser bears": f"x = 1\na = {'[' * (DEEPEST + 1)}{']' * (DEEPEST + 1)}\n",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_nesting_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    line = refusal(tmp_path, "--config", write(tmp_path, "deep.toml", text))
    assert line.startswith("gpunode: deep.toml: line 2, column 1: too deeply nested")


def test_depth_up_to_the_limit_is_read() -> None:
    assert parse(f"a = {'[' * DEEPEST}{']' * DEEPEST}")
    with pytest.raises(TomlError, match="line 1, column 1: too deeply nested"):
        parse(f"a = [{'[' * DEEPEST}{']' * DEEPEST}]")


def test_output_that_is_lost_is_a_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gpunode", "render", "containerd"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"gpunode: cannot write the output: No space left on device\n")


def test_to_a_reader_that_has_gone_nothing_is_said(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gpunode", "render", "containerd"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert not done.stderr
