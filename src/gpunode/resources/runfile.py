"""NVIDIA's driver by its self-extracting installer."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, Consequences, Difference, Local


@dataclass(frozen=True)
class RunfileDriver(Local):
    """The driver at one version, by the `.run` installer. `library` is a file that is there when that version is installed."""

    version: str
    source: str
    sha256: str
    arguments: tuple[str, ...]
    uninstaller: tuple[str, ...]
    record: str
    log: str
    library: str
    why: str

    @property
    def id(self) -> str:
        """`runfile:VERSION`."""
        return f"runfile:{self.version}"

    def observe(self, host: Reader) -> bool:
        """Whether this version is installed, by its uninstaller and its library."""
        return host.exists(self.uninstaller[0]) and host.exists(self.library)

    def differences(self, state: bool) -> list[Difference]:
        """Not installed."""
        return [] if state else [Difference("driver", "not installed", f"{self.version} by {self.source}", self.why)]

    def consequences(self, state: bool) -> Consequences:
        """What the installer's own uninstaller does is all that can be promised."""
        word = "the .run driver is taken out by its own uninstaller; what that leaves behind is not gpunode's to know"
        return NO_CONSEQUENCES if state else Consequences(irreversible=(word,))

    def converge(self, host: Writer, _state: bool) -> None:
        """Fetch, verify, run. Raises HostError when no checksum is known for it."""
        if not self.sha256:
            raise HostError(
                f"no sha256 is known for the driver installer {self.version}",
                hint="give it in the profile: driver.runfile.sha256",
            )
        host.run_installer(
            self.source,
            sha256=self.sha256,
            arguments=self.arguments,
            uninstaller=self.uninstaller,
            record=self.record,
            log=self.log,
        )
