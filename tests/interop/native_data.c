// SPDX-License-Identifier: GPL-2.0-or-later
/* Connected QPs: each opcode, with the data compared.  See native.h. */
#include <unistd.h>

#include "native.h"

static const uint32_t sizes[] = { 0, 1, 7, 64, 1023, 1024, 1025, 4096, 65536, MEM_BUF - 64 };
#define NUM_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const char *name_of(uint8_t opcode)
{
	static const char *const names[] = {
		[W] = "WRITE", [WI] = "WRITE with immediate", [SEND] = "SEND",
		[SENDI] = "SEND with immediate", [READ] = "READ", [CAS] = "CMP_AND_SWP",
		[FADD] = "FETCH_AND_ADD",
	};

	return names[opcode];
}

static bool consumes(uint8_t opcode)
{
	return opcode == SEND || opcode == SENDI || opcode == WI;
}

static uint8_t send_wc(uint8_t opcode)
{
	return opcode == READ ? WC(RDMA_READ) : opcode == W || opcode == WI ? WC(RDMA_WRITE) :
	       WC(SEND);
}

/* One message of @length from offset 3 to offset 5, both within their pages. */
static bool one(uint8_t opcode, uint32_t length)
{
	struct mem_end *from = opcode == READ ? &p.b : &p.a, *to = opcode == READ ? &p.a : &p.b;
	struct mem_wr w = mem_wr(&p.a, &p.b, opcode, length);
	uint32_t seed = length * 31 + opcode + 100;
	struct virtio_rdma_cqe cqe, rcqe;
	bool good = true;

	mem_pattern(from->buf + 3, length, seed);
	memset(to->buf, 0xee, MEM_BUF);
	w.sge.addr += opcode == READ ? 5 : 3;
	w.wr.remote_addr += opcode == READ ? 3 : 5;
	w.wr.imm = htobe32(0x12345678);
	if (consumes(opcode))
		recv_now(opcode == WI ? 0 : 5, opcode == WI ? 0 : length);
	mem_post(&p.a, &w);
	/* A WRITE on UC completes when it is sent; nothing reports its arrival. */
	for (int ms = 0; p.a.qp.init.type == VIRTIO_RDMA_QPT_UC && opcode == W && ms < 1000; ms++)
		if (!mem_has_pattern(to->buf + 5, length, seed))
			usleep(1000);
	if (mem_cqe(&p.a.scq, &cqe) || cqe.opcode != send_wc(opcode) ||
	    le32toh(cqe.qpn) != p.a.qp.qpn)
		return false;
	if (opcode == READ)
		good &= le32toh(cqe.byte_len) == length;
	if (consumes(opcode)) {
		good &= !mem_cqe(&p.b.rcq, &rcqe) && le32toh(rcqe.byte_len) == length &&
			rcqe.opcode == (opcode == WI ? WC(RECV_RDMA_WITH_IMM) : WC(RECV)) &&
			le32toh(rcqe.qpn) == p.b.qp.qpn;
		if (opcode != SEND)
			good &= rcqe.flags & VIRTIO_RDMA_CQE_IMM &&
				rcqe.imm == htobe32(0x12345678);
	}
	return good && mem_has_pattern(to->buf + 5, length, seed) && to->buf[4] == 0xee &&
	       to->buf[5 + length] == 0xee;
}

static void each_size(uint8_t opcode, const char *type)
{
	bool good = true;

	for (unsigned int i = 0; i < NUM_SIZES && good; i++) {
		good = one(opcode, sizes[i]);
		if (!good)
			printf("# %u bytes\n", sizes[i]);
	}
	ok(good, "%s %s, 0 bytes to 256 KiB, unaligned", type, name_of(opcode));
}

