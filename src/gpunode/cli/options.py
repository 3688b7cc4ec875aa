"""The options that commands have in common, each said once."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class OutputFormat(str, Enum):
    """How a result is told."""

    text = "text"
    json = "json"


class ColorWhen(str, Enum):
    """When the terminal is coloured."""

    auto = "auto"
    always = "always"
    never = "never"


DEFAULT_PROFILE = "/etc/gpunode/profile.toml"

Profile = Annotated[str, typer.Option("--profile", metavar="FILE", help="The host profile.")]
Steps = Annotated[
    list[str] | None,
    typer.Option("--step", metavar="STEP", help="Only this step; may be given again. What it stands on is checked."),
]
Skip = Annotated[
    list[str] | None, typer.Option("--skip", metavar="STEP", help="Leave this step out; may be given again.")
]
Output = Annotated[OutputFormat, typer.Option("--output", help="Text for people, or one JSON document on stdout.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show more: in-sync resources, tracebacks of internal errors.")
]
Color = Annotated[ColorWhen, typer.Option("--color", help="When to colour the output.")]
