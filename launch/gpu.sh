#!/usr/bin/env bash
# Runs a config on all GPUs of this host, in one process. Arguments go to genrec_jax.main.
#
#   launch/gpu.sh [--dry-run] --config=configs/retrieval.py:beauty [--config.KEY=VALUE ...]
#
# CUDA_VISIBLE_DEVICES=0,1 uses two of them. Exit status 75: preempted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
if [ "${1-}" = --dry-run ]; then
  dry_run=1 PYTHON=python
  shift
elif ! command -v nvidia-smi >/dev/null; then
  echo "error: no nvidia-smi on PATH: this is for hosts with NVIDIA GPUs" >&2
  exit 2
else
  use_python cuda
fi
run exec "$PYTHON" -m genrec_jax.main "$@"
