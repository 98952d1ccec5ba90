#!/usr/bin/env bash
# What slurm_train.sh and slurm_test.sh share: PARTITION JOB_NAME SCRIPT [arguments of the script].
# From the environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -e
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
OPTIONS=(-p "$1" "--job-name=$2" "--ntasks=$GPUS" "--cpus-per-task=${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1)
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    OPTIONS+=("--gres=gpu:$GPUS_PER_NODE" "--ntasks-per-node=$GPUS_PER_NODE")
fi
export PYTHONPATH="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/..${PYTHONPATH:+:$PYTHONPATH}"
# SRUN_ARGS holds several words
# shellcheck disable=SC2086
exec srun "${OPTIONS[@]}" ${SRUN_ARGS:-} "${PYTHON:-python}" -u "${@:3}" --launcher slurm
