"""The containerd of k3s, RKE2, MicroK8s and k0s on booted hosts: seen, given the nvidia runtime in each one's own way, and given back.

The containerd is real; what each product does around it is emulated (gpunode/lab/flavours.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tomllib

from gpunode.lab.flavours import FLAVOURS, Flavour, create_flavour
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from lab.commands import gpunode, restart
from lab.cri import put
from lab.engine_kinds import IMAGE, RUNTIME, SLEEP, sleeper, traced

# The driver came with the host: what is tried here stands on it and is no part of it.
PROFILE = """\
[driver]
source = "preinstalled"
[device_plugin]
mode = "none"
[verify]
level = "host"
"""
WITH_DEFAULT = f"{PROFILE}[containerd]\ndefault_runtime = true\n"
DRIVER = "580.126.20"
STEPS = ("--step=container_toolkit", "--step=containerd")
APPLY = ("apply", "--yes", *STEPS)
MICROK8S = "/var/snap/microk8s/current/args/containerd-template.toml"
STATE = (
    "find /etc /usr /var/lib/gpunode /var/lib/rancher /var/lib/k0s /var/snap /run/k0s/containerd-cri.toml -xdev -type f"
    " ! -path /var/lib/gpunode/lock -printf '%p %T@ %s\\n' 2> /dev/null | sort"
)


@dataclass(frozen=True)
class Case:
    """What is particular about a flavour.

    `resource` is what gpunode holds there, `restarts` the units that its plan names. `own` is a file that its operators write, and
    `change` what they have made of its content, which turns the log level to "warn"; gpunode's edit goes into that very file where it is
    `edited`. `wrong` is a file with which it cannot be done, and the words by which that is told.
    """

    resource: str
    restarts: list[str]
    own: str
    change: Callable[[str], str]
    edited: bool
    wrong: tuple[str, str, str]


def rancher(name: str, unit: str, template: str) -> Case:
    """k3s's or RKE2's: both write the configuration by themselves, from a template where there is one."""
    folder = f"/var/lib/rancher/{name}/agent/etc/containerd"
    path = f"{folder}/{template}"
    with_base = '{{ template "base" . }}\n# of the site\n[debug]\n  level = "warn"\n'
    version = 3 if "v3" in template else 2
    without_base = (
        f'version = {version}\nroot = "/var/lib/rancher/{name}/agent/containerd"\nstate = "/run/k3s/containerd"\n'
        '[grpc]\n  address = "/run/k3s/containerd/containerd.sock"\n'
    )
    return Case(f"generated:{folder}/config.toml", [unit], path, lambda _: with_base, False, (path, without_base, path))


def k0s(version: int, unread: int) -> Case:
    """k0s's, by the version of its files, and one that its containerd does not read."""
    main = "/etc/k0s/containerd.toml"
    ours = f'# ours, since the summer\nversion = {version}\n[debug]\n  level = "warn"\n'
    drop_in = "/etc/k0s/containerd.d/10-site.toml"
    wrong = (drop_in, f"version = {unread}\n", f"{drop_in}: config version {unread} is not read")
    return Case(f"toml:{main}", [], main, lambda _: ours, True, wrong)


CASES = {
    "k3s": rancher("k3s", "k3s.service", "config-v3.toml.tmpl"),
    "rke2": rancher("rke2", "rke2-server.service", "config.toml.tmpl"),
    "microk8s": Case(
        f"toml:{MICROK8S}",
        ["snap.microk8s.daemon-containerd.service"],
        MICROK8S,
        lambda text: text.replace('level = ""', 'level = "warn" # of the site'),
        True,
        (MICROK8S, "version = 2\n[plugins\n", f"{MICROK8S}: line 2"),
    ),
    "k0s-1.7": k0s(2, 3),
    "k0s-2.1": k0s(3, 4),
}


