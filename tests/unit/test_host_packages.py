"""Packages: the whole transaction taken back, marks, holds and versions restored, nobody else's package lost."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from gpunode.errors import CommandError, HostError
from gpunode.host.packages.apt import Apt
from gpunode.host.packages.base import Package, Spec, version_matches
from gpunode.host.reader import Reader
from gpunode.resources.packages import Packages
from memory import Crash, MemoryMachine, bare_host
from memory.apt import auto_marks
from memory.door import apply, open_door, roll_back
from memory.packages import Deb, Repository, ScriptError, compare
from memory.snapshot import changes, snapshot

SQV = "Sub-process /usr/bin/sqv returned an error code (1), error message is:"


def host_with(*installed: str, archive: Iterable[Deb]) -> MemoryMachine:
    """A host with an archive of its own, some of it installed by hand as `name=version`."""
    machine = bare_host()
    machine.dpkg.archive += archive
    if installed:
        done = machine.run(["apt-get", "install", "--yes", "--allow-downgrades", *installed])
        assert done.ok, done.stderr
    return machine


def install(machine: MemoryMachine, *words: str) -> None:
    specs = tuple(Spec(word.partition("=")[0], word.partition("=")[2]) for word in words)
    apply(machine, lambda host: host.install_packages("apt", specs))


def left_by(machine: MemoryMachine) -> list[str]:
    return [words for taken in roll_back(machine) for words in taken.left]


TREE = (
    Deb("app", "1-1", ("lib (= 1-1)", "tool")),
    Deb("lib", "1-1"),
    Deb("tool", "3-1", ("deep",)),
    Deb("deep", "1-1"),
)


def test_a_package_torn_while_it_came_is_laid_down_again_at_its_own_version() -> None:
    machine = host_with("app=1-1", archive=(Deb("app", "1-1"), Deb("app", "2-1")))
    machine.dpkg.records["app"].state = "half-installed"
    Apt().repair(machine, Reader(machine), lambda _line: None)
    assert machine.dpkg.installed()["app"].version == "1-1"
    assert machine.dpkg.records["app"].abbreviation == "ii "


def test_a_torn_package_beside_one_that_lacks_another_is_laid_down_again() -> None:
    machine = host_with("app=1-1", archive=TREE)
    del machine.dpkg.records["lib"]
    machine.dpkg.records["deep"].state = "half-installed"
    Apt().repair(machine, Reader(machine), lambda _line: None)
    assert {record.state for record in machine.dpkg.records.values()} == {"installed"}
    assert "lib" in machine.dpkg.records


def test_what_came_along_goes_too() -> None:
    machine = host_with(archive=TREE)
    before = snapshot(machine)
    install(machine, "app")
    assert {"app", "lib", "tool", "deep"} <= machine.dpkg.installed().keys()
    assert auto_marks(machine) >= {"lib", "tool", "deep"}
    assert not left_by(machine)
    assert not changes(before, snapshot(machine))


def test_a_version_is_gone_back_to_below_what_we_installed_on_it() -> None:
    """As with an older container toolkit's library, upgraded because the newer toolkit needs it."""
    archive = (Deb("lib", "1-1"), Deb("lib", "2-1"), Deb("app", "2-1", ("lib (>= 2-1)",)))
    machine = host_with("lib=1-1", archive=archive)
    before = snapshot(machine)
    install(machine, "app")
    assert machine.dpkg.installed()["lib"].version == "2-1"
    assert not left_by(machine)
    assert not changes(before, snapshot(machine))


def test_versions_and_marks_are_restored() -> None:
    archive = (Deb("lib", "1-1"), Deb("lib", "2-1"), Deb("tool", "1-1"))
    machine = host_with("lib=1-1", "tool", archive=archive)
    machine.run(["apt-mark", "auto", "lib", "tool"])
    before = snapshot(machine)
    install(machine, "lib=2-1")
    assert machine.dpkg.installed()["lib"].version == "2-1"
    assert "lib" not in auto_marks(machine)
    assert not left_by(machine)
    assert not changes(before, snapshot(machine))


def test_a_hold_of_ours_is_overridden_and_restored() -> None:
    machine = host_with("lib=1-1", archive=(Deb("lib", "1-1"), Deb("lib", "2-1")))
    apply(machine, lambda host: host.hold_packages("apt", ("lib",)))
    held = snapshot(machine)
    install(machine, "lib=2-1")
    writer = open_door(machine, "rollback")
    writer.take_back(writer.journal.runs[1].entries[0])
    assert not changes(held, snapshot(machine))
    assert machine.dpkg.records["lib"].want == "hold"


