#!/usr/bin/env bash
# Makes sure that the server can be built: Rust by rustup, and a C and C++ compiler for the crates that hold C code.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

if ! command -v cargo >/dev/null; then
    say "there is no cargo: please install Rust with rustup; rust-toolchain.toml then picks the version"
    exit 1
fi
if ! command -v cc >/dev/null || ! command -v c++ >/dev/null; then
    need build-essential
fi
# Reads the C headers of RocksDB while its bindings are made.
if [ -z "${LIBCLANG_PATH:-}" ] && ! compgen -G "/usr/lib/llvm-*/lib/libclang.so*" >/dev/null; then
    need libclang-dev
fi
