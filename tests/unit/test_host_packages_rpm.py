"""dnf and zypper behind the interface: transactions taken back, killed anywhere; locks read as the managers read them; silence caught."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gpunode.errors import CommandError, HostError, UnknownPackageError
from gpunode.formats import openpgp
from gpunode.host.packages import manager_named, rpm, versionlock, zypper_locks
from gpunode.host.packages.base import Spec
from gpunode.host.packages.rpm import Rpm
from gpunode.host.queries import is_read_only
from gpunode.host.reader import Reader
from gpunode.resources.base import Resource
from gpunode.resources.repository import ModuleStream, RpmRepository, _armoured
from memory import Crash, MemoryMachine, bare_host, keys
from memory.command import Answer
from memory.crash import Moment
from memory.door import apply, roll_back
from memory.packages import Deb
from memory.rpm import DATABASE, World, rows, state

LOCK_LIST = "/etc/dnf/plugins/versionlock.list"
MANAGERS = pytest.mark.parametrize("manager", ["dnf", "zypper"])
ARCHIVE = (
    *(Deb("app", f"3:{version}-1", (f"lib (= 3:{version}-1)", "tool")) for version in ("1.0", "1.5", "2.0")),
    *(Deb("lib", f"3:{version}-1") for version in ("1.0", "1.5", "2.0")),
    Deb("tool", "1.0-1"),
    Deb("theirs", "1.0-1", ("tool",)),
    Deb("cuda-toolkit-13-0", "13.0.2-1"),
    Deb("kernel-devel", "6.1.10-1.amzn2023"),
    Deb("kernel-devel", "6.1.20-1.amzn2023"),
)


def host(*installed: str, world: World | None = None) -> MemoryMachine:
    """A host whose packages are rpms, some of them (`name version reason`) there already."""
    machine = bare_host()
    machine.programs |= (world or World(ARCHIVE)).programs()
    for name in ("rpm", "dnf", "zypper"):
        machine.files.lay(f"/usr/bin/{name}", "#!", mode=0o755)
    for folder in ("/etc/dnf/plugins", "/etc/dnf/modules.d", "/etc/zypp", "/var/lib/rpm", "/var/lib/zypp"):
        machine.files.make_folders(folder)
    machine.files.lay("/etc/dnf/plugins/versionlock.conf", "[main]\nenabled = 1\n")
    machine.files.lay(LOCK_LIST, "")
    lines = [f"{number}|{'|'.join(words.split())}\n" for number, words in enumerate(installed, 1)]
    machine.files.lay(DATABASE, "".join(lines))
    auto = [words.split()[0] for words in installed if words.endswith("dependency")]
    machine.files.lay("/var/lib/zypp/AutoInstalled", "".join(f"{name}\n" for name in auto))
    machine.effects.restart()
    return machine


def versions(machine: MemoryMachine) -> dict[str, str]:
    return {row.deb.name: row.deb.version for row in rows(machine, ARCHIVE)}


def install(machine: MemoryMachine, manager: str, *words: str) -> None:
    specs = tuple(Spec(word.partition("=")[0], word.partition("=")[2]) for word in words)
    apply(machine, lambda door: door.install_packages(manager, specs))


def install_held(machine: MemoryMachine, manager: str, version: str) -> None:
    def act(door: object) -> None:
        door.install_packages(manager, (Spec("app", version),))  # type: ignore[attr-defined] # a Writer
        door.hold_packages(manager, ("app", "lib"))  # type: ignore[attr-defined]

    apply(machine, act)


@MANAGERS
def test_what_came_along_goes_too(manager: str) -> None:
    machine = host("tool 1.0-1 user")
    before = state(machine, manager)
    install(machine, manager, "app=1.5")
    assert versions(machine) == {"app": "3:1.5-1", "lib": "3:1.5-1", "tool": "1.0-1"}
    assert not [words for taken in roll_back(machine) for words in taken.left]
    assert state(machine, manager) == before


@MANAGERS
@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_versions_go_up_or_down_and_back(manager: str, version: str) -> None:
    machine = host("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency")
    before = state(machine, manager)
    install(machine, manager, f"app={version}")
    assert versions(machine) == {"app": f"3:{version}-1", "lib": f"3:{version}-1", "tool": "1.0-1"}
    roll_back(machine)
    assert state(machine, manager) == before


@MANAGERS
def test_what_is_there_already_is_no_change(manager: str) -> None:
    machine = host("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency")
    writer = apply(machine, lambda door: door.install_packages(manager, (Spec("app", "1.5"), Spec("lib"))))
    assert not writer.journal.runs[-1].entries


@MANAGERS
def test_our_hold_follows_the_version_and_goes(manager: str) -> None:
    machine = host()
    before = state(machine, manager)
    install_held(machine, manager, "1.5")
    install_held(machine, manager, "1.0")
    known = manager_named(manager).installed(Reader(machine))
    assert known["app"].held
    assert known["lib"].held
    assert not known["tool"].held
    text = machine.files.text(LOCK_LIST if manager == "dnf" else "/etc/zypp/locks")
    assert text.count("app") == 1
    roll_back(machine)
    assert state(machine, manager) == before


@MANAGERS
def test_a_foreign_hold_is_refused_with_the_command_that_releases_it(manager: str) -> None:
    machine = host("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency")
    manager_named(manager).set_hold(machine, ["lib"], held=True)
    with pytest.raises(HostError, match="held by somebody else than gpunode: lib") as caught:
        install(machine, manager, "app=1.0")
    assert {"dnf": "dnf versionlock delete lib", "zypper": "zypper removelock lib"}[manager] in caught.value.hint
    assert versions(machine)["app"] == "3:1.5-1"


@MANAGERS
def test_what_a_foreign_package_needs_is_left_and_named(manager: str) -> None:
    machine = host()
    install(machine, manager, "app=1.0")
    assert machine.run(["dnf", "install", "theirs"]).ok
    assert [words for taken in roll_back(machine) for words in taken.left] == ["package tool: theirs need it"]
    assert versions(machine) == {"tool": "1.0-1", "theirs": "1.0-1"}


def crash_points() -> list[tuple[str, int, Moment]]:
    found: list[tuple[str, int, Moment]] = []
    for manager in ("dnf", "zypper"):
        machine = host("app 3:1.0-1 user", "lib 3:1.0-1 dependency", "tool 1.0-1 dependency")
        install_held(machine, manager, "2.0")
        found += [(manager, number, moment) for number, moment in machine.effects.points()]
    return found


@pytest.mark.parametrize(("manager", "number", "moment"), crash_points())
def test_killed_anywhere_it_is_finished_or_taken_back(manager: str, number: int, moment: Moment) -> None:
    machine = host("app 3:1.0-1 user", "lib 3:1.0-1 dependency", "tool 1.0-1 dependency")
    before = state(machine, manager)
    machine.effects.crash_at(number, moment)
    with pytest.raises(Crash):
        install_held(machine, manager, "2.0")
    machine.effects.restart()
    other = machine.copy()
    install_held(machine, manager, "2.0")
    assert [row.deb.version for row in rows(machine, ARCHIVE) if row.deb.name in ("app", "lib")] == ["3:2.0-1"] * 2
    for each in (machine, other):
        roll_back(each)
        assert state(each, manager) == before


def test_success_that_changed_nothing_is_an_error() -> None:
    """dnf says `Nothing to do.` to a locked downgrade, and exits with 0."""
    world = World(ARCHIVE)
    machine = host("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency", world=world)
    world.silent = True
    with pytest.raises(CommandError, match="dnf would not install"):
        install(machine, "dnf", "app=1.0")
    with pytest.raises(CommandError, match=r"reported success without installing app 3:1\.0-1"):
        rpm.require(rpm.installed(Reader(machine)), [Rpm("app", "3:1.0-1")], "dnf", ())


@MANAGERS
def test_numbers_in_a_name_are_no_version(manager: str) -> None:
    machine = host()
    install(machine, manager, "cuda-toolkit-13-0")
    assert versions(machine) == {"cuda-toolkit-13-0": "13.0.2-1"}


@MANAGERS
def test_candidates_are_the_newest_in_the_indices(manager: str) -> None:
    found = manager_named(manager).candidates(Reader(host()), ("app", "tool", "nosuch"))
    assert found == {"app": "3:2.0-1", "tool": "1.0-1"}


@MANAGERS
def test_unknown_names_and_versions_are_told(manager: str) -> None:
    machine = host()
    with pytest.raises(UnknownPackageError, match="no repository has the package nosuch"):
        install(machine, manager, "nosuch")
    with pytest.raises(UnknownPackageError, match="no repository has app 9") as caught:
        install(machine, manager, "app=9")
    assert caught.value.hint == "of app there is: 3:2.0-1, 3:1.5-1, 3:1.0-1"


def test_of_several_kernels_each_is_known_by_its_full_name() -> None:
    machine = host("kernel-devel 6.1.20-1.amzn2023 user", "kernel-devel 6.1.10-1.amzn2023 user")
    known = manager_named("dnf").installed(Reader(machine))
    assert known["kernel-devel-6.1.20-1.amzn2023.x86_64"].installed
    assert known["kernel-devel"].version == "6.1.10-1.amzn2023"
    assert not rpm.superfluous(rpm.installed(Reader(machine)))


def test_two_versions_of_anything_else_are_half_an_upgrade() -> None:
    machine = host("lib 3:2.0-1 user", "lib 3:1.0-1 user")
    assert manager_named("dnf").installed(Reader(machine))["lib"].state == "half-installed"
    assert [each.version for each in rpm.superfluous(rpm.installed(Reader(machine)))] == ["3:2.0-1"]


def test_what_a_killed_transaction_began_is_taken_out_and_installed_once_more() -> None:
    """As `dnf history info last` prints it of one that was killed in a package's script, and of one that came to its end."""
    machine = host("tool 1.0-1 user", "lib 3:1.5-1 dependency")
    rows_of = "Packages Altered:\n ** Install lib-3:1.5-1.x86_64  @cuda\n ** Install app-3:1.5-1.x86_64  @cuda\n"
    end = "End time       : Thu Jan  1 00:00:00 1970 (-1795517304 seconds)\n"
    dnf = machine.programs["dnf"]
    machine.programs["dnf"] = lambda there, call: (
        Answer(end + rows_of) if call.words[0] == "history" else dnf(there, call)
    )
    manager_named("dnf").repair(machine, Reader(machine), lambda _line: None)
    assert versions(machine) == {"tool": "1.0-1"}
    machine = host("tool 1.0-1 user", "lib 3:1.5-1 dependency")
    end = "End time       : Tue Nov 24 10:48:26 2026 (2 seconds)\n"
    machine.programs["dnf"] = lambda there, call: (
        Answer(end + rows_of) if call.words[0] == "history" else dnf(there, call)
    )
    manager_named("dnf").repair(machine, Reader(machine), lambda _line: None)
    assert versions(machine) == {"tool": "1.0-1", "lib": "3:1.5-1"}


