"""What is decided about containerd's configuration beyond the whole files in tests/cases/containerd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpunode.formats.containerd_config import (
    ConfigError,
    edit,
    effective_difference,
    revert,
    unintended,
    without_effect,
)
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited, Reason, Request
from gpunode.formats.toml_data import lookup, parse
from gpunode.formats.toml_edit import RevertConflict, remove_keys, set_keys

MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpunode.toml"
CRI = ("plugins", "io.containerd.grpc.v1.cri")
RUNTIMES = (*CRI, "containerd", "runtimes")
BINARY = (*RUNTIMES, "nvidia", "options", "BinaryName")
V17 = Request("1.7.24")
V21 = Request("2.1.9", place="main")
KUBERNETES = """version = 2

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"""
FULL = f"""version = 2
[{'plugins."io.containerd.grpc.v1.cri"'}.containerd.runtimes.runc.options]
BinaryName = "/opt/runc"
SystemdCgroup = false
Root = ""
ShimCgroup = "/shims"
"""


def only_main(text: str | None, **of_files: Any) -> ConfigFiles:
    return ConfigFiles(ConfigFile(MAIN, text), drop_in=DROP_IN, **of_files)


def edited_main(text: str | None, request: Request = V17) -> str:
    (changed,) = edit(only_main(text), request).files
    assert changed.path == MAIN
    return changed.after


# --- releases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "writes", "replaces_runtimes", "imports_replace"),
    [
        ("1.4.13~ds1", 2, False, True),
        ("1.6.20", 2, True, True),
        ("v1.7.24", 2, True, True),
        ("2.0.0-rc.1", 3, False, False),
        ("2.1.9", 3, False, False),
        ("2.2.0", 3, False, False),
        ("2.3.1", 4, False, False),
    ],
)
def test_releases(version: str, writes: int, replaces_runtimes: bool, imports_replace: bool) -> None:
    release = knowledge().release(version)
    found = (release.writes, release.replaces_runtimes, release.imports_replace)
    assert found == (writes, replaces_runtimes, imports_replace)


@pytest.mark.parametrize(
    ("version", "message"), [("1.2.14", "too old"), ("3.0.0", "is not known"), ("latest", "no containerd version")]
)
def test_a_containerd_that_is_not_managed(version: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        edit(only_main(None), Request(version))


@pytest.mark.parametrize("version", ["99", '"2"', "true"])
def test_a_version_that_the_release_does_not_read(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{MAIN}: .* is not read by containerd 1\.6\.20, which reads 1 and 2$"):
        edit(only_main(f"version = {version}\n"), Request("1.6.20"))


# --- what ----------------------------------------------------------------------------------------------------------


def test_nvidia_takes_over_what_runc_says_but_its_binary() -> None:
    options = lookup(parse(edited_main(FULL)), (*RUNTIMES, "nvidia", "options"))
    assert options == {
        "BinaryName": "/usr/bin/nvidia-container-runtime",
        "SystemdCgroup": False,
        "ShimCgroup": "/shims",
    }


def test_each_change_is_told_once_with_its_file() -> None:
    text = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    edited = edit(only_main(text), replace(V17, set_default=True))
    why = "the kubelet reaches containerd through the CRI plugin"
    first = Reason(("disabled_plugins",), ["io.containerd.grpc.v1.cri"], [], why, MAIN, "cri-disabled")
    assert edited.reasons[0] == first
    changed = {reason.path: reason.wanted for reason in edited.reasons}
    assert len(changed) == len(edited.reasons)
    assert set_keys(text, changed) == edited.files[0].after


def test_runc_is_listed_where_its_absence_would_be_fatal() -> None:
    def runc(text: str, version: str) -> object:
        return lookup(parse(edited_main(text, Request(version, place="main"))), RUNTIMES).get("runc")

    assert runc("version = 2\n", "1.7.24") == {"runtime_type": "io.containerd.runc.v2"}
    assert runc("version = 2\n", "1.4.13") is None
    assert runc("version = 2\n", "2.1.9") is None
    kata = f'version = 2\n[plugins."{CRI[1]}".containerd]\ndefault_runtime_name = "kata"\n[plugins."{CRI[1]}".containerd.runtimes.kata]\n'
    assert runc(kata, "1.7.24") is None
    assert runc(kata.replace("kata", "nvidia"), "1.7.24") == {"runtime_type": "io.containerd.runc.v2"}


@pytest.mark.parametrize("own", ["", "SystemdCgroup = true\n"])
def test_the_cgroup_driver_is_both_runtimes_where_it_is_decided(own: str) -> None:
    text = f'{KUBERNETES}\n[plugins."{CRI[1]}".containerd.runtimes.nvidia.options]\n{own}'
    data = parse(edited_main(text, replace(V17, systemd_cgroup=False)))
    assert lookup(data, (*RUNTIMES, "runc", "options", "SystemdCgroup")) is False
    assert lookup(data, (*RUNTIMES, "nvidia", "options", "SystemdCgroup")) is False


def test_the_cgroup_driver_is_the_decided_one_where_only_nvidia_has_another() -> None:
    text = f'version = 2\n[plugins."{CRI[1]}".containerd.runtimes.nvidia.options]\nSystemdCgroup = true\n'
    data = parse(edited_main(text, replace(V17, systemd_cgroup=False)))
    assert lookup(data, (*RUNTIMES, "nvidia", "options", "SystemdCgroup")) is False
    assert lookup(data, (*RUNTIMES, "runc")) == {"runtime_type": "io.containerd.runc.v2"}


def test_a_dead_section_s_word_does_not_come_over_where_the_profile_has_its_own() -> None:
    dead = f'version = 3\n[plugins."{CRI[1]}".containerd]\ndefault_runtime_name = "crun"\n{KUBERNETES.partition("version = 2")[2]}'
    edited = edit(only_main(dead), Request("2.1.9", systemd_cgroup=False, set_default=True))
    told = {(reason.file, reason.path[-1]): reason.wanted for reason in edited.reasons if reason.path[0] == "plugins"}
    assert (MAIN, "SystemdCgroup") not in told
    assert (MAIN, "default_runtime_name") not in told
    assert told[DROP_IN, "default_runtime_name"] == "nvidia"


def test_a_version_line_is_not_added_where_containerd_would_then_refuse_a_name() -> None:
    text = f'disabled_plugins = ["cri"]\n{KUBERNETES.removeprefix("version = 2")}'
    assert parse(edited_main(text))["version"] == 2
    assert "version" not in parse(edited_main(text, replace(V17, leave=frozenset({"cri-disabled"}))))


def test_a_star_among_the_imports_does_not_reach_over_a_slash() -> None:
    for pattern, imports in (("/etc/containerd/*", 2), ("/etc/containerd/conf.d/*", 1), ("/etc/*/conf.d/99*", 1)):
        text = f'version = 3\nimports = ["{pattern}"]\n'
        main = {each.path: each.after for each in edit(only_main(text), Request("2.1.9")).files}.get(MAIN, text)
        assert len(parse(main)["imports"]) == imports


def test_a_key_that_a_repair_and_the_profile_set_is_one_change() -> None:
    """Dead in version 3: runc.v1 comes over, and is a removed shim there."""
    text = f'version = 3\n[plugins."{CRI[1]}".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v1"\n'
    edited = edit(only_main(text), V21)
    (told,) = (reason for reason in edited.reasons if reason.path[-2:] == ("runc", "runtime_type"))
    assert (told.found, told.wanted, told.repair) == (None, "io.containerd.runc.v2", "config-version-mixed")


def test_engine_of_a_removed_shim_becomes_the_binary() -> None:
    text = f"""version = 2
