// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Routing of MADs: ports and GIDs of the process, inboxes, the queue to the MAD thread, and
 * that thread.
 *
 * Threading: see mads.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cm_agent.h"
#include "mad_channel.h"
#include "mad_setup.h"
#include "mads.h"
#include "thread.h"

/* ---- GIDs: mads.lock ------------------------------------------------------- */

struct vrd_gsi_port *vrd_mads_port_locked(struct vrd_mads *mads, const uint8_t gid[16])
{
	struct vrd_mad_gid *entry = mads->gids[vrd_gid_hash(gid)];

	while (entry && memcmp(entry->gid, gid, 16))
		entry = entry->next;
	return entry ? entry->port : NULL;
}

bool vrd_mads_has_gid(struct vrd_mads *mads, const uint8_t gid[16])
{
	bool found;

	pthread_mutex_lock(&mads->lock);
	found = vrd_mads_port_locked(mads, gid);
	pthread_mutex_unlock(&mads->lock);
	return found;
}

void vrd_mads_count(struct vrd_mads *mads, const uint8_t gid[16], enum vrd_gsi_stat stat)
{
	struct vrd_gsi_port *port;

	pthread_mutex_lock(&mads->lock);
	port = vrd_mads_port_locked(mads, gid);
	if (port)
		vrd_gsi_count(port, stat);
	pthread_mutex_unlock(&mads->lock);
}

/* Makes the agent compare its listeners with the ports and GIDs that exist now. */
static void changed(struct vrd_mads *mads)
{
	if (!mads->agent)
		return;
	atomic_store(&mads->changed, true);
	vrd_mad_loop_wake(&mads->loop);
}

int vrd_gsi_gid_add(struct vrd_gsi_port *port, uint32_t index, const uint8_t gid[16])
{
	struct vrd_mads *mads = port->mads;
	struct vrd_gsi_port *other;
	struct vrd_mad_gid *entry;

	if (index >= VRD_GID_TABLE_LEN || port->gids[index])
		return -EINVAL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	memcpy(entry->gid, gid, 16);
	entry->port = port;

	pthread_mutex_lock(&mads->lock);
	/* A port may have the same GID at two indexes: two netdevs with one address. */
	other = vrd_mads_port_locked(mads, gid);
	if (!other || other == port) {
		entry->next = mads->gids[vrd_gid_hash(gid)];
		mads->gids[vrd_gid_hash(gid)] = entry;
		port->gids[index] = entry;
		entry = NULL;
	}
	pthread_mutex_unlock(&mads->lock);
	if (entry) {
		free(entry);
		return -EEXIST;
	}
	changed(mads);
	return 0;
}

void vrd_gsi_gid_del(struct vrd_gsi_port *port, uint32_t index)
{
	struct vrd_mads *mads = port->mads;
	struct vrd_mad_gid *entry, **link;

	if (index >= VRD_GID_TABLE_LEN || !port->gids[index])
		return;
	pthread_mutex_lock(&mads->lock);
	entry = port->gids[index];
	for (link = &mads->gids[vrd_gid_hash(entry->gid)]; *link != entry; link = &(*link)->next)
		;
	*link = entry->next;
	port->gids[index] = NULL;
	pthread_mutex_unlock(&mads->lock);
	free(entry);
	changed(mads);
}

/* ---- ports ------------------------------------------------------------------ */

int vrd_gsi_port_open(struct vrd_device *dev, const struct vrd_gsi_port_config *cfg,
		      struct vrd_gsi_port **port_out, struct vrd_error *err)
{
	struct vrd_mads *mads = vrd_mads_get(dev->engine);
	struct vrd_gsi_port *port = mads ? calloc(1, sizeof(*port)) : NULL;

	if (!port)
		return vrd_fail(err, -ENOMEM, NULL, "no memory for the port's QP 1");
	port->mads = mads;
	port->dev = dev;
	port->cfg = *cfg;
	pthread_mutex_lock(&mads->lock);
	LIST_INSERT_HEAD(&mads->ports, port, link);
	pthread_mutex_unlock(&mads->lock);
	*port_out = port;
	return 0;
}

void vrd_gsi_set_ifindex(struct vrd_gsi_port *port, unsigned int ifindex)
{
	pthread_mutex_lock(&port->mads->lock);
	port->cfg.ifindex = ifindex;
	pthread_mutex_unlock(&port->mads->lock);
}

