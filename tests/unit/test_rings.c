// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Send and receive rings: wrapping, the effect of a malformed entry or an impossible index,
 * doorbell pages full of garbage, more rings than the hot list or the doorbell page has room
 * for.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "objects.h"
#include "transport.h"
#include "guest_shm.h"
#include "tap.h"

#define TIMEOUT_MS	20000
#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED

static struct vrd_engine *engine;
static struct guest *a, *b;

static uint8_t next_status(struct guest_cq *cq)
{
	struct virtio_rdma_cqe cqe;

	return guest_poll_wait(cq, &cqe, TIMEOUT_MS) ? cqe.status : 0xff;
}

static void open_pair(const struct guest_qp_init *init, struct guest_side *sa,
		      struct guest_side *sb)
{
	guest_side_open(a, 1 << 20, 1024, init, sa);
	guest_side_open(b, 1 << 20, 1024, init, sb);
	guest_qp_connect_pair(&sa->qp, &sb->qp);
}

static void close_pair(struct guest_side *sa, struct guest_side *sb)
{
	guest_side_close(sa);
	guest_side_close(sb);
}

static void post_write(struct guest_side *from, struct guest_side *to, uint64_t offset,
		       uint32_t length)
{
	guest_post_rdma(&from->qp, VIRTIO_RDMA_WR_RDMA_WRITE, SIGNALED, from->mem + offset, length,
			from->mr.lkey, guest_addr(to->g, to->mem) + offset, to->mr.rkey);
}

/* ---- indices ------------------------------------------------------------------ */

/* @n WRITEs of 8 bytes, several at a time; true if all data and indices are right. */
static bool run_writes(struct guest_side *sa, struct guest_side *sb, unsigned int n)
{
	uint32_t first = sa->qp.sq.producer;
	uint64_t *src = (uint64_t *)sa->mem;
	unsigned int posted = 0, done = 0;

	while (done < n) {
		struct virtio_rdma_cqe cqe;
		unsigned int burst = 1 + posted % sa->qp.sq.entries;

		while (burst-- && posted < n && posted - done < sa->qp.sq.entries) {
			src[posted % 1024] = posted + 1;
			post_write(sa, sb, posted % 1024 * 8, 8);
			posted++;
		}
		do {
			if (!guest_poll_wait(&sa->cq, &cqe, TIMEOUT_MS) || cqe.status ||
			    le32toh(cqe.wqe_index) != first + done ||
			    cqe.opcode != VIRTIO_RDMA_WC_RDMA_WRITE ||
			    le32toh(cqe.qpn) != sa->qp.qpn)
				return false;
			if (((uint64_t *)sb->mem)[done % 1024] != done + 1)
				return false;
			done++;
		} while (done < posted);
	}
	return true;
}

static void test_wrap(void)
{
	struct guest_side sa, sb;
	struct vrd_qp *qp;

	open_pair(&(struct guest_qp_init){ .sq_entries = 8 }, &sa, &sb);
	ok(run_writes(&sa, &sb, 1000), "1000 WRITEs through a ring of 8 entries");

	/* As after 4 billion earlier entries. */
	qp = vrd_table_find(&a->dev->qps, sa.qp.qpn);
	vrd_device_quiesce(a->dev);
	qp->sq.head = qp->sq.tail = sa.qp.sq.producer = 0xfffffff0U;
	vrd_store32(&sa.qp.sq.ctrl->producer, 0xfffffff0U);
	vrd_device_resume(a->dev);
	ok(run_writes(&sa, &sb, 100), "indices wrap at 2^32");
	close_pair(&sa, &sb);
}

/* True if the poller stops turning, as it does when no guest gives it work. */
static bool poller_sleeps(void)
{
	uint64_t before, now = guest_engine_stat(engine, "poller_turns");

	for (unsigned int i = 0; i < 200; i++) {
		before = now;
		usleep(20000);
		now = guest_engine_stat(engine, "poller_turns");
		if (now == before)
			return true;
	}
	return false;
}

