#!/usr/bin/env bash
# Runs the device tests on Direct3D 12 without Windows: the Windows build under Wine, whose Direct3D (vkd3d) runs on
# lavapipe, with Microsoft's own shader compiler.
#
#   tests/dx12.sh                    installs Wine, once, and runs the tests; `./check dx12`
#   tests/dx12.sh run PROGRAM ARG…   runs a Windows program under Wine: Cargo's runner
#
# Needs Linux on x86-64, root (or sudo) and the right to mount. Wine 10 and Mesa 25 come from Debian trixie and go
# into target/dx12, not onto this system: 1.5 GB. If a requirement is missing, the script prints SKIP.
set -euo pipefail
script=$(realpath "$0")
repository=$(dirname "$(dirname "$script")")
cd "$repository"
home=$repository/target/dx12
root=$home/root
prefix=$home/prefix
target=x86_64-pc-windows-gnu

# Microsoft's d3dcompiler_47.dll, version 10.0.26100, from this package. Older versions lack compute shaders of model
# 5.1; Wine's own compiler does not compile wgpu's output.
package=kivy_deps.angle==0.5.0
package_sha256=d16d68cc45a2a326a3f8f738c649bb00ae5d7c3e58cff70f415fa57bd1d28713
package_dll=kivy_deps_angle-0.5.0.data/data/share/angle/bin/d3dcompiler_47.dll

say() { printf '\n== %s\n' "$*"; }

skip() {
    echo "SKIP: no test ran on DX12: $*" >&2
    exit 0
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo --non-interactive --preserve-env "$@"; fi
}

# Runs a command in the root, with its own mounts, processes and sockets, which end with it.
in_root() {
    as_root unshare --mount --pid --net --ipc --fork --kill-child "$script" enter "$@"
}

# Runs as root, in its own namespaces: mounts, then enters the root.
enter() {
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mkdir -p "$root$repository"
    mount --bind "$repository" "$root$repository"
    exec chroot "$root" "$script" inside "$@"
}

# Runs in the root: starts an X server, without which Wine has no adapters, then the command.
inside() {
    export DISPLAY=:9 HOME=/root XDG_RUNTIME_DIR=/tmp WINEPREFIX=$prefix WINEDEBUG=-all
    export PATH=/usr/lib/wine:/usr/sbin:/usr/bin:/sbin:/bin
    # No .NET and no browser; the compiler is Microsoft's; Direct3D draws with Vulkan.
    export WINEDLLOVERRIDES="mscoree,mshtml=;d3dcompiler_47=n" WINE_D3D_CONFIG=renderer=vulkan
    # Like a release build: FXC with debug information fails under Wine.
    export WGPU_DX12_COMPILER=Fxc WGPU_DEBUG=0
    Xvfb :9 -screen 0 640x480x24 >/tmp/Xvfb.log 2>&1 &
    for _ in $(seq 100); do
        [ -S /tmp/.X11-unix/X9 ] && break
        sleep 0.1
    done
    "$@"
}

# Prints this system's Debian mirror; prints nothing if it has none, for the default mirror.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -E '^(URIs:|deb) ' | grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 || true
}

# Installs Debian trixie with Wine and lavapipe.
make_root() {
    [ ! -e "$root/made" ] || return 0
    say "making a root with Wine in target/dx12"
    as_root rm -rf "$root"
    mkdir -p "$home"
    # The mirror is unquoted: it may be empty.
    as_root mmdebstrap --quiet --variant=minbase \
        --include=wine64,mesa-vulkan-drivers,xvfb trixie "$root" $(mirror) ||
        skip "Debian trixie could not be installed into target/dx12"
    as_root touch "$root/made"
}

# Makes Wine's prefix, with Microsoft's compiler in it.
make_prefix() {
    [ ! -e "$prefix/made" ] || return 0
    say "preparing Wine"
    as_root rm -rf "$prefix"
    local wheels=$home/wheels
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" \
        --only-binary=:all: --platform win_amd64 --python-version 3.11 "$package" ||
        skip "$package, with Microsoft's shader compiler, could not be downloaded"
    echo "$package_sha256 $(echo "$wheels"/*.whl)" | sha256sum --check --quiet
    python3 -m zipfile -e "$wheels"/*.whl "$wheels"
    in_root wine64 wineboot --init
    as_root cp "$wheels/$package_dll" "$prefix/drive_c/windows/system32/"
    as_root touch "$prefix/made"
}

case "${1:-}" in
enter | inside)
    "$@"
    exit
    ;;
run)
    shift
    in_root wine64 "$@"
    exit
    ;;
esac

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skip "this is $(uname -sm), not Linux on x86-64"
fi
# Root in a container may lack the right to mount.
as_root unshare --mount --pid --net --ipc --fork true 2>/dev/null ||
    skip "needs root, or sudo without a password, and the right to mount"
command -v rustup >/dev/null || skip "needs rustup, to install the target $target"
if command -v apt-get >/dev/null; then
    for needed in mmdebstrap:mmdebstrap x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64; do
        command -v "${needed%%:*}" >/dev/null || missing+=("${needed##*:}")
    done
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    if [ -n "${missing:-}" ]; then
        say "installing ${missing[*]}"
        as_root apt-get update -q
        as_root apt-get install -y -q --no-install-recommends "${missing[@]}"
    fi
fi
command -v mmdebstrap >/dev/null || skip "needs mmdebstrap"
command -v x86_64-w64-mingw32-gcc >/dev/null || skip "needs MinGW-w64"
rustup target add "$target" 2>/dev/null || skip "the target $target could not be installed"
make_root
make_prefix

export FULLCONV_TEST_BACKEND=dx12 FULLCONV_REQUIRE_GPU=1
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="$script run"
# One test at a time: Wine's Vulkan loader sometimes fails when threads open devices ("Assertion failed: !status,
# file dlls/winevulkan/loader.c"). The failure ends the program before its tests have a result: they run once more.
run_tests() {
    local log
    log=$(mktemp)
    test_once() { cargo test --target "$target" --test "$1" -- "${@:2}" --test-threads 1; }
    if ! test_once "$@" 2>&1 | tee "$log"; then
        grep -q 'file dlls/winevulkan/loader.c' "$log" || return 1
        say "Wine's Vulkan loader failed: once more"
        test_once "$@" 2>&1 | tee "$log"
    fi
    if ! grep -q 'test result: ok. [1-9]' "$log"; then
        echo "tests/dx12.sh: no test matches $*" >&2
        return 1
    fi
}
say "operations on DX12"
run_tests kernels cases::
say "PyTorch's networks on DX12"
run_tests kernels device_agrees_with_pytorch
say "the demo model's photograph on DX12"
run_tests networks models::the_demo_model
