#!/usr/bin/env bash
# Compiles the pipelines of fullconv's plans with Mesa's compilers for real GPUs, without a GPU, and holds what they make
# to the rules and budgets of gpus/src. Nothing computes.
#
#   tests/gpus.sh                    installs Mesa, once, and checks every chip; `./check gpus`
#   tests/gpus.sh write              the same, and writes the tables of docs/gpus.md, and benches/predicted-h200.json
#   tests/gpus.sh CHIP…              only these chips, and no table
#   tests/gpus.sh run CHIP PROGRAM ARG…   runs a program of this system on the chip's driver
#
# Needs Linux on x86-64. Mesa's drivers and their shims, which act as a kernel's driver, come from Debian sid, with a C
# library of their own, and go into target/gpus, not onto this system: 340 MB. Programs start through that library's
# loader, without root. If a requirement is missing, the script prints SKIP. The drivers' statistics and instructions
# stay in target/gpus/isa. `rm -r target/gpus/root` has newer drivers installed.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$PWD/target/gpus
root=$home/root
libraries=$root/usr/lib/x86_64-linux-gnu
built=${CARGO_TARGET_DIR:-target}/debug

say() { printf '\n== %s\n' "$*"; }

skip() {
    echo "SKIP: nothing was compiled for real GPUs: $*" >&2
    exit 0
}

# Prints this system's Debian mirror; prints nothing if it has none, for the default mirror.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -E '^(URIs:|deb) ' | grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 || true
}

install_mmdebstrap() {
    if command -v mmdebstrap >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        return
    fi
    command -v apt-get >/dev/null || skip "needs mmdebstrap and Debian's keys"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo --non-interactive)
    say "installing mmdebstrap"
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" apt-get install -y -q --no-install-recommends mmdebstrap debian-archive-keyring ||
        skip "mmdebstrap could not be installed"
}

# Unpacks Mesa's drivers with all that they need.
make_root() {
    [ ! -e "$root/made" ] || return 0
    install_mmdebstrap
    say "unpacking Mesa's drivers in target/gpus"
    rm -rf "$root"
    mkdir -p "$home"
    # Packages are only unpacked. An old list of packages is as good, as its signature counts. The mirror is unquoted:
    # it may be empty.
    mmdebstrap --quiet --variant=extract --mode=chrootless --aptopt='Acquire::Check-Valid-Until "false"' \
        --include=mesa-vulkan-drivers,mesa-drm-shim,libvulkan1 sid "$root" $(mirror) ||
        skip "Debian sid's mesa-vulkan-drivers and mesa-drm-shim could not be unpacked into target/gpus"
    touch "$root/made"
}

# Runs a program on a chip's driver.
on_chip() {
    local name=$1 shim manifest variable
    shift
    read -r _ shim manifest variable < <("$built/fullconv-gpus" chips | grep "^$name ") || {
        echo "tests/gpus.sh: no chip is called $name; there are" $("$built/fullconv-gpus" chips | cut -d ' ' -f 1) >&2
        return 2
    }
    # wgpu hides drivers that are not known as conformant (Hopper's); NVK hides such chips itself.
    # Apple's driver prints its instructions.
    env "$variable" AGX_MESA_DEBUG=shaders XDG_RUNTIME_DIR="$home" MESA_SHADER_CACHE_DISABLE=1 \
        NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1 WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER=1 \
        VK_DRIVER_FILES="$root/usr/share/vulkan/icd.d/${manifest}_icd.json" \
        "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" \
        --preload "$libraries/lib${shim}_noop_drm_shim.so" "$@"
}

# Compiles all pipelines for a chip.
compile() {
    local name=$1 records
    records=$home/records/$name
    rm -rf "$records" "$home/isa/$name" "$home/$name.json" "$home/$name.log"
    mkdir -p "$records" "$home/isa/$name" "$home/networks/$name"
    FULLCONV_GPUS_RECORDS=$records VK_ADD_LAYER_PATH=$home/layer VK_INSTANCE_LAYERS=VK_LAYER_FULLCONV_gpus \
        on_chip "$name" "$built/fullconv-gpus" compile "$name" "$home" >>"$home/$name.log" 2>&1 || {
        echo "$name: the pipelines were not compiled:" >&2
        tail -n 20 "$home/$name.log" >&2
        return 1
    }
}

# The manifest by which Vulkan's loader finds the layer.
write_layer() {
    mkdir -p "$home/layer"
    cat >"$home/layer/layer.json" <<EOF
{"file_format_version": "1.2.0", "layer": {"name": "VK_LAYER_FULLCONV_gpus", "type": "GLOBAL",
 "library_path": "$(realpath "$built")/libfullconv_gpus_layer.so", "api_version": "1.3.0",
 "implementation_version": "1", "description": "keeps what drivers say of pipelines"}}
EOF
}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skip "this is $(uname -sm), not Linux on x86-64"
fi
make_root
# With an example, so that dependencies are built as for the tests, and once.
cargo build --quiet --package fullconv-gpus --package fullconv --lib --bins --example segment
write_layer

case "${1:-}" in
run)
    shift
    on_chip "$@"
    exit
    ;;
compile)
    compile "$2"
    exit
    ;;
"" | write)
    chips=$("$built/fullconv-gpus" chips | cut -d ' ' -f 1)
    # NVIDIA's take the longest.
    order=$("$built/fullconv-gpus" chips | sort -r -k 2,2 | cut -d ' ' -f 1)
    ;;
*) chips=$* order=$* ;;
esac

say "compiling for" $order
failed=0
running=0
for chip in $order; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    compile "$chip" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
[ "$failed" = 0 ] || exit 1

say "what the compilers made"
"$built/fullconv-gpus" report "$home" $chips
if [ "${1:-}" = write ]; then
    "$built/fullconv-gpus" write "$home" docs/gpus.md $chips
    "$built/fullconv-gpus" predictions "$home" nv180 >benches/predicted-h200.json
    echo "docs/gpus.md and benches/predicted-h200.json are up to date"
fi
