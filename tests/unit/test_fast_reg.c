// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fast registration (VIRTIO_RDMA_F_MEM_MGT): ALLOC_MR, REG_MR with and without gaps,
 * LOCAL_INV, SEND_WITH_INV.  "b" has the regions, in a kernel context; "a" uses their keys.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "mem_pair.h"
#include "tap.h"

#define S(name)	VIRTIO_RDMA_S_##name
#define WC(name) VIRTIO_RDMA_WC_##name
#define LW	VIRTIO_RDMA_ACCESS_LOCAL_WRITE
#define RW	VIRTIO_RDMA_ACCESS_REMOTE_WRITE
#define RR	VIRTIO_RDMA_ACCESS_REMOTE_READ

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

/* ---- objects ----------------------------------------------------------------- */

/* A region of ALLOC_MR, its list, and its key of now. */
struct fast {
	struct mem_end *end;
	uint32_t handle, key;
	struct virtio_rdma_reg_entry *list;
	uint32_t num;
	uint64_t length;
};

static uint32_t alloc_mr(struct guest *g, uint32_t pd, uint32_t entries, uint32_t *handle,
			 uint32_t *key)
{
	struct virtio_rdma_alloc_mr_req req = { .pd = htole32(pd), .max_entries = htole32(entries) };
	struct virtio_rdma_reg_mr_rsp rsp;
	uint32_t status = guest_command(g, VIRTIO_RDMA_CMD_ALLOC_MR, &req, &rsp);

	*handle = le32toh(rsp.mr);
	*key = le32toh(rsp.lkey);
	return status;
}

static struct fast fast_new(struct mem_end *end, uint32_t entries)
{
	struct fast f = { .end = end, .list = guest_alloc(end->g, 4096 * 4) };

	if (alloc_mr(end->g, end->pd, entries, &f.handle, &f.key))
		guest_fatal("ALLOC_MR");
	return f;
}

static void fast_drop(struct fast *f)
{
	is(guest_destroy_handle(f->end->g, VIRTIO_RDMA_CMD_DEREG_MR, f->handle), S(OK), "DEREG_MR");
	guest_free(f->end->g, f->list, 4096 * 4);
}

/* Appends [buf + @offset, + @length) to the list. */
static void add(struct fast *f, uint64_t offset, uint64_t length)
{
	f->list[f->num++] = (struct virtio_rdma_reg_entry){
		.addr = htole64(guest_addr(f->end->g, f->end->buf) + offset),
		.length = htole64(length),
	};
	f->length += length;
}

static void clear(struct fast *f)
{
	f->num = 0;
	f->length = 0;
}

/* The next key of the region. */
static void next_key(struct fast *f)
{
	f->key = (f->key & ~255U) | ((f->key + 1) & 255);
}

#define IOVA	0x7000000000123ULL

static struct virtio_rdma_reg_mr_wqe reg_wqe(const struct fast *f, uint32_t access,
					     uint8_t page_shift)
{
	return (struct virtio_rdma_reg_mr_wqe){
		.ctrl.opcode = VIRTIO_RDMA_WR_REG_MR,
		.ctrl.flags = htole16(VIRTIO_RDMA_WQE_SIGNALED),
		.key = htole32(f->key),
		.access = htole32(access),
		.iova = htole64(IOVA),
		.length = htole64(f->length),
		.list = htole64(guest_addr(f->end->g, f->list)),
		.num_entries = htole32(f->num),
		.page_shift = page_shift,
	};
}

static int post_wqe(struct mem_end *end, const void *wqe)
{
	guest_write_wqe(&end->qp, wqe);
	guest_ring_sq(&end->qp);
	return mem_status(&end->scq);
}

/* Returns the status of the completion. */
static int reg(struct fast *f, uint32_t access)
{
	struct virtio_rdma_reg_mr_wqe wqe = reg_wqe(f, access, 0);

	return post_wqe(f->end, &wqe);
}

