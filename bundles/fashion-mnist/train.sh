#!/bin/sh
# Make this bundle again: teach, train, export, measure on the test pictures. Takes the folder with Fashion-MNIST's IDX files
# (Debian's package dataset-fashion-mnist puts them where the default says) and needs scripts/install cpu,train,export.
# Hours on two cores. Killed and started again, it goes on where it was.
set -eu
cd "$(dirname "$0")/../.."
data=${1:-/usr/share/datasets/fashion-mnist}
teacher=checkpoints/fashion-mnist-teacher
checkpoint=checkpoints/fashion-mnist
[ -f "$teacher/teacher.onnx" ] || PYTHONPATH=. .venv/bin/python bundles/fashion-mnist/teacher.py "$data" "$teacher"
.venv/bin/mixer train "$data" --out "$checkpoint" \
    --labels bundles/fashion-mnist/labels.txt --name fashion-mnist --licence Apache-2.0 \
    --teacher "$teacher/teacher.onnx" --distil-weight 0.8 --distil-temperature 2 \
    --image-size 28 --channels 1 --fit pad --background dark --patch-size 4 \
    --hidden-dim 128 --num-blocks 8 --tokens-mlp-dim 64 --channels-mlp-dim 512 \
    --epochs 35 --batch-size 256 --optimiser muon --learning-rate 2e-3 --warmup-epochs 0.5 --autocast bf16 \
    --pad-crop 0.07 --erase 0.1 --mixup 0.2 --label-smoothing 0 --val-fraction 0.05
.venv/bin/mixer export "$checkpoint" bundles/fashion-mnist --data "$data"
cp "$checkpoint/metrics.jsonl" "$checkpoint/curves.png" "$teacher/teacher.jsonl" "$teacher/teacher.onnx" bundles/fashion-mnist/
mkdir -p bundles/fashion-mnist/checkpoint
cp -r "$checkpoint/model.safetensors" "$checkpoint/config.json" "$checkpoint/pictures" bundles/fashion-mnist/checkpoint/
