"""Which file an engine's unit names: by variables, specifiers and wrappers; what cannot be known is refused, never guessed."""

from __future__ import annotations

import pytest

from gpunode.catalog import load
from gpunode.errors import HostError
from gpunode.host import systemd
from gpunode.host.engines.command import config_option, program_of
from gpunode.host.engines.docker import Docker
from gpunode.host.engines.reading import command_line
from gpunode.host.reader import Reader
from memory import MemoryMachine
from memory.docker import Daemon, install_docker
from memory.hosts import bare_host

UNIT = "containerd.service"
PROGRAM = "/usr/bin/containerd"
NAMES = ("--config", "-config", "-c", "--c")
ORIGIN = f"in the ExecStart of {UNIT}"
UNIT_FILE = f"/usr/lib/systemd/system/{UNIT}"
ENVIRONMENT_FILE = "/etc/default/containerd"


def host(command: str, *settings: str, environment: str | None = None) -> Reader:
    """A host whose unit has this ExecStart, further settings above it, and perhaps an environment file."""
    machine = bare_host()
    machine.files.lay(PROGRAM, "#!", mode=0o755)
    machine.files.make_folders("/etc/default")
    machine.files.lay(UNIT_FILE, "\n".join(("[Service]", *settings, f"ExecStart={command}", "")))
    if environment is not None:
        machine.files.lay(ENVIRONMENT_FILE, environment)
    return Reader(machine)


def named(reader: Reader) -> tuple[str, str]:
    return config_option(reader, UNIT, systemd.exec_start(reader, UNIT), "containerd", NAMES)


@pytest.mark.parametrize(
    "option", ["--config /srv/c.toml", "--config=/srv/c.toml", "-config /srv/c.toml", "-c=/srv/c.toml"]
)
def test_every_spelling_of_the_option_is_read(option: str) -> None:
    assert named(host(f"{PROGRAM} {option} --log-level debug")) == (
        "/srv/c.toml",
        f"{option[: option.index('/') - 1]} {ORIGIN}",
    )


@pytest.mark.parametrize("command", [PROGRAM, f"{PROGRAM} $OPTS", f"{PROGRAM} --root /srv", ""])
def test_a_command_line_without_the_option_names_none(command: str) -> None:
    assert named(host(command)) == ("", "")


def test_the_last_one_wins_under_whatever_spelling() -> None:
    assert named(host(f"{PROGRAM} --config /a.toml --c /b.toml")) == ("/b.toml", f"--c {ORIGIN}")


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (f"{PROGRAM} --config ${{CONTAINERD_CONFIG}}", "/srv/c.toml"),
        (f"{PROGRAM} --config $CONTAINERD_CONFIG", "/srv/c.toml"),
        (f"{PROGRAM} --config=${{FOLDER}}/d.toml", "/srv/d.toml"),
        (f"{PROGRAM} --config %E/containerd/c.toml", "/etc/containerd/c.toml"),
        (f"{PROGRAM} --config %S/c.toml", "/var/lib/c.toml"),
        (f"{PROGRAM} --config %t/c.toml", "/run/c.toml"),
        (f"{PROGRAM} --config /srv/100%%/c.toml", "/srv/100%/c.toml"),
        (f"@{PROGRAM} containerd --config /srv/c.toml", "/srv/c.toml"),
        (f'-{PROGRAM} --config "/srv/my c.toml"', "/srv/my c.toml"),
    ],
)
def test_variables_and_fixed_specifiers_are_replaced(command: str, path: str) -> None:
    settings = 'Environment=CONTAINERD_CONFIG=/srv/c.toml "FOLDER=/srv"'
    assert named(host(command, settings))[0] == path


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ((f"EnvironmentFile={ENVIRONMENT_FILE}",), "/file.toml"),
        ((f"EnvironmentFile=-{ENVIRONMENT_FILE}", "Environment=OPTS=--config=/own.toml"), "/file.toml"),
        (("EnvironmentFile=-%E/default/contain*",), "/file.toml"),
        (("EnvironmentFile=-/etc/default/none", "Environment=OPTS=--config=/own.toml"), "/own.toml"),
        (
            (f"EnvironmentFile={ENVIRONMENT_FILE}", "EnvironmentFile=", "Environment=OPTS=--config=/own.toml"),
            "/own.toml",
        ),
        (("Environment=OPTS=--config=/own.toml", "Environment="), ""),
        (("EnvironmentFile=-/etc/default/none",), ""),
    ],
)
def test_a_word_of_its_own_becomes_the_options_of_the_environment(settings: tuple[str, ...], path: str) -> None:
    text = '# options\n; more\nOPTS="--log-level debug \\\n--config /file.toml"\nnot a setting\n'
    assert named(host(f"{PROGRAM} $OPTS", *settings, environment=text))[0] == path


def test_the_name_that_a_program_is_told_is_no_option() -> None:
    assert systemd.exec_start(host(f"@{PROGRAM} containerd --debug"), UNIT) == (PROGRAM, "--debug")


def test_a_drop_in_replaces_the_variable() -> None:
    machine = bare_host()
    machine.files.lay(UNIT_FILE, f"[Service]\nEnvironment=X=/a.toml\nExecStart={PROGRAM} --config ${{X}}\n")
    machine.files.make_folders(f"/etc/systemd/system/{UNIT}.d")
    machine.files.lay(f"/etc/systemd/system/{UNIT}.d/10-site.conf", "[Service]\nEnvironment=X=/b.toml\n")
    assert named(Reader(machine))[0] == "/b.toml"


