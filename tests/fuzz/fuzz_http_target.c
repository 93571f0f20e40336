/* SPDX-License-Identifier: MIT */

/*
 * Request targets: whatever is let through is a plain absolute path, or one below the opaque prefix as it came, and the
 * query is triples of strings, in which each value stands as it came.
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

/* The values are those of the target, one after the other; all decode where they must. */
static void
require_triples(const struct cc_buf *query, const char *target, bool all_decode)
{
    const char *at = target;
    size_t pos = 0;

    while (pos < query->len) {
        const char *name = (const char *)query->data + pos;
        const char *sent = name + strlen(name) + 1;
        const char *decoded = sent + strlen(sent) + 1;

        at = strstr(at, sent);
        require(at != NULL);
        require(decoded[0] == '=' || (decoded[0] == '\0' && !all_decode));
        require(http_query_find(query, name, true) != NULL);
        require(http_query_find(query, name, false) != NULL || !all_decode);
        pos = (size_t)(decoded - (const char *)query->data) + strlen(decoded) + 1;
    }
    require(pos == query->len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char prefix[] = OPAQUE;
    const struct http_rules strict = { .max_body = 1 };
    const struct http_rules lax = { .opaque_prefix = prefix,
        .max_target = 16384,
        .raw_query = true };
    struct cc_buf path = CC_BUF_INIT(http_path_max(&strict));
    struct cc_buf query = CC_BUF_INIT(http_query_max(&strict));
    struct cc_buf lax_path = CC_BUF_INIT(http_path_max(&lax));
    struct cc_buf lax_query = CC_BUF_INIT(http_query_max(&lax));
    char *text = malloc(size + 1);
    size_t i;
    bool good;

    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    good = http_target_parse(text, &strict, &path, &query) == 0;
    if (good) {
        const char *plain = cc_buf_str(&path);

        require(strlen(plain) == path.len && plain[0] == '/' && cc_is_utf8(plain, path.len));
        require(strstr(plain, "//") == NULL && strstr(plain, "/./") == NULL);
        require(strstr(plain, "/../") == NULL && strchr(plain, '\\') == NULL);
        require(path.len < 3 || strcmp(plain + path.len - 3, "/..") != 0);
        for (i = 0; i < path.len; i++)
            require((unsigned char)plain[i] >= 0x20 && plain[i] != 0x7f);
        require_triples(&query, text, true);
    }
    if (http_target_parse(text, &lax, &lax_path, &lax_query) == 0) {
        if (cc_starts_with(text, OPAQUE)) {
            require(lax_path.len == strcspn(text, "?"));
            require(memcmp(lax_path.data, text, lax_path.len) == 0);
            for (i = 0; i < lax_path.len; i++)
                require(lax_path.data[i] > 0x20 && lax_path.data[i] < 0x7f);
        }
        require_triples(&lax_query, text, false);
        /* The lax rules let more through, and read what both do in the same way. */
        require(!good ||
                (query.len == lax_query.len &&
                        (query.len == 0 || memcmp(query.data, lax_query.data, query.len) == 0)));
    } else {
        require(!good);
    }
    cc_buf_free(&path);
    cc_buf_free(&query);
    cc_buf_free(&lax_path);
    cc_buf_free(&lax_query);
    free(text);
    return 0;
}
