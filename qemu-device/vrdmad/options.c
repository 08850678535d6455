// SPDX-License-Identifier: GPL-2.0-or-later
/* The command line.  Called at start by main.c, when the process has one thread. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mad.h"
#include "options.h"

enum {
	OPT_SOCKET = 256,
	OPT_POLLERS,
	OPT_POLL_US,
	OPT_POLL_FIXED,
	OPT_POLLER_CPUS,
	OPT_IBDEV,
	OPT_PORT,
	OPT_GID_INDEX,
	OPT_MAD_KEY,
	OPT_MAD_PORT,
	OPT_MAD_LISTEN,
	OPT_USER,
	OPT_SOCKET_GROUP,
	OPT_SOCKET_MODE,
	OPT_NO_SANDBOX,
	OPT_ALLOW_UNSEALED,
	OPT_STATS_SOCKET,
	OPT_STATS,
	OPT_JSON,
	OPT_PRINT_QEMU,
	OPT_LOG_LEVEL,
};

static const struct option long_options[] = {
	{ "socket",             required_argument, NULL, OPT_SOCKET },
	{ "pollers",            required_argument, NULL, OPT_POLLERS },
	{ "poll-us",            required_argument, NULL, OPT_POLL_US },
	{ "poll-fixed", no_argument, NULL, OPT_POLL_FIXED },
	{ "poller-cpus",        required_argument, NULL, OPT_POLLER_CPUS },
	{ "ibdev",              required_argument, NULL, OPT_IBDEV },
	{ "port",               required_argument, NULL, OPT_PORT },
	{ "gid-index",          required_argument, NULL, OPT_GID_INDEX },
	{ "mad-key",            required_argument, NULL, OPT_MAD_KEY },
	{ "mad-port",           required_argument, NULL, OPT_MAD_PORT },
	{ "mad-listen",         required_argument, NULL, OPT_MAD_LISTEN },
	{ "user",               required_argument, NULL, OPT_USER },
	{ "socket-group",       required_argument, NULL, OPT_SOCKET_GROUP },
	{ "socket-mode",        required_argument, NULL, OPT_SOCKET_MODE },
	{ "no-sandbox",         no_argument,       NULL, OPT_NO_SANDBOX },
	{ "allow-unsealed",     no_argument,       NULL, OPT_ALLOW_UNSEALED },
	{ "stats-socket",       required_argument, NULL, OPT_STATS_SOCKET },
	{ "stats",              required_argument, NULL, OPT_STATS },
	{ "json",               no_argument,       NULL, OPT_JSON },
	{ "print-qemu-options", no_argument,       NULL, OPT_PRINT_QEMU },
	{ "log-level",          required_argument, NULL, OPT_LOG_LEVEL },
	{ "help",               no_argument,       NULL, 'h' },
	{ "version",            no_argument,       NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

void vrdmad_options_help(void)
{
	puts("Usage: vrdmad --socket PATH[,key=value...] [--socket ...] [option...]\n"
	     "       vrdmad --stats PATH [--json]\n"
	     "\n"
	     "Provides virtual machines with virtio-rdma devices over vhost-user sockets.\n"
	     "\n"
	     "  --socket PATH[,key=value...]  listen at PATH for one virtual machine; repeatable\n"
	     "      mac=ADDRESS       MAC of the guest's Ethernet device to pair with\n"
	     "                        (default: computed from PATH and printed at start)\n"
	     "      name=NAME         name in messages and statistics (default: from PATH)\n"
	     "      fabric=NAME       devices of the same fabric reach each other\n"
	     "                        (default: default)\n"
	     "      vectors=N         completion vectors, best one per vCPU (default: 8)\n"
	     "      allow-gid=IP      an address that the guest may use, or none; repeatable\n"
	     "                        (default: any that no other guest uses)\n"
	     "      unsealed=on       accept memory files that may shrink (UML)\n"
	     "      ibdev=NAME        use this RDMA device of the host, so that peers are those\n"
	     "                        of its network; port=N and gid-index=N (repeatable)\n"
	     "                        choose its port and addresses that the guest may use;\n"
	     "                        cm-port=N (repeatable): peers outside guests may connect\n"
	     "                        to the guest at this port of rdma_cm;\n"
	     "                        local=on: use memory to reach guests of the same fabric\n"
	     "      max-qp=N, max-cq=N, max-mr=N, max-mr-bytes=SIZE, ...  limits, see vrdmad(8)\n"
	     "  --allow-unsealed      unsealed=on for every socket\n"
	     "  --ibdev NAME, --port N, --gid-index N  the same for every socket without ibdev=\n"
	     "  --mad-key FILE        key that daemons on other hosts also have: rdma_cm then\n"
	     "                        works between guests of different hosts\n"
	     "  --mad-port N          TCP port of the channel between daemons (default: 4791)\n"
	     "  --mad-listen IP[,IP]  listen at these addresses only\n"
	     "  --pollers N           threads that move data (default: 1)\n"
	     "  --poller-cpus LIST    pin each poller to one of these CPUs, as in 2,3 or 4-7\n"
	     "  --poll-us N           microseconds a poller spins before it sleeps (default: 50)\n"
	     "  --poll-fixed          always spin that long, even if other threads need the CPU\n"
	     "  --user NAME           change to this user after the sockets are created\n"
	     "  --socket-group NAME   group of the sockets\n"
	     "  --socket-mode OCTAL   mode of the sockets, as in 0660\n"
	     "  --no-sandbox          do not use a system call filter\n"
	     "  --stats-socket PATH   provide statistics at PATH\n"
	     "  --stats PATH          print the statistics of the daemon with this --stats-socket\n"
	     "  --json                print them as JSON\n"
	     "  --print-qemu-options  print the QEMU options that fit each socket, and exit\n"
	     "  --log-level LEVEL     error, warning, info (default) or debug\n"
	     "  --help, --version\n");
}

static bool bad_option(const struct vrdmad_log *log, const char *option, const char *value,
		       const char *want)
{
	vrdmad_log(log, VRD_LOG_ERROR, "%s %s: give %s", option, value, want);
	return false;
}

static bool parse_log_level(const char *text, enum vrd_log_level *level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	for (unsigned int i = 0; i < 4; i++) {
		if (!strcmp(text, names[i])) {
			*level = (enum vrd_log_level)i;
			return true;
		}
	}
	return false;
}

static bool parse_mode(const char *text, int *mode)
{
	char *end;
	unsigned long n = strtoul(text, &end, 8);

	if (text[0] < '0' || text[0] > '7' || *end || n > 0777)
		return false;
	*mode = (int)n;
	return true;
}

static bool parse_ibdev(struct vrdmad_options *opts, const char *key, const struct vrdmad_log *log)
{
	const char *want = vrdmad_ibdev_parse(&opts->ibdev, key, optarg);
	char option[16];

	snprintf(option, sizeof(option), "--%s", key);
	return !want || bad_option(log, option, optarg, want);
}

static bool add_socket(struct vrdmad_options *opts, const char *arg, const struct vrdmad_log *log)
{
	struct vrdmad_socket_options *grown;

	if (opts->num_sockets == VRDMAD_MAX_SOCKETS) {
		vrdmad_log(log, VRD_LOG_ERROR, "--socket: at most %d in one process: start another",
			   VRDMAD_MAX_SOCKETS);
		return false;
	}
	grown = reallocarray(opts->sockets, opts->num_sockets + 1, sizeof(*grown));
	if (!grown) {
		vrdmad_log(log, VRD_LOG_ERROR, "out of memory");
		return false;
	}
	opts->sockets = grown;
	/* Count the socket even if parsing fails, so that its path is freed. */
	return vrdmad_socket_options_parse(&opts->sockets[opts->num_sockets++], arg, log);
}

