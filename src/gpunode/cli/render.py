"""`gpunode render`: what would be written, on stdout. Needs no root and touches no host."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, load_profile
from gpunode.errors import GpunodeError, UsageError

app = typer.Typer(help="Print what would be written, without a host.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def containerd(
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="The config to patch; none: a new one; -: stdin.")
    ] = None,
    containerd_version: Annotated[
        str, typer.Option("--containerd-version", help="The release that reads it.")
    ] = "1.7.24",
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="The host profile; none: its defaults.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Print the difference instead.")] = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Print containerd's config with the nvidia runtime in it, byte for byte as apply would write it."""
    from gpunode.engine.render import containerd_config

    try:
        text = None if config is None else _read(config)
        wanted = load_profile(profile).profile if profile else None
        rendered = containerd_config(text, containerd_version, wanted, name=config or "config.toml", diff=diff)
    except GpunodeError as error:
        Session("render containerd", color=color).fail(
            UsageError(error.message, hint=error.hint, details=error.details)
        )
    # Newlines are the file's own: text mode would not change them here, and must not elsewhere.
    sys.stdout.buffer.write(rendered.encode())


@app.command("device-plugin")
def device_plugin(
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="The host profile; none: its defaults.")
    ] = None,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Print the Kubernetes objects that apply would apply, as YAML."""
    from gpunode.engine.render import device_plugin_objects

    try:
        print(device_plugin_objects(load_profile(profile).profile if profile else None), end="")
    except GpunodeError as error:
        Session("render device-plugin", color=color).fail(error)


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
