"""A new profile as text: few keys, each with the reason it was chosen in the line above."""

from dataclasses import dataclass, field

from gpunode.profile.text import printable, toml_value


@dataclass(frozen=True)
class Choice:
    """A value for one key and, in one sentence, why it was chosen."""

    value: str | bool
    why: str


@dataclass(frozen=True)
class Choices:
    """What was found on a host, in words, and what was chosen for it. An unset version is left out of the profile."""

    gpus: str
    distribution: str
    containerd: str
    source: Choice
    branch: Choice
    modules: Choice
    kubernetes: Choice
    version: Choice | None = None
    cuda: Choice = field(
        default=Choice("none", "A Kubernetes worker needs no CUDA toolkit: containers bring their own.")
    )
    default_runtime: Choice = field(
        default=Choice(False, "Pods ask for the runtime by their RuntimeClass; other containers keep runc.")
    )


def write_profile(choices: Choices) -> str:
    """The text of a profile with the given choices.

    Raises ``ProfileError`` where the choices do not make a profile that loads.
    """
    # Reading a profile needs the model: it is loaded here, not by those who only want to state their choices.
    from gpunode.profile.loader import load

    text = "\n".join((*_heading(choices), *_driver(choices), *_rest(choices))) + "\n"
    load(text.encode(), "the new profile")
    return text


def _heading(choices: Choices) -> list[str]:
    return [
        *_comment("What this host should be. Keys left out have their default; `gpunode profile show` lists them all."),
        *_comment(f"GPUs: {choices.gpus}"),
        *_comment(f"System: {choices.distribution}"),
        *_comment(f"containerd: {choices.containerd}"),
    ]


def _driver(choices: Choices) -> list[str]:
    return [
        *_section("driver"),
        *_entry("source", choices.source),
        *_entry("branch", choices.branch),
        *(_entry("version", choices.version) if choices.version else ()),
        *_entry("modules", choices.modules),
    ]


def _rest(choices: Choices) -> list[str]:
    lines = [
        *_section("cuda"),
        *_entry("version", choices.cuda),
        *_section("containerd"),
        *_entry("default_runtime", choices.default_runtime),
        *_section("kubernetes"),
        *_entry("flavour", choices.kubernetes),
    ]
    if choices.kubernetes.value == "none":
        lines += _outside_a_cluster()
    return lines


def _outside_a_cluster() -> list[str]:
    return [
        *_section("device_plugin"),
        *_entry("mode", Choice("none", "There is no cluster to offer the GPUs to.")),
        *_section("verify"),
        *_entry("level", Choice("container", "The last test is a container with a GPU.")),
    ]


def _section(name: str) -> list[str]:
    return ["", f"[{name}]"]


def _entry(key: str, choice: Choice) -> list[str]:
    return [*_comment(choice.why), f"{key} = {toml_value(choice.value)}"]


def _comment(text: str) -> list[str]:
    """A comment of one line: what was read from a host must not be able to end it and begin a key."""
    return [f"# {printable(' '.join(text.split()))}"]
