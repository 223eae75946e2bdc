#!/usr/bin/env bash
# What durability costs, beside peers in one run, on the file system of DIR: acknowledged durable writes a second
# against fio's O_DSYNC writes and Redis's `appendfsync always`; and the return after kill -9, from a checkpoint, by a sweep
# over all blocks, and of Redis from its append-only file. Needs the packages fio, redis-server and redis-tools. Prints
# tables; ends only what it has started.
#
#   benches/durable.sh DIR commits              data goes to a new folder in DIR
#   benches/durable.sh DIR restart RECORDS
set -euo pipefail
cd "$(dirname "$0")/.."
usage='usage: benches/durable.sh DIR commits|restart [RECORDS]'
parent=${1:?$usage}
part=${2:?$usage}
work=$(mktemp -d "$parent/durable.XXXXXX")
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
cargo build --release --quiet --bin aerolithd
cargo build --release --quiet -p aerolith-benches --bin restart --bin commits

start() { # NAME COMMAND...
    "${@:2}" >"$work/$1.log" 2>&1 &
    started+=("$!")
    sleep 1
    kill -0 "$!" 2>/dev/null || { cat "$work/$1.log"; exit 1; }
}

fio_rate() { # durable writes of 4 KiB a second, one after the other, into space that has been written
    fio --name=dsync --filename="$work/fio" --size=64m --bs=4k --rw=write --direct=1 --sync=dsync --ioengine=psync \
        --overwrite=1 --time_based --runtime=3 --output-format=json | python3 -c \
        'import json, sys; print(int(json.load(sys.stdin)["jobs"][0]["write"]["iops"]))'
}

set_rate() { # PORT CLIENTS
    redis-benchmark -p "$1" -t set -n $(($2 * 4000)) -r 1000000 -d 100 -c "$2" --threads 2 --csv | tail -1 | tr -d '"' | cut -d, -f2 | cut -d. -f1
}

embedded_rate() { # WRITERS
    target/release/commits --path "$work/embedded.data" --writers "$1" --seconds 3 | cut -d' ' -f1
}

commits() {
    start aerolithd target/release/aerolithd --data-dir "$work/ours" --redis-port 7111 --admin-port 0 --durability group
    start redis redis-server --port 7112 --save "" --appendonly yes --appendfsync always --dir "$work"
    # The first blocks are written with zeros ahead of use.
    set_rate 7111 8 >/dev/null
    printf '| clients | embedded | aerolithd, group | Redis, always | fio, O_DSYNC at depth 1 | aerolithd / Redis | aerolithd / fio | embedded / fio |\n'
    printf '|---|---|---|---|---|---|---|---|\n'
    local clients fio ours theirs embedded round
    for clients in 1 8 64; do
        for round in 1 2 3; do
            fio=$(fio_rate)
            ours=$(set_rate 7111 "$clients")
            theirs=$(set_rate 7112 "$clients")
            embedded=$(embedded_rate "$clients")
            awk -v c="$clients" -v f="$fio" -v o="$ours" -v t="$theirs" -v e="$embedded" \
                'BEGIN {printf "| %d | %d | %d | %d | %d | %.2f | %.2f | %.2f |\n", c, e, o, t, f, o / t, o / f, e / f}'
        done
    done
}

restarts() { # RECORDS
    local ours=(target/release/aerolithd --data-dir "$work/ours" --redis-port 7121 --admin-port 0 --size 16GiB)
    local time=(target/release/restart --records "$1" --rounds 3)
    echo "aerolithd, from a checkpoint:"
    "${time[@]}" --wait 10 --port 7121 -- "${ours[@]}" --checkpoint-period-ms 3000
    echo "aerolithd, without one: its roots are wiped, all blocks are read"
    dd if=/dev/zero of="$work/ours/test.data" bs=4096 seek=2 count=2 conv=notrunc status=none
    "${time[@]}" --wait 1 --filled --port 7121 -- "${ours[@]}" --checkpoint-period-ms 0
    rm -rf "$work/ours"
    echo "redis-server, append-only file, fsync every second:"
    mkdir "$work/theirs"
    "${time[@]}" --wait 5 --port 7122 -- redis-server --port 7122 --dir "$work/theirs" --save "" --appendonly yes
}

case $part in
    commits) commits ;;
    restart) restarts "${3:-2000000}" ;;
    *) echo "$usage" && exit 2 ;;
esac
