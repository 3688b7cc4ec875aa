# shellcheck shell=bash
# What scripts/test and scripts/demo have in common: root, Debian packages, the Python environment. Sourced, never run.

# Debian's packages that the lab is built with: throw-away hosts, stub packages and their signed repositories, mock libraries.
LAB_PACKAGES=(mmdebstrap systemd-container debian-archive-keyring apt-utils dpkg-dev gnupg openssl gcc libc6-dev iproute2 util-linux kmod strace makeself)
VENV_PACKAGES=(python3 python3-venv ca-certificates)

say() { printf '\033[2m%s\033[0m\n' "· $*" >&2; }
[ -t 2 ] || say() { printf '%s\n' "· $*" >&2; }

# Run the calling script again as root, where it is not root already.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || { echo "this needs root, and there is no sudo here: run it as root" >&2; exit 2; }
    say "taking root by sudo"
    exec sudo -- "$0" "$@"
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi; }

# Install the Debian packages named that are not there yet.
need_packages() {
    local missing=() name
    for name in "$@"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$name" 2>/dev/null)" = "ii " ] || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -qq || say "some package lists could not be fetched; going on with those that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Make .venv from the pinned, hashed requirements, and again whenever those or pyproject.toml have changed.
need_venv() {
    local stamp
    stamp=$(cat requirements/dev.txt pyproject.toml | sha256sum)
    [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && return
    python3 -c 'import venv, ensurepip' 2>/dev/null || need_packages "${VENV_PACKAGES[@]}"
    say "making .venv (once)"
    python3 -m venv --clear .venv
    .venv/bin/pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
    .venv/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
    printf '%s\n' "$stamp" >.venv/stamp
}
