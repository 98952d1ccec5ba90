#!/usr/bin/env bash
# Train on GPUS processes of this machine, one per GPU, or on the CPU where there is no GPU.
# Over several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -e
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2; exit 2; }
TOOLS=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" "$TOOLS/dist_launch.py" "$2" "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
