#!/usr/bin/env bash
# All that a GPU can show, within minutes, from a bare checkout: bash benchmarks/on_gpu.sh OUT (see docs/gpu.md).
# Installs nothing and needs no network. PYTHON is the interpreter, which has jax and torch; python3 if unset.
set -euo pipefail
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    mkdir -p "$1"
    out=$(cd "$1" && pwd) # the caller's folder, not the checkout's
    shift
    set -- "$out" "$@"
fi
export GRADREV_CALLED_FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.on_gpu "$@"
