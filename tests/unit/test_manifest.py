"""Comparing snapshots: every difference once, in words."""

from gpunode.lab.manifest import Change, Section, Snapshot, report

FILE = {"type": "file", "mode": "0644", "owner": "0:0", "content": "aa"}


def compare(before: Section, after: Section, section: str = "file") -> list[Change]:
    return Snapshot.compare(Snapshot({section: before}), Snapshot({section: after}))


def test_the_same_is_no_change() -> None:
    assert compare({"/a": FILE}, {"/a": dict(FILE)}) == []
    assert report([]) == "no change"


def test_each_field_that_differs_is_named() -> None:
    changes = compare({"/a": FILE}, {"/a": {**FILE, "mode": "0600", "content": "bb"}})
    assert report(changes) == "file /a: content aa → bb, mode 0644 → 0600"


def test_a_field_that_comes_or_goes() -> None:
    assert report(compare({"/a": FILE}, {"/a": {**FILE, "xattr user.x": "31"}})) == "file /a: xattr user.x none → 31"
    assert report(compare({"/a": {**FILE, "x": "1"}}, {"/a": FILE})) == "file /a: x 1 → none"


def test_added_and_removed() -> None:
    changes = compare({"/gone": FILE}, {"/new": {"type": "folder"}})
    assert changes == [Change("file", "/gone", FILE, None), Change("file", "/new", None, {"type": "folder"})]
    assert report(changes).splitlines() == [
        "file /gone: removed (content aa, mode 0644, owner 0:0, type file)",
        "file /new: added (type folder)",
    ]


def test_sections_are_kept_apart_and_may_be_missing() -> None:
    before = Snapshot({"file": {"x": {"a": "1"}}})
    after = Snapshot({"unit": {"x": {"a": "1"}}})
    assert [(c.section, c.before is None) for c in Snapshot.compare(before, after)] == [("file", False), ("unit", True)]


def test_order_is_by_section_then_name() -> None:
    after = Snapshot({"unit": {"b": {}, "a": {}}, "file": {"z": {}}})
    assert [c.name for c in Snapshot.compare(Snapshot({}), after)] == ["z", "a", "b"]


def test_package_states_read_as_dpkg_writes_them() -> None:
    installed = {"version": "1-1", "state": "ii", "mark": "auto"}
    changes = compare({"p": installed}, {"p": {**installed, "state": "rc"}}, "package")
    assert report(changes) == "package p: state ii → rc"


def test_long_values_are_cut() -> None:
    line = report(compare({"/a": {"content": "a" * 100}}, {"/a": {"content": "b" * 100}}))
    assert line == f"file /a: content {'a' * 59}… → {'b' * 59}…"
