// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replaces libFuzzer where it is not available (coverage by gcc): runs the harness on each
 * file, and on each file of each folder, that is named.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

static uint8_t data[1 << 20];
static unsigned int files;

static void run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!f)
		fuzz_fail("%s cannot be read", path);
	len = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, len);
	files++;
}

static void run_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char name[4096];

	if (!dir)
		fuzz_fail("%s cannot be read", path);
	while ((entry = readdir(dir))) {
		struct stat st;

		if (entry->d_name[0] == '.' ||
		    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >=
		    (int)sizeof(name))
			continue;
		if (!stat(name, &st) && S_ISREG(st.st_mode))
			run_file(name);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st))
			fuzz_fail("%s is not there", argv[i]);
		if (S_ISDIR(st.st_mode))
			run_folder(argv[i]);
		else
			run_file(argv[i]);
	}
	printf("%u inputs\n", files);
	return 0;
}
