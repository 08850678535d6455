/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * virtio-rdma guest driver: its objects, and the functions of its files.
 *
 * Layers, each calling only downwards:
 *   binding    main.c                       the virtio driver
 *   life       device.c                     start, failure and end of a device
 *   verbs      ucontext.c mr.c cq.c qp.c ah.c post.c poll.c port.c gid.c ...
 *   commands   cmd_device.c cmd_object.c    one function per device command
 *   engine     cmd.c                        requests on the control queue
 *   queues     vq.c                         virtqueues, events, completions
 *
 * A struct vrdma_dev lives from the probe of the virtio device to its removal.
 * A device that lost its state is probed again, which makes a new one.
 *
 * A device goes through these states, in this order only:
 *   live     commands are sent
 *   dead     no command is sent; the device may still access memory
 *   halted   the device was reset and its virtqueues are deleted: it accesses
 *            nothing.  Only now users are informed, work requests are
 *            flushed, and memory is freed.
 */
#ifndef VRDMA_H
#define VRDMA_H

#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_rdma.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/virtio_rdma-abi.h>

#include "compat.h"
#include "cookie.h"
#include "ref.h"
#include "ring.h"

/*
 * Memory that is mapped for DMA shares no cache line with other data: kmalloc()
 * aligns memory of such a size to cache lines.
 */
#define VRDMA_DMA_ALIGN(len)	ALIGN(len, max_t(size_t, L1_CACHE_BYTES, \
						 dma_get_cache_alignment()))

struct vrdma_dev;

/**
 * struct vrdma_buf - memory that the device may access
 * @umem:        pinned user memory, or NULL for memory of the driver
 * @chunk:       memory of the driver: chunks of equal size, coherent
 * @dma:         DMA address of each chunk
 * @chunk_shift: log2 of a chunk's bytes
 * @num_chunks:  entries of @chunk and @dma
 * @len:         bytes
 * @exposed:     the device may know the addresses: a command with them was
 *               submitted, and the device has neither refused it nor confirmed
 *               that it destroyed the object.  Under vrdma_ctrl.lock when a
 *               command is submitted, else under the owner's own serialisation
 * @parked:      on vrdma_dev.parked, until the device is halted
 *
 * Allocated separately from its object, because it may outlive the object.
 */
struct vrdma_buf {
	struct ib_umem *umem;
	void **chunk;
	dma_addr_t *dma;
	u8 chunk_shift;
	u32 num_chunks;
	size_t len;
	bool exposed;
	struct list_head parked;
};

/**
 * struct vrdma_ctrl - the command engine
 * @vq:       control queue; valid until the device is halted
 * @lock:     protects all fields, vrdma_cmd.state and the step to
 *            vrdma_dev.dead; taken in interrupts
 * @pending:  commands that the device has
 * @abandoned: commands that were abandoned while the device had them; freed
 *            when the device is halted
 * @room:     woken when the device has returned a chain
 * @progress: time (jiffies) of the last answer, or when @pending became
 *            non-empty if that is later
 * @limit:    jiffies without any answer, after which the device is dead
 * @error:    errno of abandoned commands: why the device is dead
 * @max_segs: segments of a request that fit into the queue; constant
 * @pollers:  callers that look for their answer themselves; while there are
 *            any, the queue's callback is disabled
 * @credit:   how often polling has paid lately; 0: callers sleep at once
 * @skipped:  commands since polling was last tried without credit
 */
struct vrdma_ctrl {
	struct virtqueue *vq;
	spinlock_t lock;		/* see above */
	struct list_head pending;
	struct list_head abandoned;
	wait_queue_head_t room;
	unsigned long progress;
	unsigned long limit;
	int error;
	unsigned int max_segs;
	unsigned int pollers;
	unsigned int credit;
	unsigned int skipped;
};

