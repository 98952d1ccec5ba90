#!/usr/bin/env bash
# Trains what configs/fashion_scenes has for one backbone: pretrained, base, grown without and with gates, base trained on.
# A run that is finished is passed over, one that was stopped goes on from its last checkpoint.
# Usage: tools/train_fashion_scenes.sh swin|deit
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    swin) pretraining=swin-nano_8e_fashion-crops ;;
    deit) pretraining=deit-nano_8e_fashion-crops ;;
    *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
esac

"${PYTHON:-python}" tools/dataset_converters/fashion_scenes.py
for run in "$pretraining" \
        mask-rcnn_{$1-nano_3e,scalenet-$1-nano-x2{,-gated}_1e,$1-nano_trained-on-1e}_fashion-scenes \
        upernet_{$1-nano_6000i,scalenet-$1-nano-x2{,-gated}_2000i,$1-nano_trained-on-2000i}_fashion-scenes; do
    "${PYTHON:-python}" tools/train.py "configs/fashion_scenes/$run.py" --resume
done
