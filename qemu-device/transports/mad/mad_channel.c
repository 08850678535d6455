// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The MAD channel: the table of connections, the policy for accepting them, and the choice
 * of a connection for each MAD.
 *
 * Trust.  A peer whose handshake has not ended is unauthenticated: the number of such
 * connections, in total and for each address, and their lifetime are limited.  After the
 * handshake the peer is a daemon that holds the common key.  It may send only for the GID
 * that is its address, never for a GID of this process.  The content of its MADs is not
 * trusted: the guest's kernel validates it.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "mad_addr.h"
#include "mad_conn.h"

/* Connections that one event accepts. */
#define ACCEPT_BUDGET	16
/* Pause after accept() failed because no descriptor was free. */
#define ACCEPT_PAUSE_MS	1000
#define WARN_MS		10000

enum { CONNECTED, ACCEPTED, REFUSED, AUTH_FAILED, BROKEN, STATS };

static const char *const stat_names[STATS] = {
	[CONNECTED] = "mad_connected",
	[ACCEPTED] = "mad_accepted",
	[REFUSED] = "mad_refused",
	[AUTH_FAILED] = "mad_auth_failed",
	[BROKEN] = "mad_broken",
};

struct vrd_mad_channel {
	struct vrd_mads *mads;
	struct vrd_mad_key key;
	uint16_t port;
	struct mad_listener {
		struct vrd_mad_source src;
		struct vrd_mad_channel *ch;
	} listeners[VRD_MAD_MAX_LISTEN];
	uint64_t paused_until;		/* when the listeners are watched again; 0: they are
					 * watched */
	uint64_t next_warning;
	TAILQ_HEAD(, vrd_mad_conn) conns;	/* least recently used first */
	unsigned int num_conns, num_strangers;
	_Atomic unsigned int num_open;
	_Atomic uint64_t stats[STATS];
};

static void count(struct vrd_mad_channel *ch, unsigned int stat)
{
	atomic_fetch_add_explicit(&ch->stats[stat], 1, memory_order_relaxed);
}

const struct vrd_mad_key *vrd_mad_channel_key(struct vrd_mad_channel *ch)
{
	return &ch->key;
}

struct vrd_mad_loop *vrd_mad_channel_loop(struct vrd_mad_channel *ch)
{
	return &ch->mads->loop;
}

/* Any peer can cause these messages, so they are rate limited. */
static void warn(struct vrd_mad_channel *ch, const struct vrd_mad_conn *conn, const char *what)
{
	uint64_t now = vrd_mad_now_ms();
	const uint8_t *gid = conn->remote;

	if (now < ch->next_warning)
		return;
	ch->next_warning = now + WARN_MS;
	if (vrd_mad_gid_is_v4(gid))
		vrd_log(ch->mads->engine, VRD_LOG_WARN, "MAD channel: %u.%u.%u.%u: %s", gid[12],
			gid[13], gid[14], gid[15], what);
	else
		vrd_log(ch->mads->engine, VRD_LOG_WARN,
			"MAD channel: %x:%x:%x:%x:%x:%x:%x:%x: %s", gid[0] << 8 | gid[1],
			gid[2] << 8 | gid[3], gid[4] << 8 | gid[5], gid[6] << 8 | gid[7],
			gid[8] << 8 | gid[9], gid[10] << 8 | gid[11], gid[12] << 8 | gid[13],
			gid[14] << 8 | gid[15], what);
}

/* ---- the list ------------------------------------------------------------------ */

static bool is_stranger(const struct vrd_mad_conn *conn)
{
	return conn->server && conn->state == VRD_MAD_CONN_HANDSHAKE;
}

static void conn_free(struct vrd_mad_conn *conn)
{
	struct vrd_mad_channel *ch = conn->ch;

	if (is_stranger(conn))
		ch->num_strangers--;
	else
		ch->num_conns--;
	if (conn->state == VRD_MAD_CONN_OPEN)
		atomic_fetch_sub(&ch->num_open, 1);
	TAILQ_REMOVE(&ch->conns, conn, link);
	vrd_mad_conn_close(conn);
	free(conn->pending);
	free(conn);
}

