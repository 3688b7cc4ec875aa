"""Containers through the host's own containerd, by `ctr` in the name space that Kubernetes uses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gpunode.lab.kubernetes.handlers import Handler

UNKNOWN_EXIT = 137
"""The exit status of a container whose end nobody saw, such as one that a power cut ended."""

_STOP_SECONDS = 5.0

_DEFAULT_CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
)


class ContainerError(Exception):
    """containerd refused; the message is its own."""


@dataclass(frozen=True)
class Launch:
    """One container to start. `mounts` are (host path, container path, read only); `devices` are host paths."""

    identifier: str
    image: str
    handler: Handler
    log: Path
    command: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    mounts: list[tuple[str, str, bool]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    security: dict[str, Any] = field(default_factory=dict)
    working_directory: str = ""


def canonical(image: str) -> str:
    """The full name of an image: `busybox` is `docker.io/library/busybox:latest`."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif "." not in first and ":" not in first and first != "localhost":
        image = f"docker.io/{image}"
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _ctr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ctr", "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _checked(*arguments: str) -> str:
    done = _ctr(*arguments)
    if done.returncode != 0:
        raise ContainerError(
            done.stderr.strip().removeprefix("ctr: ").splitlines()[-1] if done.stderr else "ctr failed"
        )
    return done.stdout


def has_image(image: str) -> bool:
    """Whether containerd holds the image; raises ContainerError."""
    return image in _checked("images", "ls", "-q").split()


def _entrypoint(image: str) -> list[str]:
    """The image's own entry point; raises ContainerError."""
    rows = [line.split() for line in _checked("images", "ls", f"name=={image}").splitlines()[1:]]
    document = json.loads(_checked("content", "get", rows[0][2]))
    if "manifests" in document:
        document = json.loads(_checked("content", "get", document["manifests"][0]["digest"]))
    config = json.loads(_checked("content", "get", document["config"]["digest"]))
    return list(config.get("config", {}).get("Entrypoint") or [])


def start(launch: Launch) -> None:
    """Start the container in the background, its output going to the log file; raises ContainerError."""
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    launch.log.touch()
    options = ["--detach", "--net-host", "--log-uri", f"file://{launch.log}"]
    options += ["--runtime", launch.handler.runtime_type, "--runc-binary", launch.handler.binary]
    options += [word for name, value in launch.env.items() for word in ("--env", f"{name}={value}")]
    options += [word for path in launch.devices for word in ("--device", path)]
    for source, target, read_only in launch.mounts:
        mode = "ro" if read_only else "rw"
        options += ["--mount", f"type=bind,src={source},dst={target},options=rbind:{mode}"]
    if launch.working_directory:
        options += ["--cwd", launch.working_directory]
    process = launch.command or (_entrypoint(launch.image) if launch.arguments else [])
    words = [*process, *launch.arguments]
    _checked("run", *options, *_security(launch.security), launch.image, launch.identifier, *words)


def _security(context: dict[str, Any]) -> list[str]:
    options = ["--privileged"] if context.get("privileged") else []
    dropped = context.get("capabilities", {}).get("drop", []) if _drops_capabilities() else []
    names = _DEFAULT_CAPABILITIES if "ALL" in dropped else tuple(f"CAP_{name}" for name in dropped)
    options += [word for name in names for word in ("--cap-drop", name)]
    if context.get("readOnlyRootFilesystem"):
        options.append("--read-only")
    if "runAsUser" in context:
        options += ["--user", str(context["runAsUser"])]
    return options


@cache
def _drops_capabilities() -> bool:
    """Whether this ctr can: containerd 1.4's cannot, and containers keep them there."""
    return "--cap-drop" in _checked("run", "--help")


def tasks() -> dict[str, tuple[int, str]]:
    """Container id → the pid of its first process, and RUNNING or STOPPED; raises ContainerError."""
    rows = (line.split() for line in _checked("tasks", "ls").splitlines()[1:])
    return {row[0]: (int(row[1]), row[2]) for row in rows}


def birth(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty when there is none, or only its remains."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def kill(identifier: str, signal: str) -> None:
    """Send the signal to all of the container's processes; one that has ended is fine."""
    _ctr("tasks", "kill", "--all", "--signal", signal, identifier)


def remove(identifier: str) -> int:
    """Remove an ended container and return its exit status; UNKNOWN_EXIT when containerd does not know it."""
    code = _delete_task(identifier)
    _ctr("containers", "delete", identifier)
    return code


def _delete_task(identifier: str) -> int:
    deadline = time.monotonic() + _STOP_SECONDS
    # The shim learns of the end a moment after the process is gone, and a task that it holds for running stays.
    while tasks().get(identifier, (0, ""))[1] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    if identifier not in tasks():
        return UNKNOWN_EXIT
    done = _ctr("tasks", "delete", identifier)
    # ctr 1.7 exits 0 and warns of the task's status; later releases exit with it.
    warned = re.search(r"non-zero exit code (\d+)", done.stderr)
    return int(warned[1]) if warned else done.returncode


def identifiers() -> list[str]:
    """The ids of all containers; raises ContainerError."""
    return _checked("containers", "ls", "-q").split()


def node_capacity() -> dict[str, str]:
    """What the machine offers to pods."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count()), "memory": f"{memory}Ki", "pods": "110"}
