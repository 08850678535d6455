// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands that fuzz_commands.c sends: the objects that they created, and sending a
 * request with the checks of its answer.
 */
#include "cmd_length.h"
#include "grammar.h"

struct vrd_engine *cmd_engine;
struct cmd_side cmd_sides[CMD_GUESTS];
union cmd_req req;
union cmd_rsp rsp;

/* ---- objects ------------------------------------------------------------- */

static struct cmd_object no_object;

struct cmd_object *cmd_any(struct fuzz_in *in, struct cmd_side *s, enum cmd_kind kind)
{
	uint8_t i = fuzz_u8(in);

	return s->num[kind] ? &s->objects[kind][i % s->num[kind]] : &no_object;
}

uint32_t cmd_handle(struct fuzz_in *in, struct cmd_side *s, enum cmd_kind kind)
{
	return htole32(fuzz_pick32(in, cmd_any(in, s, kind)->handle));
}

struct cmd_object *cmd_add(struct cmd_side *s, enum cmd_kind kind)
{
	if (s->num[kind] < CMD_MAX_OBJECTS)
		return &s->objects[kind][s->num[kind]++];
	return &s->objects[kind][0];
}

void cmd_forget(struct cmd_side *s, enum cmd_kind kind, uint32_t handle)
{
	for (unsigned int i = 0; i < s->num[kind]; i++)
		if (s->objects[kind][i].handle == handle) {
			s->objects[kind][i] = s->objects[kind][--s->num[kind]];
			return;
		}
}

void cmd_forget_all(struct cmd_side *s)
{
	memset(s->num, 0, sizeof(s->num));
}

/* ---- sending ---------------------------------------------------------------- */

/* As a newer driver sends it: @more bytes between the fixed part and the extents. */
static uint32_t grow(uint32_t op, uint32_t len, uint32_t more, bool zero)
{
	uint32_t fixed = cmd_length(op);

	if (len < fixed || len + more > CMD_MAX_REQ)
		return len;
	memmove(req.bytes + fixed + more, req.bytes + fixed, len - fixed);
	memset(req.bytes + fixed, 0, more);
	req.bytes[fixed + more - 1] = !zero;
	req.hdr.length = htole32(fixed + more);
	return len + more;
}

bool cmd_send(struct fuzz_in *in, struct cmd_side *s, uint32_t op, uint32_t len, uint32_t rsp_len)
{
	uint32_t status, used, room = rsp_len;
	uint8_t how;

	req.hdr.opcode = htole32(op);
	req.hdr.length = htole32(fuzz_pick32(in, cmd_length(op)));
	fuzz_mutate(in, req.bytes, len);
	how = fuzz_u8(in);
	if (how >= 0xe0)
		len = fuzz_u16(in) % CMD_MAX_REQ;
	else if (how >= 0xc0 && how < 0xd0)
		len = grow(op, len, 8 * (how % 4 + 1), how & 4);
	else if (how >= 0xd0)
		room = fuzz_u8(in) % sizeof(rsp);
	status = guest_command_raw(s->f.g, req.bytes, len ? len : 1, rsp.bytes, room ? room : 1,
				   &used);
	if (room < sizeof(rsp.hdr)) {
		if (used)
			fuzz_fail("command %u wrote %u of %u bytes", op, used, room);
		return false;
	}
	if (status && used != sizeof(rsp.hdr))
		fuzz_fail("command %u failed (%u) and wrote %u bytes", op, status, used);
	for (uint32_t i = used; i < room; i++)
		if (rsp.bytes[i] != 0xee)
			fuzz_fail("command %u wrote beyond its %u bytes", op, used);
	if (!status && used < rsp_len && req.hdr.opcode == htole32(op))
		fuzz_fail("command %u answered %u of %u bytes", op, used, rsp_len);
	return !status && req.hdr.opcode == htole32(op);
}

uint32_t cmd_extents(struct fuzz_in *in, struct cmd_side *s, void *at, uint8_t *pages,
		     uint32_t num_pages)
{
	struct virtio_rdma_extent *e = at;
	uint32_t n = 0;
	uint8_t split = fuzz_u8(in);

	/* All extents in one command, one by one, or as the bits say. */
	for (uint32_t first = 0; first < num_pages && n < 32; n++) {
		uint32_t run = split & 0x80 && n < 31 ? 1 : num_pages - first;

		e[n] = (struct virtio_rdma_extent){
			.addr = htole64(fuzz_pick64(in, guest_addr(s->f.g, pages) +
						    (uint64_t)first * GUEST_PAGE)),
			.pages = htole32(fuzz_pick32(in, run)),
		};
		first += run;
	}
	return n;
}
