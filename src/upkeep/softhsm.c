/* SPDX-License-Identifier: MIT */
#include "upkeep/softhsm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

#define CONF_MAX 65536

/* As the library looks for it, but for the home directory, which a daemon has none of. */
static const char *
conf_path(void)
{
    const char *path = getenv("SOFTHSM2_CONF"); /* NOLINT(concurrency-mt-unsafe) */

    return path != NULL ? path : "/etc/softhsm/softhsm2.conf";
}

/* The value of "directories.tokendir = DIR"; NULL: this line is another.  Cuts the line. */
static char *
token_dir(char *line)
{
    static const char key[] = "directories.tokendir";
    char *value = line + strspn(line, " \t"), *end;

    if (strncmp(value, key, sizeof(key) - 1) != 0)
        return NULL;
    value += sizeof(key) - 1;
    value += strspn(value, " \t");
    if (*value++ != '=')
        return NULL;
    value += strspn(value, " \t");
    end = value + strcspn(value, "\r");
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    return value;
}

bool
softhsm_folder(char *ret, size_t size)
{
    struct cc_buf file = CC_BUF_INIT(CONF_MAX);
    char *text, *line, *rest = NULL;
    bool found = false;

    if (cc_file_read(conf_path(), &file, NULL) == 0 && (text = strdup(cc_buf_str(&file))) != NULL) {
        for (line = strtok_r(text, "\n", &rest); line != NULL && !found;
                line = strtok_r(NULL, "\n", &rest)) {
            const char *folder = token_dir(line);

            found = folder != NULL && (size_t)snprintf(ret, size, "%s", folder) < size;
        }
        free(text);
    }
    cc_buf_free(&file);
    return found;
}
