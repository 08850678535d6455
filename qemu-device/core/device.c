// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device: life cycle, configuration space, features, memory table, reset.
 * Implements the device functions of vrd.h.
 *
 * Runs on the device's front end thread, under dev->lock.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "closer.h"
#include "control.h"
#include "end.h"
#include "event.h"
#include "mem.h"
#include "poller.h"
#include "virtq.h"

#define FEATURES_REQUIRED	((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))
#define FEATURES		(FEATURES_REQUIRED | (1ULL << VIRTIO_RING_F_INDIRECT_DESC) | \
				 (1ULL << VIRTIO_RING_F_EVENT_IDX))

/* Time limit for the host's RDMA stack during the destruction of a device. */
#define DESTROY_MS	3000

/* ---- limits ------------------------------------------------------------ */

struct limit {
	const char *name;
	size_t offset;
	uint32_t def, max;
};

#define LIMIT(field, def, max) { #field, offsetof(struct vrd_limits, field), def, max }

/* Upper bounds: numbers must fit into their bits, and sums into 64 bits. */
static const struct limit limits32[] = {
	LIMIT(max_ctx, 1024, 1U << 20),
	LIMIT(max_pd, 16384, 1U << 22),
	LIMIT(max_mr, 262144, 1U << 23),
	LIMIT(max_cq, 65536, 1U << 22),
	LIMIT(max_cqe, 262144, 1U << 22),
	LIMIT(max_qp, 65536, 1U << 22),
	LIMIT(max_qp_wr, 16384, 1U << 16),
	LIMIT(max_sge, VRD_MAX_SGE, VRD_MAX_SGE),
	LIMIT(max_inline, VRD_MAX_INLINE, VRD_MAX_INLINE),
	LIMIT(max_srq, 65536, 1U << 22),
};

#define MAX_RING_BYTES_DEFAULT	(1ULL << 32)	/* needs 12 MiB of host memory */
#define MAX_MR_BYTES_DEFAULT	(1ULL << 38)	/* needs a thousandth of it in host memory */

static int set_limits(struct vrd_limits *limits, const struct vrd_limits *wanted,
		      struct vrd_error *err)
{
	const uint64_t space = 1ULL << VRD_MEM_ADDR_BITS;
	unsigned int i;
	uint32_t *v;

	*limits = *wanted;
	for (i = 0; i < sizeof(limits32) / sizeof(limits32[0]); i++) {
		v = (uint32_t *)((uint8_t *)limits + limits32[i].offset);
		if (!*v)
			*v = limits32[i].def;
		if (*v > limits32[i].max)
			return vrd_fail(err, -EINVAL, "lower it", "%s=%u is above %u",
					limits32[i].name, *v, limits32[i].max);
	}
	if (!limits->max_mr_bytes)
		limits->max_mr_bytes = MAX_MR_BYTES_DEFAULT;
	if (!limits->max_ring_bytes)
		limits->max_ring_bytes = MAX_RING_BYTES_DEFAULT;
	if (!limits->max_mr_size)
		limits->max_mr_size = limits->max_mr_bytes;
	if (limits->max_mr_size > space || limits->max_mr_bytes > space * 1024)
		return vrd_fail(err, -EINVAL, "lower it",
				"max_mr_size is above 2^44, or max_mr_bytes above 2^54");
	return 0;
}

/* ---- creation ---------------------------------------------------------- */

static int check_config(const struct vrd_device_config *cfg, struct vrd_error *err)
{
	static const uint8_t zero[6];

	if (!cfg->name || !cfg->name[0])
		return vrd_fail(err, -EINVAL, "", "a device needs a name");
	if ((cfg->mac[0] & 1) || !memcmp(cfg->mac, zero, sizeof(zero)))
		return vrd_fail(err, -EINVAL, "set mac= to that of the guest's network device",
				"%02x:%02x:%02x:%02x:%02x:%02x is no unicast MAC address",
				cfg->mac[0], cfg->mac[1], cfg->mac[2], cfg->mac[3], cfg->mac[4],
				cfg->mac[5]);
	if (!cfg->num_comp_vectors || cfg->num_comp_vectors > VIRTIO_RDMA_MAX_COMP_VECTORS)
		return vrd_fail(err, -EINVAL, "", "%u completion vectors: 1 to %u are possible",
				cfg->num_comp_vectors, VIRTIO_RDMA_MAX_COMP_VECTORS);
	if (cfg->num_allowed_gids > VRD_MAX_ALLOWED_GIDS)
		return vrd_fail(err, -EINVAL, "", "%u allowed GIDs: at most %u are possible",
				cfg->num_allowed_gids, VRD_MAX_ALLOWED_GIDS);
	return 0;
}