static int inv(struct mem_end *end, uint32_t key)
{
	struct { struct virtio_rdma_rc_wqe rc; uint8_t rest[32]; } wqe = {
		.rc.ctrl.opcode = VIRTIO_RDMA_WR_LOCAL_INV,
		.rc.ctrl.flags = htole16(VIRTIO_RDMA_WQE_SIGNALED),
		.rc.ctrl.inv_rkey = htole32(key),
	};

	return post_wqe(end, &wqe);
}

/* "a" writes @length bytes of its buffer to @offset of the region; returns the status. */
static int write_to(const struct fast *f, uint64_t offset, uint32_t length)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, length);

	w.wr.remote_addr = IOVA + offset;
	w.wr.rkey = f->key;
	mem_post(a, &w);
	return mem_status(&a->scq);
}

static void fresh(void)
{
	mem_pair_fresh(&pair);
}

static void drop(void)
{
	mem_pair_drop_qps(&pair);
}

/* The objects of an end in a kernel context. */
static void to_kernel(struct mem_end *end)
{
	if (guest_mr_dereg(&end->mr) || guest_ctx_create(end->g, VIRTIO_RDMA_CTX_KERNEL, &end->ctx) ||
	    guest_pd_alloc(&end->ctx, &end->pd) ||
	    guest_mr_reg(end->g, end->pd, end->buf, MEM_BUF, MEM_ALL_ACCESS, &end->mr))
		guest_fatal("no kernel context");
}

/* ---- the tests ------------------------------------------------------------------ */

static void test_alloc(void)
{
	struct virtio_rdma_query_device_req req = { .hdr.opcode = 0 };
	struct virtio_rdma_query_device_rsp rsp;
	uint64_t mrs = guest_stat(b->g, "mrs"), bytes = guest_stat(b->g, "mr_bytes");
	struct guest_config cfg = {
		.name = "old", .id = 9, .host_mapped = MEM_HOST_MAPPED,
		.features_off = 1ULL << VIRTIO_RDMA_F_MEM_MGT,
	};
	uint32_t handle, key, other, other_key;
	struct guest_ctx ctx;
	struct guest *old;
	uint32_t pd;

	is(guest_command(b->g, VIRTIO_RDMA_CMD_QUERY_DEVICE, &req, &rsp), S(OK), "QUERY_DEVICE");
	is(le32toh(rsp.max_fast_reg_pages), 512, "max_fast_reg_pages");
	is(le64toh(rsp.page_sizes), 0xfffff000, "page_sizes");
	is(alloc_mr(a->g, a->pd, 16, &handle, &key), S(PERM), "a PD of a process");
	is(alloc_mr(b->g, 4711, 16, &handle, &key), S(NOENT), "no PD");
	is(alloc_mr(b->g, b->pd, 0, &handle, &key), S(INVAL), "no entries");
	is(alloc_mr(b->g, b->pd, 513, &handle, &key), S(INVAL), "too many entries");
	is(alloc_mr(b->g, b->pd, 512, &handle, &key), S(OK), "512 entries");
	ok(key >> 8 == handle && handle, "the key has the handle's number");
	is(guest_stat(b->g, "mr_bytes"), bytes + 512 * 4096, "it counts as 512 pages");
	is(alloc_mr(b->g, b->pd, 1, &other, &other_key), S(OK), "one entry");
	ok(other != handle, "another handle");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEREG_MR, handle) |
	   guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEREG_MR, other), S(OK), "DEREG_MR");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEREG_MR, handle), S(NOENT), "it is gone");
	ok(guest_stat(b->g, "mrs") == mrs && guest_stat(b->g, "mr_bytes") == bytes, "nothing is left");

	old = guest_create(pair.engine, &cfg);
	if (guest_ctx_create(old, VIRTIO_RDMA_CTX_KERNEL, &ctx) || guest_pd_alloc(&ctx, &pd))
		guest_fatal("no PD");
	is(alloc_mr(old, pd, 16, &handle, &key), S(UNSUPPORTED), "without the feature");
	is(guest_command(old, VIRTIO_RDMA_CMD_QUERY_DEVICE, &req, &rsp), S(OK), "QUERY_DEVICE");
	ok(!rsp.max_fast_reg_pages && !rsp.page_sizes, "without the feature: no limits");
	for (unsigned int i = 0; i < 3; i++) {
		static const uint8_t ops[] = {
			VIRTIO_RDMA_WR_SEND_WITH_INV, VIRTIO_RDMA_WR_LOCAL_INV, VIRTIO_RDMA_WR_REG_MR,
		};
		struct virtio_rdma_reg_mr_wqe wqe = { .ctrl.opcode = ops[i] };
		struct virtio_rdma_cqe cqe;
		struct guest_side side;

		guest_side_open(old, 4096, 64, &(struct guest_qp_init){ .pd = 0 }, &side);
		guest_qp_connect(&side.qp, old->gid, side.qp.qpn);
		guest_write_wqe(&side.qp, &wqe);
		guest_ring_sq(&side.qp);
		is(mem_cqe(&side.cq, &cqe), WC(LOC_QP_OP_ERR),
		   "without the feature: opcode %u is malformed", ops[i]);
		guest_side_close(&side);
	}
	guest_destroy(old);
}

