"""Reboots: when one is needed, and how a run goes on after it.

A run that may reboot records the reboot and what it goes on with, installs a oneshot unit, and stays open in the journal. The unit
calls `gpunode apply --continue RUN` after the boot; however that run ends, it takes the unit away again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunode.errors import RebootRequiredError, UsageError
from gpunode.host import state
from gpunode.host.journal import Entry, Journal, RunRecord
from gpunode.host.machine import Machine
from gpunode.host.reader import Reader
from gpunode.host.systemd import FOLDERS
from gpunode.host.verbs.files import MakeLink
from gpunode.host.verbs.reboot import Reboot, boot_id
from gpunode.host.writer import Writer
from gpunode.resources.base import BootNeed

if TYPE_CHECKING:
    from gpunode.engine.situation import Situation
    from gpunode.profile.model import HostProfile

UNIT = "gpunode-continue.service"
UNIT_FILE = f"{FOLDERS[0]}/{UNIT}"
UNIT_LINK = f"{FOLDERS[0]}/multi-user.target.wants/{UNIT}"
AT_MOST = 2
STEP = "reboot"
LISTED = 5

POLICIES = {
    "never": 'reboot = "never": the run stops before it, with exit status 4, and `gpunode apply` goes on after it',
    "ask": 'reboot = "ask": you are asked first, and the run goes on after it',
    "auto": 'reboot = "auto": the host reboots by itself, and the run goes on after it',
}
UNIT_TEXT = """\
[Unit]
Description=gpunode: run {run} goes on after the reboot
Wants=network-online.target
After=network-online.target multi-user.target

[Service]
# Not `oneshot`: at its end the run takes this file away, and systemd, told so, would hold the start of a unit that it
# no longer knows against its default limit, 90 seconds, and end the run before it has said how it went.
Type=simple
Environment={environment}
ExecStart={command}
# 4: the run needs one more reboot.
SuccessExitStatus=4

[Install]
WantedBy=multi-user.target
"""


def named(need: BootNeed) -> str:
    """The reason, and the first of those who use the GPUs."""
    listed = ", ".join(str(user) for user in need.users[:LISTED])
    more = f" and {len(need.users) - LISTED} more" if len(need.users) > LISTED else ""
    return f"{need.why}: {listed}{more}" if need.users else need.why


def told(need: BootNeed, policy: str) -> str:
    """What the plan says of it: the reason, and what the profile's `reboot` makes of it."""
    return f"a reboot is needed: {named(need)}; {POLICIES[policy]}"


def error_of(need: BootNeed) -> RebootRequiredError:
    """The error that ends a run's way before the reboot; users of the GPUs that it has no room for are in its details."""
    hint = "end what uses the GPU and run `gpunode apply` again, or reboot" if need.users else ""
    return RebootRequiredError(named(need), hint=hint, details=tuple(str(user) for user in need.users[LISTED:]))


# --- a run that waits for a reboot, in the journal


def awaited(record: RunRecord) -> Entry | None:
    """The reboot that an open run was going to go on after, or has gone on after; None where it has none."""
    found = [entry for entry in record.standing if entry.verb == Reboot.name]
    return found[-1] if found and record.interrupted else None


def waits(record: RunRecord) -> bool:
    """True for a run that goes on by itself after a reboot that has not been seen yet."""
    entry = awaited(record)
    linked = any(each.verb == MakeLink.name and each.state == "done" for each in _unit_entries(record))
    return entry is not None and entry.state == "pending" and linked


def count(record: RunRecord) -> int:
    """How often a run has rebooted the host."""
    return sum(entry.verb == Reboot.name for entry in record.entries)


def _unit_entries(record: RunRecord) -> list[Entry]:
    return [entry for entry in record.standing if entry.step == STEP and entry.verb != Reboot.name]


def schedule(host: Writer, situation: Situation, why: str) -> None:
    """Have the run being written go on after the next boot. Nothing is rebooted yet: see `begin`."""
    record = host.journal.current
    if record is None:
        raise AssertionError("no run has been begun")
    with host.on_behalf_of(STEP, f"unit:{UNIT}"):
        host.await_reboot(
            why,
            profile=_settled(host, situation).model_dump(mode="json"),
            steps=tuple(step.name for step in situation.steps),
        )
        host.write_file(UNIT_FILE, _unit_text(situation.machine, record.run).encode(), whole=True)
        host.make_link(UNIT_LINK, UNIT_FILE)


def _settled(host: Reader, situation: Situation) -> HostProfile:
    """The profile with the kubeconfig found in this run: after the boot nobody has logged in whose home could be looked into."""
    profile, found = situation.profile, situation.context(host).facts.kubeconfig
    kubernetes = profile.kubernetes.model_copy(update={"kubeconfig": found or profile.kubernetes.kubeconfig})
    return profile.model_copy(update={"kubernetes": kubernetes})


def _unit_text(machine: Machine, run: str) -> str:
    words = (*machine.python, "-m", "gpunode", "apply", "--continue", run)
    return UNIT_TEXT.format(
        run=run,
        environment=quoted(f"PYTHONPATH={machine.module_path}"),
        command=" ".join(quoted(word) for word in words),
    )


def quoted(word: str) -> str:
    """A word as a unit file holds it: systemd expands percent signs, and dollars in a command."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def begin(situation: Situation, run: str) -> None:
    """Reboot, where the run waits for it: the last thing that its process does. Raises CommandError, LockHeldError."""
    with situation.machine.lock(state.LOCK, situation.note):
        journal = Journal(situation.machine)
        record = journal.run(run)
        entry = awaited(record) if record else None
        if record and entry and waits(record):
            Writer(situation.machine, journal).reboot(entry)


def remembered(machine: Machine, run: str) -> tuple[HostProfile, tuple[str, ...]]:
    """The profile and the steps that a run goes on with. Raises UsageError for one that waits for no reboot."""
    from pydantic import ValidationError

    from gpunode.profile.model import HostProfile

    entry = reboot_of(Journal(machine), run)
    try:
        profile = HostProfile.model_validate_json(_json(entry.intent["profile"]))
    except ValidationError:
        raise UsageError(
            f"run {run} was begun by another version of gpunode, which knew other keys of the profile",
            hint="`gpunode apply` finishes the job",
        ) from None
    return profile, tuple(entry.intent["steps"])


def reboot_of(journal: Journal, run: str) -> Entry:
    """The reboot after which a run goes on. Raises UsageError."""
    record = journal.run(run) if run.isdigit() else None
    entry = awaited(record) if record else None
    if entry is None:
        raise UsageError(f"run {run} waits for no reboot", hint="see `gpunode history`")
    return entry


def require_booted(host: Reader, entry: Entry) -> None:
    """Raise RebootRequiredError while the host still runs the boot in which the reboot was asked for."""
    if entry.state == "pending" and boot_id(host) == entry.intent["boot"]:
        raise RebootRequiredError(
            f"run {entry.run} waits for a reboot, and there has been none since: {entry.intent['why']}",
            hint="reboot; or `gpunode rollback`, which undoes the run",
        )


def dismiss(host: Writer, record: RunRecord) -> None:
    """Take away the unit by which a run was to go on, if it has one: by the journal, as a rollback would."""
    entries = list(reversed(_unit_entries(record)))
    if not entries:
        return
    with host.on_behalf_of(STEP, f"unit:{UNIT}"), host.refreshing("units"):
        for entry in entries:
            host.take_back(entry, force=True)


def _json(data: Any) -> str:
    import json

    return json.dumps(data)
