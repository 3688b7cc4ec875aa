"""File verbs: others' edits kept, conflicts told and settled by force, the store that backs them."""

from __future__ import annotations

import pytest

from gpunode.errors import HostError
from gpunode.host.journal import Journal
from gpunode.host.state import STORE, Store, prepare
from gpunode.host.verbs.base import FileView
from gpunode.host.writer import Writer
from memory import Crash, MemoryMachine, bare_host
from memory.door import apply, conflicts, open_door, roll_back
from memory.files import Node

PATH = "/etc/modprobe.d/gpu.conf"
BEFORE = "one\ntwo\nthree\nfour\nfive\nsix\n"
AFTER = "one\ntwo\nTHREE\nfour\nfive\nsix\n"


def host_with(before: str | None, after: str, *, path: str = PATH, style: str = "") -> MemoryMachine:
    """A host on which gpunode has written the file."""
    machine = bare_host()
    if before is not None:
        machine.files.lay(path, before)
    apply(machine, lambda host: host.write_file(path, after.encode(), style=style))
    return machine


def test_a_foreign_line_is_kept() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.lay(PATH, AFTER + "theirs\n")
    assert not conflicts(machine)
    roll_back(machine)
    assert machine.files.text(PATH) == BEFORE + "theirs\n"


def test_foreign_mode_and_owner_are_kept() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.put(PATH, Node("file", AFTER.encode(), 0o600, 7, 8))
    roll_back(machine)
    assert machine.files.text(PATH) == BEFORE
    stat = machine.lstat(PATH)
    assert stat
    assert (stat.mode, stat.uid, stat.gid) == (0o600, 7, 8)


def test_a_foreign_line_in_a_file_of_ours_is_not_lost_unasked() -> None:
    machine = host_with(None, AFTER)
    machine.files.lay(PATH, AFTER + "theirs\n")
    assert "-theirs\n" in conflicts(machine)[0].diff
    roll_back(machine, force=True)
    assert not machine.files.exists(PATH)
    assert Store(machine).get(Store(machine).put(f"{AFTER}theirs\n".encode()))


@pytest.mark.parametrize("after", [AFTER, "one\nfour\nfive\nsix\nseven\n", "zero\n" + BEFORE])
def test_a_second_undo_changes_nothing(after: str) -> None:
    machine = host_with(BEFORE, after)
    machine.files.lay(PATH, after.replace("five\n", "five\ntheirs\n"))
    writer = open_door(machine, "rollback")
    entry = writer.journal.runs[0].entries[0]
    writer.take_back(entry)
    once = machine.files.text(PATH)
    assert once == BEFORE.replace("five\n", "five\ntheirs\n")
    writer.take_back(entry)
    assert machine.files.text(PATH) == once


def test_a_foreign_key_in_toml_is_kept() -> None:
    machine = host_with('a = "1"\n', 'a = "2"\nb = true\n', path="/etc/x.toml", style="toml")
    machine.files.lay("/etc/x.toml", 'a = "2"\nb = true\ntheirs = 3\n')
    roll_back(machine)
    assert machine.files.text("/etc/x.toml") == 'a = "1"\ntheirs = 3\n'


def test_a_file_that_somebody_removed_stays_away() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.erase(PATH)
    roll_back(machine)
    assert not machine.files.exists(PATH)


def test_a_conflict_is_told_with_what_would_be_lost() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.lay(PATH, AFTER.replace("THREE", "drei"))
    found = conflicts(machine)
    assert [conflict.path for conflict in found] == [PATH]
    assert "-drei\n" in found[0].diff
    assert "+three\n" in found[0].diff
    assert "drei" in machine.files.text(PATH), "judging changes nothing"


def test_force_restores_and_keeps_what_was_there() -> None:
    machine = host_with(BEFORE, AFTER)
    theirs = AFTER.replace("THREE", "drei")
    machine.files.lay(PATH, theirs)
    taken = roll_back(machine, force=True)
    assert machine.files.text(PATH) == BEFORE
    digest = Store(machine).put(theirs.encode())
    assert f"{digest[:12]} in the store" in taken[0].note
    assert theirs.encode() == Store(machine).get(digest)


def test_a_file_made_anew_where_ours_was_moved_aside_is_a_conflict() -> None:
    machine = bare_host()
    machine.files.lay(PATH, BEFORE)
    apply(machine, lambda host: host.remove_file(PATH))
    machine.files.lay(PATH, "new\n")
    assert "moved this file aside" in conflicts(machine)[0].why
    roll_back(machine, force=True)
    assert machine.files.text(PATH) == BEFORE


def test_a_link_in_place_of_our_file_is_a_conflict() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.erase(PATH)
    machine.files.link(PATH, "/dev/null")
    assert "replaced it" in conflicts(machine)[0].why


