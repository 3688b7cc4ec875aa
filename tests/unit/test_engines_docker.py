"""Docker, Podman and CRI-O on a host: found, read, proved, made to read their files again; what would stop containers is refused."""

from __future__ import annotations

import json
import shlex

import pytest

from gpunode.catalog import load
from gpunode.errors import CommandError, HostError
from gpunode.formats.engine_config import ConfigError, FileEdit, Request
from gpunode.host.engines.base import ContainerEngine, FoundEngine
from gpunode.host.engines.crio import Crio
from gpunode.host.engines.docker import Docker
from gpunode.host.engines.podman import Podman
from gpunode.host.queries import is_read_only
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from memory import MemoryMachine
from memory.docker import CONFIG, SERVICE, Daemon, install_crio, install_docker, install_podman
from memory.door import apply, roll_back
from memory.files import Node
from memory.hosts import bare_host

PLAIN = load().flavours["plain"]
BINARY = "/usr/bin/nvidia-container-runtime"
DROP_IN = "/etc/crio/crio.conf.d/99-nvidia.toml"


def with_docker(daemon: Daemon | None = None, *, config: str | None = None, **options: str) -> MemoryMachine:
    machine = bare_host()
    if config is not None:
        machine.files.make_folders("/etc/docker")
        machine.files.lay(CONFIG, config)
    install_docker(machine, daemon or Daemon(), **options)
    return machine


def found(engine: ContainerEngine, machine: MemoryMachine) -> FoundEngine:
    there = engine.find(Reader(machine), PLAIN)
    assert there is not None
    return there


def configure(engine: ContainerEngine, machine: MemoryMachine, request: Request) -> str:
    """What the step does: read, edit, prove, write, have it read; returns what proved it, empty where nothing was to be done."""
    there = found(engine, machine)
    told: list[str] = []

    def act(host: Writer) -> None:
        files = engine.read(host, there)
        edited = engine.edit(files, request)
        if edited.files:
            proof = engine.prove(host, there, files, edited)
            told.append(proof.words)
            for each in edited.files:
                host.write_file(each.path, each.after.encode(), style=each.style)
            engine.reload(host, there, timeout=5, loaded=proof.digest)

    apply(machine, act)
    return "".join(told)


# --- Docker ----------------------------------------------------------------------------------------------------------


def test_every_engine_has_the_one_interface() -> None:
    engines: list[ContainerEngine] = [Docker(), Crio(), Podman()]
    assert [each.name for each in engines] == ["docker", "crio", "podman"]


def test_nothing_is_found_on_a_host_without_engines() -> None:
    host = Reader(bare_host())
    assert [each.find(host, PLAIN) for each in (Docker(), Crio(), Podman())] == [None, None, None]


def test_docker_is_found_by_its_unit() -> None:
    there = found(Docker(), with_docker())
    assert (there.version, there.binary, there.unit, there.config) == ("26.1.5", "/usr/sbin/dockerd", SERVICE, CONFIG)
    assert there.config_from == "Docker's default"


def test_the_config_file_of_the_command_line_counts() -> None:
    there = found(Docker(), with_docker(command="/usr/sbin/dockerd --config-file=/etc/dockerd.json -H fd://"))
    assert (there.config, there.config_from) == ("/etc/dockerd.json", f"--config-file in the ExecStart of {SERVICE}")


def test_options_of_the_distributions_file_belong_to_the_command_line() -> None:
    machine = with_docker()
    machine.files.lay(
        "/etc/default/docker", '# options\nDOCKER_OPTS="--config-file /srv/d.json --default-runtime kata"\n'
    )
    there = found(Docker(), machine)
    assert there.config == "/srv/d.json"
    files = Docker().read(Reader(machine), there)
    with pytest.raises(
        ConfigError, match=r"/srv/d\.json: --default-runtime kata is on dockerd's command line in docker\.service"
    ):
        Docker().edit(files, Request("26.1.5", set_default=True))


