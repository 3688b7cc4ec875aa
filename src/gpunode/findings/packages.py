"""Packages: the driver's left open to upgrades, the container toolkit's at versions that do not fit, or are known to be unsafe."""

from __future__ import annotations

import re

from gpunode.findings.evidence import Evidence, upstream
from gpunode.findings.model import Known, Proof
from gpunode.host.packages.base import version_matches
from gpunode.resources.packages import matches
from gpunode.steps import decisions

APPLY = "gpunode apply --step container_toolkit"


def _not_held(evidence: Evidence) -> Proof | None:
    driver, version = evidence.context.profile.driver, decisions.driver_version(evidence.context)
    upgrades = (evidence.packages or {}).get("unattended-upgrades")
    if not driver.hold or driver.source in ("runfile", "preinstalled") or upgrades is None or not upgrades.installed:
        return None
    excluded = _excluded(evidence)
    open_to = {
        name: package
        for name, package in sorted(evidence.driver_packages.items())
        if not package.held
        and version_matches(package.version, version)
        and not _pinned(evidence, name)
        and not any(pattern.match(name) for pattern in excluded)
    }
    if not open_to:
        return None
    lines = [f"dpkg-query: {name} {package.version}, not held, wanted held" for name, package in open_to.items()]
    lines.append(f"dpkg-query: unattended-upgrades {upgrades.version}")
    lines.append("/etc/apt/apt.conf.d: no Unattended-Upgrade::Package-Blacklist that names them")
    return Proof(tuple(lines), {"packages": ", ".join(open_to)})


def _excluded(evidence: Evidence) -> list[re.Pattern[str]]:
    """The regular expressions of unattended-upgrades' blacklist, which it matches from a name's beginning."""
    found = []
    for each in evidence.apt_conf:
        text = re.sub(r"^\s*(?://|#).*$", "", each.text, flags=re.MULTILINE)
        for block in re.findall(r"Unattended-Upgrade::Package-Blacklist\s*\{([^}]*)\}", text):
            found += [_pattern(words) for words in re.findall(r'"([^"]+)"', block)]
    return found


def _pattern(words: str) -> re.Pattern[str]:
    try:
        return re.compile(words)
    except re.error:
        return re.compile(re.escape(words))


def _pinned(evidence: Evidence, name: str) -> bool:
    """True when apt's preferences keep the package at a version."""
    for each in evidence.preferences:
        for paragraph in re.split(r"\n\s*\n", each.text):
            fields = dict(line.partition(":")[::2] for line in paragraph.splitlines() if not line.startswith("#"))
            names = tuple(fields.get("Package", "").split())
            if matches(name, names) and fields.get("Pin", "").strip().startswith("version"):
                return True
    return False


def _vulnerable(evidence: Evidence) -> Proof | None:
    known = evidence.context.catalog.toolkit
    floor = decisions.version_tuple(known.floor)
    old = {
        name: package.version
        for name, package in evidence.toolkit_packages.items()
        if (number := decisions.version_tuple(upstream(package.version))) and number < floor
    }
    if not old or evidence.context.profile.container_toolkit.allow_vulnerable:
        return None
    lines = tuple(f"dpkg-query: {name} {version}, wanted {known.floor} or newer" for name, version in old.items())
    return Proof(lines, {"version": upstream(next(iter(old.values()))), "reason": known.floor_reason})


def _skew(evidence: Evidence) -> Proof | None:
    found, wanted = evidence.toolkit_packages, evidence.context.profile.container_toolkit.version
    versions = {upstream(package.version) for package in found.values()}
    if len(versions) < 2:
        return None
    lines = [
        f"dpkg-query: {name} {package.version}{'' if package.held else ', not held'}, wanted {wanted}"
        for name, package in found.items()
    ]
    lines += [f"{name}: {evidence.changes[name]}" for name in found if name in evidence.changes][:1]
    ordered = sorted(versions, key=decisions.version_tuple)
    return Proof(tuple(lines), {"versions": f"{', '.join(ordered[:-1])} and {ordered[-1]}"})


def _downgraded(evidence: Evidence) -> Proof | None:
    """Older than wanted, and proved to have been newer: by apt's log, or by the packages that stayed behind."""
    found, wanted = evidence.toolkit_packages, evidence.context.profile.container_toolkit.version
    number = decisions.version_tuple(wanted)
    old = {
        name: package for name, package in found.items() if decisions.version_tuple(upstream(package.version)) < number
    }
    logged = [
        f"{name}: {change}"
        for name in old
        if (change := evidence.changes.get(name))
        and change.after == old[name].version
        and decisions.version_tuple(upstream(change.before)) > decisions.version_tuple(upstream(change.after))
    ]
    stayed = [f"dpkg-query: {name} {found[name].version}" for name in found if upstream(found[name].version) == wanted]
    if not old or not (logged or stayed):
        return None
    first, package = next(iter(old.items()))
    loose = [name for name in found if not found[name].held]
    lines = [f"dpkg-query: {name} {each.version}, wanted {wanted}" for name, each in old.items()]
    lines += [*logged[:1], *stayed[:1]]
    lines += [f"dpkg-query: not held: {', '.join(loose)}"] if loose else []
    words = {"package": first, "version": upstream(package.version), "wanted": wanted}
    words["unheld"] = ", and no hold kept it" if first in loose else ""
    return Proof(tuple(lines), words, severity="error" if stayed else None)


FINDINGS = (
    Known(
        id="driver-not-held",
        step="driver",
        severity="warning",
        title="The next unattended upgrade may change the driver under running jobs",
        sees="nothing yet; after the next upgrade `Driver/library version mismatch`",
        proof="driver packages at the wanted version, neither held nor pinned, and unattended-upgrades that does not leave them out",
        cause="{packages}: nothing holds the driver at its version, and unattended-upgrades may take it to another while it runs.",
        mend=("gpunode apply --step driver",),
        look=_not_held,
        explains=("hold:driver",),
        references=("NVIDIA/k8s-device-plugin#1431", "pando85/homelab#4110"),
    ),
    Known(
        id="toolkit-downgraded",
        step="container_toolkit",
        severity="warning",
        title="The container toolkit was taken back to an older version",
        sees="GPU containers that worked and no longer start; options that the older version does not know",
        proof="packages older than the profile's version, and apt's log or the packages that stayed behind show that they were newer",
        cause="{package} was taken back to {version} although the profile wants {wanted}{unheld}.",
        mend=(APPLY,),
        look=_downgraded,
        explains=("toolkit-version-skew", "packages:container toolkit"),
    ),
    Known(
        id="toolkit-version-skew",
        step="container_toolkit",
        severity="error",
        title="The container toolkit's packages are not at one version",
        sees="`nvidia-container-cli: … symbol lookup error`, or GPU containers that fail to start without more words",
        proof="the four packages of the toolkit are installed at different versions",
        cause="The toolkit's packages work only at one and the same version, and here are {versions}.",
        mend=(APPLY,),
        look=_skew,
        explains=("packages:container toolkit",),
    ),
    Known(
        id="toolkit-vulnerable",
        step="container_toolkit",
        severity="error",
        title="The container toolkit has known holes",
        sees="nothing: a container can take over the host",
        proof="a toolkit package older than the oldest version without a known hole",
        cause="Container toolkit {version} lets a container take over the host ({reason}).",
        mend=(APPLY,),
        look=_vulnerable,
        references=("CVE-2024-0132", "CVE-2025-23266", "CVE-2025-23267"),
    ),
)
