"""What works now and will not for long: a boot that is due, a branch that ends, keys that expire, an initramfs of before."""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timezone

from gpunode.catalog.model import Branch
from gpunode.findings.driver import APPLY, NOUVEAU_BLACKLIST
from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.model import Known, Proof, Severity

DAY = 86_400.0
BRANCH_DAYS, KEY_DAYS = 90, 30
LATE = 0.92
"""A kubelet renews its certificate at 70 to 90 hundredths of its life: past this it did not."""
CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
STEPS = {"cuda": "driver", "container-toolkit": "container_toolkit"}


def _reboot(evidence: Evidence) -> Proof | None:
    if evidence.boot_wanted is None:
        return None
    names = evidence.boot_wanted_by.text.split() if evidence.boot_wanted_by else []
    words = ", ".join(dict.fromkeys(names)) or "what was upgraded"
    return Proof((f"{evidence.boot_wanted.path}: written {clock(evidence.boot_wanted.modified)}",), {"packages": words})


def _branch_ends(evidence: Evidence) -> Proof | None:
    """Of the driver that is here; one of the distribution's own is looked after by the distribution."""
    facts, catalog = evidence.context.facts, evidence.context.catalog
    version = facts.driver.version if facts.driver else evidence.library_version
    branch = catalog.branches.get(version.partition(".")[0])
    if branch is None or evidence.context.profile.driver.source == "distro":
        return None
    month = branch.ended or branch.ends
    if not month or facts.now < _month_end(month) - BRANCH_DAYS * DAY:
        return None
    past = facts.now > _month_end(month)
    lines = (
        f"the driver is {version}, of branch {branch.name}",
        f"branch {branch.name}: end of life {month} ({branch.source})",
    )
    words = {"branch": branch.name, "month": month, "when": "ended" if past else "ends"}
    following = _following(evidence, branch)
    mend = (
        (f'{APPLY}  # with driver.branch = "{following}" in the profile',)
        if following
        else ("# no newer branch drives this GPU",)
    )
    return Proof(lines, words, mend=mend)


def _month_end(month: str) -> float:
    """The last moment of a month (`2028-06`), in seconds since the epoch."""
    year, number = (int(part) for part in month.split("-"))
    last = calendar.monthrange(year, number)[1]
    return datetime(year, number, last, 23, 59, 59, tzinfo=timezone.utc).timestamp()


def _following(evidence: Evidence, branch: Branch) -> str:
    """The branch to go to: the recommended one, or the oldest newer one that lives and drives the GPUs; empty for none."""
    catalog, facts = evidence.context.catalog, evidence.context.facts
    kinds = [kind for gpu in facts.gpus if (kind := catalog.generation(gpu.device))]
    lasts = [kind.last_branch for kind in kinds if kind.last_branch]
    alive = [
        each
        for each in catalog.branches.values()
        if not each.ended and int(each.name) > int(branch.name) and all(int(each.name) <= last for last in lasts)
    ]
    alive.sort(key=lambda each: (not each.recommended, int(each.name)))
    return alive[0].name if alive else ""


def _expiring(evidence: Evidence) -> Proof | None:
    now, pinned = evidence.context.facts.now, _pinned(evidence)
    soon = {place: when for place, when in evidence.expiries.items() if place in pinned and when - now < KEY_DAYS * DAY}
    lines = [f"{path}: {key} {_expires(when, now)}" for (path, key), when in soon.items()]
    mend = tuple(dict.fromkeys(f"gpunode apply --step {pinned[place]}" for place in soon))
    paths, whens = [path for path, _ in soon], list(soon.values())
    first, last = evidence.certificate or (0.0, 0.0)
    if last and now > first + LATE * (last - first):
        lines.append(f"{CERTIFICATE}: {_expires(last, now)}, and was not renewed when it was time")
        mend, paths, whens = (*mend, "systemctl restart kubelet.service"), [*paths, CERTIFICATE], [*whens, last]
    if not lines:
        return None
    severity: Severity = "error" if min(whens) < now else "warning"
    return Proof(tuple(lines), {"path": paths[0], "when": _expires(min(whens), now)}, mend=mend, severity=severity)


