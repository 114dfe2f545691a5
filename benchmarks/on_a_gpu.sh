#!/usr/bin/env bash
# On a machine with a GPU: the tests of its kernels on it, a call beside what else a GPU does and in a CUDA Graph, the
# table of its times, which is what to commit, and the kernels on tiles of other sizes.
# Needs torch with CUDA, Triton, Kornia, tqdm, OpenCV, and pytest with xdist; PYTHON says which Python has them.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=2
"${PYTHON:-python3}" -m pytest tests/test_cuda*.py -m cuda -n "${WORKERS:-8}" -p no:benchmark
"${PYTHON:-python3}" -m benchmarks.beside
"${PYTHON:-python3}" -m benchmarks --device cuda --cases M64 --markdown "${1:-benchmarks/results-cuda.md}"
"${PYTHON:-python3}" -m benchmarks.tilings