def test_a_foreign_hold_is_refused_by_name() -> None:
    machine = host_with("lib=1-1", archive=(Deb("lib", "1-1"), Deb("lib", "2-1")))
    machine.run(["apt-mark", "hold", "lib"])
    before = snapshot(machine)
    with pytest.raises(HostError, match="held by somebody else than gpunode: lib") as caught:
        install(machine, "lib=2-1")
    assert "apt-mark unhold lib" in caught.value.hint
    assert not changes(before, snapshot(machine))


def test_a_transaction_that_removes_is_refused_by_name() -> None:
    archive = (Deb("old", "1-1"), Deb("new", "1-1", conflicts=("old",)))
    machine = host_with("old", archive=archive)
    with pytest.raises(HostError, match="the package manager would remove old"):
        install(machine, "new")
    assert "old" in machine.dpkg.installed()


def test_what_a_foreign_package_needs_is_left_and_named() -> None:
    machine = host_with(archive=(*TREE, Deb("theirs", "1-1", ("lib",))))
    install(machine, "app")
    assert machine.run(["apt-get", "install", "--yes", "theirs"]).ok
    assert left_by(machine) == ["package lib: theirs need it"]
    assert {"lib", "theirs"} <= machine.dpkg.installed().keys()
    assert not {"app", "tool", "deep"} & machine.dpkg.installed().keys()


def test_configuration_files_alone_are_gone_back_to() -> None:
    config = "/etc/app.conf"
    app = Deb("app", "1-1", files={config: "default\n", "/usr/bin/app": "#!"}, conffiles=frozenset({config}))
    machine = host_with("app", archive=(app,))
    machine.files.lay(config, "theirs\n")
    assert machine.run(["apt-get", "remove", "--yes", "app"]).ok
    before = snapshot(machine)
    assert machine.dpkg.records["app"].state == "config-files"
    install(machine, "app")
    assert machine.files.text(config) == "theirs\n"
    assert not left_by(machine)
    assert not changes(before, snapshot(machine))


def test_a_version_that_is_gone_from_the_repository_is_named() -> None:
    machine = host_with("lib=1-1", archive=(Deb("lib", "1-1"), Deb("lib", "2-1")))
    install(machine, "lib=2-1")
    machine.dpkg.archive = [deb for deb in machine.dpkg.archive if deb.version != "1-1"]
    assert left_by(machine) == ["package lib: no repository has version 1-1 any more"]
    assert machine.dpkg.installed()["lib"].version == "2-1"


def test_the_very_version_is_gone_back_to() -> None:
    machine = host_with("lib=1-1", archive=(Deb("lib", "1-1"), Deb("lib", "1-10"), Deb("lib", "2-1")))
    install(machine, "lib=2-1")
    left_by(machine)
    assert machine.dpkg.installed()["lib"].version == "1-1"


def test_a_package_that_was_there_is_never_removed_with_ours() -> None:
    """Its old version is gone from the repository, and its new one needs what gpunode brought along."""
    archive = (Deb("lib", "1-1"), Deb("lib", "2-1", ("part",)), Deb("part", "1-1"))
    machine = host_with("lib=1-1", archive=archive)
    install(machine, "lib=2-1")
    machine.dpkg.archive = [deb for deb in machine.dpkg.archive if deb.version != "1-1" or deb.name != "lib"]
    left_by(machine)
    assert "lib" in machine.dpkg.installed()


def test_a_foreign_dependent_of_a_package_with_configuration_files_is_kept() -> None:
    lib = Deb("lib", "1-1", files={"/etc/lib.conf": "x"}, conffiles=frozenset({"/etc/lib.conf"}))
    machine = host_with("lib", archive=(lib, Deb("theirs", "1-1", ("lib",))))
    assert machine.run(["apt-get", "remove", "--yes", "lib"]).ok
    install(machine, "lib")
    assert machine.run(["apt-get", "install", "--yes", "theirs"]).ok
    left_by(machine)
    assert "theirs" in machine.dpkg.installed()


def test_going_back_removes_nobody_elses_package() -> None:
    """Somebody has installed since what needs the version that gpunode brought."""
    archive = (Deb("lib", "1-1"), Deb("lib", "2-1"), Deb("theirs", "1-1", ("lib (>= 2-1)",)))
    machine = host_with("lib=1-1", archive=archive)
    install(machine, "lib=2-1")
    assert machine.run(["apt-get", "install", "--yes", "theirs"]).ok
    (words,) = left_by(machine)
    assert "lib" in words
    assert "theirs" in words
    assert {"lib", "theirs"} <= machine.dpkg.installed().keys()


