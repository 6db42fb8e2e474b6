#!/usr/bin/env bash
# Counts the instructions of the hot kernels by callgrind and compares them with benches/instructions.json.
# More than 5 % above it fails. Counts move with the compiler and with the vector instructions that valgrind
# knows, not with what else the machine does.
#
#   benches/instructions.sh            compares
#   benches/instructions.sh --update   writes benches/instructions.json
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.json
largest=1.05

case "${1-}" in
  "" | --update) ;;
  *) echo "usage: benches/instructions.sh [--update]" >&2; exit 2 ;;
esac
if ! command -v valgrind >/dev/null; then
  echo "SKIPPED: instructions are not counted, valgrind is missing." >&2
  exit 0
fi

cargo build --release -p rdmm-validation --bin instructions
program=${CARGO_TARGET_DIR:-target}/release/instructions

# Instructions of a kernel that is repeated so often, everything around it included.
total() {
  local text count
  if ! text=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
      "$program" --kernel "$1" --repeats "$2" 2>&1); then
    printf '%s\n' "$text" >&2
    return 1
  fi
  count=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' <<<"$text")
  if [ -z "$count" ]; then
    echo "valgrind printed no count for $1" >&2
    return 1
  fi
  echo "$count"
}

kernels=$("$program")
counts=
for kernel in $kernels; do
  few=$(total "$kernel" 1)
  many=$(total "$kernel" 3)
  counts+="$kernel $(((many - few) / 2))"$'\n'
done

if [ "${1-}" = --update ]; then
  awk 'BEGIN { printf "{" }
       NF { printf "%s\n  \"%s\": %s", comma, $1, $2; comma = "," }
       END { print "\n}" }' <<<"$counts" >"$baseline"
  cat "$baseline"
  exit
fi

# One line a kernel, `  "name": count`.
tr -d '",:' <"$baseline" | awk -v largest="$largest" '
  NR == FNR { if (NF == 2) before[$1] = $2; next }
  NF == 0 { next }
  !($1 in before) { printf "%-18s %12d  not in the baseline\n", $1, $2; bad = 1; next }
  {
    ratio = $2 / before[$1]
    verdict = ratio > largest ? "  TOO MANY" : ""
    printf "%-18s %12d %12d  %.3f%s\n", $1, before[$1], $2, ratio, verdict
    if (ratio > largest) bad = 1
    delete before[$1]
  }
  END {
    for (name in before) { printf "%-18s is in the baseline and not counted\n", name; bad = 1 }
    if (bad) print "benches/instructions.sh --update takes these counts as the new baseline." > "/dev/stderr"
    exit bad
  }' - <(printf '%s' "$counts")
