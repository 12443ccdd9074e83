#!/bin/sh
# Points of a store that is not mounted: freeze, log, show, restore, rename, hold, delete, clone.
. "$(dirname "$0")/../lib.sh"

CAIRN_STORE=$scratch/store
export CAIRN_STORE
"$CAIRN" -q init || exit 1
tab=$(printf '\t')
point_keys='{"name", "id", "workspace", "created", "message", "tags", "holds", "parent", "verdict",
	"anchors", "files", "bytes", "changed_bytes"}'

# ---- freeze
run "$CAIRN" log
code 0 'log without points'
empty "$out" 'prints nothing on stdout'
has "$err" 'cairn freeze' 'and says how to make one'
run "$CAIRN" freeze one -m 'first line
second line' -t red -t green --anchor db=rp1 --anchor code=v=2
code 0 'freeze'
has "$out" '^froze one: ' 'freeze tells it in a line'
same "$(wc -l <"$out" | tr -d ' ')" 1 'of one line'
run "$CAIRN" freeze one
code 1 'a name twice'
has "$err" "'one' exists" 'and says so'
run "$CAIRN" freeze two --hold audit --json
code 0 'freeze --json'
json "set(d) >= $point_keys" 'freeze --json: the point'
json 'd["elapsed_ns"] > 0 and d["made"] is True and d["parent"] == "one"' 'and its time and parent'
json 'len(d["holds"]) == 1 and set(d["holds"][0]) >= {"id", "reason", "by", "until"}' 'a hold'
json 'd["holds"][0]["reason"] == "audit" and d["holds"][0]["until"] is None' 'and its reason'
run "$CAIRN" freeze three --if-changed
code 0 'freeze --if-changed'
has "$out" 'nothing changed since two' 'where nothing changed'
run "$CAIRN" freeze three --if-changed --json
json 'd["name"] == "two" and d["made"] is False' 'freeze --if-changed --json'
run "$CAIRN" -q freeze 'a name of words, Ünïcode'
code 0 'a name with spaces'
empty "$out" 'freeze -q says nothing'
run "$CAIRN" freeze "$(printf '%0255d' 0)"
code 0 'a name of 255 bytes'
run "$CAIRN" -q delete "$(printf '%0255d' 0)"
code 0 'delete it'

# ---- log, show
run "$CAIRN" log
code 0 'log'
same "$(awk 'NR > 1 { print $1 }' "$out" | tr '\n' ' ')" 'a two one ' 'newest first'
has "$out" '^NAME ' 'with a header'
lacks "$out" 'second line' 'first lines of messages only'
run "$CAIRN" log --json
json '[p["name"] for p in d][1:] == ["two", "one"]' 'log --json, newest first'
json "all(set(p) >= $point_keys for p in d)" 'log --json: points'
json 'd[2]["tags"] == ["red", "green"] and d[2]["anchors"] == {"db": "rp1", "code": "v=2"}' \
	'tags and anchors'
json 'd[2]["message"] == "first line\nsecond line" and d[2]["parent"] is None' 'message and parent'
json '__import__("datetime").datetime.fromisoformat(d[0]["created"][:19] + d[0]["created"][-6:])' \
	'created is RFC 3339 with a zone'
run "$CAIRN" -H log
code 0 'log -H'
lacks "$out" '^NAME' 'no header'
same "$(awk -F "$tab" '{ print NF }' "$out" | sort -u)" 10 'ten fields'
has "$out" "^one${tab}1${tab}[0-9]{4}-[0-9]{2}-[0-9]{2}T[^${tab}]*${tab}-${tab}0${tab}0${tab}0${tab}red,green${tab}open${tab}first line\\\\nsecond line\$" \
	'in their order, newlines escaped'
run "$CAIRN" log -t red --json
json '[p["name"] for p in d] == ["one"]' 'log -t'
run "$CAIRN" show one
code 0 'show'
has "$out" '^anchor +db = rp1' 'shows anchors'
has "$out" '^    second line' 'the whole message'
run "$CAIRN" show one --json
json 'd["id"] == 1 and d["workspace"] == "main" and d["verdict"] == "open"' 'show --json'
run "$CAIRN" show nowhere
code 6 'show of no point'
run "$CAIRN" show tow
code 6 'show of a mistyped point'
has "$err" 'two' 'offers the name'
for spec in @latest @1 '@{1 second ago}' main@one 'main@two'; do
	run "$CAIRN" show "$spec" --json
	[ "$spec" = '@{1 second ago}' ] && continue
	code 0 "show $spec"
done
run "$CAIRN" show '@{10 years ago}'
code 6 'no point that old'

