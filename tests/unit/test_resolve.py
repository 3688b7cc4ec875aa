"""What the profile leaves open is decided by the host, and told so."""

from __future__ import annotations

from gpunode.engine.resolve import resolved
from gpunode.profile import load, show
from memory import gpu_host


def rows(profile: bytes, gpus: tuple[str, ...] = ("0000:65:00.0",)) -> dict[str, tuple[str, str]]:
    loaded = load(profile, "profile.toml")
    found = resolved(show(loaded), loaded.profile, gpu_host(gpus=gpus))
    return {key: (value, origin) for key, value, origin in found}


def test_what_is_left_open_comes_from_the_host() -> None:
    found = rows(b"")
    assert found["driver.modules"] == ('"open"', "host")
    assert found["driver.version"] == ('"580.159.04"', "catalogue")
    assert found["kubernetes.flavour"] == ('"plain"', "host")
    assert found["kubernetes.kubeconfig"] == ('"/etc/kubernetes/admin.conf"', "host")
    assert found["kubernetes.node_name"] == ('"gpu-1"', "host")


def test_what_the_file_says_stands() -> None:
    found = rows(b'[driver]\nmodules = "proprietary"\n[kubernetes]\nnode_name = "n1"\n')
    assert found["driver.modules"] == ('"proprietary"', "line 2")
    assert found["kubernetes.node_name"] == ('"n1"', "line 4")
    assert found["driver.hold"][1] == "default"


def test_a_host_without_a_gpu_decides_nothing_about_its_modules() -> None:
    assert rows(b"", gpus=())["driver.modules"] == ('"auto"', "default")
