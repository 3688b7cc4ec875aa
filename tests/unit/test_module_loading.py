"""A kernel that refuses a module: modprobe's words in one line, and what to do."""

from __future__ import annotations

import pytest

from gpunode.errors import CommandError
from gpunode.host import modules
from memory import MemoryMachine, bare_host
from memory.command import Answer, Call


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Key was rejected by service", "enrol the key"),
        ("Required key not available", "enrol the key"),
        ("Operation not permitted", "takes no modules"),
        ("No such device", "found no GPU"),
        ("Cannot allocate memory", "see `dmesg | tail`"),
    ],
)
def test_what_the_kernel_says_of_a_module_comes_with_what_to_do(said: str, hint: str) -> None:
    machine = bare_host()

    def refusing(_machine: MemoryMachine, _call: Call) -> Answer:
        return Answer(stderr=f"modprobe: ERROR: could not insert 'nvidia': {said}\n", status=1)

    machine.programs["modprobe"] = refusing
    with pytest.raises(CommandError) as caught:
        modules.load(machine, "nvidia")
    assert caught.value.message.endswith(
        f"cannot load the kernel module nvidia: modprobe: ERROR: could not insert 'nvidia': {said}"
    )
    assert hint in caught.value.hint