static void used(struct vrd_mad_conn *conn)
{
	conn->deadline = vrd_mad_now_ms() + VRD_MAD_IDLE_MS;
	TAILQ_REMOVE(&conn->ch->conns, conn, link);
	TAILQ_INSERT_TAIL(&conn->ch->conns, conn, link);
}

static bool free_oldest(struct vrd_mad_channel *ch, enum vrd_mad_conn_state state)
{
	struct vrd_mad_conn *conn;

	TAILQ_FOREACH(conn, &ch->conns, link) {
		if (conn->state == state) {
			conn_free(conn);
			return true;
		}
	}
	return false;
}

/*
 * Evict an entry of the same kind only.  Unauthenticated connections must not evict a
 * daemon's, and entries for GIDs without a daemon, of which a guest can create any number,
 * must not evict those of other guests.
 */
static bool make_room(struct vrd_mad_channel *ch)
{
	return ch->num_conns < VRD_MAD_MAX_CONNS || free_oldest(ch, VRD_MAD_CONN_UNSERVED) ||
	       free_oldest(ch, VRD_MAD_CONN_OPEN);
}

static struct vrd_mad_conn *conn_new(struct vrd_mad_channel *ch, bool server,
				     const uint8_t local[16], const uint8_t remote[16])
{
	struct vrd_mad_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->ch = ch;
	conn->src.fd = -1;
	conn->server = server;
	conn->state = server ? VRD_MAD_CONN_HANDSHAKE : VRD_MAD_CONN_CONNECTING;
	memcpy(conn->local, local, 16);
	memcpy(conn->remote, remote, 16);
	TAILQ_INSERT_TAIL(&ch->conns, conn, link);
	if (server)
		ch->num_strangers++;
	else
		ch->num_conns++;
	return conn;
}

static bool same_pair(const struct vrd_mad_conn *conn, const uint8_t local[16],
		      const uint8_t remote[16])
{
	return !memcmp(conn->local, local, 16) && !memcmp(conn->remote, remote, 16);
}

/* ---- sending ------------------------------------------------------------------- */

/* The connection for a MAD between these two GIDs: prefer an open one over one that we began. */
static struct vrd_mad_conn *find(struct vrd_mad_channel *ch, const uint8_t local[16],
				 const uint8_t remote[16], unsigned int *connecting)
{
	struct vrd_mad_conn *conn, *best = NULL;
	struct vrd_gsi_port *guest;

	*connecting = 0;
	/* Count over all GIDs of the guest, because the guest chooses how many it has. */
	pthread_mutex_lock(&ch->mads->lock);
	guest = vrd_mads_port_locked(ch->mads, local);
	TAILQ_FOREACH(conn, &ch->conns, link) {
		bool wip = !conn->server && conn->state < VRD_MAD_CONN_OPEN;

		*connecting += wip && vrd_mads_port_locked(ch->mads, conn->local) == guest;
		if (!same_pair(conn, local, remote))
			continue;
		if (conn->state == VRD_MAD_CONN_OPEN) {
			best = conn;
			break;
		}
		if (!conn->server)
			best = conn;
	}
	pthread_mutex_unlock(&ch->mads->lock);
	return best;
}

static void drop(struct vrd_mad_channel *ch, const struct vrd_mad *mad, enum vrd_gsi_stat stat)
{
	vrd_mads_count(ch->mads, mad->sgid, stat);
}

static void send_on(struct vrd_mad_conn *conn, const struct vrd_mad *mad)
{
	bool sent = vrd_mad_conn_send(conn, mad);

	if (sent)
		used(conn);
	drop(conn->ch, mad, sent ? VRD_GSI_CHANNEL_SENT : VRD_GSI_DROP_FULL);
}