/**
 * struct vrdma_inq - a queue of buffers that the device writes (events)
 * @dev:      the device
 * @vq:       the virtqueue
 * @lock:     protects @vq, @lost and @num_lost; taken in interrupts
 * @bufs:     @num buffers of @size bytes, @stride bytes apart: each has cache
 *            lines of its own, because each is mapped for DMA separately
 * @lost:     bitmap of buffers that could not be given to the device
 * @num_lost: bits set in @lost
 * @work:     completion queues: handles events that exceed an interrupt's share
 * @name:     shown in /proc/interrupts
 */
struct vrdma_inq {
	struct vrdma_dev *dev;
	struct virtqueue *vq;
	spinlock_t lock;		/* see above */
	void *bufs;
	unsigned int num;
	unsigned int size;
	unsigned int stride;
	unsigned long *lost;
	unsigned int num_lost;
	struct work_struct work;
	char name[16];
};

/* Answers of QUERY_DEVICE and QUERY_PORT, in CPU byte order. */
struct vrdma_attr {
	u64 node_guid;
	u64 fw_ver;
	u64 max_mr_size;
	u32 vendor_id;
	u32 vendor_part_id;
	u32 hw_ver;
	u32 max_pd;
	u32 max_mr;
	u32 max_cq;
	u32 max_cqe;
	u32 max_qp;
	u32 max_qp_wr;
	u32 max_send_sge;
	u32 max_send_sge_ud;
	u32 max_recv_sge;
	u32 max_sge_rd;
	u32 max_inline;
	u32 max_qp_rd_atom;
	u32 max_qp_init_rd_atom;
	u32 max_srq;
	u32 max_srq_wr;
	u32 max_srq_sge;
	u32 max_fast_reg_pages;
	u64 page_sizes;
	u32 local_ca_ack_delay;
};

struct vrdma_port_attr {
	u8 state;
	u8 max_mtu;
	u8 active_mtu;
	u8 active_width;
	u16 active_speed;
	u32 gid_tbl_len;
	u32 max_msg_sz;
};

/**
 * struct vrdma_gid_params - parameters of ADD_GID
 * @gid:     the address
 * @smac:    source MAC of frames with it
 * @vlan_id: or VIRTIO_RDMA_VLAN_NONE
 *
 * Without padding, so that it can be compared as bytes.
 */
struct vrdma_gid_params {
	u8 gid[16];
	u8 smac[ETH_ALEN];
	u16 vlan_id;
};

static_assert(sizeof(struct vrdma_gid_params) == 16 + ETH_ALEN + 2);

/**
 * struct vrdma_gid - one entry of the port's GID table
 * @want:     the GID that the core put there
 * @have:     the GID that the device was given
 * @wanted:   @want is valid
 * @held:     @have is valid
 * @refused:  errno of the device's refusal of @want, or 0
 */
struct vrdma_gid {
	struct vrdma_gid_params want;
	struct vrdma_gid_params have;
	bool wanted;
	bool held;
	int refused;
};

/**
 * struct vrdma_gids - the port's GID table (gid.c)
 * @lock:    protects @table and @changed
 * @table:   @num entries
 * @changed: @table was changed since @work last compared it
 * @work:    sends the changes to the device
 */
struct vrdma_gids {
	struct mutex lock;		/* see above */
	struct vrdma_gid *table;
	u32 num;
	bool changed;
	struct work_struct work;
};

