#!/bin/sh
# Make this bundle again: teach, train, train on, turn, mix, export, measure on the test pictures. Takes the folder with Fashion-MNIST's
# IDX files (Debian's package dataset-fashion-mnist puts them where the default says) and needs scripts/install cpu,train,export.
# Hours on two cores. Killed and started again, it goes on where it was.
set -eu
cd "$(dirname "$0")/../.."
bundle=bundles/fashion-mnist
data=${1:-/usr/share/datasets/fashion-mnist}
teacher=checkpoints/fashion-mnist-teacher
first=checkpoints/fashion-mnist-first
second=checkpoints/fashion-mnist-second
between=checkpoints/fashion-mnist-between
third=checkpoints/fashion-mnist-turned
final=checkpoints/fashion-mnist
[ -f "$teacher/teacher.onnx" ] || PYTHONPATH=. .venv/bin/python "$bundle/teacher.py" "$data" "$teacher"

train() {
    .venv/bin/mixer train "$data" --labels "$bundle/labels.txt" --name fashion-mnist --license Apache-2.0 \
        --teacher "$teacher/teacher.onnx" --distil-weight 0.8 --distil-temperature 2 \
        --fit pad --background black --frame thing --recipe small --batch-size 256 --optimizer muon \
        --pad-crop 0.07 --erase 0.1 --mixup 0.2 --label-smoothing 0 --val-fraction 0.05 "$@"
}
[ -f "$first/model.safetensors" ] || train --out "$first" --epochs 35 --learning-rate 2e-3 --warmup-epochs 0.5 \
    --image-size 28 --channels 1 --patch-size 4 --hidden-dim 128 --num-blocks 8 --tokens-mlp-dim 64 --channels-mlp-dim 512
[ -f "$second/model.safetensors" ] || train --out "$second" --init "$first" --epochs 36 --learning-rate 1.2e-3 --warmup-epochs 0.5 \
    --compile true
# Turned pictures, from the mean with a network that knows distorted ones (robust.sh); then the mean with what it was.
mean() {
    [ -f "$4/model.safetensors" ] || .venv/bin/python "$bundle/average.py" "$@"
}
mean "$second" "$bundle/robust" 0.5 "$between"
[ -f "$third/model.safetensors" ] || train --out "$third" --init "$between" --epochs 6 --learning-rate 9e-4 \
    --warmup-epochs 0.3 --turn 0.4 --teacher-undistorted true
mean "$second" "$third" 0.7 "$final"
.venv/bin/mixer calibrate "$final" "$data"

.venv/bin/mixer export "$final" "$bundle" --data "$data"
.venv/bin/mixer reference "$bundle" "$data" --val-fraction 0.05
for run in first second; do
    cp "checkpoints/fashion-mnist-$run/metrics.jsonl" "$bundle/metrics-$run.jsonl"
    cp "checkpoints/fashion-mnist-$run/curves.png" "$bundle/curves-$run.png"
done
cp "$third/metrics.jsonl" "$third/curves.png" "$teacher/teacher.jsonl" "$teacher/teacher.onnx" "$bundle/"
rm -rf "$bundle/checkpoint"
mkdir "$bundle/checkpoint"
cp -r "$final/model.safetensors" "$final/config.json" "$final/pictures" "$bundle/checkpoint/"
chmod 644 "$bundle/checkpoint/model.safetensors"
.venv/bin/mixer card "$bundle" "$data"
