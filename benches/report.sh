#!/usr/bin/env bash
# Measures this machine and writes all tables of docs/performance.md.
#
#   benches/report.sh
#
# Optional variables: FULLCONV, a release binary (default: built here); PYTHON, a Python with requirements.txt, and
# WEBGPU, a folder with requirements-webgpu.txt (default: installed under WORK); WORK, a folder for models and
# exports, some GB (default: target/benches); SIZES, ONLY, ROUNDS, RUNS and BUDGET of peers.py; LAYERS, the size of
# the layer table of full FCN-8s; PEAKS, "GFLOPS GBS", in place of measured peaks; DATE.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${WORK:-target/benches}
document=docs/performance.md
mkdir -p "$work"

if [ -z "${FULLCONV:-}" ]; then
    cargo build --release
    FULLCONV=target/release/fullconv
fi
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$work/venv"
    PYTHON=$work/venv/bin/python
    "$PYTHON" -m pip install -q -r benches/requirements.txt
fi
if [ -z "${WEBGPU:-}" ]; then
    WEBGPU=$work/webgpu
    # If there is no package for this platform, the table's row reports it.
    "$PYTHON" -m pip install -q --no-deps --upgrade --target "$WEBGPU" \
        -r benches/requirements-webgpu.txt || mkdir -p "$WEBGPU"
fi

peers() {
    local model=$1 sizes=$2
    "$PYTHON" benches/peers.py --model "$model" --sizes "$sizes" --work "$work" --fullconv "$FULLCONV" \
        --webgpu "$WEBGPU" --rounds "${ROUNDS:-3}" --runs "${RUNS:-5}" --budget "${BUDGET:-60}" \
        --date "${DATE:-$(date +%F)}" ${ONLY:+--only "$ONLY"} --markdown "$document" \
        --json "$work/peers-$model.json"
}

layers() {
    local model=$1 size=$2
    shift 2
    "$FULLCONV" profile --json --runs "${RUNS:-5}" --size "$size" "$@" >"$work/layers-$model.json"
    "$PYTHON" benches/layers.py "$work/layers-$model.json" --machine "$work/machine.json" \
        --markdown "$document" --place "layers-$model"
}

read -r gflops gbs <<<"${PEAKS:-}"
"$PYTHON" benches/machine.py --fullconv "$FULLCONV" ${gflops:+--peak-gflops "$gflops" --peak-gbs "$gbs"} \
    >"$work/machine.json"
peers full "${SIZES:-500x500,96x96}"
peers demo 360x480
peers resnet50 520x520
"$PYTHON" benches/start.py --fullconv "$FULLCONV" --model "$work/full/model.safetensors" \
    --machine "$work/machine.json" --markdown "$document" --place start
layers full "${LAYERS:-500x500}" -m "$work/full/model.safetensors"
layers demo 360x480
layers resnet50 520x520 -m "$work/resnet50/model.safetensors"
echo "$document is up to date"