/**
 * struct vrdma_dev - a bound device and its ib_device
 * @ibdev:       the core's part
 * @vdev:        the virtio device
 * @dma_dev:     the device that DMA addresses are made for
 * @dead:        no command will be answered: set once, under ctrl.lock
 * @halted:      the device was reset and its queues are deleted: set once, under
 *               @park_lock
 * @halt_done:   completed when @halted is set
 * @ctrl:        command engine
 * @eventq:      event queue
 * @compq:       one queue per completion vector
 * @num_comp:    entries of @compq
 * @doorbell:    doorbell queue; carries no buffers, only notifications.  Used
 *               under RCU, and not after @dead is set
 * @wq:          runs all work items of the device
 * @event_work:  handles asynchronous events
 * @refill_work: gives lost event buffers to the device again
 * @death_work:  halts a dead device and informs its users
 * @flush_work:  calls the handlers of CQs that have flushed work requests
 * @pair_work:   looks for the netdev to pair with
 * @features:    VIRTIO_RDMA_F_* that were negotiated, one bit each; constant
 * @attr:        limits, constant
 * @port:        the port's attributes; under @port_lock
 * @port_up:     state last reported to the core; under @port_mutex
 * @port_mutex:  one comparison of the port's state at a time
 * @gids:        the GID table
 * @netdev:      paired Ethernet device; under @port_lock, and changed with the
 *               RTNL held.  The core holds the reference (ib_device_set_netdev)
 * @netdev_stop: the notifier is being removed: pair no more
 * @kctx:        the device's handle of the kernel's own context
 * @db_buf:      its doorbell page
 * @db:          the same, mapped
 * @status:      page that all processes map: is the device alive?
 * @qps:         qpn -> struct vrdma_qp
 * @cqs:         cqn -> struct vrdma_cq
 * @srqs:        srqn -> struct vrdma_srq
 * @qpn_free:    woken when a destroyed QP's number may be used again
 * @parked:      memory to be freed when the device is halted; under @park_lock
 * @reprobe_queued: bit 0: a work item will answer a change of the configuration
 * @bounce_logged: bit 0: the message about bounced user memory was printed
 * @kicks:       notifications of the doorbell queue
 * @comp_irqs:   interrupts of the completion queues
 */
struct vrdma_dev {
	struct ib_device ibdev;
	struct virtio_device *vdev;
	struct device *dma_dev;
	bool dead;
	bool halted;
	struct completion halt_done;

	struct vrdma_ctrl ctrl;
	struct vrdma_inq eventq;
	struct vrdma_inq *compq;
	u32 num_comp;
	struct virtqueue *doorbell;

	struct workqueue_struct *wq;
	struct work_struct event_work;
	struct delayed_work refill_work;
	struct work_struct death_work;
	struct work_struct flush_work;
	struct work_struct pair_work;

	u64 features;
	struct vrdma_attr attr;
	struct vrdma_port_attr port;
	spinlock_t port_lock;		/* see @port and @netdev */
	bool port_up;
	struct mutex port_mutex;	/* see @port_up */
	struct vrdma_gids gids;
	struct net_device *netdev;
	struct notifier_block netdev_nb;
	bool netdev_stop;
	u8 mac[ETH_ALEN];

	u32 kctx;
	struct vrdma_buf *db_buf;
	struct virtio_rdma_db_page *db;
	struct virtio_rdma_status_page *status;

	struct xarray qps;
	struct xarray cqs;
	struct xarray srqs;
	wait_queue_head_t qpn_free;

	struct list_head parked;
	spinlock_t park_lock;		/* see @parked */
	unsigned long reprobe_queued;
	unsigned long bounce_logged;

	atomic64_t kicks;
	atomic64_t comp_irqs;
	atomic64_t async_events;
};

struct vrdma_ucontext {
	struct ib_ucontext ibuc;
	u32 ctx;
	struct rdma_user_mmap_entry *db_entry;
	struct rdma_user_mmap_entry *status_entry;
};

struct vrdma_pd {
	struct ib_pd ibpd;
	u32 pdn;
	u32 ctx;
};

/**
 * struct vrdma_mr - memory region
 * @buf:         its memory; with fast registration that of @list; NULL for a DMA MR
 * @list:        of vrdma_map_mr_sg(): @num_entries of at most @max_entries
 * @gaps:        pieces of any size and place
 */
struct vrdma_mr {
	struct ib_mr ibmr;
	u32 handle;
	struct vrdma_buf *buf;
	struct virtio_rdma_reg_entry *list;
	u32 max_entries;
	u32 num_entries;
	bool gaps;
};

struct vrdma_ah {
	struct ib_ah ibah;
	struct virtio_rdma_av av;	/* as it goes into a WQE */
};

