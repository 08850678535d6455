/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What vrd_mad_setup() opened, for vrd_mads_start(). */
#ifndef VRD_IBV_MAD_SETUP_H
#define VRD_IBV_MAD_SETUP_H

#include "mad_wire.h"
#include "vrd_mad.h"

struct vrd_cm_host;

struct vrd_mad_setup {
	bool keyed;			/* the channel is requested */
	struct vrd_mad_key key;
	uint16_t port;
	int listen_fds[VRD_MAD_MAX_LISTEN];	/* or -1: none, or ownership was taken */
	struct vrd_cm_host *cm_host;	/* or NULL: not requested, or ownership was taken */
};

/*
 * Reads the key from the file at @path.  Refuses a file that others can read, that belongs
 * neither to root nor to this user, or that is shorter than 32 bytes.
 */
int vrd_mad_key_load(const char *path, struct vrd_mad_key *key, struct vrd_error *err);

#endif /* VRD_IBV_MAD_SETUP_H */
