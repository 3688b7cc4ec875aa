"""Which files an import means: containerd's own rules, whoever asks."""

from __future__ import annotations

from gpunode.formats.containerd_imports import matching, patterns

MAIN = "/etc/containerd/config.toml"


def test_a_relative_import_is_sought_beside_the_file_and_cleaned() -> None:
    assert patterns(MAIN, ["conf.d/*.toml", "../a.toml", "/b/./c.toml"], relative=True) == [
        "/etc/containerd/conf.d/*.toml",
        "/etc/a.toml",
        "/b/c.toml",
    ]


def test_a_relative_import_names_nothing_on_a_release_that_does_not_seek_it() -> None:
    assert patterns(MAIN, ["conf.d/*.toml", "/b/c.toml"], relative=False) == ["/b/c.toml"]


def test_imports_that_are_no_list_of_texts_name_nothing() -> None:
    assert patterns(MAIN, "a.toml", relative=True) == []
    assert patterns(MAIN, [1, "/a.toml"], relative=True) == ["/a.toml"]


def test_a_wildcard_takes_the_files_of_its_folder_by_name() -> None:
    given = ["/d/b.toml", "/d/a.toml", "/d/deep/c.toml", "/d/x.conf", "/e/a.toml"]
    assert matching("/d/*.toml", given) == ["/d/a.toml", "/d/b.toml"]


def test_a_wildcard_negates_a_set_in_go_s_way() -> None:
    assert matching("/d/[^a]*.toml", ["/d/a.toml", "/d/b.toml", "/d/^.toml"]) == ["/d/^.toml", "/d/b.toml"]


def test_without_a_star_a_name_is_taken_to_the_letter() -> None:
    assert matching("/d/[a].toml", ["/d/a.toml", "/d/[a].toml"]) == ["/d/[a].toml"]


def test_a_wildcard_in_a_folder_s_name_is_followed_folder_by_folder() -> None:
    given = ["/d-1/a.toml", "/d/b.toml", "/d/a.toml", "/d/deep/a.toml", "/e/a.toml"]
    assert matching("/d*/*.toml", given) == ["/d/a.toml", "/d/b.toml", "/d-1/a.toml"]
