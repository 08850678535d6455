// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver's answers to requests that its provider would never make: sent by write() to
 * the uverbs device, as any process may.  Each differs from a valid request in one field;
 * the valid one works before and after all of them.  Prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio_rdma-abi.h"

#define PAGE		4096
#define BUF_LEN		(4 * PAGE)
#define NO_PAGE		0x10000		/* nothing is mapped there */
#define ANY		(-1)		/* refused, with any errno */

static int fd;
static unsigned int tests, failures;
static uint8_t *buf;

static void result(bool good, const char *what, const char *why)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++tests, what);
	if (!good)
		printf("# %s\n", why);
	failures += !good;
}

/*
 * One command: @core, then the driver's part @drv; the answer of @resp_len bytes goes to
 * @resp, whose address is in @core.  Returns 0 or an errno.
 */
static int command(uint32_t cmd, const void *core, size_t core_len, const void *drv,
		   size_t drv_len, size_t resp_len)
{
	uint8_t message[512];
	struct ib_uverbs_cmd_hdr *hdr = (void *)message;
	size_t len = sizeof(*hdr) + core_len + drv_len;

	if (len > sizeof(message) || len % 4 || resp_len % 4)
		abort();
	*hdr = (struct ib_uverbs_cmd_hdr){
		.command = cmd, .in_words = len / 4, .out_words = resp_len / 4,
	};
	memcpy(message + sizeof(*hdr), core, core_len);
	memcpy(message + sizeof(*hdr) + core_len, drv, drv_len);
	return write(fd, message, len) == (ssize_t)len ? 0 : errno;
}

static void destroy(uint32_t cmd, uint32_t handle)
{
	/* The three destroy commands have a common layout. */
	struct { struct ib_uverbs_destroy_qp_resp resp; uint8_t pad[64]; } answer;
	struct ib_uverbs_destroy_qp core = {
		.response = (uintptr_t)&answer, .qp_handle = handle,
	};
	size_t len = cmd == IB_USER_VERBS_CMD_DESTROY_CQ ?
			sizeof(struct ib_uverbs_destroy_cq_resp) :
			sizeof(struct ib_uverbs_destroy_qp_resp);

	if (command(cmd, &core, sizeof(core), NULL, 0, len))
		perror("# destroy");
}

/* ---- one field of a request ------------------------------------------------------- */

struct change {
	const char *what;
	size_t offset, size;
	uint64_t value;
	int expected;		/* errno, 0 or ANY */
};

