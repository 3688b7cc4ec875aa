"""What happens during a run, as it happens, for whoever shows progress. The engine calls; a report's live view listens."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Told of a run's progress. Every method may be ignored."""

    def step_began(self, name: str, title: str, resources: int) -> None:
        """A step begins, with so many resources to look at."""

    def resource_began(self, step: str, resource: str, summary: str) -> None:
        """A resource differs and is being converged; `summary` says what changes."""

    def line(self, text: str) -> None:
        """A long command printed a line."""

    def received(self, count: int, total: int | None) -> None:
        """A download has so many bytes, of so many where the server said."""

    def resource_ended(self, step: str, resource: str, seconds: float, error: str) -> None:
        """A resource is in sync (`error` empty), or failed."""

    def step_ended(self, name: str, state: str, seconds: float) -> None:
        """A step ended."""

    def probe_began(self, name: str, tried: str) -> None:
        """A smoke test begins."""

    def probe_ended(self, name: str, state: str, detail: str, seconds: float) -> None:
        """A smoke test ended."""

    def undone(self, step: str, description: str, left: tuple[str, ...]) -> None:
        """A rollback took back one entry of the journal."""


class Silent:
    """A Listener for when nobody watches."""

    def step_began(self, name: str, title: str, resources: int) -> None:
        """Nothing."""

    def resource_began(self, step: str, resource: str, summary: str) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""

    def received(self, count: int, total: int | None) -> None:
        """Nothing."""

    def resource_ended(self, step: str, resource: str, seconds: float, error: str) -> None:
        """Nothing."""

    def step_ended(self, name: str, state: str, seconds: float) -> None:
        """Nothing."""

    def probe_began(self, name: str, tried: str) -> None:
        """Nothing."""

    def probe_ended(self, name: str, state: str, detail: str, seconds: float) -> None:
        """Nothing."""

    def undone(self, step: str, description: str, left: tuple[str, ...]) -> None:
        """Nothing."""
