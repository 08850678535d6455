// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Doorbell pages whose bytes a guest sets as it likes, at any time: the poller
 * looks at slots while the control thread gives them to new queue pairs.  The
 * thread sanitizer is what finds faults here.
 */
#include <stdlib.h>
#include <time.h>

#include "guest.h"
#include "guest_shm.h"
#include "tap.h"

#define QPS	400

static struct guest_ctx *ctx;
static _Atomic bool stop;

/* Sets dirty bytes of all groups, also of those that no ring has a slot in. */
static void *ring_all(void *arg)
{
	(void)arg;
	while (!stop) {
		for (unsigned int group = 0; group < VIRTIO_RDMA_DB_GROUPS; group++) {
			vrd_store8(&ctx->db->dirty[group * 64 + 5], 1);
			vrd_store8(&ctx->db->summary[group], 1);
		}
		guest_kick_doorbell(ctx->g);
		nanosleep(&(struct timespec){ .tv_nsec = 10000 }, NULL);
	}
	return NULL;
}

static void test_groups(void)
{
	struct vrd_engine *engine = guest_engine(1, 1000);
	struct guest *g = guest_create(engine, &(struct guest_config){
		.id = 1, .host_mapped = true });
	struct guest_qp_init init = { .sq_entries = 16, .rq_entries = 16, .max_send_sge = 1,
				      .max_recv_sge = 1, .max_inline = 32 };
	struct guest_qp *qps = calloc(QPS, sizeof(*qps));
	struct guest_side side;
	pthread_t thread;

	guest_side_open(g, 4096, 64, NULL, &side);
	ctx = &side.ctx;
	pthread_create(&thread, NULL, ring_all, NULL);
	for (unsigned int i = 0; i < QPS; i++)
		guest_side_add_qp(&side, &init, &qps[i]);
	stop = true;
	pthread_join(thread, NULL);
	ok(guest_stat(g, "scans") > 0, "slots are allocated while their dirty bytes are set");
	for (unsigned int i = 0; i < QPS; i++)
		guest_qp_destroy(&qps[i]);
	guest_side_close(&side);
	guest_destroy(g);
	vrd_engine_destroy(engine);
	free(qps);
}

int main(void)
{
	test_groups();
	return tap_done();
}
