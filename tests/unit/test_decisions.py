"""The driver's decisions: the table of all cases, wishes that do not go together, and what hosts lack."""

from __future__ import annotations

import copy
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpunode.catalog import load as load_catalog
from gpunode.errors import UsageError
from gpunode.host import facts as host_facts
from gpunode.host.driver_facts import DriverFacts, FoundManager, gather_driver
from gpunode.host.facts import Facts, Gpu
from gpunode.host.packages.base import Spec
from gpunode.host.reader import Reader
from gpunode.profile import load as load_profile
from gpunode.resources.packages import Packages
from gpunode.steps import cuda, decisions, decisions_host, decisions_wishes, driver
from gpunode.steps.base import Context
from memory import MemoryMachine, gpu_host
from memory.command import Answer, Call
from memory.hosts import install
from memory.machine import Identity
from memory.packages import Deb

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "scripts" / "gen-decision-table")
P100, V100, T4, A100, H100, GH200, B200, K80 = 0x15F8, 0x1DB4, 0x1EB8, 0x20B2, 0x2330, 0x2342, 0x2901, 0x102D
NVIDIA_PINNING = "nvidia-driver-pinning-595"
UBUNTU: dict[str, Any] = {
    "os_id": "ubuntu",
    "os_version": "24.04",
    "os_name": "Ubuntu 24.04",
    "kernel": "6.8.0-45-generic",
}
ROCKY: dict[str, Any] = {
    "os_id": "rocky",
    "os_version": "9.6",
    "os_name": "Rocky Linux 9.6",
    "kernel": "5.14.0-570.17.1.el9_6.x86_64",
}
SLES: dict[str, Any] = {
    "os_id": "sles",
    "os_version": "15.7",
    "os_name": "SLES 15 SP7",
    "kernel": "6.4.0-150700.53.19-default",
}


def host(
    profile: str = "", *gpus: int, around: DriverFacts | None = None, like: str = "", overlay: str = "", **changes: Any
) -> Context:
    """Debian 13 with the GPUs (an A100 for none), unless `changes` say otherwise."""
    catalog = load_catalog([("catalog.d/50.toml", overlay)] if overlay else [])
    found = host_facts.gather(Reader(gpu_host()), catalog)
    cards = tuple(Gpu(f"0000:0{number}:00.0", device) for number, device in enumerate(gpus or (A100,)))
    found = replace(found, gpus=cards, **changes)
    found = replace(found, distribution=catalog.distribution(found.os_id, tuple(like.split())))
    return Context(
        load_profile(profile.encode(), "profile.toml").profile, with_around(found, around or DriverFacts()), catalog
    )


def with_around(found: Facts, around: DriverFacts) -> Facts:
    other = copy.copy(found)
    object.__setattr__(other, "around_driver", around)
    return other


def names(context: Context) -> list[str]:
    return [spec.name for spec in decisions.driver_packages(context)]


def only(context: Context) -> str:
    """The single refusal of driver and CUDA together."""
    refusals = [*driver.refusals(context), *cuda.refusals(context)]
    assert len(refusals) == 1, refusals
    assert "\n" not in refusals[0]
    return refusals[0]


# --- the table ------------------------------------------------------------------------------------------------------


def script() -> dict[str, Any]:
    return runpy.run_path(SCRIPT, run_name="table")


