/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A RoCE v2 GID is an IP address: an IPv6 address unchanged, an IPv4 address as ::ffff:a.b.c.d. */
#ifndef VRD_IBV_MAD_ADDR_H
#define VRD_IBV_MAD_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

union vrd_mad_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static inline bool vrd_mad_gid_is_v4(const uint8_t gid[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid, prefix, sizeof(prefix));
}

static inline bool vrd_mad_gid_is_link_local(const uint8_t gid[16])
{
	return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80;
}

/*
 * True for an address that another host can have: not multicast, loopback or unspecified.
 * Guests choose these addresses, and the host must not connect to itself.
 */
static inline bool vrd_mad_gid_is_remote(const uint8_t gid[16])
{
	static const uint8_t zero[15];

	if (vrd_mad_gid_is_v4(gid))
		return gid[12] != 0 && gid[12] != 127 && gid[12] < 224;
	return gid[0] != 0xff && memcmp(gid, zero, sizeof(zero));
}

/* Returns the length of the address; @ifindex is the scope of a link-local one. */
static inline socklen_t vrd_mad_addr_of(union vrd_mad_addr *addr, const uint8_t gid[16],
					uint16_t port, unsigned int ifindex)
{
	memset(addr, 0, sizeof(*addr));
	if (vrd_mad_gid_is_v4(gid)) {
		addr->in.sin_family = AF_INET;
		addr->in.sin_port = htons(port);
		memcpy(&addr->in.sin_addr, gid + 12, 4);
		return sizeof(addr->in);
	}
	addr->in6.sin6_family = AF_INET6;
	addr->in6.sin6_port = htons(port);
	memcpy(&addr->in6.sin6_addr, gid, 16);
	if (vrd_mad_gid_is_link_local(gid))
		addr->in6.sin6_scope_id = ifindex;
	return sizeof(addr->in6);
}

/* Returns false if the address is neither IPv4 nor IPv6. */
static inline bool vrd_mad_gid_of(uint8_t gid[16], const union vrd_mad_addr *addr)
{
	if (addr->sa.sa_family == AF_INET6) {
		memcpy(gid, &addr->in6.sin6_addr, 16);
		return true;
	}
	memset(gid, 0, 10);
	gid[10] = 0xff;
	gid[11] = 0xff;
	memcpy(gid + 12, &addr->in.sin_addr, 4);
	return addr->sa.sa_family == AF_INET;
}

#endif /* VRD_IBV_MAD_ADDR_H */
