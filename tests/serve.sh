#!/usr/bin/env bash
# The server with the clients of others: ./check serve. Needs what ./check installs, Python 3.11 and its venv.
#
#   tests/serve.sh           clients, the page, hostile requests, load: some ten minutes
#   tests/serve.sh long      the same at the length that docs/serving.md reports, and writes its table: overload of five
#                            minutes, a soak of 100,000 requests, 10,000 hostile requests; an hour
#
# Optional: FULLCONV, a program (default: the one of the dev profile, built here); WORK, a folder (default:
# target/serve); HOSTILE, SECONDS_EACH and SOAK, the numbers of requests and the seconds of each part.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/${WORK:-target/serve}
mkdir -p "$work"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
if [ -z "${FULLCONV:-}" ]; then
    # As ./check builds it: another choice of packages would compile their dependencies again.
    cargo test --quiet --workspace --no-run
    FULLCONV=$PWD/target/debug/fullconv
fi
if [ "${1:-}" = long ]; then
    hostile=${HOSTILE:-10000} seconds=${SECONDS_EACH:-300} soak=${SOAK:-100000} document=(--markdown docs/serving.md)
else
    hostile=${HOSTILE:-1000} seconds=${SECONDS_EACH:-10} soak=${SOAK:-1000} document=()
fi
say() { printf '\n== serve: %s\n' "$*"; }

# An environment with these requirements, made once: venv NAME
venv() {
    local folder=$work/venv-$1 wanted=tests/serve/requirements-$1.txt
    if ! cmp -s "$wanted" "$folder/requirements.txt"; then
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$folder/bin/pip" install -q -r "$wanted"
        cp "$wanted" "$folder/requirements.txt"
    fi
}

say "generated code"
mkdir -p "$work/grpc"
cargo run --quiet --manifest-path serve/proto/generate/Cargo.toml --target-dir target/generate -- "$work/grpc"
diff "$work/grpc/inference.rs" serve/src/grpc/inference.rs

say "clients"
venv triton
venv kserve
"$work/venv-triton/bin/python" -m openapi_spec_validator serve/openapi.json
"$FULLCONV" segment assets/street.jpg -o "$work" >/dev/null
mask=$work/street.mask.png
"$FULLCONV" serve --allow-cpu --listen 127.0.0.1:0 --drain-delay 0 >"$work/out" 2>"$work/log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 300); do
    url=$(grep -o 'http://[0-9.:]*' "$work/out" || true)
    [ -z "$url" ] || break
    sleep 0.1
done
curl --silent --fail --data-binary @assets/street.jpg "$url/segment" | cmp - "$mask"
echo "curl: equal"
"$work/venv-triton/bin/python" tests/serve/triton_clients.py "$url" "$mask"
"$work/venv-kserve/bin/python" tests/serve/kserve_client.py "$url" "$mask"
(cd web && node ../tests/serve/page.mjs "$url" ../assets/street.jpg "$work/page.png")
kill $server
wait $server

say "deployment files"
"$work/venv-kserve/bin/python" tests/serve/deploy.py --fullconv "$FULLCONV"

say "systemd's protocols"
python3 tests/serve/systemd.py "$FULLCONV"

say "hostile requests"
python3 tests/serve/hostile.py "$FULLCONV" "$work" --requests "$hostile"

say "load"
"$work/venv-triton/bin/python" tests/serve/load.py "$FULLCONV" "$work" --seconds "$seconds" --soak "$soak" \
    "${document[@]}"
