#!/usr/bin/env bash
# Makes a virtual environment with the official Python SDK from PyPI; installs Python and openssl when missing.
# Does nothing when the environment has what requirements.txt asks for.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/../compat/python"

missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v openssl >/dev/null || missing+=(openssl)
if [ ${#missing[@]} -gt 0 ]; then
    need "${missing[@]}"
fi

out=$compat_env/python
stamp=$(cat requirements.txt; python3 --version)
if [ -f "$out/stamp" ] && [ "$stamp" == "$(cat "$out/stamp")" ]; then
    exit 0
fi
say "installing the official Python SDK into $out (pip)"
rm -rf "$out"
python3 -m venv "$out"
"$out/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
echo "$stamp" >"$out/stamp"
