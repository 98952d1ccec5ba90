#!/usr/bin/env bash
# Test under Slurm. GPUS: processes in all; GPUS_PER_NODE=0 asks for no GPU and tests with CPU processes.
set -e
[ $# -ge 4 ] || { echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2; exit 2; }
TOOLS=$(cd "$(dirname "$0")" && pwd)
exec bash "$TOOLS/slurm_run.sh" "$1" "$2" "$TOOLS/test.py" "$3" "$4" "${@:5}"
