#!/usr/bin/env bash
# Usage: bench-cluster.sh FOLDER [ROUNDS [SECONDS]]
# What three replicas cost: the same load on `apogee dev` alone, on one store-node behind a proxy, and on three, one
# after the other, ROUNDS times. Prints medians, and what the disk and the loopback take by themselves in the same run.
# FOLDER holds the binaries; the data is kept beside them for the time of the run, because /tmp may be memory, where
# fsync costs nothing.
set -euo pipefail
folder=$1
rounds=${2:-5}
seconds=${3:-8}

# Sends per second that leave the machine mostly idle, and how many may be on their way.
rate=500
paced=16

data=$(mktemp -d "$folder/bench-cluster.XXXXXX")
pids=()
trap 'stop; rm -rf "$data"' EXIT

start_dev() {
    XDG_STATE_HOME=$data/run/state "$folder/apogee" dev --data "$data/run/dev" --set grpc.port=18081 \
        --set admin.port=18088 --set health.port=18086 --set metrics.port=18057 "$@" >>"$data/log" 2>&1 &
    pids+=($!)
}

# Starts COUNT store-nodes and a proxy before them; 0: one process with everything.
start() {
    local count=$1 i peers="" stores=""
    pids=()
    mkdir "$data/run"
    : >"$data/log"
    for ((i = 1; i <= count; i++)); do
        peers+=${peers:+,}$i=127.0.0.1:182${i}2
        stores+=${stores:+,}127.0.0.1:182${i}1
    done
    for ((i = 1; i <= count; i++)); do
        "$folder/apogee" store-node --cluster-id a1 --replica "$i" --peers "$peers" --data "$data/run/store-$i" \
            --lanes-port "182${i}1" --replication-port "182${i}2" --set "health.port=182${i}6" \
            --set "metrics.port=182${i}7" >>"$data/log" 2>&1 &
        pids+=($!)
    done
    if [ "$count" == 0 ]; then start_dev; else start_dev --stores "$stores"; fi
    for _ in $(seq 200); do
        if "$folder/bench" send --endpoint 127.0.0.1:18081 --seconds 1 --warm-up 0 --rate 10 >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    cat "$data/log" >&2
    exit 1
}

stop() {
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
    rm -rf "$data/run"
}

# Runs the load generator and keeps its report under NAME.
load() {
    local name=$1
    shift
    "$folder/bench" "$@" --endpoint 127.0.0.1:18081 --topic "bench-$name" --seconds "$seconds" \
        --pid "$(IFS=,; echo "${pids[*]}")" >>"$data/$shape-$name"
}

median() {
    sort -n | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : "?" }'
}

# The median over all rounds: messages per second, microseconds of CPU per message, milliseconds in the 50th percentile.
rate_of() { awk '$1 == "sent" { print $2 + 0 }' "$data/$1" | median; }
cpu_of() { awk '$1 == "server_cpu" { print $4 }' "$data/$1" | median; }
p50_of() { awk '$1 == "sent" { print $4 }' "$data/$1" | median; }
machine_of() { awk -v what="$1" '$1 == what { print $(NF - 1) }' "$data/machine" | median; }

shapes=(alone one three)
declare -A count=([alone]=0 [one]=1 [three]=3)
for ((round = 1; round <= rounds; round++)); do
    "$folder/bench" machine --folder "$data" | sed 's/round trip/round_trip/' >>"$data/machine"
    for shape in "${shapes[@]}"; do
        echo "round $round of $rounds: $shape, load of the machine $(cut -d' ' -f1 /proc/loadavg)" >&2
        start "${count[$shape]}"
        load send send
        load e2e e2e
        load paced send --rate "$rate" --in-flight "$paced"
        stop
    done
done

printf '%-38s %12s %12s %12s\n' "" "one process" "one replica" "three"
row() {
    local title=$1 of=$2 name=$3 shape values=()
    for shape in "${shapes[@]}"; do values+=("$("$of" "$shape-$name")"); done
    printf '%-38s %12s %12s %12s\n' "$title" "${values[@]}"
}
row "sends/s, 64 in flight" rate_of send
row "  server CPU, us per message" cpu_of send
row "sent, received and acked/s" rate_of e2e
row "  server CPU, us per message" cpu_of e2e
row "sends at $rate/s, p50 in ms" p50_of paced
row "  server CPU, us per message" cpu_of paced
awk -v one_send="$(cpu_of one-send)" -v three_send="$(cpu_of three-send)" \
    -v one_e2e="$(cpu_of one-e2e)" -v three_e2e="$(cpu_of three-e2e)" \
    -v one="$(p50_of one-paced)" -v three="$(p50_of three-paced)" \
    -v sync="$(machine_of fdatasync)" -v trip="$(machine_of round_trip)" 'BEGIN {
    printf "three replicas take %.2f times the CPU of one for sends, %.2f with receives and acks (at most 2.5)\n",
        three_send / one_send, three_e2e / one_e2e
    printf "they add %.3f ms to the p50 of sends; fdatasync %.3f + round trip %.3f + 1 ms = %.3f ms at most\n",
        three - one, sync, trip, sync + trip + 1
}'
