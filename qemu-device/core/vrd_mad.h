/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Beside vrd.h, for shells whose devices are on the host's RDMA fabric: how the
 * MADs of those devices' QP 1 leave the process.  rdma_cm in guests needs that;
 * Documentation/rdma-cm.rst tells the whole story.
 *
 * It takes three steps, for shells that drop privileges and forbid themselves to
 * open files: vrd_mad_setup() with the privileges, vrd_mad_setup_cm() without
 * them, and vrd_mads_start() when there is an engine but no device yet.
 */
#ifndef VRD_MAD_H
#define VRD_MAD_H

#include "vrd.h"

/* Where daemons listen for each other, unless told otherwise: TCP, at the number that
 * RoCE v2 has of UDP's.
 */
#define VRD_MAD_PORT_DEFAULT	4791
/* Addresses that one process listens at. */
#define VRD_MAD_MAX_LISTEN	16

struct vrd_mad_setup;

struct vrd_mad_options {
	/*
	 * File with the key that all daemons share, at least 32 bytes, for its
	 * owner's eyes only.  NULL: no channel to other daemons.
	 */
	const char *key_file;
	uint16_t port;			/* 0: the default */
	const char *listen;		/* addresses of this host, with commas; NULL: all of them */
};

/* 0, or a negative errno with @err filled. */
int vrd_mad_setup(const struct vrd_mad_options *opts, struct vrd_mad_setup **setup,
		  struct vrd_error *err);
void vrd_mad_setup_free(struct vrd_mad_setup *setup);

/*
 * Opens the host's rdma_cm, through which peers that have no daemon are reached.
 * As the user who runs the threads later: the kernel accepts calls from nobody
 * else.  After an error all but those peers is reached.
 */
int vrd_mad_setup_cm(struct vrd_mad_setup *setup, struct vrd_error *err);

/* Starts the thread; @setup is used up in any case. */
int vrd_mads_start(struct vrd_engine *engine, struct vrd_mad_setup *setup, struct vrd_error *err);

/* "mad_peers", "mad_rejected", ...: nothing without a channel. */
void vrd_mads_stats(struct vrd_engine *engine,
		    void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

#endif /* VRD_MAD_H */
