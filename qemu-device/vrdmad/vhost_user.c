// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A vhost-user session: the table of requests, their checks, and the requests that concern
 * neither memory nor virtqueues.
 *
 * This message loop does not use libvhost-user.  That library ends the process on some
 * malformed messages, does not check queue numbers and region counts, maps and unmaps guest
 * memory itself (while pollers may be copying into it), and has its own implementation of
 * virtqueues.  The core needs none of this: it takes addresses, descriptors and a memory
 * table, and quiesces its threads itself.  Only the table of requests would remain, and this
 * file is that table.
 *
 * Requests of features that were not offered (logging, postcopy, in-flight tracking, device
 * status, ...) are refused.  VHOST_USER_PROTOCOL_F_STATUS is not offered because QEMU sends
 * SET_STATUS 0 at each stop: a pause of the guest would destroy its objects.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "vhost_user.h"

#define OFFERED_PROTOCOL_FEATURES \
	(VU_PROTOCOL_F_MQ | VU_PROTOCOL_F_REPLY_ACK | VU_PROTOCOL_F_BACKEND_REQ | \
	 VU_PROTOCOL_F_CONFIG | VU_PROTOCOL_F_RESET_DEVICE | VU_PROTOCOL_F_MEM_SLOTS)

#define CONFIG_HDR_SIZE	12U

_Static_assert(sizeof(struct vu_header) == 12, "vhost-user header");
_Static_assert(sizeof(struct vu_vring_addr) == 40, "vhost-user vring address");
_Static_assert(sizeof(struct vu_mem_region) == 32, "vhost-user memory region");
_Static_assert(sizeof(struct vu_mem_reg) == 40, "vhost-user single memory region");
_Static_assert(sizeof(struct vu_config) == CONFIG_HDR_SIZE + VU_MAX_CONFIG, "vhost-user config");

typedef int vu_handler_fn(struct vrdmad_session *s, struct vu_message *msg,
			  struct vrd_error *err);
/* A request that always has a reply: fills @reply's payload and size. */
typedef int vu_getter_fn(struct vrdmad_session *s, struct vu_message *msg,
			 struct vu_message *reply, struct vrd_error *err);

/* Properties of a request; exactly one of @handle and @get is set. */
struct vu_request_type {
	const char *name;
	uint32_t min_size, max_size;	/* of the payload */
	unsigned int max_fds;		/* the handler checks for fewer */
	uint64_t protocol_feature;	/* must have been negotiated; 0: none */
	vu_handler_fn *handle;
	vu_getter_fn *get;
};

int vu_fail(struct vrd_error *err, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	err->hint[0] = '\0';
	return ret;
}

/* ---- general requests ------------------------------------------------ */

static int reply_u64(struct vu_message *reply, uint64_t value)
{
	reply->payload.u64 = value;
	reply->hdr.size = sizeof(value);
	return 0;
}

static int vu_get_features(struct vrdmad_session *s, struct vu_message *msg,
			   struct vu_message *reply, struct vrd_error *err)
{
	(void)msg;
	(void)err;
	return reply_u64(reply, vrd_device_features(s->dev) | 1ULL << VU_F_PROTOCOL_FEATURES);
}

static int vu_set_features(struct vrdmad_session *s, struct vu_message *msg,
			   struct vrd_error *err)
{
	uint64_t features = msg->payload.u64;
	bool protocol = features & 1ULL << VU_F_PROTOCOL_FEATURES;
	int ret;

	if (vu_vrings_running(s))
		return vu_fail(err, -EBUSY, "features cannot change while virtqueues run");
	features &= ~(1ULL << VU_F_PROTOCOL_FEATURES);
	/*
	 * Without a vIOMMU, QEMU removes ACCESS_PLATFORM from the features, even if the driver
	 * accepted it.  QEMU's virtio core has checked that the driver did.  (With a vIOMMU,
	 * QEMU sends translations as IOTLB messages, which are refused.)
	 */
	features |= 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	ret = vrd_device_set_features(s->dev, features, err);
	if (ret < 0)
		return ret;
	s->has_features = true;
	s->protocol_negotiated = protocol;
	/* Without protocol features, there is no SET_VRING_ENABLE. */
	for (unsigned int i = 0; !protocol && i < s->num_queues; i++)
		s->vrings[i].enabled = true;
	return 0;
}

