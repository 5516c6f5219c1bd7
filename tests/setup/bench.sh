#!/usr/bin/env bash
# Usage: bench.sh FOLDER [ARGUMENT...]
# Loads a server of its own, on other ports than `make run` uses: sends alone, then sends with receives and acks.
# FOLDER holds the binaries; the data is kept beside them for the time of the run, because /tmp may be memory, where
# fsync costs nothing. The arguments go to both runs of the load generator.
set -euo pipefail
folder=$1
shift

data=$(mktemp -d "$folder/bench-data.XXXXXX")
XDG_STATE_HOME=$data/state "$folder/apogee" dev --data "$data/data" --set grpc.port=18081 --set admin.port=18088 \
    --set health.port=18086 --set metrics.port=15557 >"$data/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$data"' EXIT

for _ in $(seq 100); do
    if (exec 3<>/dev/tcp/127.0.0.1/18081) 2>/dev/null; then
        break
    fi
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$data/log" >&2
        exit 1
    fi
    sleep 0.1
done
for what in send e2e; do
    echo "== $what"
    "$folder/bench" "$what" --endpoint 127.0.0.1:18081 --topic "bench-$what" --pid "$server" "$@"
done