def test_a_running_docker_takes_the_runtime_without_a_restart() -> None:
    daemon = Daemon(containers=3)
    machine = with_docker(daemon, config='{\n  "debug": true\n}\n')
    daemon.containers = 3
    words = configure(Docker(), machine, Request("26.1.5"))
    assert words == "`dockerd --validate` of 26.1.5; before and after: nothing else changes"
    assert daemon.runtimes["nvidia"] == {"path": BINARY}
    assert daemon.containers == 3
    assert ("systemctl", "reload-or-restart", SERVICE) in machine.commands
    assert not [argv for argv in machine.commands if argv[:2] == ("systemctl", "restart")]
    assert json.loads(machine.files.text(CONFIG)) == {"debug": True, "runtimes": {"nvidia": {"path": BINARY}}}
    before = machine.files.text(CONFIG)
    assert configure(Docker(), machine, Request("26.1.5")) == ""
    assert machine.files.text(CONFIG) == before


def test_the_candidate_is_tried_with_the_daemons_own_options_and_not_on_the_disk() -> None:
    machine = with_docker(command="/usr/sbin/dockerd -H fd:// --config-file /etc/docker/daemon.json --debug")
    configure(Docker(), machine, Request("26.1.5"))
    tried = [argv for argv in machine.commands if "--validate" in argv]
    assert tried == [("/usr/sbin/dockerd", "--validate", "--config-file", CONFIG, "-H", "fd://", "--debug")]


def test_what_docker_refuses_is_not_written() -> None:
    machine = with_docker(config='{"no-such-option": 1}\n')
    with pytest.raises(CommandError, match="no-such-option"):
        configure(Docker(), machine, Request("26.1.5"))
    assert machine.files.text(CONFIG) == '{"no-such-option": 1}\n'


def test_a_docker_that_cannot_validate_is_read_by_gpunode() -> None:
    machine = with_docker(Daemon("20.10.24"))
    words = configure(Docker(), machine, Request("20.10.24"))
    assert words.startswith("read by gpunode, Docker 20.10.24 has no --validate")


def test_a_change_beyond_the_reasons_is_refused() -> None:
    machine = with_docker(config='{"debug": true}\n')
    there, host = found(Docker(), machine), Reader(machine)
    files = Docker().read(host, there)
    edited = Docker().edit(files, Request("26.1.5"))
    change = edited.files[0]
    worse = FileEdit(change.path, change.before, change.after.replace("true", "false"), change.style)
    with pytest.raises(HostError, match="the change would also turn debug from True into False"):
        Docker().prove(host, there, files, type(edited)((worse,), edited.reasons, edited.place))


def test_cdi_takes_a_restart_which_containers_live_through_with_live_restore() -> None:
    daemon = Daemon()
    machine = with_docker(daemon, config='{"live-restore": true}\n')
    daemon.containers = 2
    configure(Docker(), machine, Request("26.1.5", cdi=True))
    assert (daemon.cdi, daemon.containers) == (True, 2)
    assert ("systemctl", "restart", SERVICE) in machine.commands


def test_cdi_is_refused_where_it_would_stop_containers() -> None:
    daemon = Daemon()
    machine = with_docker(daemon, config="{}\n")
    daemon.containers = 2
    with pytest.raises(HostError, match="a restart would stop its 2 running containers") as refusal:
        configure(Docker(), machine, Request("26.1.5", cdi=True))
    assert '"live-restore": true' in refusal.value.hint
    assert machine.files.text(CONFIG) == "{}\n"
    daemon.containers = 0
    configure(Docker(), machine, Request("26.1.5", cdi=True))
    assert daemon.cdi


def test_cdi_of_today_needs_nothing() -> None:
    daemon = Daemon("28.5.2")
    machine = with_docker(daemon, config="{}\n")
    daemon.containers = 2
    configure(Docker(), machine, Request("28.5.2", cdi=True))
    assert daemon.containers == 2
    assert "features" not in json.loads(machine.files.text(CONFIG))


def test_a_daemon_that_does_not_take_the_change_is_told_with_its_log() -> None:
    daemon = Daemon(deaf=True)
    machine = with_docker(daemon)
    machine.units[SERVICE].log.append("Error reconfiguring the daemon")
    with pytest.raises(CommandError, match=r"does not have runtimes\.nvidia") as error:
        configure(Docker(), machine, Request("26.1.5"))
    assert "Error reconfiguring the daemon" in error.value.details