void vrd_gsi_port_close(struct vrd_gsi_port *port)
{
	struct vrd_mads *mads = port->mads;

	for (uint32_t i = 0; i < VRD_GID_TABLE_LEN; i++)
		vrd_gsi_gid_del(port, i);
	pthread_mutex_lock(&mads->lock);
	for (unsigned int i = 0; mads->queue && i < VRD_MAD_QUEUE; i++)
		if (mads->queue[i].port == port)
			mads->queue[i].port = NULL;
	LIST_REMOVE(port, link);
	pthread_mutex_unlock(&mads->lock);
	free(port);
}

void vrd_gsi_port_stats(struct vrd_gsi_port *port,
			void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	static const char *const names[VRD_GSI_STATS] = {
		[VRD_GSI_SENT] = "mads_sent",
		[VRD_GSI_RECEIVED] = "mads_received",
		[VRD_GSI_LOCAL] = "mads_local",
		[VRD_GSI_CHANNEL_SENT] = "mads_channel_sent",
		[VRD_GSI_CHANNEL_RECEIVED] = "mads_channel_received",
		[VRD_GSI_HOST_CM] = "mads_host_cm",
		[VRD_GSI_DROP_QUOTA] = "mads_dropped_quota",
		[VRD_GSI_DROP_ROUTE] = "mads_dropped_route",
		[VRD_GSI_DROP_FULL] = "mads_dropped_full",
		[VRD_GSI_DROP_RECV] = "mads_dropped_recv",
	};

	for (unsigned int i = 0; i < VRD_GSI_STATS; i++)
		fn(opaque, names[i],
		   atomic_load_explicit(&port->stats[i], memory_order_relaxed));
}

/* ---- inboxes ------------------------------------------------------------------ */

static void inbox_put_locked(struct vrd_gsi_port *port, const struct vrd_mad *mad)
{
	if (!port->qp || port->inbox_len == VRD_GSI_INBOX) {
		vrd_gsi_count(port, port->qp ? VRD_GSI_DROP_FULL : VRD_GSI_DROP_RECV);
		return;
	}
	port->inbox[(port->inbox_head + port->inbox_len++) % VRD_GSI_INBOX] = *mad;
	/* port->qp is valid while the lock is held: qp_destroy clears it under the lock. */
	vrd_qp_schedule(port->qp);
}

bool vrd_mads_take(struct vrd_gsi_port *port, struct vrd_mad *mad)
{
	bool found;

	pthread_mutex_lock(&port->mads->lock);
	found = port->inbox_len;
	if (found) {
		*mad = port->inbox[port->inbox_head];
		port->inbox_head = (port->inbox_head + 1) % VRD_GSI_INBOX;
		port->inbox_len--;
	}
	pthread_mutex_unlock(&port->mads->lock);
	return found;
}

void vrd_mads_forget_inbox(struct vrd_gsi_port *port)
{
	pthread_mutex_lock(&port->mads->lock);
	for (; port->inbox_len; port->inbox_len--)
		vrd_gsi_count(port, VRD_GSI_DROP_RECV);
	pthread_mutex_unlock(&port->mads->lock);
}

bool vrd_mads_deliver(struct vrd_mads *mads, const struct vrd_mad *mad, enum vrd_gsi_stat stat)
{
	struct vrd_gsi_port *port;

	pthread_mutex_lock(&mads->lock);
	port = vrd_mads_port_locked(mads, mad->dgid);
	if (port) {
		vrd_gsi_count(port, stat);
		inbox_put_locked(port, mad);
	}
	pthread_mutex_unlock(&mads->lock);
	return port;
}

/* ---- the queue ------------------------------------------------------------------ */

static bool queue_put_locked(struct vrd_gsi_port *port, const struct vrd_mad *mad)
{
	struct vrd_mads *mads = port->mads;
	struct vrd_mad_queued *entry;

	/* The limit for each port keeps one guest from filling the queue. */
	if (mads->queue_len == VRD_MAD_QUEUE || port->queued == VRD_MAD_QUEUE_PORT)
		return false;
	entry = &mads->queue[(mads->queue_head + mads->queue_len++) % VRD_MAD_QUEUE];
	entry->mad = *mad;
	entry->port = port;
	port->queued++;
	return true;
}

static bool queue_take(struct vrd_mads *mads, struct vrd_mad *mad)
{
	struct vrd_mad_queued *entry = &mads->queue[mads->queue_head];
	bool found;

	pthread_mutex_lock(&mads->lock);
	found = mads->queue_len;
	if (found) {
		*mad = entry->mad;
		if (entry->port)
			entry->port->queued--;
		mads->queue_head = (mads->queue_head + 1) % VRD_MAD_QUEUE;
		mads->queue_len--;
	}
	pthread_mutex_unlock(&mads->lock);
	return found;
}

