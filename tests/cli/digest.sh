#!/bin/sh
# Digests and extracts: the script that README.md prints must come to the same digest as we do, from
# an extract and from a mounted point, whatever files are called.
. "$(dirname "$0")/../lib.sh"

readme=$(dirname "$0")/../../README.md
script=$scratch/digest.sh
# shellcheck disable=SC2016 # these are the fences of a block of code
sed -n '/^## What was signed off/,/^## [^W]/p' "$readme" |
	sed -n '/^```bash$/,/^```$/p' | sed '/^```/d' >"$script"
has "$script" 'cairn digest 1' 'README.md has the script'

[ -e /dev/fuse ] || skip 'there is no /dev/fuse'
command -v getfattr >/dev/null || skip 'there is no getfattr'
[ "$(id -u)" = 0 ] || skip 'only root gets all that a point has'
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
"$CAIRN" mount "$mount" -o dev,suid || exit 1

# ---- everything odd that a tree may hold
python3 - "$mount" <<'PYTHON' || exit 1
import os, random, socket, stat, sys
seed = random.randrange(1 << 32)
print('seed', seed)
rng = random.Random(seed)
top = os.fsencode(sys.argv[1])
names = [b'plain', b' leading', b'trailing ', b'  ', b'new\nline', b'\n', b'cr\r', b'tab\t', b'back\\slash',
         b'\\012', b'\xff\xfe', b'caf\xc3\xa9', b'-rf', b'*', b'?', b'[a]', b'$HOME', b'`x`', b'"', b"'", b'%s%n',
         b'#', b'# file: x', b'a=b', b'a', b'a b', b'a-b', b'a.b', b'a/'.strip(b'/') + b'0', b'~', b'!', b'x' * 255,
         b'\x01\x7f', b'...', b']', b'@head', b':', b';']
directories = [top]
for depth in range(3):
    for name in rng.sample(names, 6):
        path = os.path.join(rng.choice(directories), name)
        if not os.path.lexists(path):
            os.mkdir(path, rng.choice([0o755, 0o700, 0o1777, 0o2755, 0o500]))
            directories.append(path)
files = []
for directory in directories:
    for name in rng.sample(names, 12):
        path = os.path.join(directory, name)
        if os.path.lexists(path):
            continue
        kind = rng.randrange(12)
        if kind == 0:
            os.symlink(rng.choice(names) + rng.choice([b'', b'\n', b'/x', b' ']), path)
        elif kind == 1:
            os.mkfifo(path, 0o640)
        elif kind == 2:
            os.mknod(path, 0o600 | rng.choice([stat.S_IFCHR, stat.S_IFBLK]),
                     os.makedev(rng.choice([1, 5, 250]), rng.choice([0, 3, 255, 256, 70000])))
        elif kind == 3:
            sock = socket.socket(socket.AF_UNIX)
            here = os.open(directory, os.O_RDONLY)
            os.fchdir(here)
            if len(name) < 100:
                sock.bind(name)
            sock.close()
            os.close(here)
        elif kind == 4 and files:
            os.link(rng.choice(files), path)
        else:
            with open(path, 'wb') as file:
                size = rng.choice([0, 1, 10, 257, 5000, 300000])
                file.write(rng.randbytes(size))
                if rng.randrange(4) == 0:
                    file.seek(rng.randrange(1, 5000000), os.SEEK_CUR)
                    file.write(b'behind a hole')
                if rng.randrange(4) == 0:
                    file.truncate(file.tell() + 1000000)
            os.chmod(path, rng.choice([0o644, 0o600, 0o4755, 0o2711, 0o000, 0o666]))
            files.append(path)
        if os.path.lexists(path):
            os.chown(path, rng.choice([0, 1000, 4000000000]), rng.choice([0, 7]), follow_symlinks=False)
            if kind > 4:
                os.chmod(path, rng.choice([0o644, 0o4755, 0o000]))
            os.utime(path, ns=(0, rng.choice([0, 1, -1, -1250000000, 10 ** 9, 1700000000123456789])),
                     follow_symlinks=False)
