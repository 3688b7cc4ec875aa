"""Telling a webhook when a check finds something else than the one before. Ids are told, and no value that a host holds."""

from __future__ import annotations

import json
from collections.abc import Callable

from gpunode.engine.apply import require_root
from gpunode.engine.results import SCHEMA, Report
from gpunode.engine.situation import Situation
from gpunode.errors import UsageError
from gpunode.host import state, webhook
from gpunode.host.reader import Reader

Post = Callable[..., None]

TOLD = f"{state.STATE}/told.json"
"""What the webhook was told last. Kept apart from the metrics, so that what could not be delivered is told by the next check."""


def tell_changes(situation: Situation, report: Report, file: str, post: Post = webhook.post) -> bool:
    """Post what is new and what is gone to the address in `file`, where anything is; True when it was posted.

    A first check that finds nothing tells nothing. Raises UsageError, HostError, and LockHeldError while another run works on the host.
    """
    require_root(situation)
    machine = situation.machine
    address = _address(Reader(machine), file)
    state.prepare(machine)
    with machine.lock(state.LOCK, situation.note):
        before, now = _told(Reader(machine)), _matters(report)
        if before == now:
            return False
        if before is not None or now:
            body = _document(situation, report, before or [], now)
            post(address, body, proxy=situation.network.proxy, ca_bundle=situation.network.ca_bundle)
        machine.write_atomic(TOLD, json.dumps(now).encode(), stat=state.PRIVATE_FILE, temporary=f"{TOLD}.new")
        return before is not None or bool(now)


def _matters(report: Report) -> list[str]:
    """What makes one check differ from another, by id."""
    findings = {f"finding {each.id}" for step in report.steps for each in step.findings}
    differing = {f"{step.name}: {each.resource}" for step in report.steps for each in step.differences}
    unknown = {f"{step.name}: unknown" for step in report.steps if step.state == "unknown"}
    return sorted(findings | differing | unknown)


def _document(situation: Situation, report: Report, before: list[str], now: list[str]) -> bytes:
    """`text` alone is what chat programs show."""
    host = (Reader(situation.machine).read_text("/etc/hostname") or "").strip()
    new, gone = [each for each in now if each not in before], [each for each in before if each not in now]
    told = [*(f"new: {each}" for each in new), *(f"gone: {each}" for each in gone)]
    document = {
        "schema": SCHEMA,
        "text": f"gpunode on {host}: {report.result}; {'; '.join(told)}",
        "host": host,
        "result": report.result,
        "new": new,
        "gone": gone,
        "now": now,
    }
    return json.dumps(document).encode()


def _told(host: Reader) -> list[str] | None:
    """What was told last; None before the first time, and where it cannot be understood."""
    try:
        found = json.loads(host.read(TOLD) or b"null")
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _address(host: Reader, file: str) -> str:
    """The one line of the file. Raises UsageError, which does not show it."""
    stat = host.lstat(host.realpath(file))
    if stat is None or stat.kind != "file":
        raise UsageError(
            f"--webhook-file {file}: there is no such file", hint="write the https address into it, mode 0600"
        )
    if stat.mode & 0o077:
        raise UsageError(f"--webhook-file {file}: others than its owner can read it", hint=f"chmod 600 {file}")
    address = (host.read_text(file) or "").strip()
    if not address.startswith("https://") or len(address.split()) != 1:
        raise UsageError(f"--webhook-file {file}: it does not hold one https address")
    return address
