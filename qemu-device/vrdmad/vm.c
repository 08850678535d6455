// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The socket, device and client of one virtual machine: see vm.h.
 *
 * The device exists as long as the daemon.  When the client disconnects, the device is reset
 * and the guest's memory is removed, so that the next client (the same QEMU after a
 * reconnection, or another one) finds a new device.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm.h"

static void vm_disconnect(struct vrdmad_vm *vm)
{
	vrdmad_conn_close(&vm->conn);
	vrdmad_session_reset(&vm->session);
	vrdmad_session_log(&vm->session, VRD_LOG_INFO, "disconnected");
}

static void vm_conn_lost(struct vrdmad_conn *conn)
{
	vm_disconnect(vrdmad_container_of(conn, struct vrdmad_vm, conn));
}

static void vm_accept(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_vm *vm = vrdmad_container_of(src, struct vrdmad_vm, accept_source);
	struct ucred cred = { .pid = 0 };
	socklen_t len = sizeof(cred);
	int fd, ret;

	(void)events;
	fd = accept4(vm->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			vrdmad_session_log(&vm->session, VRD_LOG_ERROR, "accept: %s",
					   strerror(errno));
			/*
			 * The process has no descriptor left, so the client stays in the queue.
			 * Avoid a busy loop.
			 */
			usleep(10000);
		}
		return;
	}
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	/*
	 * The connection of a client that was restarted may arrive before the end of the old
	 * one.
	 */
	if (vrdmad_conn_is_open(&vm->conn) && vrdmad_conn_hung_up(&vm->conn))
		vm_disconnect(vm);
	if (vu_too_many_closes(&vm->session)) {
		vm->refused++;
		vrdmad_session_log(&vm->session, VRD_LOG_ERROR,
				   "refused a client: %u descriptors of earlier clients cannot be closed",
				   vrd_device_pending_closes(vm->dev));
		vu_close_fd(&vm->session, fd);
		return;
	}
	if (vrdmad_conn_is_open(&vm->conn)) {
		vm->refused++;
		vrdmad_session_log(&vm->session, VRD_LOG_WARN,
				   "refused a second client (process %d): give each virtual machine its own --socket",
				   (int)cred.pid);
		vu_close_fd(&vm->session, fd);
		return;
	}
	ret = vrdmad_conn_open(&vm->conn, vm->loop, &vm->session, fd, vm_conn_lost);
	if (ret < 0) {
		vrdmad_session_log(&vm->session, VRD_LOG_ERROR, "epoll: %s", strerror(-ret));
		vu_close_fd(&vm->session, fd);
		return;
	}
	vm->connections++;
	vrdmad_session_log(&vm->session, VRD_LOG_INFO, "process %d connected (user %d)",
			   (int)cred.pid, (int)cred.uid);
}

/* The device is broken, through a fault of the guest or of the host: reset it. */
static void vm_device_error(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_vm *vm = vrdmad_container_of(src, struct vrdmad_vm, error_source);

	(void)events;
	if (!vrd_device_is_broken(vm->dev))
		return;
	vm->device_errors++;
	vrdmad_session_log(&vm->session, VRD_LOG_ERROR,
			   "the device is lost: closing the connection, a new one finds it reset");
	vrdmad_session_signal_error(&vm->session);
	if (vrdmad_conn_is_open(&vm->conn))
		vm_disconnect(vm);
	else
		vrdmad_session_reset(&vm->session);
}

static void vm_settled(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_vm *vm = vrdmad_container_of(src, struct vrdmad_vm, settled_source);

	(void)events;
	vrdmad_conn_settled(&vm->conn);
}

int vrdmad_vm_listen(struct vrdmad_vm *vm, const struct vrdmad_socket_options *opt,
		     const struct vrdmad_listen_access *access, const struct vrdmad_log *log)
{
	vm->opt = opt;
	vm->log = log;
	vm->accept_source.fd = -1;
	vm->error_source.fd = -1;
	vm->settled_source.fd = -1;
	vm->conn.source.fd = -1;
	return vrdmad_listen(&vm->listener, opt->path, access, log);
}