static int make_tables(struct vrd_device *dev)
{
	const struct vrd_limits *l = &dev->limits;

	/* Number zero is invalid; QP 0 and 1 are special. */
	if (vrd_table_init(&dev->ctxs, l->max_ctx, 1, 0) ||
	    vrd_table_init(&dev->pds, l->max_pd, 1, 0) ||
	    vrd_table_init(&dev->mrs, l->max_mr, 0, VRD_TABLE_RANDOM) ||
	    vrd_table_init(&dev->cqs, l->max_cq, 1, 0) ||
	    vrd_table_init(&dev->srqs, l->max_srq, 1, 0) ||
	    vrd_table_init(&dev->qps, l->max_qp, 2,
			   dev->owner ? VRD_TABLE_FOREIGN : 0))
		return -ENOMEM;
	if (dev->owner &&
	    (vrd_table_init(&dev->lkeys, l->max_mr, 0, VRD_TABLE_FOREIGN) ||
	     vrd_table_init(&dev->rkeys, l->max_mr, 0, VRD_TABLE_FOREIGN)))
		return -ENOMEM;
	return 0;
}

static int make_vqs(struct vrd_device *dev)
{
	unsigned int i;

	dev->num_vqs = VIRTIO_RDMA_VQ_COMP_BASE + le16toh(dev->config.num_comp_vectors);
	dev->vqs = calloc(dev->num_vqs, sizeof(dev->vqs[0]));
	if (!dev->vqs)
		return -ENOMEM;
	for (i = 0; i < dev->num_vqs; i++) {
		dev->vqs[i] = vrd_vq_create(dev, i);
		if (!dev->vqs[i])
			return -ENOMEM;
	}
	return 0;
}

/* Makes the parts that need neither threads nor the transport; free_parts() frees all of them. */
static int make_parts(struct vrd_device *dev, const struct vrd_device_config *cfg)
{
	dev->error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->error_fd < 0)
		return -errno;
	dev->lost_fd = vrd_mem_open_lost();
	if (dev->lost_fd < 0)
		return -errno;
	dev->closer = vrd_closer_create();
	if (!dev->closer)
		return -ENOMEM;
	dev->name = strdup(cfg->name);
	dev->fabric_name = strdup(cfg->fabric ? cfg->fabric : "default");
	if (!dev->name || !dev->fabric_name)
		return -ENOMEM;
	memcpy(dev->config.mac, cfg->mac, sizeof(dev->config.mac));
	dev->config.num_comp_vectors = htole16(cfg->num_comp_vectors);
	dev->own_gids_only = cfg->own_gids_only;
	dev->num_allowed_gids = cfg->num_allowed_gids;
	memcpy(dev->allowed_gids, cfg->allowed_gids, sizeof(dev->allowed_gids));
	dev->counters = aligned_alloc(_Alignof(struct vrd_counters),
				      vrd_engine_poller_count(dev->engine) * sizeof(dev->counters[0]));
	if (!dev->counters)
		return -ENOMEM;
	memset(dev->counters, 0, vrd_engine_poller_count(dev->engine) * sizeof(dev->counters[0]));
	if (make_tables(dev) || make_vqs(dev) || vrd_mr_init(dev) || vrd_event_init(dev))
		return -ENOMEM;
	return dev->blocks ? vrd_workers_create(dev->engine, dev->name, &dev->workers) : 0;
}

