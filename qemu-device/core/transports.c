// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device and its transports: which transports it has, and the operations that concern all
 * of them.  They are called in the order of dev->transports.  If one fails, those before it
 * are undone in the opposite order.
 *
 * Control or front end thread under dev->lock, or a worker (see @blocks of struct
 * vrd_transport_ops).  Pollers call the functions at the end of the file.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "path.h"

static const struct vrd_transport_ops *const all[] = {
#define ENTRY(slot, name, have)	[VRD_SLOT_##slot] = (have) ? &vrd_##name##_transport : NULL,
	VRD_TRANSPORTS(ENTRY)
#undef ENTRY
};

static const char *const names_of_all[] = {
#define ENTRY(slot, name, have)	[VRD_SLOT_##slot] = #name,
	VRD_TRANSPORTS(ENTRY)
#undef ENTRY
};

/* Runs the statement that follows for each transport @t of @dev, first to last. */
#define for_each(t, dev) \
	for (const struct vrd_transport_ops *const *t = (dev)->transports; *t; t++)

/* Calls an operation that may be absent. */
#define CALL(t, op, ...)	((t)->op ? (t)->op(__VA_ARGS__) : 0)
#define CALL_VOID(t, op, ...) \
	do { \
		if ((t)->op) \
			(t)->op(__VA_ARGS__); \
	} while (0)

/* Calls @op of the transports before @t, last to first. */
#define UNDO(t, dev, op, ...) \
	do { \
		while (t-- != (dev)->transports) \
			CALL_VOID(*t, op, __VA_ARGS__); \
	} while (0)

/* The same for all transports of @dev. */
#define UNDO_ALL(dev, op, ...) \
	do { \
		const struct vrd_transport_ops *const *t = end_of(dev); \
\
		UNDO(t, dev, op, __VA_ARGS__); \
	} while (0)

static const struct vrd_transport_ops *const *end_of(const struct vrd_device *dev)
{
	const struct vrd_transport_ops *const *t = dev->transports;

	while (*t)
		t++;
	return t;
}

static bool carries_data(const struct vrd_transport_ops *t)
{
	return t->qp_types & VRD_QPT_DATA;
}

/* The transport that reaches every destination: the last one that carries data. */
static const struct vrd_transport_ops *uplink(const struct vrd_device *dev)
{
	const struct vrd_transport_ops *last = NULL;

	for_each(t, dev)
		if (carries_data(*t))
			last = *t;
	return last;
}

/* ---- selection ------------------------------------------------------------- */

static int no_such_transport(const char *name, int len, struct vrd_error *err)
{
	char known[128] = "";
	size_t used = 0;

	for (unsigned int i = 0; i < VRD_NUM_SLOTS; i++) {
		bool same = strlen(names_of_all[i]) == (size_t)len &&
			    !memcmp(names_of_all[i], name, (size_t)len);

		if (same)
			return vrd_fail(err, -EOPNOTSUPP, "build it with libibverbs and librdmacm",
					"transport \"%.*s\" is not in this build", len, name);
		if (all[i] && used < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
						 used ? ", " : "there are ", names_of_all[i]);
	}
	return vrd_fail(err, -EINVAL, known, "there is no transport \"%.*s\"",
			len > 64 ? 64 : len, name);
}

static const struct vrd_transport_ops *find(const char *name, int len)
{
	for (unsigned int i = 0; i < VRD_NUM_SLOTS; i++)
		if (all[i] && strlen(names_of_all[i]) == (size_t)len &&
		    !memcmp(names_of_all[i], name, (size_t)len))
			return all[i];
	return NULL;
}

static bool has(const struct vrd_device *dev, const struct vrd_transport_ops *transport)
{
	for_each(t, dev)
		if (*t == transport)
			return true;
	return false;
}

/* append() adds a transport at the end, prepend() before all others. */
static void append(struct vrd_device *dev, const struct vrd_transport_ops *transport)
{
	dev->transports[end_of(dev) - dev->transports] = transport;
}

static void prepend(struct vrd_device *dev, const struct vrd_transport_ops *transport)
{
	memmove(&dev->transports[1], &dev->transports[0],
		sizeof(dev->transports) - sizeof(dev->transports[0]));
	dev->transports[0] = transport;
}

static void sum_up(struct vrd_device *dev)
{
	unsigned int carriers = 0;

	for_each(t, dev) {
		carriers += carries_data(*t);
		if ((*t)->owns_numbers)
			dev->owner = *t;
		dev->blocks |= (*t)->blocks;
		dev->polled |= (*t)->poll != NULL;
		dev->host_cqs |= (*t)->cq_create != NULL;
		dev->maps_memory |= (*t)->mem_changed != NULL;
	}
	dev->several = carriers > 1;
}

