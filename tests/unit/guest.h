/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for tests, fuzzers and benchmarks: acts as driver and provider towards vrd.h,
 * without a virtual machine.
 *
 * Its memory is a memfd, mapped here and a second time by the core.  It drives split
 * virtqueues, sends commands, and posts and polls on rings with the protocol that the device
 * ABI specifies for a provider.
 *
 * A failure after which a test cannot continue aborts with a message.  A failure that a test
 * may want to check is returned as the command's status (VIRTIO_RDMA_S_*).
 *
 *   guest.c       memory, life cycle          guest_vq.c    virtqueues, raw commands
 *   guest_cmd.c   typed commands              guest_qp.c    QPs, and sets of objects
 *   guest_ring.c  post, poll, arm
 *
 * Threading: commands take a lock.  Each ring belongs to one thread at a time.
 */
#ifndef GUEST_H
#define GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_rdma.h>

#include "vrd.h"

#define GUEST_PAGE	4096U
#define GUEST_HUGE_PAGE	(2U << 20)
#define GUEST_MAX_VQS	(3 + 16)

/* ---- engine ---- */

/* Aborts on failure.  The log goes to stderr if VRD_TEST_LOG is set. */
struct vrd_engine *guest_engine(unsigned int pollers, unsigned int poll_us);

/* ---- guest: memory and life cycle ---- */

struct guest_vq {
	uint16_t num;
	uint16_t avail_idx, used_idx;		/* ours: next to add, next to take */
	uint8_t *desc, *avail, *used;		/* in guest memory */
	int kick, call;				/* eventfds */
	uint8_t *buf;				/* event queues: num buffers */
	uint32_t buf_size;
	bool running;
	bool stopped;				/* by guest_stop_queues(), at: */
	uint16_t stopped_at;
	uint64_t interrupts;			/* call signals seen */
};

struct guest_config {
	const char *name;			/* "guest" */
	const char *fabric;
	uint8_t id;				/* last byte of its MAC: one each in a fabric */
	uint64_t mem_size;			/* 64 MiB */
	unsigned int num_vectors;		/* 1 */
	bool host_mapped;			/* pass a mapping to the core, as QEMU does */
	bool no_fd;				/* and no file, as for memory that is not shared */
	bool unsealed;				/* and a file that can be shortened */
	bool huge_pages;			/* in pages of GUEST_HUGE_PAGE, which must be
						 * available */
	bool no_init;				/* INIT is left to the test */
	unsigned int look_us;			/* a caller looks so long for the answer of a
						 * command before it sleeps */
	uint64_t features_off;			/* offered, but not to be negotiated */
	struct vrd_limits limits;
	unsigned int num_allowed_gids;		/* as in vrd_device_config */
	uint8_t allowed_gids[4][16];
	const char *ibdev;			/* transport ibverbs, on that device of the host */
	const char *transports;			/* or these, as in vrd_device_config */
	uint8_t gid[16];			/* GID 0; all zero: the link-local one of the MAC */
};

struct guest {
	struct guest_config cfg;
	struct vrd_engine *engine;
	struct vrd_device *dev;
	uint8_t mac[6];
	uint8_t gid[16];			/* index 0 */

	int memfd;
	uint8_t *mem;
	uint64_t base;				/* DMA address of mem[0] */
	uint64_t num_pages;
	uint64_t *used_pages;			/* bitmap */
	uint64_t first_free;			/* no page before it is free */
	pthread_mutex_t mem_lock;

	struct guest_vq vqs[GUEST_MAX_VQS];
	unsigned int num_vqs;
	pthread_mutex_t cmd_lock;
	uint8_t *cmd_req, *cmd_rsp;		/* GUEST_CMD_BYTES each */
	uint64_t kicks;				/* doorbell notifications; relaxed atomic */
};

#define GUEST_CMD_BYTES	(128U * 1024)