for path in rng.sample(files + directories, len(files) // 2):
    for name in rng.sample([b'user.a', b'user.a.b', b'user.a=b', b'user.new\nline', b'user.back\\slash', b'trusted.t',
                            b'user.\xff', b'user.#'], 3):
        os.setxattr(path, name, rng.choice([b'', b'x', b'\0\n=\\', rng.randbytes(300)]))
PYTHON
setfacl -R -m u:1000:r "$mount"
find "$mount" -type d -name plain -exec setfacl -d -m g:7:rx {} +
chmod 751 "$mount"
chown 0:7 "$mount"
setfattr -n user.root -v yes "$mount"

"$CAIRN" -q freeze one || exit 1
run "$CAIRN" show one --digest
code 0 'show --digest'
digest=$(cat "$out")
has "$out" '^[0-9a-f]{64}$' 'prints one SHA-256'
run "$CAIRN" show one --digest --json
json "d['digest'] == '$digest' and d['recorded'] and d['point']['name'] == 'one'" 'also as JSON'
run "$CAIRN" show one --json
json "d.get('digest') == '$digest'" 'the point keeps it'
run "$CAIRN" check --digest one
code 0 'check --digest'
has "$out" "one has the digest $digest" 'says the digest'
run "$CAIRN" check --digest one --expect "$(printf %s "$digest" | tr a-f A-F)"
code 0 'check --expect with the right one, in capitals'

# ---- computed again by others
run "$CAIRN" restore one --to "$scratch/extract"
code 0 'restore --to'
has "$out" '^extracted [0-9]+ files and [0-9]+ directories \(.*\) to ' 'says what it wrote'
empty "$err" 'nothing had to be left out'
run bash "$script" "$scratch/extract"
code 0 'the script of README.md runs on the extract'
same "$(cat "$out")" "$digest" 'and comes to the same digest'
run bash "$script" "$mount/.snapshots/one"
code 0 'the script runs on the point as it is mounted'
same "$(cat "$out")" "$digest" 'and comes to the same digest there'

# ---- something changes
file=$(find "$scratch/extract" -type f -size +1k | head -n 1)
printf x | dd of="$file" bs=1 seek=500 conv=notrunc status=none
run bash "$script" "$scratch/extract"
if [ "$(cat "$out")" != "$digest" ]; then ok 'one other byte, another digest'; else not_ok 'one other byte'; fi
mkdir "$mount/more" && printf 'more\n' >"$mount/more/file"
"$CAIRN" -q freeze two || exit 1
run "$CAIRN" show --digest two
code 0 'the next digest'
second=$(cat "$out")
run bash "$script" "$mount/.snapshots/two"
same "$(cat "$out")" "$second" 'is what the script comes to'
run "$CAIRN" check --digest two --expect "$digest"
code 5 'another digest than expected'
has "$err" "^cairn: point 'two' has another digest than that" 'says so'
run "$CAIRN" check --digest two --expect "$digest" --json
code 5 'the same as JSON'
json "d['error']['code'] == 'damaged' and d['error']['detail']['expected'] == '$digest'" 'has what was expected'
json "d['error']['detail']['found'] == '$second' and not d['error']['detail']['equal']" 'and what was found'
run "$CAIRN" check --digest two --expect 1234
code 2 'no digest at all'
run "$CAIRN" check --expect "$digest"
code 2 '--expect without --digest'
printf 'again\n' >"$mount/more/file"
"$CAIRN" -q freeze three || exit 1
run "$CAIRN" check --digest three
code 6 'check of a point that has no digest yet'
has "$err" 'show --digest' 'says how to get one'
run "$CAIRN" check --digest three --expect "$second"
code 5 'check of a point without one against a given one'
run "$CAIRN" check --digest nothing
code 6 'no such point'
run "$CAIRN" journal two
has "$out" digest 'the journal tells that it was computed'
"$CAIRN" umount "$mount"
run "$CAIRN" check
code 0 'check of the store'
run "$CAIRN" check --digest two
code 0 'check --digest without a daemon'
run "$CAIRN" show --digest three
code 0 'show --digest without a daemon'

# ---- restore --to
run "$CAIRN" restore two more/file --to "$scratch/plain"
code 0 'restore --to with a path'
has "$out" '^extracted 1 file and 1 directory \(5 B\) to ' 'says what it wrote'
same "$(cd "$scratch/plain" && find . | sort | tr '\n' ' ')" '. ./more ./more/file ' 'writes only that'
run "$CAIRN" restore two more --to "$scratch/plain"
code 1 'a file that is there already'
has "$err" "'more/file': exists already.*--force" 'is named, and what helps'
run "$CAIRN" restore three more --to "$scratch/plain" --force --json
code 0 'and replaced with --force'
json 'd["files"] == 1 and d["directories"] == 0 and d["skipped"] == [] and d["bytes"] == 6' 'as JSON'
same "$(cat "$scratch/plain/more/file")" again 'by that of the point'
run "$CAIRN" restore two no/such --to "$scratch/plain"
code 6 'a path that the point has not'
run "$CAIRN" restore two --to "$scratch/no/such"
code 6 'a directory that cannot be made'
run "$CAIRN" restore two --to "$scratch/plain" -n
code 2 '-n with --to'
run "$CAIRN" --progress json restore one --to "$scratch/again"
code 0 'with progress'
has "$err" '"phase": "extract"' 'it is told'
finish
