"""dnf 4, dnf 5 and zypper for real: Debian's packages of them on a Debian root with another os-release, against a local https mirror.

This exercises the package managers, rpm and the journal, not the distributions whose names the hosts bear.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpunode.host.packages.base import Spec
from gpunode.lab import mirror, rpm
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.resources.base import Resource
from gpunode.resources.packages import Hold, Packages
from gpunode.resources.repository import ModuleStream, RpmRepository, SigningKey, TrustedKey

KEY_FILE = "/etc/pki/rpm-gpg/RPM-GPG-KEY-NVIDIA"
OLD, MIDDLE, NEW, OTHER_BRANCH = "580.126.20", "580.159.04", "580.178.01", "595.84"
DRIVER = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms")
FAMILY = ("nvidia-*", "kmod-nvidia-*", "libnvidia-*")
# The managers' own databases and caches: their content is compared as packages, marks and keys.
# In the mirror's own folder dnf leaves check sums as attributes of the files; a killed rpm leaves the script that it was running.
DATABASES = (
    "/var/lib/rpm",
    "/var/lib/dnf",
    "/usr/lib/sysimage",
    "/var/lib/zypp",
    "/var/lib/YaST2",
    "/srv",
    "/var/tmp/rpm-tmp.",
)

LOCKS = {
    "dnf": "/etc/dnf/plugins/versionlock.list",
    "dnf5": "/etc/dnf/versionlock.toml",
    "zypper": "/etc/zypp/locks",
}

# What a run of the engine does with resources, on the host itself: recover, and bring each about that differs.
PROGRAM = """
import base64, json, pickle, sys
sys.path[0:0] = ["/opt/gpunode/src", "/opt/gpunode/lib"]
from gpunode.engine.recovery import recover
from gpunode.errors import GpunodeError
from gpunode.host.journal import Journal
from gpunode.host.local import LocalMachine
from gpunode.host.state import prepare
from gpunode.host.writer import Writer
machine, lines = LocalMachine(), []
prepare(machine)
journal = Journal(machine)
run = journal.begin("apply", version="0").run
host = Writer(machine, journal, on_line=lines.append)
changed, error, hint = [], "", ""
interrupted = recover(host)
try:
    for resource in pickle.loads(base64.b64decode(sys.argv[1])):
        state = resource.observe(host)
        if resource.differences(state):
            with host.on_behalf_of("driver", resource.id):
                resource.foresee(host, state)
                resource.converge(host, state)
            changed += [resource.id]
            left = resource.differences(resource.observe(host))
            assert not left, left
    for record in interrupted:
        journal.supersede(record)
except GpunodeError as found:
    error, hint = found.message, found.hint