@pytest.mark.parametrize(
    "command",
    [
        f"/usr/bin/env X=/srv/c.toml {PROGRAM} --config /srv/c.toml",
        "/usr/bin/env containerd --config /srv/c.toml",
        f"/usr/bin/nice -n -5 {PROGRAM} --config /srv/c.toml",
        f"nice -n10 {PROGRAM} --config /srv/c.toml",
        f"nice --adjustment=-5 {PROGRAM} --config /srv/c.toml",
        "/bin/sh -c 'exec containerd --config /srv/c.toml'",
        "/bin/bash -c 'containerd --config=$X'",
        "/bin/sh -c 'exec containerd $OPTS'",
        "/usr/bin/env Y=/srv nice /bin/sh -ec 'exec containerd --config ${Y}/c.toml'",
        "containerd --config /srv/c.toml",
    ],
)
def test_wrappers_are_seen_through(command: str) -> None:
    reader = host(command, 'Environment=X=/srv/c.toml "OPTS=--config /srv/c.toml"')
    assert named(reader) == ("/srv/c.toml", f"--config {ORIGIN}")
    assert program_of(reader, systemd.exec_start(reader, UNIT), "containerd") == PROGRAM


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (f"{PROGRAM} --config ${{UNSET}}", "${UNSET}"),
        (f"{PROGRAM} --config $UNSET --log-level debug", "$UNSET"),
        (f"{PROGRAM} --config=$X", "$X"),  # systemd replaces only ${X} within a word
        (f":{PROGRAM} --config ${{X}}", "${X}"),
        (f"{PROGRAM} --config /srv/$${{X}}", "/srv/${X}"),
        (f"{PROGRAM} --config %h/c.toml", "%h/c.toml"),
        (f"{PROGRAM} --config /srv/%i.toml", "/srv/%i.toml"),
        (f"{PROGRAM} --config c.toml", "c.toml"),
        (f"{PROGRAM} --config ${{RELATIVE}}", "c.toml"),
        (f"{PROGRAM} --config", "an empty word"),
        ("/bin/sh -c 'exec containerd --config \"$X\" ${OPTS:-}'", "${OPTS:-}"),
        ("/bin/sh -c \"exec containerd --config '$X'\"", "$X"),
    ],
)
def test_what_cannot_be_known_is_refused(command: str, shown: str) -> None:
    with pytest.raises(HostError) as raised:
        named(host(command, "Environment=X=/srv/c.toml RELATIVE=c.toml"))
    assert (
        raised.value.message
        == f"{UNIT} names its configuration by {shown}: name it by containerd.config in the profile"
    )


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("/opt/start.sh --config /srv/c.toml", "/opt/start.sh"),
        ("/usr/bin/env -i containerd --config /srv/c.toml", "/usr/bin/env"),
        ("/usr/bin/nice --help containerd", "/usr/bin/nice"),
        ("/bin/sh -c 'mkdir -p /run/x && exec containerd'", "/bin/sh"),
        ("/bin/sh -c 'exec containerd --config $(cat /etc/name)'", "/bin/sh"),
        ("/bin/sh /opt/start.sh", "/bin/sh"),
    ],
)
def test_a_wrapper_that_hides_the_program_is_refused(command: str, first: str) -> None:
    reader = host(command)
    with pytest.raises(
        HostError, match=f"^{UNIT} starts containerd by {first}, which hides its configuration: name it by"
    ):
        named(reader)
    assert program_of(reader, systemd.exec_start(reader, UNIT), "containerd") == ""


@pytest.mark.parametrize("command", ["/opt/bin/containerd", "", "/usr/bin/containerd-shim"])
def test_a_program_that_is_not_there_or_another_is_none(command: str) -> None:
    reader = host(command)
    assert program_of(reader, systemd.exec_start(reader, UNIT), "containerd") == ""


# --- Docker ----------------------------------------------------------------------------------------------------------


def docker(command: str, options: str = "") -> MemoryMachine:
    machine = bare_host()
    install_docker(machine, Daemon(), command=command)
    machine.files.make_folders("/etc/default")
    machine.files.lay("/etc/default/docker", options)
    return machine


def docker_config(machine: MemoryMachine) -> str:
    there = Docker().find(Reader(machine), load().flavours["plain"])
    assert there is not None
    return there.config


def test_docker_names_its_file_by_a_variable() -> None:
    assert docker_config(docker("/usr/sbin/dockerd --config-file=${X}", "X=/srv/d.json\n")) == "/srv/d.json"


def test_docker_behind_a_wrapper_is_tried_with_the_daemons_words_alone() -> None:
    machine = docker("/usr/bin/env A=1 /usr/sbin/dockerd --config-file /srv/d.json --debug $UNSET")
    assert docker_config(machine) == "/srv/d.json"
    words = command_line(Reader(machine), "docker.service", ())
    assert words == ("/usr/sbin/dockerd", "--config-file", "/srv/d.json", "--debug")


def test_docker_refuses_with_its_own_way_out_when_its_file_is_wanted() -> None:
    machine = docker("/usr/sbin/dockerd --config-file=${X}")
    found = Docker().find(Reader(machine), load().flavours["plain"])
    assert found is not None
    with pytest.raises(HostError, match=r'names its configuration by \$\{X\}: .* engines\.docker = "never"'):
        Docker().read(Reader(machine), found)
