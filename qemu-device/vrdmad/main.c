// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdmad: provides virtual machines with virtio-rdma devices over vhost-user sockets.
 *
 * A thin front end of the device core (../core).  The daemon owns the sockets and the main
 * loop; the core owns the threads that move data.  The main thread handles all sockets and
 * never waits for a client.
 *
 * Order at start: options, sockets, MAD key and socket (all with the privileges of the
 * caller), drop of privileges, the host's RDMA devices, system call filter, core, READY.
 * The exit status is 1 after an error and 2 after wrong usage.
 */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loop.h"
#include "mad.h"
#include "options.h"
#include "service.h"
#include "stats.h"
#include "version.h"
#include "vm.h"

struct vrdmad {
	struct vrdmad_options opts;
	struct vrdmad_log log;
	struct vrdmad_loop loop;
	struct vrdmad_notify notify;
	struct vrd_engine *engine;
	struct vrd_mad_setup *mad_setup;	/* until the engine owns it */
	struct vrdmad_vm *vms;		/* one per --socket */
	unsigned int num_vms;		/* of them with a listening socket */
	struct vrdmad_listener stats_listener;
	struct vrdmad_stats stats;
	struct vrdmad_source signal_source;
	int signal_fd;
};

static void on_signal(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad *d = vrdmad_container_of(src, struct vrdmad, signal_source);
	struct signalfd_siginfo info;

	(void)events;
	if (read(src->fd, &info, sizeof(info)) != sizeof(info))
		return;
	vrdmad_log(&d->log, VRD_LOG_INFO, "%s: ending", strsignal((int)info.ssi_signo));
	d->loop.stop = true;
}

static void on_timeout(void *opaque)
{
	struct vrdmad *d = opaque;
	uint64_t now = vrdmad_now_ms();

	for (unsigned int i = 0; i < d->num_vms; i++)
		vrdmad_vm_check_deadline(&d->vms[i], now);
}

static void log_line(void *opaque, const char *text)
{
	vrdmad_log(opaque, VRD_LOG_INFO, "    %s", text);
}

static void print_line(void *opaque, const char *text)
{
	const char **end = opaque;

	printf("%s%s", *end, text);
	*end = " \\\n";
}

static int print_qemu_options(const struct vrdmad_options *opts)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++) {
		const char *end = "";

		printf("%s# %s\n", i ? "\n" : "", opts->sockets[i].name);
		vrdmad_qemu_options(&opts->sockets[i], print_line, &end);
		putchar('\n');
	}
	return fflush(stdout) ? VRDMAD_EXIT_FAILURE : 0;
}

static void announce(struct vrdmad *d)
{
	for (unsigned int i = 0; i < d->num_vms; i++) {
		const struct vrdmad_socket_options *opt = d->vms[i].opt;
		char mac[18];

		vrdmad_format_mac(opt->mac, mac);
		vrdmad_log(&d->log, VRD_LOG_INFO, "%s: listening at %s (fabric %s, %u vectors, MAC %s%s); QEMU options:",
			   opt->name, opt->path, opt->fabric, opt->vectors, mac,
			   opt->mac_given ? "" : " made from the path");
		vrdmad_qemu_options(opt, log_line, &d->log);
	}
}

static int find_group(struct vrdmad *d, gid_t *gid)
{
	const struct group *gr;

	*gid = (gid_t)-1;
	if (!d->opts.socket_group)
		return 0;
	gr = getgrnam(d->opts.socket_group);
	if (!gr) {
		vrdmad_log(&d->log, VRD_LOG_ERROR, "--socket-group %s: there is no such group: add it, or name another",
			   d->opts.socket_group);
		return -ENOENT;
	}
	*gid = gr->gr_gid;
	return 0;
}

static int make_sockets(struct vrdmad *d)
{
	struct vrdmad_listen_access access = { .mode = d->opts.socket_mode };
	int ret;

	ret = find_group(d, &access.group);
	if (ret < 0)
		return ret;
	d->vms = calloc(d->opts.num_sockets, sizeof(*d->vms));
	if (!d->vms) {
		vrdmad_log(&d->log, VRD_LOG_ERROR, "out of memory");
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < d->opts.num_sockets; i++) {
		ret = vrdmad_vm_listen(&d->vms[i], &d->opts.sockets[i], &access, &d->log);
		if (ret < 0)
			return ret;
		d->num_vms++;
	}
	if (d->opts.stats_socket)
		ret = vrdmad_listen(&d->stats_listener, d->opts.stats_socket, &access, &d->log);
	return ret;
}

/*
 * Blocks signals before any thread exists, so that no thread of the core is interrupted.
 * The main loop reads them from a descriptor.
 */
static int catch_signals(struct vrdmad *d)
{
	sigset_t set;
	int ret;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return -errno;
	d->signal_source.ready = on_signal;
	ret = vrdmad_loop_add(&d->loop, &d->signal_source, d->signal_fd, EPOLLIN);
	return ret;
}

/*
 * SIGBUS on guest memory: its owner has shortened the file (possible with unsealed=on), or
 * the host has run out of huge pages.  The core maps zeroes in its place and marks this one
 * device as broken.  A global variable, because a signal handler has no argument for it.
 */
static struct vrd_engine *_Atomic sigbus_engine;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	struct vrd_engine *engine = sigbus_engine;
	int saved = errno;

	(void)context;
	/* The fault is not in guest memory: repeat the access, which ends the process. */
	if (!engine || info->si_code <= 0 || !vrd_engine_sigbus(engine, info->si_addr))
		signal(sig, SIG_DFL);
	errno = saved;
}

static int catch_sigbus(struct vrd_engine *engine)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigbus_engine = engine;
	return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}

