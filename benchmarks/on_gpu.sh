#!/usr/bin/env bash
# All that a GPU can show, within minutes, from a bare checkout: bash benchmarks/on_gpu.sh OUT (see docs/gpu.md).
# Installs nothing and needs no network. PYTHON is the interpreter, which has jax and torch; python3 if unset.
set -euo pipefail
export GRADREV_CALLED_FROM=$PWD # where OUT and the wheels are
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.on_gpu "$@"
