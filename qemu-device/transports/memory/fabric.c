// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the ports of a fabric and the lookup of a QP by GID and QP number.
 *
 * QP numbers belong to a device, as in IBTA: a lookup finds the port by its GID first, then
 * the QP in the table of the port's device.  Pollers look up under RCU.  Control threads
 * make changes under mem_fabric.lock.  An entry that was removed is freed after a grace
 * period.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gid.h"
#include "log.h"
#include "memory.h"

static void vrd_mem_fabric_free(struct vrd_fabric *fabric)
{
	struct vrd_mem_fabric *mf = fabric->transport;

	pthread_mutex_destroy(&mf->lock);
	free(mf);
}

static struct vrd_mem_fabric *vrd_mem_fabric(struct vrd_fabric *fabric)
{
	struct vrd_mem_fabric *mf;

	pthread_mutex_lock(&fabric->lock);
	mf = fabric->transport;
	if (!mf) {
		mf = aligned_alloc(_Alignof(struct vrd_mem_fabric), sizeof(*mf));
		if (mf) {
			memset(mf, 0, sizeof(*mf));
			pthread_mutex_init(&mf->lock, NULL);
			mf->fabric = fabric;
			atomic_init(&mf->generation, 1);
			fabric->destroy = vrd_mem_fabric_free;
			fabric->transport = mf;
		}
	}
	pthread_mutex_unlock(&fabric->lock);
	return mf;
}

int vrd_mem_device_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			struct vrd_error *err)
{
	struct vrd_mem_fabric *mf = vrd_mem_fabric(dev->fabric);
	struct vrd_mem_port *port = mf ? calloc(1, sizeof(*port)) : NULL;

	(void)cfg;
	if (!port)
		return vrd_fail(err, -ENOMEM, NULL, "no memory for the device's port");
	port->dev = dev;
	port->fabric = mf;
	TAILQ_INIT(&port->parked);
	dev->priv[VRD_SLOT_MEMORY] = port;
	return 0;
}

void vrd_mem_device_close(struct vrd_device *dev)
{
	struct vrd_mem_port *port = vrd_mem_port(dev);

	for (uint32_t i = 0; i < VRD_GID_TABLE_LEN; i++)
		vrd_mem_gid_del(dev, i, NULL);
	/* Senders that waited for this device find no peer now and time out. */
	vrd_mem_device_resumed(dev);
	vrd_engine_synchronize(dev->engine);
	/* A sender that looked the port up earlier may have parked in the meantime. */
	vrd_mem_device_resumed(dev);
	dev->priv[VRD_SLOT_MEMORY] = NULL;
	free(port);
}

void vrd_mem_fabric_changed(struct vrd_mem_fabric *mf)
{
	atomic_fetch_add_explicit(&mf->generation, 1, memory_order_release);
}

/* ---- GIDs --------------------------------------------------------------- */

static struct vrd_mem_gid *vrd_mem_gid_find(struct vrd_mem_fabric *mf, const uint8_t gid[16])
{
	struct vrd_mem_gid *entry;

	entry = __atomic_load_n(&mf->gids[vrd_gid_hash(gid)], __ATOMIC_ACQUIRE);
	while (entry && memcmp(entry->gid, gid, 16))
		entry = __atomic_load_n(&entry->next, __ATOMIC_ACQUIRE);
	return entry;
}

/*
 * Removes an entry from its bucket; its next pointer stays valid for readers that hold the
 * entry.
 */
static void vrd_mem_gid_unlink(struct vrd_mem_fabric *mf, struct vrd_mem_gid *entry)
{
	struct vrd_mem_gid **link = &mf->gids[vrd_gid_hash(entry->gid)];

	while (*link && *link != entry)
		link = &(*link)->next;
	if (*link)
		__atomic_store_n(link, entry->next, __ATOMIC_RELEASE);
}

/*
 * The device that owns @gid adds it, but another device added it before the owner was
 * created. The other device keeps its entries until it deletes them, but it is no longer
 * found by them and cannot send from them.
 */
