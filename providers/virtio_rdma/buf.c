// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory for rings.  Called when a QP, CQ or SRQ is created, resized or
 * destroyed; needs no lock.
 */
#include <errno.h>
#include <sys/mman.h>

#include "vrdma.h"

/*
 * Allocates zeroed memory that fork() does not copy: after a copy-on-write the
 * parent would write to a page that the device does not access.
 */
int vrdma_buf_alloc(struct vrdma_buf *buf, size_t len, size_t page_size)
{
	void *addr;
	int ret;

	len = align(len, page_size);
	addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		return errno;

	ret = ibv_dontfork_range(addr, len);
	if (ret) {
		munmap(addr, len);
		return ret > 0 ? ret : errno;
	}

	buf->addr = addr;
	buf->len = len;
	return 0;
}

void vrdma_buf_free(struct vrdma_buf *buf)
{
	if (!buf->addr)
		return;
	ibv_dofork_range(buf->addr, buf->len);
	munmap(buf->addr, buf->len);
	buf->addr = NULL;
}
