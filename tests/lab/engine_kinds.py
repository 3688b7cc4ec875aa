"""How a test speaks to each container engine of the lab: start containers, find their pids, have one by the nvidia runtime."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Protocol

import pytest

from gpunode.lab import images
from gpunode.lab.host import LabHost
from lab.commands import restart
from lab.cri import CriError, put, run_sandbox, sandbox_image

RUNTIME = "/usr/bin/nvidia-container-runtime"
TRACE = "/var/log/lab-nvidia-container-runtime.log"
IMAGE = "lab.local/sleeper:1"
SLEEP = ("/bin/sleep", "infinity")
MAIN = "/etc/containerd/config.toml"
NAMES = ("one", "two")
# Podman's services that end by themselves when nobody has asked them anything for a while.
IDLE = ("podman.service", "netavark-dhcp-proxy.socket", "netavark-dhcp-proxy.service")

# The socket's place is a directory as long as a file speaks of nvidia: containerd itself fails, on a configuration that it accepts.
NO_SOCKET = """\
[Service]
ExecStartPre=/bin/sh -c 'cd /run/containerd; if grep -qrs nvidia /etc/containerd; then rm -f containerd.sock; mkdir containerd.sock; \
else rmdir containerd.sock 2>/dev/null || true; fi'
"""
DEAF = "[Service]\nExecReload=\nExecReload=/bin/true\n"


class Kind(Protocol):
    """An engine, and what is particular about a test of it.

    `files` are what gpunode edits there. `breaking` is a drop-in of `unit` with which the daemon does not live through that, and
    `complaint` what it then says; both are empty for an engine without a daemon.
    """

    unit: str
    files: tuple[str, ...]
    breaking: str
    complaint: str

    def prepare(self, host: LabHost, folder: Path) -> None:
        """Bring the images, made in `folder`, and start three containers."""

    def pids(self, host: LabHost) -> list[int]:
        """The pids of the containers that run."""

    def by_program(self, host: LabHost) -> str:
        """Start a container by the runtime's path; return its id."""

    def by_name(self, host: LabHost) -> None:
        """Start a container as people do: by the runtime's name, or the device's. Fails where it is not that which starts it."""


def traced(host: LabHost, container: str, command: str = "create") -> bool:
    """Say whether the lab's nvidia-container-runtime was called for this container."""
    lines = host.run("cat", TRACE, check=False).stdout.splitlines()
    calls = [json.loads(line) for line in lines]
    return any((call["container"], call["command"]) == (container, command) for call in calls)


def sleeper(folder: Path, reference: str = IMAGE) -> Path:
    """The archive of an image that sleeps."""
    files = images.program_files(Path("/bin/sleep"), SLEEP[0])
    return images.oci_archive(files, reference=reference, entrypoint=SLEEP, env={}, folder=folder)


class Containerd:
    """containerd: two containers by `ctr`, one pod by CRI."""

    unit: str = "containerd.service"
    files: tuple[str, ...] = (MAIN, "/etc/containerd/conf.d/99-gpunode.toml")
    breaking: str = NO_SOCKET
    complaint: str = "is a directory"

    def prepare(self, host: LabHost, folder: Path) -> None:
        """A lab host's processes may not lower their OOM score, which CRI tries unless it is told."""
        section = '  [plugins."io.containerd.grpc.v1.cri"]\n'
        host.write(MAIN, host.read(MAIN).replace(section, f"{section}    restrict_oom_score_adj = true # in the lab\n"))
        restart(host, self.unit)
        pause = sandbox_image(host)
        for namespace, reference in (("default", IMAGE), ("k8s.io", pause)):
            put(host, "/run/image.tar", sleeper(folder, reference))
            host.run("ctr", "--namespace", namespace, "images", "import", "/run/image.tar")
        for name in NAMES:
            host.run("ctr", "run", "--detach", IMAGE, name)
        run_sandbox(host, "three")

    def pids(self, host: LabHost) -> list[int]:
        """Of both name spaces, containers and pods."""
        tables = [host.run("ctr", "--namespace", each, "tasks", "ls").stdout for each in ("default", "k8s.io")]
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return sorted(int(pid) for _, pid, state in rows if state == "RUNNING")

    def by_program(self, host: LabHost) -> str:
        """As `gpunode verify` does."""
        runtime = ("--runtime=io.containerd.runc.v2", f"--runc-binary={RUNTIME}")
        host.run("ctr", "run", "--rm", *runtime, IMAGE, "by-program", "/bin/sleep", "0")
        return "by-program"

    def by_name(self, host: LabHost) -> None:
        """As a kubelet does for a pod of the RuntimeClass nvidia; other pods go on being runc's."""
        assert traced(host, run_sandbox(host, "gpu-pod", "nvidia"))
        assert not traced(host, run_sandbox(host, "other-pod"))
        with pytest.raises(CriError, match=r'no runtime for "nvidai" is configured'):
            run_sandbox(host, "mistyped-pod", "nvidai")


