"""dnf 5 behind dnf's interface. What it prints here was printed by dnf 5.4.6 on a lab host."""

from __future__ import annotations

import pytest
from test_host_packages_rpm import ARCHIVE, host, install, install_held, versions

from gpunode.errors import CommandError, HostError, UnknownPackageError
from gpunode.host.machine import Output
from gpunode.host.packages import dnf_errors, manager_named, versionlock_toml
from gpunode.host.packages.base import Spec
from gpunode.host.packages.dnf5 import Dnf5
from gpunode.host.packages.dnf_dialect import Planned, Task
from gpunode.host.packages.rpm import Rpm
from gpunode.host.queries import is_read_only
from gpunode.host.reader import Reader
from memory import MemoryMachine
from memory.command import Answer
from memory.dnf5 import dnf5
from memory.door import apply, roll_back
from memory.rpm import World, state

LOCKS = versionlock_toml.PATH
THEIRS = """\
version = "1.0"

# ours, since the incident
[[packages]]
name = "bash"
comment = "Added by 'versionlock add' command on 2026-11-24 20:23:45"

[[packages.conditions]]
key = "evr"
comparator = "="
value = "0:5.2.15-5.fc39"
"""
TABLE = """\
Package                                    Arch   Version        Repository      Size
Removing:
 nvidia-driver-cuda                        x86_64 3:580.126.20-1 <unknown>    3.7 KiB
Upgrading:
 nvidia-container-toolkit-base             x86_64 0:1.20.0-1     tk          24.5 KiB
   replacing nvidia-container-toolkit-base x86_64 0:1.19.1-1     tk          24.5 KiB
   replacing nvidia-container-runtime      x86_64 0:1.10.0-1     tk          24.5 KiB
Installing dependencies:
 gcc                                       x86_64 0:1.1-1        base         0.0   B
Installing weak dependencies:
 dkms                                      noarch 0:3.1-1        base         0.0   B
Removing unused dependencies:
 make                                      x86_64 0:1.1-1        base         0.0   B
Changing reason:
 tar                                       x86_64 0:1.1-1        @System      0.0   B
   External User -> User                                    
Skipping packages with conflicts:
 nvidia-kmod-common                        noarch 3:595.84-1     cuda         7.0   B

Transaction Summary:
 Upgrading:          1 packages

"""  # noqa: W291 - as it was printed


def fedora(*installed: str, world: World | None = None) -> MemoryMachine:
    """A host whose dnf is dnf 5, some packages (`name version reason`) there already."""
    machine = host(*installed, world=world)
    machine.files.erase("/etc/dnf/plugins/versionlock.list")
    machine.files.erase("/etc/dnf/plugins/versionlock.conf")
    machine.files.erase("/usr/bin/dnf")
    machine.files.lay("/usr/bin/dnf5", "#!", mode=0o755)
    machine.files.link("/usr/bin/dnf", "dnf5")
    machine.programs["dnf"] = dnf5(world or World(ARCHIVE))
    machine.effects.restart()
    return machine


def locks(machine: MemoryMachine) -> str:
    return machine.files.text(LOCKS) if machine.files.exists(LOCKS) else ""


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_versions_go_up_or_down_with_their_hold_and_back(version: str) -> None:
    machine = fedora("tool 1.0-1 user")
    before = state(machine, "dnf")
    install_held(machine, "dnf", "1.5")
    install_held(machine, "dnf", version)
    assert versions(machine) == {"app": f"3:{version}-1", "lib": f"3:{version}-1", "tool": "1.0-1"}
    known = manager_named("dnf").installed(Reader(machine))
    assert [known[name].held for name in ("app", "lib", "tool")] == [True, True, False]
    assert locks(machine).count('name = "app"') == 1
    assert f'value = "3:{version}-1"' in locks(machine)
    roll_back(machine)
    assert state(machine, "dnf") == before
    assert not machine.files.exists(LOCKS)


def test_what_is_there_already_is_no_change() -> None:
    machine = fedora("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency")
    writer = apply(machine, lambda door: door.install_packages("dnf", (Spec("app", "1.5"), Spec("lib"))))
    assert not writer.journal.runs[-1].entries


