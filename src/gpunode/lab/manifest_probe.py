"""The program that a snapshot runs inside the host: standard library only, one process, facts to standard output as JSON.

It is read as text and given to the host's own python3 on standard input, with the excluded paths as its arguments.
"""

import fnmatch
import hashlib
import json
import os
import re
import stat
import subprocess
import sys

Fields = dict[str, str]
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


def describe(path: str) -> Fields:
    """Return what is to be compared about one path. No times: they change without anything having changed."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    fields = {
        "type": KINDS[kind],
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "owner": f"{found.st_uid}:{found.st_gid}",
    }
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            fields["content"] = hashlib.sha1(file.read()).hexdigest()
    elif kind == stat.S_IFLNK:
        fields["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        fields["device"] = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    for name in os.listxattr(path, follow_symlinks=False):
        fields[f"xattr {name}"] = os.getxattr(path, name, follow_symlinks=False).hex()
    return fields


def files(excluded: list[str]) -> dict[str, Fields]:
    """Walk the root file system: every path but the excluded ones (shell patterns), what lies below them included."""
    skip = re.compile("|".join(fnmatch.translate(pattern) for pattern in excluded) or r"(?!)")
    root = os.lstat("/").st_dev
    found: dict[str, Fields] = {}
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if skip.match(path):
                continue
            try:
                found[path] = describe(path)
                if found[path]["type"] == "folder" and os.lstat(path).st_dev == root:
                    waiting.append(path)
            except FileNotFoundError:
                continue  # gone since it was listed
    return found


def output(*argv: str) -> list[str]:
    """Return the lines a command prints."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def packages() -> dict[str, Fields]:
    """Every package dpkg knows: version, dpkg's state (`ii`; `hi` held; `rc` only config files left), auto or manual."""
    automatic = set(output("apt-mark", "showauto"))
    found: dict[str, Fields] = {}
    for line in output("dpkg-query", "-W", "-f", "${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\n"):
        name, architecture, version, status = line.split("\t")
        found[f"{name}:{architecture}"] = {
            "version": version,
            "state": status.strip(),
            "mark": "auto" if automatic & {name, f"{name}:{architecture}"} else "manual",
        }
    return found


def units() -> dict[str, Fields]:
    """Units that are there: whether they are enabled, and whether they run or have failed."""
    found: dict[str, Fields] = {}
    for line in output("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--full"):
        name, enabled = line.split()[:2]
        found[name] = {"enabled": enabled}
    kinds = "--type=service,socket,timer,path"
    for line in output("systemctl", "list-units", "--plain", "--no-legend", "--full", "--state=active,failed", kinds):
        name, _, active, detail = line.split()[:4]
        if detail != "exited":  # one-shot units that ended well: which of them ran depends on the boot
            found.setdefault(name, {})["active"] = active
    return found


def modules() -> dict[str, Fields]:
    """The kernel's modules, by their folders in sysfs."""
    return {name: {"loaded": "yes"} for name in os.listdir("/sys/module")}


if __name__ == "__main__":
    facts = {"file": files(sys.argv[1:]), "package": packages(), "unit": units(), "module": modules()}
    json.dump(facts, sys.stdout)
