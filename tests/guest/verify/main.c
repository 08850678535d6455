// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-verify: options and the TCP connection between the two sides.
 *
 *   vrdma-verify [-d DEVICE] [-g GID-INDEX] [-q QPS] [-p PORT]              server
 *   vrdma-verify [...] [-c PART-OF-A-CASE-NAME] ADDRESS                     client
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "verify.h"

static int listen_once(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, sock, conn;

	sock = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) || listen(sock, 1)) {
		perror("vrdma-verify: cannot listen");
		exit(2);
	}
	printf("vrdma-verify: waiting on port %d\n", port);
	fflush(stdout);
	conn = accept(sock, NULL, NULL);
	close(sock);
	return conn;
}

/* The server may still be starting. */
static int reach(const char *address, int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, address, &addr.sin_addr) != 1) {
		fprintf(stderr, "vrdma-verify: '%s' is not an IPv4 address\n", address);
		exit(2);
	}
	for (int i = 0; i < 200; i++) {
		int sock = socket(AF_INET, SOCK_STREAM, 0);

		if (!connect(sock, (struct sockaddr *)&addr, sizeof(addr)))
			return sock;
		close(sock);
		usleep(100000);
	}
	perror("vrdma-verify: cannot connect");
	exit(2);
}

int main(int argc, char **argv)
{
	const char *device = NULL, *only = NULL;
	int gid = -1, qps = 17, port = 18516, opt, sock, one = 1, ret;
	struct side side;

	while ((opt = getopt(argc, argv, "d:g:q:p:c:")) != -1) {
		switch (opt) {
		case 'd': device = optarg; break;
		case 'g': gid = atoi(optarg); break;
		case 'q': qps = atoi(optarg); break;
		case 'p': port = atoi(optarg); break;
		case 'c': only = optarg; break;
		default:
			return 2;
		}
	}
	if (qps < MIN_QPS || qps > MAX_QPS) {
		fprintf(stderr, "vrdma-verify: -q takes %d to %d\n", MIN_QPS, MAX_QPS);
		return 2;
	}
	if (side_open(&side, device, gid, qps))
		return 2;
	sock = optind < argc ? reach(argv[optind], port) : listen_once(port);
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ret = optind < argc ? run_cases(&side, sock, only) : serve(&side, sock);
	side_close(&side);
	close(sock);
	return ret ? 1 : 0;
}
