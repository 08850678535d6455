// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program that instructions.py runs under callgrind, where threads take turns and switch
 * soon after a pause instruction.  It executes a number of operations of one kind and waits
 * for each batch.  It polls only when there is a completion, so that each call of the
 * provider does work.
 *
 *   native-callgrind write_8B|write_64B|send_64B BATCH OPERATIONS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "rig.h"
#include "shm.h"

static struct rig_pair pair;

static void wait_completion(struct rig_cq *cq)
{
	uint32_t word;

	while (!vrdma_cq_ring_peek(&cq->gen.ring, cq->gen.ring.consumer, &word))
		vrd_cpu_relax();
}

/* All @num completions that the batch produces. */
static void drain(struct rig_cq *cq, unsigned int num)
{
	struct ibv_wc wc;

	while (num--) {
		wait_completion(cq);
		if (vrdma_poll_cq(&cq->v.vcq.cq, 1, &wc) != 1)
			guest_fatal("a completion that is none");
		rig_check_wc(&wc);
	}
}

static void post_receives(unsigned int num)
{
	struct ibv_sge sge = { pair.peer.mr->iova, 64, pair.peer.mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	while (num--)
		if (vrdma_post_recv(&pair.peer.v.vqp.qp, &wr, &bad))
			guest_fatal("the provider refuses a receive");
}

int main(int argc, char **argv)
{
	unsigned int batch, num;
	struct rig_wrs w;
	bool send;

	if (argc != 4) {
		fprintf(stderr, "%s write_8B|write_64B|send_64B BATCH OPERATIONS\n", argv[0]);
		return 2;
	}
	batch = strtoul(argv[2], NULL, 10);
	num = strtoul(argv[3], NULL, 10);
	if (batch < 1 || batch > 16)
		guest_fatal("batches have 1 to 16 requests");
	send = !strncmp(argv[1], "send", 4);
	bench.poller_cpu = 0;
	rig_pair_open(&pair, 65536);
	/* 8 bytes go inline, as in programs that care about latency. */
	rig_wrs_init(&w, &pair.qp, send ? IBV_WR_SEND : IBV_WR_RDMA_WRITE,
		     strstr(argv[1], "64") ? 64 : 8, !strstr(argv[1], "64"), batch, false);
	for (unsigned int done = 0; done < num; done += batch) {
		if (send)
			post_receives(batch);
		rig_post(&pair.qp, w.wr);
		drain(&pair.cq, 1);
		if (send)
			drain(&pair.peer_cq, batch);
	}
	rig_pair_close(&pair);
	return 0;
}
