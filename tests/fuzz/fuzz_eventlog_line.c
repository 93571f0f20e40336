/* SPDX-License-Identifier: MIT */

/* A peer's text in an event: one line of JSON with nothing for a terminal in it, which says the text again. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "eventlog/eventlog_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_harmless(const char *line, size_t len)
{
    if (len == 0 || line[len - 1] != '\n' || !cc_is_utf8(line, len))
        abort();
    for (size_t i = 0; i + 1 < len; i++) {
        unsigned char c = (unsigned char)line[i];

        if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)line[i + 1] < 0xa0))
            abort();
    }
}

static void
check_says(const char *line, size_t len, const char *text)
{
    json_object *obj = cc_json_parse(line, len, NULL);
    const char *user = NULL;

    if (obj == NULL || cc_json_get_str(obj, "user", EVENT_LINE_MAX, &user, NULL) != 0 ||
            user == NULL)
        abort();
    if (strlen(text) <= EVENT_FIELD_MAX && cc_is_utf8(text, strlen(text)) &&
            strcmp(user, text) != 0)
        abort();
    json_object_put(obj);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct cc_buf line = CC_BUF_INIT(2 * EVENT_LINE_MAX);
    struct event_fields fields = { .user = text };
    struct event_line said = {
        .type = event_type_get(EVENT_PKCS_IMPORT_REQUEST_FAILURE),
        .connector = text,
        .message = text,
        .fields = &fields,
    };

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (event_line_write(&said, &line, NULL) != 0)
        abort();
    check_harmless(cc_buf_str(&line), line.len);
    check_says(cc_buf_str(&line), line.len - 1, text);
    cc_buf_free(&line);
    free(text);
    return 0;
}
