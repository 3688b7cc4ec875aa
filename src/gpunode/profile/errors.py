"""What is wrong in a profile, said so that it can be put right without looking anything up."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpunode.errors import UsageError
from gpunode.profile.text import shortened

_MOST_SHOWN = 40
_WIDEST_SUBJECT = 40


@dataclass(frozen=True)
class Problem:
    """One mistake in a profile.

    ``line`` and ``column`` count from 1; 0 means that the mistake belongs to the file as a whole. ``key`` is the
    dotted key, empty where the text is not TOML. ``message`` says what is wrong and what is allowed; ``hint`` is the
    likely correction, where there is one.
    """

    line: int
    column: int
    key: str
    message: str
    hint: str | None = None

    @property
    def place(self) -> str:
        """Where in the file: ``line 4``, or ``the file``."""
        return f"line {self.line}" if self.line else "the file"

    @property
    def subject(self) -> str:
        """The key, or the column where no key could be made out."""
        return shortened(self.key) or (f"column {self.column}" if self.column else "")

    @property
    def sentence(self) -> str:
        """The message and, behind a semicolon, the hint."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ProfileError(UsageError):
    """A profile that cannot be used; ``problems`` lists every mistake in the order of the file."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        """Take the file's ``name`` as the operator gave it and its mistakes, at least one."""
        self.name = name
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column, problem.key))
        headline = f"{name}: {len(problems)} mistake{'s' if len(problems) > 1 else ''}"
        super().__init__(headline, details=_lines(self.problems))

    def __str__(self) -> str:
        return "\n".join((self.message, *self.details))


def _lines(problems: Sequence[Problem]) -> tuple[str, ...]:
    """One aligned line a problem; past the first forty a count stands for the rest."""
    shown = problems[:_MOST_SHOWN]
    place_width = max(len(problem.place) for problem in shown)
    subject_width = min(max(len(problem.subject) for problem in shown), _WIDEST_SUBJECT)
    lines = [
        f"  {problem.place:<{place_width}}  {_subject(problem, subject_width)}{problem.sentence}" for problem in shown
    ]
    if len(problems) > len(shown):
        lines.append(f"  … and {len(problems) - len(shown)} more")
    return tuple(lines)


def _subject(problem: Problem, width: int) -> str:
    return f"{problem.subject:<{width}}  " if width else ""
