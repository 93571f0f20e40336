/* SPDX-License-Identifier: MIT */
/* /admin/connector?id=: all that is known of a connector. */
#include "page_connectors.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define ITEMS_MAX 200 /* of a list that a connector sent */

void
page_connector_status(struct page *page, const struct connector_view *v)
{
    static const enum page_badge badges[LIFECYCLE_STATUSES] = { BADGE_GOOD, BADGE_WARNING,
        BADGE_BAD };
    enum lifecycle_status status = v->lifecycle.status;

    if (v->connector->removed || v->connector->version == NULL) {
        page_badge(page, BADGE_IDLE, v->connector->removed ? "Removed" : "Unknown");
        return;
    }
    if (v->active || status != LIFECYCLE_ACTIVE)
        page_badge(page, badges[status], lifecycle_status_name(status));
    if (!v->active) {
        html_put(&page->html, " ");
        page_badge(page, BADGE_IDLE, "Inactive");
    }
}

/* The members of the last heartbeat; NULL: there was none.  Yours to put. */
static json_object *
read_heartbeat(const struct tenant_connector *c)
{
    return c->heartbeat != NULL ? cc_json_parse(c->heartbeat, strlen(c->heartbeat), NULL) : NULL;
}

static size_t
list_len(json_object *beat, const char *name, json_object **ret)
{
    size_t count;

    if (beat == NULL || cc_json_get_array(beat, name, ret, NULL) != 0 || *ret == NULL)
        return 0;
    count = json_object_array_length(*ret);
    return count < ITEMS_MAX ? count : ITEMS_MAX;
}

/* NULL: absent, or no text. */
static const char *
text_of(json_object *obj, const char *name)
{
    const char *text = NULL;

    if (!json_object_is_type(obj, json_type_object) ||
            cc_json_get_str(obj, name, 65536, &text, NULL) != 0)
        return NULL;
    return text;
}

void
page_connector_why(struct page *page, const struct connector_view *v)
{
    json_object *beat = read_heartbeat(v->connector);
    json_object *issues = NULL;
    size_t count = list_len(beat, "issues", &issues);
    bool said = false;

    if (v->connector->removed) {
        html_put(&page->html, "Taken out; it can come back only by enrolling anew.");

        said = true;
    } else if (v->connector->version == NULL) {
        html_put(&page->html, "<p>It has sent no health message yet.</p>");
        said = true;
    } else if (v->lifecycle.reason[0] != '\0') {
        html_put(&page->html, "<p>The %s.</p>", v->lifecycle.reason);
        said = true;
    }
    if (!v->connector->removed && v->connector->version != NULL && !v->active) {
        html_put(&page->html, "<p>No health message in the last ten minutes.</p>");
        said = true;
    }
    for (size_t i = 0; i < count && !v->connector->removed; i++) {
        const char *text = text_of(json_object_array_get_idx(issues, i), "message");

        if (text == NULL)
            continue;
        html_put(&page->html, "<p>%s</p>", text);
        said = true;
        if (i == 2 && count > 3) {
            html_put(&page->html, "<p>… and %d more.</p>", (int)(count - 3));
            break;
        }
    }
    if (!said)
        html_put(&page->html, "%s",
                v->lifecycle.successor[0] != '\0' ? "Supported; a newer release is announced."
                                                  : "Up to date.");
    json_object_put(beat);
}

void
page_connector_link(struct page *page, const struct tenant_connector *c)
{
    html_put(&page->html, "<a href=\"/admin/connector?id=");
    html_query(&page->html, c->id);
    html_put(&page->html, "\">%s</a>", c->display_name != NULL ? c->display_name : c->id);
    if (c->machine_name != NULL)
        html_put(&page->html, "<span class=\"sub\">%s</span>", c->machine_name);
}

void
page_connector_features(struct page *page, const struct tenant_connector *c)
{
    json_object *list =
            c->features != NULL ? cc_json_parse(c->features, strlen(c->features), NULL) : NULL;
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < count; i++)
        html_put(&page->html, "%s%s", i > 0 ? ", " : "",
                page_feature(json_object_get_string(json_object_array_get_idx(list, i))));
    if (count == 0)
        html_put(&page->html, "–");
    json_object_put(list);
}

/* ---- the page ---- */

static void
put_facts(struct page *page, const struct connector_view *v, json_object *beat)
{
    const struct tenant_connector *c = v->connector;
    json_object *token = NULL;
    const char *started = text_of(beat, "startedDateTime");
    int64_t started_ms = 0;

    if (started != NULL && cc_time_parse(started, &started_ms, NULL) != 0)
        started_ms = 0;
    html_put(&page->html, "<section aria-labelledby=\"facts\"><h2 id=\"facts\">About</h2>\n"
                          "<dl class=\"facts\">");
    html_put(&page->html, "<div><dt>Status</dt><dd>");
    page_connector_status(page, v);
    html_put(&page->html, "</dd></div>\n<div><dt>Why</dt><dd>");
    page_connector_why(page, v);
    html_put(&page->html, "</dd></div>\n");
    page_fact(page, "Connector id", c->id);
    page_fact(page, "Machine", c->machine_name);
    page_fact(page, "Version", c->version);
    page_fact(page, "Latest version", v->lifecycle.latest);
    page_fact_time(page, "Supported until",
            v->lifecycle.successor[0] != '\0' ? v->lifecycle.supported_until_ms : 0);
    html_put(&page->html, "<div><dt>Features</dt><dd>");
    page_connector_features(page, c);
    html_put(&page->html, "</dd></div>\n");
    page_fact_time(page, "Last contact", v->contact_ms);
    page_fact_time(page, "Running since", started_ms);
    page_fact_time(page, "First contact", c->first_ms);
    page_fact_time(page, "Enrolled", c->enrolled_ms);
    page_fact_time(page, "Certificate until", c->certificate_expires_ms);
    if (beat != NULL && cc_json_get_object(beat, "token", &token, NULL) == 0 && token != NULL) {
        page_fact(page, "Token", text_of(token, "label"));
        page_fact(page, "Token state", text_of(token, "state"));
        page_fact(page, "Token model", text_of(token, "model"));
        page_fact(page, "Token manufacturer", text_of(token, "manufacturer"));
    }
    html_put(&page->html, "</dl></section>\n");
}