int vrdmad_vm_open_host(struct vrdmad_vm *vm)
{
	return vrdmad_ibdev_open(&vm->opt->ibdev, vm->opt->name, &vm->ibdev, vm->log);
}

static int vm_create_device(struct vrdmad_vm *vm, struct vrd_engine *engine)
{
	const struct vrdmad_socket_options *opt = vm->opt;
	struct vrd_error err = { "", "" };
	struct vrd_device_config cfg = {
		.name = opt->name,
		.num_comp_vectors = (uint16_t)opt->vectors,
		.fabric = opt->fabric,
		.transports = opt->ibdev.local ? "memory,ibverbs" : NULL,
		.limits = opt->limits,
		.own_gids_only = opt->own_gids_only,
		.num_allowed_gids = opt->num_gids,
		.ibdev = opt->ibdev.name[0] ? opt->ibdev.name : NULL,
		.ibdev_port = opt->ibdev.port,
		.ibdev_opened = vm->ibdev,
		.num_gid_indexes = opt->ibdev.num_gid_indexes,
		.num_cm_ports = opt->ibdev.num_cm_ports,
	};
	int ret;

	memcpy(cfg.mac, opt->mac, sizeof(cfg.mac));
	memcpy(cfg.allowed_gids, opt->gids, sizeof(cfg.allowed_gids));
	memcpy(cfg.gid_indexes, opt->ibdev.gid_indexes, sizeof(cfg.gid_indexes));
	memcpy(cfg.cm_ports, opt->ibdev.cm_ports, sizeof(cfg.cm_ports));
	ret = vrd_device_create(engine, &cfg, &vm->dev, &err);
	vrd_ibdev_close(vm->ibdev);
	vm->ibdev = NULL;
	if (ret < 0)
		vrdmad_log(vm->log, VRD_LOG_ERROR, "%s: making the device: %s%s%s", opt->name,
			   err.msg[0] ? err.msg : strerror(-ret), err.hint[0] ? ": " : "",
			   err.hint);
	return ret;
}

int vrdmad_vm_start(struct vrdmad_vm *vm, struct vrdmad_loop *loop, struct vrd_engine *engine)
{
	int ret;

	vm->loop = loop;
	ret = vm_create_device(vm, engine);
	if (ret < 0)
		return ret;
	vrdmad_session_init(&vm->session, vm->dev, vm->opt, vm->log, &vm->rl);
	vm->accept_source.ready = vm_accept;
	vm->error_source.ready = vm_device_error;
	vm->settled_source.ready = vm_settled;
	ret = vrdmad_loop_add(loop, &vm->accept_source, vm->listener.fd, EPOLLIN);
	/* Edge-triggered, because the descriptor belongs to the core, which drains it. */
	if (!ret && vrd_device_error_fd(vm->dev) >= 0)
		ret = vrdmad_loop_add(loop, &vm->error_source, vrd_device_error_fd(vm->dev),
				      EPOLLIN | EPOLLET);
	if (!ret)
		ret = vrdmad_loop_add(loop, &vm->settled_source, vrd_device_settled_fd(vm->dev),
				      EPOLLIN | EPOLLET);
	if (ret < 0)
		vrdmad_log(vm->log, VRD_LOG_ERROR, "%s: epoll: %s", vm->opt->name,
			   strerror(-ret));
	return ret;
}

void vrdmad_vm_close(struct vrdmad_vm *vm)
{
	if (vm->dev) {
		vrdmad_loop_del(vm->loop, &vm->accept_source);
		vrdmad_loop_del(vm->loop, &vm->error_source);
		vrdmad_loop_del(vm->loop, &vm->settled_source);
		vrdmad_conn_close(&vm->conn);
		vrdmad_session_reset(&vm->session);
		vrd_device_destroy(vm->dev);
		vm->dev = NULL;
	}
	vrd_ibdev_close(vm->ibdev);
	vm->ibdev = NULL;
	vrdmad_unlisten(&vm->listener);
}

void vrdmad_vm_check_deadline(struct vrdmad_vm *vm, uint64_t now_ms)
{
	vrdmad_conn_check_deadline(&vm->conn, now_ms);
}
