/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the MADs of devices on the host's RDMA fabric leave the daemon: the
 * channel to other daemons, and the host's rdma_cm.  See Documentation/rdma-cm.rst.
 */
#ifndef VRDMAD_MAD_H
#define VRDMAD_MAD_H

#include <stdbool.h>

#include "options.h"
#include "vrd_mad.h"

/* --mad-port and --mad-listen without --mad-key, --mad-key without ibdev=. */
bool vrdmad_mad_check(const struct vrdmad_options *opts, const struct vrdmad_log *log);

/*
 * With the privileges of the start: key and socket.  *@setup stays NULL if no
 * device needs any.  0, or a negative errno after one message; as below.
 */
int vrdmad_mad_open(const struct vrdmad_options *opts, struct vrd_mad_setup **setup,
		    const struct vrdmad_log *log);
/* As the user that runs the threads, before the sandbox; @setup may be NULL. */
int vrdmad_mad_open_cm(const struct vrdmad_options *opts, struct vrd_mad_setup *setup,
		       const struct vrdmad_log *log);
/* Uses *@setup up. */
int vrdmad_mad_start(struct vrd_engine *engine, struct vrd_mad_setup **setup,
		     const struct vrdmad_log *log);

#endif /* VRDMAD_MAD_H */
