"""Profiles: what is read from them, and how mistakes are told."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from gpunode.errors import ExitCode
from gpunode.profile import Choice, Choices, HostProfile, Problem, ProfileError, load, show, write_profile
from gpunode.profile.layout import leaves
from gpunode.profile.positions import Positions
from gpunode.profile.text import dotted, toml_string
from gpunode.profile.toml import parse


def mistakes(text: str | bytes) -> list[Problem]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ProfileError) as caught:
        load(content, "profile.toml")
    return caught.value.problems


def mistake(text: str | bytes) -> Problem:
    (only,) = mistakes(text)
    return only


# --- what is read ---------------------------------------------------------------------------------------------------


def test_empty_file_is_the_default_profile() -> None:
    assert load(b"", "p").profile == HostProfile()


def test_values_and_origins() -> None:
    loaded = load(b'# a node\n[driver]\nbranch = "595"\n\n[verify]\ntimeout = 30\n', "p")
    assert loaded.profile.driver.branch == "595"
    rows = {key: (value, origin) for key, value, origin in show(loaded)}
    assert rows["driver.branch"] == ('"595"', "line 3")
    assert rows["verify.timeout"] == ("30", "line 6")
    assert rows["driver.version"] == ("unset", "default")
    assert rows["driver.hold"] == ("true", "default")


def test_show_has_every_leaf_in_the_models_order() -> None:
    assert [key for key, _, _ in show(load(b"", "p"))] == [dotted(path) for path, _ in leaves()]


def test_profile_does_not_change() -> None:
    with pytest.raises(ValidationError):
        HostProfile().driver.branch = "595"


def test_hexadecimal_digits_are_normalised() -> None:
    key = "https://mirror.example.com/key"
    text = f'repositories.cuda = {{ key_url = "{key}", fingerprints = ["{"ab" * 20}"] }}'
    assert load(text.encode(), "p").profile.repositories.cuda.fingerprints == ("AB" * 20,)


def test_sums_are_normalised() -> None:
    text = f'[driver]\nsource = "runfile"\nversion = "580.65"\nrunfile.sha256 = "{"AB" * 32}"'
    assert load(text.encode(), "p").profile.driver.runfile.sha256 == "ab" * 32


def test_windows_line_ends() -> None:
    text = b'repositories.cuda.fingerprints = [ # two\r\n  "12",\r\n  "34",\r\n]\r\n[driver]\r\nbranch = "1"\r\n'
    assert [(found.line, found.column) for found in mistakes(text)] == [(2, 3), (3, 3), (6, 1)]


def test_importing_the_package_is_cheap() -> None:
    heavy = "{'pydantic', 'tomlkit', 'tomllib', 'httpx'}"
    code = f"import sys, gpunode.profile; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- positions ------------------------------------------------------------------------------------------------------

LAYOUT = '''\
top = 1
a.b . "c d" = 2 # ] = "
[t]
s = """
[not.a.header]
x = 1 \\""" ""\"""
l = \'\'\'
y = 2\'\'\'\'\'
  'q.r' = { m = 1, n.o = [1, 2], "p" = { z = "}" } }
list = [ # [
  "one,", 'two]',
  [3, 4],
  { k = 5 },
]
when = 1979-05-27 07:32:00 # c
[ t . "u\\u0031" ]
v = true
[[arr]]
w = 1
[[arr]]
w = 2
[arr.sub]
x = 3
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("top",), 1, 1),
        (("a",), 2, 1),
        (("a", "b"), 2, 3),
        (("a", "b", "c d"), 2, 7),
        (("t",), 3, 1),
        (("t", "s"), 4, 1),
        (("t", "l"), 7, 1),
        (("t", "q.r"), 9, 3),
        (("t", "q.r", "m"), 9, 13),
        (("t", "q.r", "n", "o"), 9, 22),
        (("t", "q.r", "n", "o", 1), 9, 30),
        (("t", "q.r", "p", "z"), 9, 42),
        (("t", "list", 0), 11, 3),
        (("t", "list", 1), 11, 11),
        (("t", "list", 2, 1), 12, 7),
        (("t", "list", 3, "k"), 13, 5),
        (("t", "when"), 15, 1),
        (("t", "u1", "v"), 17, 1),
        (("arr", 0, "w"), 19, 1),
        (("arr", 1), 20, 1),
        (("arr", 1, "sub", "x"), 23, 1),
    ],
)
def test_position_of_each_key(path: tuple[str | int, ...], line: int, column: int) -> None:
    parse(LAYOUT)
    place = Positions(LAYOUT).exact(path)
    assert place is not None
    assert (place.line, place.column) == (line, column)


def test_strings_hide_what_looks_like_keys() -> None:
    places = Positions(LAYOUT)
    assert places.exact(("not",)) is None
    assert places.exact(("t", "x")) is None
    assert places.exact(("t", "y")) is None


def test_unwritten_key_has_its_tables_place() -> None:
    places = Positions(LAYOUT)
    assert places.nearest(("t", "u1", "absent")).line == 16
    assert places.nearest(("absent",)).line == 1


# --- mistakes -------------------------------------------------------------------------------------------------------

MANY = """\
[driver]
brnach = "580"
version = 580
modules = "opne"
hold = "yes"