@dataclass
class Node:
    """A host on which gpunode's plan was made and applied."""

    name: str
    flavour: Flavour
    case: Case
    host: LabHost
    before: Snapshot
    pid: str
    planned: dict[str, Any]
    applied: dict[str, Any]

    def ctr(self, *words: str) -> str:
        """What the flavour's own client prints."""
        return self.host.run(*self.flavour.ctr, *words).stdout

    def pids(self) -> dict[str, str]:
        """The pids of the containers that run, by name."""
        return pids(self.host, self.flavour)

    def dump(self) -> dict[str, Any]:
        """What the daemon makes of the files that it reads."""
        program = f"/{self.flavour.programs}/containerd"
        return tomllib.loads(self.host.run(program, "--config", self.flavour.config, "config", "dump").stdout)

    def effective(self) -> dict[str, Any]:
        """CRI's table `containerd` in that: runtimes and default."""
        plugins = self.dump()["plugins"]
        sections = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")
        found = (plugins.get(name, {}).get("containerd") for name in sections)
        return next(table for table in found if table)

    def read(self, path: str) -> str | None:
        """A file's content; None where there is none."""
        done = self.host.run("cat", path, check=False)
        return done.stdout if done.returncode == 0 else None

    def access(self, path: str) -> str:
        """Who may do what with a file."""
        return self.host.run("stat", "--format=%a %u:%g", path).stdout

    def put_back(self, path: str, content: str | None) -> None:
        """Have the file with this content, its mode and owner as they are, or not have it."""
        if content is None:
            self.host.run("rm", "--force", path)
        else:
            self.host.run("tee", path, input=content)

    def restart(self) -> None:
        """As its operators do after an edit of their own."""
        restart(self.host, self.flavour.unit)
        wait_for(self.host, self.flavour)

    def roll_back(self) -> None:
        """The last run, with nothing left."""
        undone = gpunode(self.host, "rollback", "--yes")
        assert (undone["result"], undone["left"]) == ("undone", [])
        if self.case.restarts:  # k0s's containerd was waited for
            wait_for(self.host, self.flavour)


@pytest.fixture(scope="module", params=CASES)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    name: str = request.param
    flavour = FLAVOURS[name]
    with create_flavour(f"fl-{name.replace('.', '-')}", name, driver=DRIVER) as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        wait_for(host, flavour)
        put(host, "/run/image.tar", sleeper(tmp_path_factory.mktemp("images")))
        host.run(*flavour.ctr, "images", "import", "/run/image.tar")
        host.run(*flavour.ctr, "run", "--detach", IMAGE, "before")
        before, pid = Snapshot.take(host), pids(host, flavour)["before"]
        planned = gpunode(host, "plan", *STEPS, exits=3)
        yield Node(name, flavour, CASES[name], host, before, pid, planned, gpunode(host, *APPLY))


def wait_for(host: LabHost, flavour: Flavour) -> None:
    """Until the flavour's containerd answers: k0s's unit is active before that."""
    client = " ".join(flavour.ctr)
    host.shell(f"timeout 30 sh -c 'until {client} --connect-timeout 1s version; do sleep 0.2; done'")


def pids(host: LabHost, flavour: Flavour) -> dict[str, str]:
    rows = [line.split() for line in host.run(*flavour.ctr, "tasks", "ls").stdout.splitlines()[1:]]
    return {name: pid for name, pid, state in rows if state == "RUNNING"}


def containerd_step(document: dict[str, Any]) -> dict[str, Any]:
    [step] = [step for step in document["steps"] if step["name"] == "containerd"]
    found: dict[str, Any] = step
    return found


def test_the_flavour_is_seen_on_the_host(node: Node) -> None:
    assert node.host.run("sh", "-c", "command -v containerd", check=False).returncode != 0
    step = containerd_step(node.planned)
    assert {each["resource"] for each in step["differences"]} == {node.case.resource}
    assert step["restarts"] == node.case.restarts


def test_containers_run_on(node: Node) -> None:
    assert node.applied["result"] == "changed"
    assert node.pids() == {"before": node.pid}


def test_the_daemon_has_the_runtime_beside_its_own(node: Node) -> None:
    effective = node.effective()
    assert effective["runtimes"]["runc"]["runtime_type"] == "io.containerd.runc.v2"
    assert effective["runtimes"]["nvidia"]["options"]["BinaryName"] == RUNTIME
    assert effective["default_runtime_name"] == "runc"
    states = [line.split()[-1] for line in node.ctr("plugins", "ls").splitlines() if "cri" in line.split()[:2]]
    assert states == ["ok"]


