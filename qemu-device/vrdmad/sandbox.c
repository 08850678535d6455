// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The system call filter.  If a guest, or a QEMU process controlled by one, makes this
 * process execute its code, that code cannot open files, create sockets or run programs.
 * The filter is loaded before the first thread exists, so that it applies to all of them.
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

/* Grouped by use.  Other calls fail with ENOSYS. */
static const char *const allowed[] = {
	/* memory (guest memory arrives as descriptors) */
	"brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mincore",
	/* replacement of guest memory that was lost (core/mem_map.c) */
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
	/* sockets that exist already */
	"accept", "accept4", "recvmsg", "recvfrom", "sendmsg", "sendto", "getsockopt",
	"shutdown",
	/* classification of descriptors (client_fd.c), and removal of our sockets */
	"readlink", "readlinkat", "lstat", "unlink", "unlinkat",
	/* signals and the C library */
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
	"getrandom", "sysinfo", "uname", "getuid", "geteuid", "getgid", "getegid",
};

/* The daemon never uses these calls: an attempt ends the process and is audited. */
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
			continue;	/* unknown to this libseccomp: stays refused */
		ret = seccomp_rule_add(ctx, action, nr, 0);
		if (ret < 0 && ret != -EDOM && ret != -EACCES)
			return ret;
	}
	return 0;
}

/*
 * The MAD channel creates TCP sockets while the daemon runs.  Other kinds of sockets stay
 * refused.  A firewall can restrict the addresses.
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
	/* The C library uses TCGETS to find out whether a stream is a terminal. */
	if (!ret)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, TCGETS));
	/*
	 * Verbs, on descriptors of uverbs devices; the filter allows no more of them to be
	 * opened.
	 */
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
	vrdmad_log(log, VRD_LOG_INFO, "no system call filter: this build has a sanitizer, which needs more system calls");
	return 0;
#endif
	ret = load_filter(rdma, channel);
	if (ret < 0)
		vrdmad_log(log, VRD_LOG_ERROR, "the system call filter: %s: use --no-sandbox if this system has none",
			   strerror(-ret));
	return ret;
}
