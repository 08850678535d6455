// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: finds and opens the host's RDMA device.  Called at start by a front end
 * that drops its privileges afterwards, or by device.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ibv.h"
#include "log.h"

#define DEFAULT_MAX_MAP_COUNT	65530

/* Writes the names to @buf: "rxe0, mlx5_0". */
static void list_names(struct ibv_device **list, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (; *list && len < size; list++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
					ibv_get_device_name(*list));
}

static uint64_t read_max_map_count(void)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned long long n = DEFAULT_MAX_MAP_COUNT;

	if (!file)
		return n;
	if (fscanf(file, "%llu", &n) != 1)
		n = DEFAULT_MAX_MAP_COUNT;
	fclose(file);
	return n;
}

static int no_such_device(struct ibv_device **list, const char *name, struct vrd_error *err)
{
	char names[160], hint[200];

	if (!*list)
		return vrd_fail(err, -ENODEV,
				"load its driver, or make a software one: rdma link add rxe0 type rxe netdev IFNAME",
				"ibdev %.64s: this host has no RDMA device", name);
	list_names(list, names, sizeof(names));
	snprintf(hint, sizeof(hint), "give one of: %s", names);
	return vrd_fail(err, -ENODEV, hint, "ibdev %.64s: there is no such RDMA device", name);
}

static int cannot_open(const struct ibv_device *device, const char *name, int error,
		       struct vrd_error *err)
{
	const char *hint = "";
	char path[96];

	/* After EACCES libibverbs looks for the device elsewhere and returns ENOENT. */
	snprintf(path, sizeof(path), "/dev/infiniband/%s", device->dev_name);
	if (access(path, R_OK | W_OK) && errno == EACCES)
		error = EACCES;
	if (error == EACCES || error == EPERM)
		hint = "this user needs to read and write /dev/infiniband/uverbs*";
	else if (error == ENOENT || error == ENXIO)
		hint = "load the kernel module ib_uverbs";
	return vrd_fail(err, -error, hint, "ibdev %.64s: cannot open it: %s", name,
			strerror(error));
}

int vrd_ibdev_open(const char *name, struct vrd_ibdev **out, struct vrd_error *err)
{
	struct vrd_ibdev *ibdev = calloc(1, sizeof(*ibdev));
	struct ibv_device **list;
	int num = 0, i, ret;

	if (!ibdev)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	atomic_init(&ibdev->refs, 1);
	ibdev->max_map_count = read_max_map_count();
	snprintf(ibdev->name, sizeof(ibdev->name), "%s", name);

	list = ibv_get_device_list(&num);
	if (!list) {
		ret = vrd_fail(err, -errno, "load the kernel module ib_uverbs",
			       "ibdev %.64s: no list of RDMA devices: %s", name, strerror(errno));
		goto free;
	}
	for (i = 0; i < num && strcmp(ibv_get_device_name(list[i]), name); i++)
		;
	if (i == num) {
		ret = no_such_device(list, name, err);
	} else {
		errno = 0;
		ibdev->ctx = ibv_open_device(list[i]);
		ret = ibdev->ctx ? 0 : cannot_open(list[i], name, errno ? errno : EIO, err);
	}
	ibv_free_device_list(list);
	if (ret)
		goto free;
	*out = ibdev;
	return 0;
free:
	free(ibdev);
	return ret;
}

struct vrd_ibdev *vrd_ibdev_get(struct vrd_ibdev *ibdev)
{
	atomic_fetch_add(&ibdev->refs, 1);
	return ibdev;
}

void vrd_ibdev_close(struct vrd_ibdev *ibdev)
{
	if (!ibdev || atomic_fetch_sub(&ibdev->refs, 1) != 1)
		return;
	ibv_close_device(ibdev->ctx);
	free(ibdev);
}
