/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices on the host's RDMA fabric: which device, port and GIDs of the host's.
 */
#ifndef VRDMAD_IBDEV_H
#define VRDMAD_IBDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "vrd.h"

#define VRDMAD_IBDEV_NAME_MAX	63

struct vrdmad_ibdev_options {
	char name[VRDMAD_IBDEV_NAME_MAX + 1];	/* empty: memory only */
	unsigned int port;			/* 0: not given */
	unsigned int num_gid_indexes;
	uint16_t gid_indexes[VRD_MAX_ALLOWED_GIDS];
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
	bool local;				/* guests of the fabric are reached by memory */
};

/*
 * One of "ibdev", "port", "gid-index", "cm-port" and "local".  NULL if @value is right,
 * else what is wanted.
 */
bool vrdmad_ibdev_is_key(const char *key);
const char *vrdmad_ibdev_parse(struct vrdmad_ibdev_options *opt, const char *key,
			       const char *value);
/* A socket gets what was given for all, if it has no ibdev of its own. */
void vrdmad_ibdev_inherit(struct vrdmad_ibdev_options *opt,
			  const struct vrdmad_ibdev_options *all);
/* port=, gid-index=, cm-port= or local= without ibdev= */
bool vrdmad_ibdev_check(const struct vrdmad_ibdev_options *opt, const char *path,
			const struct vrdmad_log *log);

/* Before privileges are given up: guests' memory will be pinned. */
void vrdmad_raise_memlock(const struct vrdmad_log *log);
/* After it, as that user, and before the sandbox.  0, or a negative errno after one
 * message.
 */
int vrdmad_ibdev_open(const struct vrdmad_ibdev_options *opt, const char *name,
		      struct vrd_ibdev **ibdev, const struct vrdmad_log *log);

#endif /* VRDMAD_IBDEV_H */
