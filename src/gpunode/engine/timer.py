"""The timer: a check at regular times, told to node_exporter. Two units, written through the journal and taken back by it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gpunode.engine.apply import require_root
from gpunode.engine.reboot import quoted
from gpunode.engine.results import Report, Result
from gpunode.engine.rollback import require_no_conflicts, take_back
from gpunode.engine.situation import Situation
from gpunode.errors import GpunodeError, UsageError
from gpunode.host import state, systemd
from gpunode.host.journal import Entry, Journal
from gpunode.host.machine import Machine
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer

STEP = "timer"
SERVICE, TIMER = "gpunode-check.service", "gpunode-check.timer"
METRICS = "/var/lib/prometheus/node-exporter/gpunode.prom"
"""Where Debian's prometheus-node-exporter looks for *.prom."""
EVERY = "15min"
SPAN = re.compile(r"[1-9]\d*(s|min|h|d)")
HOMES = ("/root/", "/home/", "/run/user/")
PRIVATE = ("/tmp/", "/var/tmp/")  # noqa: S108 - nothing is written there: the service has its own of these

SERVICE_TEXT = """\
[Unit]
Description=gpunode: compare this host with its profile
After=network-online.target

[Service]
Type=oneshot
Environment={environment}
ExecStart={command}
# 3: the host has drifted, which the metrics tell.
SuccessExitStatus=3
TimeoutStartSec=10min
Nice=10

# It reads, writes one file, and where a webhook is called keeps in mind what that was told.
ProtectSystem=strict
ReadWritePaths={folder}
ProtectHome={home}
PrivateTmp=yes
UMask=0077

# Files of others, and who has a GPU open.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE
AmbientCapabilities=
NoNewPrivileges=yes

# Of devices NVIDIA's alone: the driver is asked by NVML. That may map memory as it likes, so MemoryDenyWriteExecute is not set.
DevicePolicy=closed
DeviceAllow=char-nvidia* rw

# Daemons, by their sockets, and the cluster.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
TIMER_TEXT = """\
[Unit]
Description=gpunode: compare this host with its profile at regular times

[Timer]
OnActiveSec=1s
OnBootSec=5min
OnUnitActiveSec={every}
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True)
class Plan:
    """What the timer runs: the profile's path, how often (`15min`), the file for the metrics, and the one with a webhook's address."""

    profile: str
    every: str = EVERY
    metrics: str = METRICS
    webhook_file: str = ""


@dataclass(frozen=True)
class Status:
    """The timer as it is. `last` is when the last check began, in seconds since the epoch, `result` is systemd's word for how it ended."""

    enabled: bool
    active: bool
    last: float | None
    result: str
    metrics: str
    written: float | None


def enable(situation: Situation, plan: Plan) -> Report:
    """Write the units and start the timer. Raises UsageError, LockHeldError; a failure of the host is in the report."""
    require_root(situation)
    host = Reader(situation.machine)
    _require_usable(host, plan)
    read = _read_by_it(situation, host, plan)
    _require_seen(host, (*read, plan.metrics))
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        text = service_text(situation.machine, plan, in_home=any(path.startswith(HOMES) for path in read))
        return _run(situation, lambda writer, _report: _install(writer, text, plan), "changed")


def disable(situation: Situation) -> Report:
    """Take the units back as a rollback would, in whatever run they were written. Raises UsageError, LockHeldError, ConflictError."""
    require_root(situation)
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        journal = Journal(situation.machine)
        entries = _standing(journal)
        if not entries:
            return Report(STEP, "in-sync")
        require_no_conflicts(Writer(situation.machine, journal, situation.network), entries)
        metrics = _metrics_of(Reader(situation.machine))
        report = _run(situation, lambda writer, told: _take_back(situation, writer, told), "undone")
        if metrics and situation.machine.lstat(metrics):
            report.left.append(f"{metrics}: what the last check told; remove it, or it goes on being told")
        return report


def status(machine: Machine) -> Status:
    """How the timer stands. Raises HostError where systemd does not answer."""
    host = Reader(machine)
    units = systemd.show(host, (TIMER, SERVICE))
    metrics = _metrics_of(host)
    written = host.lstat(metrics) if metrics else None
    timer, service = units[TIMER], units[SERVICE]
    return Status(
        timer.enabled, timer.active, service.started, service.result, metrics, written.mtime if written else None
    )


