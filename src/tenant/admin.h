/* SPDX-License-Identifier: MIT */
#ifndef TENANT_ADMIN_H
#define TENANT_ADMIN_H

/* What the files of the administrator's side share. */

#include "tenant_int.h"

CC_MUST int admin_add_time(json_object *obj, const char *name, int64_t time_ms, struct cc_err *err);

/* A text that is JSON, as JSON; nothing where it is NULL. */
CC_MUST int admin_add_json(json_object *obj, const char *name, const char *text,
        struct cc_err *err);

/* The member "revocation" of the counts (admin_revocation.c). */
CC_MUST int admin_add_revocation_counts(struct tenant *tenant, json_object *body,
        struct cc_err *err);

/* The member "scep" of the counts (admin_scep.c). */
CC_MUST int admin_add_scep_counts(struct tenant *tenant, json_object *body, struct cc_err *err);

/* As on the wire; NULL where there is none. */
const char *admin_verdict_name(enum tenant_verdict verdict);

/* ---- lists in pages: $top, $skiptoken (admin_page.c) ---- */

struct admin_page {
    json_object *value; /* the items */
    unsigned top, count;
    int64_t after, last_seq; /* numbers of items: behind which it begins, with which it ends */
    bool more;
    struct cc_err err; /* what went wrong where only "stop" can be said */
};

/* admin_page_free() in every case. */
CC_MUST int admin_page_open(struct call *call, struct admin_page *ret, struct cc_err *err);
void admin_page_free(struct admin_page *page);

/* Whether there is no room for another item, of which there is one more, then. */
CC_MUST bool admin_page_full(struct admin_page *page);
/* 0: go on. */
CC_MUST int admin_page_add(struct admin_page *page, int64_t seq, json_object *take_item);

/* query: what the next page needs besides, "name=value&", or "". */
void admin_page_reply(struct call *call, struct admin_page *page, const char *query);

/* ---- orders: one object, or an array of them (admin_enqueue.c) ---- */

#define ADMIN_ORDERS_MAX 20000 /* in one call, all together */

/* Whether the body is one object without a count: its answer has one id. */
bool admin_order_is_one(json_object *body);
CC_MUST int admin_order_count(json_object *body, size_t *ret, struct cc_err *err);

typedef int (*admin_order_fn)(void *arg, size_t i, json_object *obj, struct cc_err *err);
CC_MUST int admin_order_each(json_object *body, admin_order_fn fn, void *arg, struct cc_err *err);

/* The member "overrides" as text, yours to free; NULL where there is none. */
CC_MUST int admin_order_overrides(json_object *obj, char **ret, struct cc_err *err);

/* A text with the request's number where it has the mark, appended. */
#define ADMIN_NUMBER_MARK "%d"
CC_MUST int admin_order_number(const char *text, size_t number, struct cc_buf *ret,
        struct cc_err *err);

/* An id at a time, then {"requestId"} or {"requestIds"}. */
CC_MUST int admin_order_add_id(json_object *ids, const char *id, struct cc_err *err);
void admin_order_reply(struct call *call, json_object *take_ids, bool one);

#endif
