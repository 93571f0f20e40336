/* SPDX-License-Identifier: MIT */
/* /admin/requests and /admin/requests/{id}: what was asked for, and what became of it. */
#include "page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/clock.h"
#include "base/json.h"

#define PAGE_ROWS 50

/* ---- the list ---- */

static const char *const columns[] = { "Request", "Feature", "State", "User", "Device", "#Attempts",
    "Connector", "Asked for" };

struct listing {
    struct page *page;
    const char *state; /* as in the address; NULL: any */
    const char *feature;
    int64_t before, last;
    unsigned count;
    bool more;
};

static void
put_row(struct page *page, const struct tenant_request *r)
{
    page_row_begin(page);
    page_head_cell(page, columns[0]);
    html_put(&page->html, "<a href=\"/admin/requests/%s\"><code>%s</code></a>", r->request_id,
            r->request_id);
    page_head_cell_end(page);
    page_cell(page, columns[1]);
    html_put(&page->html, "%s", page_feature(r->feature));
    if (r->kind != NULL)
        html_put(&page->html, "<span class=\"sub\">%s</span>", r->kind);
    page_cell_end(page);
    page_cell(page, columns[2]);
    page_request_state(page, r->state);
    page_cell_end(page);
    page_text_cell(page, columns[3], r->user);
    page_text_cell(page, columns[4], r->device_id);
    page_number_cell(page, columns[5], r->attempt);
    page_text_cell(page, columns[6], r->connector_id);
    page_cell(page, columns[7]);
    html_time(&page->html, r->created_ms);
    page_cell_end(page);
    page_row_end(page);
}

static int
list_one(void *arg, const struct tenant_request *r)
{
    struct listing *l = arg;

    if (l->count == PAGE_ROWS) {
        l->more = true;
        return 1;
    }
    if (l->count++ == 0)
        page_table_begin(l->page, "Requests, the newest first", columns, CC_COUNT(columns));
    l->last = r->seq;
    put_row(l->page, r);
    return 0;
}

static void
put_option(struct page *page, const char *value, const char *name, const char *chosen)
{
    bool selected = strcmp(value, chosen != NULL ? chosen : "") == 0;

    html_put(&page->html, "<option value=\"%s\"", value);
    if (selected)
        html_put(&page->html, " selected");
    html_put(&page->html, ">%s</option>", name);
}

static void
put_filter(const struct listing *l)
{
    static const char *const names[TENANT_STATES] = { [TENANT_QUEUED] = "Queued",
        [TENANT_LEASED] = "In work",
        [TENANT_COMPLETED] = "Completed",
        [TENANT_FAILED] = "Failed",
        [TENANT_CANCELLED] = "Cancelled" };
    struct page *page = l->page;

    html_put(&page->html, "<form class=\"filter\" method=\"get\" action=\"/admin/requests\">\n"
                          "<div><label for=\"state\">State</label>"
                          "<select id=\"state\" name=\"state\">");
    put_option(page, "", "Any", l->state);
    for (int s = TENANT_QUEUED; s < TENANT_STATES; s++)
        put_option(page, tenant_state_name((enum tenant_state)s), names[s], l->state);
    html_put(&page->html, "</select></div>\n<div><label for=\"feature\">Feature</label>"
                          "<select id=\"feature\" name=\"feature\">");
    put_option(page, "", "Any", l->feature);
    for (enum queue q = 0; q < QUEUES; q++)
        put_option(page, queue_feature(q), page_feature(queue_feature(q)), l->feature);
    html_put(&page->html, "</select></div>\n<button type=\"submit\">Show</button>\n</form>\n");
}

