#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Compiles a test program in the guest root and puts it into the guests' layer.
#
#   tests/guest/build-program.sh NAME            tests/guest/NAME  ->  vrdma-NAME
#   tests/guest/build-program.sh NAME LIBRARY    with openmpi or mpich  ->  vrdma-NAME-LIBRARY
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1 library=${2:-}
program=vrdma-$name${library:+-$library}
work=build/obj/${program#vrdma-}
made=build/guest/usr/bin/$program
layer=''
case $library in
'')      flags='-libverbs -lpthread' ;;
openmpi) flags='-I/usr/lib/x86_64-linux-gnu/openmpi/include -L/usr/lib/x86_64-linux-gnu/openmpi/lib -lmpi' ;;
mpich)   flags='-I/usr/lib/x86_64-linux-gnu/mpich/include -lmpich' ;;
*)       echo "unknown library: $library" >&2; exit 2 ;;
esac
[ -z "$library" ] || layer=$(tools/setup.sh --print guest-mpi)/layer
mkdir -p "$work" "$(dirname "$made")"
cp -u tests/guest/"$name"/*.[ch] include/uapi/rdma/virtio_rdma-abi.h "$work"/
if [ ! -x "$made" ] || [ -n "$(find "$work" -newer "$made" -name '*.[ch]')" ]; then
	tools/in-guest-root.sh "$work" \
		"gcc -O2 -g -Wall -Wextra -Werror -o $program *.c $flags" ${layer:+"$layer"}
	install -m 755 "$work/$program" "$made"
fi
