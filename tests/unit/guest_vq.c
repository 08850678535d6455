// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test guest's side of split virtqueues, and commands as bytes.  See guest.h.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd_length.h"
#include "guest.h"
#include "guest_shm.h"

#define COMMAND_TIMEOUT_MS	20000

/* Fields of the rings, by virtio 1.2 section 2.7. */
static __le16 *avail_idx(struct guest_vq *vq)
{
	return (__le16 *)(vq->avail + 2);
}

static __le16 *avail_ring(struct guest_vq *vq)
{
	return (__le16 *)(vq->avail + 4);
}

static __le16 *used_idx(struct guest_vq *vq)
{
	return (__le16 *)(vq->used + 2);
}

void guest_vq_add(struct guest_vq *vq, unsigned int first, const struct guest_desc *desc,
		  unsigned int n)
{
	struct vring_desc *table = (struct vring_desc *)vq->desc;

	for (unsigned int i = 0; i < n; i++) {
		table[first + i].addr = htole64(desc[i].addr);
		table[first + i].len = htole32(desc[i].len);
		table[first + i].flags = htole16(desc[i].flags |
						 (i + 1 < n ? VRING_DESC_F_NEXT : 0));
		table[first + i].next = htole16(first + i + 1);
	}
	vrd_store16(&avail_ring(vq)[vq->avail_idx % vq->num], first);
	vrd_store16_release(avail_idx(vq), ++vq->avail_idx);
}

void guest_vq_kick(struct guest_vq *vq)
{
	uint64_t one = 1;

	vrd_full_barrier();
	if (vrd_load16((__le16 *)vq->used) & VRING_USED_F_NO_NOTIFY)
		return;
	if (write(vq->kick, &one, sizeof(one)) != sizeof(one))
		guest_fatal("kick: %s", strerror(errno));
}

bool guest_vq_take(struct guest_vq *vq, uint32_t *id, uint32_t *len)
{
	struct vring_used_elem *ring = (struct vring_used_elem *)(vq->used + 4);

	if (vrd_load16_acquire(used_idx(vq)) == vq->used_idx)
		return false;
	*id = vrd_load32(&ring[vq->used_idx % vq->num].id);
	*len = vrd_load32(&ring[vq->used_idx % vq->num].len);
	vq->used_idx++;
	return true;
}

/* Waits for the call descriptor; false on time-out. */
static bool wait_call(struct guest_vq *vq, uint64_t until)
{
	struct pollfd pfd = { .fd = vq->call, .events = POLLIN };
	uint64_t now = guest_now_ns(), value;
	int n;

	if (now >= until)
		return false;
	n = poll(&pfd, 1, (until - now) / 1000000 + 1);
	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (read(vq->call, &value, sizeof(value)) == sizeof(value))
		vq->interrupts += value;
	return true;
}

bool guest_vq_wait(struct guest_vq *vq, uint32_t *id, uint32_t *len, int timeout_ms)
{
	uint64_t until = guest_now_ns() + timeout_ms * 1000000ULL;

	while (!guest_vq_take(vq, id, len))
		if (!wait_call(vq, until))
			return guest_vq_take(vq, id, len);
	return true;
}

/* Looks for a used element without sleeping, for @us microseconds. */
static bool look(struct guest_vq *vq, uint32_t *id, uint32_t *len, unsigned int us)
{
	uint64_t until = us ? guest_now_ns() + us * 1000ULL : 0;

	while (us && guest_now_ns() < until) {
		if (guest_vq_take(vq, id, len))
			return true;
		vrd_cpu_relax();
	}
	return false;
}

uint32_t guest_command_raw(struct guest *g, const void *req, uint32_t req_len, void *rsp,
			   uint32_t rsp_len, uint32_t *used)
{
	struct guest_vq *vq = &g->vqs[VIRTIO_RDMA_VQ_CONTROL];
	struct guest_desc desc[2] = {
		{ guest_addr(g, g->cmd_req), req_len, 0 },
		{ guest_addr(g, g->cmd_rsp), rsp_len, VRING_DESC_F_WRITE },
	};
	uint32_t id, len, opcode = 0, status;

	if (req_len > GUEST_CMD_BYTES || rsp_len > GUEST_CMD_BYTES)
		guest_fatal("a command of %u and %u bytes", req_len, rsp_len);
	pthread_mutex_lock(&g->cmd_lock);
	memcpy(g->cmd_req, req, req_len);
	if (req_len >= sizeof(struct virtio_rdma_cmd_hdr))
		((struct virtio_rdma_cmd_hdr *)g->cmd_req)->length = cmd_length_word(req, req_len);
	memset(g->cmd_rsp, 0xee, rsp_len);
	guest_vq_add(vq, 0, desc, 2);
	guest_vq_kick(vq);
	memcpy(&opcode, req, req_len < 4 ? req_len : 4);
	if (!look(vq, &id, &len, g->cfg.look_us) &&
	    !guest_vq_wait(vq, &id, &len, COMMAND_TIMEOUT_MS))
		guest_fatal("%s: command %u is not answered", g->cfg.name, opcode);
	if (id != 0 || len > rsp_len)
		guest_fatal("%s: command %u: used element %u, %u of %u bytes", g->cfg.name,
			    opcode, id, len, rsp_len);
	memcpy(rsp, g->cmd_rsp, rsp_len);
	pthread_mutex_unlock(&g->cmd_lock);

	if (used)
		*used = len;
	if (len < sizeof(struct virtio_rdma_rsp_hdr))
		return VIRTIO_RDMA_S_IO;
	memcpy(&status, rsp, sizeof(status));
	return le32toh(status);
}

/* ---- events ------------------------------------------------------------------ */

/* Copies the next used buffer and makes it available again. */
static bool take_buffer(struct guest *g, struct guest_vq *vq, void *to, int timeout_ms)
{
	struct guest_desc desc;
	uint32_t id, len;

	if (!guest_vq_wait(vq, &id, &len, timeout_ms))
		return false;
	if (id >= vq->num || len != vq->buf_size)
		guest_fatal("%s: event buffer %u with %u bytes", g->cfg.name, id, len);
	memcpy(to, vq->buf + id * vq->buf_size, vq->buf_size);
	desc = (struct guest_desc){
		guest_addr(g, vq->buf + id * vq->buf_size), vq->buf_size, VRING_DESC_F_WRITE,
	};
	guest_vq_add(vq, id, &desc, 1);
	guest_vq_kick(vq);
	return true;
}

bool guest_event(struct guest *g, struct virtio_rdma_event *event, int timeout_ms)
{
	return take_buffer(g, &g->vqs[VIRTIO_RDMA_VQ_EVENT], event, timeout_ms);
}

bool guest_comp_event(struct guest *g, unsigned int vector, uint32_t *cqn, int timeout_ms)
{
	struct virtio_rdma_comp_event event;

	if (!take_buffer(g, &g->vqs[VIRTIO_RDMA_VQ_COMP_BASE + vector], &event, timeout_ms))
		return false;
	*cqn = le32toh(event.cqn);
	return true;
}