def test_a_foreign_package_that_either_of_two_of_ours_serves_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = host_with(archive=(Deb("one", "1-1"), Deb("two", "1-1"), Deb("theirs", "1-1", ("one | two",))))
    install(machine, "one", "two")
    assert machine.run(["apt-get", "install", "--yes", "theirs"]).ok
    run, asked = machine.run, 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal asked
        asked += 1
        assert asked < 100, "asks apt again and again"
        return run(*arguments, **options)  # type: ignore[arg-type] # handed through

    monkeypatch.setattr(machine, "run", counted)
    roll_back(machine)
    assert "theirs" in machine.dpkg.installed()


@pytest.mark.parametrize("holds", [False, True])
def test_an_interrupted_downgrade_is_finished(*, holds: bool) -> None:
    """The versions wanted are pinned, as the driver's are, so that mending brings about just them."""
    archive = [Deb("app", f"{number}-1", (f"lib (= {number}-1)",)) for number in (1, 2)]
    archive += [Deb("lib", f"{number}-1") for number in (1, 2)]
    machine = host_with("app=2-1", "lib=2-1", archive=archive)
    if holds:
        apply(machine, lambda host: host.hold_packages("apt", ("app", "lib")))
    machine.files.lay("/etc/apt/preferences.d/pin", "Package: app lib\nPin: version 1-1\nPin-Priority: 1001\n")
    machine.effects.crash_at(_number_of(machine.copy(), "configure lib"), "after")
    with pytest.raises(Crash):
        install(machine, "app=1-1", "lib=1-1")
    # dpkg had unpacked the other half, and then lost it: as after a power cut, what is there does not fit together.
    machine.dpkg.records["app"].deb = archive[1]
    machine.dpkg.records["app"].state = "unpacked"
    machine.effects.restart()
    install(machine, "app=1-1", "lib=1-1")
    assert {machine.dpkg.installed()[name].version for name in ("app", "lib")} == {"1-1"}


def _number_of(machine: MemoryMachine, effect: str) -> int:
    machine.effects.restart()
    install(machine, "app=1-1", "lib=1-1")
    return machine.effects.names.index(effect) + 1


def test_a_package_that_cannot_be_configured_is_told_in_apts_words_and_taken_back() -> None:
    def fail(_machine: MemoryMachine) -> None:
        raise ScriptError("Error! Bad return status for module build")

    machine = host_with(archive=(Deb("bad", "1-1", ("lib",), postinst=fail), Deb("lib", "1-1")))
    before = snapshot(machine)
    with pytest.raises(CommandError, match="Sub-process /usr/bin/dpkg returned an error code"):
        install(machine, "bad")
    assert machine.dpkg.records["bad"].state == "half-configured"
    machine.dpkg.records["bad"].deb = Deb("bad", "1-1")  # its cause is gone
    roll_back(machine)
    assert not changes(before, snapshot(machine))


def test_a_module_that_does_not_compile_is_told_by_the_compilers_words_and_compiled_once() -> None:
    log = "/var/lib/dkms/nvidia/1/build/make.log"
    builds = []

    def fail(machine: MemoryMachine) -> None:
        builds.append(1)
        text = "DKMS make.log for nvidia/1 for kernel 6.1.0 (x86_64)\n/var/lib/dkms/nvidia/1/build/nv.c:7:1: error: too few\n"
        machine.files.lay(log, text, mtime=machine.now())
        raise ScriptError("Error! Bad return status for module build")

    machine = host_with(archive=(Deb("bad", "1-1", postinst=fail),))
    with pytest.raises(
        CommandError, match=r"could not build nvidia/1 for the kernel 6.1.0: nv.c:7:1: error: too few"
    ) as caught:
        install(machine, "bad")
    assert caught.value.details[:2] == (
        "/var/lib/dkms/nvidia/1/build/nv.c:7:1: error: too few",
        f"the whole log: {log}",
    )
    roll_back(machine)
    assert len(builds) == 1


def test_the_log_of_an_earlier_build_explains_nothing() -> None:
    def fail(_machine: MemoryMachine) -> None:
        raise ScriptError("no such user")

    machine = host_with(archive=(Deb("bad", "1-1", postinst=fail),))
    machine.files.lay("/var/lib/dkms/nvidia/1/build/make.log", "nv.c:7:1: error: too few\n", mtime=machine.now() - 60)
    with pytest.raises(CommandError, match="apt-get install failed"):
        install(machine, "bad")