/* Byte @i of the region, in b's buffer. */
static uint8_t *byte_at(const struct fast *f, uint64_t i)
{
	for (uint32_t n = 0; n < f->num; n++) {
		uint64_t length = le64toh(f->list[n].length);

		if (i < length)
			return f->end->g->mem + (le64toh(f->list[n].addr) - f->end->g->base) + i;
		i -= length;
	}
	return NULL;
}

/* True if the region has the first @length bytes of a's buffer at @offset, and no byte else changed. */
static bool only_these(const struct fast *f, uint64_t offset, uint64_t length)
{
	static uint8_t expect[MEM_BUF];

	mem_pattern(expect, MEM_BUF, MEM_SEED_B);
	for (uint64_t i = 0; i < length; i++)
		expect[byte_at(f, offset + i) - b->buf] = a->buf[i];
	return !memcmp(expect, b->buf, MEM_BUF);
}

static void test_gaps(void)
{
	struct fast f = fast_new(b, 64);
	struct mem_wr w;

	fresh();
	is(write_to(&f, 0, 8), WC(REM_ACCESS_ERR), "a key before REG_MR");
	drop();

	fresh();
	add(&f, 10, 100);
	add(&f, 3 * 4096, 4096);
	add(&f, 9000, 1);
	add(&f, 70000, 33333);
	is(reg(&f, LW | RW | RR), 0, "REG_MR with gaps");
	is(write_to(&f, 0, f.length), 0, "WRITE to all of it");
	ok(only_these(&f, 0, f.length), "every byte is in its place, and no other changed");
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	is(write_to(&f, 99, 4099), 0, "WRITE over three borders");
	ok(only_these(&f, 99, 4099), "the bytes are in their places");
	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_READ, 5000);
	w.wr.remote_addr = IOVA + 50;
	w.wr.rkey = f.key;
	mem_post(a, &w);
	is(mem_status(&a->scq), 0, "READ");
	for (uint64_t i = 0; i < 5000; i++)
		if (a->buf[i] != *byte_at(&f, 50 + i))
			w.wr.opcode = 0;
	is(w.wr.opcode, VIRTIO_RDMA_WR_RDMA_READ, "the bytes that were read");
	is(write_to(&f, f.length - 8, 9), WC(REM_ACCESS_ERR), "a byte behind it");
	drop();
	fast_drop(&f);
}

