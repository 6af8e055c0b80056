#!/usr/bin/env bash
# Sets up Python, then lints and runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
use_python dev
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest --quiet -n auto --maxprocesses 8 --dist loadfile "$@"
