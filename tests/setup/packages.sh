# Sourced by the other scripts: installs Debian packages, and says so.

# Where the programs of the SDK tests live; outside the checkout, so that a fresh clone finds them again.
compat_env=${COMPAT_ENV:-$HOME/.cache/apogee-test-env}

say() {
    echo "setup: $*" >&2
}

# need PACKAGE...: installs them by apt-get, as root or by sudo.
need() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-sh}" >/dev/null; then
        say "please install $*, then try again (this script knows only apt-get, as root or with sudo)"
        exit 1
    fi
    say "installing $* (apt-get)"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
