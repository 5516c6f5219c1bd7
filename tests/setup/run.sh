#!/usr/bin/env bash
# Usage: run.sh BINARY [ARGUMENT...]
# Starts `apogee dev` with these arguments, and says what to try once it listens.
set -euo pipefail
binary=$1
shift

hint() {
    cat >&2 <<EOF

ApogeeMQ is ready at 127.0.0.1:8081. In another terminal, from any RocketMQ 5 SDK or:

  make demo                                  1,000 messages through the official Java SDK
  $binary message send hello "first light"
  $binary message receive hello
  $binary topic list

Ctrl-C stops it; messages stay in ./apogee-data.

EOF
}

listening() {
    (exec 3<>/dev/tcp/127.0.0.1/8081) 2>/dev/null
}

if listening; then
    echo "Something listens on 127.0.0.1:8081 already; is it an earlier \`make run\`?" >&2
    exit 1
fi
(
    for _ in $(seq 100); do
        if listening; then
            hint
            exit
        fi
        sleep 0.1
    done
) &
exec "$binary" dev "$@"
