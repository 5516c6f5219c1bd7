#!/usr/bin/env bash
# Builds tests/compat/rust with the official Rust SDK, the crate rocketmq; installs openssl when missing.
# Does nothing when the sources have not changed since.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/../compat/rust"

if ! command -v openssl >/dev/null; then
    need openssl
fi

out=$compat_env/rust
stamp=$(find . -type f | LC_ALL=C sort | xargs sha256sum; rustc --version)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "fetching the official Rust SDK and compiling its test program into $out (cargo build)"
# Cargo would warn of code in the SDK that a compiler to come refuses.
cargo build --release --locked --quiet --config 'future-incompat-report.frequency="never"' --target-dir "$out"
echo "$stamp" >"$out/stamp"
