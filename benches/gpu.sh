#!/usr/bin/env bash
# Measures a machine with an NVIDIA GPU in one call: correctness, then fullconv layer by layer, on an H200 beside the
# predictions of docs/gpus.md, then PyTorch and other peers on the same device.
#
#   FULLCONV=path/to/fullconv benches/gpu.sh [RESULTS]
#
# RESULTS (default: $OUT, else gpu-results) receives JSON and Markdown. Optional variables: FULLCONV, a release
# binary (default: target/release/fullconv); LOADER, a folder of Debian packages with the Vulkan loader,
# unpacked for this run only; PYTHON (default: python3) with torch, numpy and safetensors; WORK, a folder
# for models (default: a temporary one); SIZE, BATCHES, ROUNDS and RUNS; ONLY, the peers to run.
#
# Exit status: 0 if every result was right and every profile ran, else 1. A failure does not stop the script.
set -euo pipefail
results=$(realpath -m "${1:-${OUT:-gpu-results}}")
fullconv=$(realpath "${FULLCONV:-$(dirname "$0")/../target/release/fullconv}")
python=${PYTHON:-python3}
size=${SIZE:-500x500}
batches=${BATCHES:-1,8}
runs=${RUNS:-20}
only=${ONLY:-fullconv,fullconv-tuned,fullconv-f16,torch-cuda-f32,torch-cuda-f32-compiled,torch-cuda-tf32,torch-cuda-f16,torch-cuda-f16-compiled,ncnn-vulkan}

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
work=$(realpath -m "${WORK:-$temporary/work}")
if [ -n "${LOADER:-}" ]; then
    loader=$(realpath "$LOADER")
fi
cd "$(dirname "$0")/.."
mkdir -p "$results" "$work"
failures=0

say() { printf '\n== %s\n' "$*"; }

# Runs a command; a failure is counted and the script goes on.
attempt() {
    "$@" || {
        echo "gpu.sh: failed: $*" >&2
        failures=$((failures + 1))
    }
}

# Whether the binary's command $1 has the option $2.
has() { "$fullconv" "$1" --help | grep -e "$2" >/dev/null; }

find_vulkan() {
    local icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json package libraries
    if [ -n "${loader:-}" ]; then
        for package in "$loader"/*.deb; do
            dpkg -x "$package" "$temporary/loader"
        done
        libraries=$temporary/loader/usr/lib/$(uname -m)-linux-gnu
        export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
    # Containers have the driver here, where loaders do not search.
    if [ -z "${VK_DRIVER_FILES:-}" ] && [ -f "$icd" ]; then
        export VK_DRIVER_FILES=$icd
    fi
    export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$temporary}"
}

# $1: model; $2: folder with input and expected; $3: bound; then options of the binary.
# shellcheck disable=SC2329 # called through attempt
check() {
    local model=$1 folder=$2 bound=$3
    shift 3
    "$fullconv" run -m "$model" --input "$folder/input.safetensors" --output "$temporary/got.safetensors" "$@" &&
        "$python" tests/goldens/check_run.py "$folder/expected.safetensors" "$temporary/got.safetensors" \
            --bound "$bound"
}

# The ways to run the binary: name, error bound, options.
ways() {
    echo "f32 1e-5"
    if has run --tune; then echo "tuned 1e-5 --tune"; fi
    if has run --precision; then echo "f16 2e-3 --precision f16"; fi
}

correctness() {
    local way bound options
    "$python" benches/golden.py --output "$temporary/golden"
    "$python" benches/networks.py files --model full --size "$size" --work "$work"
    while read -r way bound options; do
        say "correctness, $way"
        # shellcheck disable=SC2086 # options are words
        attempt check tests/goldens/fcn8s-caffe.safetensors "$temporary/golden" "$bound" $options
        # shellcheck disable=SC2086
        attempt check "$work/full/model.safetensors" "$work/full/$size" "$bound" $options
    done < <(ways)
}

# Writes $1.json and $1.md for batch $2; further arguments are options of the binary.
# shellcheck disable=SC2329 # called through attempt
profile() {
    local name=$1 batch=$2
    shift 2
    "$fullconv" profile --json --size "$size" --batch "$batch" --runs "$runs" \
        -m "$work/full/model.safetensors" "$@" >"$results/$name.json" &&
        "$python" benches/layers.py "$results/$name.json" --machine "$results/machine.json" \
            >"$results/$name.md"
}

profiles() {
    local way bound options batch
    while read -r way bound options; do
        for batch in ${batches//,/ }; do
            say "profile, $way, batch $batch"
            # shellcheck disable=SC2086
            attempt profile "profile-$way-b$batch" "$batch" $options
        done
    done < <(ways)
}

# The profiles of batch 1 beside the times that docs/gpus.md predicts for this GPU, if it does.
predictions() {
    if ! grep -q H200 "$results/devices.json"; then
        say "no predictions: they are for an H200, which this machine does not have"
        return
    fi
    say "measured beside predicted"
    attempt predicted f32
    attempt predicted f16 --half
}

# shellcheck disable=SC2329 # called through attempt
predicted() {
    "$python" benches/predicted.py "$results/profile-$1-b1.json" "${@:2}" >"$results/predicted-$1.md" &&
        cat "$results/predicted-$1.md"
}

find_vulkan
say "device"
"$fullconv" devices --json | tee "$results/devices.json"
"$python" benches/machine.py --fullconv "$fullconv" | tee "$results/machine.json"
if has devices --check; then
    say "check of the device"
    attempt "$fullconv" devices --check > >(tee "$results/check.txt") 2>&1
fi
# No pipe: a pipe's subshell would lose the count of failures.
correctness > >(tee "$results/correctness.txt") 2>&1
profiles
predictions
say "peers"
attempt "$python" benches/peers.py --model full --sizes "$size" --batches "$batches" --work "$work" \
    --fullconv "$fullconv" --only "$only" --rounds "${ROUNDS:-3}" --runs "$runs" \
    --json "$results/peers.json" > >(tee "$results/peers.md")
say "$failures failed"
exit $((failures > 0))
