"""Runs on the lab host: CPU seconds, seconds by the clock and peak memory of each command, as JSON lines. Children count."""

import json
import os
import sys
import time

NAMES = ("cpu", "wall", "mib")


def run(argv: list[str]) -> tuple[float, float, float]:
    """One whole process with all that it starts: CPU and wall seconds, MiB of the largest of them."""
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execvp(argv[0], argv)  # noqa: S606 - a command of the list above, no shell
    _, status, used = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(argv)} exited {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def forget() -> None:
    """Drop what the kernel keeps of files, so that the next run reads them from the disk."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


runs, commands = int(sys.argv[1]), json.loads(sys.argv[2])
for kind in ("warm", "cold"):
    for _ in range(runs):
        for name, argv in commands.items():
            if kind == "cold":
                forget()
            print(json.dumps({"kind": kind, "name": name, **dict(zip(NAMES, run(argv), strict=True))}), flush=True)
