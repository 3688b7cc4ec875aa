"""The examples and the generated documentation are what users copy: they must load, and be current."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gpunode.engine.check import plan
from gpunode.engine.situation import Situation
from gpunode.profile import LoadedProfile, load, schema
from gpunode.profile.toml import parse
from gpunode.steps import select
from memory import gpu_host

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def _load(name: str) -> LoadedProfile:
    return load((ROOT / "examples" / name).read_bytes(), name)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    described = schema()
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


def test_every_example_is_there() -> None:
    names = {path.stem for path in EXAMPLES}
    assert names >= {"minimal", "production", "inference", "k3s-edge", "air-gapped", "tutorial-2020"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads_and_fits_the_schema(path: Path, validator: Draft202012Validator) -> None:
    load(path.read_bytes(), path.name)
    validator.validate(parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_names_the_schema_for_editors(path: Path) -> None:
    directive, _, target = path.read_text(encoding="utf-8").splitlines()[0].partition(" ")
    assert directive == "#:schema"
    assert (path.parent / target).is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        {"driver": {"brnach": "580"}},
        {"driver": {"branch": 580}},
        {"driver": {"modules": "opne"}},
        {"cuda": {"version": "13"}},
        {"containerd": {"restart_timeout": 4}},
        {"containerd": {"config": "/etc/../shadow"}},
        {"repositories": {"cuda": {"fingerprints": ["12"]}}},
        {"driver": []},
    ],
)
def test_schema_refuses_what_the_model_refuses(wrong: dict[str, Any], validator: Draft202012Validator) -> None:
    assert not validator.is_valid(wrong)


def test_schema_says_what_it_is() -> None:
    described = schema()
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert described["$id"] == "urn:gpunode:profile"
    assert described["title"] == "gpunode host profile"


def test_schema_describes_every_key_and_knows_no_null() -> None:
    for table in [schema(), *schema()["$defs"].values()]:
        assert table["title"] and table["description"]
        for name, key in table["properties"].items():
            assert key.get("description") or "$ref" in key, name
            assert "null" not in str(key), name


def test_minimal_is_three_lines() -> None:
    assert len((ROOT / "examples" / "minimal.toml").read_text(encoding="utf-8").splitlines()) == 3


def test_inference_asks_for_no_cluster() -> None:
    profile = _load("inference.toml").profile
    assert (profile.kubernetes.flavour, profile.device_plugin.mode, profile.verify.level) == (
        "none",
        "none",
        "container",
    )


def test_air_gapped_leaves_nothing_to_public_servers() -> None:
    profile = _load("air-gapped.toml").profile
    repositories = profile.repositories
    assert all((repositories.cuda.url, repositories.container_toolkit.url, repositories.runfile.url))
    images = (profile.device_plugin.image, profile.verify.container_image, profile.verify.pod_image)
    assert all(image and image.startswith("registry.example.com") for image in images)


def test_tutorial_is_the_one_of_2020() -> None:
    profile = _load("tutorial-2020.toml").profile
    assert profile.driver.source == "runfile"
    assert profile.cuda.profile_d and profile.cuda.version != "none"
    assert profile.containerd.default_runtime
    assert profile.device_plugin.mode == "daemonset"


def test_documentation_is_current(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gen-profile-docs", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "gen-profile-docs"), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_makes_a_plan(name: Path) -> None:
    """On a host of its kind: k3s's has k3s's folders, an inference box no cluster."""
    machine = gpu_host()
    profile = load(name.read_bytes(), name.name).profile
    if profile.kubernetes.flavour == "k3s":
        machine.files.lay("/etc/rancher/k3s/k3s.yaml", "apiVersion: v1\n")
        machine.files.make_folders("/var/lib/rancher/k3s/agent/etc/containerd")
    report = plan(Situation(machine, profile, select(), "0"))
    assert (report.result, report.error) == ("pending", "")
    assert next(step for step in report.steps if step.name == "driver").differences
