#!/usr/bin/env bash
# The GPU half: training steps, the tutorial, tenants, generation and batches of many adapters with
# the shapes of TinyLlama-1.1B and Llama-3-8B, bfloat16, random weights; under ten minutes on one
# H200, once its environments are there (80 GB are enough for the first shape, 120 GB for the second).
#   benchmarks/gpu.sh                    with .venv-bench/ or python3, or it makes .venv-bench/
#   PYTHON=... benchmarks/gpu.sh         with another Python
#   OUT=... benchmarks/gpu.sh --fresh    another folder of results; arguments of `-m benchmarks`
# Peers take part where `.venv-bench/<name>` is there, which `make bench-environments` makes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${OUT:-benchmarks/results}
needed='import torch, transformers, peft, reftune; assert torch.cuda.is_available()'

python=
for candidate in ${PYTHON:-.venv-bench/reftune/bin/python python3}; do
    if "$candidate" -c "$needed" 2>/dev/null; then python=$(command -v "$candidate") && break; fi
done
if [ -z "$python" ] && [ -z "${PYTHON:-}" ]; then
    make bench-environments
    python=.venv-bench/reftune/bin/python
fi
if ! "${python:-$PYTHON}" -c "$needed"; then
    echo "No Python that has reftune's dependencies and sees a GPU." >&2
    exit 1
fi

measure() { "$python" -m benchmarks --device cuda --python "reftune=$python" --out "$out" "$@"; }
measure --shape tinyllama-1.1b --only i,ii,iii,iv,v,tenants,generation,mixed,orthonormal "$@"
measure --shape llama-3-8b --only ii,iii,memory "$@"
