// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The QEMU options that fit a socket, for --print-qemu-options.  They are also logged at
 * start, because the device does not work if the guest's memory is not shared or if its
 * Ethernet device has another MAC address.
 */
#include <stdio.h>
#include <string.h>

#include "options.h"

/* QEMU's own escape: a comma in a value is written twice. */
static void qemu_escape(const char *text, char *buf, size_t size)
{
	size_t len = 0;

	for (; *text && len + 3 < size; text++) {
		buf[len++] = *text;
		if (*text == ',')
			buf[len++] = ',';
	}
	buf[len] = '\0';
}

void vrdmad_qemu_options(const struct vrdmad_socket_options *sock,
			 void (*line)(void *opaque, const char *text), void *opaque)
{
	char text[640], path[256], mac[18];

	qemu_escape(sock->path, path, sizeof(path));
	vrdmad_format_mac(sock->mac, mac);
	/* SIZE is the size of the guest's memory, as after -m. */
	line(opaque, "-object memory-backend-memfd,id=mem0,size=SIZE,share=on -machine memory-backend=mem0");
	snprintf(text, sizeof(text), "-chardev socket,id=rdma-%s,path=%s,reconnect-ms=1000",
		 sock->name, path);
	line(opaque, text);
	snprintf(text, sizeof(text), "-device vhost-user-rdma-pci,chardev=rdma-%s", sock->name);
	line(opaque, text);
	snprintf(text, sizeof(text), "-device virtio-net-pci,netdev=NETDEV,mac=%s", mac);
	line(opaque, text);
}