def test_a_container_by_the_runtime_in_effect_leaves_its_trace(node: Node) -> None:
    entry = node.effective()["runtimes"]["nvidia"]
    runtime = (f"--runtime={entry['runtime_type']}", f"--runc-binary={entry['options']['BinaryName']}")
    node.ctr("run", "--rm", *runtime, IMAGE, "by-runtime", SLEEP[0], "0")
    node.ctr("run", "--rm", IMAGE, "by-runc", SLEEP[0], "0")
    assert traced(node.host, "by-runtime")
    assert not traced(node.host, "by-runc")


def test_a_second_apply_changes_nothing(node: Node) -> None:
    before = node.host.shell(STATE).stdout
    again = gpunode(node.host, *APPLY)
    assert (again["result"], again["run"]) == ("in-sync", None)
    assert node.host.shell(STATE).stdout == before


def test_a_restart_of_the_unit_leaves_it_in_sync(node: Node) -> None:
    node.restart()
    assert gpunode(node.host, *APPLY)["result"] == "in-sync"


def test_rollback_leaves_the_host_as_it_was_and_containers_run_on(node: Node) -> None:
    node.roll_back()
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    assert not changes, report(changes)
    assert "nvidia" not in node.effective()["runtimes"]
    assert node.pids() == {"before": node.pid}


def test_what_operators_have_written_counts_and_stays(node: Node) -> None:
    """Their template or the main file that they have taken over, edited by them before and after gpunode; nvidia as the default."""
    path = node.case.own
    original = node.read(path)
    ours = node.case.change(original or "")
    node.put_back(path, ours)
    node.restart()
    node.host.write("/etc/gpunode/profile.toml", WITH_DEFAULT)
    access = node.access(path)

    assert gpunode(node.host, *APPLY)["result"] == "changed"

    wait_for(node.host, node.flavour)
    assert "nvidia" in node.effective()["runtimes"]
    assert node.effective()["default_runtime_name"] == "nvidia"
    assert node.dump()["debug"]["level"] == "warn"
    assert (node.read(path) != ours) is node.case.edited
    assert node.access(path) == access
    assert gpunode(node.host, *APPLY)["result"] == "in-sync"

    node.host.run("tee", "--append", path, input="# later\n")
    node.roll_back()

    assert node.read(path) == f"{ours}# later\n"
    assert node.effective()["default_runtime_name"] == "runc"
    assert "nvidia" not in node.effective()["runtimes"]
    assert node.pids() == {"before": node.pid}

    node.put_back(path, original)
    node.restart()
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    assert [change.name for change in changes] == ["/etc/gpunode/profile.toml"], report(changes)


def test_a_file_with_which_it_cannot_be_done_is_named_and_left_alone(node: Node) -> None:
    path, content, words = node.case.wrong
    original = node.read(path)
    node.put_back(path, content)

    failed = gpunode(node.host, *APPLY, exits=1)

    assert words in f"{failed['error']} {failed['hint']}"
    assert node.read(path) == content
    assert node.pids() == {"before": node.pid}

    node.put_back(path, original)
    node.restart()
    assert node.pids() == {"before": node.pid}


def test_a_drop_in_that_k0s_would_not_start_with_is_mended(node: Node) -> None:
    """From 1.36 on k0s looks at the drop-ins before it starts; until then its containerd runs on with them."""
    if node.name != "k0s-2.1":
        pytest.skip("only k0s from 1.36 on looks at its files before it starts")
    path, content = "/etc/k0s/containerd.d/10-old.toml", 'version = 2\n[debug]\n  level = "warn"\n'
    node.put_back(path, content)

    assert gpunode(node.host, *APPLY)["result"] == "changed"

    assert node.read(path) == content.replace("2", "3")
    node.restart()
    assert node.dump()["debug"]["level"] == "warn"

    node.roll_back()
    assert node.read(path) == content
    restart(node.host, node.flavour.unit)
    node.host.shell(f"for i in $(seq 50); do systemctl is-active --quiet {node.flavour.unit} || break; sleep 0.1; done")
    assert f"{path}: version: expected 3, got 2" in node.host.journal(node.flavour.unit)
