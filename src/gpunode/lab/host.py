"""A lab host: an overlay on cached layers, booted by systemd-nspawn with a real systemd as its PID 1."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from gpunode.lab import LabError
from gpunode.lab.machine import lock, mount_overlay, tail, unmount
from gpunode.lab.outfit import outfit
from gpunode.lab.paths import HOSTS, prepare_folders
from gpunode.lab.processes import HostProcess, children, is_init, kill, pids, read

Prepare = Callable[[Path, str], None]  # (root of a host not yet booted, its address): writes files and units

PRIVATE = ("var/lib/containerd",)  # must not lie on an overlay: containerd mounts overlays of its own there
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
ADDRESSES = range(10, 250)  # 127.0.0.N
REBOOT_STATUS = 133  # nspawn's exit status when the host asked for a reboot
# Like a login on a real host; nothing of this machine's environment gets in.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}


def _heed_interrupts() -> None:
    """A job in the background of a script ignores SIGINT, and would hand that on: a command on a host is to end of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class LabHost:
    """One throw-away host. Make it with `create`, or get back one that is up with `open`; a context manager destroys it.

    `root` is its tree as this machine sees it: write there only while the host is down.
    """

    def __init__(
        self, name: str, address: str, layers: Sequence[Path], private: Sequence[str] = (), own_network: bool = False
    ) -> None:
        if not NAME.fullmatch(name):
            raise LabError(f"{name!r} is no host name: lower-case letters, digits and hyphens, at most 63")
        self.name, self.address, self.layers = name, address, tuple(layers)
        self.private, self.own_network = (*PRIVATE, *private), own_network
        self.folder = HOSTS / name
        self.root = self.folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    @classmethod
    def create(
        cls,
        name: str,
        *,
        layers: Sequence[Path],
        prepare: Sequence[Prepare] = (),
        address: str | None = None,
        private: Sequence[str] = (),
        own_network: bool = False,
    ) -> "LabHost":
        """Make a host on `layers` (bottom first), run the `prepare` functions on its root; a host of that name goes first.

        `address` is its own loopback address; by default the lowest free 127.0.0.N. `private` are folders, named from the root, that
        must not lie on an overlay, besides PRIVATE. A host with `own_network` reaches nobody but itself, and may do with the
        kernel's network settings as it likes. Raises LabError.
        """
        prepare_folders()
        cls.remove(name)
        with lock("hosts"):
            host = cls(name, address or _free_address(), layers, private, own_network)
            host.folder.mkdir()
            (host.folder / "host.json").write_text(host._record())
        try:
            host._mount()
            outfit(host.root, name, host.address)
            for step in prepare:
                step(host.root, host.address)
        except BaseException:
            host.destroy()
            raise
        return host

    @classmethod
    def open(cls, name: str) -> "LabHost":
        """Return the host of this name, made earlier by whatever process. Raises LabError if there is none."""
        try:
            record = json.loads((HOSTS / name / "host.json").read_text())
        except FileNotFoundError as error:
            raise LabError(f"there is no lab host {name}") from error
        layers = [Path(layer) for layer in record["layers"]]
        return cls(name, record["address"], layers, record.get("private", ()), record.get("own_network", False))

    @classmethod
    def remove(cls, name: str) -> None:
        """Leave nothing of a host of this name, however much of it there is. Raises LabError."""
        cls(name, "", ()).destroy()

    def _record(self) -> str:
        """What `open` needs to know of a host."""
        layers, private = [str(layer) for layer in self.layers], self.private[len(PRIVATE) :]
        return json.dumps(
            {"address": self.address, "layers": layers, "private": private, "own_network": self.own_network}
        )

    def _mount(self) -> None:
        own = self.folder
        mount_overlay(self.layers, upper=own / "upper", work=own / "work", root=self.root, throw_away=True)
        for path in self.private:
            (self.folder / "private" / path).mkdir(parents=True)
            (self.root / path).mkdir(parents=True, exist_ok=True)

    # --- power

    def boot(self, timeout: float = 60) -> None:
        """Boot and wait until systemd says it is up (`running`, or `degraded` where a unit failed).

        Raises LabError with the end of the console when that takes longer than `timeout` seconds.
        """
        if self.is_up():
            raise LabError(f"the lab host {self.name} is up already")
        with (self.folder / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                self._nspawn_arguments(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the command that booted it, and that command's Ctrl-C
            )
        deadline = time.monotonic() + timeout
        while self._nspawn.poll() is None and time.monotonic() < deadline:
            if self.is_up() and self.state() in ("running", "degraded"):
                return
            time.sleep(0.1)
        state = self.state() if self.is_up() else f"gone, nspawn's exit status {self._nspawn.poll()}"
        raise LabError(f"the lab host {self.name} did not boot within {timeout:.0f} s ({state}):\n{self.console()}")

    def _nspawn_arguments(self) -> list[str]:
        options = ["--quiet", "--boot", "--register=no", "--keep-unit", "--console=passive", "--link-journal=no"]
        options += ["--resolv-conf=off", "--timezone=off", "--capability=all"]
        options += ["--system-call-filter=@keyring bpf @mount"]  # runc and the emulation's tmpfs mounts
        options += [f"--machine={self.name}", f"--hostname={self.name}", f"--directory={self.root}"]
        options += ["--private-network", "--tmpfs=/sys/module"] if self.own_network else []
        binds = [f"--bind={self.folder / 'private' / path}:/{path}" for path in self.private]
        return ["systemd-nspawn", *options, *binds]

    def is_up(self) -> bool:
        """Say whether the host has a PID 1."""
        return self._find_leader() != 0

    def state(self) -> str:
        """Return what `systemctl is-system-running` says."""
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def reboot(self, timeout: float = 60) -> None:
        """Reboot in good order, by systemd; return when the host is up again. Raises LabError."""
        self.run("systemctl", "reboot", check=False)  # it may be cut off by what it does
        self.wait_down(timeout)
        if self._nspawn is not None and self._nspawn.returncode != REBOOT_STATUS:
            status = self._nspawn.returncode
            raise LabError(f"{self.name} went down with status {status}, not a reboot's:\n{self.console()}")
        self.boot(timeout)

    def wait_down(self, timeout: float = 60) -> None:
        """Wait until the host is off. Raises LabError after `timeout` seconds."""
        self._wait_gone(timeout, killing=False)

    def power_cut(self) -> None:
        """Cut the power: every process of the host is gone at once, its files stay as they are."""
        self._wait_gone(30, killing=True)

    def _wait_gone(self, timeout: float, *, killing: bool) -> None:
        deadline = time.monotonic() + timeout
        while found := list(self._processes()):
            for pid in found if killing else ():
                kill(pid)
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not go down within {timeout:.0f} s:\n{self.console()}")
            time.sleep(0.05)
        if self._nspawn is not None:
            self._nspawn.wait(5)

    def destroy(self) -> None:
        """Leave nothing of the host: no process, no mount, no file. Fine if it is not there."""
        self.power_cut()
        unmount(self.root)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def __enter__(self) -> "LabHost":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.destroy()

    # --- running things

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name subprocess.run gives it
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the host, in a login's environment plus `env`, and return status, stdout, stderr.

        Raises LabError if it takes longer than `timeout` seconds (it is killed with all it started), if the host is
        down, or, with `check`, if it fails.
        """
        with self._start(argv, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as outer:
            try:
                out, err = outer.communicate(input or "", timeout=timeout)
            except BaseException as error:
                os.killpg(outer.pid, signal.SIGKILL)  # the group spans the name spaces
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise LabError(f"on {self.name}, {' '.join(argv)} did not finish within {timeout:.0f} s") from error
        if check and outer.returncode != 0:
            raise LabError(f"on {self.name}, {' '.join(argv)} exited {outer.returncode}: {tail(out + err)}")
        return subprocess.CompletedProcess(argv, outer.returncode, out, err)

    def popen(self, *argv: str, env: Mapping[str, str] | None = None) -> HostProcess:
        """Start a command as `run` does, in the background, its stderr in its stdout."""
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process is of interest
        outer = self._start(argv, env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        return HostProcess(argv, outer, output)

    def shell(self, script: str, *, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the host, ended by its first failing command."""
        return self.run("sh", "-euc", script, check=check, timeout=timeout)

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs `argv` in the host from this machine; its environment is ENVIRONMENT."""
        leader = self._find_leader()
        nsenter = shutil.which("nsenter")
        if not leader or nsenter is None:
            raise LabError(f"the lab host {self.name} is down" if nsenter else "this machine has no nsenter")
        return [nsenter, "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", *argv]

    # --- files and logs

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file as root, its folders too; the host may be up or down."""
        if self.is_up():
            self.run("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, input=content)
            return
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """Return a text file's content; the host may be up or down. Raises LabError if it cannot be read."""
        if self.is_up():
            return self.run("cat", path).stdout
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace")
        except OSError as error:
            raise LabError(f"{path} of {self.name}: {error.strerror}") from error

    def journal(self, unit: str, *, lines: int = 200) -> str:
        """Return the end of what a unit has logged since this boot."""
        return self.run("journalctl", "--no-pager", "-b", "-o", "cat", "-n", str(lines), "-u", unit).stdout

    def console(self, lines: int = 30) -> str:
        """Return the end of what the host has printed on its console, over all boots."""
        log = self.folder / "console.log"
        return tail(log.read_text(errors="replace"), lines) if log.exists() else ""

    # --- processes

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str] | None, *, stdin: int, stdout: int | IO[bytes], stderr: int
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**ENVIRONMENT, **(env or {})},
            text=True,
            errors="replace",
            umask=0o022,
            start_new_session=True,  # so that it can be killed as a group
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it takes no lock
        )

    def _find_leader(self) -> int:
        if not self._is_leader(self._leader):
            found = (child for pid in self._nspawns() for child in children(pid))
            self._leader = next(filter(self._is_leader, found), 0)
        return self._leader

    def _is_leader(self, pid: int) -> bool:
        return pid != 0 and is_init(pid) and self._is_inside(pid)  # a zombie is inside nothing

    def _nspawns(self) -> Iterator[int]:
        wanted = f"--directory={self.root}".encode()
        for pid in pids():
            words = read(pid, "cmdline").split(b"\0")
            if wanted in words and b"--boot" in words:
                yield pid

    def _processes(self) -> Iterator[int]:
        """Every process of the host as this machine numbers it, nspawn's own last."""
        nspawns = list(self._nspawns())
        yield from (pid for pid in pids() if pid not in nspawns and self._is_inside(pid))
        yield from nspawns

    def _is_inside(self, pid: int) -> bool:
        """Say whether a process has this host's tree as its root: an overlay is a device of its own."""
        try:
            return os.stat(f"/proc/{pid}/root").st_dev == os.stat(self.root).st_dev != os.stat("/").st_dev
        except OSError:  # it has ended, or the host has no tree
            return False


def hosts() -> list[LabHost]:
    """Return the hosts that exist, by name; one that another process takes down meanwhile is none."""
    found = []
    for file in sorted(HOSTS.glob("*/host.json")):
        with suppress(LabError):
            found.append(LabHost.open(file.parent.name))
    return found


def _free_address() -> str:
    taken = {host.address for host in hosts()}
    for number in ADDRESSES:
        if f"127.0.0.{number}" not in taken:
            return f"127.0.0.{number}"
    raise LabError("every loopback address of the lab is taken: take hosts down with `python -m gpunode.lab down NAME`")