static bool parse_one(struct vrdmad_options *opts, int opt, bool *allow_unsealed,
		      bool *pollers_given, struct vrdmad_log *log)
{
	uint64_t n;

	switch (opt) {
	case OPT_SOCKET:
		return add_socket(opts, optarg, log);
	case OPT_POLLERS:
		if (!vrdmad_parse_u64(optarg, 1, VRDMAD_MAX_POLLERS, &n))
			return bad_option(log, "--pollers", optarg, "a number from 1 to 64");
		opts->pollers = (unsigned int)n;
		*pollers_given = true;
		return true;
	case OPT_POLL_US:
		if (!vrdmad_parse_u64(optarg, 0, 1000000, &n))
			return bad_option(log, "--poll-us", optarg,
					  "microseconds, 0 (never spin) to 1000000");
		opts->poll_us = (unsigned int)n;
		return true;
	case OPT_POLL_FIXED:
		opts->poll_fixed = true;
		return true;
	case OPT_POLLER_CPUS:
		return vrdmad_parse_cpus(optarg, opts->poller_cpus, VRDMAD_MAX_POLLERS,
					 &opts->num_poller_cpus) ||
			bad_option(log, "--poller-cpus", optarg, "CPU numbers, as in 2,3 or 4-7");
	case OPT_IBDEV:
		return parse_ibdev(opts, "ibdev", log);
	case OPT_PORT:
		return parse_ibdev(opts, "port", log);
	case OPT_GID_INDEX:
		return parse_ibdev(opts, "gid-index", log);
	case OPT_USER:
		opts->user = optarg;
		return true;
	case OPT_SOCKET_GROUP:
		opts->socket_group = optarg;
		return true;
	case OPT_SOCKET_MODE:
		return parse_mode(optarg, &opts->socket_mode) ||
			bad_option(log, "--socket-mode", optarg, "an octal mode, as in 0660");
	case OPT_MAD_KEY:
		opts->mad_key = optarg;
		return true;
	case OPT_MAD_PORT:
		if (!vrdmad_parse_u64(optarg, 1, UINT16_MAX, &n))
			return bad_option(log, "--mad-port", optarg, "a TCP port, 1 to 65535");
		opts->mad_port = (uint16_t)n;
		return true;
	case OPT_MAD_LISTEN:
		opts->mad_listen = optarg;
		return true;
	case OPT_NO_SANDBOX:
		opts->sandbox = false;
		return true;
	case OPT_ALLOW_UNSEALED:
		*allow_unsealed = true;
		return true;
	case OPT_STATS_SOCKET:
		opts->stats_socket = optarg;
		return true;
	case OPT_STATS:
		opts->stats_query = optarg;
		opts->mode = VRDMAD_MODE_STATS;
		return true;
	case OPT_JSON:
		opts->json = true;
		return true;
	case OPT_PRINT_QEMU:
		opts->mode = VRDMAD_MODE_PRINT_QEMU;
		return true;
	case OPT_LOG_LEVEL:
		if (!parse_log_level(optarg, &opts->log_level))
			return bad_option(log, "--log-level", optarg,
					  "error, warning, info or debug");
		log->level = opts->log_level;
		return true;
	default:
		return false;
	}
}