void vrd_mads_send(struct vrd_gsi_port *port, const struct vrd_mad *mad)
{
	struct vrd_mads *mads = port->mads;
	struct vrd_gsi_port *to;
	bool wake = false;

	pthread_mutex_lock(&mads->lock);
	to = vrd_mads_port_locked(mads, mad->dgid);
	if (to && to->dev->fabric == port->dev->fabric) {
		vrd_gsi_count(port, VRD_GSI_LOCAL);
		inbox_put_locked(to, mad);
	} else if (to || !mads->queue) {
		/* Devices of different fabrics must not reach each other. */
		vrd_gsi_count(port, VRD_GSI_DROP_ROUTE);
	} else if (!queue_put_locked(port, mad)) {
		vrd_gsi_count(port, VRD_GSI_DROP_FULL);
	} else {
		wake = mads->queue_len == 1;
	}
	pthread_mutex_unlock(&mads->lock);
	if (wake)
		vrd_mad_loop_wake(&mads->loop);
}

/* ---- connected QPs ----------------------------------------------------------------- */

bool vrd_gsi_rq_psn(struct vrd_gsi_port *port, const uint8_t dgid[16], uint32_t dest_qpn,
		    uint32_t *rq_psn)
{
	struct vrd_mads *mads = port->mads;
	bool found;

	if (!mads->agent)
		return false;
	pthread_mutex_lock(&mads->lock);
	found = vrd_cm_agent_rq_psn(mads->agent, port, dgid, dest_qpn, rq_psn);
	pthread_mutex_unlock(&mads->lock);
	return found;
}

void vrd_gsi_forget_qp(struct vrd_gsi_port *port, uint32_t qpn)
{
	struct vrd_mads *mads = port->mads;
	bool found;

	if (!mads->agent)
		return;
	pthread_mutex_lock(&mads->lock);
	found = vrd_cm_agent_forget_qp(mads->agent, port, qpn);
	pthread_mutex_unlock(&mads->lock);
	if (found)
		changed(mads);
}

unsigned int vrd_mads_listeners(struct vrd_mads *mads, struct vrd_mads_listen **list)
{
	struct vrd_mads_listen *entry;
	struct vrd_gsi_port *port;
	unsigned int num = 0, max = 0;

	pthread_mutex_lock(&mads->lock);
	LIST_FOREACH(port, &mads->ports, link)
		max += VRD_GID_TABLE_LEN * port->cfg.num_cm_ports;
	entry = *list = calloc(max ? max : 1, sizeof(**list));
	LIST_FOREACH(port, &mads->ports, link) {
		for (unsigned int i = 0; entry && i < VRD_GID_TABLE_LEN; i++) {
			for (unsigned int p = 0; port->gids[i] && p < port->cfg.num_cm_ports; p++) {
				memcpy(entry[num].gid, port->gids[i]->gid, 16);
				entry[num].port = port->cfg.cm_ports[p];
				entry[num++].ifindex = port->cfg.ifindex;
			}
		}
	}
	pthread_mutex_unlock(&mads->lock);
	return num;
}

/* ---- the thread ------------------------------------------------------------------ */

void vrd_mads_unserved(struct vrd_mads *mads, const struct vrd_mad *mad)
{
	struct vrd_gsi_port *port;
	bool host_cm = false;

	pthread_mutex_lock(&mads->lock);
	port = vrd_mads_port_locked(mads, mad->sgid);
	if (port) {
		host_cm = mads->agent && port->cfg.host_cm;
		vrd_gsi_count(port, host_cm ? VRD_GSI_HOST_CM : VRD_GSI_DROP_ROUTE);
	}
	pthread_mutex_unlock(&mads->lock);
	if (host_cm)
		vrd_cm_agent_send(mads->agent, mad);
}

unsigned int vrd_mads_ifindex(struct vrd_mads *mads, const uint8_t sgid[16])
{
	struct vrd_gsi_port *port;
	unsigned int ifindex;

	pthread_mutex_lock(&mads->lock);
	port = vrd_mads_port_locked(mads, sgid);
	ifindex = port ? port->cfg.ifindex : 0;
	pthread_mutex_unlock(&mads->lock);
	return ifindex;
}

/*
 * At most as many MADs as the queue holds, because guests refill it meanwhile: channel events
 * and deadlines are served in between.
 */
