"""`gpunode bundle`: make a bundle for hosts without network, and look at one. Needs no root, and changes nothing but the bundle's file."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, load_profile
from gpunode.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from gpunode.engine.bundle import Made
    from gpunode.host.bundle_making import Signer

app = typer.Typer(
    help="Make a bundle for hosts without network, and look at one.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def create(
    output: Annotated[str, typer.Option("--output", metavar="FILE", help="The bundle to write.")],
    profile: options.Profile = options.DEFAULT_PROFILE,
    distribution: Annotated[
        str | None,
        typer.Option(
            "--distribution", metavar="ID", help="The target's, as its os-release has it; left out: this host's."
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="VERSION", help="The target's release: 13, 24.04; left out: this host's."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", metavar="ARCH", help="x86_64 or aarch64; left out: this host's.")
    ] = None,
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            metavar="RELEASE",
            help="The target's `uname -r`, whose headers come along where modules are built.",
        ),
    ] = "",
    nvswitch: Annotated[
        bool, typer.Option("--nvswitch", help="The target has NVSwitches: bring the fabric manager.")
    ] = False,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--sources",
            metavar="FILE",
            help="apt sources (.list or .sources) of the target's own distribution; left out: this host's, if of the same release. "
            "Can be repeated.",
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="FILE", help="The target's /var/lib/dpkg/status: what it has already is left out."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="An archive of container images to bring along. Can be repeated."),
    ] = None,
    sign_with: Annotated[
        str,
        typer.Option(
            "--sign-with", metavar="KEY", help="Fingerprint of your GnuPG key to sign with; left out: not signed."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Gather packages with all they need, keys, the device plugin and images for a host that has no network.

    The host may be of another distribution's release and another architecture than this machine, which must have apt.
    """
    from gpunode import __version__
    from gpunode.engine import bundle
    from gpunode.engine.situation import site_catalog
    from gpunode.host.local import LocalMachine

    session, machine = Session("bundle create", verbose=verbose, color=color), LocalMachine()

    def made() -> Made:
        wanted, catalog = load_profile(profile).profile, site_catalog(machine)
        here = machine.os_release()
        target = bundle.target_of(
            catalog,
            distribution or here.get("id", ""),
            release or here.get("version_id", ""),
            architecture or machine.architecture(),
        )
        request = bundle.Request(
            wanted,
            target,
            os.path.abspath(output),
            kernel=kernel,
            nvswitches=int(nvswitch),
            sources=_named(sources or []),
            status=_read(status) if status else b"",
            images=tuple(os.path.abspath(path) for path in image or ()),
            signer=_signer(sign_with),
        )
        return bundle.create(machine, catalog, request, version=__version__, on_line=_tell)

    session.exit_by(lambda: _show(session, made(), as_json=as_json))


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The bundle.")],
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="FILE", help="Judge it by what this profile pins, too: key or sum."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Verify every file of a bundle and say what it holds."""
    from gpunode.engine import bundle
    from gpunode.host.local import LocalMachine

    session = Session("bundle inspect", verbose=verbose, color=color)

    def found() -> Made:
        pinning = load_profile(profile).profile if profile else None
        return bundle.inspect(LocalMachine(), os.path.abspath(file), pinning)

    session.exit_by(lambda: _show(session, found(), as_json=as_json))


def _named(paths: list[str]) -> tuple[tuple[str, str], ...]:
    """The files given, each under a name that no other has. Raises UsageError."""
    return tuple(
        (f"{number}-{os.path.basename(path)}", _read(path).decode("utf-8", "replace"))
        for number, path in enumerate(paths)
    )


def _signer(key: str) -> Signer | None:
    """Whose key, and what of this terminal's environment gpg needs to find and unlock it."""
    from gpunode.host.bundle_making import Signer

    home = os.environ.get("GNUPGHOME") or os.path.expanduser("~/.gnupg")
    settings = {"GNUPGHOME": home, "GPG_TTY": os.environ.get("GPG_TTY", "")}
    return Signer(key, tuple((name, value) for name, value in settings.items() if value)) if key else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _tell(line: str) -> None:
    """Progress on standard error: gathering takes minutes."""
    print(line, file=sys.stderr)


def _show(session: Session, made: Made, *, as_json: bool) -> int:
    """Print it; returns the exit status."""
    from gpunode.report.bundle import document

    if as_json:
        print(json.dumps(document(made, session.command), indent=2))
    else:
        session.terminal().bundle(made)
    return ExitCode.OK