static void atomics(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, FADD, 8);
	uint64_t *remote = (uint64_t *)p.b.buf, *local = (uint64_t *)p.a.buf;
	struct virtio_rdma_cqe cqe;

	*remote = 40;
	w.wr.swap_add = 2;
	mem_post(&p.a, &w);
	if (!has_atomics) {
		is(mem_cqe(&p.a.scq, &cqe), WC(LOC_QP_OP_ERR), "FETCH_AND_ADD, not offered");
		is(*remote, 40, "it added nothing");
		return;
	}
	is(mem_cqe(&p.a.scq, &cqe), 0, "FETCH_AND_ADD");
	ok(*remote == 42 && *local == 40 && cqe.opcode == WC(FETCH_ADD) &&
	   le32toh(cqe.byte_len) == 8, "it added, and got the old value");
	w.wr.opcode = CAS;
	w.wr.compare = 42;
	w.wr.swap_add = 7;
	mem_post(&p.a, &w);
	is(mem_cqe(&p.a.scq, &cqe), 0, "CMP_AND_SWP");
	ok(*remote == 7 && *local == 42 && cqe.opcode == WC(COMP_SWAP), "it swapped");
	mem_post(&p.a, &w);
	is(mem_cqe(&p.a.scq, &cqe), 0, "CMP_AND_SWP of another value");
	ok(*remote == 7 && *local == 7, "it did not");
}

static void sges_and_inline(void)
{
	struct guest_sge sge[4], rsge[2];
	struct guest_wr wr = {
		.opcode = SEND, .flags = SIGNALED, .num_sge = 4, .sge = sge,
		.remote_addr = p.b.mr.iova, .rkey = p.b.mr.rkey,
	};
	uint8_t data[32];
	struct virtio_rdma_cqe cqe;
	bool good = true;

	for (unsigned int i = 0; i < 4; i++)
		sge[i] = (struct guest_sge){ p.a.mr.iova + i * 8192, i * 1000, p.a.mr.lkey };
	rsge[0] = (struct guest_sge){ p.b.mr.iova, 1500, p.b.mr.lkey };
	rsge[1] = (struct guest_sge){ p.b.mr.iova + 65536, 6000, p.b.mr.lkey };
	mem_pattern(p.a.buf, MEM_BUF, 77);
	guest_post_recv(&p.b.qp, rsge, 2);
	guest_post_send(&p.a.qp, &wr);
	is(mem_cqe(&p.a.scq, &cqe), 0, "SEND of 4 SGEs, one of them empty, to 2");
	is(mem_cqe(&p.b.rcq, &cqe), 0, "it is received");
	for (unsigned int i = 0, at = 0; i < 4; i++)
		for (unsigned int n = 0; n < i * 1000; n++, at++)
			good &= p.a.buf[i * 8192 + n] ==
				p.b.buf[at < 1500 ? at : 65536 + at - 1500];
	ok(good && le32toh(cqe.byte_len) == 6000, "in the right places");

	wr = (struct guest_wr){
		.opcode = W, .flags = SIGNALED | VIRTIO_RDMA_WQE_INLINE, .inline_data = data,
		.inline_len = sizeof(data), .remote_addr = p.b.mr.iova, .rkey = p.b.mr.rkey,
	};
	good = true;
	for (unsigned int i = 0; i < 300 && good; i++) {
		mem_pattern(data, sizeof(data), i + 1000);
		guest_post_send(&p.a.qp, &wr);
		good = !mem_cqe(&p.a.scq, &cqe) && mem_has_pattern(p.b.buf, sizeof(data), i + 1000);
	}
	ok(good, "300 WRITEs with inline data");
}

/* A full ring at a time, few of them signaled; the data arrive in order. */
static void many(void)
{
	const unsigned int total = 2000, depth = 64;
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 512);
	uint32_t posted = 0, done = 0, first = p.a.qp.sq.producer;
	struct virtio_rdma_cqe cqe;
	bool good = true;

	mem_pattern(p.a.buf, MEM_BUF, 5);
	memset(p.b.buf, 0, MEM_BUF);
	w.wr.sge = &w.sge;
	while (done < total && good) {
		while (posted < total && posted - done < depth) {
			w.sge.addr = p.a.mr.iova + posted % 256 * 512;
			w.wr.remote_addr = p.b.mr.iova + posted % 256 * 512;
			posted++;
			w.wr.flags = posted % 16 && posted != total ? 0 : SIGNALED;
			guest_write_send(&p.a.qp, &w.wr);
			if (posted % 8 == 0)
				guest_ring_sq(&p.a.qp);
		}
		guest_ring_sq(&p.a.qp);
		good = !mem_cqe(&p.a.scq, &cqe);
		done = le32toh(cqe.wqe_index) - first + 1;
	}
	ok(good && mem_has_pattern(p.b.buf, 256 * 512, 5),
	   "2000 WRITEs, 64 under way, one of 16 signaled");
}

