#!/usr/bin/env bash
# Usage: restart.sh FOLDER [GIB [BODY_BYTES [RUNS]]]
# Fills the CommitLog of a server of its own with GIB GiB (default 5) of messages of BODY_BYTES (default 1 MiB), and
# then, RUNS times (default 3): kill -9 under load, start again, and the time from the start of the process to the
# first message that was sent and received. FOLDER holds the binaries; the data is kept beside them for that time.
set -euo pipefail
folder=$1
gib=${2:-5}
size=${3:-1048576}
runs=${4:-3}

data=$(mktemp -d "$folder/restart-data.XXXXXX")
export XDG_STATE_HOME=$data/state
server=
load=
finish() {
    for process in $load $server; do
        kill -9 "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$data"
}
trap finish EXIT

start() {
    "$folder/apogee" dev --data "$data/data" --set grpc.port=18081 --set admin.port=18088 --set health.port=18086 \
        --set metrics.port=15557 >>"$data/log" 2>&1 &
    server=$!
}

# One message there and back; says nothing, and fails while nobody serves.
serves() {
    "$folder/apogee" message send --endpoint 127.0.0.1:18081 restart-probe probe >/dev/null 2>&1 &&
        "$folder/apogee" message receive --endpoint 127.0.0.1:18081 restart-probe >/dev/null 2>&1
}

wait_until_it_serves() {
    until serves; do
        if ! kill -0 "$server" 2>/dev/null; then
            cat "$data/log" >&2
            exit 1
        fi
    done
}

log_mib() {
    echo $(($(find "$data/data/store/log" -name '*.seg' | wc -l) * 32))
}

send() {
    "$folder/bench" send --endpoint 127.0.0.1:18081 --topic restart --size "$size" --in-flight 16 --warm-up 0 "$@"
}

now_ms() {
    date +%s%3N
}

start
wait_until_it_serves
while (($(log_mib) < gib * 1024)); do
    send --seconds 5 >/dev/null
    echo "log: $(log_mib) MiB"
done
for run in $(seq "$runs"); do
    send --seconds 30 >/dev/null 2>&1 &
    load=$!
    sleep 3
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    wait "$load" 2>/dev/null || true
    load=
    begun=$(now_ms)
    start
    wait_until_it_serves
    echo "run $run: a log of $(log_mib) MiB serves $(($(now_ms) - begun)) ms after the start of the process"
    grep -o '"event":"store_recovered".*' "$data/log" | tail -1 || true
done
