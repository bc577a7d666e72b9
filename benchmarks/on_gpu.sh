#!/usr/bin/env bash
# Runs all checks and benchmarks of a GPU within minutes, from a bare checkout: bash benchmarks/on_gpu.sh OUT
# (see docs/gpu.md). It installs nothing and needs no network. PYTHON is an interpreter that has jax and torch;
# the default is python3.
set -euo pipefail
export GRADREV_CALLED_FROM=$PWD # OUT and the folder of wheels are relative to it
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.on_gpu "$@"
