# Sourced by the scripts beside it, in the project's root. Sets PYTHON to an interpreter that has
# requirements.txt and the extras of pyproject.toml that are named as arguments: the `python` on
# PATH if it has them, otherwise the one of .venv, which is made and filled as needed.

read_requirements='
import sys, tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print(*(requirement for name in sys.argv[1:] for requirement in extras[name]))'

install() { # install PYTHON PIP_OPTION... -- EXTRA...
  local python=$1 options=() requirements  # bash 3 on macOS needs the ${...+...} of empty arrays
  shift
  while [ "$1" != -- ]; do options+=("$1") && shift; done
  shift
  requirements=$("$python" -c "$read_requirements" "$@") &&
    # shellcheck disable=SC2086 # one word a requirement
    "$python" -m pip install --quiet --disable-pip-version-check ${options[@]+"${options[@]}"} \
      -r requirements.txt $requirements
}

use_python() { # use_python EXTRA...
  if PYTHON=$(command -v python) && install "$PYTHON" --no-index -- "$@" &>/dev/null; then
    return
  fi
  PYTHON=.venv/bin/python
  if ! "$PYTHON" -m pip --version &>/dev/null; then
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "error: python3 is older than 3.11: put a newer one first on PATH" >&2
      exit 2
    fi
    echo "Making .venv with $(python3 --version)" >&2
    python3 -m venv --clear .venv
  fi
  if ! install "$PYTHON" --no-index -- "$@" &>/dev/null; then
    echo "Installing the requirements into .venv" >&2
    install "$PYTHON" -- "$@"
  fi
}
