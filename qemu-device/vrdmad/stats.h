/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics on request.
 *
 * A client connects to --stats-socket, sends one line, "text" or "json", and reads until the
 * end.  The text format has one "name value" pair per line:
 *
 *	engine.poller_sleeps 17
 *	device.vm0.connected 1
 *	device.vm0.notify 0
 *
 * Main thread only.
 */
#ifndef VRDMAD_STATS_H
#define VRDMAD_STATS_H

#include <stdbool.h>

#include "listen.h"
#include "loop.h"
#include "vm.h"

#define VRDMAD_STATS_CLIENTS	16

struct vrdmad_stats_client {
	struct vrdmad_stats *stats;
	struct vrdmad_source source;
	char request[16];
	size_t request_len;
	char *reply;			/* NULL: the request is not complete */
	size_t reply_len, sent;
	uint64_t serial;		/* a new client replaces the one with the lowest number */
};

struct vrdmad_stats {
	struct vrdmad_loop *loop;
	struct vrd_closer *closer;
	const struct vrdmad_log *log;
	struct vrd_engine *engine;
	struct vrdmad_vm *vms;
	unsigned int num_vms;
	struct vrdmad_source accept_source;
	struct vrdmad_stats_client clients[VRDMAD_STATS_CLIENTS];
	uint64_t serial;
};

/* Starts the server on @listener, which the caller still owns.  0 or a negative errno. */
int vrdmad_stats_start(struct vrdmad_stats *stats, const struct vrdmad_listener *listener,
		       struct vrdmad_loop *loop, struct vrd_engine *engine,
		       struct vrdmad_vm *vms, unsigned int num_vms, const struct vrdmad_log *log);
void vrdmad_stats_stop(struct vrdmad_stats *stats);

/* All statistics, as text to be freed by the caller; NULL if out of memory. */
char *vrdmad_stats_format(struct vrdmad_stats *stats, bool json, size_t *len);

/* "vrdmad --stats PATH": queries a running daemon and prints its answer.  An exit status. */
int vrdmad_stats_query(const char *path, bool json, const struct vrdmad_log *log);

#endif /* VRDMAD_STATS_H */