/* As local memory: SEND from one region and receive into another. */
static void test_local(void)
{
	struct fast f = fast_new(b, 64), to = fast_new(b, 64);
	struct guest_sge sge = { IOVA + 5, 5000, 0 };
	struct guest_wr wr = { .opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED,
			       .num_sge = 1, .sge = &sge };
	bool right = true;

	fresh();
	for (uint32_t i = 0; i < 64; i++)
		add(&f, 300000 - i * 4096, 100 + i);
	is(reg(&f, 0), 0, "REG_MR without rights");
	sge.lkey = f.key;
	mem_recv(a, 0, 8192);
	guest_post_send(&b->qp, &wr);
	ok(!mem_status(&b->scq) && !mem_status(&a->rcq), "SEND from the region");
	for (uint64_t i = 0; i < 5000; i++)
		right &= a->buf[i] == *byte_at(&f, 5 + i);
	ok(right, "the bytes that were sent");

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	add(&to, 100, 50);
	add(&to, 5000, 5000);
	is(reg(&to, LW), 0, "REG_MR with the local write right");
	sge = (struct guest_sge){ IOVA, 5050, to.key };
	guest_post_recv(&b->qp, &sge, 1);
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 5050);
	mem_post(a, &w);
	ok(!mem_status(&a->scq) && !mem_status(&b->rcq), "receive into a region");
	ok(only_these(&to, 0, 5050), "the bytes that were received");
	is(write_to(&to, 0, 8), WC(REM_ACCESS_ERR), "no remote right");
	drop();
	fast_drop(&f);
	fast_drop(&to);
}

static void test_inv(void)
{
	struct fast f = fast_new(b, 4);
	struct virtio_rdma_cqe cqe;
	struct virtio_rdma_reg_mr_wqe wqe;
	uint32_t old = f.key;

	fresh();
	add(&f, 0, 8192);
	wqe = reg_wqe(&f, LW | RW, 12);
	guest_write_wqe(&b->qp, &wqe);
	guest_ring_sq(&b->qp);
	ok(!mem_cqe(&b->scq, &cqe) && cqe.opcode == WC(REG_MR) && !cqe.byte_len &&
	   !cqe.wqe_index, "REG_MR's completion");
	is(write_to(&f, 0, 64), 0, "WRITE");
	is(inv(b, f.key), 0, "LOCAL_INV");
	next_key(&f);
	is(reg(&f, LW | RW), 0, "REG_MR with the next key");
	is(write_to(&f, 64, 64), 0, "WRITE");
	f.key = old;
	is(write_to(&f, 0, 64), WC(REM_ACCESS_ERR), "the old key");
	drop();

	fresh();
	f.key = old;
	next_key(&f);
	is(inv(b, f.key), 0, "LOCAL_INV");
	is(write_to(&f, 0, 64), WC(REM_ACCESS_ERR), "an invalidated key");
	ok(mem_untouched(&pair), "no byte was written");
	drop();

	fresh();
	is(reg(&f, LW | RW), 0, "REG_MR with the same key");
	fast_drop(&f);
	is(write_to(&f, 0, 64), WC(REM_ACCESS_ERR), "the key of a deregistered region");
	drop();
}

/* One REG_MR that fails, and what it is. */
static void refused(struct fast *f, const struct virtio_rdma_reg_mr_wqe *wqe, int status,
		    const char *what)
{
	is(post_wqe(f->end, wqe), status, "REG_MR: %s", what);
	ok(mem_in_state(f->end, VIRTIO_RDMA_QPS_ERR), "%s: the QP is in ERR", what);
	drop();
	fresh();
}

