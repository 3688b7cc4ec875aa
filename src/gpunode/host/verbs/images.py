"""Images of paths: what the journal keeps of a file, link or directory, and how a change to one is taken back."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from gpunode.formats import containerd_config, json_edit, text_merge, toml_edit
from gpunode.formats.toml_data import TomlError
from gpunode.host.journal import Json
from gpunode.host.machine import FileStat
from gpunode.host.reader import Reader
from gpunode.host.state import Store
from gpunode.host.verbs.base import Conflict

REVERTS: dict[str, Callable[[str | None, str, str], str | None]] = {
    "containerd": containerd_config.revert,
    "toml": toml_edit.revert,
    "json": json_edit.revert,
}
"""How gpunode's keys are taken out of a file of a style, others' edits kept."""


def capture(reader: Reader, store: Store, path: str) -> Json | None:
    """The path as it is now, content kept in the store; None when there is nothing."""
    stat = reader.lstat(path)
    if stat is None:
        return None
    if stat.kind == "link":
        return {"kind": "link", "target": stat.target}
    image: Json = {"kind": stat.kind, "mode": stat.mode, "uid": stat.uid, "gid": stat.gid}
    if stat.kind == "file":
        image["sha"] = store.put(reader.read(path) or b"")
        image["xattrs"] = {name: value.hex() for name, value in stat.xattrs.items()}
    return image


def of_content(store: Store, content: bytes, stat: FileStat) -> Json:
    """The image of a file that is about to be written."""
    xattrs = {name: value.hex() for name, value in stat.xattrs.items()}
    return {
        "kind": "file",
        "mode": stat.mode,
        "uid": stat.uid,
        "gid": stat.gid,
        "sha": store.put(content),
        "xattrs": xattrs,
    }


def stat_of(image: Json) -> FileStat:
    """The stat to give a file made from an image."""
    xattrs = {name: bytes.fromhex(value) for name, value in image.get("xattrs", {}).items()}
    return FileStat(kind="file", mode=image["mode"], uid=image["uid"], gid=image["gid"], xattrs=xattrs)


def reverted(
    path: str, store: Store, before: Json | None, after: Json | None, now: Json | None, style: str = ""
) -> Json | Conflict | None:
    """The path with gpunode's change (`before` → `after`) taken out of `now`, and everything else kept.

    `style` is how the text is understood: `containerd`, `toml`, or plain lines.
    """
    if now in (before, after):
        return before
    if now is None:
        return None  # somebody removed it since: there is nothing of ours left in it
    if after is None:
        return Conflict(
            path, "gpunode moved this file aside, and somebody has made another since", _diff(path, store, now, before)
        )
    if now["kind"] == after["kind"] == "file" and (before is None or before["kind"] == "file"):
        return _reverted_file(path, store, before, after, now, style)
    return Conflict(path, "somebody has replaced it since gpunode wrote it", _diff(path, store, now, before))


def _reverted_file(
    path: str, store: Store, before: Json | None, after: Json, now: Json, style: str
) -> Json | Conflict | None:
    image = dict(now)
    for attribute in ("mode", "uid", "gid", "xattrs"):
        if before is not None and now[attribute] == after[attribute]:
            image[attribute] = before[attribute]
    if now["sha"] == after["sha"]:
        return {**image, "sha": before["sha"]} if before else None
    if before is not None and now["sha"] == before["sha"]:
        return image
    try:
        text = _reverted_text(style, *(_text(store, image) for image in (before, after, now)))
    except (toml_edit.RevertConflict, toml_edit.EditError, TomlError, UnicodeDecodeError) as error:
        return Conflict(path, f"somebody has edited it since: {error}", _diff(path, store, now, before))
    if text is None:
        return None
    return {**image, "sha": store.put(text.encode())}


def _reverted_text(style: str, before: str | None, written: str | None, now: str | None) -> str | None:
    written, now = written or "", now or ""
    if style in REVERTS:
        return REVERTS[style](before, written, now)
    merged = text_merge.merge3(written, before or "", now)
    if isinstance(merged, text_merge.Conflict):
        raise toml_edit.RevertConflict("the same lines were changed", "")
    return merged if before is not None or merged.strip() else None


def _text(store: Store, image: Json | None) -> str | None:
    return store.get(image["sha"]).decode("utf-8") if image else None


def _diff(path: str, store: Store, now: Json | None, before: Json | None) -> str:
    """What restoring `before` would do to the path, as a unified diff; empty when one side is no text."""
    try:
        old, new = ((_text(store, image) or "") if _is_file(image) else "" for image in (now, before))
    except UnicodeDecodeError:
        return ""
    lines = (old.splitlines(keepends=True), new.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, fromfile=f"{path} (now)", tofile=f"{path} (before gpunode)"))


def _is_file(image: Json | None) -> bool:
    return image is not None and image["kind"] == "file"
