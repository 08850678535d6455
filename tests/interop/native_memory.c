// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory regions on the host's device: what they may consist of.  See native.h. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native.h"

/* One WRITE of @length from a's region to b's, whatever their pages are. */
static int write_between(const struct guest_mr *from, const struct guest_mr *to, uint32_t length)
{
	struct guest_sge sge = { from->iova, length, from->lkey };
	struct guest_wr wr = {
		.opcode = W, .flags = SIGNALED, .num_sge = 1, .sge = &sge,
		.remote_addr = to->iova, .rkey = to->rkey,
	};
	struct virtio_rdma_cqe cqe;

	guest_post_send(&p.a.qp, &wr);
	return guest_poll_wait(&p.a.scq, &cqe, 60000) ? cqe.status : -1;
}

/* Every other page, in descending order: no two can be merged. */
static void scattered(void)
{
	const unsigned int num = 1000;
	const uint64_t length = (uint64_t)num * GUEST_PAGE;
	struct virtio_rdma_extent *x = calloc(num, sizeof(*x));
	uint8_t *mem = guest_alloc(p.b.g, 2 * length), *src = guest_alloc(p.a.g, length);
	struct guest_mr from, to;
	bool good = true;

	for (unsigned int i = 0; i < num; i++) {
		x[i].addr = htole64(guest_addr(p.b.g, mem + 2 * (num - 1 - i) * (uint64_t)GUEST_PAGE));
		x[i].pages = htole32(1);
	}
	is(guest_mr_reg(p.a.g, p.a.pd, src, length, MEM_ALL_ACCESS, &from), 0, "REG_MR, contiguous");
	is(guest_mr_reg_extents(p.b.g, p.b.pd, 0x7000000123000, length, MEM_ALL_ACCESS, x, num, &to),
	   0, "REG_MR of 1000 scattered pages, at an IOVA of the guest's");
	mem_pattern(src, length, 3);
	is(write_between(&from, &to, length), 0, "WRITE to all of it");
	for (unsigned int i = 0; i < num && good; i++)
		good = !memcmp(mem + 2 * (num - 1 - i) * (uint64_t)GUEST_PAGE,
			       src + (uint64_t)i * GUEST_PAGE, GUEST_PAGE);
	ok(good, "each page has its part");
	ok(!guest_mr_dereg(&to) && !guest_mr_dereg(&from), "DEREG_MR");
	/* Soft-RoCE flushes requests that fail locally. */
	is(write_between(&from, &to, 64), by_memory ? WC(LOC_PROT_ERR) : WC(WR_FLUSH_ERR),
	   "after which the keys do not work");
	guest_free(p.b.g, mem, 2 * length);
	guest_free(p.a.g, src, length);
	free(x);
}

/* More extents than one command holds: the last command returns the keys. */
static void chunked(void)
{
	enum { NUM = 6000, FIRST = 4000 };
	const uint64_t length = (uint64_t)NUM * GUEST_PAGE;
	struct {
		struct virtio_rdma_reg_mr_more_req req;
		struct virtio_rdma_extent x[NUM - FIRST];
	} *more = calloc(1, sizeof(*more));
	uint32_t bytes = sizeof(struct virtio_rdma_reg_mr_req) +
			 FIRST * sizeof(struct virtio_rdma_extent);
	struct virtio_rdma_reg_mr_req *req = calloc(1, bytes);
	uint8_t *mem = guest_alloc(p.b.g, 2 * length), *src = guest_alloc(p.a.g, length);
	struct virtio_rdma_reg_mr_rsp rsp;
	struct guest_mr from, to;
	bool good = true;

	for (unsigned int i = 0; i < NUM; i++) {
		struct virtio_rdma_extent *x = i < FIRST ? &req->extents[i] : &more->x[i - FIRST];

		x->addr = htole64(guest_addr(p.b.g, mem + 2 * i * (uint64_t)GUEST_PAGE));
		x->pages = htole32(1);
	}
	req->hdr.opcode = htole32(VIRTIO_RDMA_CMD_REG_MR);
	req->pd = htole32(p.b.pd);
	req->access = htole32(MEM_ALL_ACCESS);
	req->iova = htole64(0x10000);
	req->length = htole64(length);
	req->total_pages = htole64(NUM);
	req->num_extents = htole32(FIRST);
	is(guest_command_raw(p.b.g, req, bytes, &rsp, sizeof(rsp), NULL), 0, "REG_MR, first part");
	more->req.hdr.opcode = htole32(VIRTIO_RDMA_CMD_REG_MR_MORE);
	more->req.mr = rsp.mr;
	more->req.num_extents = htole32(NUM - FIRST);
	is(guest_command_raw(p.b.g, more, sizeof(*more), &rsp, sizeof(rsp), NULL), 0,
	   "REG_MR_MORE, the rest of 6000 pages");
	to = (struct guest_mr){
		.g = p.b.g, .handle = le32toh(rsp.mr), .rkey = le32toh(rsp.rkey), .iova = 0x10000,
	};
	if (guest_mr_reg(p.a.g, p.a.pd, src, length, MEM_ALL_ACCESS, &from))
		guest_fatal("no MR");
	mem_pattern(src, length, 4);
	is(write_between(&from, &to, length), 0, "WRITE with the keys of the last answer");
	for (unsigned int i = 0; i < NUM && good; i++)
		good = !memcmp(mem + 2 * i * (uint64_t)GUEST_PAGE, src + (uint64_t)i * GUEST_PAGE,
			       GUEST_PAGE);
	ok(good, "each page has its part");
	ok(!guest_mr_dereg(&to) && !guest_mr_dereg(&from), "DEREG_MR");
	guest_free(p.b.g, mem, 2 * length);
	guest_free(p.a.g, src, length);
	free(req);
	free(more);
}

