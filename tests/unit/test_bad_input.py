"""Bad input gets one clear line, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import plan
from gpunode.engine.situation import Situation
from gpunode.errors import ConflictError, GpunodeError, HostError, RefusedError, UsageError
from gpunode.profile import load
from gpunode.steps import select
from memory import MemoryMachine, gpu_host
from memory.command import Answer
from memory.keys import armored, good_until, public_key
from memory.machine import Identity
from memory.snapshot import changes, snapshot

CUDA = "https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/"
CONFIG = "/etc/containerd/config.toml"


def refused(machine: MemoryMachine, profile: str = "", kind: type[GpunodeError] = GpunodeError) -> GpunodeError:
    """What apply says, on a host that it leaves as it was."""
    before = snapshot(machine)
    wanted = load(profile.encode(), "profile.toml").profile
    situation = Situation(machine, wanted, select(skip=("verify",)), "0", note="test")
    with pytest.raises(kind) as caught:
        apply(situation, lambda _plan: True)
    assert not changes(before, snapshot(machine))
    assert "\n" not in caught.value.message
    return caught.value


def spoilt(change: Callable[[MemoryMachine], object]) -> MemoryMachine:
    machine = gpu_host()
    change(machine)
    return machine


def test_no_gpu() -> None:
    error = refused(gpu_host(gpus=()), kind=RefusedError)
    assert "no NVIDIA GPU on PCI" in error.message


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = gpu_host()
    monkeypatch.setattr(machine, "effective_uid", lambda: 1000)
    assert refused(machine, kind=UsageError).hint == "run it with sudo"


def test_an_unknown_distribution() -> None:
    machine = gpu_host()
    machine.identity = Identity({"id": "slackware", "version_id": "15", "pretty_name": "Slackware 15"})
    assert "Slackware 15 is not a distribution that gpunode knows" in refused(machine, kind=RefusedError).message


def test_a_derivative_is_taken_for_its_parent() -> None:
    machine = gpu_host()
    machine.identity = Identity(
        {"id": "devuan-like", "id_like": "debian", "version_id": "13", "pretty_name": "A derivative"}
    )
    situation = Situation(machine, load(b"", "p").profile, select(skip=("verify",)), "0")
    assert plan(situation).result == "pending"


def test_a_host_with_a_dnf_5_that_is_too_old_is_refused_beforehand_and_once() -> None:
    machine = gpu_host()
    machine.identity = Identity({"id": "fedora", "version_id": "42", "pretty_name": "Fedora Linux 42"})
    for name in ("rpm", "dnf5"):
        machine.files.lay(f"/usr/bin/{name}", "", mode=0o755)
    machine.files.link("/usr/bin/dnf", "dnf5")
    machine.programs["rpm"] = lambda _machine, _call: Answer("5.2.12.0")
    found = refused(machine, kind=RefusedError)
    assert " ".join((found.message, *found.details)).count("gpunode needs 5.2.14 or newer") == 1


def test_a_clock_that_stands_in_2020() -> None:
    assert (
        "this host's clock stands before"
        in refused(spoilt(lambda machine: machine.set_clock(1_580_000_000)), kind=RefusedError).message
    )


def test_a_disk_that_is_nearly_full() -> None:
    machine = gpu_host()
    machine.free = 100 << 20
    assert refused(machine, kind=RefusedError).message.startswith("100 MiB are free on /")


def test_every_reason_at_once() -> None:
    error = refused(
        gpu_host(),
        '[driver]\nbranch = "470"\nmodules = "open"\n[cuda]\nversion = "13.0"\n[container_toolkit]\nversion = "1.16.0"\n',
    )
    assert len(error.details) == 2
    assert "CUDA 13.0 needs driver 580.65.06 or newer" in error.details[0]
    assert "CVE-2025-23266" in error.details[1]


def test_no_network() -> None:
    error = refused(spoilt(lambda machine: machine.web.clear()), kind=HostError)
    assert "Name or service not known" in error.message


def test_a_key_of_another_fingerprint() -> None:
    machine = gpu_host()
    machine.web[f"{CUDA}8793F200.pub"] = armored(public_key("somebody else"))
    error = refused(machine, kind=HostError)
    assert "it was not trusted" in error.message
    assert "repositories" in error.hint


def test_a_key_that_has_expired() -> None:
    machine = gpu_host()
    url, end = f"{CUDA}8793F200.pub", int(machine.now()) - 86_400
    machine.web[url] = armored(good_until(public_key("cuda"), end))
    error = refused(machine, kind=HostError)
    assert error.message.startswith(f"the key at {url} is expired since 20")
    assert "newer one" in error.hint


def test_a_key_cut_off_in_its_signature() -> None:
    machine = gpu_host()
    url = f"{CUDA}8793F200.pub"
    machine.web[url] = public_key("cuda") + b"\x88\x01\x04"
    assert "no usable key (a signature in it is cut off)" in refused(machine, kind=HostError).message


@pytest.mark.parametrize("name", ["8793F200.pub", "InRelease"])
def test_a_repository_that_answers_html(name: str) -> None:
    machine = gpu_host()
    machine.web[f"{CUDA}{name}"] = b"<html><body>Please log in</body></html>"
    assert "answered an HTML page" in refused(machine, kind=HostError).message


def test_a_config_that_is_no_utf8() -> None:
    machine = gpu_host()
    machine.files.lay(CONFIG, b"version = 2\n# caf\xe9\n")
    error = refused(machine, kind=HostError)
    assert error.message == f"{CONFIG} line 2: not UTF-8 (byte 0xe9)"


def test_a_config_that_is_no_toml_names_line_and_column() -> None:
    machine = gpu_host()
    machine.files.lay(CONFIG, "version = 2\n[plugins\n")
    assert f"{CONFIG}: line 2" in refused(machine, kind=HostError).message


def test_a_directory_in_the_configs_place() -> None:
    machine = gpu_host()
    machine.files.erase(CONFIG)
    machine.files.make_folders(CONFIG)
    assert refused(machine, kind=HostError).message == f"{CONFIG} is a directory, not a file"


def test_a_symlinked_config_is_edited_at_its_target_and_stays_a_link() -> None:
    machine = gpu_host()
    text = machine.files.text(CONFIG)
    machine.files.make_folders("/etc/site")
    machine.files.lay("/etc/site/containerd.toml", text)
    machine.files.erase(CONFIG)
    machine.files.link(CONFIG, "/etc/site/containerd.toml")
    situation = Situation(machine, load(b"", "p").profile, select(skip=("verify",)), "0")
    report = apply(situation, lambda _plan: True)
    assert report.result == "changed", report.error
    node = machine.files.node(CONFIG)
    assert node and node.kind == "link"
    assert "nvidia-container-runtime" in machine.files.text("/etc/site/containerd.toml")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (b"\xff\xfe", "save it as UTF-8"),
        (b"[driver\n", "line 1"),
        (b'[driver]\nbrnach = "580"\n', 'did you mean "branch"?'),
        (b'[driver]\nbranch = "580; rm -rf /"\n', "driver.branch"),
        (b'[cuda]\nversion = "thirteen"\n', "cuda.version"),
    ],
)
def test_an_absurd_profile(profile: bytes, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(profile, "profile.toml")
    assert words in f"{caught.value.message} {' '.join(caught.value.details)}"


def test_a_lock_that_another_run_holds() -> None:
    machine = gpu_host()
    with (
        machine.lock("/var/lib/gpunode/lock", "pid 4711 (gpunode apply)")
        if machine.files.exists("/var/lib/gpunode")
        else _held(machine)
    ):
        error = refused(machine)
    assert "pid 4711 (gpunode apply)" in error.message
    assert error.exit_code == 6


def _held(machine: MemoryMachine):  # type: ignore[no-untyped-def]  # a context of the machine's own kind
    from gpunode.host.state import LOCK, prepare

    prepare(machine)
    return machine.lock(LOCK, "pid 4711 (gpunode apply)")


def test_an_edit_that_rollback_cannot_tell_from_ours_stops_it() -> None:
    from gpunode.engine.rollback import rollback

    machine = gpu_host()
    situation = Situation(machine, load(b'[cuda]\nversion = "13.0"\n', "p").profile, select(skip=("verify",)), "0")
    assert apply(situation, lambda _plan: True).result == "changed"
    path = "/etc/profile.d/cuda.sh"
    machine.files.lay(path, machine.files.text(path).replace("export PATH", "export MYPATH"))
    before = snapshot(machine)
    with pytest.raises(ConflictError) as caught:
        rollback(situation)
    assert path in caught.value.message
    assert any("MYPATH" in line for line in caught.value.details)
    assert not changes(before, snapshot(machine))
    assert rollback(situation, force=True).result == "undone"
    assert not machine.files.exists(path)
