/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The API of the device core for its front ends: vrdmad, the QEMU devices and the tests.
 *
 * A front end creates one engine for its process (pollers, fabrics), and a device for each
 * virtio-rdma device.  It passes guest memory, virtqueue addresses and file descriptors to
 * the core.  The core does the rest on its own threads and calls the front end only to log.
 *
 * Threading: the functions of one device are called by one front end thread at a time;
 * different devices may be driven by different threads.  All functions may block for a short
 * time (quiesce); none waits for the guest.
 *
 * The core includes no headers of QEMU, GLib, libvhost-user or libibverbs.
 */
#ifndef VRD_H
#define VRD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vrd_engine;
struct vrd_device;
struct vrd_ibdev;

/*
 * What failed, and what the user can do about it.  Functions with an @err argument fill both
 * when they return a negative errno.
 */
struct vrd_error {
	char msg[256];
	char hint[256];			/* may be empty */
};

enum vrd_log_level {
	VRD_LOG_ERROR,
	VRD_LOG_WARN,
	VRD_LOG_INFO,
	VRD_LOG_DEBUG,
};

/* Called from any thread; must not call the core. */
typedef void vrd_log_fn(void *opaque, enum vrd_log_level level, const char *msg);

/* ---- engine ---------------------------------------------------------- */

struct vrd_engine_config {
	unsigned int pollers;		/* threads, 1..64; 0 means 1 */
	const int *poller_cpus;		/* one CPU per poller to pin it to, or NULL */
	unsigned int poll_us;		/* longest spin before a poller sleeps, microseconds;
					 * 0: sleep at once */
	bool poll_fixed;		/* spin for all of poll_us even if the kernel preempts
					 * the pollers: for pollers with dedicated CPUs */
	bool private_fds;		/* no other process has the kick and call descriptors,
					 * which are eventfds: their O_NONBLOCK is reliable */
	vrd_log_fn *log;		/* or NULL */
	void *log_opaque;
	enum vrd_log_level log_level;	/* less important messages are suppressed */
};

/* Default of poll_us. */
#define VRD_POLL_US_DEFAULT	50

/* 0, or a negative errno with @err filled. */
int vrd_engine_create(const struct vrd_engine_config *cfg, struct vrd_engine **engine,
		      struct vrd_error *err);
/* All devices must have been destroyed. */
void vrd_engine_destroy(struct vrd_engine *engine);

/* ---- device ---------------------------------------------------------- */

#define VRD_MAX_ALLOWED_GIDS	32
#define VRD_MAX_CM_PORTS	16

/* Limits of one guest.  Zero means the default. */
struct vrd_limits {
	uint32_t max_ctx;
	uint32_t max_pd;
	uint32_t max_mr;
	uint32_t max_cq;
	uint32_t max_cqe;
	uint32_t max_qp;
	uint32_t max_qp_wr;
	uint32_t max_sge;		/* of send and receive WQEs */
	uint32_t max_inline;		/* bytes */
	uint32_t max_srq;
	uint64_t max_mr_size;		/* bytes */
	uint64_t max_mr_bytes;		/* of all memory regions together */
	uint64_t max_ring_bytes;	/* total size of the buffers of all rings; their page
					 * arrays need another 1/256 of it */
};

struct vrd_device_config {
	const char *name;		/* for messages and statistics */
	uint8_t mac[6];			/* unicast; MAC of the netdev to pair with */
	uint16_t num_comp_vectors;	/* 1..VIRTIO_RDMA_MAX_COMP_VECTORS */
	/*
	 * Names of transports, separated by commas, as in "memory,ibverbs": traffic takes the
	 * first transport that reaches its destination.  NULL: "ibverbs" if there is an ibdev,
	 * else "memory".
	 */
	const char *transports;
	const char *fabric;		/* devices of one fabric reach each other; NULL: "default" */
	struct vrd_limits limits;
	/*
	 * GIDs that the guest may use, besides the link-local GID of its MAC.  If
	 * num_allowed_gids is 0 and own_gids_only is not set: any GID that no other device of
	 * the fabric uses and that is not reserved for another device (gid.c).
	 */
	bool own_gids_only;
	unsigned int num_allowed_gids;
	uint8_t allowed_gids[VRD_MAX_ALLOWED_GIDS][16];

