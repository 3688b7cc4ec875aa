"""Whatever gpunode does and whoever edits in between: a rollback takes gpunode's part back and no more, killed or not."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from gpunode.host.packages.base import Spec
from gpunode.host.writer import Writer
from memory import Crash, MemoryMachine, bare_host
from memory.door import apply, roll_back
from memory.packages import Deb
from memory.snapshot import changes, snapshot

PATHS = ("/etc/gpu/a.conf", "/etc/gpu/b.conf", "/etc/modprobe.d/c.conf", "/etc/old.conf")
LINES = [f"line {number}\n" for number in range(12)]
DEBS = (
    Deb("app", "1-1", ("lib",)),
    Deb("app", "2-1", ("lib",)),
    Deb("lib", "1-1"),
    Deb("tool", "1-1", ("lib",), {"/etc/tool.conf": "x\n"}, conffiles=frozenset({"/etc/tool.conf"})),
)

# gpunode replaces lines of the middle, others add at the end: edits that can always be told apart.
writes = st.tuples(st.just("write"), st.sampled_from(PATHS), st.integers(2, 7), st.integers(0, 99))
edits = st.tuples(st.just("edit"), st.sampled_from(PATHS), st.just(11), st.integers(100, 199))
plain = st.tuples(st.sampled_from(["remove", "link"]), st.sampled_from(PATHS[2:3]), st.just(0), st.integers(0, 9))
packages = st.tuples(st.just("install"), st.sampled_from(["app", "app=1-1", "tool", "lib"]), st.just(0), st.just(0))
holds = st.tuples(st.just("hold"), st.sampled_from(["app", "lib", "tool"]), st.just(0), st.just(0))
Action = tuple[str, str, int, int]
actions = st.lists(st.one_of(writes, edits, plain, packages, holds), max_size=8)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fresh() -> MemoryMachine:
    machine = bare_host()
    machine.dpkg.archive += DEBS
    for path in PATHS:
        machine.files.lay(path, "".join(LINES))
    assert machine.run(["apt-get", "install", "--yes", "app=1-1"]).ok
    return machine


def perform(machine: MemoryMachine, action: Action) -> None:
    kind, what, number, value = action
    if kind == "edit":
        edit(machine, what, value)
    elif kind == "write":
        apply(machine, lambda host: host.write_file(what, changed(machine, what, number, value)))
    elif kind == "remove":
        apply(machine, lambda host: host.remove_file(what))
    elif kind == "link":
        apply(machine, lambda host: host.make_link(what, f"/srv/{value}"))
    elif kind == "install":
        apply(machine, lambda host: install(host, what))
    else:
        apply(machine, lambda host: host.hold_packages("apt", (what,)))


def install(host: Writer, word: str) -> None:
    host.install_packages("apt", (Spec(word.partition("=")[0], word.partition("=")[2]),))


def changed(machine: MemoryMachine, path: str, number: int, value: int) -> bytes:
    """The file as it is now, one of its lines ours."""
    lines = (machine.files.text(path) or "".join(LINES)).splitlines(keepends=True)
    lines[number] = f"ours {value}\n"
    return "".join(lines).encode()


def edit(machine: MemoryMachine, path: str, value: int) -> None:
    """Somebody adds a line at the end of a file that is there."""
    stat = machine.lstat(path)
    if stat and stat.kind == "file":
        machine.files.lay(path, machine.files.text(path) + f"theirs {value}\n")


def edited_only(done: list[Action]) -> MemoryMachine:
    """The host as it would be had gpunode never been there, so far as files that gpunode moved aside could be edited."""
    machine = fresh()
    aside = False
    for kind, what, _number, value in done:
        aside = aside or kind in ("remove", "link")
        if kind == "edit" and not (aside and what in PATHS[2:3]):
            edit(machine, what, value)
    return machine


def without_late_writes(done: list[Action]) -> list[Action]:
    """A file that was moved aside and written anew is a new file, of which any edit is part of ours: leave those out."""
    kept: list[Action] = []
    aside = False
    for action in done:
        aside = aside or action[0] in ("remove", "link")
        if not (aside and action[0] in ("write", "edit", "remove", "link") and action[1] in PATHS[2:3]) or (
            action[0] in ("remove", "link") and not any(each[0] in ("remove", "link") for each in kept)
        ):
            kept.append(action)
    return kept


@given(actions.map(without_late_writes))
@quick
def test_a_rollback_leaves_the_host_as_if_gpunode_had_never_been_there(done: list[Action]) -> None:
    machine = fresh()
    for action in done:
        perform(machine, action)
    roll_back(machine)
    assert not changes(snapshot(edited_only(done)), snapshot(machine))
    roll_back(machine)
    assert not changes(snapshot(edited_only(done)), snapshot(machine))


@given(actions.map(without_late_writes), st.integers(1, 120), st.sampled_from(["before", "torn", "after"]))
@quick
def test_a_rollback_that_is_killed_is_finished_by_the_next(done: list[Action], number: int, moment: str) -> None:
    machine = fresh()
    for action in done:
        perform(machine, action)
    machine.effects.crash_at(number, moment)  # type: ignore[arg-type] # sampled from its values
    try:
        roll_back(machine)
    except Crash:
        machine.effects.restart()
        roll_back(machine)
    assert not changes(snapshot(edited_only(done)), snapshot(machine))


@given(actions.map(without_late_writes), st.integers(1, 120), st.sampled_from(["before", "torn", "after"]))
@quick
def test_an_action_that_is_killed_is_taken_back(done: list[Action], number: int, moment: str) -> None:
    """The process dies somewhere on the way; nothing is done after that."""
    machine = fresh()
    machine.effects.crash_at(number, moment)  # type: ignore[arg-type] # sampled from its values
    reached: list[Action] = []
    try:
        for action in done:
            reached.append(action)
            perform(machine, action)
    except Crash:
        pass
    machine.effects.restart()
    roll_back(machine)
    assert not changes(snapshot(edited_only(reached)), snapshot(machine))
