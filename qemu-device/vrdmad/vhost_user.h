/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhost-user protocol: its messages, and a session.
 *
 * A session is the state that one client (QEMU, or UML's virtio_uml) has set up for its
 * guest: negotiated features, memory, virtqueues.  conn.c passes whole messages to
 * vrdmad_session_message(), which translates them into calls of the core.  The client is not
 * trusted: each message is checked before it takes effect.
 *
 * All functions of a session are called by the main thread.
 */
#ifndef VRDMAD_VHOST_USER_H
#define VRDMAD_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "options.h"
#include "vrd.h"

/* Requests of the front end, numbered by the vhost-user specification. */
enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_IOTLB_MSG = 22,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
};

/* Bits of the header's flags. */
#define VU_VERSION			1U
#define VU_FLAG_VERSION_MASK		3U
#define VU_FLAG_REPLY			(1U << 2)
#define VU_FLAG_NEED_REPLY		(1U << 3)

/* Virtio feature bit that announces protocol features. */
#define VU_F_PROTOCOL_FEATURES		30

#define VU_PROTOCOL_F_MQ		(1ULL << 0)
#define VU_PROTOCOL_F_REPLY_ACK		(1ULL << 3)
#define VU_PROTOCOL_F_BACKEND_REQ	(1ULL << 5)
#define VU_PROTOCOL_F_CONFIG		(1ULL << 9)
#define VU_PROTOCOL_F_RESET_DEVICE	(1ULL << 13)
#define VU_PROTOCOL_F_MEM_SLOTS		(1ULL << 15)

/* Payload of SET_VRING_KICK, _CALL, _ERR: queue number, and "no descriptor". */
#define VU_VRING_INDEX_MASK		0xffULL
#define VU_VRING_NOFD			(1ULL << 8)

#define VU_MAX_TABLE_REGIONS		8	/* in one SET_MEM_TABLE */
#define VU_MAX_FDS			8	/* in one message */
#define VU_MAX_PAYLOAD			4096
#define VU_MAX_CONFIG			256
#define VU_MAX_QUEUES			256

/* All fields are in the host's byte order, without padding. */
struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;			/* of the payload */
};

struct vu_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vu_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;			/* addresses in the client's address space */
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

struct vu_mem_region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct vu_mem_table {
	uint32_t num;
	uint32_t padding;
	struct vu_mem_region regions[VU_MAX_TABLE_REGIONS];
};

struct vu_mem_reg {
	uint64_t padding;
	struct vu_mem_region region;
};

struct vu_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VU_MAX_CONFIG];
};

union vu_payload {
	uint64_t u64;
	struct vu_vring_state state;
	struct vu_vring_addr addr;
	struct vu_mem_table table;
	struct vu_mem_reg mem_reg;
	struct vu_config config;
	uint8_t bytes[VU_MAX_PAYLOAD];
};

/* A whole message.  A handler that keeps a descriptor replaces it by -1. */
struct vu_message {
	struct vu_header hdr;
	union vu_payload payload;
	unsigned int num_fds;
	int fds[VU_MAX_FDS];
};

/* A region of guest memory, as the client described it. */
struct vrdmad_region {
	struct vu_mem_region r;
	int fd;				/* ours */
};

struct vrdmad_vring {
	uint16_t num;			/* 0: not set yet */
	uint16_t last_avail;
	bool has_addr;
	bool kicked;			/* a kick descriptor was set: the ring may run */
	bool enabled;
	bool running;			/* started in the core */
	uint64_t desc, avail, used;	/* DMA addresses */
	int err_fd;
};

struct vrdmad_session {
	struct vrd_device *dev;
	const struct vrdmad_socket_options *opt;
	const struct vrdmad_log *log;
	struct vrdmad_ratelimit *rl;

	uint64_t protocol_features;	/* negotiated */
	bool has_features;		/* SET_FEATURES was accepted */
	bool protocol_negotiated;	/* VU_F_PROTOCOL_FEATURES was negotiated */
	bool must_settle;		/* the client waits for vrd_device_settle(): conn.h */
	int backend_fd;			/* kept open: UML removes the device when it is closed */
	unsigned int num_queues;
	struct vrdmad_vring vrings[VU_MAX_QUEUES];
	unsigned int num_regions;
	struct vrdmad_region regions[VRD_MAX_MEM_REGIONS];
};

void vrdmad_session_init(struct vrdmad_session *s, struct vrd_device *dev,
			 const struct vrdmad_socket_options *opt, const struct vrdmad_log *log,
			 struct vrdmad_ratelimit *rl);

/*
 * Handles @msg and closes those of its descriptors that are not kept.  If @reply->hdr.size
 * is not VU_NO_REPLY afterwards, the caller has to send @reply.  False if the client
 * violated the protocol and no reply can report it: the caller has to close the connection.
 */
bool vrdmad_session_message(struct vrdmad_session *s, struct vu_message *msg,
			    struct vu_message *reply);
#define VU_NO_REPLY	UINT32_MAX

/* Called when the client has disconnected: resets the device and removes guest memory. */
void vrdmad_session_reset(struct vrdmad_session *s);

/* Called when the device is lost: signals the client's error descriptors. */
void vrdmad_session_signal_error(struct vrdmad_session *s);

/* True while the control queue runs. */
bool vrdmad_session_running(const struct vrdmad_session *s);

/* Closes a descriptor that the client passed, or its connection.  Never sleeps. */
void vu_close_fd(struct vrdmad_session *s, int fd);
/* True if too many descriptors of the client cannot be closed: accept no more. */
bool vu_too_many_closes(const struct vrdmad_session *s);

/* Logs, subject to the session's rate limit. */
__attribute__((format(printf, 3, 4)))
void vrdmad_session_log(struct vrdmad_session *s, enum vrd_log_level level, const char *fmt, ...);

/* For example "SET_MEM_TABLE". */
const char *vu_request_name(uint32_t request);

/* ---- between vhost_user.c and its parts ------------------------------ */

/* Fills @err and returns @ret. */
__attribute__((format(printf, 3, 4)))
int vu_fail(struct vrd_error *err, int ret, const char *fmt, ...);

/* client_fd.c */
enum vu_fd_kind {
	VU_FD_OTHER,			/* any other file; may block, so it is not used */
	VU_FD_MEMORY,			/* memfd, or file of tmpfs or hugetlbfs */
	VU_FD_EVENTFD,
	VU_FD_UNIX_STREAM,
};

enum vu_fd_kind vu_fd_kind(int fd);

/* vhost_user_mem.c: handlers of messages whose size and number of descriptors were checked. */
int vu_set_mem_table(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_add_mem_reg(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_rem_mem_reg(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
void vu_mem_clear(struct vrdmad_session *s);
/* DMA address of the @size bytes at @user; -EFAULT if they are not within one region. */
int vu_translate(const struct vrdmad_session *s, uint64_t user, uint64_t size, uint64_t *addr);

/* vhost_user_vring.c: likewise. */
int vu_set_vring_num(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_set_vring_base(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_get_vring_base(struct vrdmad_session *s, struct vu_message *msg, struct vu_message *reply,
		      struct vrd_error *err);
int vu_set_vring_addr(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_set_vring_kick(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_set_vring_call(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_set_vring_err(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
int vu_set_vring_enable(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err);
/* Stops all rings.  With @forget, also discards their size, addresses and kick descriptors. */
void vu_vrings_stop(struct vrdmad_session *s, bool forget);
bool vu_vrings_running(const struct vrdmad_session *s);

#endif /* VRDMAD_VHOST_USER_H */
