# Shared by the scripts of this folder: the workload, and the oracle that judges what is left of it.
#
# The workload is a file of lines `key TAB value`, loaded in order in batches: KEYS keys in ascending order with the
# value `first…`, then the same keys again with `second…`. A load that stopped anywhere has therefore left exactly the
# state after some first N lines, N a whole number of batches, and N is at least what was acknowledged.

LOGWOOD=${LOGWOOD:-target/release/logwood}
KEYS=${KEYS:-20000}
BATCH=${BATCH:-10}

die() { echo "FAILED: $*" >&2; exit 1; }

# workload FILE: writes the two passes.
workload() {
  awk -v keys="$KEYS" 'BEGIN {
    for (pass = 1; pass <= 2; pass++)
      for (n = 0; n < keys; n++)
        printf "key%08d\t%s value of number %d, padded to a length that is worth the write %032d\n", n, pass == 1 ? "first" : "second", n, n * pass
  }' > "$1"
}

# acknowledged ACKS: how many lines of the workload were acknowledged. Every acknowledgement is a line
# `LSN TAB last key of the batch`; a last line that was cut short does not count.
acknowledged() {
  awk -v keys="$KEYS" -v batch="$BATCH" '
    END { lines = whole * batch; if (lines > keys * 2) lines = keys * 2; print lines }
    NF == 2 && $2 ~ /^key[0-9]+$/ && length($2) == 11 { whole++ }' "$1"
}

# judge DIR WORKLOAD ACKS [BEFORE [LINES]]: verifies the database as the trouble left it, recovers it, verifies it again,
# and compares every record with the oracle. BEFORE is how many lines the database already had when the load began. How
# many it has now is written into the file LINES.
judge() {
  local dir=$1 workload=$2 acks=$3 before=${4:-0} left=${5:-/dev/null} acked state lines code verified torn torn_tails
  acked=$(acknowledged "$acks")
  echo 0 > "$left"
  state=$(mktemp)
  if [ ! -e "$dir/log" ] || [ -z "$(ls -A "$dir/log")" ]; then
    [ "$acked" -eq 0 ] || die "$acked lines were acknowledged and the database is gone"
    rm -f "$state"; echo "$acked acknowledged, nothing there yet"; return
  fi
  # Nothing has recovered yet: a tail that is really torn is reported, and is no damage.
  code=0 verified=0
  "$LOGWOOD" verify "$dir" --json > "$state" 2>/dev/null || verified=$?
  torn=$(sed -n 's/.*"torn_tail_batches": *\([0-9]*\).*/\1/p' "$state")
  # Opening for writing recovers; verify then reads every byte of what recovery made of it.
  "$LOGWOOD" scan "$dir" > "$state" || code=$?
  # Killed before the database or its keyspace was made: nothing can have been acknowledged.
  if [ "$code" -eq 1 ] && [ "$acked" -eq 0 ] && [ "$before" -eq 0 ]; then
    rm -f "$state"; echo "0 acknowledged, nothing there yet"; return
  fi
  [ "$code" -eq 0 ] || die "scan after recovery: exit $code with $acked lines acknowledged"
  # Where recovery found a keyspace, the database was whole before it.
  [ "$verified" -eq 0 ] || die "verify before recovery: exit $verified"
  "$LOGWOOD" verify "$dir" >/dev/null || die "verify after recovery: exit $?"
  lines=$(awk -F'\t' -v keys="$KEYS" '
    FILENAME == ARGV[1] { if (FNR <= keys) first[$1] = $2; else second[$1] = $2; next }
    { records++ }
    $2 == second[$1] { if (old) { print "a newer record behind an older one: " $1; bad = 1; exit } seconds++; next }
    $2 == first[$1] { old = 1; next }
    { print "not a record of the workload: " $0; bad = 1; exit }
    END { if (!bad) print (seconds == 0 ? records + 0 : records == keys ? keys + seconds : "records are missing") }' \
    "$workload" "$state")
  case $lines in *[!0-9]*|'') die "$lines" ;; esac
  # No record was skipped: the keys are the first ones of the workload.
  head -n "$(wc -l < "$state")" "$workload" | cut -f1 | cmp -s - <(cut -f1 "$state") || die "a key is missing in the middle"
  [ "$lines" -ge "$acked" ] || die "$acked lines were acknowledged, the state is that after $lines"
  [ "$lines" -ge "$before" ] || die "$before lines were there before, the state is that after $lines"
  rm -f "$state"
  echo "$lines" > "$left"
  [ "${torn:-0}" -eq 0 ] || torn_tails=", a torn tail of $torn batches"
  echo "$acked lines acknowledged, state is that after $lines: nothing lost${torn_tails-}"
}
