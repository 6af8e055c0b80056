#!/usr/bin/env bash
# Runs genrec_jax.main in N processes on this machine's CPU, to try out what a cluster does:
#
#   launch/local_cluster.sh [--dry-run] N --config=configs/retrieval.py:smoke --workdir=FOLDER ...
#
# Shows what process 0 prints, and what the others say with their numbers before it. Ends with the
# status of the first that fails, and ends the others; Ctrl-C and SIGTERM reach all of them. PYTHON
# in the environment is the interpreter; without it, Python is set up as by launch/quickstart.sh.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
source launch/environment.sh
if [ "${1-}" = --dry-run ]; then
  dry_run=1
  shift
fi
count=${1-}
if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then
  echo "error: '$count' is no number of processes: launch/local_cluster.sh N --config=..." >&2
  exit 2
fi
shift
if [ -z "${PYTHON-}" ]; then
  # shellcheck disable=SC2119 # it needs no extras
  if [ -n "${dry_run-}" ]; then PYTHON=python; else use_python; fi
fi
export JAX_PLATFORMS=cpu
port=PORT
[ -n "${dry_run-}" ] || port=$("$PYTHON" -c '
import socket
with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1])')

number_lines() { # outlives Ctrl-C, for the last lines
  trap '' INT
  while IFS= read -r line; do echo "process $id: $line"; done
}

running=()
pass_on() { # pass_on SIGNAL
  kill -"$1" ${running[@]+"${running[@]}"} 2>/dev/null
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM

set -m # or the processes would not hear of Ctrl-C
for ((id = 0; id < count; id++)); do
  command=("$PYTHON" -u -m genrec_jax.main "$@"
    --coordinator="127.0.0.1:$port" --num_processes="$count" --process_id="$id")
  if [ -n "${dry_run-}" ]; then
    run "${command[@]}"
  elif [ "$id" = 0 ]; then
    "${command[@]}" &
  else
    "${command[@]}" > >(number_lines >&2) 2>&1 &
  fi
  if [ -z "${dry_run-}" ]; then running+=($!); fi
done

status=0
while [ "${#running[@]}" -gt 0 ]; do
  sleep 0.1
  left=()
  for process in "${running[@]}"; do
    if kill -0 "$process" 2>/dev/null; then
      left+=("$process")
      continue
    fi
    wait "$process"
    ended=$?
    if [ "$ended" != 0 ] && [ "$status" = 0 ]; then
      status=$ended
      deadline=$((SECONDS + 5))
    fi
  done
  running=(${left[@]+"${left[@]}"})
  # They end by themselves, and say why; who does not is ended.
  if [ "$status" != 0 ] && [ "$SECONDS" -ge "$deadline" ]; then pass_on KILL; fi
done 2>/dev/null # without the shell's own words on who was killed
exit "$status"