static void pend(struct vrd_mad_conn *conn, const struct vrd_mad *mad)
{
	if (!conn->pending)
		conn->pending = calloc(VRD_MAD_MAX_PENDING, sizeof(*conn->pending));
	if (!conn->pending || conn->num_pending == VRD_MAD_MAX_PENDING) {
		drop(conn->ch, mad, VRD_GSI_DROP_FULL);
		return;
	}
	conn->pending[conn->num_pending++] = *mad;
}

/* Keep the connection without a socket until its deadline: the GID has no daemon. */
static void give_up(struct vrd_mad_conn *conn)
{
	struct vrd_mad *pending = conn->pending;
	unsigned int num = conn->num_pending;

	vrd_mad_conn_close(conn);
	conn->state = VRD_MAD_CONN_UNSERVED;
	conn->deadline = vrd_mad_now_ms() + VRD_MAD_UNSERVED_MS;
	conn->pending = NULL;
	conn->num_pending = 0;
	for (unsigned int i = 0; i < num; i++)
		vrd_mads_unserved(conn->ch->mads, &pending[i]);
	free(pending);
}

static void connect_to(struct vrd_mad_channel *ch, const struct vrd_mad *mad, unsigned int ifindex)
{
	struct vrd_mad_conn *conn;
	int ret;

	conn = make_room(ch) ? conn_new(ch, false, mad->sgid, mad->dgid) : NULL;
	if (!conn) {
		drop(ch, mad, VRD_GSI_DROP_FULL);
		return;
	}
	pend(conn, mad);
	conn->deadline = vrd_mad_now_ms() + VRD_MAD_CONNECT_MS;
	ret = vrd_mad_conn_connect(conn, ch->port, ifindex);
	if (!ret)
		return;
	if (ret == -EADDRNOTAVAIL)
		warn(ch, conn, "cannot be asked: the guest's own address is none of this host");
	give_up(conn);
}

void vrd_mad_channel_send(struct vrd_mad_channel *ch, const struct vrd_mad *mad,
			  unsigned int ifindex)
{
	unsigned int connecting;
	struct vrd_mad_conn *conn;

	if (!vrd_mad_gid_is_remote(mad->dgid) ||
	    (!ifindex && vrd_mad_gid_is_link_local(mad->dgid))) {
		drop(ch, mad, VRD_GSI_DROP_ROUTE);
		return;
	}
	conn = find(ch, mad->sgid, mad->dgid, &connecting);
	if (!conn && connecting < VRD_MAD_MAX_CONNECTING)
		connect_to(ch, mad, ifindex);
	else if (!conn)
		drop(ch, mad, VRD_GSI_DROP_FULL);
	else if (conn->state == VRD_MAD_CONN_OPEN)
		send_on(conn, mad);
	else if (conn->state == VRD_MAD_CONN_UNSERVED)
		vrd_mads_unserved(ch->mads, mad);
	else
		pend(conn, mad);
}

/* ---- what becomes of connections ---------------------------------------------------- */

static void open_client(struct vrd_mad_conn *conn)
{
	struct vrd_mad *pending = conn->pending;
	unsigned int num = conn->num_pending;

	conn->pending = NULL;
	conn->num_pending = 0;
	for (unsigned int i = 0; i < num; i++)
		send_on(conn, &pending[i]);
	free(pending);
	count(conn->ch, CONNECTED);
}

/* An older connection of the same pair belongs to a daemon that has died. */
static void replace_older(struct vrd_mad_conn *conn)
{
	struct vrd_mad_conn *old, *next;

	for (old = TAILQ_FIRST(&conn->ch->conns); old; old = next) {
		next = TAILQ_NEXT(old, link);
		if (old != conn && old->server && old->state == VRD_MAD_CONN_OPEN &&
		    same_pair(old, conn->local, conn->remote))
			conn_free(old);
	}
}

