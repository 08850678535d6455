// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The system call filter: a guest, or a QEMU taken over by one, that manages
 * to make this process run code of its choice finds no files to open, no
 * sockets to make and no programs to run.  Loaded before the first thread
 * exists, so that all of them have it.
 */
#include <errno.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "service.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* By what they are needed for.  Others fail with ENOSYS. */
static const char *const allowed[] = {
	/* memory; guests' memory arrives as descriptors */
	"brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mincore",
	/* what takes the place of memory that was lost (core/mem_map.c) */
	"memfd_create", "ftruncate",
	/* threads and their synchronisation */
	"clone", "clone3", "exit", "exit_group", "futex", "set_robust_list", "rseq",
	"set_tid_address", "gettid", "getpid", "tgkill", "membarrier", "prctl",
	"sched_yield", "sched_getaffinity", "sched_setaffinity", "getcpu", "getrusage",
	/* time */
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday",
	"time", "timerfd_create", "timerfd_settime", "timerfd_gettime",
	/* descriptors */
	"read", "write", "readv", "writev", "close", "dup", "dup2", "dup3", "fcntl",
	"fstat", "fstatfs", "newfstatat", "lseek", "eventfd2", "poll", "ppoll", "epoll_create1",
	"epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "signalfd4",
	/* signalling eventfds of clients (core/notify.c) */
	"io_setup", "io_submit", "io_destroy",
	/* the sockets that exist */
	"accept", "accept4", "recvmsg", "recvfrom", "sendmsg", "sendto", "getsockopt",
	"shutdown",
	/* names of descriptors (is it an eventfd?), and removal of our sockets */
	"readlink", "readlinkat", "lstat", "unlink", "unlinkat",
	/* signals, and what the C library asks for */
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
	"getrandom", "sysinfo", "uname", "getuid", "geteuid", "getgid", "getegid",
};

/* Nothing honest asks for these: an attempt ends the process and is audited. */
static const char *const deadly[] = {
	"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "bpf",
	"init_module", "finit_module", "kexec_load", "mount", "setns", "unshare",
};

static int add_rules(scmp_filter_ctx ctx, uint32_t action, const char *const *names, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		int nr = seccomp_syscall_resolve_name(names[i]);
		int ret;

		if (nr == __NR_SCMP_ERROR)
			continue;	/* unknown to this libseccomp: it stays refused */
		ret = seccomp_rule_add(ctx, action, nr, 0);
		if (ret < 0 && ret != -EDOM && ret != -EACCES)
			return ret;
	}
	return 0;
}

/*
 * The MAD channel: TCP sockets are made while the daemon runs, others are not.
 * Where they may connect to is the firewall's business.
 */
static int add_channel_rules(scmp_filter_ctx ctx)
{
	static const char *const calls[] = { "bind", "connect", "setsockopt", "getsockname" };
	static const int families[] = { AF_INET, AF_INET6 };
	const unsigned int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	int ret = add_rules(ctx, SCMP_ACT_ALLOW, calls, sizeof(calls) / sizeof(calls[0]));

	for (unsigned int i = 0; !ret && i < 2; i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]),
				       SCMP_A1(SCMP_CMP_EQ, type), SCMP_A2(SCMP_CMP_EQ, 0));
	return ret;
}

static int load_filter(bool rdma, bool channel)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int ret;

	if (!ctx)
		return -ENOMEM;
	ret = add_rules(ctx, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
	if (!ret)
		ret = add_rules(ctx, SCMP_ACT_KILL_PROCESS, deadly,
				sizeof(deadly) / sizeof(deadly[0]));
	/* The C library asks whether a stream is a terminal. */
	if (!ret)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, TCGETS));
	/* Verbs: on descriptors of uverbs devices, of which no more can be opened. */
	if (!ret && rdma)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, RDMA_VERBS_IOCTL));
	if (!ret && channel)
		ret = add_channel_rules(ctx);
	if (!ret)
		ret = seccomp_load(ctx);
	seccomp_release(ctx);
	return ret;
}

int vrdmad_sandbox(bool rdma, bool channel, const struct vrdmad_log *log)
{
	int ret;

#ifdef SANITIZED
	(void)rdma;
	(void)channel;
	vrdmad_log(log, VRD_LOG_INFO, "no system call filter: this build has a sanitizer, which needs more");
	return 0;
#endif
	ret = load_filter(rdma, channel);
	if (ret < 0)
		vrdmad_log(log, VRD_LOG_ERROR, "the system call filter: %s: use --no-sandbox if this system has none",
			   strerror(-ret));
	return ret;
}
