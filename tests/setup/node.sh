#!/usr/bin/env bash
# Installs the official Node.js SDK from npm with what package-lock.json names; installs Node.js, npm and openssl when
# missing. Does nothing when the packages are there.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/../compat/node"

missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v openssl >/dev/null || missing+=(openssl)
if [ ${#missing[@]} -gt 0 ]; then
    need "${missing[@]}"
fi

out=$compat_env/node
stamp=$(sha256sum package.json package-lock.json; node --version)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "installing the official Node.js SDK into $out (npm)"
rm -rf "$out"
mkdir -p "$out"
cp package.json package-lock.json "$out"
npm ci --prefix "$out" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
echo "$stamp" >"$out/stamp"