[cuda]
version = "13"

[kubernetes]
flavour = "none"
timeout = 1000

[repositories.cuda]
fingerprints = [
  "EB693B3035CD5710E231E123A4B469963BF863CC",
  "EB69 3B30",
]
"""

ANSWER = """\
profile.toml: 9 mistakes
  line 2   driver.brnach                      unknown key; did you mean "branch"?
  line 3   driver.version                     wants a string, not the integer 580; write "580"
  line 4   driver.modules                     "opne" is not allowed: give "auto", "open" or "proprietary"; \
did you mean "open"?
  line 5   driver.hold                        wants true or false, not the string "yes"; write true
  line 8   cuda.version                       "13" is not a CUDA version: give major.minor, for example "13.0", or "none"
  line 11  device_plugin.mode                 needs a cluster, and kubernetes.flavour is "none": set it to "none"
  line 11  verify.level                       needs a cluster, and kubernetes.flavour is "none": set it to "host" or \
"container"
  line 12  kubernetes.timeout                 1000 is out of range: give 1 to 600 seconds
  line 17  repositories.cuda.fingerprints[1]  "EB69 3B30" is not a key fingerprint: give its 40 hexadecimal digits \
without spaces"""


def test_all_mistakes_in_one_go() -> None:
    with pytest.raises(ProfileError) as caught:
        load(MANY.encode(), "profile.toml")
    assert str(caught.value) == ANSWER
    assert caught.value.message == "profile.toml: 9 mistakes"
    assert caught.value.exit_code == ExitCode.USAGE


def test_one_mistake_is_singular() -> None:
    with pytest.raises(ProfileError) as caught:
        load(b"a = 1", "p")
    assert str(caught.value) == "p: 1 mistake\n  line 1  a  unknown key"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[drvier]", 'did you mean "driver"?'),
        ("[container-toolkit]", 'did you mean "container_toolkit"?'),
        ("[driver]\nBranch = 1", 'did you mean "branch"?'),
        ("[driver.runfile]\nulr = 1", 'did you mean "url"?'),
        ("[cuda]\nmodules = 'open'", "it belongs under [driver]"),
        ("flavour = 'k3s'", "it belongs under [kubernetes]"),
        ("[driver]\nxyzzy = 1", None),
    ],
)
def test_unknown_key(text: str, hint: str | None) -> None:
    found = mistake(text)
    assert (found.message, found.hint) == ("unknown key", hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("driver = 1", "wants a table, not the integer 1; write [driver] and its keys below"),
        ("[[driver]]", "wants a table, not a list; write [driver] and its keys below"),
        ("[cuda]\nversion = 13.0", 'wants a string, not the float 13.0; write "13.0"'),
        ("[cuda]\nversion = {}", "wants a string, not a table"),
        ("[cuda]\nlink = 1", "wants true or false, not the integer 1; write true"),
        ("[cuda]\nlink = 'No'", 'wants true or false, not the string "No"; write false'),
        ("[cuda]\nlink = nan", "wants true or false, not the float nan"),
        ("[verify]\ntimeout = '60'", 'wants a whole number, not the string "60"; write 60'),
        ("[verify]\ntimeout = true", "wants a whole number, not the truth value true"),
        ("[verify]\ntimeout = 60.0", "wants a whole number, not the float 60.0"),
        ("[verify]\ntimeout = 1979-05-27", "wants a whole number, not the date 1979-05-27"),
        ("[verify]\nlevel = ['host']", 'a list is not allowed: give "host", "container" or "kubernetes"'),
        ("repositories.cuda.fingerprints = 'AB'", 'wants a list of strings, not the string "AB"; write ["AB"]'),
        ("repositories.cuda.fingerprints = [1]", 'wants a string, not the integer 1; write "1"'),
    ],
)
def test_wrong_type(text: str, message: str) -> None:
    assert mistake(text).sentence == message


@pytest.mark.parametrize(
    "line",
    [
        'driver.branch = "58"',
        'driver.branch = "580; reboot"',
        'driver.branch = "580\\n"',
        'driver.branch = "٥٨٠"',
        'driver.version = "580.159.04-1"',
        'driver.version = "580"',
        'driver.source = "Nvidia"',
        'container_toolkit.version = "1.20"',
        'container_toolkit.version = "$(id)"',
        'containerd.config = "etc/config.toml"',
        'containerd.config = "/etc/../etc/config.toml"',
        'containerd.config = "/.."',
        'containerd.config = "/etc/containerd/"',
        'containerd.config = "/etc/a b"',
        'containerd.config = "/etc/\\u0000"',
        'containerd.runtime_name = "runc"',
        'containerd.runtime_name = "nvidia\\"]"',
        "containerd.restart_timeout = 4",
        "containerd.restart_timeout = 601",
        'kubernetes.context = "--help"',
        'kubernetes.node_name = "Node_1"',
        'device_plugin.version = "0.20.0"',
        'device_plugin.namespace = "a.b"',
        'device_plugin.image = "busybox"',
        'device_plugin.image = "nvidia/plugin:1"',
        'device_plugin.image = "nvcr.io/nvidia/plugin"',
        'device_plugin.image = "nvcr.io/Nvidia/plugin:1"',
        'device_plugin.image = "-v.io/a:1 --privileged"',
        'repositories.cuda.url = "http://mirror.example.com"',
        'repositories.cuda.url = "https://user:word@mirror.example.com"',
        'repositories.cuda.url = "https://mirror.example.com/a?b"',
        'network.proxy = "proxy.example.com:3128"',
        'network.proxy = "http://user:word@proxy.example.com"',
    ],
)
def test_refused_value(line: str) -> None:
    assert ": give " in mistake(line).message


@pytest.mark.parametrize(
    "line",
    [
        'driver.version = "580.65"',
        'driver = { branch = "470", version = "470.256.02" }',
        "containerd.restart_timeout = 5",
        "containerd.restart_timeout = 600",
        'containerd.config = "/etc/..containerd/a..b.toml"',
        'kubernetes.context = "kubernetes-admin@kubernetes"',
        'kubernetes.context = "arn:aws:eks:eu-west-1:1:cluster/gpu"',
        'kubernetes.node_name = "gpu-1.example.com"',
        'device_plugin.image = "localhost:5000/plugin:1"',
        'device_plugin.image = "lab.local/busybox:1"',
        f'device_plugin.image = "nvcr.io/nvidia/k8s-device-plugin@sha256:{"0a" * 32}"',
        'repositories.cuda.url = "https://[2001:db8::1]:8443/a~b/c%20d"',
        'network.proxy = "http://10.0.0.1:3128"',
    ],
)
def test_accepted_value(line: str) -> None:
    load(line.encode(), "p")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('[driver]\nversion = "595.84"', 2, "driver.version"),
        ('[driver]\nbranch = "595"\nversion = "580.65"', 3, "driver.version"),
        ('[driver.runfile]\nurl = "https://a.example.com/f"', 2, "driver.runfile.url"),
        ('[driver]\nsource = "runfile"\n[driver.runfile]\npath = "/f"', 4, "driver.version"),
        (
            '[driver]\nsource = "runfile"\nversion = "580.65"\nrunfile.url = "https://a.example.com/f"\nrunfile.path = "/f"',
            5,
            "driver.runfile.path",
        ),
        ('[repositories.cuda]\n\nkey_url = "https://a.example.com"', 3, "repositories.cuda.fingerprints"),
        ('[repositories.runfile]\nkey_url = "https://a.example.com"', 2, "repositories.runfile.key_url"),
        ('[verify]\nlevel = "host"\n[kubernetes]\nflavour = "none"', 4, "device_plugin.mode"),
        ('[device_plugin]\nmode = "none"\n[kubernetes]\nflavour = "none"', 4, "verify.level"),
        ('[device_plugin.sharing]\nstrategy = "mps"', 2, "device_plugin.sharing.replicas"),
        ('[device_plugin.sharing]\nreplicas = { "nvidia.com/gpu" = 4 }', 2, "device_plugin.sharing.replicas"),
        (
            '[device_plugin.configs.a]\nstrategy = "mps"\nreplicas."nvidia.com/gpus" = 4',
            3,
            'device_plugin.configs.a.replicas."nvidia.com/gpus"',
        ),
        (
            '[device_plugin.sharing]\nstrategy = "time-slicing"\nreplicas."nvidia.com/mig-1g.10gb" = 2',
            3,
            'device_plugin.sharing.replicas."nvidia.com/mig-1g.10gb"',
        ),
        (
            '[device_plugin.sharing]\nstrategy = "mps"\nmig = "single"\nreplicas."nvidia.com/gpu" = 2',
            2,
            "device_plugin.sharing.strategy",
        ),
        ('[device_plugin]\nconfig = "big"\n[device_plugin.configs.small]', 2, "device_plugin.config"),
        ("[device_plugin.configs.default]", 1, "device_plugin.configs.default"),
    ],
)
def test_rule_between_keys(text: str, line: int, key: str) -> None:
    found = mistake(text)
    assert (found.line, found.key) == (line, key)


def test_a_shared_resource_that_no_gpu_has_is_told_with_the_nearest() -> None:
    text = '[device_plugin.sharing]\nmig = "mixed"\nstrategy = "time-slicing"\nreplicas."nvidia.com/mig-1g.11gb" = 2'
    assert 'did you mean "nvidia.com/mig-1g.1' in str(mistake(text))


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ('[device_plugin.configs.a]\nstrategy = "slices"', "device_plugin.configs.a.strategy", '"time-slicing"'),
        ("[device_plugin.configs.a]\nreplica = 1", "device_plugin.configs.a.replica", 'did you mean "replicas"?'),
        ("[device_plugin.configs.A]", "device_plugin.configs.A", '"A" is not a configuration\'s name'),
        ("[device_plugin]\nconfigs.a = 1", "device_plugin.configs.a", "write [device_plugin.configs.a]"),
        ("[device_plugin.sharing]\nreplicas = 4", "device_plugin.sharing.replicas", "wants a table"),
        (
            '[device_plugin.sharing]\nreplicas."nvidia.com/gpu" = 1',
            'device_plugin.sharing.replicas."nvidia.com/gpu"',
            "give 2 to 128",
        ),
    ],
)
def test_a_mistake_in_a_table_with_names_of_ones_own_is_told_as_any_other(text: str, key: str, part: str) -> None:
    found = mistake(text)
    assert found.key == key
    assert part in f"{found.message} {found.hint}"


def test_tables_with_names_of_ones_own_are_shown_as_they_would_be_written() -> None:
    text = '[device_plugin.configs.a]\nstrategy = "mps"\nreplicas."nvidia.com/gpu" = 2'
    rows = {key: value for key, value, _ in show(load(text.encode(), "p"))}
    assert rows["device_plugin.configs"] == '{ a = { strategy = "mps", replicas = { "nvidia.com/gpu" = 2 } } }'
    assert rows["device_plugin.sharing.replicas"] == "{}"


def test_no_rule_is_asked_about_a_key_that_is_wrong_already() -> None:
    assert [found.key for found in mistakes('[driver]\nbranch = "59"\nversion = "595.84"')] == ["driver.branch"]


def test_model_keeps_the_rules_without_a_file() -> None:
    with pytest.raises(ValidationError, match=r'"595\.84" is not of driver\.branch'):
        HostProfile.model_validate({"driver": {"version": "595.84"}})


# --- absurd input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "column", "part"),
    [
        (b"a" * 5_000_000, 0, 0, "this is no profile: it has 4883 KiB, and a profile has at most 64 KiB"),
        (b"\xef\xbb\xbf[driver]", 1, 1, "byte order mark"),
        (b"\xff\xfe[\x00", 1, 1, "UTF-16"),
        ("ok = 1\nä = ".encode() + b"\xff", 2, 5, "byte 0xff is not UTF-8"),
        (b"[driver]\n\x00", 2, 1, "neither a key nor a [table]"),
        (b'driver.branch = "5\x0080"', 1, 19, r"Illegal character '\x00'"),
        (b'driver.branch = "5\x1b[2J"', 1, 19, r"Illegal character '\x1b'"),
        (b'[driver]\nbranch = "580"\nbranch = "580"', 3, 15, "this key is given twice"),
        (b"[driver]\n[cuda]\n[driver]", 3, 8, "the table [driver] is given twice"),
        (b"[driver]\nbranch = open", 2, 10, "a string needs quotes"),
        (b"[driver]\nbranch", 2, 7, "followed by ="),
        (b"[driver", 1, 8, "Expected ']'"),
        (b'[driver]\nbranch = "580', 2, 14, "the text ends in the middle of a value"),
        (b"a = " + b"[" * 4000, 0, 0, "nested too deeply"),
        (b"a = " + b"{a=" * 1000, 0, 0, "nested too deeply"),
        (b"a = [\n" + b"[\n" * 30_000, 0, 0, "nested too deeply"),
        (b"x = 1 # " + b"y" * 5000, 1, 4097, "the line has 5008 characters"),
    ],
)
def test_text_that_cannot_be_read(content: bytes, line: int, column: int, part: str) -> None:
    found = mistake(content)
    assert (found.line, found.column, found.key) == (line, column, "")
    assert part in found.message


def test_very_long_dotted_key_is_an_unknown_key() -> None:
    found = mistake(b".".join([b"a"] * 2000) + b" = 1")
    assert found.message == "unknown key"


def test_numbers_too_long_for_decimal() -> None:
    huge = "0x" + "f" * 4000
    assert [found.key for found in mistakes(f"[driver]\nbranch = {huge}\n[verify]\ntimeout = {huge}")] == [
        "driver.branch",
        "verify.timeout",
    ]


def test_messages_carry_no_control_characters() -> None:
    text = '"\\u001b[2J\\u009b\\u202e" = 1\n[driver]\nbranch = "\\u001b[2J\\u009b\\u202e"'
    with pytest.raises(ProfileError) as caught:
        load(text.encode(), "p")
    assert all(char.isprintable() or char == "\n" for char in str(caught.value))


def test_long_values_are_cut() -> None:
    assert len(mistake(f'driver.branch = "{"5" * 4000}"').message) < 200


def test_forty_mistakes_are_shown_and_the_rest_counted() -> None:
    with pytest.raises(ProfileError) as caught:
        load("\n".join(f"k{number} = 1" for number in range(100)).encode(), "p")
    assert len(caught.value.problems) == 100
    assert caught.value.details[-1] == "  … and 60 more"
    assert len(caught.value.details) == 41


# --- new profiles ---------------------------------------------------------------------------------------------------


def choices(**changes: object) -> Choices:
    found: dict[str, object] = {
        "gpus": "2x NVIDIA H100 80GB HBM3",
        "distribution": "Debian 13 (trixie), kernel 6.12, x86_64",
        "containerd": "1.7.24",
        "source": Choice("nvidia", "NVIDIA's repository has this distribution."),
        "branch": Choice("580", "Long-term support."),
        "modules": Choice("open", "Every GPU found is Turing or newer."),
        "kubernetes": Choice("k3s", "k3s runs here."),
    }
    return Choices(**(found | changes))  # type: ignore[arg-type] # the fields are checked by what is loaded


def test_new_profile_loads_and_says_why() -> None:
    text = write_profile(choices(version=Choice("580.159.04", "The branch's current release.")))
    profile = load(text.encode(), "p").profile
    assert (profile.driver.version, profile.driver.modules, profile.kubernetes.flavour) == ("580.159.04", "open", "k3s")
    assert '# Every GPU found is Turing or newer.\nmodules = "open"\n' in text
    assert "2x NVIDIA H100 80GB HBM3" in text


def test_new_profile_outside_a_cluster_loads() -> None:
    profile = load(write_profile(choices(kubernetes=Choice("none", "None found."))).encode(), "p").profile
    assert (profile.device_plugin.mode, profile.verify.level) == ("none", "container")


def test_what_a_host_says_cannot_leave_its_comment() -> None:
    text = write_profile(choices(gpus='H100\n[driver]\rbranch = "1"\x1b[2J\u2028x'))
    assert load(text.encode(), "p").profile.driver.branch == "580"
    assert "\x1b" not in text
    assert "# GPUs: H100 [driver] branch" in text


def test_new_profile_with_a_wrong_choice_is_refused() -> None:
    with pytest.raises(ProfileError, match="the new profile: 1 mistake"):
        write_profile(choices(branch=Choice("58", "A slip.")))


@pytest.mark.parametrize("value", ["", 'a"b', "a\\b", "\n\t\x00\x7f", "\U0001f600\u202e", "ünï"])
def test_written_strings_are_read_back(value: str) -> None:
    assert parse(f"x = {toml_string(value)}")["x"] == value
