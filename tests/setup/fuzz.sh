#!/usr/bin/env bash
# Usage: fuzz.sh TARGET SECONDS
# Feeds a target of tests/fuzz with what libFuzzer makes up, beginning with valid inputs and what was interesting in earlier
# runs. Ends at the first failure, and says which file brings it about again.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
target=$1
seconds=$2
version=0.13.2
fuzz=$PWD/tests/fuzz

if ! cargo fuzz --version 2>/dev/null | grep -qF "$version"; then
    say "installing cargo-fuzz $version (cargo install, a minute)"
    env -u CARGO_TARGET_DIR cargo install cargo-fuzz --version "$version" --locked --quiet
fi

# RocksDB as the workspace has compiled it: no target looks into it, and it takes ten minutes.
rocksdb=$(ls -t "$CARGO_TARGET_DIR"/release/build/librocksdb-sys-*/out/librocksdb.a | head -n 1)
export ROCKSDB_LIB_DIR=${rocksdb%/*} ROCKSDB_STATIC=1
# The versions of the workspace, without a second file to keep up to date.
cp Cargo.lock "$fuzz/Cargo.lock"
mkdir -p "$fuzz/corpus/$target"

# There is no unsafe code of ours that a sanitizer could find mistakes in; without one a stable compiler will do.
RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" --fuzz-dir "$fuzz" --sanitizer none \
    --target-dir "$CARGO_TARGET_DIR/fuzz" "$fuzz/corpus/$target" "$CARGO_TARGET_DIR/tmp/fuzz/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1
