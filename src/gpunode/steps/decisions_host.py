"""What the host itself lacks for a driver, or has too much of: release, key, headers, room, and others who manage a driver."""

from __future__ import annotations

from collections.abc import Iterator

from gpunode.steps import decisions
from gpunode.steps.base import Context

MIB = 1 << 20


def refusals(context: Context) -> list[str]:
    """Every reason of the host's own not to begin, one sentence each, with what would help."""
    found = [
        *package_refusals(context),
        *repository_refusals(context),
        *_checksum(context),
        *_others(context),
        *_pinned(context),
    ]
    if not _is_done(context):
        found += [*_headers(context), *_room(context)]
    return found


def package_refusals(context: Context) -> list[str]:
    """Why packages cannot be installed here."""
    refused = context.facts.packages_refusal
    return [refused] if refused else []


def repository_refusals(context: Context) -> list[str]:
    """Why NVIDIA's repository cannot be used here: no release that the catalogue knows, or a key that nobody pinned."""
    facts, found = context.facts, context.facts.distribution
    if found is None or context.profile.driver.source in ("runfile", "preinstalled"):
        return []
    if not decisions.release(context):
        reason = (
            f"{facts.os_name} is no release of {found.name} that gpunode knows ({', '.join(found.versions)}), so its repository is "
            'not known either: add it in /etc/gpunode/catalog.d, or choose driver.source = "runfile"'
        )
        return [reason]
    return unpinned_key(context) if context.profile.driver.source == "nvidia" else []


def unpinned_key(context: Context) -> list[str]:
    """Refused where the repository is signed by a key whose fingerprint is known neither to the catalogue nor to the profile."""
    found, mirror = decisions.distribution(context), context.profile.repositories.cuda
    entry = context.catalog.repositories.get(f"cuda-{found.manager}") if found else None
    if found is None or entry is None or mirror.fingerprints:
        return []
    slug = found.slug_of(decisions.release(context))
    if slug not in entry.unpinned:
        return []
    key = entry.key_paths.get(slug, entry.key_path).rpartition("/")[2]
    reason = (
        f"NVIDIA's repository {slug} is signed by the key {key}, whose fingerprint gpunode does not know: compare it with NVIDIA's "
        "installation guide and give it in the profile, repositories.cuda.fingerprints"
    )
    return [reason]


def notes(context: Context) -> list[str]:
    """What a person should know of this host though it stops nothing."""
    return [*_derivative(context), *_catalogue(context), *_kernel_updates(context), *_store(context)]


def _is_done(context: Context) -> bool:
    """True when the driver wanted runs: nothing is built then."""
    running, wanted = context.facts.driver, decisions.wanted_version(context)
    return running is not None and (running.version == wanted or running.version.startswith(f"{wanted}."))


def _checksum(context: Context) -> Iterator[str]:
    """The installer is run as root: only with a checksum."""
    driver, facts = context.profile.driver, context.facts
    version = decisions.driver_version(context)
    if driver.source == "runfile" and version and not decisions.runfile_sha256(context):
        yield (
            f"no checksum is known of NVIDIA-Linux-{facts.architecture}-{version}.run: give it in the profile, driver.runfile.sha256"
        )


def _others(context: Context) -> Iterator[str]:
    """Others who manage a driver on this host, where the source is in their way."""
    source, found = (
        decisions.archive(context),
        {each.name: each.evidence for each in decisions.driver_facts(context).managers},
    )
    for known in context.catalog.managers.values():
        evidence = found.get(known.name, "")
        if known.name == "runfile" and context.facts.runfile_driver:
            evidence = context.catalog.runfile.uninstaller[0]
        if evidence and source in known.against:
            yield f"{known.title} is here already ({evidence}): {known.advice}"


def _pinned(context: Context) -> Iterator[str]:
    """NVIDIA's own pin at another branch or version would win against this one, or forbid it."""
    wanted, known = decisions.wanted_version(context), decisions.packages_of(context)
    for pin in decisions.driver_facts(context).pinned:
        if known and known.pinning and not f"{wanted}.".startswith(f"{pin}."):
            name = known.pinning.format(version=pin)
            yield f'{name} is installed and keeps the driver at {pin}, wanted {wanted}: remove it, or choose driver.branch = "{pin[:3]}"'


def _headers(context: Context) -> Iterator[str]:
    facts, around, found = context.facts, decisions.driver_facts(context), decisions.distribution(context)
    if facts.headers or found is None or decisions.build(context).value != "dkms":
        return
    kernels = [kernel for kernel in around.kernels if kernel != facts.kernel]
    help_ = (
        f"boot {kernels[-1]}, which has them"
        if kernels
        else "boot a kernel of the archive, or install the headers by hand"
    )
    if not found.headers_of(facts.kernel):
        yield f"the kernel {facts.kernel} is not one of {found.name}'s, and has no headers in /lib/modules/{facts.kernel}/build: {help_}"
    elif (
        around.headers_offered is False and context.profile.driver.source != "local"
    ):  # a bundle is no archive of the host's
        names = ", ".join(name for name, _ in found.headers_of(facts.kernel))
        yield f"the running kernel {facts.kernel} has no headers here, and the archive has none for it ({names}): {help_}"


def _room(context: Context) -> Iterator[str]:
    known, around = context.catalog.build, decisions.driver_facts(context)
    # Of the root file system the engine itself asks more than this.
    free, boot = (
        found if (found := around.free.get(path)) != context.facts.free else None for path in (known.path, "/boot")
    )
    if decisions.build(context).value == "dkms" and free is not None and free < known.mib * MIB:
        yield f"{free // MIB} MiB are free below {known.path}, and building the modules takes {known.mib}: free some space first"
    needed = around.initramfs // MIB + known.boot_margin_mib
    if context.profile.driver.blacklist_nouveau and around.initramfs and boot is not None and boot < needed * MIB:
        yield f"{boot // MIB} MiB are free in /boot, and a new initramfs takes {needed}: remove an old kernel first"


def _derivative(context: Context) -> Iterator[str]:
    facts, found, release = context.facts, context.facts.distribution, decisions.release(context)
    if found and facts.os_id not in found.ids:
        yield f"{facts.os_name} is not in the catalogue: by its ID_LIKE it is treated as {found.name} {release}".rstrip()


def _catalogue(context: Context) -> Iterator[str]:
    driver, found = context.profile.driver, context.facts.distribution
    for note in context.catalog.notes:
        if found and note.concerns(driver.source, found.name, decisions.release(context), driver.branch):
            yield note.text


def _store(context: Context) -> Iterator[str]:
    found, bundle = context.facts.distribution, context.profile.network.ca_bundle
    if found and found.manager == "zypper" and bundle:
        yield f"zypper trusts the CAs of the system's store alone: {bundle} must be in it too (in /etc/pki/trust/anchors)"


def _kernel_updates(context: Context) -> Iterator[str]:
    if decisions.build(context).value == "precompiled":
        yield (
            f"the modules are those of the kernel {context.facts.kernel}: a newer kernel needs its own package of them before it is booted"
        )