def test_a_hold_without_the_plugin_is_an_error() -> None:
    for conf in (None, "[main]\nenabled = 0\n"):
        machine = host("app 3:1.5-1 user")
        machine.files.erase("/etc/dnf/plugins/versionlock.conf")
        if conf:
            machine.files.lay("/etc/dnf/plugins/versionlock.conf", conf)
        with pytest.raises(HostError, match="its versionlock plugin is"):
            manager_named("dnf").set_hold(machine, ["app"], held=True)
        assert machine.files.text(LOCK_LIST) == ""


@pytest.mark.parametrize(
    ("lock", "held", "forbidden"),
    [
        ("nvidia-driver-3:580.126.20-1.el9.*", True, False),
        ("nvidia-driver-3:580.126.20-1.el9.x86_64", True, False),
        ("nvidia-driver-580.126.20-1.el9", True, False),
        ("nvidia-driver-3:580*", True, False),
        ("nvidia-driver-3:570*", False, True),
        ("nvidia-driver-3:580.95.05-1.el9.*", False, True),
        ("nvidia-driver-cuda-3:570*", False, False),
        ("nvidia-driver-570-3:570*", False, False),
        ("nvidia-driver-570.*", False, True),
        ("nvidia*-3:570*", False, True),
        ("nvidia-driver", False, False),
        ("!nvidia-driver-3:580.126.20-1.el9.*", False, False),
        ("# nvidia-driver-3:580.126.20-1.el9.*", False, False),
    ],
)
def test_locks_are_read_as_the_plugin_reads_them(lock: str, *, held: bool, forbidden: bool) -> None:
    package = Rpm("nvidia-driver", "3:580.126.20-1.el9", "x86_64")
    assert versionlock.holds(f"{lock}\n", package) is held
    assert versionlock.forbids(f"{lock}\n", package) is forbidden


