"""An engine that configures itself: k3s and RKE2 add the nvidia runtime to their generated config when they start and find its binary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunode.errors import HostError
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.toml_data import TomlError, lookup, parse
from gpunode.host import systemd
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.host.writer import Writer
from gpunode.resources.base import Consequences, Difference, Local

WHY = "the engine looks for the nvidia runtime once, when it starts"
TEMPLATES = ("config-v3.toml.tmpl", "config.toml.tmpl")
BASE = 'template "base"'


@dataclass(frozen=True)
class GeneratedState:
    """The generated config's CRI runtimes and default, the unit, and the operator's template where there is one."""

    runtimes: frozenset[str]
    default: str
    unit: Unit
    template: str


@dataclass(frozen=True)
class SelfConfigured(Local):
    """A generated config that names the runtime, and has it as its default where that is wanted; the unit restarted while it does not."""

    path: str
    unit: str
    runtime: str
    set_default: bool
    restart_timeout: int

    @property
    def id(self) -> str:
        """`generated:PATH`."""
        return f"generated:{self.path}"

    def observe(self, host: Reader) -> GeneratedState:
        """What the engine has generated. Raises HostError when that is no TOML."""
        try:
            data = parse(host.read_text(self.path) or "")
        except TomlError as error:
            raise HostError(f"{self.path}: {error}", hint=f"restart {self.unit}: it writes the file anew") from None
        sections = [lookup(data, (*layout.cri, "containerd")) for layout in knowledge().layouts.values()]
        found: list[dict[str, Any]] = [each for each in sections if isinstance(each, dict)]
        names = frozenset(name for each in found for name in each.get("runtimes", {}))
        default = next((str(each["default_runtime_name"]) for each in found if "default_runtime_name" in each), "runc")
        return GeneratedState(names, default, systemd.unit(host, self.unit), _template(host, self.path))

    def differences(self, state: GeneratedState) -> list[Difference]:
        """It does not name the runtime, or has another default."""
        found = []
        if self.runtime not in state.runtimes:
            found.append(Difference(f"runtimes.{self.runtime}", "absent", "present", WHY))
        if self.set_default and state.default != self.runtime:
            why = f"the profile makes {self.runtime} the runtime of every pod that names none"
            found.append(Difference("default_runtime_name", state.default, self.runtime, why))
        return found

    def consequences(self, _state: GeneratedState) -> Consequences:
        """A restart of the engine's unit."""
        return Consequences(restarts=(self.unit,))

    def converge(self, host: Writer, state: GeneratedState) -> None:
        """Restart it. Raises HostError when the file still does not name the runtime."""
        host.restart_service(self.unit, timeout=self.restart_timeout)
        left = self.differences(self.observe(host))
        if left:
            raise HostError(
                f"{self.unit} was restarted, and in its {self.path} {left[0].field} is still {left[0].found}",
                hint=self._hint(state),
            )

    def _hint(self, state: GeneratedState) -> str:
        if state.template:
            return f"{state.template} does not take up the engine's own {{{{ {BASE} . }}}}: put that in, or the runtime itself"
        return f"does it find /usr/bin/nvidia-container-runtime? see `journalctl -u {self.unit}`"


def _template(host: Reader, path: str) -> str:
    """The operator's template that the config is made from, where it leaves out what the engine adds."""
    folder = path.rpartition("/")[0]
    for name in TEMPLATES:
        content = host.read(f"{folder}/{name}")
        if content is not None:
            return "" if BASE.encode() in content else f"{folder}/{name}"
    return ""
