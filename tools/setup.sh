#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fetches and builds third-party parts into the cache folder; see tools/README.md.
#
#   tools/setup.sh TARGET...       makes what is missing (all: everything the tests use)
#   tools/setup.sh --print TARGET  prints the product's folder; fails if it is not there
#
# Any number of these may run at once; an interrupted one can be started again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in common apt packages uml guest-root guest-image guest-mpi kernels headers-i386 rdma-core qemu; do
	# shellcheck source=/dev/null
	. "$here/setup/$part.sh"
done

TARGETS=(packages uml uml-debug guest-root guest-image guest-mpi kernel-oldest kernel-newest headers-i386 rdma-core qemu)
ALL=(packages guest-image guest-mpi rdma-core uml qemu)

usage() {
	sed -n '4,9s/^# \{0,1\}//p' "$here/setup.sh" >&2
	echo "targets: ${TARGETS[*]} all" >&2
	exit 2
}

is_target() { case " ${TARGETS[*]} " in *" $1 "*) ;; *) return 1 ;; esac; }

if [ "${1:-}" = --print ]; then
	[ $# = 2 ] && is_target "$2" || usage
	"print_${2//-/_}" || die "$2 is not there yet: run tools/setup.sh $2"
	exit
fi

[ $# -gt 0 ] || usage
wanted=()
for target; do
	if [ "$target" = all ]; then
		wanted+=("${ALL[@]}")
	else
		is_target "$target" || usage
		wanted+=("$target")
	fi
done
mkdir -p "$CACHE"
for target in "${wanted[@]}"; do
	"setup_${target//-/_}"
done
