#!/bin/sh
# Looking at contents from outside: diff, ls and cat of a store that was mounted before; and the
# store and workspace that the current directory means.
. "$(dirname "$0")/../lib.sh"

[ -e /dev/fuse ] || skip 'there is no /dev/fuse'
CAIRN_STORE=$scratch/store
export CAIRN_STORE
mount=$scratch/mount
mkdir "$mount"
"$CAIRN" -q init || exit 1
at_end=unmount
# shellcheck disable=SC2317 # called at the end, through $at_end
unmount() {
	cd /
	if mountpoint -q "$mount"; then "$CAIRN" umount "$mount"; fi
}

run "$CAIRN" mount "$mount"
code 0 'mount'
empty "$out" 'mount says nothing on stdout'
empty "$err" 'nor on stderr'
run "$CAIRN" status --json
json 'd["daemon_pid"] > 0 and len(d["mounts"]) == 1 and d["mounts"][0]["workspace"] == "main"' \
	'status of a mounted store'
run "$CAIRN" mount -f "$scratch/home"
code 3 'mount -f where a daemon runs'

mkdir -p "$mount/dir/sub"
printf 'one\n' >"$mount/dir/file"
printf 'stays\n' >"$mount/stays"
printf 'x' >"$mount/bad$(printf '\377')name"
printf 'x' >"$mount/$(printf 'new\nline "q"')"
ln -s dir/file "$mount/link"
printf 'old\n' >"$mount/old"
run "$CAIRN" freeze one
code 0 'freeze of a mounted store'
printf 'two, longer\n' >"$mount/dir/file"
chmod 600 "$mount/stays"
mv "$mount/old" "$mount/dir/new"
rm "$mount/link"
mkdir "$mount/one"
printf 'added\n' >"$mount/one/added"
run "$CAIRN" cat @head one/added
code 0 'cat of @head while mounted'
same "$(cat "$out")" added 'sees what was just written'

# ---- the current directory
unset CAIRN_STORE
cd "$mount/dir" || exit 1
run "$CAIRN" log --json
json '[p["name"] for p in d] == ["one"]' 'the store of the mount around the current directory'
run "$CAIRN" diff one ./file
has "$out" '^M dir/file$' './ is the current directory'
run "$CAIRN" diff one "$mount/dir/file"
has "$out" '^M dir/file$' 'absolute paths are understood'
run "$CAIRN" diff one stays
has "$out" '^m stays$' 'other paths are those of the workspace'
run "$CAIRN" -s "$scratch/nowhere" log
code 6 '--store beats the current directory'
cd "$scratch" || exit 1
CAIRN_STORE=$scratch/store
export CAIRN_STORE

run "$CAIRN" freeze two
code 0 'freeze again'
run "$CAIRN" umount "$mount/dir"
code 1 'umount of a directory in the mount'
has "$err" "$mount" 'tells the mount point'
run "$CAIRN" umount "$mount"
code 0 'umount'
empty "$out" 'umount says nothing'
run "$CAIRN" umount "$mount"
code 1 'umount again'

# ---- diff
run "$CAIRN" diff one two
code 0 'diff'
cat >"$scratch/wanted" <<'END'
M dir/file
R old -> dir/new
- link
+ one
+ one/added
m stays
END
if cmp -s "$out" "$scratch/wanted"; then ok 'diff lines'; else not_ok 'diff lines'; fi
run "$CAIRN" diff one
if cmp -s "$out" "$scratch/wanted"; then ok 'B is @head'; else not_ok 'B is @head'; fi
run "$CAIRN" diff one two --exit-code
code 1 'diff --exit-code'
run "$CAIRN" diff one one --exit-code
code 0 'diff --exit-code, equal'
run "$CAIRN" diff one two --json
json 'all(set(e) >= {"op", "path", "type", "old_size", "new_size"} for e in d) and len(d) == 6' \
	'diff --json'
json '[(e["old_path"], e["path"]) for e in d if e["op"] == "R"] == [("old", "dir/new")]' \
	'diff --json: renames'
json '[(e["old_size"], e["new_size"]) for e in d if e["op"] == "M"] == [(4, 12)]' 'diff --json: sizes'
run "$CAIRN" diff one two --stat
has "$out" '^2 added, 1 removed, 1 modified, 1 attributes only, 1 renamed' 'diff --stat'
run "$CAIRN" diff one two --stat --json
json 'd["added"] == 2 and d["renamed"] == 1' 'diff --stat --json'
run "$CAIRN" diff one two dir
same "$(tr '\n' ',' <"$out")" 'M dir/file,R old -> dir/new,' 'diff PATH'
run "$CAIRN" diff one dir
same "$(tr '\n' ',' <"$out")" 'M dir/file,R old -> dir/new,' 'diff A PATH'
run "$CAIRN" diff two one
code 0 'the second argument is a point where one is called so'
run "$CAIRN" diff two -- one
empty "$out" 'or a path behind --'
run "$CAIRN" diff one -- one
same "$(tr '\n' ',' <"$out")" '+ one,+ one/added,' 'a path behind --'
run "$CAIRN" -H diff one two
has "$out" "^R$(printf '\t')file$(printf '\t')4$(printf '\t')4$(printf '\t')dir/new$(printf '\t')old\$" \
	'diff -H'

