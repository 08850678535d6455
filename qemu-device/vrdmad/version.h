/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VRDMAD_VERSION_H
#define VRDMAD_VERSION_H

#define VRDMAD_VERSION "0.1.0"

#endif /* VRDMAD_VERSION_H */
