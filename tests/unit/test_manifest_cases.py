"""The device plugin's manifests, case by case (see tests/cases/manifests/README.md), and against the schemas of Kubernetes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpunode.engine.render import device_plugin_objects
from gpunode.profile import HostProfile, load
from gpunode.steps.plugin_config import node_labels
from gpunode.steps.plugin_objects import droppable, objects
from gpunode.steps.plugin_pods import static_pod

FOLDER = Path(__file__).parent.parent / "cases" / "manifests"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
RELEASES = ("1.28", "1.32", "1.36")


def profile_of(case: str) -> HostProfile:
    return load((FOLDER / case / "profile.toml").read_bytes(), "profile.toml").profile


@cache
def expected(case: str) -> list[Any]:
    text = (FOLDER / case / "expected.yaml").read_text()
    return list(
        yaml.load_all(text, Loader=yaml.CSafeLoader)
    )  # libyaml's: the slow ones take as long as all other fast tests here


@pytest.mark.parametrize("case", CASES)
def test_the_manifests_are_as_the_case_has_them(case: str) -> None:
    assert device_plugin_objects(profile_of(case)).text == (FOLDER / case / "expected.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_knows_every_field(case: str, release: str) -> None:
    import kubernetes_validate

    for document in expected(case):
        kubernetes_validate.validate(document, release, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "case", ["plain-whole-envvar", "plain-whole-cdi", "plain-time-slicing-envvar", "plain-mig-single"]
)
def test_kubernetes_knows_every_field_of_a_static_pod(case: str, release: str) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(static_pod(profile_of(case), "/var/lib/kubelet/device-plugins"), release, strict=True)


@pytest.mark.slow
def test_the_schemas_know_no_field_that_is_made_up() -> None:
    import kubernetes_validate

    made_up = {**daemonset(expected("plain-whole-envvar")), "speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="speck"):
        kubernetes_validate.validate(made_up, RELEASES[0], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_yaml_says_what_is_applied(case: str) -> None:
    folder = {volume["name"]: volume for volume in daemonset(expected(case))["spec"]["template"]["spec"]["volumes"]}
    path = folder["kubelet-device-plugins-dir"]["hostPath"]["path"]
    assert expected(case) == objects(profile_of(case), path)


@pytest.mark.parametrize("case", CASES)
def test_what_a_profile_has_not_is_what_another_has(case: str) -> None:
    """Every object but the RuntimeClass is either applied or looked for to be taken away."""
    named = [(each["kind"], each["metadata"]["name"]) for each in (*expected(case), *droppable(profile_of(case)))]
    assert len(named) == len(set(named)) == 7


@pytest.mark.parametrize("case", CASES)
def test_volumes_and_mounts_belong_together(case: str) -> None:
    for pod in (each["spec"]["template"]["spec"] for each in expected(case) if each["kind"] == "DaemonSet"):
        containers = [*pod["containers"], *pod.get("initContainers", [])]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert not (pod.get("hostPID") and pod.get("shareProcessNamespace")), "Kubernetes refuses both together"


def daemonset(documents: list[Any]) -> Any:
    return next(each for each in documents if each["metadata"]["name"] == "nvidia-device-plugin-daemonset")


def test_upstreams_names_and_selector_stay() -> None:
    found = daemonset(expected("plain-whole-envvar"))
    assert found["metadata"] == {"name": "nvidia-device-plugin-daemonset", "namespace": "kube-system"}
    assert found["spec"]["selector"]["matchLabels"] == {"name": "nvidia-device-plugin-ds"}
    assert [each["name"] for each in found["spec"]["template"]["spec"]["containers"]] == ["nvidia-device-plugin-ctr"]


def test_the_plugin_finds_the_kubelet_where_its_image_looks_whatever_the_flavour() -> None:
    for case in CASES:
        container = daemonset(expected(case))["spec"]["template"]["spec"]["containers"][-1]
        mount = next(each for each in container["volumeMounts"] if each["name"] == "kubelet-device-plugins-dir")
        assert mount["mountPath"] == "/var/lib/kubelet/device-plugins"


def test_a_node_is_labelled_with_what_its_pods_are_found_by() -> None:
    plugin = profile_of("plain-configs-mps").device_plugin
    assert node_labels(plugin) == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/device-plugin.config": "dense",
        "nvidia.com/mps.capable": "true",
    }
    assert node_labels(profile_of("plain-whole-cdi").device_plugin) == {"nvidia.com/gpu.present": "true"}


def test_pods_are_made_anew_when_their_configuration_changes() -> None:
    sums = [
        daemonset(expected(case))["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for case in ("plain-time-slicing-envvar", "plain-renamed", "plain-configs")
    ]
    assert len(set(sums)) == 3