	/* Transport ibverbs: a port of the host's RDMA device. */
	const char *ibdev;		/* its name, as ibv_devices prints it */
	unsigned int ibdev_port;	/* 0: the first */
	struct vrd_ibdev *ibdev_opened;	/* or NULL: the device opens @ibdev itself */
	/* Entries of the host port's GID table that are added to the allowed GIDs. */
	unsigned int num_gid_indexes;
	uint16_t gid_indexes[VRD_MAX_ALLOWED_GIDS];
	/*
	 * Ports of rdma_cm (RDMA_PS_TCP) at which peers without a daemon may connect to the
	 * guest: the host listens there on behalf of the guest (vrd_mad.h).
	 */
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
};

/*
 * Opens the host's RDMA device before the front end drops the privileges for that.  The
 * handle is for one device, which keeps it as long as it needs it.
 */
int vrd_ibdev_open(const char *name, struct vrd_ibdev **ibdev, struct vrd_error *err);
void vrd_ibdev_close(struct vrd_ibdev *ibdev);

/*
 * 0, or a negative errno with @err filled.  The device has no memory and no
 * queues yet.  Every string and array of @cfg is copied.
 */
int vrd_device_create(struct vrd_engine *engine, const struct vrd_device_config *cfg,
		      struct vrd_device **dev, struct vrd_error *err);

/*
 * Destroys all objects, unmaps the memory and closes the descriptors.  When it has returned,
 * guest memory is not accessed any more.
 */
void vrd_device_destroy(struct vrd_device *dev);

/* Virtio feature bits whose meaning depends on the device type: VIRTIO_RDMA_F_*. */
#define VRD_DEVICE_FEATURES	0xffffffULL

/*
 * Virtio feature bits that the device offers: VERSION_1, ACCESS_PLATFORM, INDIRECT_DESC,
 * EVENT_IDX, and those of VRD_DEVICE_FEATURES that its transports support.  Constant for the
 * life of the device.
 */
uint64_t vrd_device_features(const struct vrd_device *dev);

/*
 * The features that the driver accepted; after a migration, those that it had accepted on
 * the source host.  -EINVAL with @err if a feature is not offered, or if a required one is
 * missing (VERSION_1, ACCESS_PLATFORM; ATOMIC with ATOMIC_GLOBAL).  -EBUSY while the control
 * queue is started.
 */
int vrd_device_set_features(struct vrd_device *dev, uint64_t features, struct vrd_error *err);

/* Copies up to @len bytes of configuration space from @offset; the rest of @buf is zeroed. */
void vrd_device_get_config(struct vrd_device *dev, uint32_t offset, void *buf, uint32_t len);

/* Number of virtqueues of the device: 3 + num_comp_vectors. */
unsigned int vrd_device_num_queues(const struct vrd_device *dev);

/* ---- guest memory ---------------------------------------------------- */

struct vrd_mem_region {
	uint64_t addr;			/* DMA address, page aligned */
	uint64_t size;			/* bytes, a multiple of the page size */
	void *host;			/* hva of an existing mapping, valid until the region
					 * leaves the table; NULL: the core maps @fd */
	int fd;				/* the core duplicates it.  With @host it may be -1,
					 * except with transport ibverbs, which maps pages a
					 * second time */
	uint64_t fd_offset;		/* bytes */
	bool readonly;
};

#define VRD_MAX_MEM_REGIONS	512

/*
 * Replaces the whole table.  When it returns, no thread of the core accesses memory of the
 * old table.  Memory regions and rings remain valid as far as their DMA addresses are still
 * in the table; accesses to the rest of them fail.  The host's RDMA device (transport ibverbs)
 * may access removed memory until the device has settled.  Overlap, wrap, misalignment, or a
 * file shorter than its region: -EINVAL with @err, and the old table stays.
 */
int vrd_device_set_mem_table(struct vrd_device *dev, const struct vrd_mem_region *regions,
			     unsigned int num, struct vrd_error *err);

/*
 * Sets the dirty log, or with @bitmap NULL, removes it.  When it returns, each page of guest
 * memory that the device writes has its bit set after the write: page n (of 4 KiB, by DMA
 * address) is bit n % 8 of byte n / 8.  The core only sets bits, atomically; the front end
 * clears them with an atomic exchange and then reads the pages.  @bitmap belongs to the front
 * end and must remain until the log has been removed or replaced; @pages is its size in bits.
 * Pages of a later memory table beyond that are not logged.
 * -EOPNOTSUPP with @err: the host's RDMA device writes to guest memory by itself (transport
 * ibverbs).  -EINVAL with @err: @pages is too small for the memory table.
 */
int vrd_device_set_dirty_log(struct vrd_device *dev, uint8_t *bitmap, uint64_t pages,
			     struct vrd_error *err);

/* ---- virtqueues ------------------------------------------------------ */