static void
put_issues(struct page *page, json_object *beat)
{
    static const char *const columns[] = { "Code", "Severity", "Message" };
    json_object *list = NULL;
    size_t count = list_len(beat, "issues", &list);

    html_put(&page->html, "<section aria-labelledby=\"issues\"><h2 id=\"issues\">Issues</h2>\n");
    if (count == 0) {
        html_put(&page->html, "<p class=\"none\">It reports none.</p></section>\n");
        return;
    }
    page_table_begin(page, "What the connector reports", columns, CC_COUNT(columns));
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_array_get_idx(list, i);
        const char *code = text_of(item, "code");

        page_row_begin(page);
        page_head_cell(page, columns[0]);
        html_put(&page->html, "%s", code != NULL ? code : "–");
        page_head_cell_end(page);
        page_text_cell(page, columns[1], text_of(item, "severity"));
        page_text_cell(page, columns[2], text_of(item, "message"));
        page_row_end(page);
    }
    page_table_end(page);
    html_put(&page->html, "</section>\n");
}

static void
put_certificates(struct page *page, json_object *beat)
{
    static const char *const columns[] = { "Certificate", "Expires" };
    json_object *list = NULL;
    size_t count = list_len(beat, "certificates", &list);

    if (count == 0)
        return;
    html_put(&page->html, "<section aria-labelledby=\"certificates\">"
                          "<h2 id=\"certificates\">Certificates</h2>\n");
    page_table_begin(page, "Certificates that it depends on", columns, CC_COUNT(columns));
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_array_get_idx(list, i);
        const char *role = text_of(item, "role");
        const char *until = text_of(item, "expirationDateTime");
        int64_t until_ms;

        page_row_begin(page);
        page_head_cell(page, columns[0]);
        html_put(&page->html, "%s", role != NULL ? role : "–");
        page_head_cell_end(page);
        page_cell(page, columns[1]);
        if (until != NULL && cc_time_parse(until, &until_ms, NULL) == 0) {
            html_time(&page->html, until_ms);
            html_put(&page->html, " (");
            html_ago(&page->html, until_ms, page->now_ms);
            html_put(&page->html, ")");
        } else {
            html_put(&page->html, "–");
        }
        page_cell_end(page);
        page_row_end(page);
    }
    page_table_end(page);
    html_put(&page->html, "</section>\n");
}

static int
put_metric(void *arg, const struct tenant_metric *m)
{
    struct page *page = arg;

    page_row_begin(page);
    page_head_cell(page, "Counter");
    html_put(&page->html, "%s", page_feature(m->name));
    page_head_cell_end(page);
    page_number_cell(page, "Value", m->value);
    page_number_cell(page, "Succeeded", m->succeeded);
    page_number_cell(page, "Failed", m->failed);
    page_cell(page, "Told");
    html_ago(&page->html, m->time_ms, page->now_ms);
    page_cell_end(page);
    page_row_end(page);
    return 0;
}

static int
put_metrics(struct page *page, const char *id, struct cc_err *err)
{
    static const char *const columns[] = { "Counter", "#Value", "#Succeeded", "#Failed", "Told" };
    int rc;

    html_put(&page->html, "<section aria-labelledby=\"health\"><h2 id=\"health\">Health</h2>\n");
    page_table_begin(page, "Counted since it started", columns, CC_COUNT(columns));
    rc = tenant_metric_list(page->call->tenant->store, id, put_metric, page, err);
    page_table_end(page);
    html_put(&page->html, "</section>\n");
    return rc;
}

struct looking {
    struct page *page;
    const char *id;
    bool found;
};

static int
put_connector(void *arg, const struct connector_view *v)
{
    struct looking *l = arg;
    const struct tenant_connector *c = v->connector;
    json_object *beat;

    if (strcmp(c->id, l->id) != 0)
        return 0;
    l->found = true;
    page_begin(l->page, l->page->call, PAGE_NOWHERE,
            c->display_name != NULL ? c->display_name : c->id);
    beat = read_heartbeat(c);
    put_facts(l->page, v, beat);
    put_issues(l->page, beat);
    put_certificates(l->page, beat);
    json_object_put(beat);
    return 1;
}

void
page_connector(struct call *call)
{
    struct page page = { .call = call };
    struct looking l = { .page = &page, .id = http_exchange_query(call->exchange, "id") };
    struct cc_err err = { 0 };

    if (l.id == NULL || connectors_each(call->tenant, put_connector, &l, &err) != 0) {
        if (l.id == NULL)
            cc_err_set(&err, CC_DOM_INPUT, 0, "The address names no connector.");
        page_fail(&page, &err);
    } else if (!l.found) {
        page_message(call, 404, "No such connector", "There is no connector of this name.");
    } else if (put_metrics(&page, l.id, &err) != 0) {
        page_fail(&page, &err);
    } else {
        page_end(&page, 200);
    }
}