static unsigned int count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned int lines = 0;
	int c;

	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

/* As many regions as a large MPI program has, of a few bytes each. */
static void many_small(void)
{
	enum { NUM = 1000 };
	struct guest_mr *mrs = calloc(NUM, sizeof(*mrs));
	uint8_t *mem = guest_alloc(p.a.g, NUM * 100);
	unsigned int before = count_maps(), made = 0;
	bool good = true;

	while (made < NUM && !guest_mr_reg(p.a.g, p.a.pd, mem + made * 100, 100, MEM_ALL_ACCESS,
					   &mrs[made]))
		made++;
	is(made, NUM, "1000 regions of 100 bytes");
	for (unsigned int i = 0; i < made; i++)
		good &= !guest_mr_dereg(&mrs[i]);
	ok(good && count_maps() <= before + 2, "all are deregistered, and no mapping is left");
	guest_free(p.a.g, mem, NUM * 100);
	free(mrs);
}

/* More pieces than the process may have mappings: refused, and everything else works. */
static void too_many_maps(void)
{
	enum { NUM = 4096, MAX = 40 };
	struct virtio_rdma_extent *x = calloc(NUM, sizeof(*x));
	struct guest_mr mrs[MAX], one;
	uint8_t *mem = guest_alloc(p.a.g, 2 * NUM * (uint64_t)GUEST_PAGE);
	unsigned int made = 0;
	uint32_t status = 0;

	for (unsigned int i = 0; i < NUM; i++) {
		x[i].addr = htole64(guest_addr(p.a.g, mem + 2 * i * (uint64_t)GUEST_PAGE));
		x[i].pages = htole32(1);
	}
	while (made < MAX) {
		status = guest_mr_reg_extents(p.a.g, p.a.pd, 0x100000, NUM * (uint64_t)GUEST_PAGE,
					      MEM_ALL_ACCESS, x, NUM, &mrs[made]);
		if (status)
			break;
		made++;
	}
	ok(made >= 5 && made < MAX && status == VIRTIO_RDMA_S_NOMEM,
	   "regions of 4096 pieces are refused when the mappings are used up (after %u)", made);
	is(guest_mr_reg(p.a.g, p.a.pd, mem, 4096, MEM_ALL_ACCESS, &one), 0, "others are not");
	is(guest_mr_dereg(&one), 0, "DEREG_MR");
	while (made)
		guest_mr_dereg(&mrs[--made]);
	is(guest_mr_reg_extents(p.a.g, p.a.pd, 0x100000, NUM * (uint64_t)GUEST_PAGE,
				MEM_ALL_ACCESS, x, NUM, &one), 0, "nor are they when there is room");
	guest_mr_dereg(&one);
	guest_free(p.a.g, mem, 2 * NUM * (uint64_t)GUEST_PAGE);
	free(x);
}

/* The region's memory leaves the table: the old keys must not reach it. */
static void table_changes(void)
{
	struct vrd_mem_region region = {
		.addr = p.b.g->base, .size = p.b.g->cfg.mem_size, .fd = p.b.g->memfd,
	};
	uint8_t *mem = p.b.g->mem + p.b.g->cfg.mem_size - 8 * GUEST_PAGE;
	struct vrd_error err;
	struct guest_mr mr;

	is(guest_mr_reg(p.b.g, p.b.pd, mem, 4 * GUEST_PAGE, MEM_ALL_ACCESS, &mr), 0, "REG_MR");
	is(vrd_device_set_mem_table(p.b.g->dev, &region, 1, &err), 0, "the same table again");
	is(write_between(&p.a.mr, &mr, 4096), 0, "the region is there still");
	region.size -= 16 * GUEST_PAGE;
	is(vrd_device_set_mem_table(p.b.g->dev, &region, 1, &err), 0, "a table without its memory");
	memset(mem, 0x77, 4096);
	is(write_between(&p.a.mr, &mr, 4096), WC(REM_ACCESS_ERR), "its key does not work any more");
	ok(mem[0] == 0x77 && mem[4095] == 0x77, "and no byte was written");
	is(guest_mr_dereg(&mr), 0, "DEREG_MR");
	guest_set_memory(p.b.g);
}

/* RAM without share=on in QEMU: there is no file to map a second time. */
static void not_shared(void)
{
	struct guest_config cfg = {
		.name = "private", .id = 9, .ibdev = ibdev, .host_mapped = true, .no_fd = true,
		.no_init = true,
	};
	struct guest *g;
	struct guest_ctx ctx;
	struct guest_mr mr;
	uint32_t pd;

	g = guest_create(p.engine, &cfg);
	if (guest_init(g) || guest_ctx_create(g, 0, &ctx) || guest_pd_alloc(&ctx, &pd))
		guest_fatal("no PD");
	is(guest_mr_reg(g, pd, guest_alloc(g, 4096), 4096, MEM_ALL_ACCESS, &mr),
	   VIRTIO_RDMA_S_UNSUPPORTED, "memory without a file is refused");
	guest_destroy(g);
}

void test_memory(void)
{
	fresh();
	scattered();
	drop();
	fresh();
	chunked();
	many_small();
	too_many_maps();
	table_changes();
	drop();
	not_shared();
}
