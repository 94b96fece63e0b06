#!/usr/bin/env bash
# The tests of the example's window, on a display that nobody sees. Arguments go to `cargo test`.
#
# Needs Xvfb and a Vulkan driver; `./check desktop` installs both on Debian and Ubuntu.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v xvfb-run >/dev/null || ! command -v xauth >/dev/null; then
    echo "SKIP: the window was not tested: there is no xvfb-run, or no xauth, to open it on" >&2
    [ -z "${FULLCONV_REQUIRE_GPU:-}" ] # A skip is a failure there.
    exit
fi
# A window at a time: where the device is the CPU, several only wait for each other.
xvfb-run --auto-servernum --server-args="-screen 0 1280x1024x24" cargo test "$@" -- --test-threads=1
