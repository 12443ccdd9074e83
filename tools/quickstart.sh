#!/bin/sh
# From nothing to a mounted workspace: installs what is missing, builds cairn, makes a store in the
# default place and mounts its workspace main.  Running it again changes nothing.
#
#   sh tools/quickstart.sh [MOUNTPOINT]      MOUNTPOINT: ~/cairn where none is given
set -eu

packages='build-essential cmake pkg-config libfuse3-dev fuse3 liblmdb-dev libxxhash-dev
	libzstd-dev liblz4-dev libssl-dev libjansson-dev libsmartcols-dev'

say() {
	printf 'quickstart: %s\n' "$*"
}

fail() {
	printf 'quickstart: %s\n' "$*" >&2
	exit 1
}

case ${1-} in
-h | --help)
	echo "usage: sh tools/quickstart.sh [MOUNTPOINT]"
	exit 0
	;;
-*)
	echo "usage: sh tools/quickstart.sh [MOUNTPOINT]" >&2
	exit 2
	;;
esac
if [ $# -gt 1 ]; then
	echo "usage: sh tools/quickstart.sh [MOUNTPOINT]" >&2
	exit 2
fi

# The mount point is meant from where the caller stands, all else from the source tree.
mountpoint=${1-${HOME:?is not set}/cairn}
case $mountpoint in
/*) ;;
*) mountpoint=$PWD/$mountpoint ;;
esac
cd "$(dirname "$0")/.."
source=$PWD
store=${CAIRN_STORE:-${XDG_DATA_HOME:-$HOME/.local/share}/cairn}
changed=no

# ---- packages -------------------------------------------------------------------------------

missing_packages() {
	for package in $packages; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			printf '%s ' "$package"
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		env DEBIAN_FRONTEND=noninteractive "$@"
	else
		sudo env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

# shellcheck disable=SC2086 # the list is meant to be split
install_packages() {
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
		fail "installing packages needs root or sudo; as root: apt-get install $missing"
	say "installing $missing"
	as_root apt-get -q -y install --no-install-recommends $missing >/dev/null 2>&1 && return
	as_root apt-get -q update >/dev/null || fail "apt-get update failed"
	as_root apt-get -q -y install --no-install-recommends $missing >/dev/null ||
		fail "could not install $missing"
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
	missing=$(missing_packages)
	if [ -n "$missing" ]; then
		install_packages
		changed=yes
	fi
else
	say "there is no apt here (cairn is made for Debian 12 and its kin); what the build needs" \
		"must be there already, by whatever name your system has for:"
	printf '%s\n' "$packages" | tr -s '\t\n' '  '
	echo
fi

# ---- build ----------------------------------------------------------------------------------

cairn=$source/build/release/cairn

build() {
	log=$source/build/quickstart.log
	mkdir -p "$source/build"
	if ! { cmake --preset release && cmake --build --preset release -j "$(nproc)"; } \
		>"$log" 2>&1; then
		tail -n 30 "$log" >&2
		fail "the build failed; all of its output is in $log"
	fi
}

before=$(stat -c %Y "$cairn" 2>/dev/null || true)
[ -n "$before" ] || say "building cairn (about a minute)"
build
if [ "$before" != "$(stat -c %Y "$cairn")" ]; then
	say "built $cairn"
	changed=yes
fi

# ---- store and mount ------------------------------------------------------------------------

if [ ! -e "$store/format" ]; then
	"$cairn" -s "$store" init
	changed=yes
fi

mounted_here() {
	awk -v point="$mountpoint" '
		{
			path = $5
			gsub(/\\040/, " ", path)
			if (path == point && $0 ~ / - fuse\.cairn /)
				found = 1
		}
		END { exit !found }' /proc/self/mountinfo
}

# A mount whose daemon was killed is there, but nothing can be done in it (a listing may still come
# from the kernel's cache; stat -f asks the daemon).
if mounted_here && ! stat -f "$mountpoint" >/dev/null 2>&1; then
	"$cairn" umount "$mountpoint"
fi

if ! mounted_here; then
	[ -e /dev/fuse ] || fail "there is no /dev/fuse, so nothing can be mounted: load the kernel" \
		"module (modprobe fuse), or start the container with --device /dev/fuse and" \
		"--cap-add SYS_ADMIN; then run this again"
	mkdir -p "$mountpoint"
	"$cairn" -s "$store" -w main mount "$mountpoint"
	say "mounted the workspace main at $mountpoint"
	changed=yes
fi

[ "$changed" = yes ] ||
	say "nothing to do: cairn is built, and the workspace main is mounted at $mountpoint"

# ---- what next ------------------------------------------------------------------------------

# quoted WORD: as a shell takes it
quoted() {
	case $1 in
	*[!A-Za-z0-9/._@%+=:,-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
	*) printf '%s' "$1" ;;
	esac
}

command=$(quoted "$cairn")
[ "$(command -v cairn || true)" != "$cairn" ] || command=cairn
cat <<END

Try next:
  cd $(quoted "$mountpoint")
  $command freeze first -m 'before I change anything'
  $command log
END
