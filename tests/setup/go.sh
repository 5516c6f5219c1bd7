#!/usr/bin/env bash
# Builds tests/compat/go with the official Go SDK from the Go module proxy; installs Go and openssl when missing.
# Does nothing when the sources have not changed since.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/../compat/go"

missing=()
command -v go >/dev/null || missing+=(golang-go)
command -v openssl >/dev/null || missing+=(openssl)
if [ ${#missing[@]} -gt 0 ]; then
    need "${missing[@]}"
fi

out=$compat_env/go
stamp=$(find . -type f | LC_ALL=C sort | xargs sha256sum; go version)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "fetching the official Go SDK and compiling its test program into $out (go build)"
rm -rf "$out"
mkdir -p "$out"
go build -mod=readonly -buildvcs=false -o "$out/compat" .
echo "$stamp" >"$out/stamp"