def test_a_package_that_never_configures_can_still_be_taken_back() -> None:
    """The module does not build on this kernel: a rollback must not need it to."""

    def fail(_machine: MemoryMachine) -> None:
        raise ScriptError("Error! Bad return status for module build")

    machine = host_with(archive=(Deb("bad", "1-1", postinst=fail),))
    before = snapshot(machine)
    with pytest.raises(CommandError):
        install(machine, "bad")
    roll_back(machine)
    assert not changes(before, snapshot(machine))


def test_another_version_can_follow_one_that_never_configures() -> None:
    def fail(_machine: MemoryMachine) -> None:
        raise ScriptError("Error! Bad return status for module build")

    machine = host_with(archive=(Deb("driver", "1-1", postinst=fail), Deb("driver", "2-1")))
    with pytest.raises(CommandError):
        install(machine, "driver=1-1")
    install(machine, "driver=2-1")
    assert machine.dpkg.records["driver"].state == "installed"


def test_unknown_names_and_versions_are_told() -> None:
    machine = host_with(archive=TREE)
    with pytest.raises(CommandError, match="Unable to locate package nosuch") as caught:
        install(machine, "nosuch")
    assert "driver.branch" in caught.value.hint
    with pytest.raises(CommandError, match=r"Version '9\*' for 'app' was not found"):
        install(machine, "app=9")


def test_nothing_to_do_is_not_journaled() -> None:
    machine = host_with("app", archive=TREE)
    writer = open_door(machine)
    writer.install_packages("apt", (Spec("app"), Spec("lib", "1")))
    assert not writer.journal.runs[-1].entries


def test_one_query_for_all_packages() -> None:
    machine = host_with(archive=TREE)
    reader = Reader(machine)
    from gpunode.host.packages import manager_named

    known = manager_named("apt").installed(reader)
    manager_named("apt").installed(reader)
    assert known["gcc"] == Package("gcc", "4:14.2.0-1", "installed", auto=False, held=False)
    assert sum(argv[0] == "dpkg-query" for argv in machine.commands) == 1


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("580.126.20-1", "580.126.20", True),
        ("580.126.20-1", "580.12", False),
        ("580.126.20-1", "", True),
        ("2:580.126.20-1", "580.126.20", True),
        ("580.126.20-1", "580.126.20-1", True),
        ("580.126.20-10", "580.126.20-1", False),
    ],
)
def test_versions_match_at_boundaries(version: str, wanted: str, *, fits: bool) -> None:
    assert version_matches(version, wanted) is fits


def test_the_simulated_order_of_versions_is_debians() -> None:
    ordered = ["1.0~rc1-1", "1.0-1", "1.0-2", "1.0-10", "1.0.1-1", "1:0.1-1"]
    assert all(compare(one, other) < 0 for one, other in pairwise(ordered))


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("The following signatures were invalid: EXPKEYSIG 8793F200 lab", "signing key has expired"),
        (
            "Sub-process /usr/bin/sqv returned an error code (1), error message is: The primary key is not live",
            "signing key has expired",
        ),
        (
            "Release file for https://mirror/InRelease is expired (invalid since 1d 2h). Updates are not applied.",
            "timedatectl",
        ),
        ("Release file for https://mirror/InRelease is not valid yet (invalid for another 2000d)", "clock right"),
        ("Hash Sum mismatch", "another mirror"),
        ("File has unexpected size (3 != 4). Mirror sync in progress?", "another mirror"),
        ("Invalid response from proxy: HTTP/1.1 407 Proxy Authentication Required", "which no profile holds"),
        ("SSL connection failed: error:0A000086:SSL routines::certificate verify failed", "trust store"),
        ("Certificate verification failed: The certificate is NOT trusted.", "trust store"),
        ("Clearsigned file isn't valid, got 'NOSPLIT' (does the network require authentication?)", "login page"),
    ],
)
def test_what_apt_says_of_a_mirror_comes_with_what_to_do(said: str, hint: str) -> None:
    machine = bare_host()
    machine.files.lay("/etc/apt/sources.list.d/m.sources", "Types: deb\nURIs: https://mirror/\nSuites: /\n")
    machine.repositories.append(Repository("https://mirror/", (), error=said))
    with pytest.raises(CommandError) as caught:
        Apt().refresh_lists(machine, lambda _line: None, source="/etc/apt/sources.list.d/m.sources")
    assert said in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("warning", "said", "hint"),
    [
        (
            f"OpenPGP signature verification failed: https://mirror  InRelease: {SQV} Verifying signature:     Not live until 2098-12-31",
            "https://mirror: Verifying signature: Not live until 2098-12-31",
            "clock right",
        ),
        (
            "GPG error: https://mirror trixie InRelease: The following signatures were invalid: EXPKEYSIG 8793F200 lab",
            "https://mirror: The following signatures were invalid: EXPKEYSIG 8793F200 lab",
            "signing key has expired",
        ),
    ],
)
def test_why_a_repository_counts_as_unsigned_is_the_first_line(warning: str, said: str, hint: str) -> None:
    machine = bare_host()
    machine.files.lay("/etc/apt/sources.list.d/m.sources", "Types: deb\nURIs: https://mirror/\nSuites: /\n")
    words = f"\nW: {warning}\nE: The repository 'https://mirror InRelease' is not signed."
    machine.repositories.append(Repository("https://mirror/", (), error=words))
    with pytest.raises(CommandError) as caught:
        Apt().refresh_lists(machine, lambda _line: None, source="/etc/apt/sources.list.d/m.sources")
    assert caught.value.message == f"apt-get update failed: {said}"
    assert hint in caught.value.hint
    assert not any("is not signed" in line for line in caught.value.details)