/**
 * struct vrdma_cq - completion queue
 * @ref:       found by its number in vrdma_dev.cqs
 * @user:      polled and armed by a process: the fields below @resize_mutex are
 *             unused
 * @resize_mutex: one resizing at a time; protects writes of @entries and @buf
 * @lock:      protects all below; taken in interrupts, before no other lock
 * @ctrl:      the shared words
 * @consumer:  CQEs consumed
 * @arm:       last arm word
 * @flush_fired: last arm word that the driver answered in a dead device's place
 * @send_qps:  kernel QPs whose sends complete here (vrdma_qp.send_link)
 * @recv_qps:  the same for receives
 * @last_qp:   the QP of the last CQE, or NULL; on one of these lists
 */
struct vrdma_cq {
	struct ib_cq ibcq;
	u32 cqn;
	struct vrdma_ref ref;
	bool user;
	u32 entries;
	struct vrdma_buf *buf;
	struct mutex resize_mutex;	/* see above */

	spinlock_t lock;		/* see above */
	struct virtio_rdma_cq_ctrl *ctrl;
	u32 consumer;
	u32 arm;
	u32 flush_fired;
	struct list_head send_qps;
	struct list_head recv_qps;
	struct vrdma_qp *last_qp;
};

/**
 * struct vrdma_ring - driver's side of a kernel QP's SQ or RQ, or of an SRQ
 * @lock:    protects @head and the entries; taken in interrupts
 * @head:    WRs posted; read without the lock by pollers (acquire)
 * @tail:    WRs completed; written under the CQ's lock, read by posters
 *           (acquire): the entry and its wr_id may be reused after that; not
 *           in an SRQ, see cookie.h
 * @ctrl:    shared words
 * @base:    byte offset of the ring in the QP's buffer
 * @shift:   log2 of the entry's bytes
 * @slot:    dirty byte in the kernel context's doorbell page
 */
struct vrdma_ring {
	spinlock_t lock;		/* see above */
	u32 head;
	u32 tail;
	u32 entries;
	u32 base;
	u32 slot;
	u32 max_sge;
	u8 shift;
	struct virtio_rdma_ring_ctrl *ctrl;
	u64 *wr_id;
};

/**
 * struct vrdma_srq - shared receive queue
 * @ref:     found by its number in vrdma_dev.srqs
 * @user:    posted to by a process: the fields below @buf are unused
 * @ring:    its lock protects @cookies and the wr_ids, which cookies select
 */
struct vrdma_srq {
	struct ib_srq ibsrq;
	u32 srqn;
	struct vrdma_ref ref;
	bool user;
	u32 max_wr;
	u32 max_sge;
	struct vrdma_buf *buf;

	struct vrdma_ring ring;
	struct vrdma_cookies cookies;
};

/**
 * struct vrdma_qp - queue pair
 * @ref:    found by its number in vrdma_dev.qps
 * @mutex:  one modify or query at a time; protects writes of @state and @qkey
 * @state:  as far as the driver knows: the device also moves QPs to ERR or SQE.
 *          Read by posters under their ring's lock
 * @user:   posted to by a process: the rings below are unused
 */
struct vrdma_qp {
	struct ib_qp ibqp;
	u32 qpn;
	struct vrdma_ref ref;
	struct mutex mutex;		/* see above */
	enum ib_qp_state state;
	u32 qkey;
	bool user;
	bool sig_all;
	struct ib_qp_cap cap;
	struct vrdma_buf *buf;

	struct vrdma_ring sq;
	struct vrdma_ring rq;
	struct list_head send_link;	/* send CQ's lock */
	struct list_head recv_link;	/* receive CQ's lock */
};

static inline struct vrdma_dev *to_vrdma_dev(struct ib_device *ibdev)
{
	return container_of(ibdev, struct vrdma_dev, ibdev);
}

static inline struct vrdma_ucontext *to_vrdma_uc(struct ib_ucontext *ibuc)
{
	return container_of(ibuc, struct vrdma_ucontext, ibuc);
}

static inline struct vrdma_pd *to_vrdma_pd(struct ib_pd *ibpd)
{
	return container_of(ibpd, struct vrdma_pd, ibpd);
}

