"""The CUDA toolkit: its packages (never the `cuda` metapackage, which pulls a driver in) or its installer, and where it is found."""

from __future__ import annotations

from gpunode.catalog.model import Distribution
from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.files import File, Link
from gpunode.resources.packages import Packages
from gpunode.resources.runfile import RunfileInstallation
from gpunode.steps import decisions_cuda, decisions_host, decisions_wishes, local_bundle
from gpunode.steps.base import Context, Step
from gpunode.steps.repositories import repository

CURRENT = "/usr/local/cuda"


def resources(context: Context) -> list[Resource]:
    """What brings the toolkit, link, profile.d, loader."""
    cuda = context.profile.cuda
    if cuda.version == "none" or context.facts.distribution is None:
        return []
    source = {"packages": _packages, "runfile": _runfile}[cuda.source]
    found = source(context, context.facts.distribution)
    if cuda.link:
        found.append(Link(CURRENT, decisions_cuda.toolkit_folder(context), f"{CURRENT} is where makefiles look"))
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


def refusals(context: Context) -> list[str]:
    """A toolkit that the driver or the GPUs do not fit, or a repository that cannot be used."""
    if context.profile.cuda.version == "none":
        return []
    return [
        *decisions_host.package_refusals(context),
        *decisions_wishes.cuda_refusals(context),
        *decisions_cuda.refusals(context),
        *_repository(context),
    ]


def _packages(context: Context, distribution: Distribution) -> list[Resource]:
    major, minor = context.profile.cuda.version.split(".")[:2]
    names = context.catalog.cuda_packages.get(distribution.manager, ())
    specs = tuple(Spec(name.format(major=major, minor=minor)) for name in names)
    why = f"CUDA {context.profile.cuda.version}, the toolkit alone"
    toolkit = Packages("CUDA toolkit", distribution.manager, specs, why, bundle=local_bundle.path(context))
    return [*repository(context, "cuda", why="NVIDIA's own packages"), toolkit]


def _runfile(context: Context, distribution: Distribution) -> list[Resource]:
    version, bundle = context.profile.cuda.version, local_bundle.path(context)
    needed = tuple(Spec(name) for name in context.catalog.cuda_runfile.prerequisites.get(distribution.manager, ()))
    why = "the CUDA installer does not start without it"
    installer = decisions_cuda.installer(context)
    return [
        Packages("CUDA installer", distribution.manager, needed, why, bundle=bundle),
        RunfileInstallation(
            "cuda-runfile", version, installer, decisions_cuda.proof(context), f"CUDA {version}, the toolkit alone"
        ),
    ]


def _repository(context: Context) -> list[str]:
    """Of NVIDIA's repository, where the driver comes from elsewhere: else the driver's step says the same."""
    driver = context.profile.driver.source
    return (
        []
        if driver in ("nvidia", "local") or context.profile.cuda.source == "runfile"
        else decisions_host.repository_refusals(decisions_wishes.with_driver(context, source="nvidia"))
    )


STEP = Step("cuda", "CUDA toolkit", resources, after=("driver",), refusals=refusals, skipped=skipped)
