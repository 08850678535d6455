/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device core, as its shells see it: vrdmad, the QEMU glue and the tests.
 *
 * A shell makes one engine for its process (pollers, fabrics), and a device
 * for each virtio-rdma device.  It hands over guest memory, virtqueue addresses
 * and file descriptors; the core does the rest on threads of its own and never
 * calls back into the shell except to log.
 *
 * Threading: the functions of one device are called by one shell thread at a
 * time; different devices may be driven by different threads.  All of them may
 * block for a short while (quiesce), none waits for the guest.
 *
 * The core includes nothing of QEMU, GLib, libvhost-user or libibverbs.
 */
#ifndef VRD_H
#define VRD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vrd_engine;
struct vrd_device;
struct vrd_ibdev;

/* What went wrong, and what the user can do about it.  Both are filled by the
 * functions that take one, whenever they return a negative errno.
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
	bool poll_fixed;		/* spin for all of poll_us even where the kernel preempts
					 * the pollers: for pollers with CPUs of their own */
	bool private_fds;		/* no other process has the kick and call descriptors,
					 * which are eventfds: their O_NONBLOCK can be relied on */
	vrd_log_fn *log;		/* or NULL */
	void *log_opaque;
	enum vrd_log_level log_level;	/* less important messages are not made */
};

/* Default of poll_us. */
#define VRD_POLL_US_DEFAULT	50

/* 0, or a negative errno with @err filled. */
int vrd_engine_create(const struct vrd_engine_config *cfg, struct vrd_engine **engine,
		      struct vrd_error *err);
/* All devices must be gone. */
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
	uint64_t max_ring_bytes;	/* of the buffers of all rings together; the device needs
					 * a 256th of it for their pages */
};

struct vrd_device_config {
	const char *name;		/* for messages and statistics */
	uint8_t mac[6];			/* unicast; of the netdev to pair with */
	uint16_t num_comp_vectors;	/* 1..VIRTIO_RDMA_MAX_COMP_VECTORS */
	/*
	 * Names of transports with commas, as in "memory,ibverbs": traffic takes the
	 * first one that reaches its destination.  NULL: "ibverbs" if there is an
	 * ibdev, else "memory".
	 */
	const char *transports;
	const char *fabric;		/* devices of one fabric reach each other; NULL: "default" */
	struct vrd_limits limits;
	/*
	 * GIDs that the guest may use, besides the link-local GID of its MAC.  If
	 * num_allowed_gids is 0 and own_gids_only is not set: any that no other
	 * device of the fabric uses, and that is not reserved for one (gid.c).
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
	 * Ports of rdma_cm (RDMA_PS_TCP) at which peers without a daemon may
	 * connect to the guest: the host listens there in its name (vrd_mad.h).
	 */
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
};

/*
 * Opens a host's RDMA device before the shell gives up its rights to do so, for
 * one device, which keeps it as long as it needs it.
 */
int vrd_ibdev_open(const char *name, struct vrd_ibdev **ibdev, struct vrd_error *err);
void vrd_ibdev_close(struct vrd_ibdev *ibdev);

/*
 * 0, or a negative errno with @err filled.  The device has no memory and no
 * queues yet.  Every string and array of @cfg is copied.
 */
int vrd_device_create(struct vrd_engine *engine, const struct vrd_device_config *cfg,
		      struct vrd_device **dev, struct vrd_error *err);

/* Destroys all objects, unmaps the memory, closes the descriptors.  After it
 * returned no byte moves.
 */
void vrd_device_destroy(struct vrd_device *dev);

/* Virtio feature bits whose meaning depends on the device type: VIRTIO_RDMA_F_*. */
#define VRD_DEVICE_FEATURES	0xffffffULL

/*
 * Virtio feature bits that the device offers: VERSION_1, ACCESS_PLATFORM,
 * INDIRECT_DESC, EVENT_IDX, and of VRD_DEVICE_FEATURES what its transport can do.
 * Constant for the life of the device.
 */
uint64_t vrd_device_features(const struct vrd_device *dev);

/*
 * The features that the driver accepted; after a migration, those that it had
 * accepted on the other host.  -EINVAL with @err if one is not offered, or one
 * that is required is missing (VERSION_1, ACCESS_PLATFORM; ATOMIC with
 * ATOMIC_GLOBAL).  -EBUSY while the control queue is started.
 */
int vrd_device_set_features(struct vrd_device *dev, uint64_t features, struct vrd_error *err);

/* Copies up to @len bytes of configuration space from @offset; the rest of
 * @buf is zeroed.
 */
void vrd_device_get_config(struct vrd_device *dev, uint32_t offset, void *buf, uint32_t len);

/* Virtqueues that the device has: 3 + num_comp_vectors. */
unsigned int vrd_device_num_queues(const struct vrd_device *dev);

/* ---- guest memory ---------------------------------------------------- */

