// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Signals descriptors that another process shares, without blocking: see notify.h.
 *
 * write() to an eventfd sleeps while the counter is full, unless the open file has
 * O_NONBLOCK at that moment.  There is no flag for a single call (RWF_NOWAIT is for files
 * with a write_iter method, which an eventfd lacks), and a check with poll() before the
 * write races with the other process.  The kernel itself signals eventfds without sleeping:
 * eventfd_signal() saturates the counter.  An unprivileged process can cause this with
 * asynchronous I/O and IOCB_FLAG_RESFD: the completion of a request signals the eventfd that
 * the request names.  The request used here is a read of 0 bytes from an eventfd of the
 * notifier, which fails at once with EINVAL.  Its completion still signals the eventfd,
 * inside io_submit().
 *
 * Completions are also written to a ring that is mapped into the process.  They are not
 * read; they are dropped by setting the head of the ring to its tail.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "notify.h"
#include "objects.h"
#include "shm.h"

/* Maximum number of requests in flight: one for each thread that is signalling. */
#define MAX_IN_FLIGHT	256
/* If more attempts fail, the kernel has no memory for a request. */
#define MAX_ATTEMPTS	16

/* The kernel's completion ring; its address is the context ID. */
struct aio_ring {
	uint32_t id, nr;
	uint32_t head, tail;
	uint32_t magic;
};

#define AIO_RING_MAGIC	0xa10a10a1U

static struct aio_ring *ring_of(const struct vrd_notifier *n)
{
	return (struct aio_ring *)n->aio;
}

int vrd_notifier_init(struct vrd_notifier *n, bool private_fds, struct vrd_error *err)
{
	n->aio = 0;
	n->null_fd = -1;
	vrd_lock_init(&n->reap_lock, VRD_LOCK_LEAF);
	if (private_fds)
		return 0;
	n->null_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->null_fd < 0)
		return vrd_fail(err, -errno, "raise the limit of open files (ulimit -n)",
				"eventfd: %s", strerror(errno));
	if (!syscall(SYS_io_setup, MAX_IN_FLIGHT, &n->aio)) {
		if (ring_of(n)->magic == AIO_RING_MAGIC)
			return 0;
		syscall(SYS_io_destroy, n->aio);
		errno = ENOSYS;
	}
	vrd_fail(err, -errno, errno == EAGAIN ? "raise fs.aio-max-nr" :
		 "the kernel needs CONFIG_AIO, and a sandbox has to allow io_setup",
		 "io_setup, by which other processes' eventfds are signalled: %s",
		 strerror(errno));
	close(n->null_fd);
	n->aio = 0;
	n->null_fd = -1;
	return -ENOSYS;
}

void vrd_notifier_fini(struct vrd_notifier *n)
{
	if (n->aio)
		syscall(SYS_io_destroy, n->aio);
	if (n->null_fd >= 0)
		close(n->null_fd);
	n->aio = 0;
	n->null_fd = -1;
}

bool vrd_fd_is_unix_stream(int fd)
{
	int domain, type;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

/* Drops all completions.  The head has one writer at a time and only moves forward. */
static void reap_locked(const struct vrd_notifier *n)
{
	struct aio_ring *ring = ring_of(n);

	__atomic_store_n(&ring->head, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE),
			 __ATOMIC_RELEASE);
}

static int signal_eventfd(struct vrd_notifier *n, int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)n->null_fd,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	}, *list = &request;
	long ret;

	for (unsigned int i = 0; i < MAX_ATTEMPTS; i++) {
		ret = syscall(SYS_io_submit, n->aio, 1L, &list);
		if (ret == 1) {
			/* If the lock is taken, its holder drops this completion as well. */
			if (vrd_lock_try(&n->reap_lock)) {
				reap_locked(n);
				vrd_unlock(&n->reap_lock);
			}
			return 0;
		}
		if (errno != EAGAIN)
			return -errno;
		/* The ring has no room for a completion: drop the old ones. */
		vrd_lock(&n->reap_lock);
		reap_locked(n);
		vrd_unlock(&n->reap_lock);
	}
	return -EAGAIN;
}

int vrd_notify(struct vrd_notifier *n, int fd, bool is_socket)
{
	const uint64_t one = 1;
	ssize_t ret;

	if (!is_socket && n->aio)
		return signal_eventfd(n, fd);
	/* A full buffer is not an error: the receiver already has data to read. */
	if (is_socket)
		ret = send(fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		ret = write(fd, &one, sizeof(one));
	return ret < 0 && errno != EAGAIN ? -errno : 0;
}

int vrd_device_signal(struct vrd_device *dev, int fd)
{
	return vrd_notify(vrd_engine_notifier(dev->engine), fd, vrd_fd_is_unix_stream(fd));
}
