"""The CUDA toolkit: installed, and not found by those who look for it."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.steps.cuda import CURRENT

PROFILE_D = "/etc/profile.d/cuda.sh"


def _profile_d(evidence: Evidence) -> Proof | None:
    cuda = evidence.context.profile.cuda
    if cuda.version == "none" or not _installed(evidence):
        return None
    found = [*_link(evidence), *_login(evidence)]
    if not found:
        return None
    words = {"version": cuda.version, "missing": " and ".join(each.missing for each in found)}
    return Proof(tuple(each.line for each in found), words, explains=tuple(each.resource for each in found))


@dataclass(frozen=True)
class _Missing:
    """One thing by which the toolkit would be found: what is missing in words, the line that shows it, its resource."""

    missing: str
    line: str
    resource: str


def _link(evidence: Evidence) -> list[_Missing]:
    cuda = evidence.context.profile.cuda
    target, found = f"{CURRENT}-{cuda.version}", evidence.cuda_link
    if not cuda.link or found == target:
        return []
    line = f"{CURRENT}: leads to {found or 'nothing'}, wanted {target}"
    return [_Missing(f"{CURRENT} does not lead to it", line, f"link:{CURRENT}")]


def _login(evidence: Evidence) -> list[_Missing]:
    file, resource = evidence.profile_d, f"file:{PROFILE_D}"
    if not evidence.context.profile.cuda.profile_d or (file and f"{CURRENT}/bin" in file.text):
        return []
    if file is None:
        line = f"{PROFILE_D}: absent, wanted {CURRENT}/bin in PATH"
        return [_Missing(f"{PROFILE_D} is not there", line, resource)]
    line = f"{PROFILE_D}: does not name {CURRENT}/bin, wanted it in PATH"
    return [_Missing(f"{PROFILE_D} does not put it in PATH", line, resource)]


def _installed(evidence: Evidence) -> bool:
    cuda = evidence.context.profile.cuda
    if cuda.source == "runfile":
        return cuda.version in evidence.context.facts.toolkits.by_runfile
    major, minor = cuda.version.split(".")[:2]
    distribution, known = evidence.context.facts.distribution, evidence.packages or {}
    names = evidence.context.catalog.cuda_packages.get(distribution.manager, ()) if distribution else ()
    wanted = [name.format(major=major, minor=minor) for name in names]
    return bool(wanted) and all(name in known and known[name].installed for name in wanted)


FINDINGS = (
    Known(
        id="profile-d-missing",
        step="cuda",
        severity="warning",
        title="The CUDA toolkit is installed and logins do not find it",
        sees="`nvcc: command not found`, or an nvcc of another version",
        proof="packages or the installer brought the toolkit, and `/etc/profile.d/cuda.sh` is absent or `/usr/local/cuda` leads elsewhere",
        cause="CUDA {version} is installed, but {missing}.",
        mend=("gpunode apply --step cuda",),
        look=_profile_d,
        explains=("file:/etc/profile.d/cuda.sh", "link:/usr/local/cuda"),
        patterns=(r"nvcc: (?:command )?not found",),
    ),
)