@pytest.mark.slow
def test_table_and_page_are_current(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gen-decision-table", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().err


def test_every_case_is_in_the_table_exactly_once() -> None:
    catalog, names = load_catalog(), {each.name for each in script()["hosts"]()}
    lines = [
        line
        for line in (ROOT / "tests/cases/decisions/table.tsv").read_text(encoding="utf-8").splitlines()
        if line[0] != "#"
    ]
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    found = [
        (distribution, arch, generation, row["source"], row["branch"])
        for row in rows
        for distribution in (names if row["distribution"] == "every distribution" else row["distribution"].split(", "))
        for arch in row["arch"].split(", ")
        for generation in row["generation"].split(", ")
        if generation != "Grace Hopper" or arch == "aarch64"
    ]
    wanted = {
        (name, arch, each.name, source, branch)
        for name in names
        for arch in ("x86_64", "aarch64")
        for each in catalog.generations
        for source in ("nvidia", "distro", "runfile", "local")
        for branch in catalog.branches
        if not each.architectures or arch in each.architectures
    }
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_every_distribution_and_release_of_the_catalogue_is_a_host_of_the_table() -> None:
    catalog, hosts = load_catalog(), script()["hosts"]()
    pairs = ((catalog.distribution(each.id), each.version) for each in hosts)
    covered = {(found.name, found.release(version)) for found, version in pairs if found}
    assert covered == {(each.name, release) for each in catalog.distributions.values() for release in each.versions}


def test_every_example_is_of_its_generation() -> None:
    catalog = load_catalog()
    for each in catalog.generations:
        assert catalog.generation(each.example) == each
        assert "device" not in catalog.gpu_name(each.example)


# --- wishes that do not go together ---------------------------------------------------------------------------------


CUDA_13 = '[cuda]\nversion = "13.0"\n'
OLD_580 = 'version = "580.50.01"\n'
INCOMPATIBLE = [
    (
        f'branch = "570"\n{CUDA_13}',
        A100,
        "CUDA 13.0 needs driver 580.65.06",
        'driver.branch = "580", or cuda.version = "12.8"',
    ),
    ('branch = "595"\n', V100, "580 is the last that does", 'driver.branch = "580"'),
    ('modules = "open"\n', P100, "open modules do not drive Tesla P100", 'driver.modules = "proprietary"'),
    ('modules = "proprietary"\n', B200, "proprietary modules do not drive NVIDIA B200", 'driver.modules = "open"'),
    ('modules = "proprietary"\n', GH200, "(Grace Hopper)", 'driver.modules = "open"'),
    ('branch = "550"\n', B200, "570 is the first that does", 'driver.branch = "580"'),
    ('branch = "580"\n', K80, "470 is the last that does", 'driver.branch = "470"'),
    (CUDA_13, V100, "CUDA 13.0 compiles nothing for Tesla V100", 'cuda.version = "12.9"'),
    (
        'branch = "470"\nmodules = "open"\n',
        T4,
        "no open modules",
        'driver.branch = "580", or driver.modules = "proprietary"',
    ),
    (
        'source = "distro"\n',
        A100,
        "has driver 550.163.01, not branch 580",
        'driver.branch = "550", or driver.source = "nvidia"',
    ),
    (f"{OLD_580}{CUDA_13}", A100, "the profile asks for 580.50.01", 'driver.version = "580.159.04"'),
    ('branch = "999"\n', A100, "driver.branch 999 is not in the catalogue", 'driver.branch = "595"'),
]


@pytest.mark.parametrize(("wish", "gpu", "reason", "nearest"), INCOMPATIBLE)
def test_an_incompatible_wish_names_the_nearest_choice(wish: str, gpu: int, reason: str, nearest: str) -> None:
    said = only(host(f"[driver]\n{wish}", gpu))
    assert reason in said
    assert said.endswith(f": {nearest}")


def test_the_nearest_choice_works() -> None:
    """Whatever is said to work is itself free of conflicts: all cases of the table at once would say nothing else."""
    context = host('[driver]\nbranch = "470"\nmodules = "open"\nsource = "distro"\n[cuda]\nversion = "13.2"\n', B200)
    said = decisions_wishes.nearest(context)
    assert said == 'driver.branch = "580" with driver.source = "nvidia"'
    mended = decisions_wishes.with_driver(context, branch="580", source="nvidia")
    assert decisions_wishes.conflicts(mended) == []


def test_all_reasons_are_told_at_once() -> None:
    said = only(host('[driver]\nbranch = "595"\nmodules = "open"\n[cuda]\nversion = "13.0"\n', P100))
    assert [
        words in said for words in ("580 is the last", "open modules do not drive", "CUDA 13.0 compiles nothing")
    ] == [True] * 3
    assert said.endswith('driver.branch = "580" with driver.modules = "proprietary" with cuda.version = "12.9"')


def test_gpus_that_no_driver_drives_together_have_no_nearest_choice() -> None:
    said = only(host("", V100, B200))
    assert "do not drive" in said
    assert "driver." not in said


def test_the_toolkit_is_held_against_a_preinstalled_driver() -> None:
    running = host_facts.LoadedDriver("535.261.03", "open")
    profile = f'[driver]\nsource = "preinstalled"\n{CUDA_13}'
    said = only(host(profile, driver=running))
    assert said == 'CUDA 13.0 needs driver 580.65.06 or newer, the driver here is 535.261.03: cuda.version = "12.2"'


def test_a_branch_past_its_end_is_a_note_and_no_refusal() -> None:
    context = host('[driver]\nbranch = "570"\n')
    assert driver.refusals(context) == []
    assert "branch 570 reached its end of life in 2026-02: it gets no security fixes" in driver.notes(context)


def test_a_branch_ends_when_its_month_is_over() -> None:
    branch = load_catalog().branches["580"]
    assert decisions_wishes.ended(branch, 1_840_000_000.0) == ""  # April 2028
    assert decisions_wishes.ended(branch, 1_850_000_000.0) == branch.ends  # August 2028


# --- packages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "profile", "wanted"),
    [
        (UBUNTU, "", ["nvidia-open-580", "nvidia-persistenced"]),
        (UBUNTU, '[driver]\nbranch = "595"\n', ["nvidia-open", "nvidia-persistenced"]),
        (UBUNTU, '[driver]\nmodules = "proprietary"\n', ["cuda-drivers-580", "nvidia-persistenced"]),
        (ROCKY, "", ["nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced"]),
        (ROCKY | {"os_version": "10.1"}, "", ["nvidia-open", "nvidia-persistenced"]),
        (SLES, "[driver]\npersistenced = false\n", ["nvidia-open-driver-G06", "nvidia-compute-utils-G06"]),
        (SLES, '[driver]\nbranch = "595"\npersistenced = false\n', ["nvidia-open-driver-G07", "nvidia-compute-utils-G07"]),
        ({}, "[driver]\npersistenced = false\n", ["nvidia-open"]),
    ],
)  # fmt: skip
def test_package_names(place: dict[str, Any], profile: str, wanted: list[str]) -> None:
    assert names(host(profile, **place)) == wanted


