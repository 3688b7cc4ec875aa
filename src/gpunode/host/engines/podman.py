"""Podman: no daemon and nothing to configure. It gives containers their GPUs by a CDI specification of the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunode.catalog.model import Flavour
from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited, Request
from gpunode.host.engines import reading
from gpunode.host.engines.base import FoundEngine, Proof, digest_of
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer

CONFIG = "/etc/containers/containers.conf"
CDI_FIRST = (4, 1)
PLACE = (
    "nothing to edit: Podman gives containers their GPUs by CDI (`podman run --device nvidia.com/gpu=0`), "
    "from a specification in /etc/cdi or /var/run/cdi"
)


class Podman:
    """Podman, which starts containers without a daemon."""

    name = "podman"
    title = "Podman"

    def restarts(self, _found: FoundEngine) -> bool:
        """There is no daemon."""
        return False

    def find(self, host: Reader, _flavour: Flavour) -> FoundEngine | None:
        """By its binary."""
        binary = host.which("podman")
        if not binary:
            return None
        return FoundEngine(self.name, reading.version_of(host, binary), binary, "", CONFIG, "Podman's default")

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """Its settings, of which none needs a change."""
        return ConfigFiles(ConfigFile(found.config, reading.config_text(host, found.config, self.title)))

    def edit(self, _files: ConfigFiles, request: Request) -> Edited:
        """No file; a release that has no CDI is named."""
        version = tuple(int(part) for part in request.version.split(".")[:2] if part.isdigit())
        old = bool(version) and version < CDI_FIRST
        left = (f"Podman {request.version} has no CDI of today's kind, 4.1 is the first that does",) if old else ()
        return Edited((), (), PLACE, left)

    def effective(self, _host: Reader, _found: FoundEngine, _files: ConfigFiles) -> dict[str, Any]:
        """Nothing of it matters here."""
        return {}

    def prove(self, _host: Reader, _found: FoundEngine, _files: ConfigFiles, _edited: Edited) -> Proof:
        """There is nothing to prove."""
        return Proof("nothing changes", differs=False, digest=digest_of({}))

    def stale(self, _host: Reader, _found: FoundEngine, _files: ConfigFiles) -> str:
        """Each `podman run` reads everything anew."""
        return ""

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """There is no daemon."""
