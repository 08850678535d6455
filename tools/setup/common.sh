# shellcheck shell=bash disable=SC2034  # used by those who source this
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sourced by every script in tools/: the cache, its locks, and steps with a log.
#
# A product is a folder CACHE/NAME/VERSION-HASH. HASH is the hash of the product's inputs (a
# file in tools/config/), so that a change of them makes a new product. VERSION is the version
# on the mirror when the product was built; a newer version upstream does not cause a rebuild.
# The file .done in the folder is written last.

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

# config_hash FILE...: hash of their content without comments and empty lines.
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

# product_prune NAME: keeps the three newest. Each has up to 2 GB, and each change in config/
# makes another one.
product_prune() {
	# shellcheck disable=SC2012  # our own names
	ls -td "$CACHE/$1"/*/ | tail -n +4 | while IFS= read -r dir; do rm -rf "$dir"; done
}

# product_done NAME DIR: marks it as complete, and points CACHE/current/NAME to it.
product_done() {
	mkdir -p "$CACHE/current"
	[ -e "$2/.done" ] || touch "$2/.done"   # its time stamp is the time of the build
	ln -sfn "$2" "$CACHE/current/$1"
}

# with_lock NAME COMMAND...: one process at a time; others print a message and wait. No "||"
# here: COMMAND runs under errexit, and its failure ends the script, which releases the lock.
# (The names are unusual because COMMAND sees our local variables.)
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

# step NAME USUAL WHAT COMMAND...: runs COMMAND with its output appended to LOGS/NAME.log;
# prints the end of the log on failure. errexit does not work below an "if" or "||", so
# functions that are used here chain their commands with &&.
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

# overlay FROM TO: copies FROM's files to TO if the content differs. Equal files keep their time
# stamps, so that make and ninja rebuild only what changed.
overlay() {
	mkdir -p "$2"
	rsync -rlpc --delete --exclude='*.o' --exclude='__pycache__' "$1/" "$2/"
}

# copy_if_changed FROM TO
copy_if_changed() {
	mkdir -p "$(dirname "$2")"
	cmp -s "$1" "$2" || cp -f "$1" "$2"
}