journal.end("failed" if error else "changed")
print(json.dumps({"run": run, "changed": changed, "error": error, "hint": hint, "lines": lines[-20:]}))
"""


@dataclass
class Fixture:
    """A host with one manager, and what it is to be given. `kind` is the host's, of which "dnf5" has the manager "dnf" too."""

    host: LabHost
    kind: str
    manager: str
    fingerprint: str
    place: str
    repository: RpmRepository
    last_run: str = ""

    def resources(self, version: str, *, hold: bool = True, stream: str = "") -> list[Resource]:
        """The driver's resources at a version."""
        key_url = f"https://{self.place}/D42D0685.pub"
        found: list[Resource] = [
            SigningKey(KEY_FILE, key_url, (self.fingerprint,), "the key", armoured=True),
            TrustedKey(KEY_FILE, (self.fingerprint,), "the key"),
            self.repository,
        ]
        if self.has_streams:
            found.append(ModuleStream("nvidia-driver", stream or "580-open", "the branch"))
        specs = tuple(Spec(name, version) for name in DRIVER)
        found.append(Packages("driver", self.manager, specs, "the driver", FAMILY, ("nvidia-container-*",), version))
        if hold:
            found.append(Hold("driver", self.manager, FAMILY, DRIVER, "held"))
        return found

    @property
    def has_streams(self) -> bool:
        """Whether the driver's repository has module streams, as NVIDIA's for RHEL 8 and 9, and not the one for Fedora."""
        return self.kind == "dnf"

    @property
    def locks(self) -> str:
        """The manager's list of locks."""
        return LOCKS[self.kind]

    def apply(self, resources: Sequence[Resource]) -> dict[str, Any]:
        """Bring the resources about on the host; which of them changed, and the error that ended it."""
        data = base64.b64encode(pickle.dumps(list(resources))).decode()
        done = self.host.run("python3", "-", data, input=PROGRAM, timeout=300)
        answer: dict[str, Any] = json.loads(done.stdout)
        self.last_run = answer["run"]
        return answer

    def refused(self, resources: Sequence[Resource]) -> tuple[str, str]:
        """As `apply`, which must end with an error: its message and hint."""
        answer = self.apply(resources)
        assert answer["error"], answer
        return answer["error"], answer["hint"]

    def rollback(self, *words: str) -> str:
        """`gpunode rollback`, which must succeed; what it printed."""
        done = self.host.run("gpunode", "rollback", "--yes", *words, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def done(self, resources: Sequence[Resource]) -> list[str]:
        """As `apply`, which must succeed."""
        answer = self.apply(resources)
        assert not answer["error"], answer
        changed: list[str] = answer["changed"]
        return changed

    def version(self, name: str) -> str:
        """The installed version of a package, without epoch and release; empty when it is absent."""
        done = self.host.run("rpm", "--query", "--queryformat=%{VERSION} ", name, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def state(self) -> dict[str, str]:
        """Packages, why they are there, keys, locks: what the databases say, for comparison."""
        rows = self.host.run("rpm", "--query", "--all").stdout.split()
        script = {
            "dnf": "dnf --quiet '--disablerepo=*' repoquery --installed --queryformat='%{name} %{reason}'",
            "dnf5": "dnf --quiet '--disable-repo=*' repoquery --installed --queryformat='%{name} %{reason}\\n'",
            "zypper": "grep -v '^#' /var/lib/zypp/AutoInstalled || true",
        }[self.kind]
        marks = [line for line in self.host.shell(script).stdout.splitlines() if "system-release" not in line]
        return {"packages": " ".join(sorted(rows)), "marks": " ".join(sorted(marks))}

    def operator(self, *, dnf: str, zypper: str) -> None:
        """What somebody does by hand."""
        self.host.shell(dnf if self.manager == "dnf" else zypper, timeout=300)

    def unlock(self) -> None:
        """Take all locks off by hand: dnf 4 alone has an empty list on a fresh host."""
        self.host.shell(f": > {self.locks}" if self.kind == "dnf" else f"rm -f {self.locks}")

    def fault(self, **keys: object) -> None:
        """Make the driver's repository misbehave; without keys, no more."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        text = "\n".join(["[[fault]]", f'prefix = "{self.place}/repodata"', *lines, ""]) if keys else ""
        self.host.write(f"/{mirror.TREE}/{mirror.FAULTS}", text)


def _fixture(host: LabHost, kind: str) -> Fixture:
    place = {"dnf": rpm.CUDA_EL, "dnf5": rpm.CUDA_FEDORA, "zypper": rpm.CUDA_SUSE}[kind]
    manager = kind.removesuffix("5")
    folder = "/etc/yum.repos.d" if manager == "dnf" else "/etc/zypp/repos.d"
    repository = RpmRepository(
        manager, f"{folder}/cuda.repo", "cuda-lab", f"https://{place}/", KEY_FILE, "NVIDIA's own"
    )
    return Fixture(host, kind, manager, rpm.fingerprint(), place, repository)


# What dnf 5 says and does in other words than dnf 4; the rest of the tests is gpunode's own, or what the two have in common.
EVERY_DIALECT = pytest.mark.parametrize("booted", ["dnf", "dnf5", "zypper"], indirect=True, scope="module")


@pytest.fixture(scope="module", params=["dnf", "zypper"])
def booted(request: pytest.FixtureRequest) -> Iterator[Fixture]:
    with rpm.create_host(f"rpm-{request.param}", request.param) as host:
        host.boot()
        yield _fixture(host, request.param)


@pytest.fixture
def lab(booted: Fixture) -> Iterator[Fixture]:
    """The host as it was before: every test ends with a rollback to identical manifests."""
    before, state = Snapshot.take(booted.host), booted.state()
    yield booted
    booted.fault()
    booted.rollback()
    assert booted.state() == state
    changes = [
        change
        for change in Snapshot.compare(before, Snapshot.take(booted.host))
        if not change.name.startswith(DATABASES)
    ]
    assert not changes, report(changes)


@EVERY_DIALECT
def test_install_upgrade_downgrade_hold(lab: Fixture) -> None:
    first = lab.done(lab.resources(MIDDLE))
    assert len(first) == (6 if lab.has_streams else 5), first
    assert {lab.version(name) for name in (*DRIVER, "nvidia-persistenced")} == {MIDDLE}
    assert lab.done(lab.resources(MIDDLE)) == []
    _upgrade_everything(lab)
    assert {lab.version(name) for name in (*DRIVER, "nvidia-persistenced")} == {MIDDLE}
    assert lab.done(lab.resources(NEW)) == ["packages:driver", "hold:driver"]
    assert lab.version(DRIVER[0]) == NEW
    assert lab.done(lab.resources(OLD)) == ["packages:driver", "hold:driver"]
    assert {lab.version(name) for name in (*DRIVER, "nvidia-driver-cuda-libs")} == {OLD}
    _upgrade_everything(lab)
    assert {lab.version(name) for name in (*DRIVER, "nvidia-driver-cuda-libs")} == {OLD}
    assert lab.done(lab.resources(OLD)) == []


def test_without_a_hold_an_upgrade_moves_the_driver(lab: Fixture) -> None:
    """What the hold is for, and that the test above can fail."""
    lab.done(lab.resources(MIDDLE, hold=False))
    _upgrade_everything(lab)
    assert lab.version(DRIVER[0]) == (NEW if lab.has_streams else OTHER_BRANCH)


def test_a_branch_changes_with_its_stream_and_back(lab: Fixture) -> None:
    lab.done(lab.resources(OLD))
    before, run = lab.state(), lab.last_run
    changed = lab.done(lab.resources(OTHER_BRANCH, stream="open-dkms"))
    assert ("stream:nvidia-driver" in changed) is lab.has_streams
    assert lab.version(DRIVER[0]) == OTHER_BRANCH
    if lab.has_streams:
        listing = lab.host.run("dnf", "--quiet", "module", "list", "--enabled").stdout
        assert "open-dkms [e]" in listing
    lab.rollback("--to", run)
    assert lab.state() == before
    assert lab.done(lab.resources(OLD)) == []


def test_a_stream_that_no_repository_has_is_told(lab: Fixture) -> None:
    if not lab.has_streams:
        pytest.skip("there are no streams")
    message, hint = lab.refused(lab.resources(OLD, stream="575-open"))
    assert message == "no repository has the stream nvidia-driver:575-open"
    assert "580-open" in hint


def test_an_unknown_version_is_told_with_those_there_are(lab: Fixture) -> None:
    message, hint = lab.refused(lab.resources("580.999"))
    assert message == "no repository has nvidia-driver-cuda 580.999"
    assert "3:580.178.01-1" in hint
    assert lab.version(DRIVER[0]) == ""


def test_the_toolkit_whose_packages_nobody_signs(lab: Fixture) -> None:
    """As NVIDIA publishes it: the index is signed, the packages are not checked one by one."""
    folder = lab.repository.path.rpartition("/")[0]
    source = RpmRepository(
        lab.manager,
        f"{folder}/toolkit.repo",
        "toolkit-lab",
        f"https://{rpm.TOOLKIT}",
        KEY_FILE,
        "the toolkit",
        signed_packages=False,
    )
    names = (
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
        "libnvidia-container-tools",
        "libnvidia-container1",
    )
    for version in ("1.20.0", "1.19.1"):
        packages = Packages("toolkit", lab.manager, tuple(Spec(name, version) for name in names), "the toolkit")
        lab.done([*lab.resources(OLD)[:2], source, packages])
        assert {lab.version(name) for name in names} == {version}


@EVERY_DIALECT
def test_somebody_elses_lock_is_respected_and_named(lab: Fixture) -> None:
    """dnf alone says `Nothing to do.` to a locked downgrade, and exits with 0."""
    lab.done(lab.resources(MIDDLE, hold=False))
    lab.operator(dnf="dnf --quiet versionlock add nvidia-driver-cuda", zypper="zypper addlock nvidia-driver-cuda")
    message, hint = lab.refused(lab.resources(OLD))
    assert message == "held by somebody else than gpunode: nvidia-driver-cuda"
    words = {"dnf": "dnf versionlock delete nvidia-driver-cuda", "zypper": "zypper removelock nvidia-driver-cuda"}
    assert words[lab.manager] in hint
    assert lab.version(DRIVER[0]) == MIDDLE
    lab.operator(dnf="dnf --quiet versionlock delete nvidia-driver-cuda", zypper="zypper removelock nvidia-driver-cuda")
    lab.unlock()
    lab.done(lab.resources(OLD))
    assert lab.version(DRIVER[0]) == OLD


LOCK_ON_ANOTHER = {
    "dnf": "nvidia-persistenced-3:580.159.*\n",
    "dnf5": 'version = "1.0"\n[[packages]]\nname = "nvidia-persistenced"\n'
    '[[packages.conditions]]\nkey = "evr"\ncomparator = ">="\nvalue = "3:580.159"\n',
    "zypper": "solvable_name: nvidia-persistenced\n",
}


@EVERY_DIALECT
def test_a_lock_that_keeps_a_new_package_out_is_named(lab: Fixture) -> None:
    lab.host.write(lab.locks, LOCK_ON_ANOTHER[lab.kind])
    message, _ = lab.refused(lab.resources(OLD))
    assert "nvidia-persistenced" in message
    assert lab.version(DRIVER[0]) == ""
    lab.unlock()


@EVERY_DIALECT
def test_the_operators_own_locks_stay(lab: Fixture) -> None:
    lab.operator(dnf="dnf --quiet versionlock add make-1.1-1", zypper="zypper addlock operators-tool")
    lab.done(lab.resources(OLD))
    lab.rollback()
    text = lab.host.read(lab.locks)
    theirs = {"dnf": "make-0:1.1-1.*", "dnf5": 'value = "1.1-1"', "zypper": "solvable_name: operators-tool"}
    assert theirs[lab.kind] in text
    assert "nvidia" not in text
    lab.unlock()


@EVERY_DIALECT
def test_what_a_foreign_package_needs_is_left_and_named(lab: Fixture) -> None:
    lab.done(lab.resources(OLD))
    lab.operator(dnf="dnf --assumeyes install operators-tool", zypper="zypper --non-interactive install operators-tool")
    assert "operators-tool need it" in lab.rollback()
    assert lab.version("make") == "1.1"
    assert lab.version("gcc") == lab.version(DRIVER[0]) == ""
    lab.operator(
        dnf="dnf --assumeyes remove operators-tool make", zypper="zypper --non-interactive remove operators-tool make"
    )


def test_another_key_than_the_pinned_one_is_never_trusted(lab: Fixture) -> None:
    resources = [replace(lab.resources(OLD)[0], fingerprints=("0" * 40,)), *lab.resources(OLD)[1:]]  # type: ignore[type-var] # a dataclass, behind its protocol
    message, _ = lab.refused(resources)
    assert "it was not trusted" in message
    assert "gpg-pubkey" not in lab.state()["packages"]


def test_an_index_that_another_key_signed_is_refused(lab: Fixture, tmp_path: Path) -> None:
    index = f"/{mirror.TREE}/{lab.place}/repodata/repomd.xml"
    signature, document = lab.host.read(f"{index}.asc"), tmp_path / "repomd.xml"
    document.write_text(lab.host.read(index))
    rpm.somebody_elses_key().sign(document, tmp_path / "repomd.xml.asc", "--detach-sign")
    lab.host.write(f"{index}.asc", (tmp_path / "repomd.xml.asc").read_text())
    _, hint = lab.refused(lab.resources(OLD))
    assert "signed by a key that the profile and the catalogue do not name" in hint
    assert lab.version(DRIVER[0]) == ""
    lab.host.write(f"{index}.asc", signature)


@EVERY_DIALECT
def test_a_tampered_package_is_refused_and_nothing_is_half_done(lab: Fixture) -> None:
    package = f"/{mirror.TREE}/{lab.place}/nvidia-driver-cuda-libs-{OLD}-1.x86_64.rpm"
    lab.host.shell(f"cp {package} /tmp/good.rpm; printf X | dd of={package} bs=1 seek=6000 conv=notrunc 2>/dev/null")
    before = lab.state()
    _, hint = lab.refused(lab.resources(OLD))
    assert "damaged or tampered" in hint
    assert not [name for name in (*DRIVER, "make") if lab.version(name)], before
    lab.host.shell(f"cp /tmp/good.rpm {package}")
    lab.done(lab.resources(OLD))


@pytest.mark.parametrize("fault", [{"status": 503}, {"html": "<h1>Log in</h1>"}])
def test_a_dead_mirror_is_an_error_though_an_older_cache_is_there(lab: Fixture, fault: dict[str, object]) -> None:
    """Left to itself, and with skip_if_unavailable, dnf says `Metadata cache created.` and exits with 0."""
    lab.done(lab.resources(OLD))
    lab.fault(**fault)
    changed = replace(lab.repository, signed_packages=False)
    message, hint = lab.refused([changed])
    assert lab.manager in message
    assert "repositories" in hint
    lab.fault()
    lab.done([changed])


def test_an_interrupted_upgrade_is_brought_to_an_end(lab: Fixture) -> None:
    """Killed between the new package and the old one's removal, rpm has both in its database."""
    lab.done(lab.resources(OLD))
    package = f"/{mirror.TREE}/{lab.place}/nvidia-driver-cuda-{MIDDLE}-1.x86_64.rpm"
    lab.host.run("rpm", "--install", "--justdb", "--nodeps", "--force", package)
    assert lab.version("nvidia-driver-cuda") == f"{OLD} {MIDDLE}"
    lab.done(lab.resources(OLD))
    assert lab.version("nvidia-driver-cuda") == OLD


@EVERY_DIALECT
def test_the_running_kernels_headers_come_beside_others(lab: Fixture) -> None:
    """By the full name, as the catalogue asks for them; on rollback only they go."""
    if lab.manager != "dnf":
        pytest.skip("which packages stay side by side is zypp.conf's to say, which this host does not have")
    lab.operator(dnf="dnf --quiet --assumeyes install kernel-devel-1.1-1", zypper="")
    headers = Packages("build tools", lab.manager, (Spec("kernel-devel-1.0-1.x86_64"),), "the module is built")
    assert lab.done([headers]) == ["packages:build tools"]
    assert lab.done([headers]) == []
    assert sorted(lab.version("kernel-devel").split()) == ["1.0", "1.1"]
    lab.rollback()
    assert lab.version("kernel-devel") == "1.1"
    lab.operator(dnf="dnf --quiet --assumeyes remove kernel-devel", zypper="")


@EVERY_DIALECT
@pytest.mark.parametrize("finished", [True, False])
def test_killed_while_the_module_is_built(lab: Fixture, *, finished: bool) -> None:
    """By then rpm has the package in its database as if it were whole; the next run must build the module, or take all back."""
    if lab.manager != "dnf":
        pytest.skip("zypper leaves no trace of a transaction that it never came to the end of")
    lab.host.write("/run/lab-slow-build", "")
    data = base64.b64encode(pickle.dumps(lab.resources(OLD))).decode()
    process = lab.host.popen("python3", "-c", PROGRAM, data)
    lab.host.shell(
        "until pgrep -x sleep && rpm --query kmod-nvidia-open-dkms; do sleep 0.2; done >/dev/null", timeout=60
    )
    process.kill()  # no step of the product's own comes after this, as in a power cut
    lab.host.shell(
        "pkill -KILL -x dnf5?; pkill -KILL -x sleep; sleep 1; rm -rf /run/lab-slow-build /lib/modules/*/extra /lib/modules/*/modules.*"
    )
    process.wait(timeout=30)
    if finished:
        lab.done(lab.resources(OLD))
        assert lab.host.shell("modinfo -F version /lib/modules/$(uname -r)/extra/nvidia.ko").stdout == f"{OLD}\n"
        assert lab.done(lab.resources(OLD)) == []


def test_an_operators_lock_that_leaves_a_way_is_kept_to(lab: Fixture) -> None:
    """Not the newest make, but the one that the operator locked."""
    if lab.manager != "dnf":
        pytest.skip("zypper's locks have no versions")
    lab.operator(dnf="dnf --quiet versionlock add make-1.0-1", zypper="")
    lab.done(lab.resources(OLD))
    assert lab.version("make") == "1.0"
    lab.unlock()


def _upgrade_everything(lab: Fixture) -> None:
    """What the operator's cron job does. The hold's proof: without it this brings the newest."""
    words = {"dnf": ("dnf", "upgrade", "--assumeyes"), "zypper": ("zypper", "--non-interactive", "update")}
    lab.host.run(*words[lab.manager], timeout=300)
