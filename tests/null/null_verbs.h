/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host's RDMA device that does nothing, in place of libibverbs: for what the
 * transport itself costs, and for host calls that fail.
 *
 * Linked before libibverbs, its functions are the ones that are called.  The
 * device is "null0".  A send completes as soon as it is posted, without moving a
 * byte; receives stay until null_receive() takes one or their QP is moved to ERR,
 * which flushes them.
 */
#ifndef NULL_VERBS_H
#define NULL_VERBS_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define NULL_IBDEV	"null0"
/* max_msg_sz of its port. */
#define NULL_MAX_MSG	(1U << 30)
/* Its GIDs, at indexes 0 and 1 (link-local, and 10.0.0.1). */
extern const uint8_t null_gids[2][16];

/*
 * The @nth call from now on that may fail does (0: none): what makes an object or
 * changes one.  Disarming tells whether it was reached.
 */
void null_fail(long nth);
bool null_failed(void);

/*
 * Calls that do not return: while such a kind is held, each of these calls waits
 * before it does anything; modify: of the QP with number @qpn alone, unless that
 * is zero.
 */
enum null_call {
	NULL_MODIFY_QP, NULL_CREATE_QP, NULL_DESTROY_QP, NULL_REG_MR, NULL_DEREG_MR,
	NULL_DESTROY_CQ, NULL_CALLS,
};
void null_hold(enum null_call call, uint32_t qpn);
void null_release(enum null_call call);
/* Calls that wait now. */
unsigned int null_held(enum null_call call);

/* Objects that exist: PDs, MRs, CQs, SRQs, QPs, AHs, channels, contexts. */
long null_objects(void);

/* The host reports it to the context of @qp; if @port, it is not the QP's. */
void null_event(enum ibv_event_type type, struct ibv_qp *qp, bool port);
/* The QP with this number. */
struct ibv_qp *null_qp(uint32_t qpn);

/*
 * A message comes to the QP with this number: its next receive, or its SRQ's,
 * completes.  @data, unless NULL, is written to the receive's first piece, which
 * has to be memory of this process (as with a key of local memory).  False: there
 * is no such QP, no receive, or it is in no state for one.
 */
bool null_receive(uint32_t qpn, enum ibv_wc_status status, const void *data, uint32_t length);
#define NULL_SRC_QP	77		/* that it comes from */

/* Sends from now on complete with it, once: their QP is in ERR then. */
void null_next_status(enum ibv_wc_status status);
/* Address handles cannot be made while it is set. */
extern _Atomic bool null_no_ah;
/* Nor is any made, or refused, while this one is. */
extern _Atomic bool null_slow_ah;
/* Receives that SRQs take still, in all; and those that they took. */
extern _Atomic long null_srq_room, null_srq_taken;
/* A QP that goes, or to RESET, takes its completions with it, as with some libraries. */
extern _Atomic bool null_forgets;
/* Devices that are opened while it is set know no atomics. */
extern bool null_no_atomics;
/* The device has gone: posting says EIO. */
extern _Atomic bool null_gone;

#endif /* NULL_VERBS_H */