# ---- names that are special
run "$CAIRN" ls one --json
code 0 'ls --json'
json '{e["name"] for e in d} >= {"dir", "stays", "link", "old"}' 'ls --json: names'
json '[e["target"] for e in d if e["type"] == "link"] == ["dir/file"]' 'ls --json: targets'
json '[e["mode"] for e in d if e["name"] == "stays"][0].startswith("06")' 'ls --json: modes'
run "$CAIRN" ls one
code 0 'ls'
has "$out" '"bad\\377name"$' 'ls quotes bytes that are not UTF-8'
has "$out" '"new\\nline \\"q\\""$' 'ls quotes newlines'
has "$out" '^drwx.* dir$' 'ls shows types'
has "$out" 'link -> dir/file$' 'ls shows targets'
run "$CAIRN" ls one dir/file --json
json 'len(d) == 1 and d[0]["size"] == 4' 'ls of a file'
run "$CAIRN" clone one empty
run "$CAIRN" workspace create void
run "$CAIRN" -w void freeze nothing
run "$CAIRN" diff void@nothing main@one
has "$out" '^\+ "bad\\377name"$' 'diff quotes bytes that are not UTF-8'
has "$out" '^\+ "new\\nline \\"q\\""$' 'diff quotes newlines'
run "$CAIRN" diff void@nothing main@one -z
if python3 -c '
import sys
entries = open(sys.argv[1], "rb").read().split(b"\0")
assert b"+ bad\xffname" in entries and b"+ new\nline \"q\"" in entries and entries[-1] == b""' \
	"$out" 2>/dev/null; then
	ok 'diff -z leaves names as they are'
else
	not_ok 'diff -z leaves names as they are'
fi

# ---- cat
run "$CAIRN" cat one dir/file
same "$(cat "$out")" one 'cat of a point'
run "$CAIRN" cat two dir/file
same "$(cat "$out")" 'two, longer' 'cat of another'
run "$CAIRN" cat @head /dir/file
same "$(cat "$out")" 'two, longer' 'cat of @head'
run "$CAIRN" cat one dir
code 1 'cat of a directory'
run "$CAIRN" cat one "bad$(printf '\377')name"
same "$(cat "$out")" x 'cat of a name that is not UTF-8'

# ---- restore counts, keeps, and goes back
run "$CAIRN" restore one --json
json 'd["changed"] == {"added": 1, "removed": 2, "modified": 3}' 'restore counts'
json 'd["safety_point"]["name"] == "two"' 'the state before is a point'
run "$CAIRN" cat @head dir/file
same "$(cat "$out")" one 'restore restores'
run "$CAIRN" restore two
run "$CAIRN" cat @head dir/file
same "$(cat "$out")" 'two, longer' 'and goes back'
run "$CAIRN" check --read-data
code 0 'check --read-data'

# ---- mount.cairn, as mount(8) calls it
ln -s "$CAIRN" "$scratch/mount.cairn"
run "$scratch/mount.cairn" "$CAIRN_STORE#void" "$mount" -sf -o defaults
code 0 'mount.cairn -f'
if mountpoint -q "$mount"; then not_ok 'mount.cairn -f mounts nothing'; else ok 'mount.cairn -f mounts nothing'; fi
run "$scratch/mount.cairn" "$CAIRN_STORE#void" "$mount" -n -o rw,_netdev,nofail,x-systemd.automount,user
code 0 'mount.cairn'
run "$CAIRN" status --json
json '[m["workspace"] for m in d["mounts"]] == ["void"]' 'mounts the workspace behind the #'
run "$CAIRN" umount -v "$mount"
code 0 'umount -v'
has "$err" 'unmounted' 'umount -v says so'
run "$scratch/mount.cairn" "$CAIRN_STORE"
code 2 'mount.cairn without a mount point'

# ---- a mount whose daemon was killed
kill_daemon() {
	run "$CAIRN" status --json
	kill -9 "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["daemon_pid"])' "$out")"
	sleep 0.3
}
run "$CAIRN" -w main mount "$mount"
ls -l "$mount" >/dev/null
kill_daemon
run "$CAIRN" log
code 0 'the store can be used at once'
mkdir "$scratch/elsewhere"
run "$CAIRN" -w main mount "$scratch/elsewhere"
code 0 'mount elsewhere'
run "$CAIRN" umount "$mount"
code 0 'umount of a dead mount, beside a new daemon'
has "$err" 'crashed or was killed' 'tells what happened'
if mountpoint -q "$mount"; then not_ok 'it is gone'; else ok 'it is gone'; fi
run "$CAIRN" umount "$scratch/elsewhere"
code 0 'and the other one'
run "$CAIRN" mount "$mount"
code 0 'mount again'
kill_daemon
run "$CAIRN" mount "$mount"
code 0 'mount on a dead mount'
has "$err" 'crashed or was killed' 'says what it was'
if mountpoint -q "$mount"; then ok 'it is alive'; else not_ok 'it is alive'; fi

# ---- foreground
run "$CAIRN" umount "$mount"
"$CAIRN" mount -f "$mount" >"$out" 2>"$err" </dev/null &
daemon=$!
tries=0
while ! grep -q 'Ctrl-C' "$err" && [ $tries -lt 50 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
has "$err" 'is mounted at .*Ctrl-C' 'mount -f says that it is there'
kill -TERM "$daemon"
wait "$daemon"
status=$?
code 0 'mount -f ends by a signal as by umount'
if mountpoint -q "$mount"; then not_ok 'and unmounts'; else ok 'and unmounts'; fi

finish
