"""`python -m gpunode.lab.demo`: the main job on a throw-away host, start to finish, each command as typed and its real output."""

import os
import subprocess
import sys
import time

from gpunode.lab import LabError
from gpunode.lab.breakages import BREAKAGES, CLEAN_UP
from gpunode.lab.host import ENVIRONMENT, LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

NAME = "demo"
WIDTH = 100


class DemoError(Exception):
    """A command of the demo ended otherwise than it should."""


def main() -> int:
    """Run the demo; 0 when everything went as told."""
    began = time.monotonic()
    try:
        with create_node(NAME) as host:
            host.boot()
            _story(host)
    except (DemoError, LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _say(f"Done in {time.monotonic() - began:.0f} s. The host is gone; `./scripts/test` runs the tests.")
    return 0


def _story(host: LabHost) -> None:
    _title("A Debian 13 host with an H100 (emulated), systemd, apt, containerd and a cluster to join")
    _type(host, "gpunode init")
    _type(host, "cat /etc/gpunode/profile.toml")
    before = Snapshot.take(host)
    _title("What would change")
    _type(host, "gpunode plan", exits=3)
    _title("Change it")
    _type(host, "gpunode apply --yes")
    _title("Again: nothing to do")
    times = _times(host)
    _type(host, "gpunode apply")
    _require(_times(host) == times, "a second apply changed a file's time")
    _title("Try it out")
    _type(host, "gpunode verify")
    for number, breakage in enumerate(BREAKAGES, start=1):
        _title(f"Broken as happens in life, {number} of {len(BREAKAGES)}: {breakage.story}")
        _type(host, breakage.script)
        shown = _type(host, "gpunode check", exits=3)
        _require(breakage.finding in shown, f"check did not name {breakage.finding}")
        _type(host, "gpunode apply --yes")
    host.shell(CLEAN_UP)
    _title("Take it all back")
    _type(host, "gpunode history")
    _type(host, "gpunode rollback --yes")
    _compare(before, Snapshot.take(host))


def _compare(before: Snapshot, after: Snapshot) -> None:
    _title("Compare with the host before: files, packages, holds, marks, units, modules, Kubernetes objects")
    changes = Snapshot.compare(before, after)
    print(report(changes))
    _require(not changes, "the host is not as it was before")


def _type(host: LabHost, command: str, *, exits: int = 0) -> str:
    """Show a command as typed, run it with this terminal, and require its exit status."""
    print(_bold(f"root@{NAME}:~# {command}"), flush=True)
    terminal = {"TERM": os.environ.get("TERM", "dumb"), "COLUMNS": str(WIDTH)} if sys.stdout.isatty() else {}
    process = subprocess.Popen(
        host.command("bash", "-c", command), env={**ENVIRONMENT, **terminal}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    code = process.wait()
    print(_dim(f"[exit {code}]"), flush=True)
    _require(code == exits, f"`{command}` exited {code}, not {exits}")
    return "".join(lines)


def _times(host: LabHost) -> str:
    """When every file was changed last; the lock alone is written by each run."""
    folders = "/etc /usr /opt /root /boot /var/lib/dpkg /var/lib/apt /var/lib/gpunode"
    return host.shell(f"find {folders} -type f ! -path /var/lib/gpunode/lock -printf '%p %T@\\n' | sort").stdout


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DemoError(message)


def _title(text: str) -> None:
    print(f"\n{_bold('━━ ' + text)}\n", flush=True)


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def _dim(text: str) -> str:
    return f"\033[2m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    sys.exit(main())
