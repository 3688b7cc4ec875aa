"""`gpunode render`: what would be written, on stdout. Needs no root and touches no host."""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, load_profile
from gpunode.errors import GpunodeError, UsageError

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile


class Flavour(str, Enum):
    """The Kubernetes distributions whose layout is known."""

    plain = "plain"
    k3s = "k3s"
    rke2 = "rke2"
    microk8s = "microk8s"
    k0s = "k0s"
    none = "none"


class ManifestFormat(str, Enum):
    """How objects are printed."""

    yaml = "yaml"
    json = "json"


app = typer.Typer(help="Print what would be written, without a host.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def containerd(
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="The config to patch; left out: a new one; -: standard input."),
    ] = None,
    imported: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="HOSTPATH=FILE",
            help="FILE is what the config imports as HOSTPATH; FILE alone where it lies at the same path. Can be repeated.",
        ),
    ] = None,
    containerd_version: Annotated[
        str, typer.Option("--containerd-version", help="The release that reads it.")
    ] = "1.7.24",
    flavour: Annotated[
        Flavour | None,
        typer.Option("--flavour", help="The Kubernetes distribution; left out: the profile's, else plain."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="The host profile; left out: its defaults.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Print the difference instead.")] = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Print containerd's config with the nvidia runtime in it, byte for byte as apply would write it.

    Where a drop-in changes, alone or with others, each file that changes is opened by a line `# --- PATH ---`.
    """
    from gpunode.engine.render import Import, containerd_config

    try:
        given = _imports(config, imported or [])
        text = None if config is None else _read(config)
        rendered = containerd_config(
            text,
            containerd_version,
            _wanted(profile, flavour),
            name=config or "a new config",
            imported=[Import(path, _read(file), file) for path, file in given.items()],
            diff=diff,
        )
    except GpunodeError as error:
        _refuse(error, color)
    for note in rendered.notes:
        print(f"note: {note}", file=sys.stderr)
    # Newlines are the file's own: text mode would not change them here, and must not elsewhere.
    sys.stdout.buffer.write(rendered.text.encode())


@app.command("device-plugin")
def device_plugin(
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="The host profile; left out: its defaults.")
    ] = None,
    flavour: Annotated[
        Flavour | None,
        typer.Option("--flavour", help="The Kubernetes distribution; left out: the profile's, else plain."),
    ] = None,
    output: Annotated[ManifestFormat, typer.Option("--output", help="YAML documents, or one List.")] = (
        ManifestFormat.yaml
    ),
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Print the Kubernetes objects that apply would apply, for `kubectl apply --server-side -f -`."""
    from gpunode.engine.render import device_plugin_objects

    try:
        rendered = device_plugin_objects(_wanted(profile, flavour), as_json=output is ManifestFormat.json)
    except GpunodeError as error:
        _refuse(error, color)
    for note in rendered.notes:
        print(f"note: {note}", file=sys.stderr)
    print(rendered.text, end="")


def _refuse(error: GpunodeError, color: options.ColorWhen = options.ColorWhen.auto) -> NoReturn:
    """One line on standard error whatever the error has to tell, nothing on standard output, exit status 2."""
    said = "; ".join(each.strip() for each in (error.message, *error.details, error.hint) if each)
    Session("render", color=color).fail(UsageError(said))


def _imports(config: str | None, options: list[str]) -> dict[str, str]:
    """By their paths on the host, the files to read. Raises UsageError for one that says no such path."""
    found: dict[str, str] = {}
    for option in options:
        path, _, file = option.partition("=") if option.startswith("/") else ("", "", option)
        if not path:
            raise UsageError(f"--import {option}: where is it on the host? Say --import HOSTPATH={option}")
        if path in found:
            raise UsageError(f"--import {path}: given twice")
        found[path] = file or path
    if [config, *found.values()].count("-") > 1:
        raise UsageError("standard input can be read once only: name a file in place of the other -")
    return found


def _wanted(path: str | None, flavour: Flavour | None) -> HostProfile:
    """The profile, its defaults where none is given, with the flavour that the command line names."""
    from gpunode.profile.model import HostProfile

    profile = load_profile(path).profile if path else HostProfile()
    if flavour is None:
        return profile
    return profile.model_copy(update={"kubernetes": profile.kubernetes.model_copy(update={"flavour": flavour.value})})


def _read(path: str) -> str:
    """A file's text, its line ends as they are. Raises UsageError."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else _bytes(path)
        return content.decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} line {line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
