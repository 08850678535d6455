#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Compiles vrdma-control in the guest root and puts it into the guests' layer.
set -euo pipefail
cd "$(dirname "$0")/../../.."
made=build/guest/usr/bin/vrdma-control
source=tests/bench/in-guest/control.c
if [ ! -x $made ] || [ $source -nt $made ]; then
	mkdir -p build/obj/bench-guest build/guest/usr/bin
	cp $source build/obj/bench-guest/
	tools/in-guest-root.sh build/obj/bench-guest \
		'gcc -O2 -g -Wall -Wextra -Werror -o vrdma-control control.c -libverbs'
	install -m 755 build/obj/bench-guest/vrdma-control $made
fi
