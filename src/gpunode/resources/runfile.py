"""What a vendor's self-extracting installer (`.run`) installs: NVIDIA's driver, the CUDA toolkit."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.installers import Installer
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, Consequences, Difference, Local


@dataclass(frozen=True)
class RunfileInstallation(Local):
    """One version, by its installer. `kind` begins its id; `proof` is a file that is there when this version is installed."""

    kind: str
    version: str
    installer: Installer
    proof: str
    why: str

    @property
    def id(self) -> str:
        """`runfile:VERSION`, `cuda-runfile:VERSION`."""
        return f"{self.kind}:{self.version}"

    def observe(self, host: Reader) -> bool:
        """Whether this version is installed, by its uninstaller and its proof."""
        return host.exists(self.installer.uninstaller[0]) and host.exists(self.proof)

    def differences(self, state: bool) -> list[Difference]:
        """Not installed."""
        wanted = f"{self.version} by {self.installer.source}"
        return [] if state else [Difference(self.installer.thing, "not installed", wanted, self.why)]

    def consequences(self, state: bool) -> Consequences:
        """What the installer's own uninstaller does is all that can be promised."""
        word = f"the .run {self.installer.thing} is taken out by its own uninstaller; what that leaves behind is not gpunode's to know"
        return NO_CONSEQUENCES if state else Consequences(irreversible=(word,))

    def converge(self, host: Writer, _state: bool) -> None:
        """Fetch, verify, run. Raises HostError when no checksum is known for it."""
        if not self.installer.sha256:
            raise HostError(
                f"no sha256 is known for the installer {self.installer.name}",
                hint=f"give it in the profile: {self.installer.key}.sha256",
            )
        host.run_installer(self.installer)
