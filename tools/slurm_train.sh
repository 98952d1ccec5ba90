#!/usr/bin/env bash
# Train under Slurm. GPUS: processes in all; GPUS_PER_NODE=0 asks for no GPU and trains on CPU processes.
set -e
[ $# -ge 4 ] || { echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2; exit 2; }
TOOLS=$(cd "$(dirname "$0")" && pwd)
exec bash "$TOOLS/slurm_run.sh" "$1" "$2" "$TOOLS/train.py" "$3" --work-dir "$4" "${@:5}"
