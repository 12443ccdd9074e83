#!/bin/sh
# carry and restore of paths, on a store that is not mounted but while it is filled: what is printed, exit codes, JSON.
. "$(dirname "$0")/../lib.sh"
if [ ! -e /dev/fuse ] || [ "$(id -u)" != 0 ]; then
	skip 'carry: needs root and /dev/fuse, to fill a workspace'
fi

CAIRN_STORE=$scratch/store
export CAIRN_STORE
mnt=$scratch/mnt
mkdir "$mnt"
"$CAIRN" -q init || exit 1
# shellcheck disable=SC2317 # called at the end
let_go() { umount -l "$mnt" 2>/dev/null || :; }
at_end=let_go

# with COMMANDS: in the mounted workspace
with() {
	"$CAIRN" -q mount "$mnt" || exit 1
	(cd "$mnt" && eval "$1") || exit 1
	"$CAIRN" -q umount "$mnt" || exit 1
}
kept_name() { sed -n 's/^the state until now is kept as the point //p' "$out"; }
content() { "$CAIRN" cat @head "$1" 2>/dev/null; }

with 'mkdir load map; echo 100 >load/rows; echo a >map/rules; echo x >map/old; echo 1 >notes'
"$CAIRN" -q freeze loaded
with 'echo broken >load/rows; echo b >>map/rules; rm map/old; mv notes notes.txt; echo new >map/script'

# ---- restore of paths
run "$CAIRN" restore loaded load -n
code 0 'restore POINT PATH -n'
has "$out" '^would restore load of loaded: 0 added, 0 removed, 1 modified$' 'with exact numbers'
has "$out" '^the present state would be kept as the point before-restore-loaded-[0-9]' 'and the name of the kept point'
same "$(content load/rows)" broken 'and nothing is changed'
run "$CAIRN" restore loaded load -n --json
json 'd["paths"] == ["load"] and d["safety_point"]["name"].startswith("before-restore-loaded-")' '-n --json: the paths'
json 'd["changed"] == {"added": 0, "removed": 0, "modified": 1} and d["would_block"] == []' 'and what would change'
run "$CAIRN" restore loaded load
code 0 'restore POINT PATH'
has "$out" '^restored load of loaded: 0 added, 0 removed, 1 modified in ' 'says what it did'
first=$(kept_name)
has "$out" "^go back with: cairn restore $first\$" 'and how to go back'
same "$(content load/rows)" 100 'the path is as in the point'
same "$(content map/script)" new 'all else stays'
run "$CAIRN" restore loaded load
has "$out" '^restored load of loaded: 0 added, 0 removed, 0 modified' 'a second time there is nothing to do'
same "$(content map/script)" new 'and nothing happens'
run "$CAIRN" restore loaded none
code 6 'a path on neither side'
has "$err" "'none' is neither in the workspace nor in 'loaded'" 'is named'
run "$CAIRN" restore loaded map/script map/old --json
code 0 'two paths'
json 'd["changed"] == {"added": 1, "removed": 1, "modified": 0}' 'one is deleted, one comes back'
"$CAIRN" -q restore "$first"

# ---- a whole restore, previewed
run "$CAIRN" restore loaded -n --json
json 'd["safety_point"] is None and not d["safety_made"]' 'where the state is a point already none would be kept'
run "$CAIRN" restore loaded -n
has "$out" '^the present state is that of a point already' 'and it says so'
with 'echo more >>map/rules'
run "$CAIRN" restore loaded -n
has "$out" '^the present state would be kept as the point before-restore-loaded-[0-9]+-[0-9-]+$' 'else the name is told'
would=$("$CAIRN" restore loaded -n --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["changed"])')
run "$CAIRN" restore loaded --json
json "d['changed'] == $would" 'what -n foretold is what happens'
bad=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["safety_point"]["name"])' "$out")

# ---- carry
run "$CAIRN" carry "$bad" map -n
code 0 'carry FROM PATH -n'
has "$out" '^M map/rules$' 'a changed file'
has "$out" '^- map/old$' 'a deleted one'
has "$out" '^\+ map/script$' 'a new one'
has "$out" "^would carry over from $bad \\(since loaded\\): 1 added, 1 removed, 1 modified\$" 'and a summary'
same "$(content map/old)" x '-n changes nothing'
run "$CAIRN" carry "$bad" map
code 0 'carry FROM PATH'
has "$out" "^carried over from $bad \\(since loaded\\): 1 added, 1 removed, 1 modified in " 'says what came over'
has "$out" '^go back with: cairn restore loaded$' 'and how to go back'
same "$(content map/rules)" 'a
b
more' 'the good work is here'
same "$(content load/rows)" 100 'the bad is not'
run "$CAIRN" carry "$bad" map
has "$out" "^nothing to carry over from $bad" 'a second time nothing is left'
code 0 'which is no failure'
run "$CAIRN" carry "$bad" notes.txt
has "$out" '^R notes -> notes.txt$' 'a renamed file'
has "$out" '^the state until now is kept as the point before-carry-' 'the state before is kept'

# ---- conflicts
with 'echo 200 >load/rows'
run "$CAIRN" carry "$bad"
code 4 'a conflict stops it with exit code 4'
empty "$out" 'with nothing on stdout'
has "$err" '^C load/rows  \(changed on both sides\)$' 'it is named with its reason'
has "$err" '1 conflict .*--on-conflict keep, take or both' 'and what to do'
same "$(content load/rows)" 200 'and nothing is changed'
run "$CAIRN" carry "$bad" --json
code 4 'the same as JSON'
json 'd["error"]["code"] == "conflict" and d["error"]["detail"]["stopped"] and d["error"]["detail"]["conflicts"] == 1' \
	'with all in the detail'
json 'd["error"]["detail"]["entries"][0]["conflict"] == "both_changed"' 'and the kind of conflict'
json 'd["error"]["detail"]["entries"][0]["resolution"] is None' 'that was left alone'
run "$CAIRN" carry "$bad" -n
code 0 '-n tells of conflicts'
has "$out" '^would stop at the conflicts' 'that they would stop it'
run "$CAIRN" carry "$bad" --on-conflict keep -n
has "$out" '^C load/rows  \(changed on both sides; stays as it is here\)$' 'keep'
run "$CAIRN" carry "$bad" --on-conflict take -n
has "$out" '^C load/rows  \(changed on both sides; as it is there\)$' 'take'
run "$CAIRN" carry "$bad" --on-conflict maybe
code 2 'a policy that there is not'
run "$CAIRN" carry "$bad" --on-conflict both --json
code 0 'carry --on-conflict both'
json 'd["conflicts"] == 1 and not d["stopped"] and d["safety_made"] and d["elapsed_ns"] > 0' 'as JSON'
json "d['from']['name'] == '$bad' and d['base']['name'] == 'loaded'" 'from where, and since when'
json '[(e["resolution"], e["copy_path"]) for e in d["entries"] if e["path"] == "load/rows"] == [("both",
	"load/rows.from-" + d["from"]["name"])]' 'and what was done about the conflict'
same "$(content load/rows)" 200 'both: the file here stays'
same "$(content "load/rows.from-$bad")" broken 'the other is beside it'
run "$CAIRN" carry nowhere
code 6 'a point that there is not'
run "$CAIRN" carry
code 2 'carry without a point'
run "$CAIRN" journal
has "$out" ' carry .* only notes.txt ' 'the journal tells of each carry, and of which paths'
has "$out" ' restore .* only map/script, map/old ' 'and of each restore'
run "$CAIRN" check --read-data
code 0 'the store is sound'
finish
