#!/usr/bin/env bash
# aerolithd beside Debian's redis-server and memcached, in one run, on loopback. Needs the packages redis-server,
# redis-tools and memcached, and for the part on the device root (a memory cgroup keeps extstore's file out of the
# page cache). Prints tables; ends only what it has started.
#
#   benches/servers.sh DIR [default|ram|device ...]      data goes to a new folder in DIR
set -euo pipefail
cd "$(dirname "$0")/.."
parent=${1:?usage: benches/servers.sh DIR [default|ram|device ...]}
shift
parts=${*:-default ram device}
work=$(mktemp -d "$parent/servers.XXXXXX")
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
    [ -z "${group:-}" ] || rmdir "$group" 2>/dev/null || true
}
trap cleanup EXIT
cargo build --release --quiet --bin aerolithd --bin aerolith

start() { # NAME COMMAND...: runs it, leaves its id in $pid
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pid=$!
    started+=("$pid")
    sleep 1
    kill -0 "$pid" 2>/dev/null || { cat "$work/$name.log"; exit 1; }
}
stop() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
rss() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$1/status"; }

bench() { # NAME PID PORT TEST COUNT KEYS DEPTH
    local before line cpu
    before=$(ticks "$2")
    line=$(redis-benchmark -p "$3" -t "$4" -n "$5" -r "$6" -d 1000 -c 50 -P "$7" --csv | tail -1 | tr -d '"')
    cpu=$(echo "($(ticks "$2") - $before) * 10000 / $5" | bc -l)
    echo "$line" | awk -F, -v name="$1" -v depth="$7" -v cpu="$cpu" -v rss="$(rss "$2")" \
        '{printf "| %s | %s | %s | %d | %.2f | %.2f | %.2f | %d |\n", $1, depth, name, $2, $5, $7, cpu, rss}'
}
read_records() { # TARGET ADDRESS PID CONNECTIONS DEPTH: random reads by `aerolith bench`
    echo "$1, $4 connections, depth $5"
    # A cache may have let records go: that is a miss and no fault. Wrong values end this script.
    target/release/aerolith bench "--$1" "$2" --server-pid "$3" --connections "$4" --depth "$5" \
        --threads $(($4 < 2 ? 1 : 2)) --mix read=100 --warm-up 1s --duration 4s --quiet | grep -E '^(processor|operation|read) '
}
head_row() {
    printf '| test | P | server | requests/s | p50 ms | p99 ms | CPU us | RSS MiB |\n|---|---|---|---|---|---|---|---|\n'
}

default_part() {
    echo "## A million keys of 1000 bytes, default settings"
    start aerolithd target/release/aerolithd --data-dir "$work/default" --redis-port 7101 --admin-port 0
    local ours=$pid
    start redis redis-server --port 7102 --save "" --appendonly no --dir "$work"
    local theirs=$pid
    head_row
    for test in set get incr; do
        bench aerolithd "$ours" 7101 "$test" 1000000 1000000 16
        bench redis "$theirs" 7102 "$test" 1000000 1000000 16
    done
    stop "$ours"
    stop "$theirs"
}

ram_part() {
    echo "## From RAM: 100,000 keys of 1000 bytes, all in the caches"
    start aerolithd target/release/aerolithd --data-dir "$work/ram" --redis-port 7101 --admin-port 0 --cache 1GiB --write-cache 2GiB
    local ours=$pid
    start redis redis-server --port 7102 --save "" --appendonly no --dir "$work"
    local theirs=$pid
    redis-benchmark -p 7101 -t set -n 500000 -r 100000 -d 1000 -c 50 -P 16 -q >/dev/null
    redis-benchmark -p 7102 -t set -n 500000 -r 100000 -d 1000 -c 50 -P 16 -q >/dev/null
    head_row
    for round in 1 2 3; do
        for depth in 1 16; do
            for test in set get; do
                bench aerolithd "$ours" 7101 "$test" $((depth == 1 ? 200000 : 1000000)) 100000 "$depth"
                bench redis "$theirs" 7102 "$test" $((depth == 1 ? 200000 : 1000000)) 100000 "$depth"
            done
        done
    done
    stop "$ours"
    stop "$theirs"
}

device_part() {
    echo "## From the device: 2,000,000 records of 1000 bytes, caches too small to matter"
    local load="target/release/aerolith bench --load-only --records 2000000 --quiet" memcached=""
    start aerolithd target/release/aerolithd --data-dir "$work/device" --redis-port 7101 --admin-port 0 --cache 0
    local ours=$pid
    $load --redis 127.0.0.1:7101
    sleep 2
    # extstore reads through the page cache: the group's limit keeps its file from fitting there.
    group=/sys/fs/cgroup/memory/aerolith-bench
    if mkdir "$group" 2>/dev/null && echo 800M >"$group/memory.limit_in_bytes"; then
        start memcached sh -c "echo \$\$ >$group/cgroup.procs; exec memcached -u root -p 7103 -U 0 -m 320 -c 1024 \
            -o ext_path=$work/ext:6G,ext_threads=8,ext_item_age=1,ext_wbuf_size=8,ext_drop_under=0,slab_automove=1"
        local theirs=$pid
        memcached=127.0.0.1:7103
        # One request in flight on few connections: extstore refuses what it cannot move to its file fast enough.
        $load --memcache "$memcached" --threads 1 --connections 4 --depth 1
        sleep 5
    else
        echo "no memory cgroup can be made here (not root?): extstore is not run"
        group=
    fi
    for connections in 1 8 32 64; do
        for round in 1 2 3; do
            read_records redis 127.0.0.1:7101 "$ours" "$connections" 1
            [ -z "$memcached" ] || read_records memcache "$memcached" "$theirs" "$connections" 1
        done
    done
    read_records redis 127.0.0.1:7101 "$ours" 16 16
    stop "$ours"
    [ -z "$memcached" ] || stop "$theirs"
}

for part in $parts; do "${part}_part"; done
