#!/bin/sh
# Wrong usage: exit code 2, one clear line on stderr and a hint, nothing on stdout, nothing done.
. "$(dirname "$0")/../lib.sh"

store=$scratch/store
"$CAIRN" -q init "$store" || exit 1
CAIRN_STORE=$store
export CAIRN_STORE

# wrong NAME REGEX ARGUMENT...
wrong() {
	name=$1
	regex=$2
	shift 2
	run "$CAIRN" "$@"
	code 2 "$name: exit code"
	empty "$out" "$name: nothing on stdout"
	has "$err" "$regex" "$name: message"
	has "$err" "^cairn: " "$name: begins with cairn:"
}

wrong 'no command' 'cairn help'
wrong 'unknown command' 'no such command: nonsense' nonsense
has "$err" "'cairn help'" 'unknown command: hint'
wrong 'mistyped command' "Did you mean 'freeze'" frezee
wrong 'mistyped command, swapped' "Did you mean 'log'" lgo
wrong 'mistyped group' "Did you mean 'workspace'" workspce
wrong 'half a command' "workspace" workspace
wrong 'unknown command of a group' 'no such command: workspace frob' workspace frob
for later in export import send receive lease confirm \
	report; do
	wrong "later: $later" "no such command: $later" "$later"
done

wrong 'unknown long option' 'no such option: --frob' log --frob
has "$err" "cairn help log" 'unknown option: hint'
wrong 'unknown letter' 'no such option: -x' log -x
wrong 'unknown option before the command' 'no such option: --frob' --frob log
wrong 'option without its value' '--message needs a value' freeze a -m
wrong 'value for a flag' '--graph takes no value' log --graph=1
wrong 'empty store' '--store needs a value' --store= log
wrong 'bad --progress' 'auto, always, never or json' gc --progress sometimes
wrong 'no argument' 'argument is missing' freeze
wrong 'too few arguments' 'one more argument' rename a
wrong 'too many arguments' "too many: 'b'" freeze a b
wrong 'dry run where there is none' 'dry run' freeze a -n
wrong 'dry run before the command' 'dry run' -n freeze a
wrong '-H where nothing is listed' '-H' freeze a -H
wrong '--json of cat' 'json' cat a b -- --json x
wrong '--graph with -H' '--graph' log --graph -H
wrong 'diff -z -H' '-z' diff a -z -H
wrong 'anchor without =' 'NAME=VALUE' freeze a --anchor db
wrong 'anchor without name' 'NAME=VALUE' freeze a --anchor =1
wrong 'hold that is no number' 'number' release a x
wrong 'bad compression' 'compression' init "$scratch/other" --compress gzip
wrong 'bad compression at rest' 'at rest' init "$scratch/other" --compress-at-rest lz4
wrong 'bad zstd level' 'compression|zstd' init "$scratch/other" --compress zstd:99
wrong 'DIR and --store' 'not both' -s "$store" init "$scratch/other"
wrong 'diff without A' 'point A' diff -- path
if [ -e "$scratch/other" ]; then not_ok 'a refused init leaves nothing'; else ok 'a refused init leaves nothing'; fi

long=$(printf '%0256d' 0)
wrong 'name: empty' 'empty' freeze ''
wrong 'name: 256 bytes' '255' freeze "$long"
wrong 'name: with /' '/' freeze a/b
wrong 'name: begins with @' '@' freeze @a
wrong 'name: begins with .' "'\.'" freeze .a
wrong 'name: begins with -' "'-'" freeze -- -a
wrong 'name: control character' 'control' freeze "$(printf 'a\tb')"
wrong 'name: newline' 'control' freeze "$(printf 'a\nb')"
wrong 'name: not UTF-8' 'UTF-8' freeze "$(printf 'a\377b')"
wrong 'name of a workspace: with @' '@' workspace create a@b
wrong 'name of a workspace: with /' '/' workspace create a/b
run "$CAIRN" log --json
json 'd == []' 'nothing was made by all that'

"$CAIRN" -q freeze a || exit 1
wrong 'rename to a bad name' '/' rename a x/y
wrong 'hold without a reason' 'reason' hold a ''
wrong 'hold until nonsense' 'time' hold a reason --until 'when hell freezes'
wrong 'hold until the past' 'past|future' hold a reason --until '2001-01-01 00:00'
wrong '@head is no point' 'present state' restore @head

# options before and after the command are the same
run "$CAIRN" --json log
cp "$out" "$scratch/before"
run "$CAIRN" log --json
if cmp -s "$out" "$scratch/before"; then ok 'options before or after'; else not_ok 'options before or after'; fi
run "$CAIRN" freeze -m text b -t one -- 
code 0 'options between arguments, and --'

# with --json errors are JSON on stdout, and the exit code stays
run "$CAIRN" --json freeze
code 2 'usage error with --json: exit code'
json 'd["error"]["code"] == "usage" and "detail" in d["error"] and d["error"]["message"]' \
	'usage error with --json'
empty "$err" 'and nothing on stderr'
run "$CAIRN" frezee --json
json 'd["error"]["code"] == "usage"' 'unknown command with --json'
run "$CAIRN" cat a b --json
code 2 'cat --json: exit code'
json 'd["error"]["code"] == "usage"' 'cat --json'

# output that cannot be written is an error
if [ -e /dev/full ]; then
	run sh -c '"$1" help >/dev/full' sh "$CAIRN"
	code 1 'a full stdout'
	has "$err" 'cannot write' 'a full stdout is told'
fi
run sh -c '"$1" log >&-' sh "$CAIRN"
code 1 'a closed stdout'

finish
