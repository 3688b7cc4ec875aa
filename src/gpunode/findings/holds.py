"""Packages that the next automatic upgrade may change under running jobs: neither held nor pinned nor left out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping

from gpunode.findings.evidence import Evidence, upstream
from gpunode.findings.model import Known, Proof
from gpunode.host.packages.base import Package, version_matches
from gpunode.resources.packages import matches
from gpunode.steps import decisions

UPGRADER = "unattended-upgrades"
SWITCHED_ON = re.compile(r'^\s*APT::Periodic::Unattended-Upgrade\s+"?([1-9]\w*|always)', re.MULTILINE)
COMMENT = re.compile(r"^\s*(?://|#).*$", re.MULTILINE)
ORIGIN_BLOCK = re.compile(r"Unattended-Upgrade::(Allowed-Origins|Origins-Pattern)\s*\{((?:\$\{\w+\}|[^}])*)\}")
KEYS = {"o": "origin", "origin": "origin", "site": "site"}
NVIDIA = ("NVIDIA", "developer.download.nvidia.com")
TOOLKIT = ("https://nvidia.github.io/libnvidia-container", "nvidia.github.io")
"""Origin and host of each repository, as unattended-upgrades compares them."""


def _driver(evidence: Evidence) -> Proof | None:
    driver, version = evidence.context.profile.driver, decisions.driver_version(evidence.context)
    if not driver.hold or driver.source in ("runfile", "preinstalled"):
        return None
    origin = NVIDIA if decisions.archive(evidence.context) == "nvidia" else _own_archive(evidence)
    wanted = {name: each for name, each in evidence.driver_packages.items() if version_matches(each.version, version)}
    return _loose(evidence, wanted, origin)


def _own_archive(evidence: Evidence) -> tuple[str, str]:
    """Origin and host of the distribution's own archive."""
    archive = evidence.context.facts.archive
    host = archive.uri.partition("://")[2].partition("/")[0] if archive else ""
    return evidence.context.facts.os_id.capitalize(), host


def _toolkit(evidence: Evidence) -> Proof | None:
    toolkit = evidence.context.profile.container_toolkit
    if not toolkit.hold:
        return None
    wanted = {
        name: each for name, each in evidence.toolkit_packages.items() if upstream(each.version) == toolkit.version
    }
    return _loose(evidence, wanted, TOOLKIT)


def _loose(evidence: Evidence, wanted: Mapping[str, Package], origin: tuple[str, str]) -> Proof | None:
    """Those that nothing keeps as they are, where something upgrades by itself what comes from there."""
    upgrader = _apt_upgrader(evidence, origin) or _dnf_upgrader(evidence)
    excluded = [*_excluded(evidence), *_excluded_by_dnf(evidence)]
    loose = {
        name: package
        for name, package in sorted(wanted.items())
        if not package.held and not _pinned(evidence, name) and not any(pattern.match(name) for pattern in excluded)
    }
    if not loose or not upgrader:
        return None
    query = "dpkg-query" if upgrader[0].startswith("dpkg") else "rpm --query"
    lines = [f"{query}: {name} {package.version}, not held, wanted held" for name, package in loose.items()]
    return Proof((*lines, *upgrader), {"packages": ", ".join(loose), "upgrader": _name(upgrader)})


def _name(upgrader: tuple[str, ...]) -> str:
    return UPGRADER if UPGRADER in upgrader[0] else "dnf-automatic"


def _apt_upgrader(evidence: Evidence, origin: tuple[str, str]) -> tuple[str, ...]:
    """How it is seen that unattended-upgrades runs and takes packages of that origin; empty where it does not."""
    found = (evidence.packages or {}).get(UPGRADER)
    on = next((each for each in evidence.apt_conf if SWITCHED_ON.search(COMMENT.sub("", each.text))), None)
    allowed = next((line for line in _allowed(evidence, origin)), "")
    if found is None or not found.installed or on is None or not allowed:
        return ()
    return (
        f"dpkg-query: {UPGRADER} {found.version}",
        f"{on.place(SWITCHED_ON.pattern)}: it runs by itself",
        allowed,
        "/etc/apt/apt.conf.d: no Unattended-Upgrade::Package-Blacklist that names them",
    )


