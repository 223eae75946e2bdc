#!/usr/bin/env bash
# Aerolith beside RocksDB, fjall, redb and LMDB: the same embedded workloads in one run, each engine and phase a process
# of its own in a memory cgroup (root). Prints tables, and writes every figure of every round to a JSON file.
#
#   benches/peers.sh DIR [engine ...] [flag ...]     data goes to a new folder in DIR
#
# Engines and flags: `benches/peers.sh DIR --help`. All engines if none is named; aerolith-ring needs aerolith.
# RocksDB is built if libclang is there (Debian: libclang1 and libclang-common-dev), from its source for half an hour on
# two cores, or linked from a shared library with ROCKSDB_LIB_DIR=/usr/lib/x86_64-linux-gnu (Debian: librocksdb-dev,
# whose version is older). PEERS_FEATURES= (empty) leaves it out. fio runs beside our reads; --no-fio leaves it out.
set -euo pipefail
cd "$(dirname "$0")/.."
parent=${1:?usage: benches/peers.sh DIR [engine ...] [flag ...]}
shift
link=()
if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    # The bindings free a write buffer manager, which this bench never makes and RocksDB 7 does not know.
    missing=rocksdb_write_buffer_manager_destroy
    nm -D "$ROCKSDB_LIB_DIR/librocksdb.so" | grep -q "$missing" || link=(-- -C "link-arg=-Wl,--defsym=$missing=main")
fi
cargo rustc --release --quiet -p aerolith-peers --bin peers --features "${PEERS_FEATURES-rocksdb}" "${link[@]}"
# Tables of several runs together, from copies of that file: target/release/peers tables FILE...
exec target/release/peers run --dir "$parent" --json "$parent/peers.json" "$@"