def test_a_daemon_is_stale_by_what_it_says_of_itself() -> None:
    machine = with_docker()
    there, engine = found(Docker(), machine), Docker()

    def stale() -> str:
        host = Reader(machine)
        return engine.stale(host, there, engine.read(host, there))

    assert stale() == ""
    machine.files.lay(
        CONFIG, '{"runtimes": {"nvidia": {"path": "/n"}}, "default-runtime": "nvidia", "features": {"cdi": true}}'
    )
    assert stale() == f"does not have runtimes.nvidia, default-runtime, features.cdi of {CONFIG}"
    machine.run(["systemctl", "reload-or-restart", SERVICE])
    assert stale() == f"does not have features.cdi of {CONFIG}"
    machine.run(["systemctl", "restart", SERVICE])
    assert stale() == ""
    machine.run(["systemctl", "stop", SERVICE])
    machine.files.lay(CONFIG, "{}")
    assert stale() == ""


def test_nothing_is_known_of_a_daemon_that_cannot_be_asked() -> None:
    machine = with_docker()
    there = found(Docker(), machine)
    assert (Docker().loaded(Reader(machine), there) or {})["DefaultRuntime"] == "runc"
    machine.hangs.add("docker")
    assert Docker().loaded(Reader(machine), there) is None
    machine.hangs.clear()
    machine.files.remove("/usr/bin/docker")
    assert Docker().loaded(Reader(machine), there) is None


def test_rollback_takes_the_runtime_out_and_leaves_an_edit_made_since() -> None:
    machine = with_docker(config='{\n  "debug": true,\n  "runtimes": {\n    "kata": {"path": "/k"}\n  }\n}\n')
    configure(Docker(), machine, Request("26.1.5", set_default=True))
    machine.files.lay(CONFIG, machine.files.text(CONFIG).replace('"debug": true', '"debug": false'))
    roll_back(machine)
    assert machine.files.text(CONFIG) == '{\n  "debug": false,\n  "runtimes": {\n    "kata": {"path": "/k"}\n  }\n}\n'