static bool check_whole(struct vrdmad_options *opts, bool pollers_given,
			const struct vrdmad_log *log)
{
	if (opts->mode == VRDMAD_MODE_STATS)
		return true;
	if (!opts->num_sockets) {
		vrdmad_log(log, VRD_LOG_ERROR,
			   "no --socket: give one for each virtual machine, as in --socket /run/vrdmad/vm0.sock (see vrdmad --help)");
		return false;
	}
	if (opts->num_poller_cpus && !pollers_given)
		opts->pollers = opts->num_poller_cpus;
	if (opts->num_poller_cpus && opts->num_poller_cpus != opts->pollers) {
		vrdmad_log(log, VRD_LOG_ERROR, "--poller-cpus names %u CPUs for --pollers %u: name one for each poller",
			   opts->num_poller_cpus, opts->pollers);
		return false;
	}
	return vrdmad_socket_options_finish(opts, log) && vrdmad_mad_check(opts, log);
}

bool vrdmad_options_parse(struct vrdmad_options *opts, int argc, char **argv,
			  struct vrdmad_log *log)
{
	bool allow_unsealed = false, pollers_given = false;
	int opt;

	memset(opts, 0, sizeof(*opts));
	opts->pollers = 1;
	opts->poll_us = VRD_POLL_US_DEFAULT;
	opts->socket_mode = -1;
	opts->sandbox = true;
	opts->log_level = log->level;

	opterr = 0;
	optind = 1;
	while ((opt = getopt_long(argc, argv, ":hV", long_options, NULL)) != -1) {
		if (opt == 'h' || opt == 'V') {
			opts->mode = opt == 'h' ? VRDMAD_MODE_HELP : VRDMAD_MODE_VERSION;
			return true;
		}
		if (opt == ':') {
			vrdmad_log(log, VRD_LOG_ERROR, "%s needs a value: see vrdmad --help",
				   argv[optind - 1]);
			return false;
		}
		if (opt == '?') {
			vrdmad_log(log, VRD_LOG_ERROR, "unknown option %s: see vrdmad --help",
				   argv[optind - 1]);
			return false;
		}
		if (!parse_one(opts, opt, &allow_unsealed, &pollers_given, log))
			return false;
	}
	if (optind < argc) {
		vrdmad_log(log, VRD_LOG_ERROR, "unexpected argument '%s': sockets are given by --socket",
			   argv[optind]);
		return false;
	}
	for (unsigned int i = 0; allow_unsealed && i < opts->num_sockets; i++)
		opts->sockets[i].unsealed = true;
	return check_whole(opts, pollers_given, log);
}

void vrdmad_options_free(struct vrdmad_options *opts)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++)
		free(opts->sockets[i].path);
	free(opts->sockets);
	opts->sockets = NULL;
	opts->num_sockets = 0;
}