[plugins."{CRI[1]}".containerd.runtimes.old]
runtime_type = "io.containerd.runtime.v1.linux"
runtime_engine = "/opt/runsc"
"""
    old = lookup(parse(edited_main(text)), (*RUNTIMES, "old"))
    assert old["runtime_type"] == "io.containerd.runc.v2"
    assert old["options"] == {"BinaryName": "/opt/runsc"}


def test_imports_that_are_no_list() -> None:
    with pytest.raises(ConfigError, match=f"^{MAIN}: imports is no list of files$"):
        edit(only_main("version = 3\nimports = 'conf.d/*.toml'\n"), Request("2.1.9"))


def test_no_place_for_a_drop_in() -> None:
    files = replace(only_main("version = 3\n"), drop_in="")
    with pytest.raises(ConfigError, match="there is no place for a drop-in"):
        edit(files, Request("2.1.9", place="drop-in"))
    with pytest.raises(ConfigError, match="there is no place for a drop-in"):
        edit(replace(files, generated=True), Request("2.1.9"))


def test_a_key_that_cannot_be_set_names_the_import() -> None:
    """An array of tables where the list of an import's CRI settings should be."""
    imported = ConfigFile("/etc/containerd/conf.d/zz.toml", f'[[plugins."{CRI[1]}".enable_cdi]]\nx = 1\n')
    files = only_main('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', imported=(imported,))
    with pytest.raises(ConfigError, match=r"^/etc/containerd/conf.d/zz.toml: plugins.*enable_cdi"):
        edit(files, Request("2.1.9", cdi=True))


