"""What is decided about containerd's config beyond the whole files in tests/cases/containerd."""

from __future__ import annotations

import pytest

from gpunode.formats.containerd_config import (
    ConfigError,
    Reason,
    Request,
    effective_difference,
    patch,
    revert,
    runtime_keys,
    unintended,
)
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.toml_data import lookup, parse
from gpunode.formats.toml_edit import remove_keys, set_keys

CRI = ("plugins", "io.containerd.grpc.v1.cri")
RUNTIMES = (*CRI, "containerd", "runtimes")
V17 = Request("1.7.24")
KUBERNETES = """version = 2

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"""


@pytest.mark.parametrize(
    ("version", "writes", "replaces"),
    [
        ("1.4.13~ds1", 2, False),
        ("1.6.20", 2, True),
        ("v1.7.24", 2, True),
        ("2.0.0-rc.1", 3, False),
        ("2.2.0", 3, False),
        ("2.3.1", 4, False),
        ("3.0.0", 4, False),
    ],
)
def test_releases(version: str, writes: int, replaces: bool) -> None:
    release = knowledge().release(version)
    assert (release.writes, release.replaces_runtimes) == (writes, replaces)


@pytest.mark.parametrize(("version", "message"), [("1.2.14", "too old"), ("latest", "no containerd version")])
def test_a_containerd_that_is_not_managed(version: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        patch(None, Request(version))


def test_runtime_keys_take_over_what_runc_says() -> None:
    options = {"BinaryName": "/opt/runc", "SystemdCgroup": False, "Root": "", "ShimCgroup": "/shims"}
    assert runtime_keys(
        3, containerd_version="2.1.9", options_like_runc=options, set_default=True, enable_cdi=True
    ) == {
        ("plugins", "io.containerd.cri.v1.runtime", "containerd", "default_runtime_name"): "nvidia",
        ("plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes", "nvidia", "runtime_type"): (
            "io.containerd.runc.v2"
        ),
        ("plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes", "nvidia", "options", "BinaryName"): (
            "/usr/bin/nvidia-container-runtime"
        ),
        (
            "plugins",
            "io.containerd.cri.v1.runtime",
            "containerd",
            "runtimes",
            "nvidia",
            "options",
            "SystemdCgroup",
        ): False,
        (
            "plugins",
            "io.containerd.cri.v1.runtime",
            "containerd",
            "runtimes",
            "nvidia",
            "options",
            "ShimCgroup",
        ): "/shims",
        ("plugins", "io.containerd.cri.v1.runtime", "enable_cdi"): True,
    }


def test_a_version_that_the_release_does_not_read() -> None:
    for version in ("99", '"2"', "true"):
        with pytest.raises(ConfigError, match=r"is not read by containerd 1\.6\.20, which reads 1 and 2"):
            patch(f"version = {version}\n", Request("1.6.20"))


def test_each_change_has_a_reason_of_one_sentence() -> None:
    patched = patch('version = 2\ndisabled_plugins = ["cri"]\n', Request("1.7.24", set_default=True))
    assert patched.reasons[0] == Reason(
        ("disabled_plugins",), ["cri"], [], "the kubelet reaches containerd through the CRI plugin"
    )
    changed = {reason.path: reason.wanted for reason in patched.reasons}
    assert len(changed) == len(patched.reasons)
    assert set_keys('version = 2\ndisabled_plugins = ["cri"]\n', changed) == patched.text
    assert all(reason.why and "\n" not in reason.why and not reason.why.endswith(".") for reason in patched.reasons)


def test_runc_is_listed_where_its_absence_would_be_fatal() -> None:
    text = "version = 2\n"
    assert lookup(parse(patch(text, V17).text), (*RUNTIMES, "runc")) == {"runtime_type": "io.containerd.runc.v2"}
    assert patch(text, V17).new_runtimes == ("nvidia", "runc")
    assert patch(text, Request("1.4.13")).new_runtimes == ("nvidia",)
    empty = f'version = 2\n[plugins."{CRI[1]}".containerd.runtimes]\n'
    assert patch(empty, V17).new_runtimes == ("nvidia", "runc")


def test_cgroup_driver_that_the_operator_decides() -> None:
    patched = patch(KUBERNETES, Request("1.7.24", systemd_cgroup=False))
    data = parse(patched.text)
    assert lookup(data, (*RUNTIMES, "runc", "options", "SystemdCgroup")) is False
    assert lookup(data, (*RUNTIMES, "nvidia", "options", "SystemdCgroup")) is False


def test_engine_of_a_removed_shim_becomes_the_binary() -> None:
    text = f"""version = 2
[plugins."{CRI[1]}".containerd.runtimes.old]
runtime_type = "io.containerd.runtime.v1.linux"
runtime_engine = "/opt/runsc"
"""
    old = lookup(parse(patch(text, V17).text), (*RUNTIMES, "old"))
    assert old["runtime_type"] == "io.containerd.runc.v2"
    assert old["options"] == {"BinaryName": "/opt/runsc"}


def test_revert_keeps_runc_beside_a_runtime_listed_since() -> None:
    before = "version = 2\n"
    written = patch(before, V17).text
    now = written + f'\n[plugins."{CRI[1]}".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    reverted = revert(before, written, now)
    assert reverted is not None
    runtimes = lookup(parse(reverted), RUNTIMES)
    assert runtimes == {
        "runc": {"runtime_type": "io.containerd.runc.v2"},
        "kata": {"runtime_type": "io.containerd.kata.v2"},
    }


def test_revert_of_a_created_file() -> None:
    written = patch(None, V17).text
    assert revert(None, written, written) is None
    now = written + "\n[metrics]\naddress = '127.0.0.1:1338'\n"
    assert revert(None, written, now) == "version = 2\n\n[metrics]\naddress = '127.0.0.1:1338'\n"


def test_effective_differences_that_the_patch_accounts_for() -> None:
    """The dump of 2.x has the names of version 3 although the file has those of version 2."""
    patched = patch(KUBERNETES, Request("2.1.9"))
    renamed = [text.replace(CRI[1], "io.containerd.cri.v1.runtime") for text in (KUBERNETES, patched.text)]
    before, after = (parse(text.replace("version = 2", "version = 3")) for text in renamed)
    differences = effective_difference(before, after)
    assert len(differences) == 3
    assert unintended(differences, patched) == []


def test_an_unintended_effective_difference_is_found() -> None:
    patched = patch(KUBERNETES, V17)
    lost = remove_keys(patched.text, [(*RUNTIMES, "runc", "options", "SystemdCgroup")])
    differences = effective_difference(parse(KUBERNETES), parse(lost))
    assert unintended(differences, patched) == [((*RUNTIMES, "runc", "options", "SystemdCgroup"), True, None)]


def test_a_wanted_key_with_another_value_is_unintended() -> None:
    patched = patch(KUBERNETES, V17)
    binary = (*RUNTIMES, "nvidia", "options", "BinaryName")
    differences = effective_difference(parse(KUBERNETES), parse(set_keys(patched.text, {binary: "/other"})))
    assert unintended(differences, patched) == [(binary, None, "/other")]


def test_a_runtime_listed_for_the_first_time_may_lack_what_is_implied() -> None:
    patched = patch("version = 2\n", V17)
    runc = (*RUNTIMES, "runc")
    implied = [((*runc, "sandbox_mode"), "podsandbox", ""), ((*runc, "options", "Root"), "", None)]
    assert unintended([*implied, ((*runc, "snapshotter"), "zfs", "")], patched) == [((*runc, "snapshotter"), "zfs", "")]


def test_only_the_file_s_own_name_may_differ_among_the_imports() -> None:
    patched = patch(KUBERNETES, V17)
    assert unintended([(("imports",), ["/etc/a", "/etc/b"], ["/tmp/a", "/etc/b"])], patched) == []
    lost = (("imports",), ["/etc/a", "/etc/b"], ["/tmp/a"])
    assert unintended([lost], patched) == [lost]