def test_only_our_own_locks_are_taken_out() -> None:
    theirs = "# Added lock on Monday\nmake-0:1.1-1.*\n\nlib-3:2*"
    lib = Rpm("lib", "3:2.0-1")
    assert versionlock.with_held(theirs, [lib]) == f"{theirs}\n# Held by gpunode\nlib-3:2.0-1.*\n"
    assert versionlock.without(versionlock.with_held(theirs + "\n", [lib]), [lib]) == theirs + "\n"
    # `dnf versionlock delete` rewrites the list without any comment.
    assert versionlock.without("make-0:1.1-1.*\nlib-3:2.0-1.*\n", [lib]) == "make-0:1.1-1.*\n"


def test_zyppers_locks() -> None:
    theirs = "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: kernel*\n\n"
    text = zypper_locks.with_held(theirs, ["lib"])
    assert [zypper_locks.holds(text, name) for name in ("lib", "libx", "kernel-default")] == [True, False, True]
    assert zypper_locks.without(text, ["lib", "kernel*x"]) == theirs
    assert not zypper_locks.holds("type: patch\nsolvable_name: lib\n", "lib")
    assert zypper_locks.holds("match_type: regex\nsolvable_name: ^li\n", "lib")
    assert zypper_locks.holds("match_type: exact\nsolvable_name: lib\n", "lib")


