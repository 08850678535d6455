/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine's place in the daemon: a socket, a device, and the client
 * that is connected, if any.  Main thread only.
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
	struct vrd_ibdev *ibdev;		/* the host's, until the device has it */
	struct vrd_device *dev;
	struct vrdmad_listener listener;
	struct vrdmad_source accept_source;
	struct vrdmad_source error_source;	/* the device is lost */
	struct vrdmad_session session;
	struct vrdmad_conn conn;
	struct vrdmad_ratelimit rl;
	/* Statistics. */
	uint64_t connections;
	uint64_t refused;
	uint64_t device_errors;
};

/* Makes the socket.  0, or a negative errno after one message. */
int vrdmad_vm_listen(struct vrdmad_vm *vm, const struct vrdmad_socket_options *opt,
		     const struct vrdmad_listen_access *access, const struct vrdmad_log *log);
/* Opens what the sandbox will forbid to open.  As above. */
int vrdmad_vm_open_host(struct vrdmad_vm *vm);
/* Makes the device and begins to accept clients.  As above. */
int vrdmad_vm_start(struct vrdmad_vm *vm, struct vrdmad_loop *loop, struct vrd_engine *engine);
/* Undoes all, as far as it was done. */
void vrdmad_vm_close(struct vrdmad_vm *vm);

/* Gives up on half messages. */
void vrdmad_vm_check_deadline(struct vrdmad_vm *vm, uint64_t now_ms);

#endif /* VRDMAD_VM_H */