static void test_bad_producer(void)
{
	static const uint32_t ahead[] = { 129, 1000, 0x7fffffff, 0x80000000, 0xffffffff };

	for (unsigned int i = 0; i < sizeof(ahead) / 4; i++) {
		struct guest_side sa, sb;
		struct guest_qp other_a, other_b;

		open_pair(NULL, &sa, &sb);
		guest_side_add_qp(&sa, NULL, &other_a);
		guest_side_add_qp(&sb, NULL, &other_b);
		guest_qp_connect_pair(&other_a, &other_b);

		run_writes(&sa, &sb, 3);
		sa.qp.sq.producer += ahead[i];
		guest_ring_sq(&sa.qp);
		ok(next_status(&sa.cq) == VIRTIO_RDMA_WC_LOC_QP_OP_ERR &&
		   guest_qp_state(&sa.qp) == VIRTIO_RDMA_QPS_ERR,
		   "a producer %#x ahead ends in LOC_QP_OP_ERR and ERR", ahead[i]);
		ok(poller_sleeps(), "  the poller sleeps");
		sa.qp.sq.producer++;
		guest_ring_sq(&sa.qp);
		ok(poller_sleeps(), "  also after a change of the index");

		guest_post_rdma(&other_a, VIRTIO_RDMA_WR_RDMA_WRITE, SIGNALED, sa.mem, 64,
				sa.mr.lkey, guest_addr(b, sb.mem), sb.mr.rkey);
		ok(next_status(&sa.cq) == 0, "  another QP of the process goes on");

		guest_qp_reset(&sa.qp);
		guest_qp_reset(&sb.qp);
		guest_qp_connect_pair(&sa.qp, &sb.qp);
		ok(run_writes(&sa, &sb, 20), "  after RESET it works again");
		guest_qp_destroy(&other_a);
		guest_qp_destroy(&other_b);
		close_pair(&sa, &sb);
	}
}

/* ---- malformed entries ------------------------------------------------------------ */

struct bad_wqe {
	const char *what;
	struct virtio_rdma_wqe_ctrl ctrl;
	uint32_t rc_reserved;
	uint32_t sge_length;			/* 0: 8 */
};

#define W	VIRTIO_RDMA_WR_RDMA_WRITE
#define INL	VIRTIO_RDMA_WQE_INLINE

static const struct bad_wqe bad_wqes[] = {
	{ .what = "opcode 11", .ctrl = { .opcode = 11 } },
	{ .what = "opcode 32", .ctrl = { .opcode = 32 } },
	{ .what = "opcode 255", .ctrl = { .opcode = 255 } },
	{ .what = "LOCAL_INV with an SGE",
	  .ctrl = { .opcode = VIRTIO_RDMA_WR_LOCAL_INV, .num_sge = 1 } },
	{ .what = "SEND_WITH_INV with 3 SGEs of 2",
	  .ctrl = { .opcode = VIRTIO_RDMA_WR_SEND_WITH_INV, .num_sge = 3 } },
	{ .what = "REG_MR of a process", .ctrl = { .opcode = VIRTIO_RDMA_WR_REG_MR } },
	{ .what = "BIND_MW", .ctrl = { .opcode = VIRTIO_RDMA_WR_BIND_MW } },
	{ .what = "an unknown flag", .ctrl = { .opcode = W, .flags = 0x10 } },
	{ .what = "all flags", .ctrl = { .opcode = W, .flags = 0xffff } },
	{ .what = "reserved set", .ctrl = { .opcode = W, .reserved = 1 } },
	{ .what = "a P_Key index on RC", .ctrl = { .opcode = W, .pkey_index = 1 } },
	{ .what = "reserved after the key", .ctrl = { .opcode = W }, .rc_reserved = 1 },
	{ .what = "3 SGEs of 2", .ctrl = { .opcode = W, .num_sge = 3 } },
	{ .what = "255 SGEs", .ctrl = { .opcode = W, .num_sge = 255 } },
	{ .what = "33 bytes inline of 32", .ctrl = { .opcode = W, .flags = INL, .inline_len = 33 } },
	{ .what = "2^32-1 bytes inline", .ctrl = { .opcode = W, .flags = INL, .inline_len = 0xffffffff } },
	{ .what = "inline and an SGE",
	  .ctrl = { .opcode = W, .flags = INL, .inline_len = 8, .num_sge = 1 } },
	{ .what = "inline length without the flag", .ctrl = { .opcode = W, .inline_len = 8 } },
	{ .what = "an inline READ", .ctrl = { .opcode = VIRTIO_RDMA_WR_RDMA_READ, .flags = INL } },
	{ .what = "an inline atomic",
	  .ctrl = { .opcode = VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, .flags = INL } },
	{ .what = "an atomic without SGE", .ctrl = { .opcode = VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP } },
	{ .what = "an atomic of 2 SGEs",
	  .ctrl = { .opcode = VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP, .num_sge = 2 } },
	{ .what = "an atomic of 4 bytes", .sge_length = 4,
	  .ctrl = { .opcode = VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, .num_sge = 1 } },
};

