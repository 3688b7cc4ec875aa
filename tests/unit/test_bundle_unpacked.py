"""A bundle unpacked through the Writer, and taken back: nothing of it is left."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from test_bundle import FILES, HERE, lay, manifest_of

from gpunode.catalog import load as load_catalog
from gpunode.engine.bundle import Request, context_of
from gpunode.errors import HostError, UnknownPackageError
from gpunode.formats.bundle_archive import Head
from gpunode.host import bundle
from gpunode.host.packages.base import Spec
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.profile.model import HostProfile
from gpunode.resources.bundle import LocalRepository
from gpunode.resources.files import Absent
from gpunode.resources.packages import Packages
from gpunode.steps import container_toolkit
from memory.command import Answer
from memory.door import apply, open_door, roll_back, standing
from memory.hosts import gpu_host
from memory.machine import MemoryMachine

PATH = "/srv/gpu.bundle"
MANIFEST = manifest_of(FILES)
DIGEST = hashlib.sha256(MANIFEST.encoded()).hexdigest()
FOLDER = f"{bundle.FOLDER}/{DIGEST[:16]}"


IN_IT = bundle.Bundle(PATH, Head(MANIFEST.encoded()), MANIFEST)


def host_with(content: bytes) -> MemoryMachine:
    machine = gpu_host()
    machine.files.lay(PATH, content)
    machine.programs["apt-get"] = lambda _machine, _call: Answer()  # that it reads the index is nothing to these tests
    return machine


def unpack(writer: Writer) -> None:
    writer.unpack_bundle(PATH, FOLDER, manifest=DIGEST, sha256="")


def test_every_file_is_unpacked_and_a_rollback_leaves_none(tmp_path: Path) -> None:
    machine = host_with(Path(lay(tmp_path)).read_bytes())
    apply(machine, unpack)
    assert {name: machine.files.read(f"{FOLDER}/{name}") for name in FILES} == FILES
    assert bundle.unpacked(Reader(machine), IN_IT)
    assert [each.left for each in roll_back(machine)] == [()] * 2
    assert not machine.files.exists(bundle.FOLDER)


def test_what_changed_after_it_was_verified_is_not_left_in_half(tmp_path: Path) -> None:
    name = "apt/Packages"
    machine = host_with(Path(lay(tmp_path, {**FILES, name: b"Package: b\n"})).read_bytes())
    with pytest.raises(HostError, match=f"{PATH}: {name}: its sha256 is"):
        apply(machine, unpack)
    assert not bundle.unpacked(Reader(machine), IN_IT)
    roll_back(machine)
    assert not machine.files.exists(bundle.FOLDER)


def test_each_unpacking_takes_back_only_what_it_made(tmp_path: Path) -> None:
    """A damaged folder is unpacked again; the first unpacking still stands when the second is taken back."""
    machine = host_with(Path(lay(tmp_path)).read_bytes())
    apply(machine, unpack)
    machine.files.lay(f"{FOLDER}/apt/Packages", "damaged")
    machine.files.remove(f"{FOLDER}/device-plugin.yaml")
    apply(machine, unpack)
    assert bundle.unpacked(Reader(machine), IN_IT)
    writer = open_door(machine, "rollback")
    assert writer.take_back(standing(writer.journal)[0], force=False).left == ()
    writer.journal.end("undone")
    left = {name for name in FILES if machine.files.exists(f"{FOLDER}/{name}")}
    assert left == FILES.keys() - {"device-plugin.yaml"}
    assert machine.files.read(f"{FOLDER}/apt/Packages") == FILES["apt/Packages"]
    assert all(each.left == () for each in roll_back(machine))
    assert not machine.files.exists(bundle.FOLDER)


# --- the resource ---------------------------------------------------------------------------------------------------


def source(sha256: str) -> LocalRepository:
    return LocalRepository(PATH, (), sha256, HERE, "the host needs no network")


def converge(machine: MemoryMachine, wanted: LocalRepository) -> None:
    """As an apply does: looked at, foreseen, made so."""
    reader = Reader(machine)
    state = wanted.observe(reader)
    wanted.foresee(reader, state)
    apply(machine, lambda writer: wanted.converge(writer, state))


def fields(machine: MemoryMachine, wanted: LocalRepository) -> set[str]:
    return {each.field for each in wanted.differences(wanted.observe(Reader(machine)))}


def test_a_host_that_needs_no_bundle_any_more_is_rid_of_its_source(tmp_path: Path) -> None:
    """Until a rollback."""
    content = Path(lay(tmp_path)).read_bytes()
    machine = host_with(content)
    converge(machine, source(hashlib.sha256(content).hexdigest()))
    text = machine.files.read(bundle.SOURCE)
    online = container_toolkit.STEP.resources(context_of(load_catalog(), Request(HostProfile(), HERE, "")))
    (aside,) = (each for each in online if isinstance(each, Absent) and each.observe(Reader(machine)).texts)
    door = open_door(machine)
    aside.converge(door, aside.observe(door))
    assert not machine.files.exists(bundle.SOURCE)
    assert aside.differences(aside.observe(door)) == []
    removal = standing(door.journal)[0]
    door.take_back(removal, force=False)
    assert machine.files.read(bundle.SOURCE) == text


def test_what_was_verified_by_another_sum_is_verified_again(tmp_path: Path) -> None:
    content = Path(lay(tmp_path)).read_bytes()
    machine, pinned = host_with(content), source(hashlib.sha256(content).hexdigest())
    converge(machine, pinned)
    assert "files" not in fields(machine, pinned)
    other = source("0" * 64)
    assert "files" in fields(machine, other)
    with pytest.raises(HostError, match=r"its sha256 is .*, and the profile wants 0000"):
        converge(machine, other)


def test_what_was_unpacked_without_a_sum_is_verified_by_the_one_that_is_pinned_later(tmp_path: Path) -> None:
    content = Path(lay(tmp_path)).read_bytes()
    machine, pinned = host_with(content), source(hashlib.sha256(content).hexdigest())
    apply(machine, unpack)
    assert "files" in fields(machine, pinned)
    converge(machine, pinned)
    assert "files" not in fields(machine, pinned)
    roll_back(machine)
    assert not machine.files.exists(bundle.FOLDER)


def test_a_damaged_folder_without_the_bundle_says_what_to_bring_back(tmp_path: Path) -> None:
    content = Path(lay(tmp_path)).read_bytes()
    machine, pinned = host_with(content), source(hashlib.sha256(content).hexdigest())
    converge(machine, pinned)
    machine.files.remove(PATH)
    assert "files" not in fields(machine, pinned)
    machine.files.remove(f"{FOLDER}/apt/Packages")
    with pytest.raises(HostError, match=f"{PATH} is not there, and what is unpacked in {FOLDER} is damaged") as refused:
        converge(machine, pinned)
    assert refused.value.hint == f"bring the bundle back to {PATH}"


def test_packages_that_the_bundle_does_not_have_are_named_before_anything_is_written(tmp_path: Path) -> None:
    """The bundle has the package `a` at version 1."""
    host = Reader(host_with(Path(lay(tmp_path)).read_bytes()))

    def foresee(*specs: Spec) -> None:
        wanted = Packages("tools", "apt", specs, "they are wanted", bundle=PATH)
        wanted.foresee(host, wanted.observe(host))

    foresee(Spec("a"), Spec("a", "1"))
    with pytest.raises(UnknownPackageError, match=f"{PATH}: the bundle does not have a 2, headers-6.12"):
        foresee(Spec("a", "2"), Spec("headers-6.12"))