static void free_parts(struct vrd_device *dev)
{
	unsigned int i;

	vrd_workers_destroy(dev->workers);
	vrd_ends_fini(&dev->ends);
	vrd_closer_destroy(dev->closer);
	vrd_event_fini(dev);
	vrd_mr_fini(dev);
	for (i = 0; dev->vqs && i < dev->num_vqs; i++)
		vrd_vq_destroy(dev->vqs[i]);
	free(dev->vqs);
	vrd_table_destroy(&dev->rkeys);
	vrd_table_destroy(&dev->lkeys);
	vrd_table_destroy(&dev->qps);
	vrd_table_destroy(&dev->srqs);
	vrd_table_destroy(&dev->cqs);
	vrd_table_destroy(&dev->mrs);
	vrd_table_destroy(&dev->pds);
	vrd_table_destroy(&dev->ctxs);
	vrd_mem_destroy(dev->mem);
	free(dev->counters);
	free(dev->fabric_name);
	free(dev->name);
	if (dev->error_fd >= 0)
		close(dev->error_fd);
	if (dev->lost_fd >= 0)
		close(dev->lost_fd);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static void close_transports(struct vrd_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	vrd_transports_close(dev);
	pthread_mutex_unlock(&dev->lock);
}

/* The transports' features, and those that do not depend on a transport. */
static void set_offered(struct vrd_device *dev)
{
	dev->offered = FEATURES | (vrd_device_caps(dev).features & VRD_DEVICE_FEATURES);
	/* The ring of a CQ can be replaced if no transport has CQs of its own. */
	if (!dev->host_cqs)
		dev->offered |= VRD_F(RESIZE_CQ);
}

int vrd_device_create(struct vrd_engine *engine, const struct vrd_device_config *cfg,
		      struct vrd_device **out, struct vrd_error *err)
{
	const char *names = cfg->transports ? cfg->transports : cfg->ibdev ? "ibverbs" : "memory";
	struct vrd_device *dev;
	int ret;

	ret = check_config(cfg, err);
	if (ret)
		return ret;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	dev->engine = engine;
	dev->error_fd = -1;
	dev->lost_fd = -1;
	dev->db_kick_fd = -1;
	pthread_mutex_init(&dev->lock, NULL);
	vrd_cmds_init(&dev->cmds);
	atomic_store(&dev->suspended, 1);	/* until the control queue starts */

	ret = vrd_ends_init(&dev->ends);
	if (ret) {
		vrd_fail(err, ret, "raise the limit of open files", "device %s: %s", cfg->name,
			 strerror(-ret));
		goto free;
	}
	ret = vrd_transports_choose(dev, names, err);
	if (ret)
		goto free;
	ret = set_limits(&dev->limits, &cfg->limits, err);
	if (ret)
		goto free;
	ret = make_parts(dev, cfg);
	if (ret) {
		vrd_fail(err, ret, "", "device %s: %s", cfg->name, strerror(-ret));
		goto free;
	}
	dev->fabric = vrd_fabric_get(engine, dev->fabric_name);
	if (!dev->fabric) {
		ret = vrd_fail(err, -ENOMEM, "", "out of memory");
		goto free;
	}
	ret = vrd_engine_add_device(dev);
	if (ret) {
		vrd_fail(err, ret, "", "device %s: %s", dev->name, strerror(-ret));
		goto put_fabric;
	}
	pthread_mutex_lock(&dev->lock);
	ret = vrd_transports_open(dev, cfg, err);
	pthread_mutex_unlock(&dev->lock);
	if (ret)
		goto remove;
	set_offered(dev);
	dev->max_msg_sz = vrd_device_caps(dev).max_msg_sz;
	ret = vrd_control_create(dev, err);
	if (ret)
		goto close;
	vrd_log(engine, VRD_LOG_INFO, "%s: created on fabric %s, transport %s", dev->name,
		dev->fabric_name, names);
	*out = dev;
	return 0;
close:
	close_transports(dev);
remove:
	vrd_engine_remove_device(dev);
put_fabric:
	vrd_fabric_put(dev->fabric);
free:
	free_parts(dev);
	return ret;
}

void vrd_device_destroy(struct vrd_device *dev)
{
	unsigned int i;
	bool gone;

	vrd_device_reset(dev);
	/* Stop watching the kicks before their descriptors are closed. */
	for (i = 0; i < dev->num_vqs; i++) {
		vrd_device_vq_set_kick(dev, i, -1);
		vrd_device_vq_set_call(dev, i, -1);
	}
	vrd_device_lock(dev);
	gone = vrd_ends_wait(dev, true, DESTROY_MS);
	vrd_device_unlock(dev);
	if (gone) {
		vrd_control_destroy(dev);
		vrd_device_finish(dev);
		return;
	}
	/*
	 * The resources that the call uses must remain until it returns; the process continues
	 * without the device.
	 */
	vrd_log(dev->engine, VRD_LOG_ERROR,
		"%s: a call of the host's RDMA stack does not return: the device is freed when it does",
		dev->name);
	vrd_control_abandon(dev);
}

void vrd_device_finish(struct vrd_device *dev)
{
	close_transports(dev);
	vrd_engine_remove_device(dev);
	vrd_fabric_put(dev->fabric);
	vrd_log(dev->engine, VRD_LOG_INFO, "%s: destroyed", dev->name);
	free_parts(dev);
}

/* ---- virtio ------------------------------------------------------------ */

uint64_t vrd_device_features(const struct vrd_device *dev)
{
	return dev->offered;
}

int vrd_device_set_features(struct vrd_device *dev, uint64_t features, struct vrd_error *err)
{
	int ret = 0;

	if (features & ~dev->offered)
		return vrd_fail(err, -EINVAL, "", "features 0x%" PRIx64 " are not offered",
				(uint64_t)(features & ~dev->offered));
	if (~features & FEATURES_REQUIRED)
		return vrd_fail(err, -EINVAL,
				"the driver has to be a virtio 1 driver that uses the DMA API",
				"features 0x%" PRIx64 " are required",
				(uint64_t)(~features & FEATURES_REQUIRED));
	if ((features & VRD_F(ATOMIC_GLOBAL)) && !(features & VRD_F(ATOMIC)))
		return vrd_fail(err, -EINVAL, "", "feature ATOMIC_GLOBAL requires ATOMIC");
	vrd_device_lock(dev);
	if (dev->running) {
		ret = vrd_fail(err, -EBUSY, "", "features cannot change while the device runs");
	} else {
		dev->features = features;
		dev->atomics = features & VRD_F(ATOMIC);
		dev->mem_mgt = features & VRD_F(MEM_MGT);
	}
	vrd_device_unlock(dev);
	return ret;
}

void vrd_device_get_config(struct vrd_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	uint32_t n = 0;

	if (offset < sizeof(dev->config)) {
		n = sizeof(dev->config) - offset;
		if (n > len)
			n = len;
		memcpy(buf, (const uint8_t *)&dev->config + offset, n);
	}
	memset((uint8_t *)buf + n, 0, len - n);
}

unsigned int vrd_device_num_queues(const struct vrd_device *dev)
{
	return dev->num_vqs;
}

bool vrd_device_is_broken(const struct vrd_device *dev)
{
	return atomic_load(&dev->broken);
}

int vrd_device_error_fd(const struct vrd_device *dev)
{
	return dev->error_fd;
}

uint64_t vrd_device_mr_bytes(const struct vrd_device *dev)
{
	uint64_t bytes = atomic_load(&dev->mr_bytes);

	/* A DMA region covers all memory.  Only the front end's thread changes dev->mem. */
	if (atomic_load(&dev->dma_mrs) && dev->mem)
		bytes += dev->mem->pages << VIRTIO_RDMA_PAGE_SHIFT;
	return bytes;
}

void vrd_device_close_fd(struct vrd_device *dev, int fd)
{
	vrd_closer_close(dev->closer, fd);
}

unsigned int vrd_device_pending_closes(struct vrd_device *dev)
{
	return vrd_closer_pending(dev->closer);
}

/* ---- memory table ------------------------------------------------------ */

void vrd_mem_unpin(struct vrd_device *dev)
{
	struct vrd_mem *mem;

	if (--dev->mem_pins)
		return;
	while ((mem = dev->old_mem)) {
		dev->old_mem = mem->next;
		vrd_mem_destroy(mem);
	}
}

int vrd_device_set_mem_table(struct vrd_device *dev, const struct vrd_mem_region *regions,
			     unsigned int num, struct vrd_error *err)
{
	struct vrd_mem *mem, *old;
	unsigned int i;
	int ret;

	/* Only this thread changes dev->mem. */
	ret = vrd_mem_create(dev, regions, num, dev->mem, &mem, err);
	if (ret)
		return ret;
	if (dev->mem && !mem->num_changes) {
		vrd_mem_destroy(mem);
		return 0;
	}

	vrd_device_lock(dev);
	vrd_device_quiesce(dev);
	old = dev->mem;
	__atomic_store_n(&dev->mem, mem, __ATOMIC_RELEASE);
	dev->mem_generation++;
	vrd_rings_retranslate(dev);
	vrd_transports_mem_changed(dev);
	vrd_ends_mark(dev);
	for (i = 0; i < dev->num_vqs; i++) {
		struct vrd_vq *vq = dev->vqs[i];

		vrd_lock(&vq->lock);
		/*
		 * If the rings of a queue are not RAM any more, that is detected when the queue
		 * is used.
		 */
		if (vq->started)
			vrd_vq_translate_locked(vq, mem);
		vrd_unlock(&vq->lock);
	}
	vrd_device_resume(dev);
	if (old && dev->mem_pins) {
		/*
		 * A worker uses the old table to register memory, but does not access that
		 * memory.
		 */
		old->next = dev->old_mem;
		dev->old_mem = old;
		old = NULL;
	}
	vrd_device_unlock(dev);

	vrd_mem_destroy(old);
	vrd_control_wake(dev);
	vrd_log(dev->engine, VRD_LOG_DEBUG, "%s: memory table of %u regions, %" PRIu64 " MiB",
		dev->name, num, mem->pages >> (20 - VIRTIO_RDMA_PAGE_SHIFT));
	return 0;
}

/* ---- reset ------------------------------------------------------------- */

bool vrd_device_settle(struct vrd_device *dev, unsigned int timeout_ms)
{
	unsigned int left;
	bool over;

	vrd_device_lock(dev);
	over = vrd_ends_wait(dev, false, timeout_ms);
	left = dev->ends.num_unsettled;
	vrd_device_unlock(dev);
	if (!over && timeout_ms)
		vrd_log(dev->engine, VRD_LOG_ERROR,
			"%s: the host's RDMA device does not give %u memory regions back: it may still write to them",
			dev->name, left);
	return over;
}

int vrd_device_settled_fd(const struct vrd_device *dev)
{
	return dev->ends.settled_fd;
}

/*
 * The driver that created the objects is gone, or is about to reuse their memory.  So their
 * rings are forgotten first: destroying the objects would write completions and doorbell
 * words.
 *
 * The caller waits for the pollers, but the number of waits does not depend on the number of
 * objects: three messages to each poller (quiesce, detach, resume), one poller after the
 * other, and at most five grace periods (QPs, SRQs, CQs, regions, GIDs).  A reset has two
 * more messages, for the queues that it stops.  A poller handles a message in its next turn,
 * and a grace period is over when each poller has ended its turn: the length of a turn is
 * bounded (poller_internal.h).  Messages and callbacks of other devices add a turn for each
 * 64 of them.  Their number is bounded: a thread of a device waits for its message before it
 * sends the next one, and a callback belongs to a command in flight or to a GID.
 */
void vrd_device_clear(struct vrd_device *dev)
{
	vrd_device_quiesce(dev);
	vrd_rings_forget(dev);
	/* One message for all objects, instead of one for each. */
	vrd_poller_detach_all(dev);
	vrd_qp_destroy_all(dev);
	vrd_srq_destroy_all(dev);
	vrd_cq_destroy_all(dev);
	vrd_mr_dereg_all(dev);
	vrd_pd_destroy_all(dev);
	vrd_buf_destroy_all(dev);
	vrd_ctx_destroy_all(dev);
	vrd_gid_del_all(dev);
	vrd_event_reset(dev);
	vrd_device_resume(dev);
}

/*
 * The memory of the old driver is used for other purposes now, so nothing may access it any
 * more.  INIT of the new driver would be too late.
 */
void vrd_device_forget(struct vrd_device *dev)
{
	if (!dev->initialised)
		return;
	vrd_log(dev->engine, VRD_LOG_DEBUG, "%s: another driver took over", dev->name);
	vrd_cmds_cancel(dev);
	vrd_device_clear(dev);
	vrd_ends_mark(dev);
	dev->initialised = false;
	dev->num_vectors_used = 0;
}

void vrd_device_reset(struct vrd_device *dev)
{
	uint64_t count;

	vrd_device_lock(dev);
	vrd_device_stop_vqs(dev);
	vrd_cmds_cancel(dev);
	vrd_device_clear(dev);
	vrd_ends_mark(dev);
	dev->initialised = false;
	dev->num_vectors_used = 0;
	atomic_store(&dev->broken, false);
	/* The eventfd must not stay readable.  It may not have been readable. */
	if (read(dev->error_fd, &count, sizeof(count)) > 0)
		vrd_log(dev->engine, VRD_LOG_DEBUG, "%s: no longer broken", dev->name);
	vrd_device_unlock(dev);
}
