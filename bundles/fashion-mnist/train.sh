#!/bin/sh
# Make this bundle again: teach, train, train on, learn to turn things back, export, measure on the test pictures. Takes
# the folder with Fashion-MNIST's IDX files (Debian's package dataset-fashion-mnist puts them where the default says) and
# needs scripts/install cpu,train,export. Hours on two cores. Killed and started again, it goes on where it was. The weights
# that ship were trained with --background dark: black and a frame change fewer than one picture of a thousand.
set -eu
cd "$(dirname "$0")/../.."
bundle=bundles/fashion-mnist
data=${1:-/usr/share/datasets/fashion-mnist}
teacher=checkpoints/fashion-mnist-teacher
first=checkpoints/fashion-mnist-first
second=checkpoints/fashion-mnist
[ -f "$teacher/teacher.onnx" ] || PYTHONPATH=. .venv/bin/python "$bundle/teacher.py" "$data" "$teacher"

train() {
    .venv/bin/mixer train "$data" --labels "$bundle/labels.txt" --name fashion-mnist --license Apache-2.0 \
        --teacher "$teacher/teacher.onnx" --distil-weight 0.8 --distil-temperature 2 --fit pad --background black --frame thing \
        --recipe small --batch-size 256 --optimizer muon --warmup-epochs 0.5 \
        --pad-crop 0.07 --erase 0.1 --mixup 0.2 --label-smoothing 0 --val-fraction 0.05 "$@"
}
[ -f "$first/model.safetensors" ] || train --out "$first" --epochs 35 --learning-rate 2e-3 \
    --image-size 28 --channels 1 --patch-size 4 --hidden-dim 128 --num-blocks 8 --tokens-mlp-dim 64 --channels-mlp-dim 512
[ -f "$second/model.safetensors" ] || train --out "$second" --init "$first" --epochs 36 --learning-rate 1.2e-3 --compile true

.venv/bin/mixer straighten "$second" "$data" --weights last --beyond 14
.venv/bin/mixer calibrate "$second" "$data" --weights last
.venv/bin/mixer export "$second" "$bundle" --weights last --data "$data"
cp "$first/metrics.jsonl" "$bundle/metrics-first.jsonl"
cp "$first/curves.png" "$bundle/curves-first.png"
cp "$second/metrics.jsonl" "$second/curves.png" "$teacher/teacher.jsonl" "$teacher/teacher.onnx" "$bundle/"
rm -rf "$bundle/checkpoint"
mkdir "$bundle/checkpoint"
cp -r "$second/model.safetensors" "$second/config.json" "$second/pictures" "$bundle/checkpoint/"
chmod 644 "$bundle/checkpoint/model.safetensors"
.venv/bin/mixer card "$bundle" "$data"