def test_a_foreign_hold_is_refused_with_the_command_that_releases_it() -> None:
    machine = fedora("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency")
    manager_named("dnf").set_hold(machine, ["lib"], held=True)
    with pytest.raises(HostError, match="held by somebody else than gpunode: lib") as caught:
        install(machine, "dnf", "app=1.0")
    assert "dnf versionlock delete lib" in caught.value.hint


def test_success_that_changed_nothing_is_an_error() -> None:
    world = World(ARCHIVE)
    machine = fedora("app 3:1.5-1 user", "lib 3:1.5-1 dependency", "tool 1.0-1 dependency", world=world)
    world.silent = True
    with pytest.raises(CommandError, match="dnf would not install"):
        install(machine, "dnf", "app=1.0")


def test_the_table_of_a_transaction_is_read() -> None:
    machine = fedora()
    machine.programs["dnf"] = lambda _machine, _call: Answer(TABLE, "Operation aborted by the user.\n", 1)
    found, _ = Dnf5().foreseen(Reader(machine), Task(remove=("make",)), ())
    assert found == [
        Planned(Rpm("nvidia-driver-cuda", "3:580.126.20-1", "x86_64"), goes=True),
        Planned(Rpm("nvidia-container-toolkit-base", "1.20.0-1", "x86_64")),
        Planned(Rpm("nvidia-container-runtime", "1.10.0-1", "x86_64"), goes=True),
        Planned(Rpm("gcc", "1.1-1", "x86_64"), comes=True),
        Planned(Rpm("dkms", "3.1-1", "noarch"), comes=True),
        Planned(Rpm("make", "1.1-1", "x86_64"), goes=True),
    ]


@pytest.mark.parametrize(("status", "begun"), [("Started", ["app-3:1.5-1.x86_64", "lib-1.5-1.x86_64"]), ("Ok", [])])
def test_a_transaction_that_never_came_to_its_end_is_known(status: str, begun: list[str]) -> None:
    history = (
        f"Transaction ID : 10\nStatus         : {status}\nPackages altered:\n  Action  Package            Reason Repository\n"
        "  Install app-3:1.5-1.x86_64 User   cuda\n  Install lib-0:1.5-1.x86_64 Dependency cuda\n  Replaced old-0:1-1.x86_64 User x\n"
    )
    assert sorted(Dnf5().begun(history)) == begun


@pytest.mark.parametrize(
    ("version", "refused"), [("5.2.12.0", True), ("5.2.14.0", False), ("5.4.6.0", False), ("", False)]
)
def test_a_dnf_5_without_the_verb_is_refused(version: str, *, refused: bool) -> None:
    machine = fedora("app 3:1.5-1 user")
    rpm = machine.programs["rpm"]
    machine.programs["rpm"] = lambda there, call: (
        Answer(version, "", 0 if version else 1) if call.words[-1] == "dnf5" else rpm(there, call)
    )
    words = manager_named("dnf").refusal(Reader(machine))
    assert bool(words) is refused
    if refused:
        assert words.startswith("this host's dnf 5 is 5.2.12.0, and gpunode needs 5.2.14 or newer")
        with pytest.raises(HostError, match=r"needs 5\.2\.14 or newer"):
            install(machine, "dnf", "app=1.0")


def entry(name: str, *conditions: str) -> str:
    lines = ['version = "1.0"', "[[packages]]", f'name = "{name}"']
    for condition in conditions:
        key, comparator, value = condition.split()
        lines += [
            "[[packages.conditions]]",
            f'key = "{key}"',
            f'comparator = "{comparator}"',
            f'value = "{value}"',
        ]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("lock", "held", "forbidden"),
    [
        (entry("nvidia-driver", "evr = 3:580.126.20-1.fc42"), True, False),
        (entry("nvidia-driver", "evr = 3:580.126.20"), True, False),
        (entry("nvidia-driver", "evr = 3:580.95.05-1.fc42"), False, True),
        (entry("*nvidia*", "evr >= 3:580", "evr < 3:581"), True, False),
        (entry("*nvidia*", "evr >= 3:570", "evr < 3:571"), False, True),
        (entry("nvidia-driver", "evr >= 3:570"), False, False),
        (entry("nvidia-driver", "evr != 3:580.178.01-1.fc42"), False, False),
        (entry("nvidia-driver", "evr != 3:580.126.20-1.fc42"), False, True),
        (entry("nvidia-driver", "epoch = 3"), True, False),
        (entry("nvidia-driver", "arch = aarch64"), False, True),
        (entry("nvidia-driver-cuda", "evr = 3:570.1-1"), False, False),
        (entry("nvidia-driver"), False, False),
        ("packages = []\n", False, False),
        ("", False, False),
    ],
)
def test_locks_are_read_as_dnf_reads_them(lock: str, *, held: bool, forbidden: bool) -> None:
    package = Rpm("nvidia-driver", "3:580.126.20-1.fc42", "x86_64")
    assert versionlock_toml.holds(lock, package) is held
    assert versionlock_toml.forbids(lock, package) is forbidden


