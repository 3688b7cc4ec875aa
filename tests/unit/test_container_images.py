"""Images loaded into containerd, and all of them taken out again, the CRI plugin's own names of them too."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from memory.command import Answer, Call
from memory.door import apply, roll_back
from memory.hosts import gpu_host
from memory.machine import MemoryMachine

CTR = ("ctr", "--namespace", "k8s.io")
LOADED = {"example.com/tool:1": "sha256:aa", "example.com/tool:latest": "sha256:aa", "example.com/other:1": "sha256:bb"}
ALIASES = {"sha256:configA": "sha256:aa", "sha256:configB": "sha256:bb"}


@dataclass
class Store:
    """A containerd whose import brings LOADED, and whose CRI plugin adds ALIASES."""

    images: dict[str, str] = field(default_factory=dict)
    answers: bool = True

    def __call__(self, _machine: MemoryMachine, call: Call) -> Answer:
        verb = call.words[call.words.index("images") + 1]
        if not self.answers:
            return Answer(stderr="ctr: failed to dial\n", status=1)
        if verb == "import":
            self.images |= LOADED | ALIASES
        if verb == "rm":
            for name in call.words[call.words.index("--sync") + 1 :]:
                del self.images[name]
        rows = [f"{name} application/vnd {digest} 1.0 MiB linux/amd64 -\n" for name, digest in self.images.items()]
        return Answer("REF TYPE DIGEST SIZE PLATFORMS LABELS\n" + "".join(rows))


@pytest.fixture
def store() -> Store:
    return Store()


def host_with(store: Store) -> MemoryMachine:
    machine = gpu_host()
    machine.programs["ctr"] = store
    return machine


def load(machine: MemoryMachine) -> None:
    apply(machine, lambda writer: writer.import_images(CTR, "/srv/images.tar", tuple(LOADED)))


def test_a_rollback_takes_the_images_out_by_all_their_names(store: Store) -> None:
    machine = host_with(store)
    load(machine)
    assert store.images == LOADED | ALIASES
    assert [each.left for each in roll_back(machine)] == [()]
    assert store.images == {}


def test_an_image_that_has_another_name_too_is_kept_under_it(store: Store) -> None:
    machine = host_with(store)
    load(machine)
    store.images["example.com/mine:1"] = "sha256:aa"  # somebody tagged it since
    roll_back(machine)
    assert store.images == {"example.com/mine:1": "sha256:aa", "sha256:configA": "sha256:aa"}


def test_what_was_there_before_stays(store: Store) -> None:
    before = {"example.com/other:1": "sha256:bb", "sha256:configB": "sha256:bb", "sha256:configA": "sha256:aa"}
    store.images |= before
    machine = host_with(store)
    load(machine)
    roll_back(machine)
    assert store.images == before


def test_a_containerd_that_does_not_answer_keeps_them_and_says_so(store: Store) -> None:
    machine = host_with(store)
    load(machine)
    store.answers = False
    (taken,) = roll_back(machine)
    assert taken.left == (f"images {', '.join(LOADED)}: ctr: failed to dial",)