def test_a_file_that_gpunode_made_goes_away() -> None:
    machine = with_docker()
    configure(Docker(), machine, Request("26.1.5"))
    roll_back(machine)
    assert not machine.files.exists(CONFIG)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x" * (2 << 20), "2.0 MiB is no configuration of Docker's"),
        ("{\n \udcff}", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_one_is_named(content: str, words: str) -> None:
    machine = with_docker()
    machine.files.put(CONFIG, Node("file", content.encode(errors="surrogateescape")))
    with pytest.raises(HostError, match=words):
        Docker().read(Reader(machine), found(Docker(), machine))


def test_bad_json_is_named_with_line_and_column() -> None:
    machine = with_docker()
    machine.files.lay(CONFIG, '{\n  "debug": true,\n}\n')
    there, host = found(Docker(), machine), Reader(machine)
    with pytest.raises(HostError, match=r"/etc/docker/daemon\.json: line 3, column 1: "):
        Docker().effective(host, there, Docker().read(host, there))


# --- CRI-O -----------------------------------------------------------------------------------------------------------

PACKAGES = """[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
monitor_path = "/usr/libexec/crio/conmon"
"""


def with_crio() -> MemoryMachine:
    machine = bare_host()
    install_crio(machine)
    machine.files.lay("/etc/crio/crio.conf.d/10-crio.conf", PACKAGES)
    return machine


def test_crio_is_found_with_its_folder() -> None:
    machine = with_crio()
    there = found(Crio(), machine)
    assert (there.version, there.unit, there.config, there.drop_in) == (
        "1.37.0",
        "crio.service",
        "/etc/crio/crio.conf",
        DROP_IN,
    )
    machine.files.lay("/etc/sysconfig/crio", "CRIO_CONFIG_OPTIONS='-c /srv/crio.conf --config-dir=/srv/crio.d/'\n")
    there = found(Crio(), machine)
    assert (there.config, there.drop_in) == ("/srv/crio.conf", "/srv/crio.d/99-nvidia.toml")


def test_crio_is_restarted_with_a_drop_in_of_its_own() -> None:
    machine = with_crio()
    words = configure(Crio(), machine, Request("1.37.0", set_default=True))
    assert words == "`crio config` of 1.37.0; before and after: nothing else changes"
    assert 'monitor_path = "/usr/libexec/crio/conmon"' in machine.files.text(DROP_IN)
    assert machine.files.text("/etc/crio/crio.conf.d/10-crio.conf") == PACKAGES
    assert ("systemctl", "restart", "crio.service") in machine.commands
    assert configure(Crio(), machine, Request("1.37.0", set_default=True)) == ""
    there, host = found(Crio(), machine), Reader(machine)
    assert Crio().stale(host, there, Crio().read(host, there)) == ""
    roll_back(machine)
    assert not machine.files.exists(DROP_IN)


def test_the_default_runtime_that_crio_shows_beside_a_first_one_of_a_file_is_no_change() -> None:
    machine = bare_host()
    install_crio(machine)
    assert configure(Crio(), machine, Request("1.37.0")).startswith("`crio config` of 1.37.0")
    assert "monitor_path" not in machine.files.text(DROP_IN)


def test_a_crio_that_was_not_restarted_is_stale() -> None:
    machine = with_crio()
    machine.set_clock(machine.now() + 60)
    content = b'[crio.runtime.runtimes.nvidia]\nruntime_path = "/n"\n'
    machine.files.put(DROP_IN, Node("file", content, mtime=machine.now()))
    there, host = found(Crio(), machine), Reader(machine)
    assert "before its configuration changed" in Crio().stale(host, there, Crio().read(host, there))


def test_files_that_crio_refuses_today_can_be_mended() -> None:
    machine = with_crio()
    machine.files.lay("/etc/crio/crio.conf", '[crio.runtime]\nlog_level = "info"\n')
    machine.files.lay("/etc/crio/crio.conf.d/50-default.conf", '[crio.runtime]\ndefault_runtime = "nvidia"\n')
    words = configure(Crio(), machine, Request("1.37.0"))
    assert words.startswith("`crio config` of 1.37.0, which refuses the files as they are; ")


def test_a_folder_in_the_folder_is_read_in_its_place() -> None:
    machine = with_crio()
    machine.files.make_folders("/etc/crio/crio.conf.d/20-site")
    machine.files.lay("/etc/crio/crio.conf.d/20-site/a", "")
    machine.files.lay("/etc/crio/crio.conf.d/30", "")
    files = Crio().read(Reader(machine), found(Crio(), machine))
    assert [each.path.removeprefix("/etc/crio/crio.conf.d/") for each in files.imported] == [
        "10-crio.conf",
        "20-site/a",
        "30",
    ]


def test_without_a_binary_the_files_are_read_by_gpunode() -> None:
    machine = with_crio()
    machine.files.remove("/usr/bin/crio")
    there, host = found(Crio(), machine), Reader(machine)
    assert (there.version, there.binary) == ("", "")
    files = Crio().read(host, there)
    proof = Crio().prove(host, there, files, Crio().edit(files, Request("")))
    assert proof.words == "read by gpunode, there is no crio here to ask; before and after: nothing else changes"
    assert proof.differs


def test_a_change_of_somebody_elses_key_is_refused() -> None:
    machine = with_crio()
    there, host = found(Crio(), machine), Reader(machine)
    files = Crio().read(host, there)
    edited = Crio().edit(files, Request("1.37.0"))
    change = edited.files[0]
    worse = FileEdit(change.path, change.before, f'{change.after}[crio.image]\npause_image = "x"\n', change.style)
    with pytest.raises(HostError, match=r"would also turn crio\.image\.pause_image from None into x"):
        Crio().prove(host, there, files, type(edited)((worse,), edited.reasons, edited.place))


# --- Podman ----------------------------------------------------------------------------------------------------------


def test_podman_needs_a_specification_and_no_file() -> None:
    machine = bare_host()
    install_podman(machine)
    there, host = found(Podman(), machine), Reader(machine)
    assert (there.version, there.unit) == ("5.4.2", "")
    edited = Podman().edit(Podman().read(host, there), Request(there.version, cdi=True))
    assert (edited.files, edited.reasons, edited.left) == ((), (), ())
    assert "from a specification in /etc/cdi or /var/run/cdi" in edited.place
    assert "4.1 is the first that does" in Podman().edit(Podman().read(host, there), Request("3.0.1")).left[0]


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reads"),
    [
        ("dockerd --validate --config-file /x -H fd://", True),
        ("dockerd --config-file /x --validate", False),
        ("docker --context default info --format {{json .}}", True),
        ("docker run busybox", False),
        ("crio --version", True),
        ("crio --config /dev/stdin", False),
        ("crio --config /dev/stdin --config-dir '' config", True),
        ("crio --config /dev/stdin --config-dir '' wipe", False),
        ("podman --version", True),
        ("podman run busybox", False),
    ],
)
def test_only_questions_are_asked(command: str, reads: bool) -> None:
    assert is_read_only(shlex.split(command)) is reads
