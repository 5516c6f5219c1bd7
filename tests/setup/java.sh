#!/usr/bin/env bash
# Compiles tests/compat/java against the official Java SDK from Maven Central; installs a JDK and Maven when missing.
# Does nothing when the sources have not changed since.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/../compat/java"

missing=()
command -v javac >/dev/null || missing+=(default-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
if [ ${#missing[@]} -gt 0 ]; then
    need "${missing[@]}"
fi

out=$compat_env/java
stamp=$(find . -type f | LC_ALL=C sort | xargs sha256sum; javac -version 2>&1)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "fetching the official Java SDK and compiling its test programs into $out (Maven)"
rm -rf "$out"
mvn -q -B -ntp -Dbuild.folder="$out" compile dependency:copy-dependencies
echo "$stamp" >"$out/stamp"