def service_text(machine: Machine, plan: Plan, *, in_home: bool = False) -> str:
    """The service's unit file. Homes are closed to it, unless it has to read something in one."""
    words = (*machine.python, "-m", "gpunode", "check", "--profile", plan.profile)
    words = (*words, "--output", "prometheus", "--output-file", plan.metrics)
    folders = [plan.metrics.rpartition("/")[0]]
    if plan.webhook_file:
        words = (*words, "--webhook-file", plan.webhook_file)
        folders.append(state.STATE)
    return SERVICE_TEXT.format(
        environment=quoted(f"PYTHONPATH={machine.module_path}"),
        command=" ".join(quoted(word) for word in words),
        folder=" ".join(quoted(folder) for folder in folders),
        home="read-only" if in_home else "yes",
    )


def _read_by_it(situation: Situation, host: Reader, plan: Plan) -> list[str]:
    """What the service reads that may lie anywhere: gpunode itself, the profile, the webhook's file, the kubeconfig in use."""
    machine, kubeconfig = situation.machine, situation.context(host).facts.kubeconfig
    paths = [*machine.python, *machine.module_path.split(":"), plan.profile, plan.webhook_file, kubeconfig]
    named = [path for path in paths if path and path.startswith("/")]
    return [*named, *(host.realpath(path) for path in named)]


def _require_seen(host: Reader, paths: Iterable[str]) -> None:
    hidden = next((path for path in paths if host.realpath(path).startswith(PRIVATE)), None)
    if hidden:
        raise UsageError(
            f"{hidden}: the timer's service has a /tmp and a /var/tmp of its own, and would not see it",
            hint="move it, to /etc/gpunode for one, and name it there",
        )


def _require_usable(host: Reader, plan: Plan) -> None:
    if not SPAN.fullmatch(plan.every):
        raise UsageError(f"--every {plan.every} is no span of time", hint="a number and s, min, h or d: 15min")
    folder = plan.metrics.rpartition("/")[0]
    if not plan.metrics.startswith("/") or not plan.metrics.endswith(".prom"):
        raise UsageError(f"--metrics {plan.metrics} is no absolute path that ends in .prom, which node_exporter wants")
    if not host.exists(folder):
        raise UsageError(
            f"there is no folder {folder} for the metrics",
            hint="make it, or name by --metrics a file in the folder that node_exporter's --collector.textfile.directory has",
        )
    owner = host.lstat(host.realpath(folder))
    if owner is not None and owner.uid != 0:
        raise UsageError(
            f"{folder} belongs to uid {owner.uid}: the timer's service is root without the right to write in others' folders",
            hint=f"`chown root {folder}`: node_exporter only reads there; or name by --metrics a file in a folder of root's",
        )


def _install(writer: Writer, service: str, plan: Plan) -> None:
    with writer.refreshing("units"):
        folder = systemd.FOLDERS[0]
        writer.write_file(f"{folder}/{SERVICE}", service.encode(), whole=True)
        writer.write_file(f"{folder}/{TIMER}", TIMER_TEXT.format(every=plan.every).encode(), whole=True)
    writer.enable_service(TIMER)


def _take_back(situation: Situation, writer: Writer, report: Report) -> None:
    take_back(situation, writer, _standing(writer.journal), report, force=False)


def _standing(journal: Journal) -> list[Entry]:
    """What of the timer stands, newest first."""
    return [
        entry
        for record in reversed(journal.runs)
        for entry in reversed(record.standing)
        if entry.step == STEP and record is not journal.current
    ]


def _run(situation: Situation, work: Callable[[Writer, Report], None], done: Result) -> Report:
    """One run of the journal, in which the work is done."""
    began = time.monotonic()
    journal = Journal(situation.machine)
    run = journal.begin(STEP, version=situation.version, note=situation.note)
    writer = Writer(situation.machine, journal, situation.network, on_line=situation.listener.line)
    report = Report(STEP, done, run=run.run)
    try:
        with writer.on_behalf_of(STEP, f"unit:{TIMER}"):
            work(writer, report)
        for record in journal.interrupted():
            if record.command == STEP:
                journal.supersede(record)
    except GpunodeError as error:
        report.result, report.error, report.hint, report.details = "failed", error.message, error.hint, error.details
    journal.end(report.result)
    report.seconds = time.monotonic() - began
    return report


def _metrics_of(host: Reader) -> str:
    """The file that the installed service writes; empty where there is none."""
    words = systemd.exec_start(host, SERVICE)
    return words[words.index("--output-file") + 1] if "--output-file" in words[:-1] else ""
