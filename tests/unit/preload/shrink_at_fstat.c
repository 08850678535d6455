// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * LD_PRELOAD library of test_vrdmad_memory.py: acts as a client that shrinks its memory file
 * directly after vrdmad has read the file's size, and seals it then.  Main thread of vrdmad.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int fstat(int fd, struct stat *st)
{
	int ret = fstatat(fd, "", st, AT_EMPTY_PATH);

	if (!ret && fcntl(fd, F_GET_SEALS) == 0 && !ftruncate(fd, 4096))
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	return ret;
}