def test_an_index_that_cannot_be_renewed_is_told_with_the_package_it_may_have() -> None:
    """apt itself ends well there: it has an older copy."""
    machine = host_with(archive=TREE)
    machine.files.lay("/etc/apt/sources.list.d/m.sources", "Types: deb\nURIs: https://mirror/\nSuites: /\n")
    machine.repositories.append(Repository("https://mirror/", (), error="Could not connect to mirror:443"))
    wanted = Packages("app", "apt", (Spec("app", "2"),), "to be tested")
    with pytest.raises(
        CommandError, match=r"'app' was not found; not every index .*Could not connect to mirror"
    ) as caught:
        apply(machine, lambda host: wanted.converge(host, wanted.observe(host)))
    assert "is the mirror up" in caught.value.hint


def test_somebody_elses_broken_repository_stops_nothing() -> None:
    machine = host_with(archive=TREE)
    machine.files.lay("/etc/apt/sources.list.d/m.sources", "Types: deb\nURIs: https://mirror/\nSuites: /\n")
    late = Repository("https://late/", (Deb("late", "1-1"),))
    machine.files.lay("/etc/apt/sources.list.d/late.sources", "Types: deb\nURIs: https://late/\nSuites: /\n")
    machine.repositories += [Repository("https://mirror/", (), error="Could not connect to mirror:443"), late]
    wanted = Packages("late", "apt", (Spec("late"),), "to be tested")
    apply(machine, lambda host: wanted.converge(host, wanted.observe(host)))
    assert "late" in machine.dpkg.installed()


def test_a_package_whose_repository_has_gone_is_purged() -> None:
    """As when a later run wrote the source, whose undo therefore comes first."""
    machine = host_with(archive=TREE)
    before = snapshot(machine)
    install(machine, "app")
    machine.dpkg.archive[:] = [deb for deb in machine.dpkg.archive if deb not in TREE]
    assert not left_by(machine)
    assert not changes(before, snapshot(machine))


def test_a_script_that_goes_on_failing_is_told_at_every_try() -> None:
    """The second time apt has nothing left to do, so that it says nothing: dpkg alone does."""
    machine = host_with(archive=(Deb("app", "1-1", postinst=_failing),))
    for _ in range(2):
        with pytest.raises(CommandError, match=r"failed: app \(configure\): no such unit"):
            install(machine, "app")


def _failing(_machine: MemoryMachine) -> None:
    raise ScriptError("dpkg: error processing package app (--configure):\n no such unit")


def test_a_package_whose_script_fails_is_named_in_the_first_line() -> None:
    words = (
        "\ndpkg: error processing package nvidia-persistenced (--configure):\n"
        " installed nvidia-persistenced package post-installation script subprocess returned error exit status 1\n"
        "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
    )
    machine = bare_host()
    machine.files.lay("/etc/apt/sources.list.d/m.sources", "Types: deb\nURIs: https://mirror/\nSuites: /\n")
    machine.repositories.append(Repository("https://mirror/", (), error=words))
    with pytest.raises(
        CommandError, match=r"failed: nvidia-persistenced \(configure\): installed nvidia-persistenced"
    ) as caught:
        Apt().refresh_lists(machine, lambda _line: None, source="/etc/apt/sources.list.d/m.sources")
    assert "mend what it says" in caught.value.hint
