"""What the API server is told to do wrong: the file `faults.json` of its folder, a list that is read again when it has changed."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Fault:
    """Requests are answered otherwise whose user agent, method and path the pattern `of` finds (`kubectl\\S* PATCH .*daemonsets`).

    The first `skip` of them pass, the next `times` are met (0: all that come). `code` is the answer's status, with `reason`,
    `message` and `retry_after` seconds; 0 cuts the connection without a word, after `delay` seconds.
    """

    of: str
    skip: int = 0
    times: int = 0
    code: int = 0
    reason: str = ""
    message: str = ""
    retry_after: int = 0
    delay: float = 0
    seen: int = field(default=0, init=False)

    def meets(self, request: str) -> bool:
        """Whether this request is one of those; it is counted."""
        if not re.search(self.of, request):
            return False
        self.seen += 1
        return self.seen > self.skip and (not self.times or self.seen <= self.skip + self.times)


class Faults:
    """The faults of one file."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._read_at, self._faults = 0, list[Fault]()

    def meeting(self, agent: str, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            self._read()
            return next((fault for fault in self._faults if fault.meets(f"{agent} {method} {path}")), None)

    def _read(self) -> None:
        changed = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if changed != self._read_at:
            self._faults = [Fault(**entry) for entry in json.loads(self._file.read_text())] if changed else []
            self._read_at = changed