static inline struct vrdma_mr *to_vrdma_mr(struct ib_mr *ibmr)
{
	return container_of(ibmr, struct vrdma_mr, ibmr);
}

static inline struct vrdma_ah *to_vrdma_ah(struct ib_ah *ibah)
{
	return container_of(ibah, struct vrdma_ah, ibah);
}

static inline struct vrdma_cq *to_vrdma_cq(struct ib_cq *ibcq)
{
	return container_of(ibcq, struct vrdma_cq, ibcq);
}

static inline struct vrdma_qp *to_vrdma_qp(struct ib_qp *ibqp)
{
	return container_of(ibqp, struct vrdma_qp, ibqp);
}

static inline struct vrdma_srq *to_vrdma_srq(struct ib_srq *ibsrq)
{
	return container_of(ibsrq, struct vrdma_srq, ibsrq);
}

static inline bool vrdma_dead(const struct vrdma_dev *dev)
{
	return READ_ONCE(dev->dead);
}

/* The device accesses no memory any more: its last writes are visible. */
static inline bool vrdma_halted(const struct vrdma_dev *dev)
{
	/* Pairs with the release in vrdma_dev_halt(). */
	return smp_load_acquire(&dev->halted);
}

/* @feature: VIRTIO_RDMA_F_*. */
static inline bool vrdma_has(const struct vrdma_dev *dev, unsigned int feature)
{
	return dev->features & BIT_ULL(feature);
}

/* device.c */
struct vrdma_dev *vrdma_dev_create(struct virtio_device *vdev, u64 features);
void vrdma_dev_init(struct vrdma_dev *dev, struct virtio_device *vdev);
void vrdma_dev_destroy(struct vrdma_dev *dev);
void vrdma_dev_halt(struct vrdma_dev *dev);
void vrdma_death_work(struct work_struct *work);

/* buf.c */
struct vrdma_buf *vrdma_buf_pin(struct vrdma_dev *dev, u64 addr, u64 len,
				int access);
struct vrdma_buf *vrdma_buf_alloc(struct vrdma_dev *dev, size_t len);
struct vrdma_buf *vrdma_buf_alloc_chunk(struct vrdma_dev *dev, size_t len);
void vrdma_buf_free(struct vrdma_dev *dev, struct vrdma_buf *buf);
void vrdma_buf_release(struct vrdma_dev *dev, struct vrdma_buf *buf);
void vrdma_buf_free_parked(struct vrdma_dev *dev);
unsigned long vrdma_buf_pfn(const struct vrdma_buf *buf);
void *vrdma_buf_at(const struct vrdma_buf *buf, size_t offset);

/**
 * struct vrdma_extent_iter - walks a buffer's pages as extents
 * @skip: pages of 4 KiB still to be skipped at the front
 * @left: pages of 4 KiB still to be returned
 */
struct vrdma_extent_iter {
	const struct vrdma_buf *buf;
	struct scatterlist *sg;
	u32 index;
	u64 skip;
	u64 left;
};

void vrdma_extent_start(struct vrdma_extent_iter *it,
			const struct vrdma_buf *buf, u64 skip, u64 pages);
u32 vrdma_extent_fill(struct vrdma_extent_iter *it,
		      struct virtio_rdma_extent *ext, u32 max);
u32 vrdma_extent_count(const struct vrdma_buf *buf, u64 skip, u64 pages);

/* vq.c */
int vrdma_vqs_open(struct vrdma_dev *dev, u32 num_comp);
int vrdma_vqs_fill(struct vrdma_dev *dev);
void vrdma_vqs_close(struct vrdma_dev *dev);
void vrdma_event_work(struct work_struct *work);
void vrdma_refill_work(struct work_struct *work);

/* netdev.c */
int vrdma_netdev_start(struct vrdma_dev *dev);
void vrdma_netdev_stop(struct vrdma_dev *dev);
void vrdma_netdev_unpair(struct vrdma_dev *dev);
void vrdma_netdev_pair(struct vrdma_dev *dev);
bool vrdma_netdev_up(struct vrdma_dev *dev);

