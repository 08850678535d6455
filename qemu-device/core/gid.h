/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules for the GIDs that a device may use: gid.c. */
#ifndef VRD_GID_H
#define VRD_GID_H

#include <stdbool.h>
#include <stdint.h>

struct vrd_device;

/* Modified EUI-64 of a MAC address. */
void vrd_eui64(const uint8_t mac[6], uint8_t eui[8]);

/* True for the link-local GID of the device's MAC address, which no other device may use. */
bool vrd_gid_is_own(const struct vrd_device *dev, const uint8_t gid[16]);

/* True if the owner of the host allows the device to use @gid. */
bool vrd_gid_is_allowed(const struct vrd_device *dev, const uint8_t gid[16]);

#endif /* VRD_GID_H */
