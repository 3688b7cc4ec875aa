"""The real machine, in a folder of its own: files, commands, the lock between real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpunode.errors import HostError, LockHeldError
from gpunode.host import commands, local
from gpunode.host.local import LocalMachine
from gpunode.host.machine import FileStat

FILE = FileStat(kind="file", mode=0o640, uid=os.getuid(), gid=os.getgid())
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give files away, and only root's folders are judged"
)


@pytest.fixture
def machine() -> LocalMachine:
    return LocalMachine()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for safe though others may write above it, as in /tmp."""
    monkeypatch.setattr(local, "require_safe_folder", lambda _folder: None)
    return tmp_path


def test_a_file_is_replaced_whole(machine: LocalMachine, folder: Path) -> None:
    path, temporary = str(folder / "a.conf"), str(folder / ".a.conf.gpunode")
    machine.write_atomic(path, b"one", stat=FILE, temporary=temporary)
    first = os.stat(path).st_ino
    Path(temporary).write_bytes(b"left by a crash")
    machine.write_atomic(path, b"two", stat=FILE, temporary=temporary)
    assert machine.read(path) == b"two"
    assert os.stat(path).st_ino != first
    assert machine.listdir(str(folder)) == ["a.conf"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_the_prepared_file_is_never_wider_open_than_its_owner(
    machine: LocalMachine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = os.fchmod

    def noting(descriptor: int, mode: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", noting)
    machine.write_atomic(str(folder / "a"), b"secret", stat=FILE, temporary=str(folder / ".a"))
    assert seen == [0o600]


@as_root
def test_owner_and_attributes_are_kept(machine: LocalMachine, folder: Path) -> None:
    path = str(folder / "a.conf")
    wanted = FileStat(kind="file", mode=0o4755, uid=12, gid=34, xattrs={"user.note": b"mine"})
    try:
        machine.write_atomic(path, b"one", stat=wanted, temporary=f"{path}.new")
    except HostError as error:
        pytest.skip(f"no extended attributes in this folder: {error}")
    found = machine.lstat(path)
    assert found
    assert (found.kind, found.mode, found.uid, found.gid, found.size) == ("file", 0o4755, 12, 34, 3)
    assert found.xattrs["user.note"] == b"mine"


def test_a_link_planted_where_the_file_is_prepared_is_not_followed(
    machine: LocalMachine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    (folder / ".a").symlink_to(victim)
    machine.write_atomic(str(folder / "a"), b"new", stat=FILE, temporary=str(folder / ".a"))
    assert victim.read_bytes() == b"precious"
    (folder / ".b").symlink_to(victim)
    monkeypatch.setattr(machine, "remove", lambda _path: None)  # as though it were planted between removal and opening
    with pytest.raises(HostError, match="File exists"):
        machine.write_atomic(str(folder / "b"), b"new", stat=FILE, temporary=str(folder / ".b"))
    assert victim.read_bytes() == b"precious"
    (folder / "log").symlink_to(victim)
    with pytest.raises(HostError, match="cannot write"):
        machine.append_durably(str(folder / "log"), b"x")
    assert victim.read_bytes() == b"precious"


@as_root
def test_folders_that_others_can_change_are_refused(machine: LocalMachine, tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with pytest.raises(HostError, match="refusing to write below") as caught:
        machine.write_atomic(str(open_folder / "a"), b"x", stat=FILE, temporary=str(open_folder / ".a"))
    assert "root's own" in caught.value.hint
    with pytest.raises(HostError, match="refusing to write below"):
        machine.make_link(str(open_folder / "a"), "/etc", temporary=str(open_folder / ".a"))
    assert not os.listdir(open_folder)


@as_root
def test_a_folder_of_another_user_is_refused_through_a_link_too(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 1000, 1000)
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(HostError, match="refusing to write below"):
        local.require_safe_folder(str(tmp_path / "link"))
    local.require_safe_folder("/usr")


def test_links_and_folders(machine: LocalMachine, folder: Path) -> None:
    link, inner = str(folder / "link"), str(folder / "inner")
    machine.make_link(link, "one", temporary=f"{link}.new")
    machine.make_link(link, "two", temporary=f"{link}.new")
    found = machine.lstat(link)
    assert found
    assert (found.kind, found.target) == ("link", "two")
    machine.make_directory(inner, mode=0o750, uid=os.getuid(), gid=os.getgid())
    machine.make_directory(inner, mode=0o700, uid=os.getuid(), gid=os.getgid())
    assert stat.S_IMODE(os.stat(inner).st_mode) == 0o750, "one that is there is left as it is"
    (Path(inner) / "x").touch()
    assert not machine.remove_directory(inner)
    machine.remove(f"{inner}/x")
    machine.remove(f"{inner}/x")
    assert machine.remove_directory(inner)
    assert machine.remove_directory(inner)
    assert machine.lstat(inner) is None
    assert machine.lstat(f"{link}/below") is None
    assert machine.listdir(inner) == []


def test_what_is_appended_is_appended(machine: LocalMachine, folder: Path) -> None:
    path = str(folder / "journal")
    machine.append_durably(path, b"one\n")
    machine.append_durably(path, b"two\n")
    assert machine.read(path) == b"one\ntwo\n"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_failures_name_the_path_and_the_reason(machine: LocalMachine, folder: Path) -> None:
    (folder / "dir").mkdir()
    with pytest.raises(HostError, match=r"cannot write .*/dir: Is a directory"):
        machine.write_atomic(str(folder / "dir"), b"", stat=FILE, temporary=str(folder / ".dir"))
    with pytest.raises(HostError, match=r"cannot write .*/nosuch/a: No such file or directory"):
        machine.write_atomic(str(folder / "nosuch/a"), b"", stat=FILE, temporary=str(folder / "nosuch/.a"))
    with pytest.raises(HostError, match=r"cannot remove .*/dir"):
        machine.remove(str(folder / "dir"))


def test_commands_get_a_small_environment_and_their_input(
    machine: LocalMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LD_PRELOAD", "")
    done = machine.run(["sh", "-c", "cat; env >&2; exit 3"], stdin="in\n", env={"EXTRA": "1"})
    assert (done.returncode, done.stdout, done.ok) == (3, "in\n", False)
    names = {line.partition("=")[0] for line in done.stderr.splitlines()}
    assert {"PATH", "LC_ALL", "EXTRA"} <= names
    assert not {"LANG", "LD_PRELOAD"} & names


def test_a_command_that_is_not_there_ends_with_127(machine: LocalMachine) -> None:
    for on_line in (None, lambda _line: None):
        done = machine.run(["gpunode-no-such-command"], on_line=on_line)
        assert done.returncode == 127
        assert "gpunode-no-such-command" in done.stderr


def test_lines_come_as_they_are_printed(machine: LocalMachine) -> None:
    lines: list[tuple[str, float]] = []
    command = ["sh", "-c", "echo one; echo two >&2; sleep 0.2; printf three; exit 4"]
    done = machine.run(command, on_line=lambda line: lines.append((line, time.monotonic())))
    assert done.returncode == 4
    assert sorted(line for line, _ in lines) == ["one", "three", "two"]
    assert lines[-1][1] - lines[0][1] > 0.1
    assert "three" in done.stdout


def test_a_line_that_is_slow_to_end_is_shown_as_far_as_it_is(
    machine: LocalMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DKMS prints dots while it builds: what is shown meanwhile must not be the line before."""
    monkeypatch.setattr(commands, "QUIET_SECONDS", 0.05)
    lines: list[str] = []
    done = machine.run(
        ["sh", "-c", "echo Setting up; printf Building.; sleep 0.3; echo .; printf end"], on_line=lines.append
    )
    assert lines == ["Setting up", "Building.", "Building..", "end"]
    assert done.stdout == "Setting up\nBuilding..\nend"


def test_no_line_of_a_short_command_is_lost(machine: LocalMachine) -> None:
    """What apt says when it fails at once is the message of the error."""
    for _ in range(40):
        lines: list[str] = []
        done = machine.run(["sh", "-c", "echo one; echo two >&2; exit 3"], on_line=lines.append)
        assert (lines, done.stdout, done.returncode) == (["one", "two"], "one\ntwo\n", 3)


def test_bytes_that_are_no_text_do_no_harm(machine: LocalMachine) -> None:
    assert machine.run(["sh", "-c", r"printf 'a\377b\n'"]).stdout == "a\ufffdb\n"


def test_bytes_that_are_no_text_do_no_harm_to_a_long_command(machine: LocalMachine) -> None:
    lines: list[str] = []
    assert machine.run(["sh", "-c", r"printf 'a\377b\n'"], on_line=lines.append).ok
    assert lines == ["a\ufffdb"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_command_that_hangs_is_given_up(machine: LocalMachine, *, streaming: bool) -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match=r"`sleep 30` did not \w+ in 0\.2 s"):
        machine.run(["sleep", "30"], timeout=0.2, on_line=(lambda _line: None) if streaming else None)
    assert time.monotonic() - began < 5


def test_a_process_that_cannot_be_killed_is_given_up_too(
    machine: LocalMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that has fallen off the bus blocks its callers in the kernel, where no signal reaches them."""
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _self: None)
    monkeypatch.setattr(os, "killpg", lambda _group, _signal: None)
    began = time.monotonic()
    with pytest.raises(HostError):
        machine.run(["sleep", "0.8"], timeout=0.1)
    assert time.monotonic() - began < 0.6


HOLDER = """
import sys, time
from gpunode.host.local import LocalMachine
with LocalMachine().lock(sys.argv[1], "pid 4711, gpunode apply"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_run_is_told_who_holds_the_lock(machine: LocalMachine, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        holder(path),
        pytest.raises(LockHeldError, match="pid 4711, gpunode apply") as caught,
        machine.lock(str(path), "me"),
    ):
        pass
    assert caught.value.exit_code == 6
    assert str(path) in caught.value.hint


def test_a_killed_holder_leaves_no_lock(machine: LocalMachine, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with machine.lock(str(path), "me"):
            assert path.read_text() == "me", "the dead holder's note is gone"
    assert path.read_text() == ""


def test_the_lock_is_not_inherited(machine: LocalMachine, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with machine.lock(str(path), "me"):
        child = subprocess.Popen(["sleep", "5"], close_fds=False)
    try:
        with machine.lock(str(path), "again"):
            pass
    finally:
        child.kill()
        child.wait()


def test_the_lock_is_let_go_after_an_error(machine: LocalMachine, tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(ValueError, match="within"), machine.lock(path, "me"):
        raise ValueError("within")
    with machine.lock(path, "me"):
        pass