bool vrd_mad_channel_opened(struct vrd_mad_conn *conn)
{
	struct vrd_mad_channel *ch = conn->ch;

	if (conn->server) {
		if (!conn->session.serves || !make_room(ch)) {
			conn_free(conn);
			return false;
		}
		ch->num_strangers--;
		ch->num_conns++;
	} else if (!conn->session.peer_serves) {
		vrd_mad_channel_ended(conn, VRD_MAD_END_UNSERVED);
		return false;
	}
	conn->state = VRD_MAD_CONN_OPEN;
	atomic_fetch_add(&ch->num_open, 1);
	used(conn);
	if (conn->server) {
		count(ch, ACCEPTED);
		replace_older(conn);
	} else {
		open_client(conn);
	}
	return true;
}

bool vrd_mad_channel_received(struct vrd_mad_conn *conn, const struct vrd_mad *mad)
{
	/*
	 * The guest has left.  Close the connection; the peer connects again and learns that
	 * from the handshake.
	 */
	if (!vrd_mads_deliver(conn->ch->mads, mad, VRD_GSI_CHANNEL_RECEIVED)) {
		conn_free(conn);
		return false;
	}
	used(conn);
	return true;
}

void vrd_mad_channel_ended(struct vrd_mad_conn *conn, enum vrd_mad_conn_end why)
{
	struct vrd_mad_channel *ch = conn->ch;

	switch (why) {
	case VRD_MAD_END_KEY:
		count(ch, AUTH_FAILED);
		warn(ch, conn, "has another key, or sees other addresses than we do");
		break;
	case VRD_MAD_END_HELLO:
		count(ch, AUTH_FAILED);
		warn(ch, conn, "is no daemon, or speaks another version");
		break;
	case VRD_MAD_END_RECORD:
		count(ch, BROKEN);
		warn(ch, conn, "sent a damaged record: the connection was tampered with");
		break;
	case VRD_MAD_END_LOST:
		if (conn->server || conn->state != VRD_MAD_CONN_HANDSHAKE)
			break;
		count(ch, AUTH_FAILED);
		warn(ch, conn, "ended the handshake: has it another key, or sees it other addresses?");
		break;
	default:
		break;
	}
	if (!conn->server && conn->state < VRD_MAD_CONN_OPEN)
		give_up(conn);
	else
		conn_free(conn);
}

/* ---- accepting ----------------------------------------------------------------------- */

static bool may_be_stranger(struct vrd_mad_channel *ch, const uint8_t remote[16])
{
	unsigned int same = 0;
	struct vrd_mad_conn *conn;

	if (ch->num_strangers >= VRD_MAD_MAX_STRANGERS)
		return false;
	TAILQ_FOREACH(conn, &ch->conns, link)
		same += is_stranger(conn) && !memcmp(conn->remote, remote, 16);
	if (same >= VRD_MAD_MAX_STRANGERS_ADDR)
		return false;
	/* A peer must not use the GID of a guest of this process as its source. */
	return !vrd_mads_has_gid(ch->mads, remote);
}

static void accepted(struct vrd_mad_channel *ch, int fd, const union vrd_mad_addr *peer)
{
	const int lost = VRD_MAD_LOST_MS, one = 1;
	uint8_t local[16], remote[16];
	union vrd_mad_addr own;
	socklen_t len = sizeof(own);
	struct vrd_mad_conn *conn;

	if (getsockname(fd, &own.sa, &len) || !vrd_mad_gid_of(local, &own) ||
	    !vrd_mad_gid_of(remote, peer) || !may_be_stranger(ch, remote)) {
		count(ch, REFUSED);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost, sizeof(lost));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	conn = conn_new(ch, true, local, remote);
	if (!conn) {
		close(fd);
		return;
	}
	conn->src.fd = fd;
	if (vrd_mad_conn_accepted(conn, vrd_mads_has_gid(ch->mads, local)))
		conn_free(conn);
}

static void unlisten(struct vrd_mad_channel *ch)
{
	for (unsigned int i = 0; i < VRD_MAD_MAX_LISTEN; i++)
		vrd_mad_loop_unwatch(&ch->mads->loop, &ch->listeners[i].src);
}

