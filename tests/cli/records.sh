#!/bin/sh
# What people say of points, and the journal of it: holds at a freeze, verdicts, tags, anchors and
# hooks, who did what, and that nobody changed what was written.
# shellcheck disable=SC2016 # commands for cairn to run: their variables are theirs
. "$(dirname "$0")/../lib.sh"

edit=$(cd "$(dirname "$0")" && pwd)/journal_edit.py
CAIRN_STORE=$scratch/store
export CAIRN_STORE
cd "$scratch" || exit 1
"$CAIRN" -q init || exit 1

# ---- verdict
"$CAIRN" -q freeze one || exit 1
run "$CAIRN" show one
has "$out" '^verdict +open$' 'a verdict is open at first'
run "$CAIRN" show one --json
json '[d["verdict_by"], d["verdict_reason"], d["verdict_time"]] == [None] * 3' 'and nobody gave it'
run "$CAIRN" verdict one broken -m 'totals are wrong' --by 'Anna B.'
code 0 'verdict'
same "$(cat "$out")" 'one is broken' 'tells it in a line'
run "$CAIRN" show one
has "$out" '^verdict +broken \(by Anna B\., 20[0-9-]+ [0-9:]+ [+-][0-9]+\): totals are wrong$' \
	'show tells who, when and why'
run "$CAIRN" verdict one working --json
code 0 'another verdict'
json 'd["verdict"] == "working" and d["verdict_reason"] == "" and d["verdict_by"] != "Anna B."' \
	'takes the place of the first'
json 'd["verdict_time"] > d["created"]' 'at its time'
run "$CAIRN" verdict one splendid
code 2 'no such verdict'
has "$err" 'open, working, broken or superseded' 'says which there are'
run "$CAIRN" verdict two working
code 6 'verdict on no point'
run "$CAIRN" -q verdict one superseded
empty "$out" 'verdict -q says nothing'
"$CAIRN" -q freeze two
run "$CAIRN" log --verdict superseded --json
json '[p["name"] for p in d] == ["one"]' 'log --verdict'
run "$CAIRN" log --verdict broken
code 0 'log --verdict without such points'
empty "$out" 'prints none'
has "$err" 'no points' 'and says so'
run "$CAIRN" log --verdict fine
code 2 'log of no such verdict'

# ---- tag
run "$CAIRN" tag two red 'dark green' red
code 0 'tag'
has "$out" '^tags of two: red, dark green$' 'tells all of them, each once'
run "$CAIRN" tag two blue --remove red --json
json 'd["tags"] == ["dark green", "blue"]' 'tag --remove'
run "$CAIRN" tag two --remove red
code 6 'removing a tag that is not there'
has "$err" "has no tag 'red'" 'says so'
run "$CAIRN" tag two --remove blue --remove 'dark green'
has "$out" '^two has no tags$' 'the last tags'
run "$CAIRN" tag two
code 2 'no tag at all'
run "$CAIRN" tag two ''
code 2 'an empty tag'

# ---- holds: at a freeze, how many are left, names in commands
run "$CAIRN" freeze "it's held" --hold audit --hold 'second line' --hold-until 'in 3 days' --json
code 0 'freeze --hold --hold-until'
json '[h["until"] is not None for h in d["holds"]] == [True, True]' 'both have an end'
run "$CAIRN" freeze other --hold-until 'in 3 days'
code 2 '--hold-until without --hold'
run "$CAIRN" freeze other --hold x --hold-until '2 days ago'
code 2 'a hold that is over'
run "$CAIRN" show "it's held"
has "$out" '^hold +[0-9]+: audit \(by .*, since 20.*, until 20.*\)$' 'show tells it in full'
run "$CAIRN" delete "it's held"
code 3 'delete of it'
has "$err" "cairn release 'it'\\\\''s held' [0-9]+\$" 'names the command as a shell takes it'
command=$(sed -n 's/.*to lift it: cairn/"$CAIRN"/p' "$err" | head -n 1)
run sh -c "$command"
code 0 'that command works'
has "$out" "^released it's held; 1 hold is left\$" 'one hold is left'
run "$CAIRN" release "it's held"
has "$out" "^released it's held; no hold is left\$" 'none is left'
run "$CAIRN" freeze "it's held"
code 1 'a name that is taken'
has "$err" "cairn delete 'it'\\\\''s held'\$" 'a name in a command is quoted'
run "$CAIRN" hold one 'a reason'
has "$out" '^held one \(hold [0-9]+; to lift it: cairn release one [0-9]+\)$' 'hold says how to lift it'
"$CAIRN" -q release one