static void
put_pager(const struct listing *l)
{
    struct page *page = l->page;

    if (l->before == 0 && !l->more)
        return;
    html_put(&page->html, "<nav class=\"pager\" aria-label=\"Pages of requests\">");
    if (l->before != 0)
        html_put(&page->html, "<a href=\"/admin/requests?state=%s&amp;feature=%s\">Newest</a>",
                l->state, l->feature);
    if (l->more)
        html_put(&page->html,
                "<a href=\"/admin/requests?state=%s&amp;feature=%s&amp;before=%lld\" "
                "rel=\"next\">Older</a>",
                l->state, l->feature, (long long)l->last);
    html_put(&page->html, "</nav>\n");
}

static bool
is_feature(const char *name)
{
    for (enum queue q = 0; q < QUEUES; q++)
        if (strcmp(queue_feature(q), name) == 0)
            return true;
    return false;
}

/* "" stands for any, as forms send it. */
static int
read_query(struct call *call, struct listing *l, struct tenant_request_query *q, struct cc_err *err)
{
    const char *before = http_exchange_query(call->exchange, "before");
    int state = 0;

    l->state = http_exchange_query(call->exchange, "state");
    l->feature = http_exchange_query(call->exchange, "feature");
    if (l->state != NULL && l->state[0] != '\0' && (state = tenant_state_parse(l->state)) < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "There is no such state of a request.");
    if (l->feature != NULL && l->feature[0] != '\0' && !is_feature(l->feature))
        return cc_err_set(err, CC_DOM_INPUT, 0, "No queue is of this feature.");
    if (before != NULL && cc_parse_int(before, 1, INT64_MAX, &l->before, NULL) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "The address is of no page of requests.");
    q->state = (enum tenant_state)state;
    q->feature = l->feature != NULL && l->feature[0] != '\0' ? l->feature : NULL;
    q->newest_first = true;
    q->after_seq = l->before != 0 ? l->before : INT64_MAX;
    q->limit = PAGE_ROWS + 1;
    return 0;
}

void
page_requests(struct call *call)
{
    struct page page;
    struct listing l = { .page = &page };
    struct tenant_request_query query = { .state = 0 };
    struct cc_err err = { 0 };

    page_begin(&page, call, PAGE_REQUESTS, "Requests");
    if (read_query(call, &l, &query, &err) != 0) {
        page_fail(&page, &err);
        return;
    }
    put_filter(&l);
    if (tenant_request_list(call->tenant->store, &query, list_one, &l, &err) != 0) {
        page_fail(&page, &err);
        return;
    }
    if (l.count > 0)
        page_table_end(&page);
    else
        html_put(&page.html, "<p class=\"none\">There is no such request.</p>\n");
    put_pager(&l);
    page_end(&page, 200);
}

/* ---- one of them ---- */

struct viewing {
    struct page *page;
    int64_t seq; /* 0: not found */
};

static int
view_request(void *arg, const struct tenant_request *r)
{
    struct viewing *v = arg;
    struct page *page = v->page;
    bool open = r->state == TENANT_QUEUED || r->state == TENANT_LEASED;
    char attempts[32], failures[32];

    v->seq = r->seq;
    (void)snprintf(attempts, sizeof(attempts), "%d", r->attempt);
    (void)snprintf(failures, sizeof(failures), "%d", r->failures);
    html_put(&page->html, "<section aria-labelledby=\"facts\"><h2 id=\"facts\">About</h2>\n"
                          "<dl class=\"facts\"><div><dt>State</dt><dd>");
    page_request_state(page, r->state);
    html_put(&page->html, "</dd></div>\n");
    page_fact(page, "Request id", r->request_id);
    page_fact(page, "Feature", page_feature(r->feature));
    page_fact(page, "Kind", r->kind);
    page_fact(page, "User", r->user);
    page_fact(page, "Device", r->device_id);
    page_fact(page, "Thumbprint", r->thumbprint);
    page_fact(page, "Attempts", attempts);
    page_fact(page, "Failures", failures);
    page_fact(page, "Connector", r->connector_id);
    page_fact_time(page, "Asked for", r->created_ms);
    page_fact_time(page, "Changed", r->updated_ms);
    page_fact_time(page, r->state == TENANT_LEASED ? "Leased until" : "Offered from",
            open ? r->due_ms : 0);
    html_put(&page->html, "</dl></section>\n");
    return 0;
}

