# shellcheck shell=sh
# For tests in sh: one line a check, a count at the end.
#
#   . "$(dirname "$0")/../lib.sh"
#   run "$CAIRN" freeze one       stdout to $out, stderr to $err, exit code to $status
#   code 0 "freeze makes a point"
#   has "$out" 'froze one' "and says so"
#   finish
set -u

: "${CAIRN:?must be the path of the cairn command}"
case $CAIRN in
/*) ;;
*) CAIRN=$PWD/$CAIRN ;;
esac

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/cairn-cli.XXXXXX") || exit 1
out=$scratch/stdout
err=$scratch/stderr
status=0
checks=0
failures=0
at_end=:

# The caller's settings are none of the test's business.
unset CAIRN_STORE CAIRN_WORKSPACE NO_COLOR XDG_DATA_HOME
HOME=$scratch/home
LC_ALL=C.UTF-8
export HOME LC_ALL
mkdir "$HOME"

clean_up() {
	$at_end
	cd /
	rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

ok() {
	checks=$((checks + 1))
	printf 'ok %d - %s\n' "$checks" "$1"
}

# not_ok NAME [WHAT]: with what the last command printed
not_ok() {
	checks=$((checks + 1))
	failures=$((failures + 1))
	printf 'not ok %d - %s%s\n' "$checks" "$1" "${2:+: $2}"
	sed 's/^/    stdout: /' "$out" 2>/dev/null | head -n 20
	sed 's/^/    stderr: /' "$err" 2>/dev/null | head -n 20
}

# A command that dies of a signal never does what a test wants, not even where it must fail.
run() {
	"$@" >"$out" 2>"$err" </dev/null
	status=$?
	[ "$status" -lt 126 ] || not_ok "'$*' ends by itself" "exit code $status"
}

code() {
	if [ "$status" = "$1" ]; then ok "$2"; else not_ok "$2" "exit code $status, not $1"; fi
}

# has FILE REGEX NAME; lacks FILE REGEX NAME; empty FILE NAME
has() {
	if grep -qE -e "$2" "$1"; then ok "$3"; else not_ok "$3" "no line with '$2'"; fi
}

lacks() {
	if grep -qE -e "$2" "$1"; then not_ok "$3" "a line with '$2'"; else ok "$3"; fi
}

empty() {
	if [ -s "$1" ]; then not_ok "$2" "there is output"; else ok "$2"; fi
}

same() {
	if [ "$1" = "$2" ]; then ok "$3"; else not_ok "$3" "'$1', not '$2'"; fi
}

# json EXPRESSION NAME: stdout is one JSON document `d` for which the Python expression is true
json() {
	if python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$out" "$1" 2>"$scratch/python"; then
		ok "$2"
	else
		not_ok "$2" "$1 $(tail -n 1 "$scratch/python")"
	fi
}

skip() {
	printf 'SKIP %s\n' "$1"
	exit 77
}

finish() {
	printf '%d checks, %d failed\n' "$checks" "$failures"
	[ "$failures" = 0 ] && [ "$checks" -gt 0 ]
	exit $?
}
