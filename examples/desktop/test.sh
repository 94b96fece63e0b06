#!/usr/bin/env bash
# Tests the example's window on a virtual display. Arguments go to `cargo test`.
#
# Needs Xvfb and a Vulkan driver; `./check desktop` installs both on Debian and Ubuntu.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v xvfb-run >/dev/null || ! command -v xauth >/dev/null; then
    echo "SKIP: the window was not tested: xvfb-run or xauth is not installed" >&2
    [ -z "${FULLCONV_REQUIRE_GPU:-}" ] # If set, a skip is a failure.
    exit
fi
# One window at a time: on a CPU device, several would only wait for each other.
xvfb-run --auto-servernum --server-args="-screen 0 1280x1024x24" cargo test "$@" -- --test-threads=1
