#!/bin/sh
# Help: on stdout, exit code 0, at most 80 columns, every command and every option in it.
. "$(dirname "$0")/../lib.sh"

narrow() {
	wide=$(awk 'length > 80' "$out")
	same "$wide" '' "$1 fits 80 columns"
}

run "$CAIRN" help
code 0 'help'
empty "$err" 'help says nothing on stderr'
narrow 'help'
cp "$out" "$scratch/overview"

run "$CAIRN" --help
code 0 '--help'
if cmp -s "$out" "$scratch/overview"; then ok '--help is help'; else not_ok '--help is help'; fi

commands=$(sed -n 's/^  \([a-z]\{1,\}\( [a-z]\{1,\}\)\{0,1\}\|[a-z]\{1,\}-[a-z]\{1,\}\)  .*/\1/p' \
	"$scratch/overview")
for word in init mount umount freeze restore carry log show status diff ls cat find clone hold release \
	verdict tag journal rename delete prune gc check wait-durable try step bisect help version; do
	has "$scratch/overview" "^  $word  " "the overview has $word"
done
for word in list create rename delete; do
	has "$scratch/overview" "^  workspace $word  " "the overview has workspace $word"
done

# each command: by help, by --help, by -h before it
printf '%s\n' "$commands" >"$scratch/commands"
same "$(wc -l <"$scratch/commands" | tr -d ' ')" "$(grep -c '^  [a-z]' "$scratch/overview")" \
	'all commands were found'
while read -r command; do
	# shellcheck disable=SC2086 # "workspace list" is two words
	run "$CAIRN" help $command
	code 0 "help $command"
	empty "$err" "help $command says nothing on stderr"
	has "$out" "^usage: cairn $command" "help $command begins with the usage"
	narrow "help $command"
	cp "$out" "$scratch/help"
	# shellcheck disable=SC2086
	run "$CAIRN" $command --help
	code 0 "$command --help"
	if cmp -s "$out" "$scratch/help"; then
		ok "$command --help is help $command"
	else
		not_ok "$command --help is help $command"
	fi
done <"$scratch/commands"

# options_of COMMAND OPTION...: exactly these of its own are in the help
options_of() {
	command=$1
	shift
	run "$CAIRN" help "$command"
	found=$(sed -n '/^Options/,/^$/s/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p' "$out" | tr '\n' ' ')
	same "${found% }" "$*" "help $command has its options"
}

options_of init --compress --compress-at-rest
options_of gc --compact
options_of mount --options --foreground
options_of umount --lazy
options_of freeze --message --tag --hold --hold-until --anchor --anchor-cmd --pre --post --time-limit \
	--if-changed
options_of restore --force --to --no-anchors --time-limit
options_of carry --on-conflict --force
options_of log --graph --tag --verdict --since --until --last --all-workspaces --sizes
options_of hold --until
options_of verdict --message --by
options_of tag --remove
options_of journal --action --after --verify --expect
options_of diff --stat --exit-code --null
options_of check --read-data --digest --expect
options_of show --digest
options_of try --keep
options_of bisect --good --bad --writable --check-ends

# common options stand where they mean something, and only there
for command in restore carry delete prune gc 'workspace delete'; do
	# shellcheck disable=SC2086
	run "$CAIRN" help $command
	has "$out" '-n, --dry-run' "help $command has --dry-run"
done
run "$CAIRN" help freeze
lacks "$out" '--dry-run' 'help freeze has no --dry-run'
for command in log show journal status diff ls 'workspace list'; do
	# shellcheck disable=SC2086
	run "$CAIRN" help $command
	has "$out" '-H, --no-header' "help $command has -H"
done

run "$CAIRN" help workspace
code 0 'help of a group'
has "$out" 'workspace create' 'the group lists its commands'
run "$CAIRN" workspace --help
code 0 'workspace --help'

# later releases' commands and options are not promised
for word in export import send receive lease confirm report; do
	lacks "$scratch/overview" "^  $word " "the overview does not promise $word"
done

run "$CAIRN" help nonsense
code 2 'help of no command'
empty "$out" 'nothing on stdout then'

run "$CAIRN" --version
code 0 '--version'
has "$out" '^cairn [0-9]+\.[0-9]+\.[0-9]+$' 'tells the version'
run "$CAIRN" version
code 0 'version'
run "$CAIRN" version --json
json 'd["version"].count(".") == 2' 'version --json'

finish