struct vrd_mem_region {
	uint64_t addr;			/* device address, page aligned */
	uint64_t size;			/* bytes, a multiple of the page size */
	void *host;			/* where it is mapped already, valid until it leaves the
					 * table; or NULL: the core maps @fd itself */
	int fd;				/* the core duplicates it.  With @host it may be -1, but
					 * for transport ibverbs, which maps pages a second time */
	uint64_t fd_offset;		/* bytes */
	bool readonly;
};

#define VRD_MAX_MEM_REGIONS	512

/*
 * Replaces the whole table.  When it returns, no thread of the core touches
 * memory of the old table.  Memory regions and rings survive as far as their
 * device addresses are still in the table; those that are not fail their
 * accesses.  Overlap, wrap, misalignment, a file shorter than its region:
 * -EINVAL with @err, and the old table stays.
 */
int vrd_device_set_mem_table(struct vrd_device *dev, const struct vrd_mem_region *regions,
			     unsigned int num, struct vrd_error *err);

/* ---- virtqueues ------------------------------------------------------ */

struct vrd_vq_config {
	uint16_t num;			/* size, a power of two up to 32768 */
	uint64_t desc;			/* device addresses */
	uint64_t avail;
	uint64_t used;
	uint16_t last_avail;		/* next entry of the available ring to take */
};

/*
 * The core duplicates the descriptors.  They are eventfds; a call descriptor may
 * also be a stream socket of AF_UNIX.  -1: none.  A new descriptor replaces the
 * old one at any time, and a call descriptor is signalled once at once if used
 * buffers may have been missed.  Whatever another process does to the flags or
 * the counter of a descriptor, no thread of the core blocks on it.
 */
int vrd_device_vq_set_kick(struct vrd_device *dev, unsigned int vq, int fd);
int vrd_device_vq_set_call(struct vrd_device *dev, unsigned int vq, int fd);

/*
 * Signals an eventfd or a stream socket of AF_UNIX that another process shares;
 * never blocks.  0 or a negative errno.
 */
int vrd_device_signal(struct vrd_device *dev, int fd);

/*
 * Closes a descriptor that another process gave, at some time, on a thread of
 * its own: close() may sleep for as long as that process likes, unless the
 * descriptor is an eventfd or a memory file.  A front end takes no more
 * descriptors from a process of which VRD_MAX_PENDING_CLOSES are still open.
 */
void vrd_device_close_fd(struct vrd_device *dev, int fd);
unsigned int vrd_device_pending_closes(struct vrd_device *dev);
#define VRD_MAX_PENDING_CLOSES	600	/* more than the sockets of one client */

/*
 * Starts a queue.  The device runs as long as its control queue is started:
 * starting it resumes the pollers' work on this device, stopping it suspends
 * it.  Addresses that are not RAM: -EFAULT with @err.
 */
int vrd_device_vq_start(struct vrd_device *dev, unsigned int vq,
			const struct vrd_vq_config *cfg, struct vrd_error *err);

/*
 * Stops a queue, 0 if it was not started.  After it returned, this queue's
 * memory is not touched; after the control queue was stopped, no byte moves
 * in any guest memory of the device, and all its objects stay.  @last_avail
 * (may be NULL) gets the next entry to take.
 */
int vrd_device_vq_stop(struct vrd_device *dev, unsigned int vq, uint16_t *last_avail);

/* RESET: stops all queues and destroys all objects; the memory table stays. */
void vrd_device_reset(struct vrd_device *dev);

/* ---- statistics ------------------------------------------------------ */

/*
 * Calls @fn with each counter: the VIRTIO_RDMA_STAT_* ones by lower-case name
 * ("notify", "wakeup", ...), then objects in use ("qps", "srqs", "cqs", "mrs",
 * "pds", "mr_bytes").
 */
void vrd_device_stats(struct vrd_device *dev,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/* Whole engine: "poller_spins", "poller_sleeps", "devices", ... */
void vrd_engine_stats(struct vrd_engine *engine,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/*
 * True if the core lost the device for good (corrupt virtqueue, host failure):
 * the shell then sets NEEDS_RESET (in process) or closes the connection
 * (vhost-user).  vrd_device_error_fd() is an eventfd, readable when that
 * happens; it belongs to the core.
 */
bool vrd_device_is_broken(const struct vrd_device *dev);
int vrd_device_error_fd(const struct vrd_device *dev);

/*
 * For the SIGBUS handler of a process that accepts memory whose owner could
 * shorten the file (no F_SEAL_SHRINK): true if @addr belongs to a region that
 * the core mapped.  It was replaced by zeroes of the core's own, the device is
 * broken, and the thread may go on.  Async-signal-safe.
 */
bool vrd_engine_sigbus(struct vrd_engine *engine, void *addr);

/* Bytes of guest memory that memory regions cover. */
uint64_t vrd_device_mr_bytes(const struct vrd_device *dev);

#endif /* VRD_H */