def _expires(when: float, now: float) -> str:
    return f"{'expired' if when < now else 'expires'} {clock(when)}"


def _pinned(evidence: Evidence) -> dict[tuple[str, str], str]:
    """The keyrings and keys that this host's NVIDIA repositories are read with, and the step that brings each."""
    found = {}
    for name, entry in evidence.context.catalog.repositories.items():
        step = STEPS.get(name.rpartition("-")[0], "")
        for fingerprint in entry.fingerprints if step else ():
            found[entry.keyring, fingerprint] = step
    return found


def _initramfs(evidence: Evidence) -> Proof | None:
    """As far as times tell: what is in the image is not read."""
    blacklist = next((each for each in evidence.modprobe if re.search(NOUVEAU_BLACKLIST, each.text, re.M)), None)
    newest = max(evidence.kernels, key=lambda kernel: _ordinal(kernel.release))
    image = evidence.images.get(newest.release)
    if evidence.context.facts.nouveau or blacklist is None or image is None or not newest.nouveau:
        return None
    if image.modified >= blacklist.modified:
        return None
    lines = (
        f"{image.path}: made {clock(image.modified)}, wanted after the blacklist",
        f"{blacklist.place(NOUVEAU_BLACKLIST)}: blacklist nouveau, of {clock(blacklist.modified)}",
    )
    dracut = evidence.context.facts.initramfs == "dracut"
    mend = ("dracut --force",) if dracut else ("update-initramfs -u -k all",)
    return Proof(lines, {"image": image.path, "blacklist": blacklist.path}, mend=mend)


def _ordinal(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


FINDINGS = (
    Known(
        id="key-expiring",
        step="driver",
        severity="warning",
        title="A signing key or a certificate is about to expire",
        sees="nothing yet; then `EXPKEYSIG`, `The primary key is not live`, `x509: certificate has expired`",
        proof="a pinned key in a keyring of NVIDIA's repositories expires within 30 days, or the kubelet's client certificate is past the "
        "time at which it is renewed",
        cause="{path} {when}: what is signed by it is refused from then on.",
        mend=("gpunode apply --step driver",),
        look=_expiring,
        explains=("repo-key-rotated",),
        patterns=(r"EXPKEYSIG (?P<key>[0-9A-F]{16})", r"x509: certificate has expired or is not yet valid"),
    ),
    Known(
        id="initramfs-stale",
        step="driver",
        severity="warning",
        title="The next boot may load nouveau from an old initramfs",
        sees="nothing yet; after the next boot the driver does not load",
        proof="the initramfs of the kernel that boots next is older than the file that blacklists nouveau, and that kernel has nouveau",
        cause="{image} was made before {blacklist} was written, so that the next boot may not know of it.",
        mend=("update-initramfs -u -k all",),
        look=_initramfs,
    ),
    Known(
        id="branch-end-of-life",
        step="driver",
        severity="warning",
        title="The driver branch gets no more fixes",
        sees="nothing; from then on holes stay open",
        proof="the catalogue's end of life of the installed branch is past, or within 90 days; a distribution's own driver is not judged",
        cause="NVIDIA's support of branch {branch} {when} in {month}.",
        mend=(f"{APPLY}  # with a newer driver.branch in the profile",),
        look=_branch_ends,
        references=("NVIDIA support matrix",),
    ),
    Known(
        id="reboot-pending",
        step="driver",
        severity="info",
        title="The host waits for a reboot",
        sees="nothing; what was upgraded is not what runs",
        proof="`/var/run/reboot-required` exists",
        cause="A reboot is due: it takes one for {packages} to take effect.",
        mend=("systemctl reboot  # after draining the node",),
        look=_reboot,
    ),
)
