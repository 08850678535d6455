#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Compiles a test program in the guest root and puts it into the guests' layer.
#
#   tests/guest/build-program.sh NAME    tests/guest/NAME  ->  vrdma-NAME
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1
work=build/obj/$name
made=build/guest/usr/bin/vrdma-$name
mkdir -p "$work" "$(dirname "$made")"
cp -u tests/guest/"$name"/*.[ch] include/uapi/rdma/virtio_rdma-abi.h "$work"/
if [ ! -x "$made" ] || [ -n "$(find "$work" -newer "$made" -name '*.[ch]')" ]; then
	tools/in-guest-root.sh "$work" \
		"gcc -O2 -g -Wall -Wextra -Werror -o vrdma-$name *.c -libverbs -lpthread"
	install -m 755 "$work/vrdma-$name" "$made"
fi
