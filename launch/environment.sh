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
  # shellcheck disable=SC2086 # one word a requirement
  requirements=$("$python" -c "$read_requirements" "$@") &&
    "$python" -m pip install --quiet --disable-pip-version-check ${options[@]+"${options[@]}"} \
      -r requirements.txt $requirements
}

supported_python() { # prints the first Python on PATH that the requirements are made for
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
      &>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

use_python() { # use_python EXTRA...
  if PYTHON=$(command -v python) && install "$PYTHON" --no-index -- "$@" &>/dev/null; then
    return
  fi
  PYTHON=.venv/bin/python
  if ! "$PYTHON" -m pip --version &>/dev/null; then
    local base
    if ! base=$(supported_python); then
      echo "error: no Python 3.11, 3.12 or 3.13 on PATH: install one" >&2
      exit 2
    fi
    echo "Making .venv with $("$base" --version)" >&2
    "$base" -m venv --clear .venv
  fi
  if ! install "$PYTHON" --no-index -- "$@" &>/dev/null; then
    echo "Installing the requirements into .venv" >&2
    install "$PYTHON" -- "$@"
  fi
}

run() { # run COMMAND...: runs it, or only prints it if $dry_run is set
  if [ -n "${dry_run-}" ]; then
    printf '%q' "$1"
    printf ' %q' "${@:2}"
    echo
  else
    "$@"
  fi
}
