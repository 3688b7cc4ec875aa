"""`python -m gpunode.lab`: throw-away lab hosts by hand."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from gpunode.lab import LabError
from gpunode.lab.host import ENVIRONMENT, LabHost, hosts
from gpunode.lab.node import create_node


def up(name: str) -> int:
    """Make the host anew and boot it."""
    host = create_node(name, whole_archive=True)
    host.boot()
    print(f"{name} is up at {host.address}: python -m gpunode.lab shell {name}")
    return 0


def shell(name: str) -> int:
    """Open a login shell in the host."""
    return _attached(LabHost.open(name), "bash", "-l")


def run(name: str, argv: Sequence[str]) -> int:
    """Run a command in the host with this terminal, and exit as it does."""
    return _attached(LabHost.open(name), *argv)


def _attached(host: LabHost, *argv: str) -> int:
    terminal = {"TERM": os.environ["TERM"]} if sys.stdout.isatty() and "TERM" in os.environ else {}
    return subprocess.run(host.command(*argv), env={**ENVIRONMENT, **terminal}, check=False).returncode


def down(name: str) -> int:
    """Destroy the host, whatever state it is in."""
    LabHost.remove(name)
    return 0


def show() -> int:
    """List the hosts."""
    for host in hosts():
        print(f"{host.name}\t{host.address}\t{host.state() if host.is_up() else 'down'}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(prog="python -m gpunode.lab", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, about in (("up", up.__doc__), ("shell", shell.__doc__), ("run", run.__doc__), ("down", down.__doc__)):
        commands.add_parser(name, help=about).add_argument("name", help="the host's name")
    commands.choices["run"].add_argument("argv", nargs="+", metavar="-- COMMAND", help="what to run there")
    commands.add_parser("list", help=show.__doc__)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 with one line of error where the lab could not."""
    options = parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("lab: needs root: it mounts, and boots systemd", file=sys.stderr)
        return 1
    actions = {
        "up": lambda: up(options.name),
        "shell": lambda: shell(options.name),
        "run": lambda: run(options.name, options.argv),
        "down": lambda: down(options.name),
        "list": show,
    }
    try:
        return actions[options.command]()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
