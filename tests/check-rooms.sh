#!/bin/sh
# tools -> fs -> snapshot -> index, never upwards; third-party headers stay in their room.
set -eu
cd "$(dirname "$0")/.."
status=0

# forbid ROOMS PATTERN WHY
forbid() {
	# shellcheck disable=SC2086 # a list of rooms
	if grep -rnE --include='*.c' --include='*.h' "$2" $1; then
		echo "not ok - $3"
		status=1
	else
		echo "ok - $3"
	fi
}

forbid "index" '#include "(snapshot|fs|tools)/' 'index/ includes nothing of the rooms above it'
forbid "snapshot" '#include "(fs|tools)/' 'snapshot/ includes nothing of the rooms above it'
forbid "fs" '#include "tools/' 'fs/ includes nothing of tools/'
forbid "snapshot fs tools" '#include <(lmdb|xxhash|zstd|lz4)' \
	'only index/ knows LMDB, xxhash, zstd and lz4'
forbid "index snapshot tools" '#include <(fuse|linux/fuse)' 'only fs/ knows FUSE'
forbid "index snapshot" '[^a-z_](printf|fprintf|puts|perror)\(' 'nothing below fs/ prints'
forbid "index snapshot fs tools" '[^a-z_](strcpy|strcat|sprintf|strtok|gets)\(' \
	'nothing that is easy to misuse'
forbid "snapshot fs tools" '[^a-z_.>](pwrite|pwritev)\(' 'packs are written through index/io.h'

long=$(find index snapshot fs tools tests -name '*.[ch]' -exec wc -l {} + |
	awk '$2 != "total" && $1 > 800 { print $2 " (" $1 " lines)" }')
if [ -n "$long" ]; then
	echo "not ok - no file is longer than 800 lines: $long"
	status=1
else
	echo "ok - no file is longer than 800 lines"
fi
exit $status
