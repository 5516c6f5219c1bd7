#!/usr/bin/env bash
# Usage: bench-cluster.sh FOLDER [ROUNDS [SECONDS]]
# What it costs to keep the roles apart, and to keep three replicas: the same load on `apogee dev`, on namesrv, one
# store-node and a proxy, and on three store-nodes with three replica groups, one after the other, ROUNDS times. Prints
# medians, and what the disk and the loopback take by themselves in the same run.
# FOLDER holds the binaries; the data is kept beside them for the time of the run, because /tmp may be memory, where
# fsync costs nothing.
set -euo pipefail
folder=$1
rounds=${2:-5}
seconds=${3:-8}

# Sends per second that leave the machine mostly idle, and how many may be on their way.
rate=500
paced=16
# Single messages per second to consumers that wait for them.
single=20

data=$(mktemp -d "$folder/bench-cluster.XXXXXX")
pids=()
trap 'stop; rm -rf "$data"' EXIT

role() {
    "$folder/apogee" "$@" >>"$data/log" 2>&1 &
    pids+=($!)
}

# Starts COUNT store-nodes, and a namesrv and a proxy for them; 0: one process with everything.
start() {
    local count=$1 i
    pids=()
    mkdir "$data/run"
    : >"$data/log"
    if [ "$count" == 0 ]; then
        XDG_STATE_HOME=$data/run/state role dev --data "$data/run/dev" --set grpc.port=18081 --set admin.port=18088 \
            --set health.port=18086 --set metrics.port=18057
    else
        role namesrv --data "$data/run/namesrv" --replication-factor "$count" --port 18076 --raft-port 18078 \
            --set health.port=18077 --set metrics.port=18079
        for ((i = 1; i <= count; i++)); do
            role store-node --name "store-$i" --namesrv 127.0.0.1:18076 --data "$data/run/store-$i" \
                --lanes-port "182${i}1" --replication-port "182${i}2" --set "health.port=182${i}6" \
                --set "metrics.port=182${i}7"
        done
        role proxy --namesrv 127.0.0.1:18076 --port 18081 --admin-port 18088 --set health.port=18086 \
            --set metrics.port=18057 --set drain.lame_duck=0s --set drain.spread=0s --set drain.grace=1s
    fi
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
        kill -9 "$pid" 2>/dev/null || true
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
p99_of() { awk '$1 == "receive" { print $7 }' "$data/$1" | median; }
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
        "$folder/apogee" bench e2e --endpoint 127.0.0.1:18081 --topic bench-single --rate "$single" --seconds "$seconds" \
            --receivers 1 -o table >>"$data/$shape-single"
        stop
    done
done

printf '%-38s %12s %12s %12s\n' "" "one process" "roles apart" "three"
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
row "waited for at $single/s, arrive p99 in ms" p99_of single
awk -v dev_send="$(cpu_of alone-send)" -v dev_e2e="$(cpu_of alone-e2e)" -v one_send="$(cpu_of one-send)" \
    -v one_e2e="$(cpu_of one-e2e)" 'BEGIN {
    printf "roles apart take %.2f times the CPU of one process for sends, %.2f with receives and acks (at most 1.6)\n",
        one_send / dev_send, one_e2e / dev_e2e
}'
awk -v one_send="$(cpu_of one-send)" -v three_send="$(cpu_of three-send)" \
    -v one_e2e="$(cpu_of one-e2e)" -v three_e2e="$(cpu_of three-e2e)" \
    -v one="$(p50_of one-paced)" -v three="$(p50_of three-paced)" \
    -v sync="$(machine_of fdatasync)" -v trip="$(machine_of round_trip)" 'BEGIN {
    printf "three groups of three replicas take %.2f times the CPU of one of one for sends, %.2f with receives and acks\n",
        three_send / one_send, three_e2e / one_e2e
    printf "they add %.3f ms to the p50 of sends; fdatasync %.3f + round trip %.3f + 1 ms = %.3f ms at most\n",
        three - one, sync, trip, sync + trip + 1
}'
