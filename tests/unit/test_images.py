"""The lab's image archives, the program in the vectorAdd image, and the runtime that gives its container a GPU."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mock_driver import VERSION, MockDriver, install, needs_gcc, unplug

from gpunode.lab import images, mocklibs

pytestmark = pytest.mark.slow

PASSED = """\
[Vector addition of 50000 elements]
Copy input data from the host memory to the CUDA device
CUDA kernel launch with 196 blocks of 256 threads
Copy output data from the CUDA device to the host memory
Test PASSED
Done
"""
GPU = "GPU-4f1c6a2e-9d3b-5c87-a1f0-6e2d8b7c0300"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> MockDriver:
    return install(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(installed: MockDriver) -> Iterator[MockDriver]:
    installed.plug("nvidiactl", "nvidia0")
    installed.load_module(VERSION)
    yield installed
    unplug(installed)


def archive(folder: Path) -> Path:
    return images.oci_archive(
        {"/bin/hello": b"#!hello"},
        reference="lab.local/team/hello:1.2",
        entrypoint=["/bin/hello"],
        env={"GREETING": "hi"},
        folder=folder,
    )


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as opened:
        return {m.name: content.read() for m in opened if (content := opened.extractfile(m)) is not None}


def blob(contents: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """A blob that a descriptor points at, held against the descriptor's digest and size."""
    content = contents["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(content) == descriptor["size"]
    return content


def test_an_archive_follows_from_its_index_down_to_the_layer(tmp_path: Path) -> None:
    contents = members(archive(tmp_path))
    (entry,) = json.loads(contents["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "lab.local/team/hello:1.2"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1.2"
    manifest = json.loads(blob(contents, entry))
    config = json.loads(blob(contents, manifest["config"]))
    layer = blob(contents, manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["config"]["Entrypoint"] == ["/bin/hello"]
    assert "GREETING=hi" in config["config"]["Env"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        assert [(m.name, m.isdir(), m.mode, m.mtime) for m in files] == [
            ("bin", True, 0o755, 0),
            ("bin/hello", False, 0o755, 0),
        ]


def test_the_same_image_is_the_same_bytes(tmp_path: Path) -> None:
    assert archive(tmp_path / "one").read_bytes() == archive(tmp_path / "two").read_bytes()


@needs_gcc
def test_the_vector_add_image_carries_loader_and_libc_and_no_driver(tmp_path: Path) -> None:
    contents = members(images.cuda_vector_add(tmp_path))
    manifest = json.loads(blob(contents, json.loads(contents["index.json"])["manifests"][0]))
    environment = json.loads(blob(contents, manifest["config"]))["config"]["Env"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in environment
    with tarfile.open(fileobj=io.BytesIO(blob(contents, manifest["layers"][0]))) as files:
        names = {Path(m.name).name for m in files if m.isfile()}
    assert {"vectorAdd", "libc.so.6"} < names
    assert any(name.startswith("ld-linux") for name in names)
    assert not any(name.startswith(("libcuda", "libnvidia")) for name in names)


@needs_gcc
class TestSample:
    """The program of the vectorAdd image, run outside a container."""

    def test_passes(self, driver: MockDriver, tmp_path: Path) -> None:
        done = driver.run(str(mocklibs.build_sample(tmp_path)))
        assert (done.returncode, done.stdout, done.stderr) == (0, PASSED, "")

    def test_fails_on_a_wrong_sum(self, driver: MockDriver, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.ptx"
        wrong.write_text(mocklibs.PTX_FILE.read_text().replace("add.f32", "sub.f32"))
        done = driver.run(str(mocklibs.build_sample(tmp_path, wrong)))
        assert done.returncode == 1
        assert done.stdout.endswith("Test FAILED\n")
        assert done.stderr == "Result verification failed at element 0!\n"

    def test_says_that_there_is_no_device(self, driver: MockDriver, tmp_path: Path) -> None:
        unplug(driver)
        done = driver.run(str(mocklibs.build_sample(tmp_path)))
        assert done.returncode == 1
        assert "no CUDA-capable device is detected" in done.stderr

    def test_says_that_there_is_no_library(self, tmp_path: Path) -> None:
        command = [str(mocklibs.build_sample(tmp_path))]
        done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "libcuda.so.1: cannot open shared object file" in done.stderr


@needs_gcc
def test_a_compilers_complaint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(mocklibs.MockBuildError, match=r"^gcc: [^\n]*error:[^\n]*$"):
        mocklibs.build('no"version', tmp_path)


@pytest.fixture
def runtime(driver: MockDriver, tmp_path: Path) -> Runtime:
    return Runtime(driver, tmp_path)


class Runtime:
    """The stand-in runtime over a runc that only prints its arguments, with its paths below a folder."""

    def __init__(self, driver: MockDriver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.log = folder / "runc.log"
        self.trace = folder / "trace.log"
        self.script = folder / "nvidia-container-runtime"
        text = (mocklibs.MOCKS / "nvidia-container-runtime").read_text()
        for old, new in {
            'Path("/var/log/lab-nvidia-container-runtime.log")': f"Path({str(self.trace)!r})",
            'DEV = Path("/dev")': f"DEV = Path({str(driver.dev)!r})",
            '"/usr/lib64", "/usr/lib")': f"{str(driver.libraries)!r})",
        }.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.script.write_text(text)
        runc = folder / "bin" / "runc"
        runc.parent.mkdir()
        runc.write_text('#!/bin/sh\necho runc "$@"\n')
        runc.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"PATH={self.folder / 'bin'}:{os.environ['PATH']}"
        return self.driver.run("env", path, "python3", str(self.script), *arguments)

    def create(self, *environment: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        bundle = self.folder / "bundle"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps({"process": {"env": list(environment)}}))
        done = self.run(
            "--root", "/r", "--log", str(self.log), "--systemd-cgroup", "create", "--bundle", str(bundle), "c1"
        )
        return done, json.loads((bundle / "config.json").read_text())


@needs_gcc
class TestRuntime:
    @pytest.mark.parametrize("wanted", ["all", "0", GPU])
    def test_a_container_that_asks_is_given_nodes_and_libraries(self, runtime: Runtime, wanted: str) -> None:
        runtime.driver.plug("nvidia-uvm")
        done, config = runtime.create(f"NVIDIA_VISIBLE_DEVICES={wanted}")
        assert done.stdout.startswith("runc --root /r --log "), done.stderr
        paths = [device["path"] for device in config["linux"]["devices"]]
        assert paths == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0"]
        assert len(config["linux"]["resources"]["devices"]) == 3
        assert {Path(mount["destination"]).name for mount in config["mounts"]} == {"libcuda.so.1", "libnvidia-ml.so.1"}
        assert all("ro" in mount["options"] for mount in config["mounts"])

    def test_only_the_chosen_gpu(self, runtime: Runtime) -> None:
        runtime.driver.plug("nvidia1")
        _, config = runtime.create("NVIDIA_VISIBLE_DEVICES=1")
        assert [device["path"] for device in config["linux"]["devices"]] == ["/dev/nvidiactl", "/dev/nvidia1"]

    @pytest.mark.parametrize("environment", [(), ("NVIDIA_VISIBLE_DEVICES=",), ("NVIDIA_VISIBLE_DEVICES=void",)])
    def test_a_container_that_does_not_ask_is_left_alone(self, runtime: Runtime, environment: tuple[str, ...]) -> None:
        done, config = runtime.create(*environment)
        assert done.returncode == 0
        assert config == {"process": {"env": list(environment)}}

    @pytest.mark.parametrize(
        ("wanted", "module", "why"),
        [
            ("7", VERSION, "unknown device: 7"),
            ("all", "580.178.01", "failed to initialize NVML: Driver/library version mismatch"),
        ],
    )
    def test_a_refusal_is_told_to_containerd(self, runtime: Runtime, wanted: str, module: str, why: str) -> None:
        runtime.driver.load_module(module)
        done, _ = runtime.create(f"NVIDIA_VISIBLE_DEVICES={wanted}")
        assert (done.returncode, done.stderr) == (1, f"nvidia-container-runtime: {why}\n")
        assert json.loads(runtime.log.read_text())["msg"] == f"nvidia-container-runtime: {why}"

    @pytest.mark.parametrize("arguments", [("features",), ("--version",), ("--root", "/r", "state", "c1")])
    def test_everything_else_goes_to_runc(self, runtime: Runtime, arguments: tuple[str, ...]) -> None:
        assert runtime.run(*arguments).stdout == f"runc {' '.join(arguments)}\n"

    def test_calls_are_traced(self, runtime: Runtime) -> None:
        runtime.create()
        runtime.run("--root", "/r", "state", "c1")
        lines = [json.loads(line) for line in runtime.trace.read_text().splitlines()]
        assert [(line["container"], line["command"]) for line in lines] == [("c1", "create"), ("c1", "state")]
