/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An extension of vrd.h for front ends whose devices are on the host's RDMA fabric: how the
 * MADs of those devices' QP 1 leave the process.  rdma_cm in guests needs them; see
 * Documentation/rdma-cm.rst.
 *
 * Initialization has three steps, for front ends that drop privileges and then forbid
 * opening files: vrd_mad_setup() with the privileges, vrd_mad_setup_cm() without them, and
 * vrd_mads_start() when there is an engine but no device yet.
 */
#ifndef VRD_MAD_H
#define VRD_MAD_H

#include "vrd.h"

/*
 * Default port at which daemons listen for each other: TCP, with the number of the RoCE v2
 * UDP port.
 */
#define VRD_MAD_PORT_DEFAULT	4791
/* Maximum number of addresses at which one process listens. */
#define VRD_MAD_MAX_LISTEN	16

struct vrd_mad_setup;

struct vrd_mad_options {
	/*
	 * File with the key that all daemons share, at least 32 bytes, readable only by its
	 * owner.  NULL: no channel to other daemons.
	 */
	const char *key_file;
	uint16_t port;			/* 0: the default */
	const char *listen;		/* addresses of this host, separated by commas; NULL: all
					 * of them */
};

/* 0, or a negative errno with @err filled. */
int vrd_mad_setup(const struct vrd_mad_options *opts, struct vrd_mad_setup **setup,
		  struct vrd_error *err);
void vrd_mad_setup_free(struct vrd_mad_setup *setup);

/*
 * Opens the host's rdma_cm, through which peers that have no daemon are reached.  Call it as
 * the user that runs the threads later: the kernel accepts calls only from that user.  After
 * an error the other peers can still be reached.
 */
int vrd_mad_setup_cm(struct vrd_mad_setup *setup, struct vrd_error *err);

/* Starts the thread.  Takes ownership of @setup, also on failure. */
int vrd_mads_start(struct vrd_engine *engine, struct vrd_mad_setup *setup, struct vrd_error *err);

/* "mad_peers", "mad_rejected", ...: no counters without a channel. */
void vrd_mads_stats(struct vrd_engine *engine,
		    void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

#endif /* VRD_MAD_H */
