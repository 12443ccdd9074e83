#!/bin/sh
# Retention and space: prune with restic's rules, what show, log --sizes and status tell of it.
. "$(dirname "$0")/../lib.sh"

store=$scratch/store
mount=$scratch/mnt
cairn() {
	"$CAIRN" -s "$store" "$@"
}
unmount() {
	"$CAIRN" umount "$mount" >/dev/null 2>&1
}

[ -e /dev/fuse ] || skip 'there is no /dev/fuse on this machine'
mkdir "$mount"
cairn init --compress none >/dev/null || exit 1
cairn mount "$mount" || exit 1
at_end=unmount

# six points; each rewrites the same 256 KiB, so each has them alone
for n in 1 2 3 4 5 6; do
	head -c 262144 /dev/urandom >"$mount/data"
	cairn freeze "p$n" >/dev/null || exit 1
done
cairn tag p2 month-end >/dev/null
cairn tag p3 month-end signed >/dev/null

# ---- refusals

run cairn prune
code 2 'prune without rules is refused'
has "$err" '--keep-last' 'and says which there are'
run cairn prune --keep-last 0
code 2 'a rule that keeps nothing is none'
run cairn prune --keep-last -1
code 2 'a negative number is refused'
run cairn prune --keep-last many
code 2 'a word is refused'
has "$err" "unlimited" 'and the message says what would do'
run cairn prune --keep-within 3weeks
code 2 'no duration'
has "$err" '1y6m14d12h' 'and the message shows one'
run cairn -w nowhere prune --keep-last 1
code 6 'no such workspace'
run cairn -w main prune --all-workspaces --keep-last 1
code 2 'a workspace and all of them'

# ---- dry run

run cairn prune --keep-last 2 -n
code 0 'a dry run'
has "$out" '^rules: --keep-last 2$' 'tells the rules'
has "$out" '^keep 3 points$' 'how many stay'
has "$out" 'p1 .*first point' 'the first point stays, and why'
has "$out" 'p6 .*last, a workspace is based on it' 'the newest stays, and why'
has "$out" '^would remove 3 points$' 'how many would go'
has "$out" '^would free 7[0-9][0-9]\.[0-9] KiB: [0-9]+ chunks and [0-9]+ nodes' 'what would come free'
run cairn --json log
json 'len(d) == 6' 'and nothing went'

run cairn prune --keep-last 2 -n -H
same "$(cut -f 1,3,6 "$out" | tr '\t\n' '  ')" \
	'keep p1 first keep p5 last keep p6 last,current remove p2 - remove p3 - remove p4 - ' \
	'-H: one line a point'

# ---- tags, holds and verdicts

run cairn --json prune --keep-tag month-end -n
json '[p["point"] for p in d["kept"]] == ["p1", "p2", "p3", "p6"]' '--keep-tag'
run cairn --json prune --keep-tag month-end,signed -n
json '[p["point"] for p in d["kept"]] == ["p1", "p3", "p6"]' '--keep-tag with two tags'
run cairn --json prune --keep-last 1 -t month-end -n
json '[p["point"] for p in d["kept"] + d["removed"]] == ["p3", "p2"]' '--tag looks only at these'
run cairn --json prune --keep-last unlimited -n
json 'd["removed"] == []' 'unlimited'
run cairn --json prune --keep-within 1h -n
json 'd["removed"] == [] and all("within" in p["reasons"] for p in d["kept"])' '--keep-within'
run cairn --json prune --keep-hourly 1 --keep-yearly 1 -n
json 'd["kept"][-1]["reasons"] == ["hourly", "yearly", "current"]' 'several reasons'

cairn hold p2 'sign-off of stage 2' >/dev/null
cairn verdict p4 working >/dev/null
run cairn prune --keep-last 1 -n
has "$out" 'p2 .*held \(sign-off of stage 2, by ' 'a held point stays: reason and owner'
has "$out" 'p4 .*verdict working' 'a working one stays'
run cairn --json prune --keep-last 1 -n
json '[p["point"] for p in d["removed"]] == ["p3", "p5"]' 'the others go'
json 'd["kept"][1]["holds"][0]["reason"] == "sign-off of stage 2"' 'holds in JSON'

# ---- figures

run cairn --json show p3
json '262144 < d["exclusive_bytes"] < 300000' 'show: what p3 has alone'
json 'd["shared_bytes"] < 100000' 'and shares'
run cairn show p3
has "$out" '^space +[0-9.]+ KiB alone' 'show prints it'
run cairn log --sizes
has "$out" ' ALONE ' 'log --sizes has a column'
run cairn log
lacks "$out" ' ALONE ' 'log alone has not'
run cairn --json log --sizes
json 'all(p["exclusive_bytes"] > 262144 for p in d[1:])' 'log --sizes in JSON'
json 'd[0]["exclusive_bytes"] < 262144' 'the head shares what the last point has'
run cairn --json status
json '5 * 262144 < d["exclusive_bytes"] < 6 * 262144' 'status: what single points have'

# ---- in earnest: exactly what the dry run said, and the packs shrink by it

run cairn --json prune --keep-last 1 -n
expected=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["freed"]["stored_bytes"])' "$out")
blocks() {
	cairn wait-durable
	python3 -c '
import os, sys
print(sum(e.stat().st_blocks * 512 for e in os.scandir(sys.argv[1])))' "$store/packs"
}
before=$(blocks)
run cairn --json prune --keep-last 1
code 0 'prune'
json "d['freed']['stored_bytes'] == $expected" 'frees what the dry run said'
after=$(blocks)
python3 -c 'import sys; b, a, e = map(int, sys.argv[1:]); sys.exit(not e - 65536 <= b - a <= e + 65536)' \
	"$before" "$after" "$expected"
same $? 0 'the packs shrink by it'
run cairn --json log
json '[p["name"] for p in d] == ["p6", "p4", "p2", "p1"]' 'the others are there'
[ -e "$mount/.snapshots/p3" ]
same $? 1 'the mount knows'
run cairn --json journal --action prune
json '[(e["point"], e["reason"]) for e in d] == [("p3", "--keep-last 1"), ("p5", "--keep-last 1")]' \
	'an entry in the journal for each'
run cairn prune --keep-last 1
code 0 'again'
has "$out" '^removed 0 points$' 'nothing is left to do'

# ---- several workspaces, without gc

cairn clone p6 second >/dev/null
for n in 1 2 3; do
	cairn -w second freeze "s$n" >/dev/null
done
run cairn --json prune --all-workspaces --keep-last 1 --no-gc
code 0 '--all-workspaces'
json '[p["workspace"] + "@" + p["point"] for p in d["removed"]] == ["second@s2"]' 'each by itself'
json 'd["freed"]["nodes"] == 0 and d["freed"]["stored_bytes"] == 0' '--no-gc frees nothing'
for n in 1 2 3; do
	cairn -w main freeze "m$n" >/dev/null
done
cairn clone main@m1 third >/dev/null
run cairn -w main --json prune --keep-last 1 -n
json '[p["point"] for p in d["removed"]] == ["p6", "m2"]' 'what a clone is based on stays'
json '[p["reasons"] for p in d["kept"] if p["point"] == "m1"] == [["current"]]' 'and it says so'
run cairn -w second prune --keep-last 1 --no-gc
has "$out" "'cairn gc' gives the space back" 'and says what does'

unmount
at_end=:
run cairn prune --keep-last 1 -n
code 0 'prune without a daemon'
run cairn --json show p4
json 'd["exclusive_bytes"] > 262144' 'show without a daemon'
run cairn check --read-data
code 0 'the store is sound'

finish
