/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each of a transport's calls of the host's verbs fails once (tests/null), one by one
 * until none is left: what comes of it, for the tests of the transports.
 */
#ifndef HOST_CALLS_H
#define HOST_CALLS_H

#include "mem_pair.h"

struct host_calls {
	long num;	/* that failed */
	bool ended;	/* and then there were no more */
	bool told;	/* of each: an error with a message, or the status NOMEM */
	bool undone;	/* no object is left of it */
};

/* Those of vrd_device_create(). */
struct host_calls host_calls_at_start(struct vrd_engine *engine,
				      const struct vrd_device_config *cfg);

/*
 * Those for a guest's objects, one of each kind, with a QP of @type that moves to ERR;
 * @with_srq: it has its receives from the SRQ.
 */
struct host_calls host_calls_of_objects(struct mem_end *end, uint8_t type, bool with_srq);

#endif /* HOST_CALLS_H */
