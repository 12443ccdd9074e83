#!/bin/sh
# Installs what the tests need, builds, and passes all tests.
#
#   sh tests/run.sh            everything that belongs to every commit
#   sh tests/run.sh --long     also the soaks (tests labelled "long")
#   sh tests/run.sh --no-install   where the packages are there and apt is not
set -eu

cd "$(dirname "$0")/.."
install=yes
long=no
for argument in "$@"; do
	case $argument in
	--long) long=yes ;;
	--no-install) install=no ;;
	*)
		echo "usage: sh tests/run.sh [--long] [--no-install]" >&2
		exit 2
		;;
	esac
done

packages='build-essential cmake pkg-config libfuse3-dev fuse3 liblmdb-dev libxxhash-dev libzstd-dev
	liblz4-dev libssl-dev libjansson-dev libsmartcols-dev libcmocka-dev python3-minimal python3 rsync attr acl
	lmdb-utils util-linux e2fsprogs mount procps sqlite3 shellcheck git stress-ng cpio
	postgresql postgresql-contrib vim-tiny'

install_packages() {
	missing=
	for package in $packages; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	root=
	[ "$(id -u)" = 0 ] || root=sudo
	echo "tests/run.sh: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # the list is meant to be split
	$root apt-get -q -y install --no-install-recommends $missing >/dev/null 2>&1 ||
		{
			$root apt-get -q update >/dev/null
			$root apt-get -q -y install --no-install-recommends $missing >/dev/null
		}
}

if [ "$install" = yes ]; then
	command -v apt-get >/dev/null || {
		echo "tests/run.sh: no apt-get here; install these by hand, then use --no-install:" >&2
		echo "$packages" | tr '\n\t' '  ' >&2
		echo >&2
		exit 1
	}
	install_packages
fi

[ -e /dev/fuse ] || echo "SKIP mount tests: there is no /dev/fuse on this machine"

jobs=$(nproc)
for preset in dev asan; do
	echo "== $preset build"
	cmake --preset "$preset" >"build-$preset.log" 2>&1 || {
		cat "build-$preset.log" >&2
		exit 1
	}
	cmake --build --preset "$preset" -j "$jobs" >"build-$preset.log" 2>&1 || {
		tail -n 60 "build-$preset.log" >&2
		exit 1
	}
	mv "build-$preset.log" "build/$preset/build.log"
done

excluded='^long$'
[ "$long" = no ] || excluded='^$'
status=0
passed=0
failed=0
skipped=0

# run_tests PRESET LABELS: counts what ctest says of each test
run_tests() {
	log=build/$1/ctest.log
	CTEST_OUTPUT_ON_FAILURE=1 ctest --test-dir "build/$1" -L "$2" -LE "$excluded" \
		--no-tests=error >"$log" 2>&1 || status=1
	grep -E '^ *[0-9]+/[0-9]+ Test +#|^SKIP|^ *not ok|^ *Note:' "$log" || true
	passed=$((passed + $(grep -cE 'Test +#.* Passed ' "$log" || true)))
	skipped=$((skipped + $(grep -cE 'Test +#.*\*\*\*Skipped' "$log" || true)))
	failed=$((failed + $(grep -cE 'Test +#.*\*\*\*(Failed|Timeout|Exception|Not Run)' "$log" ||
		true)))
	if grep -qE 'Test +#.*\*\*\*(Failed|Timeout|Exception|Not Run)|No tests were found' "$log"; then
		status=1
		cat "$log"
	fi
}

echo "== every test, optimised build"
run_tests dev '.'
echo "== unit tests and a mounted workspace, address and undefined-behaviour sanitizers"
run_tests asan 'unit|sanitized'

[ "$failed" = 0 ] || status=1
[ "$passed" -gt 0 ] || status=1
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
