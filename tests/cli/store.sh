#!/bin/sh
# Making and finding stores, and what is none.
. "$(dirname "$0")/../lib.sh"

cd "$scratch" || exit 1

# ---- init
run "$CAIRN" init one
code 0 'init DIR'
has "$out" "$scratch/one" 'init tells where'
empty "$err" 'init says nothing on stderr'
same "$(stat -c %a one)" 700 'a store is private'
run "$CAIRN" init one
code 1 'init on a store'
has "$err" 'already' 'and says why'
mkdir full && touch full/file
run "$CAIRN" init full
code 1 'init on a directory with something in it'
same "$(ls -A full)" file 'and leaves it as it was'
mkdir void
run "$CAIRN" init void
code 0 'init on an empty directory'
run "$CAIRN" init deep/er/store
code 0 'init makes parents'
run "$CAIRN" init file-in-the-way/store
touch plain
run "$CAIRN" init plain
code 1 'init on a file'
for method in none lz4 zstd zstd:3; do
	run "$CAIRN" init "by-$method" --compress "$method" --json
	code 0 "init --compress $method"
	json "d['compression'].startswith('$method') and d['workspace'] == 'main' and d['store'].endswith('by-$method')" \
		"init --compress $method --json"
done
run "$CAIRN" -q init quiet
empty "$out" 'init -q says nothing'

# ---- finding: --store, $CAIRN_STORE, default
run "$CAIRN" -s one status --json
json 'd["store"].endswith("/one")' '-s, relative'
run env CAIRN_STORE=one "$CAIRN" status --json
json 'd["store"].endswith("/one")' 'CAIRN_STORE'
run env CAIRN_STORE=void "$CAIRN" -s one status --json
json 'd["store"].endswith("/one")' '-s beats CAIRN_STORE'
run env CAIRN_STORE= "$CAIRN" status
code 6 'an empty CAIRN_STORE'
has "$err" "$HOME/.local/share/cairn" 'is as good as none'
run "$CAIRN" status
code 6 'no store in the default place'
has "$err" "$HOME/.local/share/cairn" 'the message names the place'
has "$err" 'cairn init' 'and how to make one'
run "$CAIRN" init
code 0 'init in the default place'
run "$CAIRN" status --json
json 'd["store"].endswith("/home/.local/share/cairn")' 'the default place'
run env XDG_DATA_HOME="$scratch/data" "$CAIRN" init
code 0 'init below XDG_DATA_HOME'
run env XDG_DATA_HOME="$scratch/data" "$CAIRN" status --json
json 'd["store"].endswith("/data/cairn")' 'XDG_DATA_HOME'

# ---- the workspace
run "$CAIRN" -s one workspace create second
code 0 'workspace create'
run "$CAIRN" -s one -w second freeze here
code 0 '-w'
run "$CAIRN" -s one log --json
json 'd == []' 'main without -w'
run env CAIRN_WORKSPACE=second "$CAIRN" -s one log --json
json '[p["name"] for p in d] == ["here"]' 'CAIRN_WORKSPACE'
run env CAIRN_WORKSPACE=second "$CAIRN" -s one -w main log --json
json 'd == []' '-w beats CAIRN_WORKSPACE'
run "$CAIRN" -s one -w nowhere log
code 6 'no such workspace'
run "$CAIRN" -s one show second@here --json
json 'd["workspace"] == "second"' 'WORKSPACE@NAME'
run "$CAIRN" -s void workspace rename main other
code 0 'workspace rename'
run "$CAIRN" -s void freeze x --json
json 'd["workspace"] == "other"' 'the only workspace'

# ---- what is no store: exit code 6, each command
for command in status log gc check wait-durable 'freeze a' 'restore a' 'show a' 'diff a' 'ls a' \
	'cat a b' 'clone a b' 'hold a b' 'release a' 'rename a b' 'delete a' 'workspace list' \
	'workspace create a' 'workspace rename a b' 'workspace delete a'; do
	# shellcheck disable=SC2086
	run "$CAIRN" -s nowhere $command
	code 6 "no store: $command"
done
if [ -e nowhere ]; then not_ok 'nothing was made'; else ok 'nothing was made'; fi
run "$CAIRN" -s full status
code 6 'a directory that is no store'
run "$CAIRN" -s plain status
code 6 'a file that is no store'
run "$CAIRN" -s nowhere status --json
code 6 'no store, --json: exit code'
json 'd["error"]["code"] == "not_found"' 'no store, --json'
mkdir point
run "$CAIRN" -s nowhere mount point
code 6 'no store: mount'
run "$CAIRN" -s one mount no-such-directory
code 1 'mount: no mount point'
has "$err" 'no-such-directory' 'and says which'
run "$CAIRN" -s one mount plain
code 1 'mount on a file'
run "$CAIRN" umount point
code 1 'umount of what is not mounted'
has "$err" 'not a cairn mount' 'and says so'

# ---- what this version must not touch
cp -a one newer
sed -i 's/^\(.*version[^0-9]*\)[0-9][0-9]*/\1999/' newer/format
run "$CAIRN" -s newer status
code 1 'a newer format version'
has "$err" 'version 999' 'and names it'
run "$CAIRN" -s newer freeze x
code 1 'a newer format version, writing'
printf 'not a format file\n' >newer/format
run "$CAIRN" -s newer status
code 5 'a damaged format file'
run "$CAIRN" -s newer --json status
json 'd["error"]["code"] == "damaged"' 'a damaged format file, --json'

# ---- status
run "$CAIRN" -s one status
code 0 'status'
has "$out" '^store +'"$scratch/one" 'status names the store'
has "$out" '^second ' 'status lists the workspaces'
run "$CAIRN" -s one status --json
json 'set(d) >= {"store", "format", "workspaces", "mounts", "logical_bytes", "unique_bytes",
	"stored_bytes", "dedup_ratio", "compression_ratio", "reclaimable_bytes", "free_bytes"}' \
	'status --json has its fields'
json 'd["mounts"] == [] and {w["name"] for w in d["workspaces"]} == {"main", "second"}' \
	'status --json lists mounts and workspaces'
run "$CAIRN" -s one -H status
has "$out" "^logical_bytes$(printf '\t')0\$" 'status -H tells exact values'

# ---- gc, check, wait-durable
run "$CAIRN" -s one gc -n
code 0 'gc -n'
has "$out" '^would ' 'gc -n would'
run "$CAIRN" -s one gc --json
json 'd["stored_bytes"] == 0 and d["elapsed_ns"] > 0' 'gc --json'
run "$CAIRN" -s one check
code 0 'check'
run "$CAIRN" -s one check --read-data --json
json 'd["errors"] == 0 and d["findings"] == []' 'check --json'
run "$CAIRN" -s one wait-durable
code 0 'wait-durable'
empty "$out" 'wait-durable says nothing'
run "$CAIRN" -s one wait-durable --json
json 'd["commit"] > 0' 'wait-durable --json'
run "$CAIRN" -s one gc --progress json
code 0 'gc --progress json'
python3 -c '
import json, sys
for line in open(sys.argv[1]):
    assert set(json.loads(line)) == {"phase", "done", "total"}' "$err" 2>/dev/null
same $? 0 'progress lines are JSON on stderr'

finish
