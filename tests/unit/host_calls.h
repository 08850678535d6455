/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes each of a transport's calls of the host's verbs fail once (tests/null), one at a
 * time until none is left, and checks the result; for the tests of the transports.
 */
#ifndef HOST_CALLS_H
#define HOST_CALLS_H

#include "mem_pair.h"

struct host_calls {
	long num;	/* calls that failed */
	bool ended;	/* and all calls were reached */
	bool reported;	/* each failure gave an error with a message, or the status NOMEM */
	bool undone;	/* no object was left behind */
};

/* The calls of vrd_device_create(). */
struct host_calls host_calls_at_start(struct vrd_engine *engine,
				      const struct vrd_device_config *cfg);

/*
 * The calls for a guest's objects, one of each kind, with a QP of @type that moves to ERR;
 * @with_srq: the QP takes its receives from the SRQ.
 */
struct host_calls host_calls_of_objects(struct mem_end *end, uint8_t type, bool with_srq);

#endif /* HOST_CALLS_H */
