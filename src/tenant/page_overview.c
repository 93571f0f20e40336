/* SPDX-License-Identifier: MIT */
/* /admin: the connectors and how they are, and the queues. */
#include "page_connectors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct summary {
    struct page *page;
    int64_t in_place, active, warnings, errors, removed;
};

static int
count_one(void *arg, const struct connector_view *v)
{
    struct summary *s = arg;

    if (v->connector->removed) {
        s->removed++;
        return 0;
    }
    s->in_place++;
    s->active += v->active;
    s->warnings += v->lifecycle.status == LIFECYCLE_WARNING;
    s->errors += v->lifecycle.status == LIFECYCLE_ERROR;
    return 0;
}

static void
put_tile(struct page *page, const char *name, int64_t number, const char *of, const char *kind)
{
    html_put(&page->html, "<div class=\"tile %s\"><dt>%s</dt><dd>%lld%s</dd></div>\n",
            number > 0 ? kind : "", name, (long long)number, of);
}

static int
put_tiles(struct page *page, const struct summary *s, const struct tenant_counts *requests,
        struct cc_err *err)
{
    struct tenant_revocation_counts revocations;
    struct cc_buf of = CC_BUF_INIT(64);

    if (tenant_revocation_count(page->call->tenant->store, &revocations, err) != 0)
        return -1;
    if (cc_buf_printf(&of, err, " of %lld", (long long)s->in_place) != 0)
        return -1;
    html_put(&page->html, "<section aria-label=\"At a glance\"><dl class=\"tiles\">\n");
    put_tile(page, "Connectors active", s->active, cc_buf_str(&of), "");
    put_tile(page, "Warnings", s->warnings, "", "warning");
    put_tile(page, "Errors", s->errors, "", "bad");
    put_tile(page, "Requests waiting", requests->by_state[TENANT_QUEUED], "", "");
    put_tile(page, "Requests in work", requests->by_state[TENANT_LEASED], "", "");
    put_tile(page, "Requests failed", requests->by_state[TENANT_FAILED], "", "bad");
    put_tile(page, "Revocations open",
            revocations.by_state[TENANT_REVOCATION_QUEUED] +
                    revocations.by_state[TENANT_REVOCATION_DELIVERED],
            "", "");
    html_put(&page->html, "</dl></section>\n");
    cc_buf_free(&of);
    return 0;
}

/* ---- connectors ---- */

static const char *const connector_columns[] = { "Connector", "Status", "Why", "Version",
    "Features", "In work", "Last contact" };

/* What it has in work, by its last health message. */
static void
put_queues(struct page *page, const struct tenant_connector *c)
{
    json_object *beat =
            c->heartbeat != NULL ? cc_json_parse(c->heartbeat, strlen(c->heartbeat), NULL) : NULL;
    json_object *queues = NULL;
    bool any = false;

    if (beat != NULL && cc_json_get_object(beat, "queues", &queues, NULL) == 0 && queues != NULL) {
        json_object_object_foreach(queues, name, value)
        {
            if (!json_object_is_type(value, json_type_int))
                continue;
            html_put(&page->html, "%s%s&nbsp;%lld", any ? ", " : "", page_feature(name),
                    (long long)json_object_get_int64(value));
            any = true;
        }
    }
    if (!any)
        html_put(&page->html, "–");
    json_object_put(beat);
}

static void
put_connector_row(struct page *page, const struct connector_view *v)
{
    const struct tenant_connector *c = v->connector;

    page_row_begin(page);
    page_head_cell(page, connector_columns[0]);
    page_connector_link(page, c);
    page_head_cell_end(page);
    page_cell(page, connector_columns[1]);
    page_connector_status(page, v);
    page_cell_end(page);
    page_cell(page, connector_columns[2]);
    page_connector_why(page, v);
    page_cell_end(page);
    page_text_cell(page, connector_columns[3], c->version);
    page_cell(page, connector_columns[4]);
    page_connector_features(page, c);
    page_cell_end(page);
    page_cell(page, connector_columns[5]);
    put_queues(page, c);
    page_cell_end(page);
    page_cell(page, connector_columns[6]);
    html_ago(&page->html, v->contact_ms, page->now_ms);
    page_cell_end(page);
    page_row_end(page);
}

