#!/bin/sh
# Make this bundle again: teach, train, train on, export, measure on the test pictures. Takes the folder with Fashion-MNIST's
# IDX files (Debian's package dataset-fashion-mnist puts them where the default says) and needs scripts/install cpu,train,export.
# Hours on two cores. Killed and started again, it goes on where it was.
set -eu
cd "$(dirname "$0")/../.."
bundle=bundles/fashion-mnist
data=${1:-/usr/share/datasets/fashion-mnist}
work=checkpoints/fashion-mnist-work
python=.venv/bin/python
mkdir -p "$work"

# two teachers: one of pictures as they are, and one that goes on from it with distorted ones, too; and their mean
teach() {
    out=$work/$1
    shift
    [ -f "$out/teacher.onnx" ] || PYTHONPATH=. $python "$bundle/teacher.py" "$data" "$out" "$@"
}
teach plain
teach robust --init "$work/plain" --epochs 12 --learning-rate 0.04 --distort 0.5
[ -f "$work/teacher.onnx" ] || $python "$bundle/ensemble.py" "$work/teacher.onnx" \
    "$work/plain/teacher.onnx" 3 "$work/robust/teacher.onnx" 1

train() {
    out=$work/$1
    teacher=$2
    shift 2
    [ -f "$out/model.safetensors" ] || .venv/bin/mixer train "$data" --out "$out" --labels "$bundle/labels.txt" \
        --name fashion-mnist --license Apache-2.0 \
        --teacher "$teacher" --distil-weight 0.8 --distil-temperature 2 --fit pad --background dark \
        --recipe small --batch-size 256 --optimizer muon --warmup-epochs 0.5 \
        --pad-crop 0.07 --erase 0.1 --mixup 0.2 --label-smoothing 0 --val-fraction 0.05 "$@"
}
train first "$work/plain/teacher.onnx" --epochs 35 --learning-rate 2e-3 \
    --image-size 28 --channels 1 --patch-size 4 --hidden-dim 128 --num-blocks 8 --tokens-mlp-dim 64 --channels-mlp-dim 512
train second "$work/plain/teacher.onnx" --init "$work/first" --epochs 36 --learning-rate 1.2e-3 --compile true
train third "$work/teacher.onnx" --init "$work/second" --epochs 24 --learning-rate 1.2e-3 --compile true \
    --distort 0.5 --teacher-undistorted true --views 8

.venv/bin/mixer export "$work/third" "$bundle" --weights last --data "$data"
for run in first second; do
    cp "$work/$run/metrics.jsonl" "$bundle/metrics-$run.jsonl"
    cp "$work/$run/curves.png" "$bundle/curves-$run.png"
done
cp "$work/third/metrics.jsonl" "$work/third/curves.png" "$work/teacher.onnx" "$bundle/"
for teacher in plain robust; do
    cp "$work/$teacher/teacher.jsonl" "$bundle/teacher-$teacher.jsonl"
done
rm -rf "$bundle/checkpoint"
mkdir "$bundle/checkpoint"
cp -r "$work/third/model.safetensors" "$work/third/config.json" "$work/third/pictures" "$bundle/checkpoint/"
chmod 644 "$bundle/checkpoint/model.safetensors"
.venv/bin/mixer card "$bundle" "$data"
