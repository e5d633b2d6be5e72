#!/bin/sh
# Make this bundle again: train, export, measure on the test pictures. Takes the folder with Fashion-MNIST's IDX files
# (Debian's package dataset-fashion-mnist puts them where the default says) and needs scripts/install cpu,train,export.
set -eu
cd "$(dirname "$0")/../.."
data=${1:-/usr/share/datasets/fashion-mnist}
checkpoint=checkpoints/fashion-mnist
.venv/bin/mixer train "$data" --out "$checkpoint" \
    --labels bundles/fashion-mnist/labels.txt --name fashion-mnist --licence Apache-2.0 \
    --image-size 28 --channels 1 --fit pad --patch-size 4 \
    --hidden-dim 128 --num-blocks 8 --tokens-mlp-dim 64 --channels-mlp-dim 512 \
    --epochs 26 --batch-size 512 --optimiser muon --learning-rate 3e-3 --warmup-epochs 0.5 --autocast bf16 \
    --shift-pixels 1 --erase 0.1 --invert 0.1 --label-smoothing 0.05 --val-fraction 0.05
.venv/bin/mixer export "$checkpoint" bundles/fashion-mnist --data "$data"
cp "$checkpoint/metrics.jsonl" bundles/fashion-mnist/
