#!/usr/bin/env bash
# From raw files to the rows of docs/results.md: the hybrid and its control, SASRec, for several
# seeds, and what they have in common. Interrupted, the same command goes on.
#
#   launch/reproduce.sh beauty|sports|toys [--seeds N] [--config.KEY=VALUE ...]
#
# GENREC_DATA_DIR is the folder with amazon2014-beauty and so on. The other arguments go to all runs.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ] || [[ $1 == -* ]]; then
  echo "error: no data set: launch/reproduce.sh beauty|sports|toys [--seeds N]" >&2
  exit 2
fi
dataset=$1 seeds=3
shift
if [ "${1-}" = --seeds ]; then
  seeds=${2-}
  if ! [[ $seeds =~ ^[1-9][0-9]*$ ]]; then
    echo "error: --seeds '$seeds' must be a whole number from 1 on" >&2
    exit 2
  fi
  shift 2
fi
source launch/environment.sh
if command -v nvidia-smi >/dev/null; then use_python cuda; else use_python; fi

place=runs/reproduce-${dataset//,/-}
for stage in sasrec hybrid; do
  runs=
  for ((seed = 0; seed < seeds; seed++)); do
    "$PYTHON" -m genrec_jax.main --config="configs/$stage.py:$dataset" --config.seed="$seed" \
      --config.cache_dir="$place/cache" --workdir="$place/$stage-$seed" "$@"
    runs+=${runs:+,}$place/$stage-$seed
  done
  "$PYTHON" -m genrec_jax.main --config=configs/summary.py --config.runs="$runs" \
    --workdir="$place/$stage"
done
