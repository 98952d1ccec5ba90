#!/usr/bin/env bash
# Trains what configs/fashion_scenes has for one backbone: pretrained, base, grown, base trained on.
# A run that is finished is passed over, one that was stopped goes on from its last checkpoint.
# Usage: tools/train_fashion_scenes.sh swin|deit
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    swin) pretraining=swin-nano_5e_fashion-mnist-64 ;;
    deit) pretraining=deit-nano_9e_fashion-mnist-64 ;;
    *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
esac

"${PYTHON:-python}" tools/dataset_converters/fashion_scenes.py
for run in "$pretraining" \
        "mask-rcnn_$1-nano_6e_fashion-scenes" "mask-rcnn_scalenet-$1-nano-x2_2e_fashion-scenes" \
        "upernet_$1-nano_1000i_fashion-scenes" "upernet_scalenet-$1-nano-x2_500i_fashion-scenes" \
        "mask-rcnn_$1-nano_trained-on-2e_fashion-scenes" "upernet_$1-nano_trained-on-500i_fashion-scenes"; do
    "${PYTHON:-python}" tools/train.py "configs/fashion_scenes/$run.py" --resume
done
