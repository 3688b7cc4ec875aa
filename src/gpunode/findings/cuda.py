"""The CUDA toolkit: installed, and not found by those who look for it."""

from __future__ import annotations

from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.steps.cuda import CURRENT

PROFILE_D = "/etc/profile.d/cuda.sh"


def _profile_d(evidence: Evidence) -> Proof | None:
    cuda = evidence.context.profile.cuda
    if cuda.version == "none" or not _installed(evidence):
        return None
    target = f"{CURRENT}-{cuda.version}"
    lines, missing = [], []
    if cuda.link and evidence.cuda_link != target:
        lines.append(f"{CURRENT}: leads to {evidence.cuda_link or 'nothing'}, wanted {target}")
        missing.append(f"{CURRENT} does not lead to it")
    if cuda.profile_d and evidence.profile_d is None:
        lines.append(f"{PROFILE_D}: absent, wanted {CURRENT}/bin in PATH")
        missing.append(f"{PROFILE_D} is not there")
    elif cuda.profile_d and evidence.profile_d and f"{CURRENT}/bin" not in evidence.profile_d.text:
        lines.append(f"{PROFILE_D}: does not name {CURRENT}/bin")
        missing.append(f"{PROFILE_D} does not put it in PATH")
    if not lines:
        return None
    return Proof(tuple(lines), {"version": cuda.version, "missing": " and ".join(missing)})


def _installed(evidence: Evidence) -> bool:
    major, minor = evidence.context.profile.cuda.version.split(".")[:2]
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
        proof="the toolkit's packages are installed, and `/etc/profile.d/cuda.sh` is absent or `/usr/local/cuda` leads elsewhere",
        cause="CUDA {version} is installed, but {missing}.",
        mend=("gpunode apply --step cuda",),
        look=_profile_d,
        explains=("file:/etc/profile.d/cuda.sh", "link:/usr/local/cuda"),
    ),
)
