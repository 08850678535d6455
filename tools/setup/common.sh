# shellcheck shell=bash disable=SC2034  # used by those who source this
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sourced by every script in tools/: the cache, its locks, and steps with a log.
#
# A product is a folder CACHE/NAME/VERSION-HASH. HASH is that of what decides the
# product (a file in tools/config/), so that a change there makes a new product;
# VERSION is what the mirror had when it was built, so that a newer version
# upstream rebuilds nothing. The file .done in it is written last.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOP=$(dirname "$TOOLS")
CACHE=${VRDMA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/virtio-rdma}
CONFIG=$TOOLS/config
LOGS=$CACHE/log
JOBS=${JOBS:-$(nproc)}
export DEBIAN_FRONTEND=noninteractive

say()  { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
ready() { [ -n "${VRDMA_QUIET:-}" ] || say "$@"; }   # there already: of no interest to scripts
die()  { printf 'ERROR: %s\n' "$*" >&2; exit 1; }

need_root() {
	[ "$(id -u)" = 0 ] || die "$1 needs root (apt, chroot or namespaces): run it with sudo"
}

# config_hash FILE...: of what counts in them; comments and empty lines do not.
config_hash() {
	sed -e '/^[[:space:]]*#/d' -e '/^[[:space:]]*$/d' "$@" | sha256sum | cut -c1-10
}

# product_find NAME HASH: prints the finished product's folder, newest first.
product_find() {
	local stamp
	# shellcheck disable=SC2012  # our own names, and we want them by age
	stamp=$(ls -t "$CACHE/$1"/*-"$2"/.done 2>/dev/null | head -1) || true
	[ -n "$stamp" ] && dirname "$stamp"
}

# product_prune NAME: keeps the three newest; each is up to 2 GB, and a change in
# config/ makes another one.
product_prune() {
	# shellcheck disable=SC2012  # our own names
	ls -td "$CACHE/$1"/*/ | tail -n +4 | while IFS= read -r dir; do rm -rf "$dir"; done
}

# product_done NAME DIR: marks it, and points CACHE/current/NAME to it.
product_done() {
	mkdir -p "$CACHE/current"
	[ -e "$2/.done" ] || touch "$2/.done"   # its time says when it was made
	ln -sfn "$2" "$CACHE/current/$1"
}

# with_lock NAME COMMAND...: one process at a time; the others wait and say so.
# No "||" here: COMMAND runs under errexit, and its failure ends the script, which
# releases the lock. (Odd names, because COMMAND sees our locals.)
with_lock() {
	local lock_name=$1 lock_fd
	shift
	mkdir -p "$CACHE/lock"
	exec {lock_fd}>"$CACHE/lock/$lock_name"
	if ! flock -n "$lock_fd"; then
		say "$lock_name: another process is at it; waiting"
		flock "$lock_fd"
	fi
	"$@"
	exec {lock_fd}>&-
}

# step NAME USUAL WHAT COMMAND...: runs it with its output in LOGS/NAME.log
# (appended); on failure shows the log's end. errexit does not work below an
# "if" or "||", so functions given here chain their commands with &&.
step() {
	local name=$1 usual=$2 what=$3 log=$LOGS/$1.log t0=$SECONDS
	shift 3
	mkdir -p "$LOGS"
	say "$name: $what (usually $usual; log: $log)"
	printf '\n=== %s: %s\n' "$(date)" "$*" >>"$log"
	if ! "$@" >>"$log" 2>&1 </dev/null; then
		printf -- '--- end of %s\n' "$log" >&2
		tail -n 30 "$log" >&2
		die "$name: '$what' failed; the whole log is $log"
	fi
	say "$name: done in $((SECONDS - t0)) s"
}

# overlay FROM TO: makes TO's copies of FROM's files equal by content; files that
# are equal keep their time stamps, so that make and ninja rebuild only what changed.
overlay() {
	mkdir -p "$2"
	rsync -rlpc --delete --exclude='*.o' --exclude='__pycache__' "$1/" "$2/"
}

# copy_if_changed FROM TO
copy_if_changed() {
	mkdir -p "$(dirname "$2")"
	cmp -s "$1" "$2" || cp -f "$1" "$2"
}