# --- taking back ---------------------------------------------------------------------------------------------------


def test_revert_keeps_runc_beside_a_runtime_listed_since() -> None:
    before = "version = 2\n"
    written = edited_main(before)
    now = written + f'\n[plugins."{CRI[1]}".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    reverted = revert(before, written, now)
    assert reverted is not None
    runtimes = lookup(parse(reverted), RUNTIMES)
    assert runtimes == {
        "runc": {"runtime_type": "io.containerd.runc.v2"},
        "kata": {"runtime_type": "io.containerd.kata.v2"},
    }


def test_revert_of_a_created_file() -> None:
    written = edited_main(None)
    assert revert(None, written, written) is None
    now = written + "\n[metrics]\naddress = '127.0.0.1:1338'\n"
    assert revert(None, written, now) == "version = 2\n\n[metrics]\naddress = '127.0.0.1:1338'\n"


def test_revert_of_a_drop_in_keeps_what_somebody_has_set_in_it() -> None:
    drop_in = next(each for each in edit(only_main(KUBERNETES), Request("2.1.9")).files if each.path == DROP_IN)
    now = set_keys(drop_in.after, {(*CRI, "max_container_log_line_size"): 4096})
    reverted = revert(None, drop_in.after, now)
    assert reverted is not None
    assert parse(reverted) == {"version": 2, "plugins": {CRI[1]: {"max_container_log_line_size": 4096}}}


def test_revert_takes_our_import_out_of_a_list_that_has_grown() -> None:
    main = next(each for each in edit(only_main(KUBERNETES), Request("2.1.9")).files if each.path == MAIN)
    now = set_keys(main.after, {("imports",): [DROP_IN, "/etc/containerd/site.toml"]})
    reverted = revert(KUBERNETES, main.after, now)
    assert reverted is not None
    assert parse(reverted) == {**parse(KUBERNETES), "imports": ["/etc/containerd/site.toml"]}


def test_revert_puts_a_plugin_back_into_a_list_that_has_grown() -> None:
    before = f'disabled_plugins = ["cri"]\n{KUBERNETES}'.replace('"cri"', '"io.containerd.grpc.v1.cri"')
    written = edited_main(before)
    now = set_keys(written, {("disabled_plugins",): ["io.containerd.internal.v1.opt"]})
    reverted = revert(before, written, now)
    assert reverted is not None
    names = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
    assert parse(reverted)["disabled_plugins"] == names


def test_revert_takes_a_repaired_version_line_out() -> None:
    before = KUBERNETES.removeprefix("version = 2\n\n")
    written = edited_main(before)
    reverted = revert(before, written, f"{written}\n[metrics]\naddress = ''\n")
    assert reverted is not None
    assert parse(reverted) == {**parse(before), "metrics": {"address": ""}}


def test_revert_names_a_section_as_before_with_what_was_set_in_it_since() -> None:
    before = 'version = 2\n\n[plugins.cri]\nsandbox_image = "a" # theirs\n'
    written = edited_main(before)
    now = set_keys(written, {(*CRI, "sandbox_image"): "b", (*CRI, "enable_selinux"): True})
    reverted = revert(before, written, now)
    assert reverted == 'version = 2\n\n[plugins.cri]\nsandbox_image = "b" # theirs\nenable_selinux = true\n'


def test_revert_refuses_where_the_old_name_is_taken_since() -> None:
    before = 'version = 2\n\n[plugins.cri]\nsandbox_image = "a"\n'
    written = edited_main(before)
    with pytest.raises(RevertConflict, match=r"plugins\.cri, which is there already"):
        revert(before, written, f"{written}\n[plugins.cri]\nenable_selinux = true\n")