static int
put_in_place(void *arg, const struct connector_view *v)
{
    if (!v->connector->removed)
        put_connector_row(arg, v);
    return 0;
}

static int
put_removed(void *arg, const struct connector_view *v)
{
    if (v->connector->removed)
        put_connector_row(arg, v);
    return 0;
}

static int
put_connectors(struct page *page, const struct summary *s, struct cc_err *err)
{
    int rc = 0;

    html_put(&page->html, "<section aria-labelledby=\"connectors\">"
                          "<h2 id=\"connectors\">Connectors</h2>\n");
    if (s->in_place == 0) {
        html_put(&page->html, "<p class=\"none\">None has been here yet. Start one with this "
                              "service as its own.</p>\n");
    } else {
        page_table_begin(page, "Connectors of this tenant", connector_columns,
                CC_COUNT(connector_columns));
        rc = connectors_each(page->call->tenant, put_in_place, page, err);
        page_table_end(page);
    }
    if (s->removed > 0 && rc == 0) {
        html_put(&page->html, "<details><summary>Removed (%lld)</summary>\n",
                (long long)s->removed);
        page_table_begin(page, "Connectors that were removed", connector_columns,
                CC_COUNT(connector_columns));
        rc = connectors_each(page->call->tenant, put_removed, page, err);
        page_table_end(page);
        html_put(&page->html, "</details>\n");
    }
    html_put(&page->html, "</section>\n");
    return rc;
}

/* ---- queues ---- */

static void
put_count(struct page *page, const char *column, const char *feature, const char *state,
        int64_t count)
{
    html_put(&page->html, "<td role=\"cell\" class=\"number\" data-column=\"%s\"><div>", column);
    if (count > 0)
        html_put(&page->html,
                "<a href=\"/admin/requests?feature=%s&amp;state=%s\" "
                "aria-label=\"%s %s: %lld\">%lld</a>",
                feature, state, page_feature(feature), column, (long long)count, (long long)count);
    else
        html_put(&page->html, "0");
    html_put(&page->html, "</div></td>");
}

static int
put_features(struct page *page, struct cc_err *err)
{
    static const char *const columns[] = { "Queue", "#Waiting", "#In work", "#Completed", "#Failed",
        "#Cancelled", "#Listening" };
    struct tenant *tenant = page->call->tenant;
    int64_t by_state[TENANT_STATES];

    html_put(&page->html, "<section aria-labelledby=\"queues\"><h2 id=\"queues\">Queues</h2>\n");
    page_table_begin(page, "Requests by feature, and connectors that wait for some", columns,
            CC_COUNT(columns));
    for (enum queue q = 0; q < QUEUES; q++) {
        const char *feature = queue_feature(q);

        if (tenant_count_feature(tenant->store, feature, by_state, err) != 0)
            return -1;
        page_row_begin(page);
        page_head_cell(page, columns[0]);
        html_put(&page->html, "%s", page_feature(feature));
        page_head_cell_end(page);
        for (int s = TENANT_QUEUED; s < TENANT_STATES; s++)
            put_count(page, columns[s] + 1, feature, tenant_state_name((enum tenant_state)s),
                    by_state[s]);
        page_number_cell(page, columns[6], (int64_t)parking_count(tenant->parking[q]));
        page_row_end(page);
    }
    page_table_end(page);
    html_put(&page->html, "</section>\n");
    return 0;
}

void
page_overview(struct call *call)
{
    struct page page;
    struct summary summary = { .page = &page };
    struct tenant_counts requests;
    struct cc_err err = { 0 };

    page_begin(&page, call, PAGE_OVERVIEW, "Overview");
    if (connectors_each(call->tenant, count_one, &summary, &err) != 0 ||
            tenant_count(call->tenant->store, &requests, &err) != 0 ||
            put_tiles(&page, &summary, &requests, &err) != 0 ||
            put_connectors(&page, &summary, &err) != 0 || put_features(&page, &err) != 0)
        page_fail(&page, &err);
    else
        page_end(&page, 200);
}
