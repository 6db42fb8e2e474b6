#!/usr/bin/env bash
# Measures the tables of docs/src/performance.md again and writes them there. Takes up to half an hour; leave the
# machine alone meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/src/performance.md

target=${CARGO_TARGET_DIR:-target}
cargo build --release -p rdmm-validation --bin throughput
"$target/release/throughput" --book "$page"

if ! command -v perf >/dev/null || ! command -v addr2line >/dev/null; then
  echo "SKIPPED: the profile needs perf and addr2line." >&2
  exit 0
fi
# The same code with the lines of its source.
cargo build --profile profiling -p rdmm-validation --bin throughput
profile=$(mktemp)
written=$(mktemp)
trap 'rm -f "$profile" "$written"' EXIT
for model in LDDMM RDMM; do
  printf '\n%s:\n\n' "$model" >>"$profile"
  python3 docs/profile.py "$target/profiling/throughput" --threads 1 \
    --case "${model,,} gradient 64×64×64 f32 4 10" >>"$profile"
done
awk -v profile="$profile" '
  /^<!-- end of profile -->$/ { inside = 0; print "" }
  !inside
  /^<!-- profile -->$/ { inside = 1; while ((getline line < profile) > 0) print line }
' "$page" >"$written"
cat "$written" >"$page"