# --- proving -------------------------------------------------------------------------------------------------------


def of(text: str, request: Request = V17) -> tuple[Edited, ConfigFiles, str]:
    files = only_main(text)
    edited = edit(files, request)
    return edited, files, edited.files[0].after


def test_effective_differences_that_the_edit_accounts_for() -> None:
    """The dump of 2.x has the names of version 3 although the file has those of version 2."""
    edited, files, after = of(KUBERNETES, V21)
    renamed = [text.replace(CRI[1], "io.containerd.cri.v1.runtime") for text in (KUBERNETES, after)]
    dumps = (parse(text.replace("version = 2", "version = 3")) for text in renamed)
    differences = effective_difference(*dumps)
    assert len(differences) == 3
    assert unintended(differences, edited, files) == []


def test_a_lost_setting_is_unintended() -> None:
    edited, files, after = of(KUBERNETES)
    lost = remove_keys(after, [(*RUNTIMES, "runc", "options", "SystemdCgroup")])
    differences = effective_difference(parse(KUBERNETES), parse(lost))
    setting = ((*RUNTIMES, "runc", "options", "SystemdCgroup"), True, None)
    assert unintended(differences, edited, files) == [setting]


def test_a_lost_runtime_is_unintended() -> None:
    edited, files, _ = of(KUBERNETES)
    gone = ((*RUNTIMES, "runc", "runtime_type"), "io.containerd.runc.v2", None)
    assert unintended([gone], edited, files) == [gone]


def test_a_wanted_key_with_another_value_is_unintended() -> None:
    edited, files, after = of(KUBERNETES)
    differences = effective_difference(parse(KUBERNETES), parse(set_keys(after, {BINARY: "/other"})))
    assert unintended(differences, edited, files) == [(BINARY, None, "/other")]


def test_a_runtime_s_entry_may_lack_what_it_says_in_vain() -> None:
    edited, files, _ = of("version = 2\n")
    runc = (*RUNTIMES, "runc")
    implied = [((*runc, "sandbox_mode"), "podsandbox", ""), ((*runc, "options", "Root"), "", None)]
    other = ((*runc, "snapshotter"), "zfs", "")
    assert unintended([*implied, other], edited, files) == [other]


def test_elsewhere_an_empty_text_and_none_are_two_things() -> None:
    edited, files, _ = of(KUBERNETES)
    lost = ((*CRI, "registry", "config_path"), "", None)
    assert unintended([lost], edited, files) == [lost]


def test_no_more_than_cri_may_leave_the_disabled_plugins() -> None:
    edited, files, _ = of('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    both = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]
    assert unintended([(("disabled_plugins",), both, both[:1])], edited, files) == []
    nothing: list[str] = []
    lost = (("disabled_plugins",), both, nothing)
    assert unintended([lost], edited, files) == [lost]


def test_a_section_that_comes_to_life_says_what_is_in_the_file() -> None:
    edited, files, _ = of(KUBERNETES.removeprefix("version = 2\n"))
    path = (*RUNTIMES, "runc", "options", "SystemdCgroup")
    assert unintended([(path, False, True)], edited, files) == []
    other = ((*CRI, "max_container_log_line_size"), 16384, 1)
    assert unintended([other], edited, files) == [other]


def test_a_wanted_key_that_does_not_take_effect_is_found() -> None:
    edited, _, after = of(KUBERNETES)
    assert without_effect(parse(after), edited, V17.version) == []
    (missing,) = without_effect(parse(remove_keys(after, [BINARY])), edited, V17.version)
    assert missing.path == BINARY
    named = parse(after.replace(CRI[1], "io.containerd.cri.v1.runtime"))
    assert without_effect(named, edited, V17.version) == []


def test_what_a_dump_cannot_tell_is_not_missed() -> None:
    edited, _, after = of(KUBERNETES, Request("1.4.13"))
    told = parse(remove_keys(after, [(*RUNTIMES, name, "options") for name in ("runc", "nvidia")]))
    assert without_effect(told, edited, "1.4.13") == []
    assert without_effect({"disabled_plugins": ["io.containerd.grpc.v1.cri"]}, edited, "1.4.13") == []
    assert [reason.path[-1] for reason in without_effect({}, edited, "1.4.13")] == ["runtime_type"]
