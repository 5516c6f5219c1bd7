#!/usr/bin/env bash
# Usage: cluster.sh BINARY FOLDER
# A whole cluster on loopback: three namesrv, three store-nodes and two proxies, their data, logs and cluster token in
# FOLDER. Runs until it is asked to stop, and stops all of them.
set -euo pipefail
binary=$1
folder=$2
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
token=$folder/token
[ -s "$token" ] || (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token")

names=()
pids=()

# Starts a role under NAME; all ports but the first two of a role follow from BASE.
start() {
    local name=$1
    shift
    "$binary" "$@" --token-file "$token" --log-format json >>"$folder/$name.log" 2>&1 &
    names+=("$name")
    pids+=($!)
}

# All at once, so that nobody waits for his turn or for a namesrv: who is asked twice ends at once.
stop() {
    trap '' INT TERM
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    sleep 0.5
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'exit 0' INT TERM

members="1=127.0.0.1:9876/9878,2=127.0.0.1:9886/9888,3=127.0.0.1:9896/9898"
namesrv="127.0.0.1:9876,127.0.0.1:9886,127.0.0.1:9896"
for i in 1 2 3; do
    ten=$((6 + i))
    start "namesrv-$i" namesrv --data "$folder/namesrv-$i" --id "$i" --members "$members" --port "98${ten}6" \
        --raft-port "98${ten}8" --set "health.port=98${ten}7" --set "metrics.port=98${ten}9"
done
for i in 1 2 3; do
    start "store-$i" store-node --data "$folder/store-$i" --name "store-$i" --zone "zone-$i" --namesrv "$namesrv" \
        --lanes-port "109${i}1" --replication-port "109${i}2" --set "health.port=109${i}6" --set "metrics.port=109${i}7" \
        --set store.segment=32MiB
done
for i in 1 2; do
    ten=$((7 + i))
    start "proxy-$i" proxy --namesrv "$namesrv" --port "80${ten}1" --admin-port "80${ten}8" \
        --set "health.port=80${ten}6" --set "metrics.port=55$((4 + i))7" --set drain.lame_duck=0s
done

ready() {
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
    read -r answer <&3 || true
    exec 3>&-
    [[ $answer == *" 200 "* ]]
} 2>/dev/null

for _ in $(seq 600); do
    all=yes
    for port in 9877 9887 9897 10916 10926 10936 8086 8096; do
        ready "$port" || all=no
    done
    [ $all = yes ] && break
    for at in "${!pids[@]}"; do
        if ! kill -0 "${pids[$at]}" 2>/dev/null; then
            tail -n 3 "$folder/${names[$at]}.log" >&2
            echo "${names[$at]} has ended; its log is $folder/${names[$at]}.log" >&2
            exit 1
        fi
    done
    sleep 0.1
done
if [ $all = no ]; then
    echo "the cluster is not ready after a minute; its logs are in $folder" >&2
    exit 1
fi

cat >&2 <<EOF

Three namesrv, three store-nodes and two proxies are ready. SDKs connect to 127.0.0.1:8081 or 127.0.0.1:8091, or to both.
In another terminal:

  export APOGEE_ENDPOINT=127.0.0.1:8081 APOGEE_ADMIN_ENDPOINT=127.0.0.1:8088 APOGEE_TOKEN_FILE=$token
  $binary topic create hello
  $binary message send hello "first light"
  $binary message receive hello --endpoint 127.0.0.1:8091
  kill -9 ${pids[3]}                          # store-1; messages go on

Data and logs are in $folder. Ctrl-C stops all of them.

EOF
wait