static int vu_get_protocol_features(struct vrdmad_session *s, struct vu_message *msg,
				    struct vu_message *reply, struct vrd_error *err)
{
	(void)s;
	(void)msg;
	(void)err;
	return reply_u64(reply, OFFERED_PROTOCOL_FEATURES);
}

static int vu_set_protocol_features(struct vrdmad_session *s, struct vu_message *msg,
				    struct vrd_error *err)
{
	uint64_t unknown = msg->payload.u64 & ~OFFERED_PROTOCOL_FEATURES;

	if (unknown)
		return vu_fail(err, -EINVAL, "protocol features 0x%llx were not offered",
			       (unsigned long long)unknown);
	s->protocol_features = msg->payload.u64;
	return 0;
}

static int vu_set_owner(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	(void)s;
	(void)msg;
	(void)err;
	return 0;
}

/* Superseded by RESET_DEVICE.  The specification defines it as "disable all rings". */
static int vu_reset_owner(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	(void)msg;
	(void)err;
	vu_vrings_stop(s, false);
	return 0;
}

static int vu_reset_device(struct vrdmad_session *s, struct vu_message *msg,
			   struct vrd_error *err)
{
	(void)msg;
	(void)err;
	vu_vrings_stop(s, true);
	vrd_device_reset(s->dev);
	s->must_settle = true;
	s->has_features = false;
	return 0;
}

static int vu_get_queue_num(struct vrdmad_session *s, struct vu_message *msg,
			    struct vu_message *reply, struct vrd_error *err)
{
	(void)msg;
	(void)err;
	return reply_u64(reply, s->num_queues);
}

static int vu_get_max_mem_slots(struct vrdmad_session *s, struct vu_message *msg,
				struct vu_message *reply, struct vrd_error *err)
{
	(void)s;
	(void)msg;
	(void)err;
	return reply_u64(reply, VRD_MAX_MEM_REGIONS);
}

static int vu_set_backend_req_fd(struct vrdmad_session *s, struct vu_message *msg,
				 struct vrd_error *err)
{
	if (msg->num_fds != 1)
		return vu_fail(err, -EINVAL, "needs one descriptor");
	if (vu_fd_kind(msg->fds[0]) != VU_FD_UNIX_STREAM)
		return vu_fail(err, -EINVAL, "the descriptor is not a UNIX stream socket");
	if (s->backend_fd >= 0)
		vu_close_fd(s, s->backend_fd);
	s->backend_fd = msg->fds[0];
	msg->fds[0] = -1;
	return 0;
}

/* The specification requires an empty payload as the answer to an error. */
static int vu_get_config(struct vrdmad_session *s, struct vu_message *msg,
			 struct vu_message *reply, struct vrd_error *err)
{
	const struct vu_config *req = &msg->payload.config;
	struct vu_config *rsp = &reply->payload.config;

	reply->hdr.size = 0;
	if (req->size > VU_MAX_CONFIG || req->offset > VU_MAX_CONFIG - req->size)
		return vu_fail(err, -EINVAL, "offset %u, size %u: beyond %u bytes", req->offset,
			       req->size, VU_MAX_CONFIG);
	if (msg->hdr.size != CONFIG_HDR_SIZE + req->size)
		return vu_fail(err, -EINVAL, "%u bytes of payload for %u of configuration",
			       msg->hdr.size, req->size);
	rsp->offset = req->offset;
	rsp->size = req->size;
	rsp->flags = req->flags;
	vrd_device_get_config(s->dev, req->offset, rsp->data, req->size);
	reply->hdr.size = CONFIG_HDR_SIZE + req->size;
	return 0;
}

static int vu_set_config(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	(void)s;
	(void)msg;
	return vu_fail(err, -EPERM, "the configuration space is read-only");
}

static int vu_iotlb_msg(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	(void)s;
	(void)msg;
	vu_fail(err, -EOPNOTSUPP, "a vIOMMU is not supported over vhost-user");
	snprintf(err->hint, sizeof(err->hint),
		 "start QEMU without a vIOMMU device, or use -device virtio-rdma-pci");
	return -EOPNOTSUPP;
}

/* ---- dispatch -------------------------------------------------------- */

#define U64	8, 8
#define STATE	8, 8
#define NONE	0, 0

