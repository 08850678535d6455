// SPDX-License-Identifier: GPL-2.0-or-later
/* Host calls that fail one at a time.  See host_calls.h. */
#include <string.h>

#include "host_calls.h"
#include "null_verbs.h"

#define TOO_MANY	100

struct host_calls host_calls_at_start(struct vrd_engine *engine,
				      const struct vrd_device_config *cfg)
{
	struct host_calls calls = { .reported = true, .undone = true };
	long before = null_objects();
	struct vrd_device *dev;
	struct vrd_error err;

	for (long n = 1; n < TOO_MANY; n++) {
		int ret;

		null_fail(n);
		memset(&err, 0, sizeof(err));
		ret = vrd_device_create(engine, cfg, &dev, &err);
		if (!ret)
			vrd_device_destroy(dev);
		else
			calls.reported &= err.msg[0] != 0;
		calls.undone &= null_objects() == before;
		calls.ended = !null_failed();
		if (calls.ended)
			break;
		calls.num = n;
	}
	return calls;
}

/*
 * Creates one object of each kind; refused objects are skipped.  Returns false if one was
 * refused.
 */
static bool make_objects(struct mem_end *e, uint8_t type, bool with_srq, struct host_calls *calls)
{
	struct guest_qp_init init = { .type = type };
	uint32_t pd, status[6] = { 0 };
	struct guest_srq srq;
	struct guest_cq cq;
	struct guest_qp qp;
	struct guest_mr mr;

	status[0] = guest_pd_alloc(&e->ctx, &pd);
	if (status[0])
		goto out;
	status[1] = guest_mr_reg(e->g, pd, e->buf, MEM_BUF, MEM_ALL_ACCESS, &mr);
	status[2] = guest_cq_create(&e->ctx, 16, 0, &cq);
	status[3] = guest_srq_create(&e->ctx, pd, 16, 1, &srq);
	if (!status[2]) {
		init.pd = pd;
		init.send_cq = init.recv_cq = &cq;
		if (with_srq && !status[3])
			init.srq = &srq;
		status[4] = guest_qp_create(&e->ctx, &init, &qp);
		if (!status[4]) {
			status[5] = guest_qp_set_state(&qp, VIRTIO_RDMA_QPS_ERR);
			calls->undone &= !guest_qp_destroy(&qp);
		}
		calls->undone &= !guest_cq_destroy(&cq);
	}
	if (!status[3])
		calls->undone &= !guest_srq_destroy(&srq);
	if (!status[1])
		calls->undone &= !guest_mr_dereg(&mr);
	calls->undone &= !guest_destroy_handle(e->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
out:
	/* One call fails, so at most one status reports an error. */
	for (unsigned int i = 0; i < 6; i++) {
		calls->reported &= !status[i] || status[i] == VIRTIO_RDMA_S_NOMEM;
		if (status[i])
			return false;
	}
	return true;
}

struct host_calls host_calls_of_objects(struct mem_end *end, uint8_t type, bool with_srq)
{
	struct host_calls calls = { .reported = true, .undone = true };
	long before = null_objects();

	for (long n = 1; n < TOO_MANY; n++) {
		bool all;

		null_fail(n);
		all = make_objects(end, type, with_srq, &calls);
		calls.ended = !null_failed();
		if (calls.ended)
			break;
		calls.num = n;
		/* A failure may be compensated, as for inline data by a bounce line. */
		calls.reported &= !all || n > 4;
	}
	calls.undone &= null_objects() == before;
	return calls;
}
