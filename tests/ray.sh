#!/usr/bin/env bash
# The example on Ray with processes that are killed: ./check ray. Needs what ./check installs, Python 3.11 or later, its
# venv, and 1 GB for Ray; Linux only. Some five minutes beside the builds.
#
#   tests/ray.sh             rows and masks after kills, against the command line's; the file for KubeRay
#   tests/ray.sh throughput  times a folder through all ways, and writes the table of docs/bulk.md
#
# Optional: FULLCONV, a program, and FULLCONV_WHEEL, a wheel (default: those of the dev profile, built here); WORK, a
# folder (default: target/ray); DEVICE, the device of both (default: 0, the first).
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/${WORK:-target/ray}
mkdir -p "$work"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
say() { printf '\n== ray: %s\n' "$*"; }

say "packages"
if ! cmp -s tests/ray/requirements.txt "$work/venv/requirements.txt"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q -r tests/ray/requirements.txt
    cp tests/ray/requirements.txt "$work/venv/requirements.txt"
fi
if [ -z "${FULLCONV:-}" ]; then
    # As ./check builds it: another choice of packages would compile their dependencies again.
    cargo build --quiet --workspace
    FULLCONV=$PWD/target/debug/fullconv
fi
if [ -z "${FULLCONV_WHEEL:-}" ]; then
    rm -rf "$work/wheels"
    "$work/venv/bin/maturin" build --quiet --profile dev --manifest-path python/Cargo.toml --out "$work/wheels"
    FULLCONV_WHEEL=$(echo "$work"/wheels/fullconv-*.whl)
fi
"$work/venv/bin/pip" install -q --force-reinstall --no-deps "$FULLCONV_WHEEL"

# Ray keeps to the loopback interface then.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
# In /tmp, because the paths of sockets are short.
RAY_TMPDIR=$(mktemp -d)
export RAY_TMPDIR
trap 'rm -rf "$RAY_TMPDIR"' EXIT
# Ray fails by hanging: nothing here waits for ever.
python=("$work/venv/bin/python")
rm -rf "$work/flow"
if [ "${1:-}" = throughput ]; then
    say "throughput"
    timeout 3600 "${python[@]}" tests/ray/throughput.py "$FULLCONV" "$work" --device "${DEVICE:-0}" --pictures 96 \
        --markdown docs/bulk.md
    exit
fi
say "the file for KubeRay"
timeout 300 "${python[@]}" tests/ray/job.py
say "actors and drivers that are killed"
timeout 1800 "${python[@]}" tests/ray/flow.py "$FULLCONV" "$work/flow" --device "${DEVICE:-0}"
