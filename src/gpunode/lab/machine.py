"""What the lab does to the machine it runs on: commands, overlay mounts, locks. Nothing else in the lab mounts."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpunode.lab import LabError
from gpunode.lab.paths import CACHE, prepare_folders


def say(text: str) -> None:
    """Tell the person at the terminal what takes long."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def command(*argv: str | Path, stdin: str | None = None, timeout: float | None = None) -> str:
    """Run a command of this machine and return what it printed.

    Raises LabError with the end of its output when it is missing, fails, or runs longer than `timeout` seconds.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"the lab needs the command {words[0]}, which this machine does not have") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{words[0]} did not finish within {timeout:.0f} s") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(words[:3])} … exited {done.returncode}: {tail(done.stderr or done.stdout)}")
    return done.stdout


def tail(text: str, lines: int = 15) -> str:
    """Return the last lines of some output, for an error message."""
    return "\n".join(text.strip().splitlines()[-lines:])


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lab's lock of this name; waits for whoever has it. The kernel releases it if we die."""
    prepare_folders()
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_mounted(path: Path) -> bool:
    """Say whether something is mounted exactly there."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def mount_overlay(lower: Sequence[Path], *, upper: Path, work: Path, root: Path, throw_away: bool = False) -> None:
    """Mount `lower` (bottom first), with `upper` written to, as one tree at `root`.

    A `throw_away` tree never waits for the disk, which makes dpkg fast; it cannot be mounted a second time.
    """
    for folder in (upper, work, root):
        folder.mkdir(parents=True, exist_ok=True)
    layers = ":".join(str(layer) for layer in reversed(lower))
    options = f"lowerdir={layers},upperdir={upper},workdir={work}{',volatile' if throw_away else ''}"
    command("mount", "-t", "overlay", "overlay", "-o", options, root)


def unmount(path: Path) -> None:
    """Unmount `path` and all below it; nothing mounted there is fine."""
    while is_mounted(path):
        command("umount", "--recursive", path)


def run_in(root: Path, *argv: str, binds: Sequence[Path] = (), timeout: float = 900) -> str:
    """Run a command in a root that is not booted, with this machine's network and a /dev and /proc of its own.

    `binds` are paths of this machine to be seen read-only at the same place. Raises LabError like `command`.
    """
    options = ["--quiet", "--register=no", "--keep-unit", "--pipe", "--as-pid2", "--link-journal=no", "--timezone=off"]
    options += ["--resolv-conf=copy-host", "--suppress-sync=yes", *(f"--bind-ro={path}" for path in binds)]
    environment = ["--setenv=LANG=C.UTF-8", "--setenv=DEBIAN_FRONTEND=noninteractive"]
    return command("systemd-nspawn", *options, *environment, f"--directory={root}", *argv, timeout=timeout)