# ---- hold, release, delete
run "$CAIRN" delete two
code 3 'delete of a held point'
has "$err" 'audit' 'names the reason'
has "$err" 'cairn release two' 'and the command that lifts the hold'
run "$CAIRN" delete two --json
code 3 'delete of a held point, --json'
json 'd["error"]["code"] == "busy"' 'is busy'
run "$CAIRN" delete one two
code 3 'delete of two points, one held'
run "$CAIRN" show one
code 0 'deletes none of them'
run "$CAIRN" hold two 'second reason' --until 'in 3 days' --json
code 0 'hold --until'
json 'd["hold"] > 0 and len(d["holds"]) == 2 and d["holds"][1]["until"]' 'hold --json'
second=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["hold"])' "$out")
run "$CAIRN" show two
has "$out" '^hold .*second reason .*until ' 'show tells holds'
run "$CAIRN" release two "$second"
code 0 'release of one hold'
run "$CAIRN" release two 999
code 6 'release of no hold'
run "$CAIRN" delete two
code 3 'the other hold still counts'
run "$CAIRN" release two
code 0 'release of all holds'
run "$CAIRN" delete two -n
code 0 'delete -n'
has "$out" '^would delete two' 'tells what it would do'
run "$CAIRN" show two
code 0 'and does not do it'
run "$CAIRN" delete two --json
json '[p["name"] for p in d] == ["two"]' 'delete --json'
run "$CAIRN" show two
code 6 'it is gone'
run "$CAIRN" delete one nowhere
code 6 'delete of a point that is not there'
run "$CAIRN" show one
code 0 'deletes none'

# ---- rename
run "$CAIRN" rename 'a name of words, Ünïcode' 2026
code 0 'rename'
run "$CAIRN" rename 2026 one
code 1 'rename to a name that is taken'
run "$CAIRN" rename 2026 three --json
json 'd["name"] == "three"' 'rename --json'

# ---- restore
run "$CAIRN" restore one -n
code 0 'restore -n'
has "$out" '^would restore one' 'tells what it would do'
run "$CAIRN" show three --json
json 'd["current"] is True' 'and does not do it'
run "$CAIRN" restore one
code 0 'restore'
has "$out" '^restored one: ' 'tells it'
has "$out" 'cairn restore three$' 'and the way back'
run "$CAIRN" restore three --json
json 'set(d) >= {"point", "safety_point", "changed", "elapsed_ns"}' 'restore --json'
json 'd["changed"] == {"added": 0, "removed": 0, "modified": 0}' 'restore --json counts'
json 'd["point"]["name"] == "three"' 'restore --json: the point'
run "$CAIRN" restore nowhere
code 6 'restore of no point'

# ---- the graph
"$CAIRN" -q restore one && "$CAIRN" -q freeze branch
run "$CAIRN" log --graph
code 0 'log --graph'
has "$out" '^● +branch .*you are here' 'marks where we are'
has "$out" '^│ ● +three' 'the other branch'
has "$out" '^├─╯' 'and where they part'
run env LC_ALL=C "$CAIRN" log --graph
has "$out" '^\* +branch .*HEAD' 'ASCII without UTF-8'
has "$out" '^\|/' 'with ASCII lines'
if LC_ALL=C grep -q '[^ -~]' "$out"; then not_ok 'nothing but ASCII'; else ok 'nothing but ASCII'; fi

# ---- workspaces
run "$CAIRN" clone one copy
code 0 'clone'
run "$CAIRN" clone one copy
code 1 'clone to a name that is taken'
run "$CAIRN" clone nowhere other
code 6 'clone of no point'
run "$CAIRN" workspace list --json
json '{w["name"]: w["base"] for w in d} == {"main": "branch", "copy": "one"}' 'workspace list --json'
run "$CAIRN" -H workspace list
same "$(cut -f 1 "$out" | sort | tr '\n' ' ')" 'copy main ' 'workspace list -H'
run "$CAIRN" workspace rename copy second
code 0 'workspace rename'
"$CAIRN" -q -w second freeze kept --hold mine
run "$CAIRN" workspace delete second
code 3 'workspace delete where a point is held'
"$CAIRN" -q release second@kept
run "$CAIRN" workspace delete second -n
has "$out" '^would delete workspace second' 'workspace delete -n'
run "$CAIRN" workspace delete second --json
json 'd["name"] == "second" and d["points"] == ["kept"]' 'workspace delete --json'
run "$CAIRN" workspace delete second
code 6 'workspace delete of none'

# ---- nothing to see
run "$CAIRN" diff one
code 0 'diff where nothing differs'
empty "$out" 'prints nothing'
run "$CAIRN" diff one --exit-code
code 0 'diff --exit-code where nothing differs'
run "$CAIRN" diff one --json
json 'd == []' 'diff --json where nothing differs'
run "$CAIRN" diff one nowhere
code 6 'diff with no point'
run "$CAIRN" ls one --json
json 'd == []' 'ls of an empty root'
run "$CAIRN" ls one nowhere
code 6 'ls of no path'
run "$CAIRN" cat one nowhere
code 6 'cat of no path'

# ---- another command has the store
if command -v flock >/dev/null; then
	flock "$CAIRN_STORE/lock" sleep 8 &
	sleep 0.3
	run "$CAIRN" freeze late --json
	code 3 'a locked store'
	json 'd["error"]["code"] == "busy"' 'is busy'
	run "$CAIRN" log
	code 0 'reading works meanwhile'
	wait
	flock "$CAIRN_STORE/lock" sleep 1 &
	sleep 0.3
	run "$CAIRN" freeze late
	code 0 'a short wait for another command'
	wait
fi

finish