static void test_refused(void)
{
	struct fast f = fast_new(b, 4);
	struct virtio_rdma_reg_mr_wqe good, wqe;
	uint32_t pd;

	fresh();
	add(&f, 0, 8192);
	add(&f, 16384, 100);
	good = reg_wqe(&f, LW | RW, 12);
#define BAD(status, what, ...) do { wqe = good; __VA_ARGS__; refused(&f, &wqe, status, what); } while (0)
	BAD(WC(MW_BIND_ERR), "an unknown key", wqe.key ^= htole32(256));
	BAD(WC(MW_BIND_ERR), "the key of an ordinary region", wqe.key = htole32(b->mr.lkey));
	BAD(WC(MW_BIND_ERR), "no entries", wqe.num_entries = 0);
	BAD(WC(MW_BIND_ERR), "more entries than allocated", wqe.num_entries = htole32(5));
	BAD(WC(MW_BIND_ERR), "2^32 - 1 entries", wqe.num_entries = ~0U);
	BAD(WC(MW_BIND_ERR), "a length that is too small", wqe.length = htole64(f.length - 1));
	BAD(WC(MW_BIND_ERR), "a length that is too large", wqe.length = htole64(f.length + 1));
	BAD(WC(MW_BIND_ERR), "no length", wqe.length = 0);
	BAD(WC(MW_BIND_ERR), "an address that wraps", wqe.iova = htole64(0 - f.length + 1));
	BAD(WC(MW_BIND_ERR), "remote write without local write", wqe.access = htole32(RW));
	BAD(WC(MW_BIND_ERR), "an unknown right", wqe.access = htole32(1U << 30));
	BAD(WC(MW_BIND_ERR), "page size 2 KiB", wqe.page_shift = 11);
	BAD(WC(MW_BIND_ERR), "page size 2^255", wqe.page_shift = 255);
	BAD(WC(MW_BIND_ERR), "pages of 8 KiB at 16 KiB, after 8 KiB", wqe.page_shift = 15);
	BAD(WC(MW_BIND_ERR), "a misaligned list", wqe.list += htole64(8));
	BAD(WC(MW_BIND_ERR), "a list that is not RAM", wqe.list = htole64(1ULL << 60));
	BAD(WC(MW_BIND_ERR), "a list at the end of all addresses", wqe.list = htole64(~15ULL));
	BAD(WC(LOC_QP_OP_ERR), "a reserved byte", wqe.reserved[10] = 1);
	BAD(WC(LOC_QP_OP_ERR), "an SGE", wqe.ctrl.num_sge = 1);
	BAD(WC(LOC_QP_OP_ERR), "inline", wqe.ctrl.flags |= htole16(VIRTIO_RDMA_WQE_INLINE));

	f.list[1].length = 0;
	BAD(WC(MW_BIND_ERR), "an empty entry", wqe.length = htole64(8192));
	f.list[1].length = htole64(~0ULL);
	BAD(WC(MW_BIND_ERR), "an entry of 2^64 - 1 bytes", wqe.length = htole64(~0ULL));
	f.list[1].length = htole64(100);
	f.list[1].addr = htole64(b->g->base + b->g->cfg.mem_size - 50);
	BAD(WC(MW_BIND_ERR), "an entry that leaves RAM", wqe.page_shift = 0);
	f.list[1].addr = htole64(~0ULL - 50);
	BAD(WC(MW_BIND_ERR), "an entry that wraps", wqe.page_shift = 0);
	clear(&f);
	add(&f, 0, 8192);
	add(&f, 16384, 100);
	is(post_wqe(b, &good), 0, "the same without a fault");
	BAD(WC(MW_BIND_ERR), "a region that is valid", (void)0);
	is(inv(b, f.key), 0, "LOCAL_INV");
	is(inv(b, f.key), WC(MW_BIND_ERR), "LOCAL_INV of an invalid region");
	drop();
	fresh();
	is(inv(b, b->mr.lkey), WC(MW_BIND_ERR), "LOCAL_INV of an ordinary region");
	drop();
	fresh();
	is(write_to(&f, 0, 8), WC(REM_ACCESS_ERR), "nothing is valid");
	drop();

	/* Another PD, and a process. */
	fresh();
	if (guest_pd_alloc(&b->ctx, &pd) || guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEREG_MR, f.handle) ||
	    alloc_mr(b->g, pd, 4, &f.handle, &f.key))
		guest_fatal("ALLOC_MR");
	good = reg_wqe(&f, LW, 12);
	BAD(WC(MW_BIND_ERR), "a region of another PD", (void)0);
	fast_drop(&f);
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd), S(OK), "the PD goes");
	wqe = good;
	is(post_wqe(a, &wqe), WC(LOC_QP_OP_ERR), "REG_MR of a process");
	drop();
}