#define SET(type, member, val, err)							\
	{ #type ": " #member " = " #val, offsetof(struct virtio_rdma_##type, member),	\
	  sizeof(((struct virtio_rdma_##type *)0)->member), val, err }

static void change_field(void *request, const struct change *change)
{
	/* Little-endian, as all machines of this test are. */
	memcpy((uint8_t *)request + change->offset, &change->value, change->size);
}

struct kind {
	const char *name;
	size_t len;			/* of the driver's part */
	const void *good;
	int (*create)(const void *request, size_t len, uint32_t *handle);
	uint32_t destroy;
	const struct change *changes;
	size_t num;
};

static void try_request(const struct kind *kind, const void *request, size_t len, int expected,
			const char *what)
{
	uint32_t handle;
	int ret = kind->create(request, len, &handle);
	char why[100];

	snprintf(why, sizeof(why), "answer: %s", ret ? strerror(ret) : "done");
	result(expected == ANY ? ret != 0 : ret == expected, what, why);
	if (!ret)
		destroy(kind->destroy, handle);
}

static void try_all(const struct kind *kind)
{
	uint8_t request[128] = { 0 };
	char what[100];

	memcpy(request, kind->good, kind->len);
#define TRY(len, expected, text) do {							\
	snprintf(what, sizeof(what), "%s: %s", kind->name, text);			\
	try_request(kind, request, len, expected, what);				\
} while (0)
	TRY(kind->len, 0, "a good request");
	TRY(0, EINVAL, "without the driver's part");
	TRY(kind->len - 8, EINVAL, "too short");
	TRY(kind->len + 16, 0, "longer, with zeroes");
	request[kind->len + 12] = 1;
	TRY(kind->len + 16, EOPNOTSUPP, "longer, and not zero");
	for (size_t i = 0; i < kind->num; i++) {
		memcpy(request, kind->good, kind->len);
		change_field(request, &kind->changes[i]);
		try_request(kind, request, kind->len, kind->changes[i].expected,
			    kind->changes[i].what);
	}
	memcpy(request, kind->good, kind->len);
	TRY(kind->len, 0, "the good request again");
}

/* ---- the kinds --------------------------------------------------------------------- */

static uint32_t pd, cq;

static int create_cq(const void *request, size_t len, uint32_t *handle)
{
	struct { struct ib_uverbs_create_cq_resp core; struct virtio_rdma_create_cq_resp drv; } resp;
	struct ib_uverbs_create_cq core = {
		.response = (uintptr_t)&resp, .cqe = 63, .comp_channel = -1,
	};
	int ret = command(IB_USER_VERBS_CMD_CREATE_CQ, &core, sizeof(core), request, len,
			  sizeof(resp));

	*handle = resp.core.cq_handle;
	return ret;
}

static const struct change cq_changes[] = {
	SET(create_cq, comp_mask, 1, EOPNOTSUPP),
	SET(create_cq, reserved, 1, EINVAL),
	SET(create_cq, cqe_size, 64, EINVAL),
	SET(create_cq, entries, 0, EINVAL),
	SET(create_cq, entries, 32, EINVAL),
	SET(create_cq, entries, 96, EINVAL),
	SET(create_cq, entries, 0x80000000, EINVAL),
	SET(create_cq, ring_offset, 32, EINVAL),
	SET(create_cq, ring_offset, BUF_LEN, EINVAL),
	SET(create_cq, ring_offset, 0xfffff000, EINVAL),
	SET(create_cq, ctrl_offset, 2 * PAGE + 64, EINVAL),
	SET(create_cq, ctrl_offset, BUF_LEN, EINVAL),
	SET(create_cq, ctrl_offset, 0xffffff80, EINVAL),
	SET(create_cq, buf_len, 0, EINVAL),
	SET(create_cq, buf_len, PAGE + 1, EINVAL),
	SET(create_cq, buf_len, 1ULL << 63, ANY),
	SET(create_cq, buf_len, ~(uint64_t)(PAGE - 1), ANY),
	SET(create_cq, buf_addr, NO_PAGE + 8, EINVAL),
	SET(create_cq, buf_addr, NO_PAGE, EFAULT),
	SET(create_cq, buf_addr, ~(uint64_t)(PAGE - 1), ANY),
};

static int create_qp(const void *request, size_t len, uint32_t *handle)
{
	struct { struct ib_uverbs_create_qp_resp core; struct virtio_rdma_create_qp_resp drv; } resp;
	struct ib_uverbs_create_qp core = {
		.response = (uintptr_t)&resp, .pd_handle = pd, .send_cq_handle = cq,
		.recv_cq_handle = cq, .max_send_wr = 16, .max_recv_wr = 16, .max_send_sge = 1,
		.max_recv_sge = 1, .qp_type = IBV_QPT_RC,
	};
	int ret = command(IB_USER_VERBS_CMD_CREATE_QP, &core, sizeof(core), request, len,
			  sizeof(resp));

	*handle = resp.core.qp_handle;
	return ret;
}

static const struct change qp_changes[] = {
	SET(create_qp, comp_mask, 1, EOPNOTSUPP),
	SET(create_qp, reserved[0], 1, EINVAL),
	SET(create_qp, reserved[1], 0x80, EINVAL),
	SET(create_qp, sq_entries, 8, EINVAL),
	SET(create_qp, sq_entries, 24, EINVAL),
	SET(create_qp, sq_entries, 0x80000000, EINVAL),
	SET(create_qp, rq_entries, 0, EINVAL),
	SET(create_qp, rq_entries, 24, EINVAL),
	SET(create_qp, rq_entries, 0xffffffff, EINVAL),
	SET(create_qp, sq_stride_shift, 255, EINVAL),
	SET(create_qp, rq_stride_shift, 31, EINVAL),
	SET(create_qp, sq_offset, 64, EINVAL),
	SET(create_qp, sq_offset, BUF_LEN, EINVAL),
	SET(create_qp, rq_offset, 0xfffff000, EINVAL),
	SET(create_qp, sq_ctrl_offset, 2 * PAGE + 4, EINVAL),
	SET(create_qp, sq_ctrl_offset, BUF_LEN, EINVAL),
	SET(create_qp, rq_ctrl_offset, 0xffffff80, EINVAL),
	SET(create_qp, buf_len, 0, EINVAL),
	SET(create_qp, buf_len, BUF_LEN - 8, EINVAL),
	SET(create_qp, buf_len, 1ULL << 63, ANY),
	SET(create_qp, buf_addr, NO_PAGE + 8, EINVAL),
	SET(create_qp, buf_addr, NO_PAGE, EFAULT),
};

static int create_srq(const void *request, size_t len, uint32_t *handle)
{
	struct { struct ib_uverbs_create_srq_resp core; struct virtio_rdma_create_srq_resp drv; } resp;
	struct ib_uverbs_create_srq core = {
		.response = (uintptr_t)&resp, .pd_handle = pd, .max_wr = 16, .max_sge = 1,
	};
	int ret = command(IB_USER_VERBS_CMD_CREATE_SRQ, &core, sizeof(core), request, len,
			  sizeof(resp));

	*handle = resp.core.srq_handle;
	return ret;
}

static const struct change srq_changes[] = {
	SET(create_srq, comp_mask, 1, EOPNOTSUPP),
	SET(create_srq, reserved, 1, EINVAL),
	SET(create_srq, reserved0[2], 1, EINVAL),
	SET(create_srq, entries, 0, EINVAL),
	SET(create_srq, entries, 24, EINVAL),
	SET(create_srq, entries, 0x80000000, EINVAL),
	SET(create_srq, stride_shift, 64, EINVAL),
	SET(create_srq, ring_offset, 32, EINVAL),
	SET(create_srq, ring_offset, BUF_LEN, EINVAL),
	SET(create_srq, ctrl_offset, 0xffffff80, EINVAL),
	SET(create_srq, buf_len, 0, EINVAL),
	SET(create_srq, buf_len, 1ULL << 63, ANY),
	SET(create_srq, buf_addr, NO_PAGE + 8, EINVAL),
	SET(create_srq, buf_addr, NO_PAGE, EFAULT),
};

/* ---- mmap() ------------------------------------------------------------------------- */

static int try_map(size_t len, int prot, int flags, uint64_t offset)
{
	void *p = mmap(NULL, len, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return errno;
	munmap(p, len);
	return 0;
}

/* The doorbell page is at @offset, @len bytes. */
static void try_maps(uint64_t offset, size_t len)
{
	const int rw = PROT_READ | PROT_WRITE;

	result(!try_map(len, rw, MAP_SHARED, offset), "mmap: the doorbell page", "refused");
	result(try_map(len + PAGE, rw, MAP_SHARED, offset), "mmap: a page more", "allowed");
	result(try_map(len, rw, MAP_PRIVATE, offset), "mmap: private", "allowed");
	for (unsigned int i = 1; i < 64; i++)
		if (!try_map(len, rw, MAP_SHARED, offset + i * (uint64_t)PAGE)) {
			result(false, "mmap: nothing else", "an offset that was not given");
			return;
		}
	result(true, "mmap: nothing else", NULL);
}

/* ---- commands that have no part for the driver ----------------------------------------- */

static uint32_t mr, qp, srq, ah;

static int call_get_context(const void *extra, size_t len)
{
	struct { struct ib_uverbs_get_context_resp core; struct virtio_rdma_alloc_ucontext_resp drv; } resp;
	struct ib_uverbs_get_context core = { .response = (uintptr_t)&resp };
	int ret, kept = fd;

	/* A descriptor gets one context. */
	fd = open("/dev/infiniband/uverbs0", O_RDWR | O_CLOEXEC);
	ret = fd < 0 ? errno : command(IB_USER_VERBS_CMD_GET_CONTEXT, &core, sizeof(core), extra, len,
				       sizeof(resp));
	close(fd);
	fd = kept;
	return ret;
}

static int call_alloc_pd(const void *extra, size_t len)
{
	struct { struct ib_uverbs_alloc_pd_resp core; struct virtio_rdma_alloc_pd_resp drv; } resp;
	struct ib_uverbs_alloc_pd core = { .response = (uintptr_t)&resp };

	return command(IB_USER_VERBS_CMD_ALLOC_PD, &core, sizeof(core), extra, len, sizeof(resp));
}

static int call_reg_mr(const void *extra, size_t len)
{
	struct ib_uverbs_reg_mr_resp resp;
	struct ib_uverbs_reg_mr core = {
		.response = (uintptr_t)&resp, .start = (uintptr_t)buf, .length = BUF_LEN,
		.hca_va = (uintptr_t)buf, .pd_handle = pd, .access_flags = IBV_ACCESS_LOCAL_WRITE,
	};
	int ret = command(IB_USER_VERBS_CMD_REG_MR, &core, sizeof(core), extra, len, sizeof(resp));

	mr = resp.mr_handle;
	return ret;
}

static int call_dereg_mr(const void *extra, size_t len)
{
	struct ib_uverbs_dereg_mr core = { .mr_handle = mr };
	int ret = command(IB_USER_VERBS_CMD_DEREG_MR, &core, sizeof(core), extra, len, 0);

	return ret ? ret : call_reg_mr(NULL, 0);
}

/* The port's first GID: a destination that can be resolved. */
static void own_gid(uint8_t gid[16])
{
	FILE *f = fopen("/sys/class/infiniband/vrdma0/ports/1/gids/0", "r");
	unsigned int word[8], i;

	if (!f || fscanf(f, "%x:%x:%x:%x:%x:%x:%x:%x", &word[0], &word[1], &word[2], &word[3],
			 &word[4], &word[5], &word[6], &word[7]) != 8)
		abort();
	fclose(f);
	for (i = 0; i < 16; i++)
		gid[i] = word[i / 2] >> (i % 2 ? 0 : 8);
}

static int call_create_ah(const void *extra, size_t len)
{
	struct { struct ib_uverbs_create_ah_resp core; struct virtio_rdma_create_ah_resp drv; } resp;
	struct ib_uverbs_create_ah core = {
		.response = (uintptr_t)&resp, .pd_handle = pd,
		.attr = { .is_global = 1, .port_num = 1, .grh.hop_limit = 64 },
	};
	int ret;

	own_gid(core.attr.grh.dgid);
	ret = command(IB_USER_VERBS_CMD_CREATE_AH, &core, sizeof(core), extra, len, sizeof(resp));
	ah = resp.core.ah_handle;
	return ret;
}

static int call_modify_qp(const void *extra, size_t len)
{
	struct ib_uverbs_modify_qp core = {
		.qp_handle = qp, .port_num = 1, .qp_state = IBV_QPS_INIT,
		.attr_mask = IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX | IBV_QP_ACCESS_FLAGS,
	};

	return command(IB_USER_VERBS_CMD_MODIFY_QP, &core, sizeof(core), extra, len, 0);
}

static int call_modify_srq(const void *extra, size_t len)
{
	struct ib_uverbs_modify_srq core = {
		.srq_handle = srq, .attr_mask = IBV_SRQ_LIMIT, .srq_limit = 1,
	};

	return command(IB_USER_VERBS_CMD_MODIFY_SRQ, &core, sizeof(core), extra, len, 0);
}

static void try_plain(const char *name, int (*call)(const void *extra, size_t len))
{
	uint8_t extra[16] = { 0 };
	char what[100];

	snprintf(what, sizeof(what), "%s: alone, then with zeroes behind it", name);
	result(!call(NULL, 0) && !call(extra, sizeof(extra)), what, strerror(errno));
	extra[11] = 1;
	snprintf(what, sizeof(what), "%s: with something unknown behind it", name);
	result(call(extra, sizeof(extra)) == EOPNOTSUPP, what, "not EOPNOTSUPP");
	snprintf(what, sizeof(what), "%s: alone again", name);
	result(!call(NULL, 0), what, strerror(errno));
}

static void try_all_plain(const struct virtio_rdma_create_qp *good_qp,
			  const struct virtio_rdma_create_srq *good_srq)
{
	if (create_qp(good_qp, sizeof(*good_qp), &qp) || create_srq(good_srq, sizeof(*good_srq), &srq))
		abort();
	try_plain("get_context", call_get_context);
	try_plain("alloc_pd", call_alloc_pd);
	try_plain("reg_mr", call_reg_mr);
	try_plain("dereg_mr", call_dereg_mr);
	try_plain("create_ah", call_create_ah);
	try_plain("modify_qp", call_modify_qp);
	try_plain("modify_srq", call_modify_srq);
}

/* The status page is one for all processes: nobody may write to it. */
static void try_status(uint64_t offset, size_t len)
{
	const int rw = PROT_READ | PROT_WRITE;
	volatile const struct virtio_rdma_status_page *page;

	page = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, offset);
	result(page != MAP_FAILED, "mmap: the status page", "refused");
	if (page == MAP_FAILED)
		return;
	result(page->alive == 1, "the device is alive", "it is not");
	result(mprotect((void *)page, len, rw), "mprotect: the status page, to write", "allowed");
	munmap((void *)page, len);
	result(try_map(len, rw, MAP_SHARED, offset), "mmap: the status page, to write", "allowed");
	result(try_map(len, PROT_READ, MAP_PRIVATE, offset), "mmap: the status page, private",
	       "allowed");
	result(try_map(len + PAGE, PROT_READ, MAP_SHARED, offset), "mmap: a status page more",
	       "allowed");
}

/* ---- all ------------------------------------------------------------------------------ */

static void open_context(const char *path)
{
	struct { struct ib_uverbs_get_context_resp core; struct virtio_rdma_alloc_ucontext_resp drv; } resp;
	struct ib_uverbs_get_context core = { .response = (uintptr_t)&resp };
	struct { struct ib_uverbs_alloc_pd_resp core; struct virtio_rdma_alloc_pd_resp drv; } pd_resp;
	struct ib_uverbs_alloc_pd pd_core = { .response = (uintptr_t)&pd_resp };

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || command(IB_USER_VERBS_CMD_GET_CONTEXT, &core, sizeof(core), NULL, 0, sizeof(resp)) ||
	    command(IB_USER_VERBS_CMD_ALLOC_PD, &pd_core, sizeof(pd_core), NULL, 0, sizeof(pd_resp))) {
		printf("1..0\nBail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	pd = pd_resp.core.pd_handle;
	try_maps(resp.drv.db_mmap_offset, resp.drv.db_mmap_size);
	try_status(resp.drv.status_mmap_offset, resp.drv.status_mmap_size);
}

int main(void)
{
	struct virtio_rdma_create_cq good_cq;
	struct virtio_rdma_create_qp good_qp;
	struct virtio_rdma_create_srq good_srq;

	buf = mmap(NULL, BUF_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		abort();
	open_context("/dev/infiniband/uverbs0");

	good_cq = (struct virtio_rdma_create_cq){
		.buf_addr = (uintptr_t)buf, .buf_len = BUF_LEN, .entries = 64, .cqe_size = 32,
		.ctrl_offset = 2 * PAGE,
	};
	try_all(&(struct kind){ "create_cq", sizeof(good_cq), &good_cq, create_cq,
				IB_USER_VERBS_CMD_DESTROY_CQ, cq_changes,
				sizeof(cq_changes) / sizeof(cq_changes[0]) });

	if (create_cq(&good_cq, sizeof(good_cq), &cq))
		abort();
	good_qp = (struct virtio_rdma_create_qp){
		.buf_addr = (uintptr_t)buf, .buf_len = BUF_LEN, .sq_entries = 16, .rq_entries = 16,
		.rq_offset = PAGE, .sq_ctrl_offset = 2 * PAGE, .rq_ctrl_offset = 2 * PAGE + 128,
	};
	try_all(&(struct kind){ "create_qp", sizeof(good_qp), &good_qp, create_qp,
				IB_USER_VERBS_CMD_DESTROY_QP, qp_changes,
				sizeof(qp_changes) / sizeof(qp_changes[0]) });

	good_srq = (struct virtio_rdma_create_srq){
		.buf_addr = (uintptr_t)buf, .buf_len = BUF_LEN, .entries = 16, .ctrl_offset = PAGE,
	};
	try_all(&(struct kind){ "create_srq", sizeof(good_srq), &good_srq, create_srq,
				IB_USER_VERBS_CMD_DESTROY_SRQ, srq_changes,
				sizeof(srq_changes) / sizeof(srq_changes[0]) });
	try_all_plain(&good_qp, &good_srq);
	close(fd);
	printf("1..%u\n", tests);
	return failures != 0;
}
