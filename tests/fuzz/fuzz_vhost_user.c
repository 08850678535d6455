// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of vrdmad's vhost-user side: messages with their descriptors arrive over a socket
 * pair in the daemon's own connection and session code: whole, in pieces, or in shapes that
 * no client sends.
 *
 * Each input is one connection.  Checks: every descriptor that was passed is closed in the
 * end, and the device accepts the next client.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "fuzz.h"

#define MEM_SIZE	(1U << 20)
#define GUEST_BASE	0x100000000ULL
#define USER_BASE	0x7f0000000000ULL

static struct vrd_engine *engine;
static struct vrdmad_loop loop;
static struct vrdmad_session session;
static struct vrdmad_conn conn;
static struct vrdmad_log session_log;
static struct vrdmad_ratelimit rl;
static struct vrdmad_socket_options opt = { .name = "fuzz", .vectors = 2 };
static int client;			/* our end, or -1 */

/* Sizes of the descriptors that a message may carry. */
enum { SEALED, UNSEALED, EVENT, PIPE, SOCKET, SHORT, NULL_FILE, FDS };
static int fds[FDS];
static uint8_t *mem;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct vrd_device_config cfg = {
		.name = "fuzz", .mac = { 2, 0, 0, 0, 0, 1 }, .num_comp_vectors = 2,
	};
	struct vrd_device *dev;
	struct vrd_error err;
	int pair[2];

	(void)argc;
	(void)argv;
	engine = guest_engine(1, 0);
	if (vrd_device_create(engine, &cfg, &dev, &err))
		fuzz_fail("no device: %s", err.msg);
	vrdmad_log_init(&session_log, getenv("VRD_TEST_LOG") ? VRD_LOG_DEBUG : VRD_LOG_ERROR);
	vrdmad_session_init(&session, dev, &opt, &session_log, &rl);
	if (vrdmad_loop_open(&loop))
		fuzz_fail("no loop");

	fds[SEALED] = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fds[UNSEALED] = memfd_create("unsealed", MFD_CLOEXEC);
	fds[SHORT] = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fds[EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[NULL_FILE] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK))
		fuzz_fail("no pipe");
	fds[PIPE] = pair[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fuzz_fail("no sockets");
	fds[SOCKET] = pair[1];
	if (ftruncate(fds[SEALED], MEM_SIZE) || ftruncate(fds[UNSEALED], MEM_SIZE) ||
	    ftruncate(fds[SHORT], 8192) ||
	    fcntl(fds[SEALED], F_ADD_SEALS, F_SEAL_SHRINK) ||
	    fcntl(fds[SHORT], F_ADD_SEALS, F_SEAL_SHRINK))
		fuzz_fail("no memory files");
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[SEALED], 0);
	if (mem == MAP_FAILED)
		fuzz_fail("no mapping");
	return 0;
}

static void lost(struct vrdmad_conn *c)
{
	vrdmad_conn_close(c);
	vrdmad_session_reset(&session);
}

/* ---- messages ---------------------------------------------------------------- */

static uint32_t pick_request(struct fuzz_in *in)
{
	static const uint8_t requests[] = {
		1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 24, 25, 34, 36, 37,
		38, 5, 9, 12, 18,
	};
	uint8_t how = fuzz_u8(in);

	return how < 0xf0 ? requests[how % sizeof(requests)] : fuzz_u32(in);
}

/* A message that a client would send; returns its size. */
static uint32_t fill(struct fuzz_in *in, struct vu_message *m, unsigned int *kinds)
{
	uint8_t how = fuzz_u8(in);
	union vu_payload *p = &m->payload;
	uint64_t ring = USER_BASE + (uint64_t)(how & 7) * 3 * 4096;

	switch (m->hdr.request) {
	case VU_SET_FEATURES:
		p->u64 = fuzz_pick64(in, (how & 1 ? 0 : 1ULL << 30) | 1ULL << 32 | 1ULL << 33 |
				     (how & 2 ? 3ULL << 28 : 0));
		return 8;
	case VU_SET_PROTOCOL_FEATURES:
		p->u64 = fuzz_pick64(in, how & 1 ? 0 : 0xa229);
		return 8;
	case VU_SET_MEM_TABLE:
		p->table.num = fuzz_pick32(in, (how & 1) + 1);
		for (unsigned int i = 0; i <= (how & 1U); i++) {
			uint64_t size = how & 1 ? MEM_SIZE / 2 : MEM_SIZE, at = i * size;

			p->table.regions[i] = (struct vu_mem_region){
				fuzz_pick64(in, GUEST_BASE + at), fuzz_pick64(in, size),
				fuzz_pick64(in, USER_BASE + at), fuzz_pick64(in, at),
			};
			kinds[m->num_fds++] = SEALED;
		}
		return 8 + (1 + (how & 1)) * 32;
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		p->mem_reg.region = (struct vu_mem_region){
			fuzz_pick64(in, GUEST_BASE + (how & 15) * 65536), fuzz_pick64(in, 65536),
			fuzz_pick64(in, USER_BASE + (how & 15) * 65536),
			fuzz_pick64(in, (how & 15) * 65536),
		};
		kinds[m->num_fds] = SEALED;
		m->num_fds += m->hdr.request == VU_ADD_MEM_REG;
		return 40;
	case VU_SET_VRING_NUM:
		p->state = (struct vu_vring_state){ fuzz_pick32(in, how & 7),
						    fuzz_pick32(in, 64) };
		return 8;
	case VU_SET_VRING_BASE:
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		p->state = (struct vu_vring_state){ fuzz_pick32(in, how & 7),
						    fuzz_pick32(in, how >> 3 & 1) };
		return 8;
	case VU_SET_VRING_ADDR:
		p->addr = (struct vu_vring_addr){
			.index = fuzz_pick32(in, how & 7), .flags = fuzz_pick32(in, 0),
			.desc = fuzz_pick64(in, ring), .used = fuzz_pick64(in, ring + 4096),
			.avail = fuzz_pick64(in, ring + 8192),
		};
		return 40;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		p->u64 = fuzz_pick64(in, how & 7);
		kinds[m->num_fds++] = EVENT;
		return 8;
	case VU_GET_CONFIG:
	case VU_SET_CONFIG:
		p->config = (struct vu_config){
			.offset = fuzz_pick32(in, how & 7), .size = fuzz_pick32(in, how >> 3),
		};
		return 12 + (how >> 3);
	case VU_SET_BACKEND_REQ_FD:
		kinds[m->num_fds++] = SOCKET;
		return 0;
	default:
		return 0;
	}
}