int vrd_transports_choose(struct vrd_device *dev, const char *names, struct vrd_error *err)
{
	const struct vrd_transport_ops *transport;

	for (const char *name = names, *end; ; name = end + 1) {
		end = strchrnul(name, ',');
		transport = find(name, (int)(end - name));
		if (!transport)
			return no_such_transport(name, (int)(end - name), err);
		if (has(dev, transport))
			return vrd_fail(err, -EINVAL, "name it once", "transport %s is named twice",
					transport->name);
		append(dev, transport);
		if (transport->companion && !has(dev, transport->companion))
			prepend(dev, transport->companion);
		if (!*end)
			break;
	}
	if (!uplink(dev))
		return vrd_fail(err, -EINVAL, "add one that does",
				"none of the transports \"%.64s\" carries data", names);
	sum_up(dev);
	return 0;
}

int vrd_transports_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			struct vrd_error *err)
{
	for_each(t, dev) {
		int ret = CALL(*t, device_open, dev, cfg, err);

		if (!ret)
			continue;
		UNDO(t, dev, device_close, dev);
		return ret;
	}
	return 0;
}

void vrd_transports_close(struct vrd_device *dev)
{
	UNDO_ALL(dev, device_close, dev);
}

/* ---- the device ------------------------------------------------------------ */

static void lower64(uint64_t *n, uint64_t other)
{
	if (other < *n)
		*n = other;
}

static void lower(uint32_t *n, uint32_t other)
{
	if (other < *n)
		*n = other;
}

/* Reduces @caps to what both support; the properties of the port are those of @other. */
static void intersect(struct vrd_caps *caps, const struct vrd_caps *other)
{
	struct vrd_caps both = *other;

	both.features &= caps->features;
	/*
	 * Several agents would perform atomic operations on the same memory.  The operations
	 * are atomic together only if each agent is atomic with the host's CPUs.
	 */
	if (!(both.features & VRD_F(ATOMIC_GLOBAL)))
		both.features &= ~VRD_F(ATOMIC);
	lower64(&both.max_mr_size, caps->max_mr_size);
	lower(&both.max_msg_sz, caps->max_msg_sz);
	lower(&both.max_qp_rd_atom, caps->max_qp_rd_atom);
	lower(&both.max_qp_init_rd_atom, caps->max_qp_init_rd_atom);
	if (caps->max_mtu < both.max_mtu)
		both.max_mtu = caps->max_mtu;
	*caps = both;
}

struct vrd_caps vrd_device_caps(struct vrd_device *dev)
{
	struct vrd_caps caps = { 0 }, other;
	bool first = true;

	for_each(t, dev) {
		if (!(*t)->device_query)
			continue;
		other = (struct vrd_caps){ 0 };
		(*t)->device_query(dev, &other);
		if (first)
			caps = other;
		else
			intersect(&caps, &other);
		first = false;
	}
	return caps;
}

/* The port is down if the uplink is down, even if the memory transport could continue. */
uint8_t vrd_transports_port_state(struct vrd_device *dev)
{
	const struct vrd_transport_ops *t = uplink(dev);

	return t->port_state ? t->port_state(dev) : VIRTIO_RDMA_PORT_ACTIVE;
}

void vrd_transports_stats(struct vrd_device *dev,
			  void (*fn)(void *opaque, const char *name, uint64_t value),
			  void *opaque)
{
	char name[64];

	for_each(t, dev) {
		if (dev->several && carries_data(*t)) {
			snprintf(name, sizeof(name), "qps_%s", (*t)->name);
			fn(opaque, name, atomic_load(&dev->connections[(*t)->slot]));
		}
		CALL_VOID(*t, device_stats, dev, fn, opaque);
	}
}

void vrd_transports_resumed(struct vrd_device *dev)
{
	for_each(t, dev)
		CALL_VOID(*t, device_resumed, dev);
}

void vrd_transports_mem_changed(struct vrd_device *dev)
{
	for_each(t, dev)
		CALL_VOID(*t, mem_changed, dev);
}

/* ---- objects of the device ---------------------------------------------------- */

int vrd_transports_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	for_each(t, dev) {
		int ret = CALL(*t, gid_add, dev, index, gid);

		if (!ret)
			continue;
		UNDO(t, dev, gid_del, dev, index, gid);
		return ret;
	}
	return 0;
}

void vrd_transports_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	UNDO_ALL(dev, gid_del, dev, index, gid);
}

int vrd_transports_pd_alloc(struct vrd_device *dev, struct vrd_pd *pd)
{
	for_each(t, dev) {
		int ret = CALL(*t, pd_alloc, pd);

		if (!ret)
			continue;
		UNDO(t, dev, pd_dealloc, pd);
		return ret;
	}
	return 0;
}

void vrd_transports_pd_dealloc(struct vrd_device *dev, struct vrd_pd *pd)
{
	UNDO_ALL(dev, pd_dealloc, pd);
}