/* Device, memory, queues; INIT and GID 0 unless no_init. */
struct guest *guest_create(struct vrd_engine *engine, const struct guest_config *cfg);
void guest_destroy(struct guest *g);

/* Device with its memory and features only; call guest_start_queues() afterwards. */
struct guest *guest_create_stopped(struct vrd_engine *engine, const struct guest_config *cfg);
void guest_set_memory(struct guest *g);
/* New queues, or continued where they stopped. */
void guest_start_queues(struct guest *g);
void guest_stop_queues(struct guest *g);

/* Zeroed, page-aligned guest memory; aborts if there is none left. */
void *guest_alloc(struct guest *g, uint64_t bytes);
void guest_free(struct guest *g, void *p, uint64_t bytes);
/* DMA address of a pointer into guest memory. */
uint64_t guest_addr(const struct guest *g, const void *p);

/* Value of one of vrd_device_stats(), by name. */
uint64_t guest_stat(struct guest *g, const char *name);
/* Waits until the value is at least @value; false after @timeout_ms. */
bool guest_stat_reaches(struct guest *g, const char *name, uint64_t value, unsigned int timeout_ms);
uint64_t guest_engine_stat(struct vrd_engine *engine, const char *name);

uint64_t guest_now_ns(void);
/* Ends the program, because the test cannot continue. */
void __attribute__((noreturn, format(printf, 1, 2))) guest_fatal(const char *fmt, ...);

/* ---- virtqueues, raw ---- */

struct guest_desc {
	uint64_t addr;				/* DMA address */
	uint32_t len;
	uint16_t flags;				/* VRING_DESC_F_WRITE, _INDIRECT; NEXT is set here */
};

/* Puts a chain into descriptors 0..@n-1 + @first and makes it available. */
void guest_vq_add(struct guest_vq *vq, unsigned int first, const struct guest_desc *desc,
		  unsigned int n);
void guest_vq_kick(struct guest_vq *vq);
/* Next used element; false: none. */
bool guest_vq_take(struct guest_vq *vq, uint32_t *id, uint32_t *len);
/* The same, but waits for the call descriptor; false on time-out. */
bool guest_vq_wait(struct guest_vq *vq, uint32_t *id, uint32_t *len, int timeout_ms);

/*
 * Any command, well-formed or not: @req_len bytes out, @rsp_len bytes in.  A
 * length of zero in its header is replaced by the right one (cmd_length.h).
 * Returns the status; *@used (may be NULL) gets the used length.  Aborts if
 * there is no answer in time.
 */
uint32_t guest_command_raw(struct guest *g, const void *req, uint32_t req_len, void *rsp,
			   uint32_t rsp_len, uint32_t *used);

/* Sets hdr.opcode, and takes the sizes from the types. */
#define guest_command(g, op, req, rsp) ({						\
	(req)->hdr.opcode = htole32(op);						\
	guest_command_raw(g, req, sizeof(*(req)), rsp, sizeof(*(rsp)), NULL); })

/* Next asynchronous event, or completion event of a vector. */
bool guest_event(struct guest *g, struct virtio_rdma_event *event, int timeout_ms);
bool guest_comp_event(struct guest *g, unsigned int vector, uint32_t *cqn, int timeout_ms);

/* ---- commands and objects ---- */

uint32_t guest_init(struct guest *g);
uint32_t guest_add_gid(struct guest *g, uint32_t index, const uint8_t gid[16]);
uint32_t guest_del_gid(struct guest *g, uint32_t index);
/* DESTROY_*, DEALLOC_*, DEREG_*: @op with a handle. */
uint32_t guest_destroy_handle(struct guest *g, uint32_t op, uint32_t handle);

struct guest_ctx {
	struct guest *g;
	uint32_t id;
	struct virtio_rdma_db_page *db;
};

uint32_t guest_ctx_create(struct guest *g, uint32_t flags, struct guest_ctx *ctx);
void guest_ctx_destroy(struct guest_ctx *ctx);

