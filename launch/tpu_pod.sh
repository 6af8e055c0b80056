#!/usr/bin/env bash
# A Cloud TPU slice of one or more hosts, by gcloud, from creation to deletion:
#
#   export ZONE=us-east5-b [PROJECT=...] [TYPE=v5litepod-16] [VERSION=v2-alpha-tpuv5-lite] [SPOT=1]
#   launch/tpu_pod.sh create NAME
#   launch/tpu_pod.sh copy NAME             the commit that is checked out, and its requirements
#   launch/tpu_pod.sh run NAME --config=configs/retrieval.py:beauty --workdir=SHARED_FOLDER ...
#   launch/tpu_pod.sh logs NAME [FOLDER]    what worker 0 has said, to FOLDER/NAME.log
#   launch/tpu_pod.sh delete NAME
#
# `launch/tpu_pod.sh --dry-run COMMAND ...` prints what it would do. `run` starts a process on every
# host and returns; after a preemption the same `run` goes on from the newest checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
usage() {
  echo "error: $1: launch/tpu_pod.sh [--dry-run] create|copy|run|logs|delete NAME [ARGUMENTS]" >&2
  exit 2
}
if [ "${1-}" = --dry-run ]; then
  dry_run=1
  shift
fi
command=${1-} name=${2-}
[[ $command =~ ^(create|copy|run|logs|delete)$ ]] || usage "no command '$command'"
[[ $name =~ ^[a-z][-a-z0-9]*$ ]] || usage "'$name' is no name of a TPU"
[ -n "${ZONE-}" ] || usage "no ZONE in the environment"
shift 2

where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})
tpu=(gcloud compute tpus tpu-vm)
on_all() { # on_all COMMAND: on every host of the slice
  run "${tpu[@]}" ssh "$name" "${where[@]}" --worker=all --command="$1"
}

case $command in
  create)
    run "${tpu[@]}" create "$name" "${where[@]}" --accelerator-type="${TYPE:-v5litepod-16}" \
      --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    ;;
  copy)
    archive=genrec_jax.tar.gz folder=FOLDER
    if [ -z "${dry_run-}" ]; then
      folder=$(mktemp -d)
      trap 'rm -rf "$folder"' EXIT
    fi
    run git archive --output="$folder/$archive" HEAD
    run "${tpu[@]}" scp "$folder/$archive" "$name:" "${where[@]}" --worker=all
    on_all "mkdir -p genrec_jax && tar -xzf $archive -C genrec_jax && cd genrec_jax &&
python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt 'jax[tpu]'"
    ;;
  run)
    arguments=$(printf ' %q' "$@")
    on_all "cd genrec_jax && nohup .venv/bin/python -m genrec_jax.main$arguments \
</dev/null >>run.log 2>&1 &"
    ;;
  logs)
    run mkdir -p "${1:-.}"
    run "${tpu[@]}" scp "$name:genrec_jax/run.log" "${1:-.}/$name.log" "${where[@]}" --worker=0
    ;;
  delete)
    run "${tpu[@]}" delete "$name" "${where[@]}" --quiet
    ;;
esac