static const struct vu_request_type request_types[] = {
	[VU_GET_FEATURES] = { "GET_FEATURES", NONE, 0, 0, NULL, vu_get_features },
	[VU_SET_FEATURES] = { "SET_FEATURES", U64, 0, 0, vu_set_features, NULL },
	[VU_SET_OWNER] = { "SET_OWNER", NONE, 0, 0, vu_set_owner, NULL },
	[VU_RESET_OWNER] = { "RESET_OWNER", NONE, 0, 0, vu_reset_owner, NULL },
	[VU_SET_MEM_TABLE] = { "SET_MEM_TABLE", 8, sizeof(struct vu_mem_table),
			       VU_MAX_TABLE_REGIONS, 0, vu_set_mem_table, NULL },
	[VU_SET_VRING_NUM] = { "SET_VRING_NUM", STATE, 0, 0, vu_set_vring_num, NULL },
	[VU_SET_VRING_ADDR] = { "SET_VRING_ADDR", 40, 40, 0, 0, vu_set_vring_addr, NULL },
	[VU_SET_VRING_BASE] = { "SET_VRING_BASE", STATE, 0, 0, vu_set_vring_base, NULL },
	[VU_GET_VRING_BASE] = { "GET_VRING_BASE", STATE, 0, 0, NULL, vu_get_vring_base },
	[VU_SET_VRING_KICK] = { "SET_VRING_KICK", U64, 1, 0, vu_set_vring_kick, NULL },
	[VU_SET_VRING_CALL] = { "SET_VRING_CALL", U64, 1, 0, vu_set_vring_call, NULL },
	[VU_SET_VRING_ERR] = { "SET_VRING_ERR", U64, 1, 0, vu_set_vring_err, NULL },
	[VU_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", NONE, 0, 0, NULL,
				       vu_get_protocol_features },
	[VU_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", U64, 0, 0,
				       vu_set_protocol_features, NULL },
	[VU_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", NONE, 0, VU_PROTOCOL_F_MQ, NULL,
			       vu_get_queue_num },
	[VU_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", STATE, 0, 0, vu_set_vring_enable, NULL },
	[VU_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", NONE, 1, VU_PROTOCOL_F_BACKEND_REQ,
				    vu_set_backend_req_fd, NULL },
	[VU_IOTLB_MSG] = { "IOTLB_MSG", 0, VU_MAX_PAYLOAD, 0, 0, vu_iotlb_msg, NULL },
	[VU_GET_CONFIG] = { "GET_CONFIG", CONFIG_HDR_SIZE, sizeof(struct vu_config), 0,
			    VU_PROTOCOL_F_CONFIG, NULL, vu_get_config },
	[VU_SET_CONFIG] = { "SET_CONFIG", CONFIG_HDR_SIZE, sizeof(struct vu_config), 0,
			    VU_PROTOCOL_F_CONFIG, vu_set_config, NULL },
	[VU_RESET_DEVICE] = { "RESET_DEVICE", NONE, 0, VU_PROTOCOL_F_RESET_DEVICE,
			      vu_reset_device, NULL },
	[VU_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", NONE, 0, VU_PROTOCOL_F_MEM_SLOTS, NULL,
				   vu_get_max_mem_slots },
	[VU_ADD_MEM_REG] = { "ADD_MEM_REG", 40, 40, 1, VU_PROTOCOL_F_MEM_SLOTS,
			     vu_add_mem_reg, NULL },
	/* Some front ends pass a descriptor.  It is closed without use. */
	[VU_REM_MEM_REG] = { "REM_MEM_REG", 40, 40, 1, VU_PROTOCOL_F_MEM_SLOTS,
			     vu_rem_mem_reg, NULL },
};

static const struct vu_request_type *request_type(uint32_t request)
{
	if (request >= sizeof(request_types) / sizeof(request_types[0]) ||
	    !request_types[request].name)
		return NULL;
	return &request_types[request];
}

const char *vu_request_name(uint32_t request)
{
	const struct vu_request_type *type = request_type(request);

	return type ? type->name : "unknown request";
}

static int check_shape(const struct vrdmad_session *s, const struct vu_request_type *type,
		       const struct vu_message *msg, struct vrd_error *err)
{
	if (!type)
		return vu_fail(err, -EOPNOTSUPP, "request %u is not supported", msg->hdr.request);
	if (msg->hdr.size < type->min_size || msg->hdr.size > type->max_size)
		return vu_fail(err, -EINVAL, "%u bytes of payload instead of %u", msg->hdr.size,
			       msg->hdr.size < type->min_size ? type->min_size : type->max_size);
	if (msg->num_fds > type->max_fds)
		return vu_fail(err, -EINVAL, "%u descriptors instead of %u", msg->num_fds,
			       type->max_fds);
	if (type->protocol_feature & ~s->protocol_features)
		return vu_fail(err, -EINVAL, "its protocol feature was not negotiated");
	return 0;
}

void vrdmad_session_log(struct vrdmad_session *s, enum vrd_log_level level, const char *fmt, ...)
{
	unsigned int suppressed;
	char text[768];
	va_list ap;

	if (level > s->log->level || !vrdmad_ratelimit_ok(s->rl, &suppressed))
		return;
	if (suppressed)
		vrdmad_log(s->log, VRD_LOG_WARN, "%s: %u messages suppressed", s->opt->name,
			   suppressed);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	vrdmad_log(s->log, level, "%s: %s", s->opt->name, text);
}

static void close_fds(struct vrdmad_session *s, struct vu_message *msg)
{
	for (unsigned int i = 0; i < msg->num_fds; i++)
		if (msg->fds[i] >= 0)
			vu_close_fd(s, msg->fds[i]);
	msg->num_fds = 0;
}

bool vrdmad_session_message(struct vrdmad_session *s, struct vu_message *msg,
			    struct vu_message *reply)
{
	const struct vu_request_type *type = request_type(msg->hdr.request);
	struct vrd_error err = { "", "" };
	bool ack;
	int ret;

	reply->hdr.request = msg->hdr.request;
	reply->hdr.flags = VU_VERSION | VU_FLAG_REPLY;
	reply->hdr.size = VU_NO_REPLY;
	reply->num_fds = 0;

	ret = check_shape(s, type, msg, &err);
	if (!ret)
		ret = type->get ? type->get(s, msg, reply, &err) : type->handle(s, msg, &err);
	close_fds(s, msg);
	if (ret < 0)
		vrdmad_session_log(s, VRD_LOG_ERROR, "%s: %s%s%s",
				   vu_request_name(msg->hdr.request),
				   err.msg[0] ? err.msg : strerror(-ret), err.hint[0] ? ": " : "",
				   err.hint);

	if (type && type->get)
		return reply->hdr.size != VU_NO_REPLY;
	/* Evaluated after the request: UML also expects a reply to SET_PROTOCOL_FEATURES. */
	ack = msg->hdr.flags & VU_FLAG_NEED_REPLY &&
		s->protocol_features & VU_PROTOCOL_F_REPLY_ACK;
	if (ack)
		reply_u64(reply, ret < 0);
	return ack || !ret;
}

/* ---- life of a session ----------------------------------------------- */

void vrdmad_session_init(struct vrdmad_session *s, struct vrd_device *dev,
			 const struct vrdmad_socket_options *opt, const struct vrdmad_log *log,
			 struct vrdmad_ratelimit *rl)
{
	memset(s, 0, sizeof(*s));
	s->dev = dev;
	s->opt = opt;
	s->log = log;
	s->rl = rl;
	s->backend_fd = -1;
	s->num_queues = vrd_device_num_queues(dev);
	for (unsigned int i = 0; i < VU_MAX_QUEUES; i++)
		s->vrings[i].err_fd = -1;
}

void vrdmad_session_reset(struct vrdmad_session *s)
{
	vu_vrings_stop(s, true);
	vrd_device_reset(s->dev);
	vu_mem_clear(s);
	s->must_settle = true;
	for (unsigned int i = 0; i < s->num_queues; i++) {
		struct vrdmad_vring *v = &s->vrings[i];

		vrd_device_vq_set_call(s->dev, i, -1);
		if (v->err_fd >= 0)
			vu_close_fd(s, v->err_fd);
		v->err_fd = -1;
	}
	if (s->backend_fd >= 0)
		vu_close_fd(s, s->backend_fd);
	s->backend_fd = -1;
	s->protocol_features = 0;
	s->has_features = false;
	s->protocol_negotiated = false;
}

void vrdmad_session_signal_error(struct vrdmad_session *s)
{
	for (unsigned int i = 0; i < s->num_queues; i++) {
		int ret = s->vrings[i].err_fd >= 0 ?
			  vrd_device_signal(s->dev, s->vrings[i].err_fd) : 0;

		if (ret < 0)
			vrdmad_session_log(s, VRD_LOG_DEBUG, "error descriptor of queue %u: %s", i,
					   strerror(-ret));
	}
}

bool vrdmad_session_running(const struct vrdmad_session *s)
{
	return s->vrings[0].running;
}
