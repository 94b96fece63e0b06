#!/usr/bin/env bash
# Makes the package in web/dist and the page in web/site: wasm, its JavaScript, TypeScript to JavaScript.
#
# Needs Rust with the target wasm32-unknown-unknown (rustup target add) and Node.js with npm.
set -euo pipefail
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-../target}"

# The most that the wasm may be on its way to a browser, in bytes, gzipped.
most=$((3 << 20))

[ -d node_modules/typescript ] || npm ci --no-audit --no-fund --silent

# For the library and for wasm/ alone: Cargo silences the warnings of other crates.
CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-D warnings" cargo build --quiet --manifest-path wasm/Cargo.toml \
    --target-dir "$target" --target wasm32-unknown-unknown --profile web

# The JavaScript is made for the wasm-bindgen that the wasm was built with.
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
# What Rust's target has on; anything newer, browsers may not know.
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
