/* SPDX-License-Identifier: MIT */

/*
 * Request targets: whatever is let through is a plain absolute path, or one below the opaque prefix as it came, and the
 * query is pairs of strings.
 */

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "http/http_int.h"

#define OPAQUE "/o/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool holds)
{
    if (!holds)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cc_buf path = CC_BUF_INIT(HTTP_HEADER_MAX);
    struct cc_buf query = CC_BUF_INIT(HTTP_HEADER_MAX * 2);
    char *text = malloc(size + 1);
    size_t i, ends = 0;

    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (http_target_parse(text, NULL, &path, &query) == 0) {
        const char *plain = cc_buf_str(&path);

        require(strlen(plain) == path.len && plain[0] == '/' && cc_is_utf8(plain, path.len));
        require(strstr(plain, "//") == NULL && strstr(plain, "/./") == NULL);
        require(strstr(plain, "/../") == NULL && strchr(plain, '\\') == NULL);
        require(path.len < 3 || strcmp(plain + path.len - 3, "/..") != 0);
        for (i = 0; i < path.len; i++)
            require((unsigned char)plain[i] >= 0x20 && plain[i] != 0x7f);
        for (i = 0; i < query.len; i++)
            ends += query.data[i] == '\0';
        require(ends % 2 == 0 && (query.len == 0 || query.data[query.len - 1] == '\0'));
        (void)http_pairs_find(&query, "q", false);
    }
    cc_buf_reset(&path);
    cc_buf_reset(&query);
    if (cc_starts_with(text, OPAQUE) && http_target_parse(text, OPAQUE, &path, &query) == 0) {
        require(path.len == strcspn(text, "?") && memcmp(path.data, text, path.len) == 0);
        for (i = 0; i < path.len; i++)
            require(path.data[i] > 0x20 && path.data[i] < 0x7f);
    }
    cc_buf_free(&path);
    cc_buf_free(&query);
    free(text);
    return 0;
}
