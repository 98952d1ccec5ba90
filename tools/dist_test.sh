#!/usr/bin/env bash
# Test with GPUS processes of this machine, one per GPU, or on the CPU where there is no GPU.
# Over several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -e
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2; exit 2; }
TOOLS=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" "$TOOLS/dist_launch.py" "$3" "$TOOLS/test.py" "$1" "$2" --launcher pytorch "${@:4}"
