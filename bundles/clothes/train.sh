#!/bin/sh
# Make this bundle again: collect pictures, write lessons, train, export, measure. Takes the folder of the photographs, as the
# public repository alexeygrigorev/clothing-dataset-small on GitHub has them (train/ and validation/ or val/, a folder a class).
# On Debian or Ubuntu with apt-get; needs scripts/install cpu,train,export,distillation. 15 GB of disk, hours on two cores.
# Killed and started again, it goes on where it was. COUNT (of lessons), LEVEL and COOL (steps), and the same with TUNED_ before,
# make it shorter, and its model worse. UNFAMILIAR, a folder of pictures of no class, is judged by in the card, too.
set -eu
cd "$(dirname "$0")/../.."
bundle=bundles/clothes
photographs=$(realpath "$1")
work=checkpoints/clothes-work
mixer=.venv/bin/mixer
mkdir -p "$work"
[ -z "${UNFAMILIAR:-}" ] || [ -d "$UNFAMILIAR" ] || { echo "UNFAMILIAR is $UNFAMILIAR; expected a folder" >&2; exit 2; }

# the photographs, under labels in words
for split in train val; do
    from=$photographs/$split
    [ "$split" = train ] || [ -d "$from" ] || from=$photographs/validation
    mkdir -p "$work/clothing-dataset-small/$split"
    for name in dress hat longsleeve outwear pants shirt shoes shorts skirt t-shirt; do
        case $name in longsleeve) label="long sleeve" ;; outwear) label=outerwear ;; t-shirt) label=T-shirt ;; *) label=$name ;; esac
        [ -d "$work/clothing-dataset-small/$split/$label" ] || cp -r "$from/$name" "$work/clothing-dataset-small/$split/$label"
    done
done

# pictures of anything, without labels: drawings, stamps and desktop backgrounds, but no clothes
if [ ! -d "$work/others" ]; then
    mkdir -p "$work/packages" "$work/unpacked"
    (cd "$work/packages" && apt-get download tuxpaint-stamps-default openclipart-png gnome-backgrounds mate-backgrounds \
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 plasma-workspace-wallpapers ukui-wallpapers debian-edu-artwork-spacefun)
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    (cd "$work/unpacked" && find . \( -ipath '*cloth*' -o -iname '*shirt*' -o -iname '*shoe*' -o -iname '*boot_*' -o -iname '*hat_*' \
        -o -iname '*_hat*' -o -iname '*cap_*' -o -iname '*dress*' -o -iname '*skirt*' -o -iname '*jacket*' \) -type f -delete)
    mv "$work/unpacked" "$work/others"
fi

# twice: taught by the teacher as ImageNet left it, then, from there, by the teacher with its last blocks trained on the labels
taught() { # taught FOLDER OF LESSONS, CHECKPOINT, STEPS AT THE FULL RATE, STEPS IN WHICH IT FALLS, more flags
    lessons=$1 out=$2 level=$3 cool=$4
    shift 4
    distil() {
        $mixer distil "$lessons" "$work/clothing-dataset-small" --out "$out" --name clothes --license Apache-2.0 \
            --pictures examples --fit crop "$@"
    }
    [ -f "$out/level" ] || distil --steps "$level" --cool-steps 0 "$@" # all that the teacher sees
    touch "$out/level"
    distil --steps $((level + cool)) --cool-steps "$cool" --logits-weight 0.7 --labels-weight 0.2 --maps-weight 0.7 "$@"
}
collect() {
    $mixer lessons "$work/clothing-dataset-small" --labels "$bundle/labels.txt" --others "$work/others" "$@"
}
collect "$work/lessons" --count "${COUNT:-122880}"
taught "$work/lessons" checkpoints/clothes-first "${LEVEL:-1018}" "${COOL:-402}"
collect "$work/tuned" --seed 1 --fine-tune 8 --count "${TUNED_COUNT:-61440}"
taught "$work/tuned" checkpoints/clothes-second "${TUNED_LEVEL:-500}" "${TUNED_COOL:-400}" \
    --init checkpoints/clothes-first --init-share 0.75
$mixer export checkpoints/clothes-second "$bundle" --data "$work/clothing-dataset-small"
for kind in metrics.jsonl curves.png; do cp "checkpoints/clothes-first/$kind" "$bundle/${kind%.*}-first.${kind##*.}"; done
cp checkpoints/clothes-second/metrics.jsonl checkpoints/clothes-second/curves.png "$bundle/"
rm -rf "$bundle/checkpoint"
mkdir "$bundle/checkpoint"
cp -r checkpoints/clothes-second/model.safetensors checkpoints/clothes-second/config.json checkpoints/clothes-second/pictures "$bundle/checkpoint/"
chmod 644 "$bundle/checkpoint/model.safetensors"
$mixer card "$bundle" "$work/clothing-dataset-small" --measure ${UNFAMILIAR:+--out-of-distribution "$UNFAMILIAR"}
