/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the command line. */
#ifndef VRDMAD_OPTIONS_H
#define VRDMAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "ibdev.h"
#include "log.h"
#include "vrd.h"

#define VRDMAD_MAX_SOCKETS	1024
#define VRDMAD_MAX_POLLERS	64
#define VRDMAD_NAME_MAX		63
#define VRDMAD_DEFAULT_VECTORS	8

/* Exit statuses. */
#define VRDMAD_EXIT_FAILURE	1
#define VRDMAD_EXIT_USAGE	2

/* One --socket: one virtual machine's device. */
struct vrdmad_socket_options {
	char *path;			/* absolute path */
	char name[VRDMAD_NAME_MAX + 1];
	char fabric[VRDMAD_NAME_MAX + 1];
	uint8_t mac[6];
	bool mac_given;
	unsigned int vectors;
	bool unsealed;			/* accept guest memory that its owner can shrink */
	struct vrd_limits limits;
	bool own_gids_only;
	unsigned int num_gids;
	uint8_t gids[VRD_MAX_ALLOWED_GIDS][16];
	struct vrdmad_ibdev_options ibdev;
};

enum vrdmad_mode {
	VRDMAD_MODE_RUN,
	VRDMAD_MODE_STATS,		/* query a running daemon */
	VRDMAD_MODE_PRINT_QEMU,
	VRDMAD_MODE_HELP,
	VRDMAD_MODE_VERSION,
};

struct vrdmad_options {
	enum vrdmad_mode mode;
	struct vrdmad_socket_options *sockets;
	unsigned int num_sockets;
	unsigned int pollers;
	unsigned int num_poller_cpus;	/* 0: not pinned, else the same as @pollers */
	int poller_cpus[VRDMAD_MAX_POLLERS];
	unsigned int poll_us;
	bool poll_fixed;
	struct vrdmad_ibdev_options ibdev;	/* for sockets without ibdev= */
	const char *user;
	const char *socket_group;
	int socket_mode;		/* -1: set by the umask */
	const char *mad_key;		/* file, or NULL: no channel to other daemons */
	uint16_t mad_port;		/* 0: the default */
	const char *mad_listen;		/* NULL: all addresses */
	bool sandbox;
	bool json;
	const char *stats_socket;	/* path at which this daemon answers queries */
	const char *stats_query;	/* path of the daemon to query */
	enum vrd_log_level log_level;
};

/*
 * Fills @opts.  Strings point into @argv or are freed by vrdmad_options_free(), which may be
 * called after any result.  False after one message that names the option and its fault.
 */
bool vrdmad_options_parse(struct vrdmad_options *opts, int argc, char **argv,
			  struct vrdmad_log *log);
void vrdmad_options_free(struct vrdmad_options *opts);
void vrdmad_options_help(void);

/* Parses the value of --socket: "PATH[,key=value...]"; ",," is a comma. */
bool vrdmad_socket_options_parse(struct vrdmad_socket_options *sock, const char *arg,
				 const struct vrdmad_log *log);
/* Called after all sockets were parsed: checks for names, addresses and paths that clash. */
bool vrdmad_socket_options_finish(struct vrdmad_options *opts, const struct vrdmad_log *log);

/* Parse values of options.  False if @text is not valid. */
bool vrdmad_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value);
bool vrdmad_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *value);
bool vrdmad_parse_bool(const char *text, bool *value);
bool vrdmad_parse_mac(const char *text, uint8_t mac[6]);
bool vrdmad_parse_gid(const char *text, uint8_t gid[16]);
bool vrdmad_parse_name(const char *text, char name[VRDMAD_NAME_MAX + 1]);
bool vrdmad_parse_cpus(const char *text, int *cpus, unsigned int max, unsigned int *num);

/* "52:54:00:12:34:56"; @buf has room for 18 bytes. */
void vrdmad_format_mac(const uint8_t mac[6], char *buf);

/* Passes the QEMU options that fit @sock to @line, one line per call. */
void vrdmad_qemu_options(const struct vrdmad_socket_options *sock,
			 void (*line)(void *opaque, const char *text), void *opaque);

#endif /* VRDMAD_OPTIONS_H */