/* a sends @length bytes with invalidation of @key; returns b's status. */
static int send_inv(uint32_t key, uint32_t length, uint16_t flags, struct virtio_rdma_cqe *cqe)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND_WITH_INV, length);

	w.wr.imm = htole32(key);
	w.wr.flags |= flags;
	if (!length)
		w.wr.num_sge = 0;
	mem_post(a, &w);
	return mem_cqe(&b->rcq, cqe);
}

static void test_send_inv(void)
{
	struct fast f = fast_new(b, 4);
	struct virtio_rdma_cqe cqe;

	fresh();
	add(&f, 300000, 8192);
	is(reg(&f, LW | RW), 0, "REG_MR");
	mem_recv(b, 0, 4096);
	ok(!send_inv(f.key, 1000, 0, &cqe) && cqe.opcode == WC(RECV) &&
	   cqe.flags == VIRTIO_RDMA_CQE_INV && le32toh(cqe.inv_rkey) == f.key &&
	   le32toh(cqe.byte_len) == 1000, "SEND_WITH_INV: the receive has the key");
	is(mem_status(&a->scq), 0, "SEND_WITH_INV completes");
	ok(mem_has_pattern(b->buf, 1000, MEM_SEED_A), "its data");
	is(inv(b, f.key), WC(MW_BIND_ERR), "the region is invalid");
	drop();

	fresh();
	next_key(&f);
	is(reg(&f, LW | RR), 0, "REG_MR");
	mem_recv(b, 0, 0);
	ok(!send_inv(f.key, 0, 0, &cqe) && cqe.flags == VIRTIO_RDMA_CQE_INV &&
	   !mem_status(&a->scq), "SEND_WITH_INV of no bytes");
	next_key(&f);
	is(reg(&f, LW | RR), 0, "REG_MR");
	mem_recv(b, 0, MEM_BUF / 2);
	ok(!send_inv(f.key, MEM_BUF / 2, 0, &cqe) && !mem_status(&a->scq) &&
	   mem_has_pattern(b->buf, MEM_BUF / 2, MEM_SEED_A), "SEND_WITH_INV of many bytes");
	mem_recv(b, 0, 64);
	is(send_inv(f.key, 8, 0, &cqe), WC(REM_INV_REQ_ERR), "SEND_WITH_INV of an invalid key");
	is(mem_status(&a->scq), WC(REM_OP_ERR), "the requester");
	ok(mem_in_state(a, VIRTIO_RDMA_QPS_ERR) && mem_in_state(b, VIRTIO_RDMA_QPS_ERR), "both in ERR");
	drop();

	fresh();
	mem_recv(b, 0, 64);
	is(send_inv(b->mr.rkey, 8, 0, &cqe), WC(REM_INV_REQ_ERR), "of an ordinary region");
	drop();
	fresh();
	is(reg(&f, LW), 0, "REG_MR without remote rights");
	mem_recv(b, 0, 64);
	is(send_inv(f.key, 8, 0, &cqe), WC(REM_INV_REQ_ERR), "of a local key");
	drop();
	fresh();
	is(inv(b, f.key), 0, "it is still valid");
	is(reg(&f, LW | RW), 0, "REG_MR");
	/* The receive is too short: the key stays valid. */
	mem_recv(b, 0, 7);
	is(send_inv(f.key, 8, 0, &cqe), WC(LOC_LEN_ERR), "a receive that is too short");
	drop();
	fresh();
	is(inv(b, f.key), 0, "the region is still valid");
	drop();

	/* No receive: RNR, then it goes on. */
	fresh();
	is(reg(&f, LW | RW), 0, "REG_MR");
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND_WITH_INV, 100);
	w.wr.imm = htole32(f.key);
	mem_post(a, &w);
	usleep(2000);
	is(guest_stat_reaches(a->g, "rnr", 1, MEM_WAIT_MS), true, "it waits for a receive");
	mem_recv(b, 0, 100);
	ok(!mem_cqe(&b->rcq, &cqe) && cqe.flags == VIRTIO_RDMA_CQE_INV && !mem_status(&a->scq) &&
	   mem_has_pattern(b->buf, 100, MEM_SEED_A), "SEND_WITH_INV after a wait for the receive");
	drop();
	fast_drop(&f);
}

