"""What lies between driver and pod, as data: Docker's file, the programs that runtimes name, what is left of the device plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gpunode.findings import runtimes
from gpunode.findings.evidence import EngineConfig, TextFile
from gpunode.steps.base import Context

KUBELET_SOCKET = "kubelet.sock"
RUNTIME = "nvidia-container-runtime"


@dataclass(frozen=True)
class DockerFile:
    """Docker's daemon.json. `error` says why it cannot be read, empty where it can."""

    path: str
    file: TextFile | None
    data: Mapping[str, Any]
    error: str

    @property
    def runtime_paths(self) -> dict[str, str]:
        """The programs of its runtimes, by the runtime's name."""
        listed = self.data.get("runtimes")
        entries = listed.items() if isinstance(listed, Mapping) else ()
        return {name: str(entry.get("path", "")) for name, entry in entries if isinstance(entry, Mapping)}


@dataclass(frozen=True)
class Plugin:
    """The device plugin by what it leaves on the host. `sockets` are times by name, in the kubelet's folder of plugins.

    `registered` counts the devices of each of NVIDIA's resources, None where the kubelet's checkpoint cannot be read; `allocated` says
    that the checkpoint speaks of any. `node` and `daemonset` are the cluster's words, asked only where no plugin serves.
    """

    folder: str
    sockets: Mapping[str, float] = field(default_factory=dict)
    checkpoint: TextFile | None = None
    registered: Mapping[str, int] | None = None
    allocated: bool = False
    log: TextFile | None = None
    node: Mapping[str, Any] | None = None
    daemonset: Mapping[str, Any] | None = None
    inotify: tuple[int, int] | None = None

    @property
    def kubelet(self) -> bool:
        """True when a kubelet takes registrations here."""
        return KUBELET_SOCKET in self.sockets

    @property
    def own_sockets(self) -> dict[str, float]:
        """The plugin's sockets."""
        return {name: when for name, when in self.sockets.items() if name.startswith("nvidia")}

    @property
    def serving(self) -> bool:
        """True when it has a socket, and the kubelet has devices of it, as far as is known."""
        return bool(self.own_sockets) and (self.registered is None or any(self.registered.values()))

    @property
    def expected(self) -> bool:
        """True when there is, or was, a plugin for this node: one that nobody brought in is no failure."""
        return self.allocated or self.log is not None or self.daemonset is not None

    def with_cluster(
        self,
        *,
        node: Mapping[str, Any] | None,
        daemonset: Mapping[str, Any] | None,
        inotify: tuple[int, int] | None,
    ) -> Plugin:
        """The same, with what had to be asked."""
        return replace(self, node=node, daemonset=daemonset, inotify=inotify)


def binaries_of(config: EngineConfig, context: Context) -> dict[str, str]:
    """The program of each of containerd's runtimes in effect that names one, by the runtime's name."""
    listed = runtimes.in_dump(config.effective) if config.effective else runtimes.in_file(config.data or {}, context)
    found = {name: _binary(entry) for name, entry in listed.items()}
    return {name: binary for name, binary in found.items() if binary}


def _binary(entry: Mapping[str, Any]) -> str:
    options = entry.get("options")
    value = options.get("BinaryName", "") if isinstance(options, Mapping) else ""
    return value if isinstance(value, str) else ""