@pytest.mark.parametrize(
    ("version", "stream"), [("8.10", "nvidia-driver:580-open"), ("9.6", "nvidia-driver:580-open"), ("10.1", "")]
)
def test_module_streams_exist_on_8_and_9_alone(version: str, stream: str) -> None:
    assert decisions.module_stream(host("", **(ROCKY | {"os_version": version}))) == stream
    proprietary = host('[driver]\nmodules = "proprietary"\n', **(ROCKY | {"os_version": version}))
    assert decisions.module_stream(proprietary) == stream.replace("-open", "-dkms")


def test_ubuntus_own_modules_are_precompiled_for_its_own_kernels() -> None:
    context = host('[driver]\nsource = "distro"\n', headers=False, **UBUNTU)
    assert decisions.build(context).value == "precompiled"
    assert "linux-modules-nvidia-580-server-open-6.8.0-45-generic" in names(context)
    assert decisions.headers(context) == ()
    assert not [each for each in driver.resources(context) if isinstance(each, Packages) and each.name == "build tools"]


def test_a_kernel_that_ubuntu_has_no_modules_for_gets_dkms_and_headers() -> None:
    context = host('[driver]\nsource = "distro"\n', headers=False, **(UBUNTU | {"kernel": "6.8.0-45-raspi"}))
    assert decisions.build(context).value == "dkms"
    assert "nvidia-headless-580-server-open" in names(context)
    assert [spec.name for spec in decisions.headers(context)] == ["linux-headers-6.8.0-45-raspi"]


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        (ROCKY | {"os_version": "8.10"}, [("kernel-devel", "5.14.0-570.17.1.el9_6")]),
        (ROCKY, [("kernel-devel-matched", ""), ("kernel-headers", "")]),
        (SLES, [("kernel-default-devel", "6.4.0-150700.53.19")]),
        ({"os_id": "amzn", "os_version": "2023", "kernel": "6.1.147-172.amzn2023.x86_64"}, [("kernel-devel", "6.1.147-172.amzn2023")]),
        ({"os_id": "amzn", "os_version": "2023", "kernel": "6.12.46-66.amzn2023.x86_64"}, [("kernel6.12-devel", "6.12.46-66.amzn2023")]),
    ],
)  # fmt: skip
def test_headers_are_those_of_the_running_kernel(place: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    assert [(spec.name, spec.version) for spec in decisions.headers(host("", headers=False, **place))] == wanted


def test_nvswitches_bring_the_fabric_manager_at_the_drivers_version() -> None:
    context = host("", nvswitches=4)
    specs = {spec.name: spec.version for spec in decisions.driver_packages(context)}
    assert specs["nvidia-fabricmanager"] == specs["nvidia-open"] == "580.159.04"
    assert "service:nvidia-fabricmanager.service" in [each.id for each in driver.resources(context)]
    assert "service:nvidia-fabricmanager.service" not in [each.id for each in driver.resources(host())]


def test_a_source_without_the_fabric_manager_is_refused_where_it_is_needed() -> None:
    context = host('[driver]\nsource = "distro"\nbranch = "550"\n', nvswitches=4)
    assert only(context).endswith(
        'no fabric manager that gpunode knows, and this host has NVSwitches: driver.source = "nvidia"'
    )


def test_the_version_moves_with_ubuntus_archive() -> None:
    context = host('[driver]\nsource = "distro"\n[cuda]\nversion = "13.0"\n', **UBUNTU)
    assert (decisions.driver_version(context), decisions.wanted_version(context)) == ("", "580")
    assert decisions.driver_packages(context)[1].version == "580"
    assert [*driver.refusals(context), *cuda.refusals(context)] == []


def test_arm_has_its_own_names_in_data_alone() -> None:
    x86, arm = host("", **UBUNTU), host("", architecture="aarch64", **UBUNTU)
    assert decisions.driver_packages(x86) == decisions.driver_packages(arm)
    uris = [each.id for each in driver.resources(arm) if each.id.startswith("repository:")]
    assert uris == ["repository:https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/sbsa/"]
    runfile = host('[driver]\nsource = "runfile"\n', architecture="aarch64")
    assert only(runfile).startswith("no checksum is known of NVIDIA-Linux-aarch64-580.159.04.run")


# --- what the host lacks --------------------------------------------------------------------------------------------


def test_no_headers_names_the_kernel_that_has_them() -> None:
    around = DriverFacts(headers_offered=False, kernels=("6.12.95-amd64",))
    said = only(host("", headers=False, around=around))
    assert "the running kernel 6.12.107+deb13-amd64 has no headers here" in said
    assert said.endswith("boot 6.12.95-amd64, which has them")
    assert driver.refusals(host("", headers=False, around=DriverFacts(headers_offered=True))) == []
    assert driver.refusals(host("", headers=False, around=DriverFacts())) == []


def test_an_archive_without_headers_is_no_obstacle_where_a_bundle_brings_them() -> None:
    profile = f'[driver]\nsource = "local"\n[bundle]\npath = "/srv/gpu.bundle"\nsha256 = "{64 * "0"}"\n'
    assert driver.refusals(host(profile, headers=False, around=DriverFacts(headers_offered=False))) == []


def test_a_kernel_of_ones_own_needs_its_headers_in_place() -> None:
    place = UBUNTU | {"kernel": "6.9.1"}
    assert "is not one of ubuntu's" in only(
        host("", headers=False, overlay='[distributions.ubuntu]\nheaders = ["linux-headers-{flavour}"]\n', **place)
    )
    assert driver.refusals(host("", headers=True, **place)) == []


def test_too_little_room_for_a_build_or_in_boot() -> None:
    around = DriverFacts(free={"/var/lib/dkms": 700 << 20, "/boot": 40 << 20}, initramfs=60 << 20)
    found = driver.refusals(host("", around=around))
    assert found == [
        "700 MiB are free below /var/lib/dkms, and building the modules takes 1024: free some space first",
        "40 MiB are free in /boot, and a new initramfs takes 76: remove an old kernel first",
    ]
    running = host_facts.LoadedDriver("580.159.04", "open")
    assert driver.refusals(host("", around=around, driver=running)) == []
    assert len(driver.refusals(host("", around=around, driver=host_facts.LoadedDriver("580.126.20", "open")))) == 2


@pytest.mark.parametrize(
    ("manager", "profile", "words"),
    [
        ("gpu-operator", "", 'driver.source = "preinstalled" leaves the driver to it'),
        ("gpu-operator", '[driver]\nsource = "runfile"\n', "the GPU Operator's driver container"),
        ("ubuntu-drivers", "", "apt-get purge it first"),
        ("packages", '[driver]\nsource = "runfile"\n', "a packaged driver is here already"),
        ("akmods", "", "RPM Fusion's driver"),
    ],
)
def test_another_manager_of_the_driver_is_named(manager: str, profile: str, words: str) -> None:
    around = DriverFacts(managers=(FoundManager(manager, "EVIDENCE"),))
    assert words in only(host(profile, around=around))
    assert "(EVIDENCE)" in only(host(profile, around=around))


def test_a_manager_is_in_the_way_of_some_sources_alone() -> None:
    around = DriverFacts(managers=(FoundManager("packages", "nvidia-driver-580 580.159.04"),))
    assert driver.refusals(host("", around=around)) == []
    assert "nvidia-uninstall --silent" in only(host("", runfile_driver=True))


def test_nvidias_own_pin_at_another_branch_is_in_the_way() -> None:
    assert f"{NVIDIA_PINNING} is installed" in only(host("", around=DriverFacts(pinned=("595",))))
    assert driver.refusals(host("", around=DriverFacts(pinned=("580",)))) == []
    assert "keeps the driver at 580.126.20" in only(host("", around=DriverFacts(pinned=("580.126.20",))))


def test_secure_boot_asks_for_a_key_only_where_modules_are_built() -> None:
    built = driver.notes(host("", secure_boot=True, **UBUNTU))
    assert any(
        "mokutil --import /var/lib/shim-signed/mok/MOK.der" in note and 'driver.source = "distro"' in note
        for note in built
    )
    signed = driver.notes(host('[driver]\nsource = "distro"\n', secure_boot=True, **UBUNTU))
    assert any("are signed with its own key" in note for note in signed)
    assert not any("Secure Boot" in note for note in driver.notes(host("", secure_boot=False)))


def test_a_derivative_is_said_to_be_one() -> None:
    mint: dict[str, Any] = {
        "os_id": "linuxmint",
        "os_version": "22.1",
        "os_name": "Linux Mint 22.1",
        "kernel": "6.8.0-45-generic",
    }
    context = host("", like="ubuntu debian", around=DriverFacts(codename="noble"), **mint)
    assert "Linux Mint 22.1 is not in the catalogue: by its ID_LIKE it is treated as ubuntu 24.04" in driver.notes(
        context
    )
    assert names(context)[0] == "nvidia-open-580"
    assert driver.refusals(context) == []
    assert "is no release of ubuntu that gpunode knows" in only(host("", like="ubuntu debian", **mint))


def test_an_unpinned_key_is_never_trusted_by_its_address() -> None:
    rhel10 = ROCKY | {"os_version": "10.1"}
    assert "signed by the key CDF6BA43.pub" in only(host("", **rhel10))
    own = f'[repositories.cuda]\nfingerprints = ["{"AB" * 20}"]\n'
    assert driver.refusals(host(own, **rhel10)) == []
    assert "CDF6BA43" in only(
        host('[driver]\nsource = "runfile"\nversion = "580.159.04"\n[cuda]\nversion = "13.0"\n', **rhel10)
    )


# --- the host, read -------------------------------------------------------------------------------------------------


def read(machine: MemoryMachine) -> DriverFacts:
    catalog, reader = load_catalog(), Reader(machine)
    return gather_driver(reader, catalog, catalog.distribution("debian"))


def test_a_plain_host_has_nobody_else_and_room() -> None:
    found = read(gpu_host())
    assert (found.managers, found.pinned, found.headers_offered) == ((), (), None)
    assert found.kernels == ("6.12.107+deb13-amd64",)
    assert found.free["/boot"] == found.free["/var/lib/dkms"] == 100 << 30
    assert found.codename == "trixie"


def test_managers_are_found_by_their_marks_and_packages() -> None:
    machine = gpu_host()
    machine.files.lay("/run/nvidia/validations/.driver-ctr-ready", "")
    machine.dpkg.archive.append(Deb("nvidia-driver-580", "580.159.03-0ubuntu0.24.04.1"))
    machine.dpkg.archive.append(Deb(NVIDIA_PINNING, "595-1"))
    install(machine, "nvidia-driver-580")
    install(machine, NVIDIA_PINNING)
    found = read(machine)
    assert {each.name for each in found.managers} == {"gpu-operator", "packages"}
    assert found.pinned == ("595",)
    machine.files.lay("/usr/bin/ubuntu-drivers", "#!")
    machine.files.lay("/usr/bin/nvidia-uninstall", "#!")
    assert {each.name for each in read(machine).managers} == {"gpu-operator", "packages", "ubuntu-drivers", "runfile"}


def test_the_largest_initramfs_counts() -> None:
    machine = gpu_host()
    machine.files.lay("/boot/initrd.img-6.1.0-50-amd64", "x" * 1000)
    assert read(machine).initramfs == 1000


def test_headers_are_missed_only_by_indices_that_can_be_believed() -> None:
    machine = gpu_host()
    machine.identity = Identity(machine.identity.os_release, kernel="6.99.1-amd64")
    offers: dict[str, str] = {}
    machine.files.lay("/usr/bin/apt-cache", "#!", mode=0o755)
    machine.programs["apt-cache"] = policy(offers)
    indices, now = "/var/lib/apt/lists/archive.example_dists_trixie_main_binary-amd64_Packages", machine.now()
    offers |= {"gcc": "4:14", "make": "4.4"}
    assert read(machine).headers_offered is None  # without indices apt answers from what is installed
    machine.files.lay(indices, "", mtime=now - 90_000)
    assert read(machine).headers_offered is None  # yesterday's
    machine.files.lay(indices, "", mtime=now - 60)
    assert read(machine).headers_offered is False
    offers["linux-headers-6.99.1-amd64"] = "6.99.1-1"
    assert read(machine).headers_offered is True
    offers.clear()
    assert read(machine).headers_offered is None  # indices without a compiler
    machine.files.lay("/etc/apt/sources.list.d/new.sources", "", mtime=now)
    offers |= {"gcc": "4:14", "make": "4.4"}
    assert read(machine).headers_offered is None  # a source whose indices nobody has fetched


def policy(offers: dict[str, str]) -> Any:
    """`apt-cache policy` that offers these versions."""

    def answer(_machine: MemoryMachine, call: Call) -> Answer:
        asked = [name for name in call.words[1:] if name in offers]
        return Answer("".join(f"{name}:\n  Installed: (none)\n  Candidate: {offers[name]}\n" for name in asked))

    return answer


# --- a site's own entries -------------------------------------------------------------------------------------------

BRANCH = """\
[drivers.branches.620]
version = "620.10.01"
kind = "LTS"
cuda = "13.4"
modules = "open"
ends = "2029-09"
source = "a site's mirror"
"""
DISTRIBUTION = """\
[distributions.kylin]
ids = ["kylin"]
versions = ["11"]
manager = "dnf"
slug = "kylin{major}"
kernel = '(?P<version>.+)[.](?:x86_64|aarch64)'
headers = ["kernel-devel={version}"]
build_tools = ["gcc", "make"]
initramfs = "dracut"
libraries = { x86_64 = "/usr/lib64", aarch64 = "/usr/lib64" }
source = "a site"

[drivers.packages.nvidia.dnf.when.kylin]
distributions = ["kylin"]
open = ["nvidia-open-kylin-{branch}"]
"""


def test_a_new_branch_is_an_entry_and_no_code() -> None:
    wish = '[driver]\nbranch = "620"\n[cuda]\nversion = "13.4"\n'
    context = host(wish, overlay=BRANCH, **UBUNTU)
    assert [*driver.refusals(context), *cuda.refusals(context)] == []
    assert decisions.driver_packages(context)[0] == Spec("nvidia-open", "620.10.01")
    proprietary = host('[driver]\nbranch = "620"\nmodules = "proprietary"\n', overlay=BRANCH)
    assert (
        only(proprietary) == 'branch 620 has no proprietary modules: driver.branch = "595", or driver.modules = "open"'
    )
    assert "580 is the last that does" in only(host('[driver]\nbranch = "620"\n', P100, overlay=BRANCH))


def test_a_new_distribution_is_an_entry_and_no_code() -> None:
    place: dict[str, Any] = {
        "os_id": "kylin",
        "os_version": "11",
        "os_name": "Kylin V11",
        "kernel": "6.6.0-25.ky11.x86_64",
        "headers": False,
    }
    context = host("", overlay=DISTRIBUTION, **place)
    assert driver.refusals(context) == []
    assert names(context) == ["nvidia-open-kylin-580", "nvidia-persistenced"]
    assert [(spec.name, spec.version) for spec in decisions.headers(context)] == [("kernel-devel", "6.6.0-25.ky11")]
    found = decisions.distribution(context)
    assert found is not None
    assert found.slug_of("11") == "kylin11"


@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ('[distributions.rhel.releases.9]\nheader = ["x"]\n', "header"),
        ('[drivers.packages.nvidia.dnf.when.mine]\ndistribution = ["x"]\n', "distribution"),
        ('[drivers.managers.mine]\ntitle = "x"\nmark = ["/x"]\n', "mark"),
        ('[drivers.notes.mine]\ntexts = "x"\n', "texts"),
    ],
)
def test_a_misspelt_key_of_a_sites_entry_is_named(overlay: str, key: str) -> None:
    with pytest.raises(UsageError, match=f"unknown key {key}$"):
        load_catalog([("catalog.d/50.toml", overlay)])


def test_the_recommended_branch_gives_way_to_the_gpus() -> None:
    assert decisions_wishes.recommended(host()).profile.driver.branch == "580"
    assert decisions_wishes.recommended(host("", K80)).profile.driver.branch == "470"
    assert decisions.newest_cuda(decisions_wishes.recommended(host("", V100))) == "12.9"


def test_notes_of_the_catalogue_are_told_where_they_concern() -> None:
    distro = '[driver]\nsource = "distro"\nbranch = "550"\n'
    assert any("does not compile for Debian 13" in note for note in driver.notes(host(distro)))
    assert not any("does not build" in note for note in driver.notes(host()))
    assert decisions_host.notes(host()) == []