int vrd_transports_mr_reg(struct vrd_device *dev, struct vrd_mr *mr)
{
	for_each(t, dev) {
		int ret = CALL(*t, mr_reg, mr);

		if (!ret)
			continue;
		UNDO(t, dev, mr_dereg, mr);
		return ret;
	}
	return 0;
}

void vrd_transports_mr_dereg(struct vrd_device *dev, struct vrd_mr *mr)
{
	UNDO_ALL(dev, mr_dereg, mr);
}

int vrd_transports_cq_create(struct vrd_cq *cq)
{
	struct vrd_device *dev = cq->dev;

	for_each(t, dev) {
		int ret = CALL(*t, cq_create, cq);

		if (!ret)
			continue;
		UNDO(t, dev, cq_destroy, cq);
		return ret;
	}
	return 0;
}

void vrd_transports_cq_destroy(struct vrd_cq *cq)
{
	UNDO_ALL(cq->dev, cq_destroy, cq);
}

int vrd_transports_srq_create(struct vrd_srq *srq)
{
	struct vrd_device *dev = srq->dev;

	for_each(t, dev) {
		int ret = CALL(*t, srq_create, srq);

		if (!ret)
			continue;
		UNDO(t, dev, srq_free, srq);
		return ret;
	}
	return 0;
}

void vrd_transports_srq_destroy(struct vrd_srq *srq)
{
	for_each(t, srq->dev)
		CALL_VOID(*t, srq_destroy, srq);
}

void vrd_transports_srq_free(struct vrd_srq *srq)
{
	UNDO_ALL(srq->dev, srq_free, srq);
}

int vrd_transports_srq_modify(struct vrd_srq *srq, uint32_t limit)
{
	int ret = -EOPNOTSUPP;

	for_each(t, srq->dev) {
		if (ret == -EOPNOTSUPP && (*t)->srq_modify)
			ret = (*t)->srq_modify(srq, limit);
	}
	return ret;
}

int vrd_transports_srq_query(struct vrd_srq *srq, uint32_t *limit)
{
	int ret = -EOPNOTSUPP;

	for_each(t, srq->dev) {
		if (ret == -EOPNOTSUPP && (*t)->srq_query)
			ret = (*t)->srq_query(srq, limit);
	}
	return ret;
}

/* ---- queue pairs --------------------------------------------------------------- */

/*
 * A QP has a part in each transport that supports its type.  QP 1 is an exception: it is one
 * QP with one set of receives, so only the first transport that supports it has a part of
 * it.
 */
static bool takes(const struct vrd_transport_ops *t, const struct vrd_qp *qp, bool taken)
{
	return t->qp_types >> qp->type & 1 && !(taken && qp->type == VIRTIO_RDMA_QPT_GSI);
}

int vrd_transports_qp_number(struct vrd_qp *qp)
{
	struct vrd_device *dev = qp->dev;

	if (qp->type == VIRTIO_RDMA_QPT_GSI)
		qp->qpn = 1;
	else if (!dev->owner)
		return vrd_table_reserve(&dev->qps, &qp->qpn);
	return vrd_table_claim(&dev->qps, qp->qpn);
}

void vrd_transports_qp_free(struct vrd_qp *qp)
{
	const struct vrd_transport_ops *const *t = end_of(qp->dev);

	while (t-- != qp->dev->transports)
		if (qp->priv[(*t)->slot])
			(*t)->qp_free(qp);
}

int vrd_transports_qp_create(struct vrd_qp *qp)
{
	bool taken = false;
	int ret = 0;

	for_each(t, qp->dev) {
		if (!takes(*t, qp, taken))
			continue;
		ret = (*t)->qp_create(qp);
		if (ret)
			break;
		taken = true;
	}
	if (!ret && !taken)
		ret = -EOPNOTSUPP;
	if (ret)
		vrd_transports_qp_free(qp);
	else
		vrd_path_init(qp);
	return ret;
}

void vrd_transports_qp_destroy(struct vrd_qp *qp)
{
	for_each(t, qp->dev)
		if (qp->priv[(*t)->slot])
			(*t)->qp_destroy(qp);
}

/* ---- the poller's part ----------------------------------------------------------- */

void vrd_transports_srq_run(struct vrd_srq *srq)
{
	for_each(t, srq->dev)
		CALL_VOID(*t, srq_run, srq);
}

bool vrd_transports_poll(struct vrd_device *dev, struct vrd_poller *poller)
{
	bool worked = false;

	for_each(t, dev)
		worked |= CALL(*t, poll, dev, poller);
	return worked;
}

bool vrd_transports_poll_sleep(struct vrd_device *dev, struct vrd_poller *poller)
{
	bool worked = false;

	for_each(t, dev)
		worked |= CALL(*t, poll_sleep, dev, poller);
	return worked;
}