static void test_bad_wqes(void)
{
	struct guest_side sa, sb;

	open_pair(NULL, &sa, &sb);
	for (unsigned int i = 0; i < sizeof(bad_wqes) / sizeof(bad_wqes[0]); i++) {
		const struct bad_wqe *bad = &bad_wqes[i];
		struct virtio_rdma_atomic_wqe *wqe = (void *)(sa.qp.sq.ring +
			(sa.qp.sq.producer & (sa.qp.sq.entries - 1)) * sa.qp.sq.stride);
		struct virtio_rdma_rc_wqe *rc = (void *)wqe;

		memset(wqe, 0, sizeof(*wqe));
		wqe->remote_addr = htole64(guest_addr(b, sb.mem));
		wqe->rkey = htole32(sb.mr.rkey);
		wqe->sge.addr = htole64(guest_addr(a, sa.mem));
		wqe->sge.lkey = htole32(sa.mr.lkey);
		wqe->sge.length = htole32(bad->sge_length ? bad->sge_length : 8);
		wqe->ctrl = bad->ctrl;
		rc->reserved = bad->rc_reserved;
		sa.qp.sq.producer++;
		/* One more after it is flushed. */
		guest_write_send(&sa.qp, &(struct guest_wr){ .opcode = W });
		guest_ring_sq(&sa.qp);
		ok(next_status(&sa.cq) == VIRTIO_RDMA_WC_LOC_QP_OP_ERR &&
		   next_status(&sa.cq) == VIRTIO_RDMA_WC_WR_FLUSH_ERR,
		   "%s: LOC_QP_OP_ERR, and the next is flushed", bad->what);

		guest_qp_reset(&sa.qp);
		guest_qp_reset(&sb.qp);
		guest_qp_connect_pair(&sa.qp, &sb.qp);
	}
	ok(run_writes(&sa, &sb, 10), "the QP works after all of them");
	close_pair(&sa, &sb);
}

/* UD: only sends, and an address vector without garbage. */
static void test_bad_ud(void)
{
	struct virtio_rdma_av good = { .qkey = htole32(7), .hop_limit = 1 };
	struct guest_side side;

	guest_side_open(a, 4096, 64, &(struct guest_qp_init){ .type = VIRTIO_RDMA_QPT_UD }, &side);
	for (unsigned int i = 0; i < 4; i++) {
		struct virtio_rdma_av av = good;
		struct guest_wr wr = { .opcode = VIRTIO_RDMA_WR_SEND, .flags = SIGNALED, .av = &av };

		memcpy(av.dgid, a->gid, 16);
		av.pd = htole32(side.pd);
		av.dqpn = htole32(side.qp.qpn);
		if (i == 0)
			wr.opcode = W;
		else if (i == 1)
			av.sl = 16;
		else if (i == 2)
			av.flow_label = htole32(1 << 20);
		else
			av.reserved[5] = 1;
		if (guest_qp_open_ud(&side.qp, 7))
			guest_fatal("the UD QP does not open");
		guest_post_send(&side.qp, &wr);
		ok(next_status(&side.cq) == VIRTIO_RDMA_WC_LOC_QP_OP_ERR, "UD: malformed entry %u", i);
		guest_qp_reset(&side.qp);
	}
	guest_side_close(&side);
}

static void test_bad_recv(void)
{
	struct guest_side sa, sb;
	struct virtio_rdma_recv_wqe *wqe;
	struct virtio_rdma_cqe cqe;

	for (unsigned int i = 0; i < 3; i++) {
		open_pair(NULL, &sa, &sb);
		wqe = (void *)sb.qp.rq.ring;
		*wqe = (struct virtio_rdma_recv_wqe){ 0 };
		if (i == 0)
			wqe->num_sge = htole32(2);
		else if (i == 1)
			wqe->reserved = htole64(1);
		else
			wqe->num_sge = htole32(0xffffffff);
		sb.qp.rq.producer = 1;
		guest_ring_rq(&sb.qp);
		guest_post_rdma(&sa.qp, VIRTIO_RDMA_WR_SEND, SIGNALED, sa.mem, 8, sa.mr.lkey, 0, 0);
		ok(next_status(&sa.cq) == VIRTIO_RDMA_WC_REM_OP_ERR, "malformed receive %u: REM_OP_ERR",
		   i);
		ok(guest_poll_wait(&sb.cq, &cqe, TIMEOUT_MS) &&
		   cqe.status == VIRTIO_RDMA_WC_LOC_QP_OP_ERR &&
		   cqe.opcode & VIRTIO_RDMA_WC_RECV_BIT, "  and LOC_QP_OP_ERR at the responder");
		close_pair(&sa, &sb);
	}
}

/* ---- contents of entries ------------------------------------------------------------ */