static void vrd_mem_gid_revoke(struct vrd_mem_fabric *mf, const uint8_t gid[16])
{
	struct vrd_mem_gid *entry;

	while ((entry = vrd_mem_gid_find(mf, gid))) {
		__atomic_store_n(&entry->revoked, true, __ATOMIC_RELAXED);
		vrd_mem_gid_unlink(mf, entry);
	}
	vrd_mem_fabric_changed(mf);
}

int vrd_mem_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	struct vrd_mem_port *port = vrd_mem_port(dev);
	struct vrd_mem_fabric *mf = port->fabric;
	struct vrd_mem_gid *entry, *other;
	struct vrd_mem_gid **bucket = &mf->gids[vrd_gid_hash(gid)];

	if (index >= VRD_GID_TABLE_LEN || port->gids[index])
		return -EINVAL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	memcpy(entry->gid, gid, 16);
	entry->port = port;

	pthread_mutex_lock(&mf->lock);
	/* One port may have the same GID twice: two netdevs with one address. */
	other = vrd_mem_gid_find(mf, gid);
	if (other && other->port != port && vrd_gid_is_own(dev, gid)) {
		vrd_mem_gid_revoke(mf, gid);
		other = NULL;
	}
	if (other && other->port != port) {
		pthread_mutex_unlock(&mf->lock);
		free(entry);
		return -EEXIST;
	}
	entry->next = *bucket;
	__atomic_store_n(bucket, entry, __ATOMIC_RELEASE);
	__atomic_store_n(&port->gids[index], entry, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&mf->lock);
	return 0;
}

/* Runs on a poller, after a grace period. */
static void gid_free(struct vrd_deferred *deferred)
{
	free((char *)deferred - offsetof(struct vrd_mem_gid, deferred));
}

/* @gid is not used: @index identifies the entry. */
void vrd_mem_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	struct vrd_mem_port *port = vrd_mem_port(dev);
	struct vrd_mem_fabric *mf = port->fabric;
	struct vrd_mem_gid *entry;

	(void)gid;
	if (index >= VRD_GID_TABLE_LEN || !port->gids[index])
		return;
	entry = port->gids[index];

	pthread_mutex_lock(&mf->lock);
	vrd_mem_gid_unlink(mf, entry);
	__atomic_store_n(&port->gids[index], NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&mf->lock);

	vrd_mem_fabric_changed(mf);
	vrd_defer(dev->engine, &entry->deferred, gid_free);
}

const struct vrd_mem_gid *vrd_mem_sgid(const struct vrd_mem_port *port, uint8_t index)
{
	const struct vrd_mem_gid *entry;

	if (index >= VRD_GID_TABLE_LEN)
		return NULL;
	entry = __atomic_load_n(&port->gids[index], __ATOMIC_ACQUIRE);
	return entry && !__atomic_load_n(&entry->revoked, __ATOMIC_RELAXED) ? entry : NULL;
}

struct vrd_mem_port *vrd_mem_port_by_gid(struct vrd_mem_fabric *mf, const uint8_t gid[16])
{
	const struct vrd_mem_gid *entry = vrd_mem_gid_find(mf, gid);

	return entry ? entry->port : NULL;
}

bool vrd_mem_reaches(struct vrd_device *dev, const uint8_t gid[16])
{
	struct vrd_mem_fabric *mf = vrd_mem_port(dev)->fabric;
	bool found;

	pthread_mutex_lock(&mf->lock);
	found = vrd_mem_gid_find(mf, gid);
	pthread_mutex_unlock(&mf->lock);
	return found;
}

struct vrd_qp *vrd_mem_find_qp(struct vrd_mem_fabric *mf, const uint8_t gid[16], uint32_t qpn)
{
	struct vrd_mem_port *port = vrd_mem_port_by_gid(mf, gid);
	struct vrd_qp *qp = port ? vrd_table_find(&port->dev->qps, qpn) : NULL;

	return qp && qp->priv[VRD_SLOT_MEMORY] ? qp : NULL;
}

/* ---- waking others ------------------------------------------------------- */

