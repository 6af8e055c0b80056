#!/usr/bin/env bash
# From nothing to a trained recommender: sets up Python, makes the synthetic shop, trains tokenizer
# and retrieval model, prints metrics and recommendations. Two to four minutes on two CPU cores;
# repeated, it goes on from the last checkpoint, or prints the results at once. Arguments go to
# genrec_jax.main, which runs in the project's root.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
if command -v nvidia-smi >/dev/null; then use_python cuda; else use_python; fi
exec "$PYTHON" -m genrec_jax.main --config=configs/retrieval.py "$@"
