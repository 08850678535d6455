/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host's RDMA device that does nothing, in place of libibverbs: for measuring the cost of
 * the transport itself, and for host calls that fail.
 *
 * Its functions are linked before libibverbs and so replace libibverbs's.  The device is
 * "null0".  A send completes as soon as it is posted, without moving a byte.  Receives stay
 * until null_receive() takes one, or until their QP is moved to ERR, which flushes them.
 */
#ifndef NULL_VERBS_H
#define NULL_VERBS_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define NULL_IBDEV	"null0"
/* max_msg_sz of the device's port. */
#define NULL_MAX_MSG	(1U << 30)
/* GIDs of the device, at indexes 0 and 1 (link-local, and 10.0.0.1). */
extern const uint8_t null_gids[2][16];

/*
 * Makes the @nth call from now on fail (0: none), counting calls that create or change an
 * object.  Disarming returns whether that call was reached.
 */
void null_fail(long nth);
bool null_failed(void);

/*
 * Calls that do not return: while such a kind of call is held, each of these calls waits
 * before it does anything.  modify: only calls for the QP with number @qpn, or for all QPs
 * if @qpn is zero.
 */
enum null_call {
	NULL_MODIFY_QP, NULL_CREATE_QP, NULL_DESTROY_QP, NULL_REG_MR, NULL_DEREG_MR,
	NULL_DESTROY_CQ, NULL_DESTROY_AH, NULL_CALLS,
};
void null_hold(enum null_call call, uint32_t qpn);
void null_release(enum null_call call);
/* Number of calls that wait now. */
unsigned int null_held(enum null_call call);
/* Waits until @num calls wait; false if that takes too long. */
bool null_held_reaches(enum null_call call, unsigned int num);

/* Numbers of existing objects: PDs, MRs, CQs, SRQs, QPs, AHs, channels, contexts. */
long null_objects(void);
/* Waits until there are so many; false if that takes too long. */
bool null_objects_reach(long num);

/* Raises this event in the context of @qp; with @port it is an event of the port, not of the QP. */
void null_event(enum ibv_event_type type, struct ibv_qp *qp, bool port);
/* Returns the QP with this number. */
struct ibv_qp *null_qp(uint32_t qpn);

/*
 * Delivers a message to the QP with this number: its next receive, or its SRQ's, completes.
 * @data, unless NULL, is written to the receive's first SGE, which must be memory of this
 * process (as with a key of local memory).  Returns false if there is no such QP, no
 * receive, or the QP's state does not allow it.
 */
bool null_receive(uint32_t qpn, enum ibv_wc_status status, const void *data, uint32_t length);
#define NULL_SRC_QP	77		/* QP number of the sender */

/* The next send completes with this status, and its QP is in ERR then. */
void null_next_status(enum ibv_wc_status status);
/* While set, the creation of address handles fails. */
extern _Atomic bool null_no_ah;
/* While set, the creation of address handles does not return. */
extern _Atomic bool null_slow_ah;
/* Limit of the receives that all SRQs together take, and the number that they took. */
extern _Atomic long null_srq_room, null_srq_taken;
/* While set, destroying or resetting a QP removes its completions, as some libraries do. */
extern _Atomic bool null_forgets;
/* Devices that are opened while this is set have no atomics. */
extern bool null_no_atomics;
/* The device was removed: posts return EIO. */
extern _Atomic bool null_gone;

#endif /* NULL_VERBS_H */
