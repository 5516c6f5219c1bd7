#!/usr/bin/env bash
# Usage: bench-fifo.sh FOLDER [ROUNDS [MESSAGES]]
# The official Java SDK works off as many messages without order and in order by message group, in turn, ROUNDS times, on a
# server of its own. FOLDER holds the binaries; the data is kept beside them for the time of the run.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
folder=$1
rounds=${2:-5}
messages=${3:-50000}
"$(dirname "$0")/java.sh"

data=$(mktemp -d "$folder/bench-fifo.XXXXXX")
export XDG_STATE_HOME=$data/state
"$folder/apogee" dev --data "$data/data" --set grpc.port=18081 --set admin.port=18088 \
    --set health.port=18086 --set metrics.port=15557 >"$data/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$data"' EXIT
for _ in $(seq 100); do
    "$folder/apogee" topic list >/dev/null 2>&1 && break # it has said where it is
    kill -0 "$server" 2>/dev/null || { cat "$data/log" >&2; exit 1; }
    sleep 0.1
done

# run normal|fifo ROUND: messages/s
run() {
    local order=concurrent
    [ "$1" == normal ] || order=fifo
    "$folder/apogee" topic create "order-$1-$2" --type "$1" >/dev/null
    "$folder/apogee" group create "order-$1-$2" --order "$order" >/dev/null
    java -Xmx2g -cp "$compat_env/java/classes:$compat_env/java/dependency/*" apogee.compat.Order \
        127.0.0.1:18081 "$1" "order-$1-$2" "order-$1-$2" "$messages" | awk '{ print $1 }'
}
run normal 0 >/dev/null # whatever is slow the first time
for ((round = 1; round <= rounds; round++)); do
    normal=$(run normal "$round")
    fifo=$(run fifo "$round")
    echo "round $round: without order $normal, in order $fifo messages/s" >&2
    echo "$normal $fifo" >>"$data/rounds"
done
awk '{ print $2 / $1 }' "$data/rounds" | sort -n | awk '
    { ratio[NR] = $1 }
    END { printf "in order / without: median %.2f, from %.2f to %.2f\n", ratio[int((NR + 1) / 2)], ratio[1], ratio[NR] }'