/* The memory table changes while a region is valid: its pieces are found at their new place. */
static void test_table(void)
{
	struct fast f = fast_new(b, 8);
	uint64_t half = b->g->cfg.mem_size / 2;
	struct vrd_mem_region m[2];
	struct vrd_error err;

	fresh();
	add(&f, 100, 100);
	add(&f, 8192, 8192);
	is(reg(&f, LW | RW), 0, "REG_MR");
	for (unsigned int i = 0; i < 2; i++)
		m[i] = (struct vrd_mem_region){
			.addr = b->g->base + i * half, .size = half, .fd = b->g->memfd,
			.fd_offset = i * half,
			.host = MEM_HOST_MAPPED ? b->g->mem + i * half : NULL,
		};
	is(vrd_device_set_mem_table(b->g->dev, m, 2, &err), 0, "another memory table");
	is(write_to(&f, 0, f.length), 0, "WRITE");
	ok(only_these(&f, 0, f.length), "the bytes are in their places");
	guest_set_memory(b->g);
	is(write_to(&f, 0, f.length), 0, "WRITE with the old table");
	drop();
	fast_drop(&f);
}

/* Elements that cross borders between regions of the memory table: a bounded number. */
static void test_borders(void)
{
	struct fast f = fast_new(b, 512);
	uint64_t start = guest_addr(b->g, b->buf) - b->g->base, end = start + MEM_BUF;
	uint64_t piece = MEM_BUF / 48;
	struct vrd_mem_region m[50];
	struct vrd_error err;

	for (unsigned int i = 0; i < 50; i++) {
		uint64_t from = i ? start + (i - 1) * piece : 0;
		uint64_t to = i < 49 ? start + i * piece : b->g->cfg.mem_size;

		m[i] = (struct vrd_mem_region){
			.addr = b->g->base + from, .size = to - from, .fd = b->g->memfd,
			.fd_offset = from, .host = MEM_HOST_MAPPED ? b->g->mem + from : NULL,
		};
	}
	ok(start + 48 * piece == end && piece % 4096 == 0, "48 regions");
	is(vrd_device_set_mem_table(b->g->dev, m, 50, &err), 0, "a table of many regions");
	fresh();
	add(&f, 1, 16 * piece + 100);
	is(reg(&f, LW | RW), 0, "REG_MR over 16 borders");
	is(write_to(&f, 0, f.length), 0, "WRITE");
	ok(only_these(&f, 0, f.length), "the bytes are in their places");
	is(inv(b, f.key), 0, "LOCAL_INV");
	clear(&f);
	add(&f, 1, 17 * piece + 100);
	is(reg(&f, LW | RW), WC(MW_BIND_ERR), "REG_MR over 17 borders");
	drop();
	guest_set_memory(b->g);
	fast_drop(&f);
}

/* ---- several pollers -------------------------------------------------------------- */

/*
 * "a" writes to the region all the time while "b" invalidates it: after the completion of
 * LOCAL_INV no byte changes.
 */
