"""How a unit starts its program: variables and wrappers of its command line seen through, or refused where they cannot be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gpunode.errors import HostError
from gpunode.host import systemd
from gpunode.host.reader import Reader

BY_PROFILE = "name it by containerd.config in the profile"
SHELLS = ("sh", "bash", "dash")
SHELL_GRAMMAR = re.compile(r"[;&|<>()`\n]")
"""What makes more of a shell's line than one plain command."""


def config_option(
    reader: Reader,
    unit: str,
    words: tuple[str, ...],
    program: str,
    names: tuple[str, ...],
    *,
    environment: Sequence[str] = (),
    way_out: str = BY_PROFILE,
) -> tuple[str, str]:
    """The configuration file that a unit's ExecStart (`words`) gives its program, and where that is said in words for a person.

    Both are empty where it names none. `names` are all spellings of the option; the last one given wins, as it does for the program.
    `environment` as for `variables`. Raises HostError, with `way_out` as what to do, where the file cannot be known.
    """
    if not words:
        return "", ""
    inner = unwrapped(words, variables(reader, unit, environment))
    if not _is(inner[0], program):
        raise HostError(f"{unit} starts {program} by {inner[0]}, which hides its configuration: {way_out}")
    hidden = next((word for word in inner if word.startswith("$") and not is_variable(word)), None)
    given = _last(inner, names)
    path = given[1] if given else ""
    if hidden is not None or (given and not _is_known(path)):
        raise HostError(f"{unit} names its configuration by {hidden or path or 'an empty word'}: {way_out}")
    return (path, f"{given[0]} in the ExecStart of {unit}") if given else ("", "")


def program_of(reader: Reader, words: tuple[str, ...], program: str) -> str:
    """The full path of the program in a command line, wrappers seen through; empty when it starts another, or none that is there."""
    inner = unwrapped(words, {})
    if not inner or not _is(inner[0], program):
        return ""
    return reader.which(inner[0]) or ""


def variables(reader: Reader, unit: str, environment: Sequence[str] = ()) -> dict[str, str]:
    """The variables of a unit's program: of the files that distributions keep an engine's options in, and over them the unit's own."""
    files = (systemd.assignments(reader, path) for path in environment)
    return {**{name: value for file in files for name, value in file.items()}, **systemd.environment(reader, unit)}


def unwrapped(words: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """The command line behind `env`, `nice` and `sh -c`, its variables replaced; what cannot be seen through stays as it is.

    A variable that is not known stays too: as a word of its own it adds nothing to the command line, see `is_variable`.
    """
    seen = dict(known)
    inner = _expanded(words, seen)
    while behind := _behind(inner, seen):
        inner = behind
    return tuple(inner)


def is_variable(word: str) -> bool:
    """True for a word that is a variable and nothing else."""
    return re.fullmatch(r"\$\w+|\$\{\w+\}", word) is not None


def _is(word: str, program: str) -> bool:
    return word.rpartition("/")[2] == program


def _is_known(path: str) -> bool:
    """True for an absolute path in which nothing is left for systemd or a shell to replace."""
    return path.startswith("/") and not re.search(r"\$|%[A-Za-z]", path)


def _last(words: Sequence[str], names: Sequence[str]) -> tuple[str, str] | None:
    """The spelling and the value with which an option is given last; None where it is not given."""
    found = None
    for word, following in zip(words, (*words[1:], ""), strict=True):
        name, given, value = word.partition("=")
        if name in names:
            found = (name, value if given else following)
    return found


def _expanded(words: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """As systemd does it: `$X` as a word of its own becomes words, `${X}` is replaced anywhere, `$$` is a dollar sign."""
    found = list(words[:1])
    for word in words[1:]:
        if re.fullmatch(r"\$\w+", word):
            found += systemd.split(known[word[1:]]) if word[1:] in known else [word]
        else:
            found.append(
                re.sub(r"\$\$|\$\{(\w+)\}", lambda here: known.get(here[1], here[0]) if here[1] else "$", word)
            )
    return found


def _behind(words: Sequence[str], known: dict[str, str]) -> list[str]:
    """The command line that a wrapper runs; empty where there is no wrapper, or one that is not understood."""
    name = words[0].rpartition("/")[2] if words else ""
    if name == "env":
        return _behind_env(words[1:], known)
    if name == "nice":
        return _behind_nice(words[1:])
    if name in SHELLS and len(words) == 3 and words[1] in ("-c", "-ec"):
        return _behind_shell(words[2], known)
    return []


def _behind_env(words: Sequence[str], known: dict[str, str]) -> list[str]:
    """Without the variables that env sets, which a shell behind it may use."""
    rest = list(words)
    while rest and re.match(r"[A-Za-z_]\w*=", rest[0]):
        name, _, value = rest.pop(0).partition("=")
        known[name] = value
    return [] if rest and rest[0].startswith("-") else rest


def _behind_nice(words: Sequence[str]) -> list[str]:
    options = 0
    if words and words[0] in ("-n", "--adjustment"):
        options = 2
    elif words and re.fullmatch(r"(-n?|--adjustment=)-?\d+", words[0]):
        options = 1
    rest = list(words[options:])
    return [] if rest and rest[0].startswith("-") else rest


def _behind_shell(line: str, known: Mapping[str, str]) -> list[str]:
    """One plain command, its variables replaced as a shell does it: `$X` within a word too."""
    if SHELL_GRAMMAR.search(line):
        return []
    words = systemd.split(line)
    words = words[1:] if words[:1] == ["exec"] else words
    found: list[str] = []
    for word in words:
        replaced = word
        if "'" not in line:  # a shell replaces nothing between single quotes
            replaced = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda here: known.get(here[1] or here[2], here[0]), word)
        found += replaced.split() if is_variable(word) and replaced != word else [replaced]
    return found
