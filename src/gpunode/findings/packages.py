"""The container toolkit's packages: at versions that do not fit each other, or that are known to be unsafe."""

from __future__ import annotations

from gpunode.findings.evidence import Evidence, upstream
from gpunode.findings.model import Known, Proof
from gpunode.steps import decisions

APPLY = "gpunode apply --step container_toolkit"


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
        id="toolkit-downgraded",
        step="container_toolkit",
        severity="warning",
        title="The container toolkit was taken back to an older version",
        sees="GPU containers that worked and no longer start; options that the older version does not know",
        proof="packages older than the profile's version, and apt's log or the packages that stayed behind show that they were newer",
        cause="{package} was taken back to {version} although the profile wants {wanted}{unheld}.",
        mend=(APPLY,),
        look=_downgraded,
        explains=("toolkit-version-skew", "toolkit-too-old-for-cgroupv2", "packages:container toolkit"),
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
        patterns=(r"nvidia-container-(?:cli|runtime|toolkit)\S*: symbol lookup error",),
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
