/* SPDX-License-Identifier: MIT */

/* A configuration file of any bytes: taken whole, shown, or refused with a reason. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
ignore(void *arg, const char *section, const char *key, const char *old_value,
        const char *new_value)
{
    (void)arg;
    (void)old_value;
    if (section[0] == '\0' || key[0] == '\0' || new_value == NULL)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (config_load(path, NULL, 0, &config, &err) == 0)
        config_compare(NULL, config, ignore, NULL);
    else if (config != NULL || err.text[0] == '\0')
        abort();
    config_free(config);
    (void)close(fd);
    return 0;
}