/* port.c */
int vrdma_query_device(struct ib_device *ibdev, struct ib_device_attr *attr,
		       struct ib_udata *udata);
int vrdma_query_port(struct ib_device *ibdev, u32 port,
		     struct ib_port_attr *attr);
int vrdma_get_port_immutable(struct ib_device *ibdev, u32 port,
			     struct ib_port_immutable *immutable);
enum rdma_link_layer vrdma_get_link_layer(struct ib_device *ibdev, u32 port);
int vrdma_query_pkey(struct ib_device *ibdev, u32 port, u16 index, u16 *pkey);
void vrdma_get_fw_str(struct ib_device *ibdev, char *str);
int vrdma_port_refresh(struct vrdma_dev *dev);
void vrdma_port_check(struct vrdma_dev *dev);

/* gid.c */
void vrdma_gids_init(struct vrdma_dev *dev);
int vrdma_gids_alloc(struct vrdma_dev *dev);
void vrdma_gids_cleanup(struct vrdma_dev *dev);
void vrdma_gids_settle(struct vrdma_dev *dev);
int vrdma_add_gid(const struct ib_gid_attr *attr, void **context);
int vrdma_del_gid(const struct ib_gid_attr *attr, void **context);

/* ucontext.c */
int vrdma_copy_req(struct ib_udata *udata, void *req, size_t len);
int vrdma_no_req(struct ib_udata *udata);
int vrdma_alloc_ucontext(struct ib_ucontext *ibuc, struct ib_udata *udata);
void vrdma_dealloc_ucontext(struct ib_ucontext *ibuc);
int vrdma_mmap(struct ib_ucontext *ibuc, struct vm_area_struct *vma);
void vrdma_mmap_free(struct rdma_user_mmap_entry *entry);
void vrdma_disassociate_ucontext(struct ib_ucontext *ibuc);
int vrdma_status_alloc(struct vrdma_dev *dev);
void vrdma_status_free(struct vrdma_dev *dev);
void vrdma_status_clear_alive(struct vrdma_dev *dev);
int vrdma_kctx_open(struct vrdma_dev *dev);
void vrdma_kctx_close(struct vrdma_dev *dev);
int vrdma_alloc_pd(struct ib_pd *ibpd, struct ib_udata *udata);
int vrdma_dealloc_pd(struct ib_pd *ibpd, struct ib_udata *udata);

/* mr.c */
/* The access rights that the device supports; their bits are the same on both sides. */
#define VRDMA_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | \
			 IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC)

/* vrdma_reg_user_mr(): see compat.h */
struct ib_mr *vrdma_get_dma_mr(struct ib_pd *ibpd, int access);
int vrdma_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata);

/* fast_reg.c */
struct ib_mr *vrdma_alloc_mr(struct ib_pd *ibpd, enum ib_mr_type type,
			     u32 max_num_sg);
int vrdma_map_mr_sg(struct ib_mr *ibmr, struct scatterlist *sgl, int sg_nents,
		    unsigned int *sg_offset);

/* ah.c */
int vrdma_av_from_ah_attr(struct virtio_rdma_av *av,
			  const struct rdma_ah_attr *attr);
void vrdma_av_to_ah_attr(const struct virtio_rdma_av *av,
			 struct rdma_ah_attr *attr);
int vrdma_create_ah(struct ib_ah *ibah, struct rdma_ah_init_attr *init,
		    struct ib_udata *udata);
int vrdma_query_ah(struct ib_ah *ibah, struct rdma_ah_attr *attr);
int vrdma_destroy_ah(struct ib_ah *ibah, u32 flags);

/* cq.c */
int vrdma_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		    struct vrdma_cq_attrs *attrs);
int vrdma_resize_cq(struct ib_cq *ibcq, vrdma_cqe_t cqe,
		    struct ib_udata *udata);
int vrdma_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata);

