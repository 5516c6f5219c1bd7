#!/usr/bin/env bash
# Fetches Apache RocketMQ from Maven Central, for `make compat-reference`; installs a JDK and Maven when missing.
# Does nothing when the jars are there. The configuration is written by what starts it, because ports differ each time.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")"

missing=()
command -v java >/dev/null || missing+=(default-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
if [ ${#missing[@]} -gt 0 ]; then
    need "${missing[@]}"
fi

out=$compat_env/reference
stamp=$(sha256sum reference.pom.xml)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "fetching Apache RocketMQ into $out (Maven)"
rm -rf "$out"
mvn -q -B -ntp -f reference.pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/jars"
echo "$stamp" >"$out/stamp"