/* Sends @len bytes, the descriptors with the first of them. */
static void transmit(const void *bytes, size_t len, const unsigned int *kinds, unsigned int num)
{
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (void *)bytes, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (num) {
		struct cmsghdr *c;
		int list[16];

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(num * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(num * sizeof(int));
		for (unsigned int i = 0; i < num; i++)
			list[i] = fds[kinds[i] % FDS];
		memcpy(CMSG_DATA(c), list, num * sizeof(int));
	}
	/* The connection may have been closed, or not read on purpose. */
	if (sendmsg(client, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

/* Makes the connection read what is there, and reads its replies. */
static void pump(bool read_replies)
{
	char reply[4096 + 12];

	while (vrdmad_conn_is_open(&conn)) {
		uint64_t before = conn.messages;

		conn.source.ready(&conn.source, EPOLLIN);
		if (vrdmad_conn_is_open(&conn) && conn.messages == before)
			break;
	}
	while (read_replies && recv(client, reply, sizeof(reply), MSG_DONTWAIT) > 0)
		;
}

static void message(struct fuzz_in *in)
{
	static struct {
		struct vu_header hdr;
		union vu_payload payload;
	} __attribute__((packed)) wire;
	static struct vu_message m;
	unsigned int kinds[32], cut;
	uint8_t how;
	uint32_t size;

	memset(&m, 0, sizeof(m));
	m.hdr.request = pick_request(in);
	size = fill(in, &m, kinds);
	fuzz_mutate(in, &m.payload, size);
	how = fuzz_u8(in);
	m.hdr.flags = how < 0xe0 ? VU_VERSION | (how & 1 ? VU_FLAG_NEED_REPLY : 0) : fuzz_u32(in);
	m.hdr.size = fuzz_pick32(in, size);
	how = fuzz_u8(in);
	if (how >= 0xe0)
		m.num_fds = how & 15;
	for (unsigned int i = 0; i < m.num_fds && how >= 0xc0; i++)
		kinds[i] = fuzz_u8(in);

	memset(&wire, 0, sizeof(wire));
	wire.hdr = m.hdr;
	wire.payload = m.payload;
	if (m.hdr.size <= VU_MAX_PAYLOAD)
		size = m.hdr.size;
	size += sizeof(wire.hdr);
	cut = fuzz_u8(in);
	if (cut < 0xc0) {
		transmit(&wire, size, kinds, m.num_fds);
		pump(true);
		return;
	}
	/* In two pieces; the second may never come. */
	cut = (cut & 63) % size;
	if (cut)
		transmit(&wire, cut, kinds, m.num_fds);
	pump(how & 1);
	transmit((uint8_t *)&wire + cut, size - cut, kinds, cut ? m.num_fds & how : m.num_fds);
	pump(how & 1);
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	unsigned int before = count_fds();
	uint64_t one = 1, old;
	int pair[2];

	opt.unsealed = fuzz_u8(&in) & 1;
	/* No log messages: this period's limit has been used up. */
	if (!getenv("VRD_TEST_LOG"))
		rl = (struct vrdmad_ratelimit){ vrdmad_now_ms(), UINT32_MAX / 2, 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fuzz_fail("no sockets: %d", errno);
	client = pair[0];
	if (fcntl(pair[1], F_SETFL, O_NONBLOCK) ||
	    vrdmad_conn_open(&conn, &loop, &session, pair[1], lost))
		fuzz_fail("the connection does not open");

	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(&in) &&
	     vrdmad_conn_is_open(&conn); n++) {
		uint8_t op = fuzz_u8(&in);

		switch (op < 0xe0 ? 0 : op & 3) {
		case 0:
			message(&in);
			break;
		case 1:
			fuzz_bytes(&in, mem + (fuzz_u16(&in) % (MEM_SIZE / 4096)) * 4096, op);
			break;
		case 2:
			if (write(fds[EVENT], &one, sizeof(one)) > 0)
				fuzz_step(engine, 1);
			break;
		default:
			vrdmad_session_signal_error(&session);
			vrdmad_conn_check_deadline(&conn, op & 4 ? UINT64_MAX : 0);
			break;
		}
	}
	if (vrdmad_conn_is_open(&conn)) {
		close(client);
		client = -1;
		pump(false);
	}
	if (vrdmad_conn_is_open(&conn))
		fuzz_fail("the end of the client was not noticed");
	if (client >= 0)
		close(client);
	if (read(fds[EVENT], &old, sizeof(old)) < 0 && errno != EAGAIN)
		fuzz_fail("eventfd: %d", errno);
	/* Sockets and what is nothing that the daemon uses are closed by threads. */
	for (unsigned int n = 0; n < 10000 && vrd_device_pending_closes(session.dev); n++)
		usleep(100);
	if (count_fds() != before)
		fuzz_fail("%u descriptors instead of %u", count_fds(), before);
	return 0;
}
