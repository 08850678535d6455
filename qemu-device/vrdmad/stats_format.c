// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Statistics in the two formats that stats.h describes.  Called by stats.c in the main
 * thread.  The counters of the core may be read at any time.
 */
#include <stdio.h>
#include <stdlib.h>

#include "stats.h"
#include "vrd_mad.h"
#include "version.h"

struct writer {
	FILE *out;
	bool json;
	const char *prefix;		/* prefix of text lines: "engine" or "device.NAME" */
	bool first;			/* next member is the first of a JSON object */
};

static void put_counter(void *opaque, const char *name, uint64_t value)
{
	struct writer *w = opaque;

	if (w->json)
		fprintf(w->out, "%s\"%s\":%llu", w->first ? "" : ",", name,
			(unsigned long long)value);
	else
		fprintf(w->out, "%s.%s %llu\n", w->prefix, name, (unsigned long long)value);
	w->first = false;
}

/* Needed for paths only: names, fabrics and addresses have no special characters. */
static void put_json_string(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void put_vm(struct writer *w, struct vrdmad_vm *vm)
{
	char prefix[VRDMAD_NAME_MAX + 16], mac[18];

	snprintf(prefix, sizeof(prefix), "device.%s", vm->opt->name);
	w->prefix = prefix;
	w->first = true;
	if (w->json) {
		vrdmad_format_mac(vm->opt->mac, mac);
		fprintf(w->out, "\"%s\":{\"socket\":", vm->opt->name);
		put_json_string(w->out, vm->opt->path);
		fprintf(w->out, ",\"fabric\":\"%s\",\"mac\":\"%s\",\"counters\":{",
			vm->opt->fabric, mac);
	}
	put_counter(w, "connected", vrdmad_conn_is_open(&vm->conn));
	put_counter(w, "running", vrdmad_session_running(&vm->session));
	put_counter(w, "connections", vm->connections);
	put_counter(w, "refused", vm->refused);
	put_counter(w, "messages", vm->conn.messages);
	put_counter(w, "device_errors", vm->device_errors);
	vrd_device_stats(vm->dev, put_counter, w);
	if (w->json)
		fputs("}}", w->out);
}

char *vrdmad_stats_format(struct vrdmad_stats *stats, bool json, size_t *len)
{
	struct writer w = { .json = json, .prefix = "engine", .first = true };
	char *text = NULL;

	w.out = open_memstream(&text, len);
	if (!w.out)
		return NULL;
	if (json)
		fprintf(w.out, "{\"version\":\"%s\",\"engine\":{", VRDMAD_VERSION);
	vrd_engine_stats(stats->engine, put_counter, &w);
	vrd_mads_stats(stats->engine, put_counter, &w);
	if (json)
		fputs("},\"devices\":{", w.out);
	for (unsigned int i = 0; i < stats->num_vms; i++) {
		if (json && i)
			putc(',', w.out);
		put_vm(&w, &stats->vms[i]);
	}
	if (json)
		fputs("}}\n", w.out);
	if (fclose(w.out)) {
		free(text);
		return NULL;
	}
	return text;
}