static void test_inline_and_sges(void)
{
	struct guest_qp_init init = { .max_inline = 220, .max_send_sge = 14 };
	struct guest_side sa, sb;
	struct guest_sge sges[14];
	uint8_t data[220], sum = 0;
	bool good = true;

	open_pair(&init, &sa, &sb);
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = i * 7 + 1;
	for (unsigned int len = 0; len <= sizeof(data); len++) {
		struct guest_wr wr = {
			.opcode = W, .flags = SIGNALED | INL, .inline_data = data, .inline_len = len,
			.remote_addr = guest_addr(b, sb.mem) + 3, .rkey = sb.mr.rkey,
		};

		memset(sb.mem, 0, 256);
		guest_post_send(&sa.qp, &wr);
		good &= next_status(&sa.cq) == 0 && !memcmp(sb.mem + 3, data, len) &&
			!sb.mem[3 + len] && !sb.mem[2];
	}
	ok(good, "inline data of 0 to 220 bytes");

	for (unsigned int i = 0; i < 4096; i++)
		sa.mem[i] = sum += 13 + i / 256;
	for (unsigned int n = 0; n <= 14; n++) {
		struct guest_wr wr = {
			.opcode = W, .flags = SIGNALED, .num_sge = n, .sge = sges,
			.remote_addr = guest_addr(b, sb.mem), .rkey = sb.mr.rkey,
		};
		unsigned int offset = 0;

		for (unsigned int i = 0; i < n; i++) {
			sges[i] = (struct guest_sge){ guest_addr(a, sa.mem) + offset, 1 + i * 9,
						      sa.mr.lkey };
			offset += 1 + i * 9;
		}
		memset(sb.mem, 0, 4096);
		guest_post_send(&sa.qp, &wr);
		good &= next_status(&sa.cq) == 0 && !memcmp(sb.mem, sa.mem, offset) &&
			!sb.mem[offset];
	}
	ok(good, "lists of 0 to 14 SGEs");
	close_pair(&sa, &sb);
}

/* ---- doorbells ------------------------------------------------------------------------- */

static void test_garbage_page(void)
{
	struct guest_side sa, sb;
	struct guest_ctx hostile;
	bool good = true;

	open_pair(NULL, &sa, &sb);
	guest_ctx_create(b, 0, &hostile);
	for (unsigned int round = 0; round < 50; round++) {
		for (unsigned int i = 4; i < sizeof(*hostile.db); i++)
			__atomic_store_n((uint8_t *)hostile.db + i, 0xff, __ATOMIC_RELAXED);
		for (unsigned int i = 64; i < sizeof(*sa.ctx.db); i++)
			__atomic_store_n((uint8_t *)sa.ctx.db + i, round + 1, __ATOMIC_RELAXED);
		guest_kick_doorbell(b);
		good &= run_writes(&sa, &sb, 20);
	}
	ok(good, "traffic goes on beside doorbell pages full of garbage");
	guest_ctx_destroy(&hostile);
	close_pair(&sa, &sb);
}

/* One WRITE on each of @n QPs, repeatedly; all are connected to themselves. */
static void many_qps(unsigned int n, unsigned int rounds)
{
	struct guest_qp_init init = { .sq_entries = 4, .rq_entries = 4 };
	struct guest_qp *qps = calloc(n, sizeof(*qps));
	struct guest_side side;
	bool good = true;

	guest_side_open(a, 65536, 4096, &init, &side);
	for (unsigned int i = 0; i < n; i++) {
		guest_side_add_qp(&side, &init, &qps[i]);
		if (guest_qp_connect(&qps[i], a->gid, qps[i].qpn))
			guest_fatal("QP %u of %u cannot be connected", i, n);
	}
	for (unsigned int round = 0; round < rounds; round++) {
		for (unsigned int i = 0; i < n; i++) {
			guest_post_rdma(&qps[i], W, SIGNALED, side.mem, 16, side.mr.lkey,
					guest_addr(a, side.mem) + 4096, side.mr.rkey);
			/* At most as many as the CQ holds. */
			if (i >= 1000)
				good &= next_status(&side.cq) == 0;
		}
		for (unsigned int i = 0; i < (n < 1000 ? n : 1000); i++)
			good &= next_status(&side.cq) == 0;
	}
	ok(good, "%u rings, each with work, %u rounds", n, rounds);
	for (unsigned int i = 0; i < n; i++)
		guest_qp_destroy(&qps[i]);
	guest_side_close(&side);
	free(qps);
}

int main(void)
{
	engine = guest_engine(1, 50);
	a = guest_create(engine, &(struct guest_config){ .name = "a", .id = 1,
							 .mem_size = 128 << 20 });
	b = guest_create(engine, &(struct guest_config){ .name = "b", .id = 2 });

	test_wrap();
	test_bad_producer();
	test_bad_wqes();
	test_bad_ud();
	test_bad_recv();
	test_inline_and_sges();
	test_garbage_page();
	many_qps(200, 20);
	/* Two slots each: more than the doorbell page has. */
	many_qps(2100, 2);

	guest_destroy(a);
	guest_destroy(b);
	vrd_engine_destroy(engine);
	return tap_done();
}
