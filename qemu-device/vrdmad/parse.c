// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Converts values of options from text to numbers, addresses or lists.  Called at start by
 * options.c and socket_options.c.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

/* Unlike strtoull(), does not accept signs and blanks. */
static bool parse_digits(const char *text, char **end, uint64_t *value)
{
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*value = strtoull(text, end, 0);
	return errno == 0 && *end != text;
}

bool vrdmad_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	return parse_digits(text, &end, value) && !*end && *value >= min && *value <= max;
}

/* A number, optionally with a unit: K, M, G or T, which are powers of 1024. */
bool vrdmad_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned int shift = 0;
	char *end;

	if (!parse_digits(text, &end, value))
		return false;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (*value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return *value >= min && *value <= max;
}

bool vrdmad_parse_bool(const char *text, bool *value)
{
	if (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true")) {
		*value = true;
		return true;
	}
	if (!strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false")) {
		*value = false;
		return true;
	}
	return false;
}

bool vrdmad_parse_mac(const char *text, uint8_t mac[6])
{
	static const uint8_t zero[6];

	for (int i = 0; i < 6; i++) {
		char *end;
		unsigned long byte;

		if (!isxdigit((unsigned char)text[0]))
			return false;
		byte = strtoul(text, &end, 16);
		if (byte > 0xff || end - text > 2)
			return false;
		if (i < 5 ? *end != ':' && *end != '-' : *end != '\0')
			return false;
		mac[i] = (uint8_t)byte;
		text = end + 1;
	}
	/* Accept a unicast address that is not all zero. */
	return !(mac[0] & 1) && memcmp(mac, zero, 6);
}

/* An IPv6 address, or an IPv4 address, whose GID is ::ffff:a.b.c.d in RoCE v2. */
bool vrdmad_parse_gid(const char *text, uint8_t gid[16])
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		memset(gid, 0, 10);
		gid[10] = 0xff;
		gid[11] = 0xff;
		memcpy(gid + 12, &v4, 4);
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return false;
	memcpy(gid, &v6, 16);
	return true;
}

/* Names appear in statistics and messages: letters, digits, '-' and '_'. */
bool vrdmad_parse_name(const char *text, char name[VRDMAD_NAME_MAX + 1])
{
	size_t len = strlen(text);

	if (!len || len > VRDMAD_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '_')
			return false;
	memcpy(name, text, len + 1);
	return true;
}

/* "2,3", "4-7", or a combination. */
bool vrdmad_parse_cpus(const char *text, int *cpus, unsigned int max, unsigned int *num)
{
	*num = 0;
	for (;;) {
		uint64_t first, last;
		char *end;

		if (!parse_digits(text, &end, &first))
			return false;
		last = first;
		if (*end == '-' && !parse_digits(end + 1, &end, &last))
			return false;
		if (first > last || last > 65535 || last - first >= max - *num)
			return false;
		while (first <= last)
			cpus[(*num)++] = (int)first++;
		if (!*end)
			return true;
		if (*end != ',')
			return false;
		text = end + 1;
	}
}

void vrdmad_format_mac(const uint8_t mac[6], char *buf)
{
	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
}