static int start_engine(struct vrdmad *d)
{
	struct vrd_error err = { "", "" };
	struct vrd_engine_config cfg = {
		.pollers = d->opts.pollers,
		.poller_cpus = d->opts.num_poller_cpus ? d->opts.poller_cpus : NULL,
		.poll_us = d->opts.poll_us,
		.poll_fixed = d->opts.poll_fixed,
		.log = vrdmad_log_core,
		.log_opaque = &d->log,
		.log_level = d->log.level,
	};
	int ret = vrd_engine_create(&cfg, &d->engine, &err);

	if (ret < 0) {
		d->engine = NULL;
		vrdmad_log(&d->log, VRD_LOG_ERROR, "starting the pollers: %s%s%s",
			   err.msg[0] ? err.msg : strerror(-ret), err.hint[0] ? ": " : "",
			   err.hint);
		return ret;
	}
	ret = catch_sigbus(d->engine);
	if (ret < 0)
		vrdmad_log(&d->log, VRD_LOG_ERROR, "SIGBUS: %s", strerror(-ret));
	return ret;
}

static bool uses_host(const struct vrdmad *d)
{
	for (unsigned int i = 0; i < d->num_vms; i++)
		if (d->vms[i].opt->ibdev.name[0])
			return true;
	return false;
}

static int start(struct vrdmad *d)
{
	int ret;

	vrdmad_raise_file_limit(&d->log);
	vrdmad_notify_open(&d->notify);
	ret = vrdmad_loop_open(&d->loop);
	if (!ret)
		ret = catch_signals(d);
	if (ret < 0) {
		vrdmad_log(&d->log, VRD_LOG_ERROR, "the main loop: %s", strerror(-ret));
		return ret;
	}
	d->loop.timeout = on_timeout;
	d->loop.timeout_opaque = d;

	ret = make_sockets(d);
	if (uses_host(d))
		vrdmad_raise_memlock(&d->log);
	if (!ret)
		ret = vrdmad_mad_open(&d->opts, &d->mad_setup, &d->log);
	if (!ret)
		ret = vrdmad_drop_privileges(d->opts.user, &d->log);
	/*
	 * Open the devices as the user that will use them, so that missing permissions are
	 * reported at start.
	 */
	for (unsigned int i = 0; !ret && i < d->num_vms; i++)
		ret = vrdmad_vm_open_host(&d->vms[i]);
	if (!ret)
		ret = vrdmad_mad_open_cm(&d->opts, d->mad_setup, &d->log);
	if (!ret && d->opts.sandbox)
		ret = vrdmad_sandbox(uses_host(d), d->opts.mad_key, &d->log);
	if (!ret)
		ret = start_engine(d);
	if (!ret)
		ret = vrdmad_mad_start(d->engine, &d->mad_setup, &d->log);
	for (unsigned int i = 0; !ret && i < d->num_vms; i++)
		ret = vrdmad_vm_start(&d->vms[i], &d->loop, d->engine);
	if (!ret && d->stats_listener.fd >= 0) {
		ret = vrdmad_stats_start(&d->stats, &d->stats_listener, &d->loop, d->engine,
					 d->vms, d->num_vms, &d->log);
		if (ret < 0)
			vrdmad_log(&d->log, VRD_LOG_ERROR, "statistics: %s", strerror(-ret));
	}
	return ret;
}

static void stop(struct vrdmad *d)
{
	vrdmad_stats_stop(&d->stats);
	for (unsigned int i = 0; i < d->num_vms; i++)
		vrdmad_vm_close(&d->vms[i]);
	sigbus_engine = NULL;
	if (d->engine)
		vrd_engine_destroy(d->engine);
	vrd_mad_setup_free(d->mad_setup);
	vrdmad_unlisten(&d->stats_listener);
	vrdmad_loop_del(&d->loop, &d->signal_source);
	if (d->signal_fd >= 0)
		close(d->signal_fd);
	vrdmad_loop_close(&d->loop);
	vrdmad_notify_close(&d->notify);
	free(d->vms);
}

static int run(struct vrdmad *d)
{
	int ret;

	d->signal_fd = -1;
	d->signal_source.fd = -1;
	d->stats_listener.fd = -1;
	d->notify.fd = -1;
	d->loop.epfd = -1;
	ret = start(d);
	if (!ret) {
		announce(d);
		vrdmad_notify_send(&d->notify, "READY=1");
		ret = vrdmad_loop_run(&d->loop);
		if (ret < 0)
			vrdmad_log(&d->log, VRD_LOG_ERROR, "the main loop: %s", strerror(-ret));
		vrdmad_notify_send(&d->notify, "STOPPING=1");
	}
	stop(d);
	return ret < 0 ? VRDMAD_EXIT_FAILURE : 0;
}

int main(int argc, char **argv)
{
	struct vrdmad d = { .engine = NULL };
	int status = 0;

	vrdmad_log_init(&d.log, VRD_LOG_INFO);
	if (!vrdmad_options_parse(&d.opts, argc, argv, &d.log)) {
		vrdmad_options_free(&d.opts);
		return VRDMAD_EXIT_USAGE;
	}
	switch (d.opts.mode) {
	case VRDMAD_MODE_HELP:
		vrdmad_options_help();
		break;
	case VRDMAD_MODE_VERSION:
		puts("vrdmad " VRDMAD_VERSION);
		break;
	case VRDMAD_MODE_PRINT_QEMU:
		status = print_qemu_options(&d.opts);
		break;
	case VRDMAD_MODE_STATS:
		status = vrdmad_stats_query(d.opts.stats_query, d.opts.json, &d.log);
		break;
	case VRDMAD_MODE_RUN:
		status = run(&d);
		break;
	}
	vrdmad_options_free(&d.opts);
	return status;
}
