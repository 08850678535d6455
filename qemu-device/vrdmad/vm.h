/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine: a socket, a device, and the client that is connected, if any.  Main
 * thread only.
 */
#ifndef VRDMAD_VM_H
#define VRDMAD_VM_H

#include "conn.h"
#include "listen.h"
#include "loop.h"
#include "options.h"
#include "vhost_user.h"

struct vrdmad_vm {
	const struct vrdmad_socket_options *opt;
	const struct vrdmad_log *log;
	struct vrdmad_loop *loop;
	struct vrd_ibdev *ibdev;		/* the host's device, until @dev owns it */
	struct vrd_device *dev;
	struct vrdmad_listener listener;
	struct vrdmad_source accept_source;
	struct vrdmad_source error_source;	/* the device is lost */
	struct vrdmad_source settled_source;	/* vrd_device_settled_fd() */
	struct vrdmad_session session;
	struct vrdmad_conn conn;
	struct vrdmad_ratelimit rl;
	/* Statistics. */
	uint64_t connections;
	uint64_t refused;
	uint64_t device_errors;
};

/* Creates the socket.  0, or a negative errno after one message. */
int vrdmad_vm_listen(struct vrdmad_vm *vm, const struct vrdmad_socket_options *opt,
		     const struct vrdmad_listen_access *access, const struct vrdmad_log *log);
/* Opens the host's device before the sandbox forbids it.  Returns the same. */
int vrdmad_vm_open_host(struct vrdmad_vm *vm);
/* Creates the device and starts to accept clients.  Returns the same. */
int vrdmad_vm_start(struct vrdmad_vm *vm, struct vrdmad_loop *loop, struct vrd_engine *engine);
/* Undoes all of these steps that were done. */
void vrdmad_vm_close(struct vrdmad_vm *vm);

/* Checks the time limit of an incomplete message. */
void vrdmad_vm_check_deadline(struct vrdmad_vm *vm, uint64_t now_ms);

#endif /* VRDMAD_VM_H */
