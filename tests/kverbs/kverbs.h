/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two connected QPs of a test, and what its parts do with them. */
#ifndef KV_KVERBS_H
#define KV_KVERBS_H

#include <linux/completion.h>
#include <rdma/ib_verbs.h>

#define KV_BUF		SZ_64K

struct kv_test {
	struct ib_device *dev;
	struct ib_pd *pd;
	struct ib_mr *mr;	/* all memory, for remote access */
	struct ib_cq *cq;
	struct ib_qp *qp[2];
	bool live[2];		/* left RESET, so there is something to drain */
	u8 *buf[2];
	u64 dma[2];
	int flushed;
};

struct kv_wait {
	struct ib_cqe cqe;
	struct completion done;
	struct ib_wc wc;
};

/* kverbs.c */
void kv_wait_init(struct kv_wait *w);
/* Waits for the completion: 0, -ETIMEDOUT, or -EIO if its status is an error. */
int kv_wait_for(struct kv_wait *w, const char *what);
/* Posts a receive of @len bytes at the start of QP @i's buffer. */
int kv_post_recv(struct kv_test *t, int i, struct ib_cqe *cqe, u32 len);
/* Posts @wr on QP @i and waits for it. */
int kv_send(struct kv_test *t, int i, struct ib_send_wr *wr, const char *what);
/* Through ERR and RESET, back to RTS: the rings start from zero. */
int kv_test_restart(struct kv_test *t);

/* fast_reg.c: all of fast registration; 0 if the device does not have it. */
int kv_test_fast_reg(struct kv_test *t);

#endif /* KV_KVERBS_H */