def test_an_architecture_that_is_not_known_yet_forbids_nothing() -> None:
    """As of a package that is to come."""
    assert not versionlock_toml.forbids(entry("nvidia-driver", "arch = x86_64"), Rpm("nvidia-driver", "3:580.1-1"))


def test_only_our_own_locks_are_taken_out() -> None:
    lib, app = Rpm("lib", "3:2.0-1"), Rpm("app", "1.0-1")
    both = versionlock_toml.with_held(THEIRS, [lib, app])
    assert versionlock_toml.holds(both, lib)
    assert versionlock_toml.without(both, [lib, app]) == THEIRS
    assert versionlock_toml.without(both, [app]) == versionlock_toml.with_held(THEIRS, [lib])
    assert versionlock_toml.without(both, [Rpm("lib", "3:1.0-1")]) == both
    assert versionlock_toml.without(both.replace('"1.0-1"', '"0:1.0-1"'), [lib, app]) == THEIRS


def test_an_operators_comment_outlives_the_lock_above_it() -> None:
    lib = Rpm("lib", "3:2.0-1")
    text = versionlock_toml.with_held("", [lib]) + "# keep this\n"
    assert versionlock_toml.without(text, [lib]) == f"{versionlock_toml.HEAD}# keep this\n"


def test_a_list_that_dnf_has_emptied_takes_locks_again() -> None:
    lib = Rpm("lib", "3:2.0-1")
    assert versionlock_toml.holds(versionlock_toml.with_held('packages = []\nversion = "1.0"\n', [lib]), lib)


def test_a_list_that_is_no_toml_is_told_with_its_place() -> None:
    machine = fedora("app 3:1.5-1 user")
    machine.files.lay(LOCKS, "version = \n")
    with pytest.raises(HostError, match=f"{LOCKS} is not TOML: line 1"):
        manager_named("dnf").installed(Reader(machine))


@pytest.mark.parametrize(
    ("printed", "message", "unknown"),
    [
        (
            "Failed to resolve the transaction:\nNo match for argument: nosuch\n",
            "dnf do failed: No match for argument: nosuch",
            True,
        ),
        (
            "Failed to resolve the transaction:\nArgument 'app-2.0-1.x86_64' matches only packages excluded by versionlock.\n",
            "dnf do failed: Argument 'app-2.0-1.x86_64' matches only packages excluded by versionlock.",
            False,
        ),
        (
            "Failed to resolve the transaction:\nProblem: installed package app requires lib\n  - conflicting requests\n",
            "dnf do failed: installed package app requires lib",
            False,
        ),
        (
            ">>> Unpack error: kernel-devel-0:1.0-1.x86_64\nTransaction failed: Rpm transaction failed.\n",
            "dnf do failed: Unpack error: kernel-devel-0:1.0-1.x86_64",
            False,
        ),
    ],
)
def test_its_own_words_are_the_message(printed: str, message: str, *, unknown: bool) -> None:
    error = dnf_errors.error(Output(("dnf", "--assumeyes", "do", "--action=install", "x"), 1, "", printed))
    assert error.message == message
    assert isinstance(error, UnknownPackageError) is unknown


@pytest.mark.parametrize(
    ("command", "reads"),
    [
        ("dnf --assumeno do --action=install x", True),
        ("dnf --assumeyes do --action=install x", False),
        ("dnf do x", False),
    ],
)
def test_only_the_trial_is_a_question(command: str, *, reads: bool) -> None:
    assert is_read_only(command.split()) is reads
