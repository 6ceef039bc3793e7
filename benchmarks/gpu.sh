#!/usr/bin/env bash
# The GPU half: training steps, the tutorial, generation and batches of many adapters with the shapes
# of TinyLlama-1.1B and Llama-3-8B, bfloat16, random weights; under ten minutes on one H200 (80 GB
# are enough for the first, 120 GB for the second). Another Python: `PYTHON=... benchmarks/gpu.sh`.
# Peers take part where `.venv-bench/<name>` is there: `make bench BENCH_ARGS=--help` makes them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv-bench/reftune/bin/python}
out=${OUT:-benchmarks/results}
"$python" -m benchmarks --device cuda --shape tinyllama-1.1b \
    --only i,ii,iii,iv,v,generation,mixed,orthonormal --out "$out" "$@"
"$python" -m benchmarks --device cuda --shape llama-3-8b --only ii,iii,memory --out "$out" "$@"
