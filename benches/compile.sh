#!/usr/bin/env bash
# What a user's crate of fifteen lines (`benches/leaf`) costs to compile beside rdmm-core itself: seconds of the processor
# in a release build. Fails where their ratio is more than twice the one in docs/src/performance.md: the ratio depends
# little on the machine.
#
#   benches/compile.sh            compares
#   benches/compile.sh --update   measures a debug build too, and writes the table of docs/src/performance.md
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/src/performance.md
largest=2

case "${1-}" in
  "" | --update) ;;
  *) echo "usage: benches/compile.sh [--update]" >&2; exit 2 ;;
esac

# The versions of dependencies are those of the workspace.
cp Cargo.lock benches/leaf/Cargo.lock
export CARGO_TARGET_DIR=$PWD/target/leaf CARGO_INCREMENTAL=0
mkdir -p "$CARGO_TARGET_DIR"

# Calls the compiler for one crate and adds a line to the log: the crate, seconds of the processor.
export LOG=$CARGO_TARGET_DIR/seconds
export RUSTC_WRAPPER=$CARGO_TARGET_DIR/timed
cat >"$RUSTC_WRAPPER" <<'WRAPPER'
#!/usr/bin/env bash
crate=$(sed -n 's/.*--crate-name \([^ ]*\).*/\1/p' <<<"$*")
TIMEFORMAT=%U
exec 3>&1 4>&2
seconds=$({ time "$@" >&3 2>&4; } 2>&1) || exit
[ -z "$crate" ] || echo "$crate $seconds" >>"$LOG"
WRAPPER
chmod +x "$RUSTC_WRAPPER"

# Compiles both again, by a profile.
compile() {
  local flags=(--quiet --offline --manifest-path benches/leaf/Cargo.toml --profile "$1")
  # Registries are asked only where something is missing.
  cargo fetch --quiet --manifest-path benches/leaf/Cargo.toml
  cargo clean "${flags[@]}" -p rdmm-core -p leaf
  : >"$LOG"
  cargo build "${flags[@]}"
}

# Seconds for a crate in the last build.
seconds() { awk -v crate="$1" '$1 == crate { print $2 }' "$LOG"; }

# Seconds that a program takes.
elapsed() {
  local TIMEFORMAT=%R
  { time "$1" >/dev/null; } 2>&1
}

compile release
core=$(seconds rdmm_core)
leaf=$(seconds leaf)
ratio=$(awk "BEGIN { printf \"%.3f\", $leaf / $core }")
printf '%-40s %8s s\n' "rdmm-core, release" "$core" "the crate of fifteen lines, release" "$leaf"
printf '%-40s %8s\n' "ratio" "$ratio"

if [ "${1-}" = --update ]; then
  run=$(elapsed "$CARGO_TARGET_DIR/release/leaf")
  compile dev
  table=$(cat <<TABLE
| | release | debug |
| --- | --- | --- |
| \`rdmm-core\`, compiled once, seconds of the processor | $core | $(seconds rdmm_core) |
| the crate of fifteen lines, compiled after every change, seconds of the processor | $leaf | $(seconds leaf) |
| ratio | $ratio | |
| it registers two images of 96×96, seconds | $run | $(elapsed "$CARGO_TARGET_DIR/debug/leaf") |
TABLE
  )
  printf '%s\n' "$table"
  written=$(mktemp)
  trap 'rm -f "$written"' EXIT
  TABLE=$table awk '
    /^<!-- end of compile -->$/ { inside = 0 }
    !inside
    /^<!-- compile -->$/ { inside = 1; print "\n" ENVIRON["TABLE"] "\n" }
  ' "$page" >"$written"
  cat "$written" >"$page"
  exit
fi

committed=$(sed -n '/^<!-- compile -->$/,/^<!-- end of compile -->$/s/^| ratio | \([0-9.]*\) |.*/\1/p' "$page")
if [ -z "$committed" ]; then
  echo "there is no ratio in $page: benches/compile.sh --update writes it" >&2
  exit 1
fi
if awk "BEGIN { exit !($ratio > $largest * $committed) }"; then
  echo "The crate costs $ratio of rdmm-core, and $committed in $page: loops of the library are compiled in a user's" >&2
  echo "crate (see src/compiled.rs). benches/compile.sh --update takes this as the new figure." >&2
  exit 1
fi
