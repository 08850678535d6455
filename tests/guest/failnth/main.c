// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes each kernel allocation and user copy below each verb fail, one at a time.  Runs in a
 * guest whose kernel has fail-nth (uml-debug); prints TAP.
 *
 * The kernel's verbs are those of tests/kverbs (parameter "cycle"), which has to be loaded:
 * one life of a PD, a DMA MR, a CQ and two QPs.
 *
 * A verb is repeated with the first, second, ... fault injected, until it ends without
 * meeting one.  A verb that fails must return an error, and must work right after that; a
 * destroy verb must not lose the object when it fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FAULTS	2000
#define MR_MAX		(8 << 20)
#define GID_INDEX	1

#define COUNTERS	"/sys/class/infiniband/vrdma0/hw_counters/"
#define CYCLE		"/sys/module/vrdma_kverbs/parameters/cycle"

static struct {
	struct ibv_device **list;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp, *other;
	struct ibv_srq *srq;
	struct ibv_ah *ah;
	struct ibv_mr *mr;
	union ibv_gid gid;
	char *memory;
	size_t mr_size;
	enum ibv_qp_type qp_type;
	int to;		/* index of the step of modify_qp under test */
} s;

static int fault_fd;

static void fault_set(int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	/* The first write may meet the rest of the last injection. */
	if (pwrite(fault_fd, text, len, 0) != len && pwrite(fault_fd, text, len, 0) != len) {
		perror("Bail out! fail-nth");
		exit(1);
	}
}

/* Ends the injection; returns whether the fault was met. */
static bool fault_met(void)
{
	char text[16] = "";

	/* The read may meet the fault instead: then there is one round more. */
	while (pread(fault_fd, text, sizeof(text) - 1, 0) <= 0)
		;
	fault_set(0);
	return atoi(text) == 0;
}

/* ---- verbs: 0, or an errno ------------------------------------------------ */

#define RESULT(pointer)	((pointer) ? 0 : errno ? errno : -1)

static int open_device(void) { s.ctx = ibv_open_device(s.list[0]); return RESULT(s.ctx); }
static int close_device(void) { return ibv_close_device(s.ctx); }
static int alloc_pd(void) { s.pd = ibv_alloc_pd(s.ctx); return RESULT(s.pd); }
static int dealloc_pd(void) { return ibv_dealloc_pd(s.pd); }

static int create_channel(void)
{
	s.channel = ibv_create_comp_channel(s.ctx);
	return RESULT(s.channel);
}

static int destroy_channel(void) { return ibv_destroy_comp_channel(s.channel); }

static int reg_mr(void)
{
	s.mr = ibv_reg_mr(s.pd, s.memory, s.mr_size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	return RESULT(s.mr);
}

static int dereg_mr(void) { return ibv_dereg_mr(s.mr); }
static int create_cq(void) { s.cq = ibv_create_cq(s.ctx, 300, NULL, s.channel, 0); return RESULT(s.cq); }
static int destroy_cq(void) { return ibv_destroy_cq(s.cq); }
static int resize_cq(void) { return ibv_resize_cq(s.cq, 3000); }
static int resize_back(void) { return ibv_resize_cq(s.cq, 300); }

static int create_qp(void)
{
	struct ibv_qp_init_attr init = {
		.send_cq = s.cq, .recv_cq = s.cq, .srq = s.srq, .qp_type = s.qp_type,
		.cap = { .max_send_wr = 500, .max_recv_wr = 500, .max_send_sge = 2, .max_recv_sge = 2 },
	};

	s.qp = ibv_create_qp(s.pd, &init);
	return RESULT(s.qp);
}

static int destroy_qp(void) { return ibv_destroy_qp(s.qp); }

static int query_device(void)
{
	struct ibv_device_attr_ex attr;

	return ibv_query_device_ex(s.ctx, NULL, &attr);
}

static int query_port(void)
{
	struct ibv_port_attr attr;

	return ibv_query_port(s.ctx, 1, &attr);
}

static int query_qp(void)
{
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;

	return ibv_query_qp(s.qp, &attr, IBV_QP_STATE, &init);
}

static void ah_attr_set(struct ibv_ah_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->is_global = 1;
	attr->port_num = 1;
	attr->grh.dgid = s.gid;
	attr->grh.sgid_index = GID_INDEX;
	attr->grh.hop_limit = 64;
}

static int create_ah(void)
{
	struct ibv_ah_attr attr;

	ah_attr_set(&attr);
	s.ah = ibv_create_ah(s.pd, &attr);
	return RESULT(s.ah);
}

static int destroy_ah(void) { return ibv_destroy_ah(s.ah); }

static int create_srq(void)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 500, .max_sge = 2 } };

	s.srq = ibv_create_srq(s.pd, &init);
	return RESULT(s.srq);
}

static int destroy_srq(void)
{
	int ret = ibv_destroy_srq(s.srq);

	if (!ret)
		s.srq = NULL;
	return ret;
}

