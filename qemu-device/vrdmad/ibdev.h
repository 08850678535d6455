/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices on the host's RDMA network: the host's device, port and GIDs that they use. */
#ifndef VRDMAD_IBDEV_H
#define VRDMAD_IBDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "vrd.h"

#define VRDMAD_IBDEV_NAME_MAX	63

struct vrdmad_ibdev_options {
	char name[VRDMAD_IBDEV_NAME_MAX + 1];	/* empty: memory transport only */
	unsigned int port;			/* 0: not given */
	unsigned int num_gid_indexes;
	uint16_t gid_indexes[VRD_MAX_ALLOWED_GIDS];
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
	bool local;				/* use the memory transport to guests of the same
						 * fabric */
};

/*
 * The keys are "ibdev", "port", "gid-index", "cm-port" and "local".  vrdmad_ibdev_parse()
 * returns NULL if @value is valid, else a description of valid values.
 */
bool vrdmad_ibdev_is_key(const char *key);
const char *vrdmad_ibdev_parse(struct vrdmad_ibdev_options *opt, const char *key,
			       const char *value);
/* Copies the options for all sockets into @opt, unless @opt has an ibdev of its own. */
void vrdmad_ibdev_inherit(struct vrdmad_ibdev_options *opt,
			  const struct vrdmad_ibdev_options *all);
/* Refuses port=, gid-index=, cm-port= and local= without ibdev=. */
bool vrdmad_ibdev_check(const struct vrdmad_ibdev_options *opt, const char *path,
			const struct vrdmad_log *log);

/*
 * Raises the limit of locked memory, because guest memory will be pinned.  Called before
 * privileges are dropped.
 */
void vrdmad_raise_memlock(const struct vrdmad_log *log);
/*
 * Called after privileges are dropped and before the sandbox is entered.  0, or a negative
 * errno after one message.
 */
int vrdmad_ibdev_open(const struct vrdmad_ibdev_options *opt, const char *name,
		      struct vrd_ibdev **ibdev, const struct vrdmad_log *log);

#endif /* VRDMAD_IBDEV_H */
