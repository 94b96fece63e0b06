#!/usr/bin/env bash
# The Python package: its wheel in a fresh environment, its tests, its types.
#
#   tests/python.sh           builds the wheel in the profile of the other tests, and checks it; `./check python`
#   tests/python.sh torch     the same, with the tests that need torch, and the notebook: a download of gigabytes
#   tests/python.sh sdist     builds the source package, and from it, in an empty folder, a wheel in release
#
# Needs Rust, a Vulkan driver, and Python 3.11 or later with venv.
set -euo pipefail
cd "$(dirname "$0")/.."
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
work="$target/python"

say() { printf '\n== %s\n' "$*"; }

rm -rf "$work"
mkdir -p "$work/empty"
python3 -m venv "$work/venv"
bin="$work/venv/bin"
"$bin/pip" install -q "maturin>=1.16,<2"

if [ "${1:-}" = sdist ]; then
    say "python: source package"
    (cd python && "$bin/maturin" sdist --out "$work")
    "$bin/pip" install -v "$work"/fullconv-*.tar.gz
    cd "$work/empty"
    "$bin/python" -c 'import fullconv; print(fullconv.__version__, fullconv.devices())'
    exit
fi

say "python: wheel"
(cd python && VIRTUAL_ENV="$work/venv" PATH="$bin:$PATH" maturin build --profile dev --locked --out "$work")
"$bin/pip" install -q "$work"/fullconv-*.whl
# A copy: setuptools writes beside its sources.
cp -rL python/demo "$work/demo"
"$bin/pip" install -q "$work/demo" pillow pycocotools pytest tqdm
if [ "${1:-}" = torch ]; then
    "$bin/pip" install -q torch safetensors matplotlib nbconvert ipykernel
fi
cargo build --quiet --workspace

say "python: tests"
FULLCONV="$target/debug/fullconv" "$bin/python" -m pytest -q -p no:cacheprovider python/tests

if [ "${1:-}" = torch ]; then
    say "python: the tour"
    TOUR_DEVICE=0 "$bin/jupyter" nbconvert --to html --execute examples/python/tour.ipynb --output-dir "$work"
fi

say "python: types"
"$bin/pip" install -q mypy pyright
project="$PWD/python"
# Elsewhere, so that the installed package is checked.
(cd "$work/empty" && "$bin/python" -m mypy.stubtest fullconv --mypy-config-file "$project/pyproject.toml" \
    --allowlist "$project/tests/allowlist.txt")
(cd python && "$bin/pyright" --pythonpath "$bin/python")
