/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <inttypes.h>

#include "base/json.h"

#define PAGE_MAX 1000
#define PAGE_DEFAULT 100

int
admin_page_open(struct call *call, struct admin_page *ret, struct cc_err *err)
{
    const char *top = http_exchange_query(call->exchange, "$top");
    const char *after = http_exchange_query(call->exchange, "$skiptoken");
    int64_t number = PAGE_DEFAULT;

    *ret = (struct admin_page){ .value = NULL };
    if (top != NULL && cc_parse_int(top, 1, PAGE_MAX, &number, err) != 0)
        return cc_err_in(err, "$top");
    if (after != NULL && cc_parse_int(after, 0, INT64_MAX, &ret->after, err) != 0)
        return cc_err_in(err, "$skiptoken");
    ret->top = (unsigned)number;
    ret->value = json_object_new_array();
    return ret->value != NULL ? 0 : cc_err_nomem(err);
}

void
admin_page_free(struct admin_page *page)
{
    json_object_put(page->value);
    page->value = NULL;
}

bool
admin_page_full(struct admin_page *page)
{
    page->more = page->count == page->top;
    return page->more;
}

int
admin_page_add(struct admin_page *page, int64_t seq, json_object *take_item)
{
    if (json_object_array_add(page->value, take_item) != 0) {
        json_object_put(take_item);
        return cc_err_nomem(&page->err);
    }
    page->count++;
    page->last_seq = seq;
    return 0;
}

static int
add_link(struct call *call, const struct admin_page *page, const char *query, json_object *body,
        struct cc_err *err)
{
    struct cc_buf link = CC_BUF_INIT(2048);
    int rc = cc_buf_printf(&link, err, "%s?%s$top=%u&$skiptoken=%" PRId64,
            http_exchange_path(call->exchange), query, page->top, page->last_seq);

    if (rc == 0)
        rc = cc_json_add_str(body, "@odata.nextLink", cc_buf_str(&link), err);
    cc_buf_free(&link);
    return rc;
}

void
admin_page_reply(struct call *call, struct admin_page *page, const char *query)
{
    json_object *body = json_object_new_object();
    struct cc_err err = page->err;

    if (err.domain != CC_DOM_NONE ||
            cc_json_add(body, "value", json_object_get(page->value), &err) != 0 ||
            (page->more && add_link(call, page, query, body, &err) != 0)) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}