def test_versions_are_ordered_as_rpm_orders_them() -> None:
    ordered = [
        "1.0~rc1-1",
        "1.0-1",
        "1.0^git1-1",
        "1.0a-1",
        "1.0.1-1",
        "1.0.10-1",
        "2-1",
        "1:0.1-1",
        "3:580.95.05-1",
        "3:580.126.20-1",
    ]
    assert all(rpm.compare(one, other) < 0 < rpm.compare(other, one) for one, other in pairwise(ordered))
    assert rpm.compare("1.0-1", "1_0-1") == 0
    assert rpm.compare("01.0-1", "1.0-1") == 0
    assert rpm.compare("1.0-1.el9", "1.0-1.el10") < 0


@pytest.mark.parametrize(
    ("command", "reads"),
    [
        ("rpm --query --all", True),
        ("dnf repoquery --available x", True),
        ("dnf --assumeno shell", True),
        ("dnf module list nvidia-driver", True),
        ("zypper --non-interactive --no-refresh --xmlout install --dry-run x", True),
        ("rpm --erase x", False),
        ("rpm --import x", False),
        ("dnf install --assumeno x", False),
        ("dnf --assumeyes shell", False),
        ("dnf module enable nvidia-driver", False),
        ("dnf mark install x", False),
        ("zypper --non-interactive --no-refresh --xmlout install x", False),
        ("zypper removelock x", False),
    ],
)
def test_only_questions_are_asked_by_a_reader(command: str, *, reads: bool) -> None:
    assert is_read_only(command.split()) is reads


def test_a_stream_is_switched_and_the_one_before_restored_to_the_byte() -> None:
    path = "/etc/dnf/modules.d/nvidia-driver.module"
    theirs = "[nvidia-driver]\nname=nvidia-driver\nstream=open-dkms\nprofiles=default\nstate=enabled\n"
    machine = host()
    machine.files.lay(path, theirs)
    stream = ModuleStream("nvidia-driver", "580-open", "the branch")

    def converge(resource: Resource) -> None:
        apply(machine, lambda door: resource.converge(door, resource.observe(door)))

    assert stream.differences(stream.observe(Reader(machine)))[0].found == "open-dkms"
    converge(stream)
    assert not stream.differences(stream.observe(Reader(machine)))
    with pytest.raises(HostError, match="no repository has the stream nvidia-driver:575-open") as caught:
        converge(ModuleStream("nvidia-driver", "575-open", "the branch"))
    assert "580-open" in caught.value.hint
    roll_back(machine)
    assert machine.files.text(path) == theirs


def repository(manager: str, **fields: object) -> RpmRepository:
    return RpmRepository(manager, "/etc/x.repo", "cuda", "https://mirror/cuda/", "/etc/pki/k", "why", **fields)  # type: ignore[arg-type] # the caller's


def test_a_source_checks_what_is_signed_and_takes_the_way_out() -> None:
    text = repository("dnf", signed_packages=False, proxy="http://proxy:3128", ca_bundle="/etc/ca.pem").text
    assert {
        "gpgcheck=0",
        "repo_gpgcheck=1",
        "gpgkey=file:///etc/pki/k",
        "proxy=http://proxy:3128",
        "sslcacert=/etc/ca.pem",
    } <= set(text.splitlines())
    assert (
        "baseurl=https://mirror/cuda/?proxy=proxy&proxyport=8080"
        in repository("zypper", proxy="http://proxy:8080").text
    )


def test_a_source_that_checks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing of it is signed"):
        repository("dnf", signed_packages=False, signed_index=False)


def test_a_key_as_text_is_read_back_and_has_the_checksum() -> None:
    key = keys.public_key("lab")
    assert _armoured(key) == keys.armored(key)
    assert openpgp.fingerprints(_armoured(key)) == (keys.fingerprint(key),)
    # The checksum of nothing is its first value (RFC 9580).
    assert b"\n=twTO\n" in _armoured(b"")
