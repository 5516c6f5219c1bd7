#!/usr/bin/env bash
# Usage: demo.sh HOST:PORT COUNT
# The quickstart with the official Java SDK against a running server.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

if ! (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; then
    echo "Nothing listens on $1: start a server with \`make run\` in another terminal." >&2
    exit 1
fi
"$(dirname "$0")/java.sh"
exec java -cp "$compat_env/java/classes:$compat_env/java/dependency/*" apogee.compat.Demo "$1" "$2"
