#!/bin/sh
# Every script of ours is clean under shellcheck.
. "$(dirname "$0")/../lib.sh"

command -v shellcheck >/dev/null || skip 'there is no shellcheck'
cd "$(dirname "$0")/../.." || exit 1
for script in tools/*.sh tests/*.sh tests/cli/*.sh; do
	run shellcheck -s sh -x -P "$(dirname "$script")" "$script"
	code 0 "$script"
done
run sh tools/quickstart.sh one two
code 2 'quickstart with too many arguments'
run sh tools/quickstart.sh --help
code 0 'quickstart --help'
run sh tools/quickstart.sh --nonsense
code 2 'quickstart with an unknown option'
finish