def test_two_changes_of_one_file_are_judged_in_turn() -> None:
    machine = host_with(BEFORE, AFTER)
    apply(machine, lambda host: host.write_file(PATH, AFTER.replace("six", "SIX").encode()))
    machine.files.lay(PATH, machine.files.text(PATH).replace("one", "theirs"))
    assert not conflicts(machine)
    roll_back(machine)
    assert machine.files.text(PATH) == BEFORE.replace("one", "theirs")


def test_an_edit_through_a_link_keeps_the_link() -> None:
    machine = bare_host()
    machine.files.lay("/srv/gpu.conf", BEFORE)
    machine.files.link(PATH, "/srv/gpu.conf")
    apply(machine, lambda host: host.write_file(PATH, AFTER.encode()))
    assert machine.files.text("/srv/gpu.conf") == AFTER
    stat = machine.lstat(PATH)
    assert stat
    assert stat.target == "/srv/gpu.conf"


def test_a_device_or_folder_behind_the_path_is_refused() -> None:
    machine = bare_host()
    machine.files.put("/dev/null", Node("other", mode=0o666))
    machine.files.link(PATH, "/dev/null")
    writer = open_door(machine)
    with pytest.raises(HostError, match="/dev/null is no file but a other"):
        writer.write_file(PATH, b"x")
    with pytest.raises(HostError, match="/etc is no file but a directory"):
        writer.write_file("/etc", b"x")
    stat = machine.lstat("/dev/null")
    assert stat
    assert stat.kind == "other"


def test_a_folder_that_others_use_is_left_and_named() -> None:
    machine = bare_host()
    apply(machine, lambda host: host.write_file("/etc/gpu.d/a.conf", b"x"))
    machine.files.lay("/etc/gpu.d/theirs.conf", "y")
    taken = roll_back(machine)
    assert [words for each in taken for words in each.left] == ["/etc/gpu.d: not empty, others use it"]
    assert machine.files.text("/etc/gpu.d/theirs.conf") == "y"


def test_what_is_as_wanted_is_not_written() -> None:
    machine = host_with(BEFORE, AFTER)
    count = len(Journal(machine).runs[0].entries)
    writer = open_door(machine)
    assert writer.write_file(PATH, AFTER.encode()) is None
    assert count == 1
    assert not writer.journal.runs[-1].entries


def test_a_failed_write_is_recorded_as_failed_and_taken_back() -> None:
    machine = bare_host()
    machine.files.lay("/etc/file", "x")
    writer = open_door(machine)
    with pytest.raises(HostError, match="cannot"):
        writer.write_file("/etc/file/below", b"y")
    assert writer.journal.runs[-1].entries[-1].state == "failed"
    assert roll_back(machine)
    assert machine.files.text("/etc/file") == "x"


def test_a_crash_leaves_no_prepared_file_behind() -> None:
    machine = bare_host()
    prepare(machine)
    machine.effects.crash_at(5, "after")  # run, store, intent, prepare …
    with pytest.raises(Crash):
        apply(machine, lambda host: host.write_file(PATH, b"x"))
    left = [name for name in machine.files.names("/etc/modprobe.d") if name.endswith(".gpunode")]
    assert left, "the crash came where a file is being written"
    writer = open_door(machine, "rollback")
    writer.take_back(writer.journal.runs[0].entries[0])
    assert not machine.files.names("/etc/modprobe.d")


def test_the_store_tells_damage_and_loss() -> None:
    machine = bare_host()
    prepare(machine)
    store = Store(machine)
    digest = store.put(b"content")
    assert store.get(digest) == b"content"
    machine.files.lay(f"{STORE}/{digest}", "contenu")
    with pytest.raises(HostError, match="is damaged: its content is not what its name says"):
        store.get(digest)
    machine.files.erase(f"{STORE}/{digest}")
    with pytest.raises(HostError, match="cannot be read"):
        store.get(digest)


def test_damage_in_the_store_stops_a_rollback_before_the_file_is_touched() -> None:
    machine = host_with(BEFORE, AFTER)
    machine.files.lay(f"{STORE}/{Store(machine).put(BEFORE.encode())}", "")
    with pytest.raises(HostError, match="damaged"):
        roll_back(machine)
    assert machine.files.text(PATH) == AFTER


def test_the_state_is_roots_alone() -> None:
    machine = host_with(BEFORE, AFTER)
    for path, node in machine.files.nodes.items():
        if path.startswith("/var/lib/gpunode"):
            assert node.mode == (0o700 if node.kind == "directory" else 0o600), path


def test_judging_a_rollback_changes_no_file() -> None:
    machine = host_with(BEFORE, AFTER)
    writer: Writer = open_door(machine, "rollback")
    view = FileView()
    from gpunode.host.verbs.files import WriteFile

    entry = writer.journal.runs[0].entries[0]
    assert WriteFile.conflict(writer.hands, entry.intent, view) is None
    assert view.images[PATH] == entry.intent["before"]
    assert machine.files.text(PATH) == AFTER
