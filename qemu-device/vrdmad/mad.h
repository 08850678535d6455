/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the MADs of devices on the host's RDMA network leave the daemon: through the channel
 * to other daemons, and through the host's rdma_cm.  See Documentation/rdma-cm.rst.
 */
#ifndef VRDMAD_MAD_H
#define VRDMAD_MAD_H

#include <stdbool.h>

#include "options.h"
#include "vrd_mad.h"

/* Refuses --mad-port and --mad-listen without --mad-key, and --mad-key without ibdev=. */
bool vrdmad_mad_check(const struct vrdmad_options *opts, const struct vrdmad_log *log);

/*
 * Reads the key and opens the socket, with the privileges of the start.  *@setup stays NULL
 * if no device has ibdev=.  0, or a negative errno after one message.
 */
int vrdmad_mad_open(const struct vrdmad_options *opts, struct vrd_mad_setup **setup,
		    const struct vrdmad_log *log);
/*
 * Opens the host's rdma_cm.  Called as the user that runs the threads, before the sandbox is
 * entered.  @setup may be NULL.  Returns the same.
 */
int vrdmad_mad_open_cm(const struct vrdmad_options *opts, struct vrd_mad_setup *setup,
		       const struct vrdmad_log *log);
/* Consumes *@setup, also on errors.  Returns the same. */
int vrdmad_mad_start(struct vrd_engine *engine, struct vrd_mad_setup **setup,
		     const struct vrdmad_log *log);

#endif /* VRDMAD_MAD_H */
