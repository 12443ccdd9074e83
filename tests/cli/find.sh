#!/bin/sh
# find: which points hold a path, in which version, and how to get one back; log's choice of points.
. "$(dirname "$0")/../lib.sh"

[ -e /dev/fuse ] || {
	echo "SKIP find: there is no /dev/fuse on this machine"
	exit 77
}
CAIRN_STORE=$scratch/store
export CAIRN_STORE
mount=$scratch/mount
mkdir "$mount"
unmount() {
	# shellcheck disable=SC2317 # called by the trap
	umount -l "$mount" 2>/dev/null
}
at_end=unmount
"$CAIRN" -q init || exit 1
"$CAIRN" -q mount "$mount" || exit 1
tab=$(printf '\t')

# put TEXT POINT: the file gets the text and a time that depends on nothing, then a point is made
put() {
	printf '%s' "$1" >"$mount/dir/a file"
	touch -d '2026-01-01 12:00' "$mount/dir/a file"
	"$CAIRN" -q freeze "$2"
}

"$CAIRN" -q freeze before
mkdir "$mount/dir"
put one p1
echo other >"$mount/other"
"$CAIRN" -q freeze p2
put two p3
rm "$mount/dir/a file"
"$CAIRN" -q freeze without
put one p4

# ---- for people
run "$CAIRN" find 'dir/a file'
code 0 'find'
has "$out" '^VERSION +TYPE +SIZE +MODIFIED +POINTS' 'has a header'
same "$(awk 'NR > 1 { print $1 }' "$out" | tr '\n' ' ')" '1 2 ' 'one line a version, the newest first'
has "$out" '^ +1 file +3 B .* p1, p2, p4 \(3 points\)$' 'the same contents again are the same version'
has "$out" '^ +2 file +3 B .* p3$' 'the same size and time with other contents are not'
has "$err" "to get version 2 back: cairn restore p3 'dir/a file'" 'says what to type'
lacks "$out" 'before|without' 'points without it are not listed'
run "$CAIRN" -q find 'dir/a file'
empty "$err" 'find -q does not'
run sh -c "cd '$mount/dir' && '$CAIRN' find './a file'"
code 0 'a path from the current directory'
has "$out" 'p4 \(3 points\)' 'is understood'
run sh -c "cd '$mount' && '$CAIRN' find '$mount//dir/./a file'"
has "$err" "cairn restore p3 'dir/a file'" 'an absolute path, too'
run "$CAIRN" find dir
code 0 'find of a directory'
has "$out" ' directory ' 'says so'
run "$CAIRN" find /
has "$out" 'before' 'the root is everywhere'
has "$err" 'cairn restore [a-z0-9]+$' 'and comes back with the whole point'

# ---- for programs
run "$CAIRN" -H find 'dir/a file'
code 0 'find -H'
same "$(awk -F "$tab" '{ print $1 "=" $2 }' "$out" | tr '\n' ' ')" 'p1=1 p2=1 p3=2 p4=1 ' \
	'a line a point, oldest first'
run "$CAIRN" find --json 'dir/a file'
json '[(p["point"], p["version"]) for p in d] == [("p1", 1), ("p2", 1), ("p3", 2), ("p4", 1)]' \
	'find --json'
json 'all(p["type"] == "file" and p["size"] == 3 and p["ino"] > 0 and p["mtime"].startswith("2026-01-01T12:00:00") for p in d)' \
	'with type, size, time and inode'
json 'd[0]["ino"] == d[2]["ino"] != d[3]["ino"]' 'the version is the same whatever the inode'

# ---- refusals
run "$CAIRN" find nothing
code 6 'a path that no point holds'
has "$err" "no point of workspace 'main' holds 'nothing'" 'is told'
run "$CAIRN" find other/below
code 6 'a path below a file'
run "$CAIRN" -w nowhere find other
code 6 'no such workspace'
run "$CAIRN" find
code 2 'find without a path'

# ---- other workspaces
run "$CAIRN" -q clone p3 second
run "$CAIRN" -q -w second freeze s1
run "$CAIRN" find --json 'dir/a file'
json 'len(d) == 4' 'points of other workspaces are not looked at'
run "$CAIRN" find -a --json 'dir/a file'
json '[(p["workspace"], p["point"], p["version"]) for p in d][-1] == ("second", "s1", 2)' 'unless asked for'
run "$CAIRN" find -a 'dir/a file'
has "$out" 'main@p1' 'and have the name of their workspace'

# ---- log chooses points
run "$CAIRN" log --last 2 --json
json '[p["name"] for p in d] == ["p4", "without"]' 'log --last'
run "$CAIRN" log --last 0
code 2 'log --last 0'
run "$CAIRN" log --last x
code 2 'log --last takes a number'
run "$CAIRN" log --since '1 hour ago' --json
json 'len(d) == 6' 'log --since'
run "$CAIRN" log --until '1 hour ago' --json
json 'd == []' 'log --until'
run "$CAIRN" log --since nonsense
code 2 'log --since nonsense'
run "$CAIRN" log -a --json
json '[(p["workspace"], p["name"]) for p in d][0] == ("second", "s1") and len(d) == 7' 'log -a'
run "$CAIRN" log --graph
has "$out" '^● p3 .*⇉ workspace second' 'the graph tells clones'
run "$CAIRN" log --graph -a
has "$out" 'second@s1 .*◀ head of second' 'and draws other workspaces'

# ---- .snapshots shows what came, went and was renamed, also what was asked for before
run ls "$mount/.snapshots/later"
if [ "$status" -ne 0 ]; then ok 'no such point yet'; else not_ok 'no such point yet'; fi
run ls "$mount/.snapshots/p1"
code 0 'a point'
"$CAIRN" -q freeze later
run ls "$mount/.snapshots/later"
code 0 'a new point under a name that was asked for'
"$CAIRN" -q rename p1 first
run ls "$mount/.snapshots/p1"
if [ "$status" -ne 0 ]; then ok 'an old name is gone'; else not_ok 'an old name is gone'; fi
run ls "$mount/.snapshots/first"
code 0 'the new name is there'
"$CAIRN" -q delete first
run ls "$mount/.snapshots/first"
if [ "$status" -ne 0 ]; then ok 'a deleted point is gone'; else not_ok 'a deleted point is gone'; fi
echo 1 >>"$mount/other"
"$CAIRN" -q restore p2
kept=$("$CAIRN" -H log --last 1 | cut -f 1)
run ls "$mount/.snapshots/$kept"
code 0 'what restore kept is there'
# shellcheck disable=SC2012 # names of points are ordinary here
same "$(ls "$mount/.snapshots" | sort | tr '\n' ' ')" \
	"$("$CAIRN" -H log | cut -f 1 | sort | tr '\n' ' ')" 'the listing is that of log'

run "$CAIRN" umount "$mount"
code 0 'umount'
run "$CAIRN" find 'dir/a file'
code 0 'find without a mount'
finish