# ---- hooks
run "$CAIRN" freeze hooked --pre 'echo "pre $CAIRN_POINT $CAIRN_WORKSPACE $CAIRN_STORE"; id >id' \
	--post 'echo "post $CAIRN_STATUS ${CAIRN_MOUNTPOINT-not mounted}"'
code 0 'freeze --pre --post'
has "$err" "^pre hooked main $CAIRN_STORE\$" '--pre knows what it is about'
has "$err" '^post 0 not mounted$' '--post knows that it went well'
has "$out" '^froze hooked: ' 'stdout has the result'
same "$(wc -l <"$out" | tr -d ' ')" 1 'and nothing else'
same "$(cat id)" "$(id)" 'it runs as the caller, where he stands'
run "$CAIRN" freeze failed --pre 'exit 7' --post 'echo "post $CAIRN_STATUS"'
code 1 'a failing --pre'
has "$err" '--pre ended with exit code 7' 'is told'
has "$err" '^post 1$' 'and --post runs nevertheless'
run "$CAIRN" show failed
code 6 'but there is no point'
run "$CAIRN" freeze one --post 'echo "post $CAIRN_STATUS"'
code 1 'a freeze that fails'
has "$err" '^post 1$' 'is followed by --post too'
run "$CAIRN" freeze after --post 'exit 9'
code 1 'a failing --post'
has "$err" "point 'after' is there, but .*--post ended with exit code 9" 'says that the point is there'
run "$CAIRN" freeze after2 --post 'exit 9' --json
code 1 'a failing --post, --json'
json 'd["error"]["code"] == "failed" and d["error"]["detail"]["name"] == "after2"' 'the same'
run "$CAIRN" freeze 'a$(touch x)`touch y`' --pre 'printf "%s\n" "$CAIRN_POINT"'
code 0 'a name of shell syntax'
has "$err" '^a\$\(touch x\)`touch y`$' 'is a name only'
if [ -e x ] || [ -e y ]; then not_ok 'nothing of it is run'; else ok 'nothing of it is run'; fi
run "$CAIRN" freeze slow --pre 'sleep 60 & wait' --time-limit 1 --post 'echo "post $CAIRN_STATUS"'
code 1 'a --pre that takes too long'
has "$err" 'did not end within 1 second$' 'is told'
has "$err" '^post 1$' 'and followed by --post'
run "$CAIRN" freeze slow --pre true --time-limit soon
code 2 '--time-limit is a number'
run "$CAIRN" -s nowhere freeze slow --pre ': >ran'
code 6 'a freeze in no store'
if [ -e ran ]; then not_ok 'does not even run --pre'; else ok 'does not even run --pre'; fi
"$CAIRN" freeze slow --pre ': >started; sleep 60' --post 'echo "post $CAIRN_STATUS" >ended' \
	>"$out" 2>"$err" &
pid=$!
for _ in $(seq 100); do
	[ -e started ] || sleep 0.05
done
kill -TERM $pid
wait $pid
same $? 143 'SIGTERM ends a freeze that waits for --pre'
same "$(cat ended)" 'post 1' 'but after --post only'
run "$CAIRN" show slow
code 6 'and there is no point'

# ---- anchors
echo LSN-1 >db
run "$CAIRN" freeze anchored --anchor code=v2 --anchor-cmd 'db=cat db && echo talk >&2' \
	--anchor-cmd 'who=echo "$CAIRN_POINT in $CAIRN_WORKSPACE"' --json
code 0 'freeze --anchor-cmd'
json 'd["anchors"] == {"code": "v2", "db": "LSN-1", "who": "anchored in main"}' 'its anchors'
json 'set(d["anchor_commands"]) == {"db", "who"}' 'and their commands'
has "$err" '^talk$' 'what the command says besides is seen'
run "$CAIRN" show anchored
has "$out" '^anchor +db = LSN-1$' 'show tells the anchor'
has "$out" '^ +told by: cat db && echo talk >&2$' 'and its command'
for command in false true 'printf "\\377"' 'yes | head -n 5000'; do
	run "$CAIRN" freeze no-anchor --anchor-cmd "db=$command"
	code 1 "an anchor by '$command' stops the freeze"
	has "$err" "the command of anchor 'db' (ended with exit code 1|printed )" 'which says why'
done
run "$CAIRN" freeze no-anchor --anchor db=1 --anchor-cmd 'db=echo 1' --pre ': >pre'
code 2 'two anchors of a name'
if [ -e pre ]; then not_ok 'nothing was run then'; else ok 'nothing was run then'; fi
run "$CAIRN" freeze no-anchor --anchor-cmd db
code 2 'an anchor without command'
run "$CAIRN" show no-anchor
code 6 'none of these made a point'

run "$CAIRN" restore anchored -n --json
code 0 'restore -n'
json '{a["name"]: a["differs"] for a in d["anchors"]} == {"code": None, "db": False, "who": False}' \
	'asks the anchors again'
