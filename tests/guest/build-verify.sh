#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Compiles vrdma-verify in the guest root and puts it into the guests' layer.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/obj/verify build/guest/usr/bin
cp -u tests/guest/verify/*.[ch] build/obj/verify/
if [ -n "$(find build/obj/verify -newer build/guest/usr/bin/vrdma-verify -name '*.[ch]' 2>/dev/null)" ] ||
		[ ! -x build/guest/usr/bin/vrdma-verify ]; then
	tools/in-guest-root.sh build/obj/verify \
		'gcc -O2 -g -Wall -Wextra -Werror -o vrdma-verify *.c -libverbs -lpthread'
	install -m 755 build/obj/verify/vrdma-verify build/guest/usr/bin/vrdma-verify
fi