uint32_t guest_pd_alloc(struct guest_ctx *ctx, uint32_t *pd);

struct guest_mr {
	struct guest *g;
	uint32_t handle, lkey, rkey;
	uint8_t *mem;
	uint64_t iova, length;
};

/* Registers guest memory at @mem, with its DMA address as IOVA. */
uint32_t guest_mr_reg(struct guest *g, uint32_t pd, void *mem, uint64_t length, uint32_t access,
		      struct guest_mr *mr);
/* With an IOVA and extents that the test chooses. */
uint32_t guest_mr_reg_extents(struct guest *g, uint32_t pd, uint64_t iova, uint64_t length,
			      uint32_t access, const struct virtio_rdma_extent *extents,
			      uint32_t num, struct guest_mr *mr);
uint32_t guest_mr_dereg(struct guest_mr *mr);

struct guest_cq {
	struct guest *g;
	uint32_t cqn, entries, vector;
	void *buf;
	uint64_t buf_size;
	struct virtio_rdma_cqe *ring;
	struct virtio_rdma_cq_ctrl *ctrl;
	uint32_t consumer;
	uint32_t arm_seq;
};

uint32_t guest_cq_create(struct guest_ctx *ctx, uint32_t entries, uint32_t vector,
			 struct guest_cq *cq);
uint32_t guest_cq_destroy(struct guest_cq *cq);

struct guest_ring {
	uint8_t *ring;
	struct virtio_rdma_ring_ctrl *ctrl;
	uint32_t entries, stride, slot;
	uint32_t producer;			/* written, possibly not rung yet */
};

struct guest_srq {
	struct guest *g;
	struct guest_ctx *ctx;
	uint32_t srqn;
	void *buf;
	uint64_t buf_size;
	struct guest_ring ring;
};

uint32_t guest_srq_create(struct guest_ctx *ctx, uint32_t pd, uint32_t entries, uint32_t max_sge,
			  struct guest_srq *srq);
uint32_t guest_srq_destroy(struct guest_srq *srq);
uint32_t guest_srq_arm(struct guest_srq *srq, uint32_t limit);
/* Returns the armed limit; aborts on failure. */
uint32_t guest_srq_limit(struct guest_srq *srq);

struct guest_qp_init {
	uint8_t type;				/* VIRTIO_RDMA_QPT_* */
	uint32_t pd;
	struct guest_cq *send_cq, *recv_cq;
	struct guest_srq *srq;			/* or NULL; if set, there is no receive ring */
	bool no_sq;				/* no send ring either */
	uint32_t sq_entries, rq_entries;	/* powers of two */
	uint32_t max_send_sge, max_recv_sge, max_inline;
};

struct guest_qp {
	struct guest *g;
	struct guest_ctx *ctx;
	uint32_t qpn;
	struct guest_qp_init init;
	void *buf;
	uint64_t buf_size;
	struct guest_ring sq, rq;
};

/* Zeroes in @init get defaults: 128 entries, 2 SGEs, 1 in a receive, inline 32. */
uint32_t guest_qp_create(struct guest_ctx *ctx, const struct guest_qp_init *init,
			 struct guest_qp *qp);
uint32_t guest_qp_destroy(struct guest_qp *qp);
uint32_t guest_qp_modify(struct guest_qp *qp, uint32_t mask,
			 const struct virtio_rdma_qp_attr *attr);
uint32_t guest_qp_query(struct guest_qp *qp, struct virtio_rdma_qp_attr *attr);
uint32_t guest_qp_set_state(struct guest_qp *qp, uint8_t state);
uint8_t guest_qp_state(struct guest_qp *qp);
/* RESET to RTS, connected to QP @dqpn at @dgid; all rights. */
uint32_t guest_qp_connect(struct guest_qp *qp, const uint8_t dgid[16], uint32_t dqpn);
/* Both ends; aborts on failure. */
void guest_qp_connect_pair(struct guest_qp *a, struct guest_qp *b);
/* UD: RESET to RTS. */
uint32_t guest_qp_open_ud(struct guest_qp *qp, uint32_t qkey);
/* To RESET, and both producers to 0. */
uint32_t guest_qp_reset(struct guest_qp *qp);