echo LSN-2 >db
run "$CAIRN" restore anchored -n
has "$out" '^anchor db: was LSN-1, is now LSN-2$' 'restore -n tells what has moved on'
has "$out" '^anchor who: still anchored in main$' 'what has not'
has "$out" '^anchor code: was v2, .*given by hand' 'and what cannot be asked'
run "$CAIRN" restore anchored --json
code 0 'restore with anchors'
json 'd["anchors"][1] == {"name": "db", "then": "LSN-1", "now": "LSN-2", "differs": True,
	"command": "cat db && echo talk >&2"}' 'restore --json tells them'
json 'd["anchors"][0]["command"] is None and d["anchors"][0]["now"] is None' 'those by hand too'
rm db
run "$CAIRN" restore anchored
code 0 'an anchor that does not answer does not stop a restore'
has "$out" '^anchor db: was LSN-1, .* its command ended with exit code 1$' 'which tells it'
run "$CAIRN" restore anchored --json
json '"exit code 1" in d["anchors"][1]["error"] and d["anchors"][1]["now"] is None' 'in JSON too'
run "$CAIRN" restore anchored --no-anchors
has "$out" '^anchor db: was LSN-1, .*not asked: --no-anchors$' 'restore --no-anchors'
lacks "$err" 'talk' 'does not run them'
run "$CAIRN" restore one --json
json 'd["anchors"] == []' 'a point without anchors'
run "$CAIRN" restore one --time-limit soon
code 2 'restore --time-limit is a number too'
run "$CAIRN" restore nowhere
code 6 'no point'
same "$(wc -l <"$err" | tr -d ' ')" 1 'is told once'
if [ "$(id -u)" = 0 ]; then
	chown 65534 "$CAIRN_STORE"
	run "$CAIRN" restore anchored -n
	code 0 "another user's store"
	has "$out" '^anchor db: .*not asked: the store belongs to user ' 'its commands are not run'
	lacks "$err" 'talk' 'not at all'
	chown 0 "$CAIRN_STORE"
fi

# ---- journal
run "$CAIRN" journal
code 0 'journal'
has "$out" '^NUMBER +TIME +WHO +ACTION +WORKSPACE +POINT +REASON' 'has a header'
has "$out" ' [^ ]+@[^ ]+ +verdict +main +one +totals are wrong \(verdict broken, old_verdict open, given_by Anna B\.\)' \
	'who did what, and for whom'
run "$CAIRN" journal one --json
json '[e["action"] for e in d][:4] == ["freeze", "verdict", "verdict", "verdict"]' 'of one point'
json 'all(e["point"] == "one" and len(e["hash"]) == 64 for e in d)' 'with their hashes'
json 'd[1]["details"] == {"verdict": "broken", "old_verdict": "open", "given_by": "Anna B."}' 'and details'
run "$CAIRN" journal two --action tag --json
json 'd[0]["details"] == {"added": ["red", "dark green"]}' 'several of a kind are an array'
json '[e["action"] for e in d] == ["tag"] * 3' 'journal --action'
run "$CAIRN" journal --action dance
code 2 'no such action'
has "$err" ' freeze restore ' 'says which there are'
run "$CAIRN" -H journal --action verdict
same "$(awk -F '\t' '{ print NF }' "$out" | sort -u)" 10 'journal -H has ten fields'
last=$("$CAIRN" -q journal --verify)
run "$CAIRN" journal --after "${last%%:*}" --json
json 'd == []' 'nothing after the last entry'
"$CAIRN" -q rename two zwei && "$CAIRN" -q delete zwei
run "$CAIRN" journal --after "${last%%:*}" --json
json '[e["action"] for e in d] == ["rename", "delete"]' 'journal --after'
run "$CAIRN" journal two --json
json 'd[0]["action"] == "freeze" and d[-1]["action"] == "delete" and d[-1]["point"] == "zwei"' \
	'a point that is gone, by a name that it had'
run "$CAIRN" journal dreiundzwanzig
code 6 'a point that never was'
"$CAIRN" -q workspace create side && "$CAIRN" -q -w side freeze one
run "$CAIRN" -w side journal --json
json '[e["action"] for e in d] == ["workspace-create", "freeze"]' 'journal -w'
"$CAIRN" -q workspace delete side
run "$CAIRN" -w side journal --json
json 'd[-1]["action"] == "workspace-delete" and len(d) == 4' 'of a workspace that is gone'
run "$CAIRN" journal side@one --json
json '[e["action"] for e in d] == ["freeze", "delete"]' 'and of its point'