class Docker:
    """Docker: three containers by its client."""

    unit: str = "docker.service"
    files: tuple[str, ...] = ("/etc/docker/daemon.json",)
    breaking: str = DEAF
    complaint: str = "does not have runtimes.nvidia"

    def prepare(self, host: LabHost, folder: Path) -> None:
        """Docker 26 wants a manifest of its own kind in the archive."""
        put(host, "/run/image.tar", _for_docker(sleeper(folder)))
        host.run("docker", "load", "--input", "/run/image.tar")
        for name in (*NAMES, "three"):
            host.run("docker", "run", "--detach", f"--name={name}", IMAGE)

    def pids(self, host: LabHost) -> list[int]:
        """Of what `docker ps` lists."""
        names = host.run("docker", "ps", "--quiet").stdout.split()
        return sorted(map(int, host.run("docker", "inspect", "--format={{.State.Pid}}", *names).stdout.split()))

    def by_program(self, host: LabHost) -> str:
        """Docker takes a path only from containerd's shims: so by the name, with a command of its own."""
        return self._run(host, "/bin/sleep", "0")

    def by_name(self, host: LabHost) -> None:
        """`docker run --runtime=nvidia`; other containers go on being runc's."""
        assert traced(host, self._run(host))
        other = host.run("docker", "run", "--detach", IMAGE).stdout.strip()
        assert not traced(host, other)

    def _run(self, host: LabHost, *command: str) -> str:
        return host.run("docker", "run", "--detach", "--runtime=nvidia", IMAGE, *command).stdout.strip()


class Podman:
    """Podman: three containers, no daemon, GPUs by their CDI names."""

    unit: str = ""
    files: tuple[str, ...] = ()
    breaking: str = ""
    complaint: str = ""

    def prepare(self, host: LabHost, folder: Path) -> None:
        """The sample too: it says whether it got a GPU."""
        host.run("systemctl", "disable", "--now", *IDLE)
        for archive in (sleeper(folder), images.cuda_vector_add(folder)):
            put(host, "/run/image.tar", archive)
            host.run("podman", "load", "--input", "/run/image.tar")
        for name in (*NAMES, "three"):
            host.run("podman", "run", "--detach", f"--name={name}", IMAGE)

    def pids(self, host: LabHost) -> list[int]:
        """Of what `podman ps` lists."""
        return sorted(map(int, host.run("podman", "ps", "--format={{.Pid}}").stdout.split()))

    def by_program(self, host: LabHost) -> str:
        """`podman --runtime=PATH run`."""
        container = host.run("podman", f"--runtime={RUNTIME}", "run", "--detach", IMAGE).stdout.strip()
        host.run("podman", "rm", "--force", "--time=0", container)
        return container

    def by_name(self, host: LabHost) -> None:
        """`podman run --device=nvidia.com/gpu=0`, which needs no runtime of NVIDIA's."""
        done = host.run("podman", "run", "--rm", "--device=nvidia.com/gpu=0", images.VECTOR_ADD)
        assert "Test PASSED" in done.stdout


KINDS: dict[str, Kind] = {
    **{f"containerd-{release}": Containerd() for release in ("1.4", "1.6", "1.7", "2.1")},
    "docker": Docker(),
    "podman": Podman(),
}


def _for_docker(archive: Path) -> Path:
    """The image archive with Docker's manifest in it."""
    with tarfile.open(archive) as tar:
        contents = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        parts = {name: file.read() for name, file in contents.items() if file}
    [image] = json.loads(parts["index.json"])["manifests"]
    manifest = json.loads(parts[_blob(image)])
    layers = [_blob(layer) for layer in manifest["layers"]]
    reference = image["annotations"]["io.containerd.image.name"]
    entry = {"Config": _blob(manifest["config"]), "RepoTags": [reference], "Layers": layers}
    target = archive.with_suffix(".docker.tar")
    with tarfile.open(target, "w") as tar:
        for name, data in {**parts, "manifest.json": json.dumps([entry]).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def _blob(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"