static const char *const event_columns[] = { "Time", "Event", "Connector", "Attempt", "Details" };

static const char *
event_name(const struct tenant_event *e)
{
    static const struct {
        const char *what, *name;
    } names[] = { { "queued", "Asked for" }, { "leased", "Handed out" },
        { "released", "Given back" }, { "cancelled", "Cancelled" } };

    for (size_t i = 0; i < CC_COUNT(names); i++)
        if (strcmp(names[i].what, e->what) == 0)
            return names[i].name;
    if (strcmp(e->what, "uploaded") != 0)
        return e->what;
    return e->requeued ? "Failed, to be tried again" : "Result";
}

/* Of a result nothing that is for the device: what it came to, and what names the certificate. */
static void
put_result(struct page *page, const char *text)
{
    static const struct {
        const char *member, *name;
    } shown[] = { { "errorCode", "Code" }, { "errorMessage", "Message" },
        { "certificateSerialNumber", "Serial number" }, { "certificateThumbprint", "Thumbprint" },
        { "issuingCertificateAuthority", "Issuer" }, { "reencryptedIn", "Encrypted anew in" } };
    json_object *result = text != NULL ? cc_json_parse(text, strlen(text), NULL) : NULL;

    for (size_t i = 0; result != NULL && i < CC_COUNT(shown); i++) {
        const char *value = NULL;

        if (cc_json_get_str(result, shown[i].member, 65536, &value, NULL) == 0 && value != NULL &&
                strcmp(value, "None") != 0)
            html_put(&page->html, "<p>%s: %s</p>", shown[i].name, value);
    }
    json_object_put(result);
}

static int
view_event(void *arg, const struct tenant_event *e)
{
    struct page *page = arg;
    const char *verdict = admin_verdict_name(e->verdict);
    char attempt[16] = "";

    page_row_begin(page);
    page_head_cell(page, event_columns[0]);
    html_moment(&page->html, e->time_ms);
    page_head_cell_end(page);
    page_text_cell(page, event_columns[1], event_name(e));
    page_text_cell(page, event_columns[2], e->connector_id);

    if (e->attempt > 0)
        (void)snprintf(attempt, sizeof(attempt), "%d", e->attempt);
    page_text_cell(page, event_columns[3], attempt);
    page_cell(page, event_columns[4]);
    if (verdict == NULL && e->lease_until_ms == 0)
        html_put(&page->html, "–");
    if (verdict != NULL)
        html_put(&page->html, "<p>Taken as: %s</p>", verdict);
    put_result(page, e->result);
    if (e->lease_until_ms != 0) {
        html_put(&page->html, "<p>Until ");
        html_moment(&page->html, e->lease_until_ms);
        html_put(&page->html, "</p>");
    }
    page_cell_end(page);
    page_row_end(page);
    return 0;
}

void
page_request(struct call *call)
{
    struct page page;
    struct viewing v = { .page = &page };
    struct tenant_store *store = call->tenant->store;
    struct cc_err err = { 0 };

    page_begin(&page, call, PAGE_NOWHERE, "Request");
    if (tenant_request_find(store, call->capture[0], view_request, &v, &err) != 0) {
        page_fail(&page, &err);
        return;
    }
    if (v.seq == 0) {
        cc_buf_free(&page.out);
        page_message(call, 404, "No such request", "There is no request of this id.");
        return;
    }
    html_put(&page.html, "<section aria-labelledby=\"history\"><h2 id=\"history\">History</h2>\n");
    page_table_begin(&page, "What happened to it, in order", event_columns,
            CC_COUNT(event_columns));
    if (tenant_request_history(store, v.seq, view_event, &page, &err) != 0) {
        page_fail(&page, &err);
        return;
    }
    page_table_end(&page);
    html_put(&page.html, "</section>\n");
    page_end(&page, 200);
}