# ---- journal --verify
run "$CAIRN" journal --verify
code 0 'journal --verify'
has "$out" '^the journal holds together: [0-9]+ entries$' 'tells that it holds together'
noted=$(sed -n 's/^last entry: //p' "$out")
same "$("$CAIRN" -q journal --verify)" "$noted" 'and what to note'
"$CAIRN" -q freeze later
run "$CAIRN" journal --verify --expect "$noted"
code 0 'journal --expect of what was noted'
has "$out" 'with the one that was noted$' 'finds it'
run "$CAIRN" journal --expect "$noted" --json
json "d['errors'] == 0 and d['findings'] == [] and d['entries'] > ${noted%%:*}" 'the same in JSON'
for wrong in 5 "5:abc" "x:${noted#*:}" "0:${noted#*:}" "${noted}0"; do
	run "$CAIRN" journal --expect "$wrong"
	code 2 "--expect $wrong is none"
done
run "$CAIRN" journal one --verify
code 2 '--verify is about all entries'

# tamper WHAT...: on a copy of the store
tamper() {
	rm -rf copy
	cp -a "$CAIRN_STORE" copy
	python3 "$edit" copy "$@" || not_ok "the copy was changed: $*"
}
if command -v mdb_load >/dev/null && command -v mdb_dump >/dev/null; then
	"$CAIRN" -s copy init >/dev/null
	entry=$("$CAIRN" -H journal one --action verdict | head -n 1 | cut -f 1)
	tamper change "$entry" broken worked
	run "$CAIRN" -s copy journal --verify
	code 5 'an entry that was changed'
	has "$out" "^entry $entry was changed\$" 'is named'
	run "$CAIRN" -s copy journal --verify --json
	code 5 'the same in JSON'
	json 'd["error"]["code"] == "damaged" and d["error"]["detail"]["errors"] == 1' 'is damage'
	json "d['error']['detail']['findings'] == ['entry $entry was changed']" 'with what was found'
	tamper remove "$entry"
	run "$CAIRN" -s copy journal --verify
	code 5 'an entry that was removed'
	has "$out" "^entry $entry is missing\$" 'is missed'
	tamper cut "$((entry + 1))"
	run "$CAIRN" -s copy journal --verify
	code 5 'a journal that was cut off'
	has "$out" '^point [0-9]+ exists, but no entry tells how it was made$' 'lacks points'
	tamper forget 1
	run "$CAIRN" -s copy journal --verify
	code 5 'a point that was taken away'
	has "$out" '^point 1 is gone, but no entry tells who deleted it$' 'is missed'
	tamper rechain "$entry" broken worked
	run "$CAIRN" -s copy journal --verify
	code 0 'a journal written anew as a whole holds together'
	run "$CAIRN" -s copy journal --verify --expect "$noted"
	code 5 'but is not the one that was noted'
	has "$out" "^entry ${noted%%:*} is not the one that was noted\$" 'and says so'
	run "$CAIRN" -s copy check
	code 0 'the copies are sound stores otherwise'
else
	echo 'SKIP tampering: there is no mdb_load or mdb_dump (package lmdb-utils)'
fi
rm -rf copy
cp -a "$CAIRN_STORE" copy
"$CAIRN" -q verdict later broken
noted=$("$CAIRN" -q journal --verify)
run "$CAIRN" -s copy journal --verify
code 0 'an older copy of the store holds together'
run "$CAIRN" -s copy journal --verify --expect "$noted"
code 5 'but lacks what was noted later'
has "$out" "^entry ${noted%%:*}, which was noted, is missing\$" 'and says so'

# ---- mounted: the same through the daemon
if [ -e /dev/fuse ]; then
	mkdir mount
	at_end=unmount
	# shellcheck disable=SC2317 # called at the end, through $at_end
	unmount() {
		cd /
		if mountpoint -q "$scratch/mount"; then "$CAIRN" umount "$scratch/mount"; fi
	}
	"$CAIRN" -q mount mount || not_ok 'mount'
	run "$CAIRN" freeze mounted --pre 'echo work >"$CAIRN_MOUNTPOINT/file"' \
		--anchor-cmd 'at=echo "$CAIRN_MOUNTPOINT"' --json
	code 0 'hooks of a mounted store'
	json "d['anchors'] == {'at': '$scratch/mount'} and d['files'] == 1" 'know the mount point'
	run "$CAIRN" verdict mounted working --json
	json 'd["verdict_by"] and d["verdict"] == "working"' 'a verdict through the daemon'
	run "$CAIRN" journal mounted --json
	json '[e["action"] for e in d] == ["freeze", "verdict"]' 'and its journal'
	run "$CAIRN" journal --verify
	code 0 'that holds together'
else
	echo 'SKIP hooks of a mounted store: there is no /dev/fuse'
fi

finish
