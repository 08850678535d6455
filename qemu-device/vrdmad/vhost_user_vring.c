// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtqueues of a vhost-user session.
 *
 * A ring runs while it has a kick descriptor and is enabled.  GET_VRING_BASE removes the
 * descriptor (QEMU: stop, pause, reset of the guest).  ENABLE 0 only suspends the ring (UML
 * sends nothing else when its driver is unbound).  Neither destroys objects: the driver's
 * INIT command, RESET_DEVICE and the end of the connection do.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vhost_user.h"

#define MAX_RING_SIZE	32768U

static int get_vring(struct vrdmad_session *s, uint64_t index, struct vrdmad_vring **v,
		     struct vrd_error *err)
{
	*v = NULL;
	if (index >= s->num_queues)
		return vu_fail(err, -EINVAL, "queue %llu: the device has %u (vectors= of this --socket sets their number)",
			       (unsigned long long)index, s->num_queues);
	*v = &s->vrings[index];
	return 0;
}

/* Finds a ring whose layout is about to change. */
static int get_stopped_vring(struct vrdmad_session *s, uint32_t index, struct vrdmad_vring **v,
			     struct vrd_error *err)
{
	int ret = get_vring(s, index, v, err);

	if (!ret && (*v)->running)
		return vu_fail(err, -EBUSY, "queue %u is running", index);
	return ret;
}

static int vring_start(struct vrdmad_session *s, unsigned int index, struct vrd_error *err)
{
	struct vrdmad_vring *v = &s->vrings[index];
	struct vrd_vq_config cfg = {
		.num = v->num,
		.desc = v->desc,
		.avail = v->avail,
		.used = v->used,
		.last_avail = v->last_avail,
	};
	int ret;

	if (!s->has_features)
		return vu_fail(err, -EINVAL, "queue %u is started before SET_FEATURES", index);
	if (!v->num || !v->has_addr)
		return vu_fail(err, -EINVAL, "queue %u is started without size or address", index);
	/* Another driver may have taken over. */
	s->must_settle = true;
	ret = vrd_device_vq_start(s->dev, index, &cfg, err);
	if (!ret)
		v->running = true;
	return ret;
}

static void vring_stop(struct vrdmad_session *s, unsigned int index)
{
	struct vrdmad_vring *v = &s->vrings[index];

	if (!v->running)
		return;
	vrd_device_vq_stop(s->dev, index, &v->last_avail);
	v->running = false;
}

/* Starts or stops the ring in the core, as the client has requested. */
static int vring_update(struct vrdmad_session *s, unsigned int index, struct vrd_error *err)
{
	struct vrdmad_vring *v = &s->vrings[index];
	bool run = v->kicked && v->enabled;

	if (run && !v->running)
		return vring_start(s, index, err);
	if (!run)
		vring_stop(s, index);
	return 0;
}

int vu_set_vring_num(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	uint32_t num = msg->payload.state.num;
	struct vrdmad_vring *v;
	int ret;

	ret = get_stopped_vring(s, msg->payload.state.index, &v, err);
	if (ret < 0)
		return ret;
	if (!num || num > MAX_RING_SIZE || num & (num - 1))
		return vu_fail(err, -EINVAL, "size %u is no power of two up to %u", num,
			       MAX_RING_SIZE);
	v->num = (uint16_t)num;
	/* The addresses have to be checked again for a ring of this size. */
	v->has_addr = false;
	return 0;
}

int vu_set_vring_base(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	uint32_t base = msg->payload.state.num;
	struct vrdmad_vring *v;
	int ret;

	ret = get_stopped_vring(s, msg->payload.state.index, &v, err);
	if (ret < 0)
		return ret;
	if (base > UINT16_MAX)
		return vu_fail(err, -EINVAL, "base %u exceeds 16 bits", base);
	v->last_avail = (uint16_t)base;
	return 0;
}

int vu_get_vring_base(struct vrdmad_session *s, struct vu_message *msg, struct vu_message *reply,
		      struct vrd_error *err)
{
	uint32_t index = msg->payload.state.index;
	struct vrdmad_vring *v;
	int ret;

	ret = get_vring(s, index, &v, err);
	if (ret < 0)
		return ret;
	vring_stop(s, index);
	vrd_device_vq_set_kick(s->dev, index, -1);
	v->kicked = false;
	reply->payload.state.index = index;
	reply->payload.state.num = v->last_avail;
	reply->hdr.size = sizeof(reply->payload.state);
	return 0;
}

static int vring_addr_error(struct vrd_error *err, const char *what, uint64_t addr)
{
	vu_fail(err, -EFAULT, "the %s at 0x%llx is in no memory region", what,
		(unsigned long long)addr);
	snprintf(err->hint, sizeof(err->hint),
		 "is all guest memory shared, and is there no vIOMMU?");
	return -EFAULT;
}

int vu_set_vring_addr(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	const struct vu_vring_addr *a = &msg->payload.addr;
	uint64_t desc, avail, used;
	struct vrdmad_vring *v;
	int ret;

	ret = get_stopped_vring(s, a->index, &v, err);
	if (ret < 0)
		return ret;
	if (a->flags)
		return vu_fail(err, -EINVAL, "flags 0x%x: logging was not offered", a->flags);
	if (!v->num)
		return vu_fail(err, -EINVAL, "queue %u has no size yet", a->index);
	/* Sizes from the virtio specification, including the event index words. */
	if (vu_translate(s, a->desc, 16ULL * v->num, &desc) < 0)
		return vring_addr_error(err, "descriptor table", a->desc);
	if (vu_translate(s, a->avail, 6 + 2ULL * v->num, &avail) < 0)
		return vring_addr_error(err, "available ring", a->avail);
	if (vu_translate(s, a->used, 6 + 8ULL * v->num, &used) < 0)
		return vring_addr_error(err, "used ring", a->used);
	if (desc & 15 || avail & 1 || used & 3)
		return vu_fail(err, -EINVAL, "queue %u is not aligned", a->index);
	/* A refused message leaves the earlier addresses as they were. */
	v->desc = desc;
	v->avail = avail;
	v->used = used;
	v->has_addr = true;
	return 0;
}

