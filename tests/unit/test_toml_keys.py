"""TomlKeys: the keys are set, everything else in the file is left alone, and a rollback takes out the keys only."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunode.errors import HostError
from gpunode.formats.toml_data import parse
from gpunode.host.reader import Reader
from gpunode.resources.keys import TomlKeys
from memory import MemoryMachine, bare_host
from memory.door import apply, roll_back

FILE = "/etc/nvidia-container-runtime/config.toml"
MODE = ("nvidia-container-runtime", "mode")
KEYS = TomlKeys(FILE, ((MODE, "cdi"),), "the profile says so")
GIVEN = """\
# ours
disable-require = false

[nvidia-container-runtime]
  log-level = "info" # quiet
  mode = "auto"   # as the release sees fit
runtimes = ["runc", "crun"]

[nvidia-ctk]
path = "nvidia-ctk"
"""


def host(text: str | None = GIVEN) -> MemoryMachine:
    machine = bare_host()
    if text is not None:
        machine.files.lay(FILE, text)
    return machine


def converge(machine: MemoryMachine, keys: TomlKeys = KEYS) -> None:
    apply(machine, lambda writer: keys.converge(writer, keys.observe(writer)))


def differences(machine: MemoryMachine, keys: TomlKeys = KEYS) -> list[tuple[str, str, str]]:
    return [(each.field, each.found, each.wanted) for each in keys.differences(keys.observe(Reader(machine)))]


def test_only_the_keys_bytes_change() -> None:
    machine = host()
    assert differences(machine) == [("nvidia-container-runtime.mode", "auto", "cdi")]

    converge(machine)

    assert machine.files.text(FILE) == GIVEN.replace('"auto"', '"cdi"')
    assert differences(machine) == []


def test_the_difference_shows_the_line() -> None:
    [difference] = KEYS.differences(KEYS.observe(Reader(host())))
    assert '-  mode = "auto"   # as the release sees fit\n+  mode = "cdi"   # as the release' in difference.diff
    assert difference.why == "the profile says so"


def test_of_several_keys_each_is_told_and_the_difference_shown_once() -> None:
    keys = TomlKeys(FILE, ((MODE, "cdi"), (("disable-require",), True), (("features", "x"), 1)), "why")
    state = keys.observe(Reader(host()))
    assert [(each.field, each.found, each.wanted, bool(each.diff)) for each in keys.differences(state)] == [
        ("nvidia-container-runtime.mode", "auto", "cdi", True),
        ("disable-require", "false", "true", False),
        ("features.x", "absent", "1", False),
    ]


def test_a_file_that_is_not_there_is_made_of_the_keys_and_goes_away_again() -> None:
    machine = host(None)
    assert differences(machine) == [("nvidia-container-runtime.mode", "absent", "cdi")]

    converge(machine)
    assert machine.files.text(FILE) == '[nvidia-container-runtime]\nmode = "cdi"\n'

    roll_back(machine)
    assert not machine.files.exists(FILE.rpartition("/")[0])


def test_rollback_takes_the_key_back_and_leaves_what_was_edited_since() -> None:
    machine = host()
    converge(machine)
    since = machine.files.text(FILE).replace('"info"', '"debug"') + "# theirs\n"
    machine.files.lay(FILE, since)

    roll_back(machine)

    assert machine.files.text(FILE) == GIVEN.replace('"info"', '"debug"') + "# theirs\n"


def test_rollback_survives_a_tool_that_has_written_the_file_anew() -> None:
    """`nvidia-ctk config --in-place`, which an upgrade of the toolkit runs, orders the keys and drops comments."""
    machine = host()
    converge(machine)
    anew = (
        'disable-require = false\n\n[nvidia-container-runtime]\nlog-level = "info"\nmode = "cdi"\nruntimes = ["runc"]\n'
    )
    machine.files.lay(FILE, anew)

    roll_back(machine)

    assert machine.files.text(FILE) == anew.replace('"cdi"', '"auto"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\n[nvidia-container-runtime\n", f"{FILE}: line 2, column 26: "),
        ("nvidia-container-runtime = 1\n", f"{FILE}: nvidia-container-runtime.mode: cannot be set"),
        ("[nvidia-container-runtime.mode]\n", f"{FILE}: nvidia-container-runtime.mode: cannot be set"),
    ],
)
def test_a_file_that_cannot_be_edited_is_named_with_the_place(text: str, words: str) -> None:
    with pytest.raises(HostError) as caught:
        KEYS.observe(Reader(host(text)))
    assert caught.value.message.startswith(words)
    assert caught.value.hint


def test_invalid_utf8_is_named_with_its_line() -> None:
    machine = host()
    machine.files.lay(FILE, b"a = 1\nb = '\xff'\n")
    with pytest.raises(HostError, match=f"{FILE} line 2: not UTF-8"):
        KEYS.observe(Reader(machine))


LINES = st.lists(
    st.one_of(
        st.text(string.ascii_letters + " é#=[", max_size=8).map("# {}".format),
        st.sampled_from(["", "\t", "[other]", "[nvidia-container-runtime]", "[[lists]]", '[ "quoted one" ]']),
        st.sampled_from(
            ['mode = "auto"', "mode='legacy' # why", "'mode' = 'cdi'", "a.b = 1", "list = [\n 1, # one\n]"]
        ),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "\ufeff"]))
@settings(max_examples=200)
def test_apply_sets_the_key_and_rollback_is_the_identity(lines: list[str], end: str, final: bool, mark: str) -> None:
    text = mark + end.join("\n".join(lines).split("\n")) + (end if final else "")
    machine = host(text)
    try:
        state = KEYS.observe(Reader(machine))
    except HostError:
        return  # no TOML, or a key that cannot be set: nothing is changed
    converge(machine)

    after = machine.files.text(FILE)
    assert parse(after)["nvidia-container-runtime"]["mode"] == "cdi"
    assert after == state.edited
    assert differences(machine) == []
    roll_back(machine)
    assert machine.files.text(FILE) == text