/* The CQ with a reference, or NULL.  Any context. */
static inline struct vrdma_cq *vrdma_cq_get(struct vrdma_dev *dev, u32 cqn)
{
	return vrdma_ref_get(&dev->cqs, cqn, offsetof(struct vrdma_cq, ref));
}

static inline void vrdma_cq_put(struct vrdma_cq *cq)
{
	vrdma_ref_put(&cq->ref);
}

/* qp.c */
int vrdma_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *init,
		    struct ib_udata *udata);
int vrdma_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata);

/* The QP with a reference, or NULL.  Any context. */
static inline struct vrdma_qp *vrdma_qp_get(struct vrdma_dev *dev, u32 qpn)
{
	return vrdma_ref_get(&dev->qps, qpn, offsetof(struct vrdma_qp, ref));
}

static inline void vrdma_qp_put(struct vrdma_qp *qp)
{
	vrdma_ref_put(&qp->ref);
}

/* qp_state.c */
int vrdma_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		    struct ib_udata *udata);
int vrdma_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		   struct ib_qp_init_attr *init);
void vrdma_qps_raise_last_wqe(struct vrdma_dev *dev);

/* srq.c */
int vrdma_create_srq(struct ib_srq *ibsrq, struct ib_srq_init_attr *init,
		     struct ib_udata *udata);
int vrdma_modify_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr,
		     enum ib_srq_attr_mask mask, struct ib_udata *udata);
int vrdma_query_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr);
int vrdma_destroy_srq(struct ib_srq *ibsrq, struct ib_udata *udata);
int vrdma_post_srq_recv(struct ib_srq *ibsrq, const struct ib_recv_wr *wr,
			const struct ib_recv_wr **bad_wr);
bool vrdma_srq_complete(struct vrdma_srq *srq, u32 cookie, u64 *wr_id);

/* The SRQ with a reference, or NULL.  Any context. */
static inline struct vrdma_srq *vrdma_srq_get(struct vrdma_dev *dev, u32 srqn)
{
	return vrdma_ref_get(&dev->srqs, srqn, offsetof(struct vrdma_srq, ref));
}

static inline void vrdma_srq_put(struct vrdma_srq *srq)
{
	vrdma_ref_put(&srq->ref);
}

/* post.c */
int vrdma_post_send(struct ib_qp *ibqp, const struct ib_send_wr *wr,
		    const struct ib_send_wr **bad_wr);
int vrdma_post_recv(struct ib_qp *ibqp, const struct ib_recv_wr *wr,
		    const struct ib_recv_wr **bad_wr);

/* poll.c */
int vrdma_poll_cq(struct ib_cq *ibcq, int num, struct ib_wc *wc);
int vrdma_req_notify_cq(struct ib_cq *ibcq, enum ib_cq_notify_flags flags);
void vrdma_cq_attach_qp(struct vrdma_qp *qp);
void vrdma_cq_detach_qp(struct vrdma_qp *qp);
void vrdma_qp_stop_posts(struct vrdma_qp *qp);
void vrdma_qp_reset_rings(struct vrdma_qp *qp);
void vrdma_flush_work(struct work_struct *work);
void vrdma_wake_user_cqs(struct vrdma_dev *dev);
void vrdma_wake_srq_cqs(struct vrdma_dev *dev, struct ib_srq *ibsrq);

/* stats.c */
struct rdma_hw_stats *vrdma_alloc_hw_device_stats(struct ib_device *ibdev);
struct rdma_hw_stats *vrdma_alloc_hw_port_stats(struct ib_device *ibdev,
						u32 port);
int vrdma_get_hw_stats(struct ib_device *ibdev, struct rdma_hw_stats *stats,
		       u32 port, int index);

/* restrack.c */
int vrdma_fill_res_mr(struct sk_buff *msg, struct ib_mr *ibmr);
int vrdma_fill_res_cq(struct sk_buff *msg, struct ib_cq *ibcq);
int vrdma_fill_res_qp(struct sk_buff *msg, struct ib_qp *ibqp);
int vrdma_fill_res_srq(struct sk_buff *msg, struct ib_srq *ibsrq);

#endif /* VRDMA_H */
