#!/usr/bin/env bash
# Builds the package in web/dist and the page in web/site: the wasm, its JavaScript, and JavaScript from TypeScript.
#
# Needs Rust with the target wasm32-unknown-unknown (rustup target add) and Node.js with npm.
set -euo pipefail
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-../target}"

# The size limit of the gzipped wasm, in bytes.
most=$((3 << 20))

[ -d node_modules/typescript ] || npm ci --no-audit --no-fund --silent

# -D warnings applies to the library and wasm/ only: Cargo silences warnings of other crates.
CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-D warnings" cargo build --quiet --manifest-path wasm/Cargo.toml \
    --target-dir "$target" --target wasm32-unknown-unknown --profile web

# The JavaScript has to match the version of wasm-bindgen in the wasm.
locked() { sed -n "/^name = \"$1\"$/{n;s/version = \"\(.*\)\"/\1/p}" "$2"; }
built=$(locked wasm-bindgen ../Cargo.lock)
made=$(locked wasm-bindgen-cli-support bindgen/Cargo.lock)
if [ "$built" != "$made" ]; then
    echo "web/build.sh: Cargo.lock has wasm-bindgen $built, web/bindgen makes JavaScript for $made:" \
        "set $built in web/bindgen/Cargo.toml" >&2
    exit 1
fi
rm -rf dist site
cargo run --quiet --manifest-path bindgen/Cargo.toml --target-dir "$target/bindgen" -- \
    "$target/wasm32-unknown-unknown/web/fullconv_web.wasm" dist/wasm

wasm=dist/wasm/fullconv_wasm_bg.wasm
# The features that Rust's target enables; browsers may lack newer ones.
features=(bulk-memory bulk-memory-opt mutable-globals sign-ext nontrapping-float-to-int multivalue reference-types)
node_modules/.bin/wasm-opt -Os "${features[@]/#/--enable-}" -o $wasm.small $wasm
mv $wasm.small $wasm

node_modules/.bin/tsc

mkdir site
cp demo/* ../assets/demo/demo.safetensors ../assets/street.jpg site/
cp -r dist site/fullconv

size=$(gzip -9 -c $wasm | wc -c)
echo "web/dist/wasm: $(wc -c <$wasm) bytes, $size gzipped"
if [ "$size" -gt "$most" ]; then
    echo "web/build.sh: the wasm is more than $most bytes, gzipped" >&2
    exit 1
fi