static int modify_srq(void)
{
	struct ibv_srq_attr attr = { .srq_limit = 0 };

	return ibv_modify_srq(s.srq, &attr, IBV_SRQ_LIMIT);
}

static int query_srq(void)
{
	struct ibv_srq_attr attr;

	return ibv_query_srq(s.srq, &attr);
}

static int to_reset(void)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };

	return ibv_modify_qp(s.qp, &attr, IBV_QP_STATE);
}

/* RESET to INIT, RTR, RTS: connected to itself. */
static int modify_one(int step)
{
	struct ibv_qp_attr attr = { .port_num = 1, .path_mtu = IBV_MTU_1024, .dest_qp_num = s.qp->qp_num,
				    .timeout = 14, .retry_cnt = 7, .rnr_retry = 7 };

	ah_attr_set(&attr.ah_attr);
	switch (step) {
	case 0:
		attr.qp_state = IBV_QPS_INIT;
		attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
		return ibv_modify_qp(s.qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				     IBV_QP_ACCESS_FLAGS);
	case 1:
		attr.qp_state = IBV_QPS_RTR;
		return ibv_modify_qp(s.qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
	default:
		attr.qp_state = IBV_QPS_RTS;
		return ibv_modify_qp(s.qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	}
}

static int modify_qp(void) { return modify_one(s.to); }

/* Back to the state in which modify_qp() starts. */
static int modify_back(void)
{
	int ret = to_reset();

	for (int i = 0; !ret && i < s.to; i++)
		ret = modify_one(i);
	return ret;
}

/* ---- what has no verb --------------------------------------------------- */

/* In one failing system call, or not at all. */
static int write_file(int fd, const char *text)
{
	return pwrite(fd, text, strlen(text), 0) < 0 ? errno : 0;
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

/* Each read asks the device. */
static int read_counter(void)
{
	char text[32];
	int ret = 0, fd = open(COUNTERS "commands", O_RDONLY);

	if (fd < 0)
		return errno;
	if (read(fd, text, sizeof(text)) <= 0)
		ret = errno ? errno : -1;
	close(fd);
	return ret;
}

/*
 * A post to a sleeping device, so that the provider has to wake it by a system call: the
 * call's failure does not reach the caller, and the work completes.
 */
static int doorbell(void)
{
	struct ibv_send_wr *bad, wr = { .opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED };
	struct ibv_wc wc;
	int ret, i;

	usleep(50000);
	ret = ibv_post_send(s.qp, &wr, &bad);
	for (i = 0; !ret && i < 2000; i++) {
		if (ibv_poll_cq(s.cq, 1, &wc) == 1)
			return wc.status == IBV_WC_SUCCESS ? 0 : EIO;
		usleep(1000);
	}
	return ret ? ret : ETIMEDOUT;
}

static int cycle_fd;

static int kernel_cycle(void) { return write_file(cycle_fd, "1"); }
static int nothing(void) { return 0; }

/* ---- the sweep ------------------------------------------------------------ */

static int number, failures;

static void report(const char *name, const char *problem, int faults, int refused)
{
	number++;
	failures += problem != NULL;
	printf("%s %d - %s: %d faults, %d of them refused\n", problem ? "not ok" : "ok", number, name,
	       faults, refused);
	if (problem)
		printf("# %s\n", problem);
	fflush(stdout);
}

/*
 * Errors that an injected fault may cause.  ibv_open_device() also fails where it cannot
 * read sysfs, with another message.
 */
static bool clean(int error)
{
	return error == ENOMEM || error == EFAULT || error == EAGAIN || error == EINTR ||
	       error == ENOBUFS;
}

/* @done creates the object, @undone destroys it; each fault in @done. */
static int sweep(const char *name, int (*done)(void), int (*undone)(void), bool any_error)
{
	char problem[160] = "";
	int nth, ret, refused = 0;
	bool met = true;

	for (nth = 1; met && nth < MAX_FAULTS && !*problem; nth++) {
		errno = 0;
		fault_set(nth);
		ret = done();
		met = fault_met();
		refused += ret != 0;
		if (ret && !met)
			snprintf(problem, sizeof(problem), "fails without a fault: %s", strerror(ret));
		else if (ret && !clean(ret) && !(any_error && ret > 0))
			snprintf(problem, sizeof(problem), "fault %d: errno %d (%s)", nth, ret, strerror(ret));
		if (ret && !*problem) {
			int why = ret;

			ret = done();
			/* The core reports a destroyed object's events to a file that is gone. */
			if (ret == ENOENT && why == EFAULT)
				ret = 0;
			if (ret)
				snprintf(problem, sizeof(problem), "does not work after fault %d: %s", nth,
					 strerror(ret));
		}
		if (!ret) {
			ret = undone();
			if (ret && !*problem)
				snprintf(problem, sizeof(problem), "cannot be undone after fault %d: %s", nth,
					 strerror(ret));
		}
	}
	if (met && !*problem)
		snprintf(problem, sizeof(problem), "no end after %d faults", nth);
	report(name, *problem ? problem : NULL, nth - 2, refused);
	return nth - 2;
}

/* For verbs that are known to allocate: if no fault was met, nothing was tested. */
static void sweep_some(const char *name, int (*done)(void), int (*undone)(void), bool any_error)
{
	if (sweep(name, done, undone, any_error) < 1)
		report(name, "no fault was met", 0, 0);
}

static void must(const char *name, int (*verb)(void))
{
	int ret = verb();

	if (!ret)
		return;
	printf("Bail out! %s: %s\n", name, strerror(ret));
	exit(1);
}

#define BOTH(brings, takes) do {				\
	sweep(#brings, brings, takes, false);			\
	must(#brings, brings);					\
	sweep_taking(#takes, takes, brings);			\
} while (0)

/* The object exists before and after; each fault in @takes. */
static void sweep_taking(const char *name, int (*takes)(void), int (*brings)(void))
{
	sweep(name, takes, brings, false);
}

static void sweep_doorbell(void)
{
	s.to = 3;
	must("modify_qp", modify_back);
	sweep_some("a post that wakes the device", doorbell, nothing, false);
	must("to_reset", to_reset);
}

static void sweep_kernel(void)
{
	int fd = must_open(COUNTERS "lifespan", O_WRONLY);

	if (write_file(fd, "0")) {
		printf("Bail out! the counters' lifespan stays\n");
		exit(1);
	}
	close(fd);
	sweep_some("reading a counter", read_counter, nothing, false);
	cycle_fd = must_open(CYCLE, O_WRONLY);
	sweep_some("PD, DMA MR, CQ and QPs of the kernel", kernel_cycle, nothing, false);
	close(cycle_fd);
}

int main(void)
{
	static const size_t sizes[] = { 1, 4096, 100000, MR_MAX };
	static const char *const steps[] = { "modify_qp to INIT", "modify_qp to RTR", "modify_qp to RTS" };
	char name[64];

	fault_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	s.list = ibv_get_device_list(NULL);
	s.memory = aligned_alloc(4096, MR_MAX);
	if (fault_fd < 0 || !s.list || !s.list[0] || !s.memory) {
		printf("Bail out! no fail-nth, no device or no memory\n");
		return 1;
	}
	memset(s.memory, 1, MR_MAX);

	sweep("open_device", open_device, close_device, true);
	must("open_device", open_device);
	if (ibv_query_gid(s.ctx, 1, GID_INDEX, &s.gid)) {
		printf("Bail out! no GID %d\n", GID_INDEX);
		return 1;
	}
	sweep("query_device", query_device, nothing, false);
	sweep("query_port", query_port, nothing, false);
	BOTH(alloc_pd, dealloc_pd);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		s.mr_size = sizes[i];
		snprintf(name, sizeof(name), "reg_mr of %zu bytes", sizes[i]);
		sweep(name, reg_mr, dereg_mr, false);
		must("reg_mr", reg_mr);
		snprintf(name, sizeof(name), "dereg_mr of %zu bytes", sizes[i]);
		sweep(name, dereg_mr, reg_mr, false);
		must("dereg_mr", dereg_mr);
	}
	BOTH(create_channel, destroy_channel);
	BOTH(create_cq, destroy_cq);
	sweep("resize_cq", resize_cq, resize_back, false);
	BOTH(create_ah, destroy_ah);
	s.qp_type = IBV_QPT_UD;
	sweep("create_qp UD", create_qp, destroy_qp, false);
	s.qp_type = IBV_QPT_UC;
	sweep("create_qp UC", create_qp, destroy_qp, false);
	s.qp_type = IBV_QPT_RC;
	BOTH(create_srq, destroy_srq);
	sweep("modify_srq", modify_srq, modify_srq, false);
	sweep("query_srq", query_srq, query_srq, false);
	sweep("create_qp with an SRQ", create_qp, destroy_qp, false);
	must("destroy_srq", destroy_srq);
	BOTH(create_qp, destroy_qp);
	sweep("query_qp", query_qp, query_qp, false);
	for (s.to = 0; s.to < 3; s.to++) {
		must("modify_qp", modify_back);
		sweep(steps[s.to], modify_qp, modify_back, false);
	}
	sweep("modify_qp to RESET", to_reset, modify_back, false);
	sweep_doorbell();

	must("destroy_qp", destroy_qp);
	must("destroy_ah", destroy_ah);
	must("destroy_cq", destroy_cq);
	/* Counts the CQs that went without an answer as its users: stays then. */
	destroy_channel();
	must("dealloc_pd", dealloc_pd);
	must("close_device", close_device);
	must("open_device", open_device);
	sweep("close_device", close_device, open_device, false);
	must("close_device", close_device);
	sweep_kernel();
	printf("1..%d\n", number);
	return failures != 0;
}
