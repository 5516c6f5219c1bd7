#!/usr/bin/env bash
# Usage: bench-topics.sh FOLDER [ROUNDS [TOPICS]]
# The same sends to one topic and to many in turn, on a server of its own that has all of them, ROUNDS times. FOLDER holds
# the binaries; the data is kept beside them for the time of the run.
set -euo pipefail
folder=$1
rounds=${2:-5}
topics=${3:-1000}

data=$(mktemp -d "$folder/bench-topics.XXXXXX")
XDG_STATE_HOME=$data/state "$folder/apogee" dev --data "$data/data" --set grpc.port=18081 --set admin.port=18088 \
    --set health.port=18086 --set metrics.port=15557 >"$data/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$data"' EXIT
for _ in $(seq 100); do
    (exec 3<>/dev/tcp/127.0.0.1/18081) 2>/dev/null && break
    kill -0 "$server" 2>/dev/null || { cat "$data/log" >&2; exit 1; }
    sleep 0.1
done

load() {
    "$folder/bench" send --endpoint 127.0.0.1:18081 --topic bench --seconds 4 --warm-up 1 --pid "$server" --topics "$1" |
        awk '$1 == "sent" { rate = $2 + 0 } $1 == "server_cpu" { print rate, $4 }'
}
load "$topics" >/dev/null # creates them
for ((round = 1; round <= rounds; round++)); do
    one=$(load 1)
    many=$(load "$topics")
    echo "round $round: $one $many" >&2
    echo "$one $many" >>"$data/rounds"
done
median() {
    awk -v column="$1" '{ print $column }' "$data/rounds" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}
printf '%-16s %12s %12s\n' "" "one topic" "$topics topics"
printf '%-16s %12s %12s\n' "sends/s" "$(median 1)" "$(median 3)"
printf '%-16s %12s %12s\n' "CPU, us each" "$(median 2)" "$(median 4)"
