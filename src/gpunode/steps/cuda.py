"""The CUDA toolkit: its packages (never the `cuda` metapackage, which pulls a driver in), and where shells and the loader find it."""

from __future__ import annotations

from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.files import File, Link
from gpunode.resources.packages import Packages
from gpunode.steps import decisions
from gpunode.steps.base import Context, Step
from gpunode.steps.repositories import repository

CURRENT = "/usr/local/cuda"


def resources(context: Context) -> list[Resource]:
    """Repository, packages, link, profile.d, loader."""
    cuda, distribution = context.profile.cuda, context.facts.distribution
    if cuda.version == "none" or distribution is None:
        return []
    major, minor = cuda.version.split(".")[:2]
    names = context.catalog.cuda_packages.get(distribution.manager, ())
    specs = tuple(Spec(name.format(major=major, minor=minor)) for name in names)
    found = [
        *repository(context, "cuda", why="NVIDIA's own packages"),
        Packages("CUDA toolkit", distribution.manager, specs, f"CUDA {cuda.version}, the toolkit alone"),
    ]
    if cuda.link:
        found.append(Link(CURRENT, f"{CURRENT}-{cuda.version}", f"{CURRENT} is where makefiles look"))
    if cuda.profile_d:
        text = f'# CUDA for every login shell.\nexport PATH="{CURRENT}/bin${{PATH:+:${{PATH}}}}"\n'
        found.append(File("/etc/profile.d/cuda.sh", text, "without it: `nvcc: command not found`"))
    if cuda.ld_so_conf:
        text = f"# CUDA's libraries for the loader.\n{CURRENT}/lib64\n"
        found.append(
            File(
                "/etc/ld.so.conf.d/gpunode-cuda.conf",
                text,
                "the loader finds CUDA's libraries",
                refreshes=("loader-cache",),
            )
        )
    return found


def skipped(context: Context) -> str:
    """A pure worker needs none."""
    return "the profile asks for none: containers carry their own" if context.profile.cuda.version == "none" else ""


STEP = Step("cuda", "CUDA toolkit", resources, after=("driver",), refusals=decisions.cuda_refusals, skipped=skipped)