static void send_queued(struct vrd_mads *mads)
{
	unsigned int budget = VRD_MAD_QUEUE;
	struct vrd_mad mad;

	while (queue_take(mads, &mad)) {
		/* The MAD belongs to a connection of the host's CM: the channel is not needed. */
		if (mads->agent && vrd_cm_agent_knows(mads->agent, &mad))
			vrd_mads_unserved(mads, &mad);
		else if (mads->channel)
			vrd_mad_channel_send(mads->channel, &mad, vrd_mads_ifindex(mads, mad.sgid));
		else
			vrd_mads_unserved(mads, &mad);
		if (!--budget) {
			vrd_mad_loop_wake(&mads->loop);
			return;
		}
	}
}

static int timeout_ms(struct vrd_mads *mads)
{
	int a = mads->channel ? vrd_mad_channel_timeout_ms(mads->channel) : -1;
	int b = mads->agent ? vrd_cm_agent_timeout_ms(mads->agent) : -1;

	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static void *run(void *arg)
{
	struct vrd_mads *mads = arg;

	pthread_setname_np(pthread_self(), "vrd-mad");
	while (!atomic_load(&mads->stop)) {
		vrd_mad_loop_run(&mads->loop, timeout_ms(mads));
		if (mads->agent && atomic_exchange(&mads->changed, false))
			vrd_cm_agent_sync(mads->agent);
		send_queued(mads);
		if (mads->channel)
			vrd_mad_channel_expire(mads->channel);
		if (mads->agent)
			vrd_cm_agent_expire(mads->agent);
	}
	return NULL;
}

/* ---- life cycle ------------------------------------------------------------------- */

static void mads_close(void *opaque)
{
	struct vrd_mads *mads = opaque;

	if (mads->threaded) {
		atomic_store(&mads->stop, true);
		vrd_mad_loop_wake(&mads->loop);
		pthread_join(mads->thread, NULL);
	}
	vrd_cm_agent_destroy(mads->agent);
	vrd_mad_channel_destroy(mads->channel);
	vrd_mad_loop_close(&mads->loop);
	pthread_mutex_destroy(&mads->lock);
	free(mads->queue);
	free(mads);
}

struct vrd_mads *vrd_mads_get(struct vrd_engine *engine)
{
	struct vrd_mads *mads, *other;

	mads = vrd_engine_shared(engine);
	if (mads)
		return mads;
	mads = calloc(1, sizeof(*mads));
	if (!mads)
		return NULL;
	mads->engine = engine;
	mads->loop.epfd = -1;
	mads->loop.wakefd = -1;
	LIST_INIT(&mads->ports);
	pthread_mutex_init(&mads->lock, NULL);
	other = vrd_engine_share(engine, mads, mads_close);
	if (other != mads)
		mads_close(mads);
	return other;
}

int vrd_mads_start(struct vrd_engine *engine, struct vrd_mad_setup *setup, struct vrd_error *err)
{
	struct vrd_mads *mads = vrd_mads_get(engine);
	int ret = mads ? 0 : -ENOMEM;

	if (ret || mads->threaded) {
		vrd_mad_setup_free(setup);
		return mads ? vrd_fail(err, -EBUSY, NULL, "the MAD channel is open already") :
			      vrd_fail(err, ret, NULL, "no memory for the MAD channel");
	}
	ret = vrd_mad_loop_open(&mads->loop);
	if (!ret && setup->keyed) {
		mads->channel = vrd_mad_channel_create(mads, setup);
		ret = mads->channel ? 0 : -ENOMEM;
	}
	if (!ret && setup->cm_host) {
		mads->agent = vrd_cm_agent_create(mads, setup);
		ret = mads->agent ? 0 : -ENOMEM;
	}
	mads->queue = calloc(VRD_MAD_QUEUE, sizeof(*mads->queue));
	if (!ret && !mads->queue)
		ret = -ENOMEM;
	if (!ret)
		ret = -vrd_thread_create(&mads->thread, run, mads);
	vrd_mad_setup_free(setup);
	mads->threaded = !ret;
	if (!ret)
		return 0;

	vrd_cm_agent_destroy(mads->agent);
	vrd_mad_channel_destroy(mads->channel);
	vrd_mad_loop_close(&mads->loop);
	free(mads->queue);
	mads->agent = NULL;
	mads->channel = NULL;
	mads->queue = NULL;
	return vrd_fail(err, ret, NULL, "starting the MAD channel: %s", strerror(-ret));
}

void vrd_mads_stats(struct vrd_engine *engine,
		    void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	struct vrd_mads *mads = vrd_engine_shared(engine);

	if (mads && mads->channel)
		vrd_mad_channel_stats(mads->channel, fn, opaque);
}
