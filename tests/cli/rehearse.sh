#!/bin/sh
# What of try, step and bisect needs no mount: what is refused, notes of steps, clones of the present state.
. "$(dirname "$0")/../lib.sh"

CAIRN_STORE=$scratch/store
export CAIRN_STORE
"$CAIRN" -q init || exit 1
"$CAIRN" -q freeze one || exit 1
"$CAIRN" -q freeze two || exit 1

# ---- usage
run "$CAIRN" try
code 2 'try without a command'
has "$err" 'try \[POINT\] -- CMD' 'says how it is meant'
run "$CAIRN" try one true
code 2 'try without --'
run "$CAIRN" try one two -- true
code 2 'try of two points'
has "$err" "'two'" 'names the second'
run "$CAIRN" try --kep -- true
code 2 'an unknown option'
run "$CAIRN" try nosuch -- touch "$scratch/ran"
code 6 'try of a point that is not there'
has "$err" "no point 'nosuch'" 'says so'
run "$CAIRN" --json try --keep=main -- touch "$scratch/ran"
code 1 '--keep under a name that is taken'
json 'd["error"]["code"] == "failed" and "main" in d["error"]["message"]' 'says so, as JSON'
run "$CAIRN" -w nosuch try -- touch "$scratch/ran"
code 6 'try in a workspace that is not there'
if [ -e "$scratch/ran" ]; then not_ok 'the command has not run'; else ok 'the command has not run'; fi
same "$(ls "$CAIRN_STORE/rehearsals" 2>/dev/null)" '' 'and no record is left'
run "$CAIRN" bisect --good one -- true
code 2 'bisect without --bad'
run "$CAIRN" bisect --good one --bad two
code 2 'bisect without a command'
run "$CAIRN" bisect --good one --bad one -- true
code 2 'bisect with nothing between'
run "$CAIRN" bisect --good one --bad @head -- true
code 2 'bisect up to the present state'
has "$err" 'cairn freeze NAME' 'says what to do'
run "$CAIRN" bisect --good two --bad one -- true
code 1 'bisect the wrong way round'
has "$err" 'came after' 'says so'

# neighbours need no run and no mount
run "$CAIRN" bisect --good one --bad two -- touch "$scratch/ran"
code 0 'bisect of neighbours'
has "$out" '^first bad point: two$' 'needs no run'
run "$CAIRN" bisect --good one --bad two --json -- false
json 'd["first_bad"]["name"] == "two" and d["parent"]["name"] == "one" and d["runs"] == []' '--json'
json 'd["good"] == "one" and d["bad"] == "two" and d["changes"] == [] and d["elapsed_ns"] > 0' 'has all'

# ---- step
run "$CAIRN" step load
code 0 'step outside of a rehearsal'
empty "$err" 'says nothing'
run env CAIRN_STEPS="$scratch/steps" "$CAIRN" step 'load it'
code 0 'step'
run env CAIRN_STEPS="$scratch/steps" "$CAIRN" step check
has "$scratch/steps" '^[0-9]+ load it$' 'notes the time and the name'
same "$(wc -l <"$scratch/steps" | tr -d ' ')" 2 'a line each'
run "$CAIRN" step ''
code 2 'a step without a name'
run env CAIRN_STEPS=/nowhere/steps "$CAIRN" step x
code 1 'a step that cannot be noted'
has "$err" '/nowhere/steps' 'names the file'

# ---- clone @head
run "$CAIRN" clone @head copy
code 0 'clone of the present state'
run "$CAIRN" workspace list --json
json '[w["base"] for w in d] == ["two", "two"]' 'is based where that is'
run "$CAIRN" clone copy@head third
code 0 'of another workspace'
run "$CAIRN" clone @head copy
code 1 'under a name that is taken'
run "$CAIRN" clone nosuch@head x
code 6 'of a workspace that is not there'

# ---- workspaces of rehearsals do not count where none is named
CAIRN_STORE=$scratch/other
"$CAIRN" -q init || exit 1
"$CAIRN" -q workspace rename main sole
"$CAIRN" -q freeze one
"$CAIRN" -q clone one try-1
run "$CAIRN" show one --json
json 'd["workspace"] == "sole"' 'the one that is no rehearsal is meant'
"$CAIRN" -q workspace delete sole
run "$CAIRN" freeze two --json
json 'd["workspace"] == "try-1"' 'unless it is the only one'

finish
