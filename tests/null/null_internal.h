/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the dummy RDMA device share; for tests: null_verbs.h. */
#ifndef NULL_INTERNAL_H
#define NULL_INTERNAL_H

#include <stddef.h>

#include "null_verbs.h"

#define NULL_CQ_WCS	65536		/* a CQ has room for all that tests post */
#define NULL_MAX_QPS	4096

/* ---- null_verbs.c ---- */

/* True if this call must fail: null_fail(). */
bool null_fails(void);
/* Waits while such calls are held: null_hold(). */
void null_pass(enum null_call call, uint32_t qpn);
/* Memory of an object, zeroed; NULL if the call must fail. */
void *null_make(size_t size);
/* Frees an object; returns 0. */
int null_drop(void *p);

/* ---- null_cq.c ---- */

int null_poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc);
int null_req_notify_cq(struct ibv_cq *cq, int solicited_only);
/* Adds a completion, and an event if the CQ is armed. */
void null_complete(struct ibv_cq *cq, const struct ibv_wc *wc);
/* Removes the completions of a QP. */
void null_forget(struct ibv_cq *cq, uint32_t qpn);

/* ---- null_qp.c ---- */

int null_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int null_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int null_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

#endif /* NULL_INTERNAL_H */
