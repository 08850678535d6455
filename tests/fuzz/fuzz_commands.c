// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of the control commands: a grammar that creates objects, uses their real handles,
 * connects queue pairs of three devices, posts on them, and changes fields and bytes of the
 * requests.
 *
 * Its own checks: an error writes the status header only, a success the whole response; INIT
 * leaves no object.
 *
 * The grammar is in grammar*.c.
 */
#include "grammar.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	cmd_engine = guest_engine(2, 0);
	for (unsigned int i = 0; i < CMD_GUESTS; i++) {
		struct guest_config cfg = {
			.name = (const char *const[]){ "a", "b", "small" }[i],
			.id = i + 1, .mem_size = 4 << 20, .num_vectors = 2,
		};

		if (i == 2) {
			cfg.limits = (struct vrd_limits){
				.max_ctx = 2, .max_pd = 2, .max_mr = 3, .max_cq = 2, .max_cqe = 64,
				.max_qp = 3, .max_srq = 2, .max_qp_wr = 64, .max_sge = 4, .max_inline = 64,
				.max_mr_size = 1 << 20, .max_mr_bytes = 2 << 20,
			};
			cfg.num_allowed_gids = 1;
			memcpy(cfg.allowed_gids[0],
			       (uint8_t[]){ [10] = 0xff, 0xff, 10, 0, 0, 3 }, 16);
		}
		fuzz_guest_open(&cmd_sides[i].f, cmd_engine, &cfg);
	}
	return 0;
}

static void do_destroy(struct fuzz_in *in, struct cmd_side *s)
{
	static const uint32_t ops[KINDS] = {
		VIRTIO_RDMA_CMD_DESTROY_CTX, VIRTIO_RDMA_CMD_DEALLOC_PD, VIRTIO_RDMA_CMD_DEREG_MR,
		VIRTIO_RDMA_CMD_DESTROY_CQ, VIRTIO_RDMA_CMD_DESTROY_QP,
		VIRTIO_RDMA_CMD_DESTROY_SRQ, VIRTIO_RDMA_CMD_DESTROY_BUF,
	};
	enum cmd_kind kind = fuzz_u8(in) % KINDS;
	uint32_t h = cmd_handle(in, s, kind);

	req.destroy = (struct virtio_rdma_destroy_req){ .handle = h };
	if (cmd_send(in, s, ops[kind], sizeof(req.destroy), sizeof(rsp.hdr)))
		cmd_forget(s, kind, le32toh(req.destroy.handle));
}

/* Any number, any bytes; the size of the answer is unknown. */
static void do_raw(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t len = fuzz_u8(in), status, used, op;

	op = fuzz_u8(in);
	memset(req.bytes, 0, sizeof(req.hdr));
	if (len > 4)
		fuzz_bytes(in, req.bytes + 4, len - 4);
	req.hdr.opcode = htole32(op);
	if (op == VIRTIO_RDMA_CMD_INIT)
		cmd_forget_all(s);
	status = guest_command_raw(s->f.g, req.bytes, len ? len : 1, rsp.bytes, sizeof(rsp), &used);
	if (status && used != sizeof(rsp.hdr))
		fuzz_fail("raw command %u failed (%u) and wrote %u bytes", op, status, used);
}

static void do_host(struct fuzz_in *in, struct cmd_side *s)
{
	uint8_t how = fuzz_u8(in);

	switch (how & 7) {
	case 0:
		fuzz_guest_memory(&s->f, how >> 3);
		break;
	case 1:
		fuzz_guest_stop(&s->f);
		fuzz_step(cmd_engine, 1);
		fuzz_guest_start(&s->f);
		break;
	case 2:
		fuzz_guest_memory(&s->f, 0);
		fuzz_guest_reset(&s->f);
		cmd_forget_all(s);
		break;
	case 3:
		fuzz_guest_drain(&s->f);
		break;
	default:
		fuzz_step(cmd_engine, how >> 3 & 3);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };

	for (unsigned int i = 0; i < CMD_GUESTS; i++) {
		fuzz_guest_begin(&cmd_sides[i].f);
		cmd_forget_all(&cmd_sides[i]);
		cmd_sides[i].page = NULL;
	}
	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(&in); n++) {
		uint8_t op = fuzz_u8(&in);
		struct cmd_side *s = &cmd_sides[(op >> 5) % CMD_GUESTS];

		switch (op & 31) {
		case 0: break;
		case 1: do_query(&in, s); break;
		case 2: do_gid(&in, s); break;
		case 3: do_ctx(&in, s); break;
		case 4: do_pd(&in, s); break;
		case 5: do_mr(&in, s); break;
		case 6: do_mr_more(&in, s); break;
		case 7: do_dma_mr(&in, s); break;
		case 8: do_cq(&in, s); break;
		case 9: do_resize(&in, s); break;
		case 10: case 11: do_qp(&in, s); break;
		case 12: case 13: do_modify(&in, s); break;
		case 14: case 15: do_connect(&in, s); break;
		case 16: case 17: do_destroy(&in, s); break;
		case 18: do_raw(&in, s); break;
		case 19: case 20: case 21: case 22: do_post(&in, s); break;
		case 23: guest_kick_doorbell(s->f.g); break;
		case 24: do_init(&in, s); break;
		case 26: do_buf(&in, s); break;
		case 27: do_buf_cq(&in, s); break;
		case 28: do_srq(&in, s); break;
		case 29: do_srq_limit(&in, s); break;
		case 30: do_post_srq(&in, s); break;
		default: do_host(&in, s); break;
		}
	}
	fuzz_step(cmd_engine, 2);
	for (unsigned int i = 0; i < CMD_GUESTS; i++)
		fuzz_guest_end(&cmd_sides[i].f);
	return 0;
}
