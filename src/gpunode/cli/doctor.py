"""`gpunode doctor`: what is wrong with this host, or with what a log tells of, and what mends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation, write_private
from gpunode.errors import UsageError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation
    from gpunode.report.terminal import Terminal

NAME = "doctor"
LARGEST_LOG = 64 << 20
"""Bytes. A day of a busy node's journal is less."""
Log = Annotated[
    str | None,
    typer.Option("--log", metavar="FILE", help="Look at this log or pasted error instead of the host; -: stdin."),
]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="DIR", help="Look at a host's files below DIR: a mounted disk, an unpacked backup."),
]
SupportArchive = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="Write a support archive (tar.gz): report, configuration, logs, packages; what looks like a secret is taken out.",
    ),
]


def main(
    log: Log = None,
    root: Root = None,
    archive: SupportArchive = None,
    output: options.CheckOutput = options.CheckFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Name what is wrong with this host, causes first, without a profile of it. Changes nothing; exits 3 where something is."""
    session = Session(NAME, output, verbose, color)
    if log is not None and (root is not None or archive is not None):
        session.fail(UsageError("--log looks at a text: neither --root nor --bundle go with it"))
    session.run(lambda: _doctor(log, root, archive), _show)


def _show(terminal: Terminal, report: Report) -> None:
    from gpunode.engine.doctor import verdict

    terminal.doctor(report, verdict(report))


def _doctor(log: str | None, root: str | None, archive: str | None) -> Report:
    from gpunode.engine.doctor import doctor, doctor_of_text, doctor_of_tree

    if log is not None:
        return doctor_of_text(_read(log))
    if root is None:
        here = situation(None)
        report = doctor(here)
    else:
        from gpunode.host.tree import TreeMachine

        tree = TreeMachine(root)
        here = situation(None, machine=tree)
        report = doctor_of_tree(here, tree.unseen())
    if archive is not None:
        _write_archive(here, report, archive)
    return report


def _write_archive(here: Situation, report: Report, path: str) -> None:
    """Write the archive and list it in the report. Raises UsageError."""
    from gpunode.engine.results import ArchiveResult
    from gpunode.engine.support_archive import listed, pieces
    from gpunode.report.archive import tar_gz

    found = pieces(here, report)
    write_private(path, tar_gz("gpunode-support", ((each.name, each.text) for each in found), now=here.machine.now()))
    report.archive = ArchiveResult(path, tuple(listed(each) for each in found))


def _read(path: str) -> str:
    """A log's text, whatever bytes are in it. Raises UsageError."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(LARGEST_LOG + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(LARGEST_LOG + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > LARGEST_LOG:
        raise UsageError(f"{path} is larger than {LARGEST_LOG >> 20} MiB", hint="give the part around the failure")
    return content.decode("utf-8", "replace")