static int listen_again(struct vrd_mad_channel *ch)
{
	int ret = 0;

	for (unsigned int i = 0; !ret && i < VRD_MAD_MAX_LISTEN; i++)
		if (ch->listeners[i].src.fd >= 0)
			ret = vrd_mad_loop_watch(&ch->mads->loop, &ch->listeners[i].src, EPOLLIN);
	return ret;
}

static void on_listener(struct vrd_mad_source *src, uint32_t events)
{
	struct vrd_mad_channel *ch = ((struct mad_listener *)src)->ch;	/* first member, so that a
									 * src pointer is a conn
									 * pointer */

	(void)events;
	for (unsigned int n = 0; n < ACCEPT_BUDGET; n++) {
		union vrd_mad_addr peer;
		socklen_t len = sizeof(peer);
		int fd = accept4(src->fd, &peer.sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accepted(ch, fd, &peer);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* The listening sockets stay readable: stop watching them for a while. */
			unlisten(ch);
			ch->paused_until = vrd_mad_now_ms() + ACCEPT_PAUSE_MS;
		}
		return;
	}
}

/* ---- time ------------------------------------------------------------------------------ */

int vrd_mad_channel_timeout_ms(struct vrd_mad_channel *ch)
{
	uint64_t now = vrd_mad_now_ms(), first = UINT64_MAX;
	struct vrd_mad_conn *conn;

	if (ch->paused_until)
		first = ch->paused_until;
	TAILQ_FOREACH(conn, &ch->conns, link)
		if (conn->deadline < first)
			first = conn->deadline;
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)(first - now);
}

void vrd_mad_channel_expire(struct vrd_mad_channel *ch)
{
	uint64_t now = vrd_mad_now_ms();
	struct vrd_mad_conn *conn, *next;

	if (ch->paused_until && now >= ch->paused_until) {
		ch->paused_until = 0;
		listen_again(ch);
	}
	for (conn = TAILQ_FIRST(&ch->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		if (now < conn->deadline)
			continue;
		if (!conn->server && conn->state < VRD_MAD_CONN_OPEN)
			give_up(conn);
		else
			conn_free(conn);
	}
}

/* ---- life cycle --------------------------------------------------------------------------- */

struct vrd_mad_channel *vrd_mad_channel_create(struct vrd_mads *mads, struct vrd_mad_setup *setup)
{
	struct vrd_mad_channel *ch = calloc(1, sizeof(*ch));

	if (!ch)
		return NULL;
	ch->mads = mads;
	ch->key = setup->key;
	ch->port = setup->port;
	TAILQ_INIT(&ch->conns);
	for (unsigned int i = 0; i < VRD_MAD_MAX_LISTEN; i++) {
		ch->listeners[i].ch = ch;
		ch->listeners[i].src.fd = setup->listen_fds[i];
		ch->listeners[i].src.ready = on_listener;
		setup->listen_fds[i] = -1;
	}
	if (!listen_again(ch))
		return ch;
	vrd_mad_channel_destroy(ch);
	return NULL;
}

void vrd_mad_channel_destroy(struct vrd_mad_channel *ch)
{
	if (!ch)
		return;
	while (!TAILQ_EMPTY(&ch->conns))
		conn_free(TAILQ_FIRST(&ch->conns));
	unlisten(ch);
	for (unsigned int i = 0; i < VRD_MAD_MAX_LISTEN; i++)
		if (ch->listeners[i].src.fd >= 0)
			close(ch->listeners[i].src.fd);
	vrd_mad_wipe(&ch->key, sizeof(ch->key));
	free(ch);
}

void vrd_mad_channel_stats(struct vrd_mad_channel *ch,
			   void (*fn)(void *opaque, const char *name, uint64_t value),
			   void *opaque)
{
	fn(opaque, "mad_peers", atomic_load(&ch->num_open));
	for (unsigned int i = 0; i < STATS; i++)
		fn(opaque, stat_names[i],
		   atomic_load_explicit(&ch->stats[i], memory_order_relaxed));
}
