"""What makes a Debian root a host of the RPM family: Debian's own packages of the managers, another name, another source of packages."""

import re
from pathlib import Path

from gpunode.lab import layers, mirror
from gpunode.lab.machine import run_in

TOOLS = (
    "dnf",
    "dnf-plugins-core",
    "zypper",
    "rpm",
    "createrepo-c",
    "python3-systemd",
    "gpg",
    "gpg-agent",
    "gcc",
    "libc6-dev",
)
# dnf 5 is not in Debian's release yet: it comes, with rpm 6 and the C library that it needs, from the next one.
DNF5_SUITE, DNF5_TOOLS = "forky", ("dnf5", "rpm", "gpg", "gcc", "libc6-dev")

OS_RELEASE = {
    "dnf": 'NAME="Lab Enterprise Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPLATFORM_ID="platform:el9"\n'
    'PRETTY_NAME="Lab Enterprise Linux 9.4 (on a Debian root)"\n',
    "dnf5": 'NAME="Lab Fedora"\nID="fedora"\nVERSION_ID="42"\nPLATFORM_ID="platform:f42"\n'
    'PRETTY_NAME="Lab Fedora 42 (on a Debian root)"\n',
    "zypper": 'NAME="Lab Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n'
    'PRETTY_NAME="Lab Leap 15.6 (on a Debian root)"\n',
}
SOURCE = "[base]\nname=The distribution's own\nbaseurl=file:///{tree}/distribution\nenabled=1\ngpgcheck=0\n"
SOURCES = {
    "dnf": "etc/yum.repos.d/base.repo",
    "dnf5": "etc/yum.repos.d/base.repo",
    "zypper": "etc/zypp/repos.d/base.repo",
}
PRODUCT = """\
<?xml version="1.0" encoding="UTF-8"?>
<product schemeversion="0">
  <vendor>openSUSE</vendor>
  <name>Leap</name>
  <version>15.6</version>
  <release>1</release>
  <arch>x86_64</arch>
  <summary>Lab Leap</summary>
</product>
"""


def tools(base: Path, manager: str) -> Path:
    """Return the layer on `base` with this package manager."""
    return dnf5_layer(base) if manager == "dnf5" else tool_layer(base)


def tool_layer(base: Path) -> Path:
    """Return the layer on `base` with Debian's packages of dnf, zypper and rpm."""

    def make(root: Path) -> None:
        run_in(root, "apt-get", "--quiet", "--error-on=any", "update")
        run_in(root, "apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *TOOLS)

    return layers.build("rpm-tools", "installing dnf, zypper and rpm (once)", TOOLS, [base], make)


def dnf5_layer(base: Path) -> Path:
    """Return the layer on `base` with Debian's package of dnf 5, under the name that Fedora gives it."""

    def make(root: Path) -> None:
        source = root / "etc/apt/sources.list.d/dnf5.sources"
        own = (root / "etc/apt/sources.list.d/debian.sources").read_text()
        source.write_text(re.sub(r"^Suites: .*$", f"Suites: {DNF5_SUITE}", own, flags=re.MULTILINE))
        run_in(root, "apt-get", "--quiet", "--error-on=any", "update")
        run_in(root, "apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *DNF5_TOOLS)
        (root / "usr/bin/dnf").symlink_to("dnf5")
        source.unlink()
        run_in(root, "apt-get", "--quiet", "--error-on=any", "update")  # the host's own lists, and no others
        run_in(root, "apt-get", "clean")

    inputs = [DNF5_SUITE, DNF5_TOOLS]
    return layers.build("dnf5-tools", "installing dnf 5 (once)", inputs, [base], make)


def lay_system(root: Path, manager: str, release: str) -> None:
    """What makes the root the manager's: its name, its own repository, one package, whose file in there is `release`, that says so."""
    named = root / "etc/os-release"
    named.unlink()
    named.write_text(OS_RELEASE[manager])
    source = root / SOURCES[manager]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(SOURCE.format(tree=mirror.TREE))
    (root / "etc/ld.so.conf.d/lib64.conf").write_text(
        "/usr/lib64\n"
    )  # where the loader of these distributions looks by itself
    if manager == "zypper":
        products = root / "etc/products.d"
        products.mkdir(parents=True)
        (products / "Leap.prod").write_text(PRODUCT)
        (products / "baseproduct").symlink_to("Leap.prod")
    else:
        # It makes a repository of all that is installed, which no distribution's configuration does by default.
        plugins = "libdnf5-plugins" if manager == "dnf5" else "plugins"
        (root / f"etc/dnf/{plugins}/local.conf").write_text("[main]\nenabled = false\n")
    run_in(root, "rpm", "--install", "--nosignature", release)
