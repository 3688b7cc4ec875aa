"""Docker: GPUs that it was never told of, a runtime that its file does not have, a Docker that the toolkit does not reach."""

from __future__ import annotations

import re

from gpunode.findings.containers import DockerFile
from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.gather import SNAP_DOCKER
from gpunode.findings.gather_containers import DOCKER_HOOKS
from gpunode.findings.model import Known, Proof
from gpunode.host.engines.docker import UNIT as DOCKER_UNIT
from gpunode.host.kernel_log import LogLine

NO_DRIVER = re.compile(r'could not select device driver \\?"?\w*\\?"? ?with capabilities: \[\[[^\]]*gpu[^\]]*\]\]')
NO_RUNTIME = re.compile(r"(?i)unknown (?:runtime specified|or invalid runtime name:) nvidia")
RESTART = f"systemctl restart {DOCKER_UNIT}"
CONFIGURE = "nvidia-ctk runtime configure --runtime=docker"
APPLY = "gpunode apply --step container_toolkit"


def _since_start(evidence: Evidence, pattern: re.Pattern[str]) -> LogLine | None:
    """The daemon's newest line of that kind since it was started."""
    unit = evidence.units.get(DOCKER_UNIT)
    if unit is None or not unit.active or unit.started is None:
        return None
    lines = [line for line in evidence.asked.units or () if line.program == "dockerd" and pattern.search(line.text)]
    return next((line for line in reversed(lines) if line.when and line.when >= unit.started), None)


def _no_driver(evidence: Evidence) -> Proof | None:
    line = _since_start(evidence, NO_DRIVER)
    if line is None:
        return None
    hooks = [f"/usr/bin/{name}" for name in DOCKER_HOOKS]
    installed = any(evidence.paths.get(path) for path in hooks)
    lines = [f"dockerd: {clock(line.when)} {line.text}"]
    lines += [f"{path}: {'there' if evidence.paths.get(path) else 'not there'}" for path in hooks[:1]]
    why = (
        "looked for it when it was started, before the container toolkit was here"
        if installed
        else "found none: the toolkit is not here"
    )
    return Proof(tuple(lines), {"why": why}, mend=(RESTART,) if installed else (APPLY, RESTART))


def _no_runtime(evidence: Evidence) -> Proof | None:
    docker = evidence.docker
    if docker is None:
        return None
    if docker.error:
        return Proof(
            (f"{docker.path}: {docker.error}",),
            {"path": docker.path, "what": "cannot be read, so that the daemon does not start again"},
            mend=_mend(docker),
        )
    wanted = str(docker.data.get("default-runtime", ""))
    line, listed = _since_start(evidence, NO_RUNTIME), "nvidia" in docker.runtime_paths
    if wanted == "nvidia" and not listed:
        place = docker.file.place(r'"default-runtime"') if docker.file else docker.path
        lines = (f'{place}: default-runtime is "nvidia"', f"{docker.path}: runtimes.nvidia is absent, wanted present")
        return Proof(lines, {"path": docker.path, "what": "has no runtime nvidia, and names it as the default"})
    if line is None:
        return None
    lines = (
        f"dockerd: {clock(line.when)} {line.text}",
        f"{docker.path}: runtimes.nvidia is {'there' if listed else 'absent'}",
    )
    what = "has it, and the daemon was started before" if listed else "has no runtime nvidia"
    return Proof(lines, {"path": docker.path, "what": what}, mend=(RESTART,) if listed else ())


def _mend(docker: DockerFile) -> tuple[str, ...]:
    return (f"python3 -m json.tool {docker.path}  # says where it is no JSON", RESTART)


def _snap(evidence: Evidence) -> Proof | None:
    unit = evidence.units.get(SNAP_DOCKER)
    if unit is None or not unit.active or not evidence.context.facts.gpus or not evidence.toolkit_installed:
        return None
    lines = [f"systemctl show {SNAP_DOCKER}: {unit.state}"]
    own = evidence.units.get(DOCKER_UNIT)
    lines += [f"systemctl show {DOCKER_UNIT}: {own.state}"] if own else []
    return Proof(tuple(lines))


FINDINGS = (
    Known(
        id="docker-from-snap",
        step="container_toolkit",
        severity="warning",
        title="Docker is a snap, which the container toolkit does not reach",
        sees='`could not select device driver "" with capabilities: [[gpu]]`, or `load library failed: libnvidia-ml.so.1` though '
        "the host is "
        "in order",
        proof=f"`{SNAP_DOCKER}` runs on a host with GPUs and the container toolkit",
        cause="The snap's dockerd sees neither the host's driver libraries nor /etc/docker/daemon.json.",
        mend=("snap remove docker", "apt-get install docker.io", "gpunode apply --step containerd"),
        look=_snap,
        explains=("docker-toolkit-missing", "docker-runtime-missing", "library-unfound"),
        references=("canonical/docker-snap#148", "canonical/docker-snap#180", "NVIDIA/nvidia-docker#1642"),
    ),
    Known(
        id="docker-toolkit-missing",
        step="container_toolkit",
        severity="error",
        title="Docker has no driver for GPUs",
        sees='`docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]`',
        proof="dockerd has logged the error since it was started; whether the toolkit's hook is there tells the case apart",
        cause="Docker takes GPUs by the toolkit's nvidia-container-runtime-hook, and {why}.",
        mend=(APPLY, RESTART),
        look=_no_driver,
        explains=("docker-runtime-missing",),
        references=(
            "NVIDIA/nvidia-docker#1034",
            "NVIDIA/nvidia-docker#1243",
            "NVIDIA/nvidia-docker#1352",
            "NVIDIA/nvidia-docker#1642",
        ),
        patterns=(r'could not select device driver "?(?P<driver>\w*)"? ?with capabilities: \[\[[^\]]*gpu[^\]]*\]\]',),
    ),
    Known(
        id="docker-runtime-missing",
        step="container_toolkit",
        severity="error",
        title="Docker does not know the nvidia runtime",
        sees="`docker: Error response from daemon: Unknown runtime specified nvidia`, newer `unknown or invalid runtime name: nvidia`",
        proof="daemon.json is no JSON, or names the runtime as the default and does not have it; or dockerd has logged the error "
        "since it was "
        "started",
        cause="{path} {what}.",
        mend=(CONFIGURE, RESTART),
        look=_no_runtime,
        references=("NVIDIA/nvidia-docker#951", "NVIDIA/nvidia-docker#542", "D34DC3N73R/netdata-glibc#2"),
        patterns=(r"(?i)unknown (?:runtime specified|or invalid runtime name:) (?P<runtime>nvidia)",),
    ),
)
