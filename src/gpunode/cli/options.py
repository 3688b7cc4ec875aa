"""The options that commands have in common, each said once."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class OutputFormat(str, Enum):
    """How a result is told."""

    text = "text"
    json = "json"


class CheckFormat(str, Enum):
    """How a check is told: for people, for programs, for CI, for monitoring."""

    text = "text"
    json = "json"
    junit = "junit"
    prometheus = "prometheus"
    github = "github"
    npd = "npd"


class VerifyFormat(str, Enum):
    """How a verification is told."""

    text = "text"
    json = "json"
    junit = "junit"


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
CheckOutput = Annotated[
    CheckFormat,
    typer.Option(
        "--output",
        help="Text for people; a document for programs, CI or node_exporter; or node-problem-detector's protocol.",
    ),
]
VerifyOutput = Annotated[VerifyFormat, typer.Option("--output", help="Text for people, or a document on stdout.")]
OutputFile = Annotated[
    str | None,
    typer.Option("--output-file", metavar="FILE", help="Write the document there in one step, and nothing on stdout."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show more: in-sync resources, tracebacks of internal errors.")
]
Color = Annotated[ColorWhen, typer.Option("--color", help="When to colour the output.")]
