"""`gpunode verify`: the smoke tests."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation

if TYPE_CHECKING:
    from gpunode.engine.results import Report

NAME = "verify"


class Level(str, Enum):
    """How far up the layers are tried."""

    host = "host"
    container = "container"
    kubernetes = "kubernetes"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    level: Annotated[
        Level | None, typer.Option("--level", help="Up to which layer; the profile's when not given.")
    ] = None,
    output: options.VerifyOutput = options.VerifyFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Try the node out, layer by layer from the PCI bus to a pod that computes on the GPU. Exits 5 when a layer fails."""
    session = Session(NAME, output, verbose, color)
    session.run(lambda: _verify(session, profile, level), lambda terminal, report: terminal.verify(report))


def _verify(session: Session, profile: str, level: Level | None) -> Report:
    from gpunode.engine.apply import require_root
    from gpunode.engine.verify import verify

    here = situation(profile)
    require_root(here)
    with session.live(table_follows=True) as listener:
        here.listener = listener
        return verify(here, level.value if level else None)