struct vrd_vq_config {
	uint16_t num;			/* size, a power of two up to 32768 */
	uint64_t desc;			/* DMA addresses */
	uint64_t avail;
	uint64_t used;
	uint16_t last_avail;		/* next entry of the available ring to take */
};

/*
 * The core duplicates the descriptors.  They are eventfds; a call descriptor may also be a
 * stream socket of AF_UNIX.  -1: none.  A new descriptor replaces the old one at any time.
 * A new call descriptor is signalled once immediately if the driver may have missed used
 * buffers.  No thread of the core blocks on a descriptor, whatever another process does to
 * its flags or counter.
 */
int vrd_device_vq_set_kick(struct vrd_device *dev, unsigned int vq, int fd);
int vrd_device_vq_set_call(struct vrd_device *dev, unsigned int vq, int fd);

/*
 * Signals an eventfd or a stream socket of AF_UNIX that another process shares;
 * never blocks.  0 or a negative errno.
 */
int vrd_device_signal(struct vrd_device *dev, int fd);

/*
 * Closes a descriptor that another process passed, later, on a thread created for it:
 * close() may sleep for as long as that process determines, unless the descriptor is an
 * eventfd or a memory file.  A front end must refuse descriptors from a process while
 * VRD_MAX_PENDING_CLOSES of its descriptors are still open.
 */
void vrd_device_close_fd(struct vrd_device *dev, int fd);
unsigned int vrd_device_pending_closes(struct vrd_device *dev);
#define VRD_MAX_PENDING_CLOSES	600	/* more than the sockets of one client */

/*
 * Starts a queue.  The device runs while its control queue is started: starting it resumes
 * the pollers' work on this device, stopping it suspends it.  Addresses that are not RAM:
 * -EFAULT with @err.
 */
int vrd_device_vq_start(struct vrd_device *dev, unsigned int vq,
			const struct vrd_vq_config *cfg, struct vrd_error *err);

/*
 * Stops a queue; 0 if it was not started.  When it has returned, this queue's memory is not
 * accessed.  When the control queue has been stopped, no guest memory of the device is
 * accessed, and all its objects stay.  @last_avail (may be NULL) gets the next entry to
 * take.
 */
int vrd_device_vq_stop(struct vrd_device *dev, unsigned int vq, uint16_t *last_avail);

/*
 * RESET: stops all queues and destroys all objects; the memory table stays.  It does not wait
 * for the host's RDMA stack: see vrd_device_settle().
 */
void vrd_device_reset(struct vrd_device *dev);

/*
 * After vrd_device_reset(), vrd_device_set_mem_table() and the start of the control queue by
 * another driver, the host's RDMA stack may still be deregistering memory (transport ibverbs).
 * The host's RDMA device may access that memory until the device has settled, so tell nobody
 * before that that the call is complete.
 *
 * Waits at most @timeout_ms; true: the device has settled.  A host that does not answer in time
 * is logged.  With a time of zero it only asks.
 */
bool vrd_device_settle(struct vrd_device *dev, unsigned int timeout_ms);
/* An eventfd of the core, signalled when the device settles; to be watched edge-triggered. */
int vrd_device_settled_fd(const struct vrd_device *dev);
/* The longest time for which a front end should let a guest wait. */
#define VRD_SETTLE_MS	2000

/* ---- statistics ------------------------------------------------------ */

/*
 * Calls @fn with each counter: the VIRTIO_RDMA_STAT_* counters by lower-case name ("notify",
 * "wakeup", ...), then the objects in use ("qps", "srqs", "cqs", "mrs", "pds", "mr_bytes").
 */
void vrd_device_stats(struct vrd_device *dev,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/* Counters of the whole engine: "poller_spins", "poller_sleeps", "devices", ... */
void vrd_engine_stats(struct vrd_engine *engine,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/*
 * True if the device has failed permanently (corrupt virtqueue, host failure).  The front
 * end then sets NEEDS_RESET (in process) or closes the connection (vhost-user).
 * vrd_device_error_fd() is an eventfd that becomes readable then; it belongs to the core.
 */
bool vrd_device_is_broken(const struct vrd_device *dev);
int vrd_device_error_fd(const struct vrd_device *dev);

/*
 * For the SIGBUS handler of a process that accepts memory whose owner could shorten the file
 * (no F_SEAL_SHRINK): true if @addr belongs to a region that the core mapped.  The mapping
 * has then been replaced by zero pages of the core, the device is broken, and the thread may
 * continue.  Async-signal-safe.
 */
bool vrd_engine_sigbus(struct vrd_engine *engine, void *addr);

/* Bytes of guest memory that memory regions cover. */
uint64_t vrd_device_mr_bytes(const struct vrd_device *dev);

#endif /* VRD_H */
