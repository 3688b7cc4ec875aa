"""The CUDA toolkit by NVIDIA's installer: which file, what is refused, and the whole way on the host in memory."""

from __future__ import annotations

import hashlib

import pytest

from gpunode.catalog import load as load_catalog
from gpunode.engine.apply import apply
from gpunode.engine.check import check
from gpunode.engine.results import Report
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.errors import CommandError
from gpunode.host import facts
from gpunode.host.reader import Reader
from gpunode.profile import load
from gpunode.steps import cuda, decisions_cuda, select
from gpunode.steps.base import Context
from memory import MemoryMachine, door, gpu_host
from memory.command import Answer
from memory.installer import TOOLKIT_LOG, toolkit_installer, toolkit_runfile
from memory.snapshot import changes, snapshot

FILE = "/root/cuda.run"
SUM = hashlib.sha256(toolkit_runfile("13.0")).hexdigest()
PROFILE = f'[cuda]\nversion = "13.0"\nsource = "runfile"\nrunfile.path = "{FILE}"\nrunfile.sha256 = "{SUM}"\n'


def host(link: str = "") -> MemoryMachine:
    """A host with the installer on it, and with a link of an older toolkit where one is named."""
    machine = gpu_host()
    machine.files.lay(FILE, toolkit_runfile("13.0"))
    if link:
        machine.files.link("/usr/local/cuda", link)
    return machine


def situation(machine: MemoryMachine, profile: str = PROFILE) -> Situation:
    return Situation(
        machine, load(profile.encode(), "profile.toml").profile, select(only=("driver", "cuda")), "0", note="test"
    )


def applied(machine: MemoryMachine, profile: str = PROFILE) -> Report:
    return apply(situation(machine, profile), lambda _plan: True)


def context(profile: str, machine: MemoryMachine | None = None) -> Context:
    catalog = load_catalog()
    found = facts.gather(Reader(machine or gpu_host()), catalog)
    return Context(load(profile.encode(), "profile.toml").profile, found, catalog)


def refusal(profile: str, machine: MemoryMachine | None = None) -> str:
    (only,) = cuda.refusals(context(profile, machine))
    return only


def test_the_version_names_the_file_and_its_sum() -> None:
    installer = decisions_cuda.installer(context('[cuda]\nversion = "12.8"\nsource = "runfile"\n'))
    assert installer.source.endswith("/12.8.1/local_installers/cuda_12.8.1_570.124.06_linux.run")
    assert installer.sha256.startswith("228f6bca")
    assert {"--toolkit", "--toolkitpath=/usr/local/cuda-12.8"} <= set(installer.arguments)
    assert "--driver" not in installer.arguments


def test_every_known_release_is_of_its_version_and_has_a_sum_for_each_architecture() -> None:
    known = load_catalog().cuda_runfile
    for version, release in known.releases.items():
        assert release.release.startswith(f"{version}.")
        assert {name: len(digest) for name, digest in release.sha256.items()} == dict.fromkeys(known.systems, 64)


def test_an_installer_that_is_not_known_is_asked_for() -> None:
    unknown = '[driver]\nbranch = "595"\n[cuda]\nversion = "13.2"\nsource = "runfile"\n'
    assert refusal(unknown).startswith("no installer of CUDA 13.2 is known for x86_64: name it in the profile")
    own = f'{unknown}runfile.path = "/root/cuda_13.2.run"\n'
    assert refusal(own) == "no checksum is known of cuda_13.2.run: give it in the profile, cuda.runfile.sha256"
    assert cuda.refusals(context(f'{own}runfile.sha256 = "{SUM}"\n')) == []


def test_a_site_adds_a_release_of_its_own() -> None:
    overlay = (
        f'[cuda.runfile.releases."13.2"]\nrelease = "13.2.1"\ndriver = "595.84"\nsha256 = {{ x86_64 = "{SUM}" }}\n'
    )
    known = load_catalog([("catalog.d/50.toml", overlay)]).cuda_runfile.releases
    assert (known["13.2"].driver, "13.0" in known) == ("595.84", True)


@pytest.mark.slow
def test_packages_and_installer_of_one_version_do_not_go_together() -> None:
    machine = host()
    packages = '[cuda]\nversion = "13.0"\n'
    assert applied(machine, packages).result == "changed"
    assert "CUDA 13.0 is here already by packages (cuda-toolkit-13-0)" in refusal(PROFILE, machine)
    assert "CUDA 13.0" not in str(cuda.refusals(context(PROFILE.replace("13.0", "12.9"), machine)))
    rollback(situation(machine))
    assert applied(machine).result == "changed"
    assert "CUDA 13.0 is here already by its .run installer" in refusal(packages, machine)


@pytest.mark.parametrize("link", ["", "/usr/local/cuda-12.8"])
def test_applied_in_sync_and_taken_back(link: str) -> None:
    machine = host(link)
    before = snapshot(machine)
    report = applied(machine)
    assert (report.result, report.error) == ("changed", "")
    assert machine.files.resolve("/usr/local/cuda") == "/usr/local/cuda-13.0"
    assert check(situation(machine)).result == "in-sync"
    assert rollback(situation(machine)).result == "undone"
    assert not changes(before, snapshot(machine))


@pytest.mark.slow
def test_the_link_is_left_to_the_profile() -> None:
    machine = host("/usr/local/cuda-12.8")
    assert applied(machine, PROFILE + "link = false\nprofile_d = false\nld_so_conf = false\n").result == "changed"
    assert machine.files.resolve("/usr/local/cuda") == "/usr/local/cuda-12.8"


def test_the_log_of_another_run_is_not_shown_for_this_one() -> None:
    machine = host()
    machine.files.lay(TOOLKIT_LOG, "[ERROR]: of last year\n")
    machine.programs["sh"] = lambda _machine, _call: Answer(stderr="Error in MD5 checksums\n", status=2)
    with pytest.raises(CommandError, match="failed with exit status 2") as caught:
        door.apply(machine, lambda writer: writer.run_installer(toolkit_installer(FILE)))
    assert caught.value.details == ("Error in MD5 checksums",)
    assert "before it wrote a log" in caught.value.hint