/*
 * What most tests need of each kind: a context, a PD, a CQ for all completions, a region of
 * memory with all rights, and a QP that is not connected.
 */
struct guest_side {
	struct guest *g;
	struct guest_ctx ctx;
	uint32_t pd;
	struct guest_cq cq;
	uint8_t *mem;
	uint64_t mem_size;
	struct guest_mr mr;
	struct guest_qp qp;
};

/* Aborts on failure.  @init's PD and CQs are filled in; type 0 is RC. */
void guest_side_open(struct guest *g, uint64_t mem_size, uint32_t cq_entries,
		     const struct guest_qp_init *init, struct guest_side *side);
/* Another QP with the same objects. */
void guest_side_add_qp(struct guest_side *side, const struct guest_qp_init *init,
		       struct guest_qp *qp);
void guest_side_close(struct guest_side *side);

/* ---- rings ---- */

struct guest_sge {
	uint64_t addr;
	uint32_t length, lkey;
};

struct guest_wr {
	uint8_t opcode;				/* VIRTIO_RDMA_WR_* */
	uint16_t flags;				/* VIRTIO_RDMA_WQE_* */
	unsigned int num_sge;
	const struct guest_sge *sge;
	const void *inline_data;		/* with WQE_INLINE */
	uint32_t inline_len;
	uint32_t imm;				/* wire order */
	uint64_t remote_addr;
	uint32_t rkey;
	uint64_t swap_add, compare;
	const struct virtio_rdma_av *av;	/* UD */
};

/*
 * Writes a WQE; guest_ring_sq() publishes all written ones.  Does not check whether the ring
 * is full.
 */
void guest_write_send(struct guest_qp *qp, const struct guest_wr *wr);
/* The same with a WQE of 64 bytes that the test has made. */
void guest_write_wqe(struct guest_qp *qp, const void *wqe);
void guest_ring_sq(struct guest_qp *qp);
void guest_write_recv(struct guest_qp *qp, const struct guest_sge *sge, unsigned int num_sge);
void guest_ring_rq(struct guest_qp *qp);
void guest_write_srq(struct guest_srq *srq, uint32_t cookie, const struct guest_sge *sge,
		     unsigned int num_sge);
void guest_ring_srq(struct guest_srq *srq);
/* Writes and publishes. */
void guest_post_send(struct guest_qp *qp, const struct guest_wr *wr);
void guest_post_recv(struct guest_qp *qp, const struct guest_sge *sge, unsigned int num_sge);

void guest_post_srq(struct guest_srq *srq, uint32_t cookie, const struct guest_sge *sge,
		    unsigned int num_sge);

/* Common requests: WRITE, READ or SEND of one piece. */
void guest_post_rdma(struct guest_qp *qp, uint8_t opcode, uint16_t flags, const void *local,
		     uint32_t length, uint32_t lkey, uint64_t remote_addr, uint32_t rkey);

/* Only the doorbell protocol; returns true if a notification was needed. */
bool guest_ring_doorbell(struct guest_ctx *ctx, struct guest_ring *ring);
void guest_kick_doorbell(struct guest *g);

bool guest_poll(struct guest_cq *cq, struct virtio_rdma_cqe *cqe);
/* Spins; false on time-out. */
bool guest_poll_wait(struct guest_cq *cq, struct virtio_rdma_cqe *cqe, int timeout_ms);
/* Arms; returns true if a CQE is there already, so that no event may come. */
bool guest_arm(struct guest_cq *cq, bool solicited);
/* Sleeps until there is a CQE: arms and waits for the vector's event. */
bool guest_poll_sleep(struct guest_cq *cq, struct virtio_rdma_cqe *cqe, int timeout_ms);

#endif /* GUEST_H */