def _allowed(evidence: Evidence, origin: tuple[str, str]) -> Iterator[str]:
    """The places that allow packages of an origin."""
    name = evidence.context.facts.os_id.capitalize()
    for each in evidence.apt_conf:
        for kind, block in ORIGIN_BLOCK.findall(COMMENT.sub("", each.text)):
            for written in re.findall(r'"([^"]+)"', block):
                words = re.sub(r"\$\{distro_id\}", name, written)
                if _admits(words, origin) if kind == "Origins-Pattern" else _names(words, origin):
                    yield f'{each.place(re.escape(written))}: "{written}" allows {origin[0]}'


def _names(words: str, origin: tuple[str, str]) -> bool:
    """`ORIGIN:SUITE`; an origin with a colon of its own is written with `\\:` or behind a space."""
    name = re.split(r"(?<!\\):(?!//)| ", words, maxsplit=1)[0].replace("\\:", ":")
    return fnmatch.fnmatchcase(origin[0], name)


def _admits(words: str, origin: tuple[str, str]) -> bool:
    """`origin=X,site=Y,…`: all must fit, and what is not known here may."""
    pairs = (part.strip().partition("=")[::2] for part in words.split(","))
    values = {"origin": origin[0], "site": origin[1]}
    return all(fnmatch.fnmatchcase(values[KEYS[key]], value) for key, value in pairs if key in KEYS)


def _dnf_upgrader(evidence: Evidence) -> tuple[str, ...]:
    """How it is seen that dnf-automatic installs upgrades; empty where it does not."""
    on = [
        name
        for name, unit in evidence.units.items()
        if name.startswith(("dnf-automatic", "dnf5-automatic")) and unit.enabled
    ]
    applies = next(
        (
            each
            for each in evidence.dnf_conf
            if re.search(r"^\s*apply_updates\s*=\s*(?:yes|true|1)\b", each.text, re.M | re.I)
        ),
        None,
    )
    if not on or not (applies or "dnf-automatic-install.timer" in on):
        return ()
    place = (f"{applies.place('apply_updates')}: apply_updates = yes",) if applies else ()
    return (f"systemctl show {on[0]}: enabled", *place, "/etc/dnf/dnf.conf: no exclude that names them")


def _excluded(evidence: Evidence) -> list[re.Pattern[str]]:
    """The regular expressions of unattended-upgrades' blacklist, which it matches from a name's beginning."""
    found = []
    for each in evidence.apt_conf:
        text = COMMENT.sub("", each.text)
        for block in re.findall(r"Unattended-Upgrade::Package-Blacklist\s*\{([^}]*)\}", text):
            found += [_pattern(words) for words in re.findall(r'"([^"]+)"', block)]
    return found


def _excluded_by_dnf(evidence: Evidence) -> list[re.Pattern[str]]:
    """The shell patterns of `exclude` in dnf's own configuration."""
    found: list[re.Pattern[str]] = []
    for each in evidence.dnf_conf:
        for value in re.findall(r"^\s*exclude(?:pkgs)?\s*=\s*(.+)$", each.text, re.MULTILINE):
            found += [re.compile(fnmatch.translate(word)) for word in re.split(r"[\s,]+", value.strip()) if word]
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


PROOF = (
    "packages at the wanted version, neither held nor pinned nor excluded, and unattended-upgrades or dnf-automatic that runs by itself "
    "and takes packages of their repository"
)

FINDINGS = (
    Known(
        id="driver-not-held",
        step="driver",
        severity="warning",
        title="The next unattended upgrade may change the driver under running jobs",
        sees="nothing yet; after the next upgrade `Driver/library version mismatch`",
        proof=f"the driver's {PROOF}",
        cause="{packages}: nothing holds the driver at its version, and {upgrader} may take it to another while it runs.",
        mend=("gpunode apply --step driver",),
        look=_driver,
        explains=("driver-branch-jump", "hold:driver"),
        references=("pando85/homelab#4110", "NVIDIA/gpu-driver-container#600", "NVIDIA/k8s-device-plugin#1431"),
    ),
    Known(
        id="toolkit-not-held",
        step="container_toolkit",
        severity="warning",
        title="The next unattended upgrade may change the container toolkit under running pods",
        sees="nothing yet; then GPU containers that no longer start, or four packages at two versions",
        proof=f"the container toolkit's {PROOF}",
        cause="{packages}: nothing holds the container toolkit at its version, and {upgrader} may take it to another.",
        mend=("gpunode apply --step container_toolkit",),
        look=_toolkit,
        explains=("toolkit-version-skew", "hold:container toolkit"),
        references=("NVIDIA/nvidia-docker#1534", "NVIDIA/nvidia-container-toolkit#59", "m-lab/k8s-support#520"),
    ),
)
