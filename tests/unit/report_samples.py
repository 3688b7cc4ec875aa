"""Sample reports, and streams to print them on."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from gpunode.engine.results import DifferenceResult, FindingResult, ProbeResult, Report, Result, StepResult
from gpunode.host.journal import Entry, RunRecord
from gpunode.report.page import Color
from gpunode.report.terminal import Terminal

LONG_PATH = "/etc/apt/sources.list.d/" + "a-very-long-name-of-a-file-" * 6 + "nvidia.sources"
SOURCE_DIFF = f"""\
--- {LONG_PATH}
+++ {LONG_PATH}
@@ -0,0 +1,3 @@
+Types: deb
+URIs: https://repository.example/compute/cuda/repos/debian13/x86_64/
+Signed-By:\t/usr/share/keyrings/nvidia-cuda.gpg
"""
TOML_DIFF = """\
--- /etc/containerd/config.toml
+++ /etc/containerd/config.toml
@@ -12,3 +12,5 @@
       [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
-        SystemdCgroup = false
+        SystemdCgroup = true
\x20
+      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
+        runtime_type = "io.containerd.runc.v2"
"""
DRIVER = StepResult(
    "driver",
    "NVIDIA driver",
    "drift",
    resources=9,
    differences=[
        DifferenceResult(
            "key:/usr/share/keyrings/nvidia-cuda.gpg",
            "fingerprint",
            "absent",
            "EB693B3035CD5710E231E123A4B469963BF863CC",
            "apt trusts the repository by this key alone",
        ),
        DifferenceResult(
            f"file:{LONG_PATH}", "content", "absent", "as shown", "the driver comes from here", SOURCE_DIFF
        ),
        DifferenceResult("packages:driver", "nvidia-open", "absent", "580.159.04-1", "the profile asks for branch 580"),
        DifferenceResult(
            "packages:driver", "libcuda1", "550.163.01-1", "580.159.04-1", "the profile asks for branch 580"
        ),
        DifferenceResult(
            "absent:/etc/modprobe.d/*nouveau*", "/etc/modprobe.d/old.conf", "present", "absent", "it is obsolete"
        ),
        DifferenceResult(
            "hold:driver", "nvidia-open", "not held", "held", "an unattended upgrade would break running pods"
        ),
        DifferenceResult(
            "service:nvidia-persistenced.service", "enabled", "disabled", "enabled", "the GPU stays initialised"
        ),
        DifferenceResult(
            "module:nvidia", "nvidia", "not loaded", "loaded, 580.159.04 (open)", "GPUs answer through it"
        ),
    ],
    irreversible=["a loaded kernel module that is in use stays until the next boot"],
    notes=["the DKMS build takes about three minutes"],
    findings=[
        FindingResult(
            "driver-library-mismatch",
            "error",
            "The loaded driver and its libraries are of different versions",
            "The packages were upgraded while the old module was loaded; every CUDA program fails until the module is replaced.",
            evidence=(
                "/proc/driver/nvidia/version: NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.163.01  Release Build",
                "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04",
            ),
            mend=("systemctl stop kubelet", "rmmod nvidia_uvm nvidia && modprobe nvidia"),
            explains=("module:nvidia",),
            references=("https://documentation.example/driver/mismatch",),
        )
    ],
    seconds=134.2,
)
CONTAINERD = StepResult(
    "containerd",
    "containerd runtime",
    "drift",
    resources=2,
    differences=[
        DifferenceResult(
            "toml:/etc/containerd/config.toml", "plugins.cri.containerd.runtimes.nvidia", "absent", "set",
            "pods with this runtime class see the GPU", TOML_DIFF,
        ),
        DifferenceResult(
            "toml:/etc/containerd/config.toml", "plugins.cri.containerd.runtimes.runc.options.SystemdCgroup", "false", "true",
            "the kubelet's cgroup driver is systemd",
        ),
    ],
    restarts=["containerd.service"],
    seconds=1.2,
)  # fmt: skip
PROBES = [
    ProbeResult("nvml", "driver", "list the GPUs through NVML", "the driver and its library speak to the GPU", "passed",
                "1 GPU: NVIDIA H100 80GB HBM3", 0.12),
    ProbeResult("cuda", "CUDA", "add 50,000 numbers on the GPU", "programs run on the GPU and compute right", "passed",
                "Test PASSED", 0.31),
    ProbeResult("container", "container runtime", "the same in a container of runtime nvidia",
                "the runtime hands the GPU to containers", "failed",
                "no CUDA-capable device is detected\nthe container was given no /dev/nvidia0", 2.4),
    ProbeResult("pod", "Kubernetes", "the same in a pod with nvidia.com/gpu: 1", "the scheduler hands the GPU to pods",
                "skipped", "the layer beneath it failed"),
]  # fmt: skip


def steps() -> list[StepResult]:
    return [
        DRIVER,
        StepResult("cuda", "CUDA toolkit", "in-sync", resources=4, seconds=0.1),
        StepResult("container_toolkit", "NVIDIA Container Toolkit", "skipped", why="the profile leaves it to the GPU Operator"),
        CONTAINERD,
        StepResult("device_plugin", "Kubernetes device plugin", "unknown", why="the API server is not up before containerd is"),
        StepResult("verify", "Smoke tests", "not-run", why="apply runs them"),
    ]  # fmt: skip


def report(result: Result = "pending", command: str = "plan") -> Report:
    return Report(command, result, steps=steps(), seconds=3.4)


def applied(result: Result = "changed") -> Report:
    done = [replace(step, state="changed", findings=[]) if step.state == "drift" else step for step in steps()]
    done[-1] = StepResult("verify", "Smoke tests", "failed", probes=PROBES, seconds=2.9)
    return Report("apply", result, run="0007", steps=done, seconds=182.0)


class Tty(io.StringIO):
    """A terminal whose screen can be read."""

    def isatty(self) -> bool:
        return True


class Bytes(io.TextIOWrapper):
    """A pipe of an encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def getvalue(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def piped(color: Color = "auto", *, verbose: bool = False) -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Terminal(color, verbose, out=out, err=err), out, err


def on_screen(monkeypatch: pytest.MonkeyPatch, columns: int, color: Color = "auto") -> tuple[Terminal, Tty]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Tty()
    return Terminal(color, out=out, err=out), out


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


IMAGE = {"kind": "file", "mode": 0o644, "uid": 0, "gid": 0, "sha": "00", "xattrs": {}}
MANIFEST = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "plugin", "namespace": "kube-system"}}
INTENTS: dict[str, tuple[dict[str, object], str]] = {
    "write-file": ({"path": "/etc/a", "before": None, "after": IMAGE}, "made /etc/a"),
    "remove-file": ({"path": "/etc/b", "before": IMAGE, "after": None}, "removed /etc/b"),
    "make-link": ({"path": "/c", "before": None, "after": {"kind": "link", "target": "/d"}}, "linked /c → /d"),
    "make-directory": ({"path": "/etc/e", "mode": 0o755}, "made the folder /etc/e"),
    "install-packages": (
        {"manager": "apt", "install": [["nvidia-open", "580.1"], ["dkms", ""]], "reinstall": [],
         "transaction": [{"name": name} for name in ("nvidia-open", "dkms", "gcc", "make")]},
        "installed nvidia-open 580.1, dkms and 2 packages that they need",
    ),
    "hold-packages": ({"manager": "apt", "names": ["a", "b"]}, "held a, b"),
    "enable-service": ({"unit": "x.service", "enabled": False, "active": True}, "enabled x.service"),
    "trust-key": ({"key": "D42D0685"}, "had rpm trust the key D42D0685"),
    "reboot": ({"why": "the modules are in use"}, "asked for a reboot: the modules are in use"),
    "await-restart": ({"unit": "k0sworker.service"}, "saw k0sworker.service restart its daemon"),
    "restart-service": ({"unit": "containerd.service", "active": True}, "restarted containerd.service"),
    "reload-service": ({"unit": "docker.service", "active": True}, "had docker.service read its configuration again"),
    "stop-service": ({"unit": "kubelet.service"}, "stopped kubelet.service"),
    "unload-module": ({"module": "nvidia"}, "unloaded the kernel module nvidia"),
    "load-module": ({"module": "nvidia"}, "loaded the kernel module nvidia"),
    "refresh": ({"what": "lists:apt"}, "fetched the package lists of apt"),
    "run-installer": ({"file": "/var/lib/x.run"}, "ran the installer x.run"),
    "apply-object": ({"manifest": MANIFEST, "existed": False}, "made DaemonSet plugin in kube-system"),
    "unpack-bundle": ({"bundle": "/a.tar", "folder": "/b/1"}, "unpacked the bundle /a.tar into /b/1"),
    "import-images": ({"names": ["x:1", "y:2"]}, "loaded the images x:1, y:2"),
    "drop-object": ({"manifest": MANIFEST}, "took away DaemonSet plugin"),
    "cordon-node": ({"node": "gpu1"}, "cordoned the node gpu1"),
    "evict-pod": ({"pod": {"namespace": "default", "name": "train"}}, "evicted the pod default/train"),
    "end-processes": ({"processes": [{"command": "a"}, {"command": "b"}]}, "ended a, b"),
    "pause-service": ({"unit": "nvidia-dcgm.service"}, "stopped nvidia-dcgm.service for a while"),
}  # fmt: skip
ENTRIES = [
    Entry("0007", seq, "driver", "r", verb, intent, "done")
    for seq, (verb, (intent, _)) in enumerate(INTENTS.items(), 1)
]
RUN = RunRecord("0007", "apply", 1_790_000_000.0, "profile.toml", "1.0", ENTRIES, "changed", 1_790_000_182.0)
