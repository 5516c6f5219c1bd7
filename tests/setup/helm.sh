#!/usr/bin/env bash
# Installs Helm into the folder of the test programs, from the Go module proxy. Does nothing when it is there.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

version=v3.19.5
out=$compat_env/helm
if [ -f "$out/version" ] && [ "$(cat "$out/version")" == "$version" ]; then
    exit 0
fi
command -v go >/dev/null || need golang-go
say "installing Helm $version into $out (go install, some minutes)"
rm -rf "$out"
mkdir -p "$out"
GOBIN=$(realpath "$out") GOFLAGS=-trimpath CGO_ENABLED=0 go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$version"
echo "$version" >"$out/version"