/*
 * A QP that is found under mem_fabric.lock is not freed before the lock is released: the
 * thread that destroys the QP or its device takes the lock after it has unpublished the QP.
 */
void vrd_mem_wake(struct vrd_mem_fabric *mf, const uint8_t gid[16], uint32_t qpn)
{
	struct vrd_qp *peer;

	pthread_mutex_lock(&mf->lock);
	peer = vrd_mem_find_qp(mf, gid, qpn);
	if (peer)
		vrd_qp_schedule(peer);
	pthread_mutex_unlock(&mf->lock);
}

void vrd_mem_wake_peer(struct vrd_qp *qp)
{
	vrd_mem_wake(vrd_mem_qp(qp)->port->fabric, qp->attr.av.dgid, le32toh(qp->attr.dest_qpn));
}

static void vrd_mem_unpark_locked(struct vrd_mem_qp *mq)
{
	if (!mq->parked)
		return;
	TAILQ_REMOVE(mq->parked, mq, park_link);
	mq->parked = NULL;
}

static void vrd_mem_park_locked(struct vrd_mem_qp *mq, struct vrd_mem_parked *list)
{
	vrd_mem_unpark_locked(mq);
	TAILQ_INSERT_TAIL(list, mq, park_link);
	mq->parked = list;
}

void vrd_mem_unpark(struct vrd_mem_qp *mq)
{
	struct vrd_mem_fabric *mf = mq->port->fabric;

	pthread_mutex_lock(&mf->lock);
	vrd_mem_unpark_locked(mq);
	pthread_mutex_unlock(&mf->lock);
}

/*
 * Appends a QP to a list of the same fabric, after removing it from another list that it is
 * in.  A QP that is in this list already keeps its place.
 */
void vrd_mem_park(struct vrd_mem_qp *mq, struct vrd_mem_parked *list)
{
	struct vrd_mem_fabric *mf = mq->port->fabric;

	pthread_mutex_lock(&mf->lock);
	if (mq->parked != list)
		vrd_mem_park_locked(mq, list);
	pthread_mutex_unlock(&mf->lock);
}

/* Schedules the QPs of the list, in its order.  They stay in the list until they have succeeded. */
void vrd_mem_retry_parked(struct vrd_mem_fabric *mf, struct vrd_mem_parked *list)
{
	struct vrd_mem_qp *mq;

	pthread_mutex_lock(&mf->lock);
	TAILQ_FOREACH(mq, list, park_link)
		vrd_qp_schedule(mq->qp);
	pthread_mutex_unlock(&mf->lock);
}

/* Removes all QPs from the list and schedules them. */
void vrd_mem_wake_parked(struct vrd_mem_fabric *mf, struct vrd_mem_parked *list)
{
	struct vrd_mem_qp *mq;

	pthread_mutex_lock(&mf->lock);
	while ((mq = TAILQ_FIRST(list))) {
		vrd_mem_unpark_locked(mq);
		vrd_qp_schedule(mq->qp);
	}
	pthread_mutex_unlock(&mf->lock);
}

/*
 * Puts a QP on the list of QPs that @port's device wakes when it resumes.  Returns false if
 * the device has resumed in the meantime.
 */
bool vrd_mem_park_suspended(struct vrd_mem_qp *mq, struct vrd_mem_port *port)
{
	struct vrd_mem_fabric *mf = port->fabric;
	bool suspended;

	pthread_mutex_lock(&mf->lock);
	/*
	 * vrd_mem_device_resumed() takes the lock after the device was resumed: either it finds
	 * the QP in the list, or this function sees that the device is not suspended.
	 */
	suspended = vrd_device_suspended(port->dev);
	if (suspended)
		vrd_mem_park_locked(mq, &port->parked);
	else
		vrd_mem_unpark_locked(mq);
	pthread_mutex_unlock(&mf->lock);
	return suspended;
}

void vrd_mem_device_resumed(struct vrd_device *dev)
{
	struct vrd_mem_port *port = vrd_mem_port(dev);

	if (port)
		vrd_mem_wake_parked(port->fabric, &port->parked);
}