/* Long messages, in each direction. */
static void big(void)
{
	uint8_t *a = guest_alloc(p.a.g, BIG + 4096), *b = guest_alloc(p.b.g, BIG + 4096);
	const uint32_t max = port_max_msg_sz(p.a.g), n = max < BIG ? max : BIG;
	struct virtio_rdma_cqe cqe;
	struct guest_mr ma, mb;
	struct guest_sge sge;

	is(guest_mr_reg(p.a.g, p.a.pd, a, BIG + 4096, MEM_ALL_ACCESS, &ma), 0, "REG_MR of 64 MiB");
	is(guest_mr_reg(p.b.g, p.b.pd, b, BIG + 4096, MEM_ALL_ACCESS, &mb), 0, "and of the other's");
	mem_pattern(a, n, 11);
	guest_post_rdma(&p.a.qp, W, SIGNALED, a, n, ma.lkey, mb.iova, mb.rkey);
	is(guest_poll_wait(&p.a.scq, &cqe, 60000) ? cqe.status : -1, 0, "WRITE of %u MiB", n >> 20);
	ok(mem_has_pattern(b, n, 11), "all of it is there");
	mem_pattern(b, n, 12);
	guest_post_rdma(&p.a.qp, READ, SIGNALED, a, n, ma.lkey, mb.iova, mb.rkey);
	is(guest_poll_wait(&p.a.scq, &cqe, 60000) ? cqe.status : -1, 0, "READ of %u MiB", n >> 20);
	ok(mem_has_pattern(a, n, 12), "all of it is there");
	sge = (struct guest_sge){ mb.iova, n, mb.lkey };
	mem_pattern(a, n, 13);
	guest_post_recv(&p.b.qp, &sge, 1);
	guest_post_rdma(&p.a.qp, SEND, SIGNALED, a, n, ma.lkey, 0, 0);
	is(guest_poll_wait(&p.a.scq, &cqe, 60000) ? cqe.status : -1, 0, "SEND of %u MiB", n >> 20);
	ok(mem_status(&p.b.rcq) == 0 && mem_has_pattern(b, n, 13), "all of it is there");
	is(guest_mr_dereg(&ma), 0, "DEREG_MR");
	is(guest_mr_dereg(&mb), 0, "DEREG_MR");
	guest_free(p.a.g, a, BIG + 4096);
	guest_free(p.b.g, b, BIG + 4096);
}

/* Both sides sleep between messages: the host's completion wakes the poller, which wakes us. */
static void sleeping(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, SEND, 100);
	struct virtio_rdma_cqe cqe;
	bool good = true;

	for (unsigned int i = 0; i < 20 && good; i++) {
		mem_recv(&p.b, 0, 100);
		usleep(20000);
		mem_post(&p.a, &w);
		good = guest_poll_sleep(&p.b.rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
		       guest_poll_sleep(&p.a.scq, &cqe, MEM_WAIT_MS) && !cqe.status;
	}
	ok(good, "20 SENDs with everyone asleep in between");
}

void test_data(void)
{
	static const uint8_t rc[] = { W, WI, SEND, SENDI, READ }, uc[] = { W, WI, SEND, SENDI };

	fresh();
	for (unsigned int i = 0; i < sizeof(rc); i++)
		each_size(rc[i], "RC");
	sges_and_inline();
	many();
	sleeping();
	big();
	atomics();
	drop();

	fresh_type(VIRTIO_RDMA_QPT_UC);
	for (unsigned int i = 0; i < sizeof(uc); i++)
		each_size(uc[i], "UC");
	drop();
}
