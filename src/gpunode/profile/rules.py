"""What two keys of a profile owe each other. Each rule's first line is its sentence in the documentation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gpunode.catalog.mig import mig_resources
from gpunode.profile.text import one_of, quoted

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile, Sharing

Path = tuple[str, ...]
GPU = "nvidia.com/gpu"
DEFAULT_CONFIG = "default"
"""The device plugin's configuration of nodes that ask for none."""


@dataclass(frozen=True)
class Violation:
    """A broken rule: the key to change, why, and the other keys the rule looked at."""

    path: Path
    reason: str
    others: tuple[Path, ...]


def version_is_of_branch(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.version` belongs to `driver.branch`: it starts with the branch and a dot."""
    driver = profile.driver
    if driver.version is not None and not driver.version.startswith(f"{driver.branch}."):
        reason = (
            f"{quoted(driver.version)} is not of driver.branch {quoted(driver.branch)}: "
            f"give a {driver.branch} version, or set driver.branch to {quoted(driver.version.split('.')[0])}"
        )
        yield Violation(("driver", "version"), reason, (("driver", "branch"),))


def runfile_keys_need_runfile_source(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.runfile` is used only where `driver.source` is `"runfile"`, `cuda.runfile` only where `cuda.source` is."""
    for name, table in (("driver", profile.driver), ("cuda", profile.cuda)):
        if table.source == "runfile":
            continue
        for key in ("url", "path", "sha256"):
            if getattr(table.runfile, key) is not None:
                reason = (
                    f"has no effect while {name}.source is {quoted(table.source)}: "
                    'set it to "runfile", or leave this key out'
                )
                yield Violation((name, "runfile", key), reason, ((name, "source"),))


def runfile_has_one_origin(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.runfile` and `cuda.runfile` name a `url` or a `path`, not both."""
    for name, runfile in (("driver", profile.driver.runfile), ("cuda", profile.cuda.runfile)):
        if runfile.url is not None and runfile.path is not None:
            reason = f"{name}.runfile.url is given too: keep one of the two"
            yield Violation((name, "runfile", "path"), reason, ((name, "runfile", "url"),))


def own_runfile_names_its_version(profile: "HostProfile") -> Iterator[Violation]:
    """A runfile of your own (`driver.runfile.url` or `.path`) needs `driver.version`: the version it holds."""
    runfile = profile.driver.runfile
    own = [key for key in ("url", "path", "sha256") if getattr(runfile, key) is not None]
    if profile.driver.source == "runfile" and own and profile.driver.version is None:
        others = (*(("driver", "runfile", key) for key in own), ("driver", "source"))
        yield Violation(
            ("driver", "version"), f"is needed beside driver.runfile.{own[0]}: give the file's version", others
        )


def own_key_is_pinned(profile: "HostProfile") -> Iterator[Violation]:
    """A repository's own `key_url` needs `fingerprints`: a key that is fetched is never trusted by its address."""
    for name in ("cuda", "container_toolkit"):
        repository = getattr(profile.repositories, name)
        if repository.key_url is not None and not repository.fingerprints:
            path = ("repositories", name, "fingerprints")
            reason = "is needed beside key_url: give the 40 hexadecimal digits of each key the file may hold"
            yield Violation(path, reason, (("repositories", name, "key_url"),))


def runfile_mirror_has_no_key(profile: "HostProfile") -> Iterator[Violation]:
    """`repositories.runfile` takes a `url` only: a runfile carries no signature, its sum is `driver.runfile.sha256`."""
    mirror = profile.repositories.runfile
    for key in ("key_url", "fingerprints"):
        if getattr(mirror, key):
            reason = "has no meaning for runfiles, which are not signed: pin the file by driver.runfile.sha256"
            yield Violation(("repositories", "runfile", key), reason, ())


def local_source_needs_a_bundle(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.source = "local"` needs `bundle.path`, and `bundle.fingerprints` or `bundle.sha256`."""
    bundle, source = profile.bundle, (("driver", "source"),)
    if profile.driver.source != "local":
        return
    if bundle.path is None:
        yield Violation(
            ("bundle", "path"), 'is needed while driver.source is "local": give the bundle\'s path on the host', source
        )
    if not bundle.fingerprints and bundle.sha256 is None:
        reason = "is needed: give the fingerprint of the key that signs your bundles, or bundle.sha256 of one that is not signed"
        yield Violation(("bundle", "fingerprints"), reason, (*source, ("bundle", "sha256")))


def bundle_needs_local_source(profile: "HostProfile") -> Iterator[Violation]:
    """`bundle` is used only where `driver.source` is `"local"`."""
    source = profile.driver.source
    for key in ("path", "fingerprints", "sha256"):
        if source != "local" and getattr(profile.bundle, key):
            reason = f'has no effect while driver.source is {quoted(source)}: set it to "local", or leave this key out'
            yield Violation(("bundle", key), reason, (("driver", "source"),))


def no_cluster_no_plugin(profile: "HostProfile") -> Iterator[Violation]:
    """Without Kubernetes (`kubernetes.flavour = "none"`) `device_plugin.mode` is `"none"`."""
    if profile.kubernetes.flavour == "none" and profile.device_plugin.mode != "none":
        reason = 'needs a cluster, and kubernetes.flavour is "none": set it to "none"'
        yield Violation(("device_plugin", "mode"), reason, (("kubernetes", "flavour"),))


def no_cluster_no_pod(profile: "HostProfile") -> Iterator[Violation]:
    """Without Kubernetes (`kubernetes.flavour = "none"`) `verify.level` is `"host"` or `"container"`."""
    if profile.kubernetes.flavour == "none" and profile.verify.level == "kubernetes":
        reason = 'needs a cluster, and kubernetes.flavour is "none": set it to "host" or "container"'
        yield Violation(("verify", "level"), reason, (("kubernetes", "flavour"),))


def _sharings(profile: "HostProfile") -> Iterator[tuple[Path, "Sharing"]]:
    """Every configuration of the device plugin, with its table's path."""
    yield ("device_plugin", "sharing"), profile.device_plugin.sharing
    for name, sharing in profile.device_plugin.configs.items():
        yield ("device_plugin", "configs", name), sharing


def sharing_says_what_is_shared(profile: "HostProfile") -> Iterator[Violation]:
    """A sharing `strategy` needs `replicas`, and `replicas` a strategy."""
    for path, sharing in _sharings(profile):
        if sharing.strategy != "none" and not sharing.replicas:
            reason = f'is needed beside strategy {quoted(sharing.strategy)}: for example {{ "{GPU}" = 4 }}'
            yield Violation((*path, "replicas"), reason, ((*path, "strategy"),))
        if sharing.strategy == "none" and sharing.replicas:
            reason = 'shares nothing while strategy is "none": set it to "time-slicing" or "mps"'
            yield Violation((*path, "replicas"), reason, ((*path, "strategy"),))


def shared_resources_exist(profile: "HostProfile") -> Iterator[Violation]:
    """`replicas` names `nvidia.com/gpu`, or a MIG profile that some GPU has, as `nvidia.com/mig-1g.10gb`."""
    for path, sharing in _sharings(profile):
        for name in sharing.replicas:
            if name != GPU and name not in mig_resources():
                near = get_close_matches(name, [GPU, *mig_resources()], n=1)
                meant = f': did you mean "{near[0]}"?' if near else f': give "{GPU}", or the name of a MIG profile'
                yield Violation((*path, "replicas", name), f"no GPU is offered under this name{meant}", ())


def shared_instances_are_offered(profile: "HostProfile") -> Iterator[Violation]:
    """`replicas` of a MIG profile need `mig = "mixed"`: only then are instances offered by their profiles."""
    for path, sharing in _sharings(profile):
        for name in sharing.replicas:
            if name in mig_resources() and sharing.mig != "mixed":
                reason = f'is not offered while mig is {quoted(sharing.mig)}: set mig to "mixed", or share "{GPU}"'
                yield Violation((*path, "replicas", name), reason, ((*path, "mig"),))


def mps_shares_whole_gpus(profile: "HostProfile") -> Iterator[Violation]:
    """`strategy = "mps"` goes with `mig = "none"`: the plugin does not share instances of MIG by MPS."""
    for path, sharing in _sharings(profile):
        if sharing.strategy == "mps" and sharing.mig != "none":
            reason = 'does not go with MIG, whose instances the plugin cannot share by MPS: take "time-slicing"'
            yield Violation((*path, "strategy"), reason, ((*path, "mig"),))


def static_pod_has_one_configuration(profile: "HostProfile") -> Iterator[Violation]:
    """`mode = "static-pod"` goes with neither `configs` nor MPS: both need objects of the cluster."""
    plugin = profile.device_plugin
    if plugin.mode != "static-pod":
        return
    if plugin.configs:
        reason = (
            'needs the cluster to tell a node\'s label, and mode is "static-pod": say it in [device_plugin.sharing]'
        )
        yield Violation(("device_plugin", "configs"), reason, (("device_plugin", "mode"),))
    if plugin.sharing.strategy == "mps":
        reason = 'needs a DaemonSet of its own, and mode is "static-pod": take "time-slicing", or mode "daemonset"'
        yield Violation(("device_plugin", "sharing", "strategy"), reason, (("device_plugin", "mode"),))


def config_is_one_of_them(profile: "HostProfile") -> Iterator[Violation]:
    """`device_plugin.config` is one of `device_plugin.configs`, of which none is called `default`: that is `sharing`."""
    plugin = profile.device_plugin
    if DEFAULT_CONFIG in plugin.configs:
        reason = "is the name of [device_plugin.sharing]: call this one otherwise"
        yield Violation(("device_plugin", "configs", DEFAULT_CONFIG), reason, ())
    if plugin.config is not None and plugin.config not in plugin.configs:
        known = one_of(tuple(plugin.configs)) if plugin.configs else "a table [device_plugin.configs.NAME] first"
        reason = f"{quoted(plugin.config)} is no configuration: give {known}, or leave it out"
        yield Violation(("device_plugin", "config"), reason, (("device_plugin", "configs"),))


RULES: tuple[Callable[["HostProfile"], Iterator[Violation]], ...] = (
    version_is_of_branch,
    runfile_keys_need_runfile_source,
    runfile_has_one_origin,
    own_runfile_names_its_version,
    own_key_is_pinned,
    runfile_mirror_has_no_key,
    local_source_needs_a_bundle,
    bundle_needs_local_source,
    no_cluster_no_plugin,
    no_cluster_no_pod,
    sharing_says_what_is_shared,
    shared_resources_exist,
    shared_instances_are_offered,
    mps_shares_whole_gpus,
    static_pod_has_one_configuration,
    config_is_one_of_them,
)
