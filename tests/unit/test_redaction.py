"""Secrets are taken out of what leaves a host, and what is no secret stays."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace

import pytest
import tomlkit
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gpunode.formats.redaction import MARK, redact
from gpunode.resources.repository import RpmRepository

SECRET = "s3cr3tV4lue0123"  # noqa: S105 - it is nobody's
LONG = "Zm9vYmFy" * 12
REPOSITORY = RpmRepository(
    "zypper", "/etc/zypp/repos.d/gpunode-cuda.repo", "cuda", "https://cuda.example/sles15", "/etc/pki/cuda.asc", "drivers",
    proxy=f"http://jo:{SECRET}@proxy.example:3128",
)  # fmt: skip
IN_ESCAPED_JSON = json.dumps({"last-applied": json.dumps({"token": SECRET, "kind": "Secret"})})

HOLDING = {
    "bearer": f"Authorization: Bearer {SECRET}abc",
    "bearer in a command": f'curl -H "Authorization: Bearer {SECRET}" https://api.example',
    "basic": f'headers = {{ X-Any = ["Basic {SECRET}=="] }}',
    "proxy": f"proxy=http://user:{SECRET}@proxy.example:3128",
    "proxy, its password not escaped": f'proxy = "http://user:p@{SECRET}/x@proxy.example:3128"',
    "apt's proxy": f'Acquire::http::Proxy "http://u:{SECRET}@proxy.example:1/";',
    "repository": f"deb https://{SECRET}@packages.example/debian stable main",
    "kubeconfig, key": f"    client-key-data: {SECRET}==",
    "kubeconfig, token": f"    token: {SECRET}",
    "kubeconfig, password": f'    password: "{SECRET}"',
    "docker": f'{{"auths": {{"nvcr.io": {{"auth": "{SECRET}"}}}}}}',
    "containerd, auth": f'[plugins."cri".registry.configs."nvcr.io".auth]\n  username = "$oauthtoken"\n  auth = "{SECRET}"',
    "containerd, password": f"  password = '{SECRET}'",
    "containerd, identity": f'  identitytoken = "{SECRET}"',
    "containerd, header": f'[host."https://r.example".header]\n  X-Registry-Auth = ["{SECRET}"]',
    "several lines of TOML": f'password = """\n{SECRET}\n"""',
    "unit": f'Environment="HF_TOKEN={SECRET}"',
    "AWS": f"AWS_SECRET_ACCESS_KEY={SECRET}",
    "AWS, by form": "export X=AKIAIOSFODNN7EXAMPLE s3cr3tV4lue0123".replace(f" {SECRET}", ""),
    "GCP": json.dumps({"type": "service_account", "private_key_id": SECRET}),
    "Google, by form": "key AIza" + "Sy" * 17 + "x",
    "Azure": f"AccountName=x;AccountKey={SECRET};EndpointSuffix=core",
    "NGC": f"export NGC_API_KEY={SECRET}",
    "NGC, by form": f"login nvapi-{LONG}",
    "option": f"k3s agent --token {SECRET} --server https://k.example",
    "option with a sign": f"ExecStart=/usr/local/bin/k3s agent --token={SECRET}",
    "options in a list": f'"args": ["--token", "{SECRET}"]',
    "k3s": f"joined with K10{'ab' * 32}::server:{SECRET}",
    "k0s": f"k0s worker H4sIAAAAAAAC{LONG}",
    "kubeadm": "kubeadm join 10.0.0.1:6443 abcdef.0123456789abcdef",
    "MicroK8s": "microk8s join 10.0.0.1:25000/92b2db237428470dc4fcfc4ebbd9dc81/2c0cb3284b05",
    "service account": f"mounted eyJhbGciOiJSUzI1NiIs.{LONG}.{LONG}",
    "PEM": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----\nafter it",
    "PEM in JSON": json.dumps({"key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"}),
    "PEM cut off": f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}",
    "YAML block": f"private_key: |\n  {SECRET}\n  {SECRET}\nnext: 1\n",
    "JSON in JSON": IN_ESCAPED_JSON,
    "JSON list": f'{{"secrets": ["{SECRET}", "{SECRET}"], "b": 1}}',
    "JSON number": '{"token": 1234567890123, "b": 1}',
    "quote in a value": f'{{"password": "a\\"{SECRET}"}}',
    "value with blanks": f"password: two words {SECRET}",
    "container's environment": f'env:\n- name: NGC_API_KEY\n  value: "{SECRET}"\n- name: OTHER\n  value: stays\n',
    "container's environment, JSON": f'{{"name":"HF_TOKEN","value":"{SECRET}"}}',
    "netrc": f"machine packages.example login me password {SECRET}",
    "curl": f"curl -u me:{SECRET} https://x.example",
    "Slack": f"https://hooks.slack.com/services/T0/{SECRET}",
    "webhook": f"posting to https://ops.example/hooks/{SECRET}?x=1 failed",
    "Discord": f"https://discord.com/api/webhooks/1/{SECRET}",
    "signed address": f"https://x.example/a?x=1&sig={SECRET}&b=1",
    "GitHub": "clone with ghp_" + "a1" * 18,
    "zypper's repository": REPOSITORY.text,
    "dnf's repository": replace(REPOSITORY, manager="dnf").text,
    "shell, PASS": f"PASS={SECRET}",
    "YAML, DB_PASS": f"  DB_PASS: {SECRET}",
    "MySQL": f"MYSQL_PWD={SECRET}",
    "wireless": f"psk: {SECRET}",
    "pass, in quotes": f'smtp_pass = "{SECRET}"',
    "cookie": f"Cookie: a={SECRET}; b={SECRET}",
}  # fmt: skip
FORMS = ("AKIAIOSF", "AIza", "nvapi-", "H4sI", "abcdef.0123", "92b2db23", "eyJ", "ghp_", "1234567890123", LONG)

PLAIN = (
    "token: null",
    'password: ""',
    "password:",
    '{"token": {"a": 1}, "b": true}',
    "deb [signed-by=/usr/share/keyrings/nvidia.gpg] https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/ /",
    "https://docs.nvidia.com/deploy/xid-errors/?page=2#id",
    "a basic fact, mode: auto",
    "Test PASSED: vectorAdd, passed=3, OLDPWD=/root",
    "NVRM: Xid (PCI:0000:05:00): 79, pid=12, name=train, GPU has fallen off the bus.",
    "ii  nvidia-open  580.159.04-1  amd64",
    "EB693B3035CD5710E231E123A4B469963BF863CC",
)


@pytest.mark.parametrize("name", HOLDING)
def test_a_secret_is_taken_out_and_the_rest_left(name: str) -> None:
    found = redact(HOLDING[name])
    assert SECRET not in found.text
    assert not [form for form in FORMS if form in found.text]
    assert MARK in found.text
    assert found.removed > 0


@pytest.mark.parametrize("name", HOLDING)
def test_a_second_pass_changes_nothing(name: str) -> None:
    once = redact(HOLDING[name]).text
    assert redact(once).text == once


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text).text == text
    assert redact(text).removed == 0


def test_what_stands_beside_a_secret_stays() -> None:
    assert redact(HOLDING["container's environment"]).text.endswith("- name: OTHER\n  value: stays\n")
    assert redact(HOLDING["proxy"]).text == f"proxy=http://{MARK}@proxy.example:3128"
    assert redact(HOLDING["PEM"]).text == f"{MARK}\nafter it"
    assert f"proxyuser=jo&proxypass={MARK}\nenabled=1" in redact(REPOSITORY.text).text
    assert redact(HOLDING["signed address"]).text == f"https://x.example/a?x=1&sig={MARK}&b=1"
    assert redact(HOLDING["Slack"]).text == f"https://hooks.slack.com/{MARK}"


def test_a_document_without_its_secrets_can_still_be_parsed() -> None:
    document = {
        "auths": {"a": {"auth": SECRET}},
        "token": 5,
        "secrets": [SECRET],
        "text": json.dumps({"token": SECRET}),
    }
    assert SECRET not in json.dumps(json.loads(redact(json.dumps(document, indent=2)).text))
    assert tomlkit.parse(redact(f"password = \"{SECRET}\"\nauth = '{SECRET}'\n").text).unwrap() == {
        "password": MARK,
        "auth": MARK,
    }


def test_a_kubeconfig_keeps_its_form_and_loses_its_credentials() -> None:
    key = base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----").decode()
    user = {"client-key-data": key, "token": SECRET, "password": SECRET, "username": "admin"}
    exec_user = {"exec": {"command": "aws", "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}]}}
    config = {
        "clusters": [{"cluster": {"server": "https://10.0.0.1:6443"}, "name": "c"}],
        "users": [{"name": "u", "user": user}, {"name": "e", "user": exec_user}],
    }
    told = redact(yaml.safe_dump(config)).text
    assert SECRET not in told
    assert key not in told
    assert "https://10.0.0.1:6443" in told
    assert "username: admin" in told


@given(st.text(alphabet="abcXYZ0189-_.~!$%^*+", min_size=8, max_size=40))
def test_no_character_of_a_password_lets_it_through(password: str) -> None:
    secret = f"q{password}q"
    texts = (
        f"http://u:{secret}@h",
        json.dumps({"password": secret}),
        f"HF_TOKEN={secret}",
        f"--api-key {secret}",
        f"token: {secret}",
    )
    assert not [text for text in texts if secret in redact(text).text]


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["a", "password", "token: ", '"token": "', "http://a", "-----BEGIN PRIVATE KEY-----", 'secret = """']
)
def test_a_long_line_does_not_take_long(part: str) -> None:
    began = time.monotonic()
    redact(part * (200_000 // len(part)))
    assert time.monotonic() - began < 10
