"""What gpunode needs of a container engine: to find it, read, edit and prove its configuration, and have it read it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gpunode.catalog.model import Flavour
from gpunode.formats.engine_config import ConfigFiles, Edited, Request
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer


@dataclass(frozen=True)
class FoundEngine:
    """A container engine as found on a host.

    `version` is what its binary answers, empty where it does not. `config` is the main file that its unit really uses, and
    `config_from` says how that is known. `drop_in` is where a file of gpunode's own may lie, empty where there is no such place.
    `generated` says that `config` is written anew by somebody else at every start. `unit` is empty for an engine without a daemon.
    `placeholders` are the words of a template and what they stand for; `socket` is made anew whenever the daemon starts.
    """

    name: str
    version: str
    binary: str
    unit: str
    config: str
    config_from: str
    drop_in: str = ""
    generated: bool = False
    placeholders: tuple[tuple[str, str], ...] = ()
    socket: str = ""


@dataclass(frozen=True)
class Proof:
    """What was seen when an edit was tried before it was made.

    `words` say by what it was proved. `differs` is False when the engine makes the same of the files as before; `digest` stands for
    what it makes of them then.
    """

    words: str
    differs: bool
    digest: str


def digest_of(effective: dict[str, Any]) -> str:
    """A digest of what an engine makes of its configuration; where it read it from does not count."""
    told = {key: value for key, value in effective.items() if key != "imports"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


class ContainerEngine(Protocol):
    """One engine. `title` is its own name for itself."""

    name: str
    title: str

    def restarts(self, found: FoundEngine) -> bool:
        """Whether `reload` restarts its daemon, as one that reads its configuration only when it starts."""

    def find(self, host: Reader, flavour: Flavour) -> FoundEngine | None:
        """The engine on this host, None where there is none. `flavour` is the Kubernetes distribution's layout."""

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """Every file that it reads. Raises HostError for one that cannot be used, naming file and line."""

    def edit(self, files: ConfigFiles, request: Request) -> Edited:
        """The files with the nvidia runtime in them. Pure. Raises ConfigError, TomlError or EditError."""

    def effective(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> dict[str, Any]:
        """What the engine makes of these files, as data. Raises HostError with the engine's own words when it refuses them."""

    def prove(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> Proof:
        """That the edit changes exactly what it means to, before any file is replaced.

        Raises HostError naming the key that would change besides.
        """

    def stale(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> str:
        """Why the running daemon runs with something else than its files say; empty when it does not, or nothing is known of that."""

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """Have the daemon read its configuration again, its containers running on. `loaded` is the digest that it then runs with.

        Raises HostError with the daemon's own log lines when it does not come back.
        """