static void test_no_byte_after(unsigned int pollers)
{
	struct mem_wr w;
	struct fast f;
	bool good = true;
	unsigned int hits = 0;
	struct mem_end own;
	int status;

	mem_pair_open(&pair, pollers, 16 << 20);
	to_kernel(b);
	/* A WRITE that fails moves b's QP to ERR, so another one invalidates. */
	own = *b;
	mem_end_open(&own, &(struct guest_qp_init){ .type = VIRTIO_RDMA_QPT_RC }, 64);
	mem_attr_to(&own, b->g->gid, own.qp.qpn);
	if (mem_bring_up(&own, VIRTIO_RDMA_QPS_RTS))
		guest_fatal("no second QP");
	f = fast_new(&own, 4);
	add(&f, 0, MEM_BUF / 2);
	add(&f, MEM_BUF / 2 + 64, MEM_BUF / 2 - 64);
	for (unsigned int i = 0; i < 150 && good; i++) {
		fresh();
		next_key(&f);
		good = !reg(&f, LW | RW);
		w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, f.length);
		w.wr.remote_addr = IOVA;
		w.wr.rkey = f.key;
		w.wr.sge = &w.sge;
		for (unsigned int n = 0; n < 16; n++)
			guest_write_send(&a->qp, &w.wr);
		guest_ring_sq(&a->qp);
		for (volatile unsigned int n = i * 200; n; n--)
			;
		status = inv(&own, f.key);
		if (status) {
			diag("LOCAL_INV: %d", status);
			good = false;
		}
		mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
		for (volatile unsigned int n = 20000; n; n--)
			;
		if (!mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_B)) {
			diag("a byte changed");
			good = false;
		}
		/* The WRITEs succeed up to the invalidation. */
		for (unsigned int n = 0; n < 16; n++) {
			status = mem_status(&a->scq);
			if (status == WC(REM_ACCESS_ERR))
				hits++;
			if (status && status != WC(REM_ACCESS_ERR) && status != WC(WR_FLUSH_ERR)) {
				diag("status %d", status);
				good = false;
			}
		}
		drop();
	}
	ok(good, "%u pollers: no byte moves after LOCAL_INV", pollers);
	ok(hits > 20, "%u pollers: WRITEs were in progress (%u times)", pollers, hits);
	fast_drop(&f);
	mem_end_close(&own);
	mem_pair_close(&pair);
}

/* Registration and both kinds of invalidation, many times. */
static void test_cycles(unsigned int pollers)
{
	struct virtio_rdma_cqe cqe;
	bool good = true;
	struct fast f;

	mem_pair_open(&pair, pollers, 16 << 20);
	to_kernel(b);
	f = fast_new(b, 512);
	for (uint32_t i = 0; i < 512; i++)
		add(&f, 4096 + i * 64, 32);
	fresh();
	for (unsigned int i = 0; i < 1000 && good; i++) {
		next_key(&f);
		good = !reg(&f, LW | RW) && !write_to(&f, 0, 100);
		if (i % 2) {
			good = good && !inv(b, f.key);
			continue;
		}
		mem_recv(b, 0, 64);
		good = good && !send_inv(f.key, 8, 0, &cqe) && cqe.flags == VIRTIO_RDMA_CQE_INV &&
		       !mem_status(&a->scq);
	}
	ok(good, "%u pollers: 1000 registrations and invalidations", pollers);
	drop();
	fast_drop(&f);
	mem_pair_close(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 1, 16 << 20);
	to_kernel(b);
	test_alloc();
	test_gaps();
	test_local();
	test_inv();
	test_refused();
	test_send_inv();
	test_table();
	test_borders();
	mem_pair_close(&pair);
	for (unsigned int pollers = 1; pollers <= 3; pollers++) {
		test_cycles(pollers);
		test_no_byte_after(pollers);
	}
	return tap_done();
}