/*
 * Accepts descriptors that the core can wait for and signal without blocking a thread that
 * serves other guests, whatever the client does to the open file: eventfds, and as call or
 * error descriptors (@stream) also stream sockets of AF_UNIX, which UML uses.  Other sockets
 * may block in spite of MSG_DONTWAIT.  Pipes may block in spite of O_NONBLOCK, because the
 * client shares this flag and can clear it.
 */
static int check_notifier(int fd, bool stream, struct vrd_error *err)
{
	enum vu_fd_kind kind = vu_fd_kind(fd);

	if (kind == VU_FD_EVENTFD || (stream && kind == VU_FD_UNIX_STREAM))
		return 0;
	return vu_fail(err, -EINVAL, "the descriptor is not an eventfd%s",
		       stream ? " or a UNIX stream socket" : "");
}

/* The common part of KICK, CALL and ERR; *@fd is -1 if the message has none. */
static int get_vring_fd(struct vrdmad_session *s, struct vu_message *msg, unsigned int *index,
			struct vrdmad_vring **v, int *fd, struct vrd_error *err)
{
	uint64_t word = msg->payload.u64;
	bool nofd = word & VU_VRING_NOFD;
	int ret;

	if (word & ~(VU_VRING_INDEX_MASK | VU_VRING_NOFD))
		return vu_fail(err, -EINVAL, "unknown bits in 0x%llx", (unsigned long long)word);
	*index = word & VU_VRING_INDEX_MASK;
	ret = get_vring(s, *index, v, err);
	if (ret < 0)
		return ret;
	if (msg->num_fds != (nofd ? 0 : 1))
		return vu_fail(err, -EINVAL, "%u descriptors instead of %u", msg->num_fds,
			       nofd ? 0 : 1);
	*fd = nofd ? -1 : msg->fds[0];
	return nofd ? 0 : check_notifier(*fd, msg->hdr.request != VU_SET_VRING_KICK, err);
}

int vu_set_vring_kick(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	struct vrdmad_vring *v;
	unsigned int index;
	int fd, ret;

	ret = get_vring_fd(s, msg, &index, &v, &fd, err);
	if (ret < 0)
		return ret;
	if (fd < 0)
		return vu_fail(err, -EOPNOTSUPP, "queue %u without a kick descriptor (ioeventfd=off?) is not supported",
			       index);
	ret = vrd_device_vq_set_kick(s->dev, index, fd);
	if (ret < 0)
		return vu_fail(err, ret, "kick descriptor of queue %u: %s", index, strerror(-ret));
	v->kicked = true;
	ret = vring_update(s, index, err);
	if (ret < 0) {
		/* Otherwise, a later ENABLE would repeat the failed start. */
		v->kicked = false;
		vrd_device_vq_set_kick(s->dev, index, -1);
	}
	return ret;
}

int vu_set_vring_call(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	struct vrdmad_vring *v;
	unsigned int index;
	int fd, ret;

	ret = get_vring_fd(s, msg, &index, &v, &fd, err);
	if (ret < 0)
		return ret;
	ret = vrd_device_vq_set_call(s->dev, index, fd);
	if (ret < 0)
		return vu_fail(err, ret, "call descriptor of queue %u: %s", index, strerror(-ret));
	return 0;
}

int vu_set_vring_err(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	struct vrdmad_vring *v;
	unsigned int index;
	int fd, ret;

	ret = get_vring_fd(s, msg, &index, &v, &fd, err);
	if (ret < 0)
		return ret;
	if (v->err_fd >= 0)
		vu_close_fd(s, v->err_fd);
	v->err_fd = fd;
	if (fd >= 0)
		msg->fds[0] = -1;
	return 0;
}

int vu_set_vring_enable(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	uint32_t enable = msg->payload.state.num;
	struct vrdmad_vring *v;
	int ret;

	ret = get_vring(s, msg->payload.state.index, &v, err);
	if (ret < 0)
		return ret;
	if (enable > 1)
		return vu_fail(err, -EINVAL, "%u is neither 0 nor 1", enable);
	if (s->has_features && !s->protocol_negotiated)
		return vu_fail(err, -EINVAL, "protocol features were not negotiated");
	v->enabled = enable;
	ret = vring_update(s, msg->payload.state.index, err);
	if (ret < 0)
		v->enabled = false;
	return ret;
}

void vu_vrings_stop(struct vrdmad_session *s, bool forget)
{
	/* The control queue is first: stopping it suspends the pollers for all other queues. */
	for (unsigned int i = 0; i < s->num_queues; i++) {
		struct vrdmad_vring *v = &s->vrings[i];

		vring_stop(s, i);
		v->enabled = false;
		if (!forget)
			continue;
		vrd_device_vq_set_kick(s->dev, i, -1);
		v->kicked = false;
		v->has_addr = false;
		v->num = 0;
		v->last_avail = 0;
	}
}

bool vu_vrings_running(const struct vrdmad_session *s)
{
	for (unsigned int i = 0; i < s->num_queues; i++)
		if (s->vrings[i].running)
			return true;
	return false;
}
