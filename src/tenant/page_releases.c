/* SPDX-License-Identifier: MIT */
/* /admin/releases: the connector's releases, how long each is supported, and who still has it. */
#include "page_connectors.h"

#include <stdlib.h>
#include <string.h>

#define CLOCK_SHOWN_MS 60000 /* how much another time must differ to be worth a word */

struct users {
    const struct release *list;
    int64_t *counts;
    size_t count;
};

static int
count_user(void *arg, const struct connector_view *v)
{
    const struct users *u = arg;

    for (size_t i = 0; i < u->count; i++)
        if (!v->connector->removed && v->connector->version != NULL &&
                strcmp(v->connector->version, u->list[i].version) == 0)
            u->counts[i]++;
    return 0;
}

static void
put_status(struct page *page, const struct release *r, const struct lifecycle *l, int64_t now_ms)
{
    static const enum page_badge badges[LIFECYCLE_STATUSES] = { BADGE_GOOD, BADGE_WARNING,
        BADGE_BAD };

    if (r->release_ms > now_ms)
        page_badge(page, BADGE_IDLE, "Announced");
    else
        page_badge(page, badges[l->status], lifecycle_status_name(l->status));
}

static void
put_releases(struct page *page, const struct users *u)
{
    static const char *const columns[] = { "Version", "Status", "Released", "Supported until",
        "#Connectors" };
    struct releases *releases = page->call->tenant->releases;
    int64_t now_ms = releases_now_ms(releases);
    struct lifecycle l;

    page_table_begin(page, "Releases, the highest version first", columns, CC_COUNT(columns));
    for (size_t i = 0; i < u->count; i++) {
        releases_judge(releases, u->list[i].version, &l);
        page_row_begin(page);
        page_head_cell(page, columns[0]);
        html_put(&page->html, "%s", u->list[i].version);
        page_head_cell_end(page);
        page_cell(page, columns[1]);
        put_status(page, &u->list[i], &l, now_ms);
        page_cell_end(page);
        page_cell(page, columns[2]);
        html_time(&page->html, u->list[i].release_ms);
        page_cell_end(page);
        page_cell(page, columns[3]);
        if (l.successor[0] != '\0')
            html_time(&page->html, l.supported_until_ms);
        else
            html_put(&page->html, "No end yet");
        page_cell_end(page);
        page_number_cell(page, columns[4], u->counts[i]);
        page_row_end(page);
    }
    page_table_end(page);
}

/* What is judged by another time than the present one says so. */
static void
put_clock(struct page *page)
{
    int64_t now_ms = releases_now_ms(page->call->tenant->releases);

    if (llabs(now_ms - page->now_ms) < CLOCK_SHOWN_MS)
        return;
    html_put(&page->html, "<p class=\"trouble\">Versions are judged as of ");
    html_time(&page->html, now_ms);
    html_put(&page->html, ": the lifecycle's clock was set.</p>\n");
}

void
page_releases(struct call *call)
{
    struct release *list = NULL;
    struct users users = { .count = 0 };
    struct page page;
    struct cc_err err = { 0 };

    page_begin(&page, call, PAGE_RELEASES, "Releases");
    if (releases_list(call->tenant->releases, &list, &users.count, &err) != 0)
        goto fail;
    users.list = list;
    if ((users.counts = calloc(users.count + 1, sizeof(*users.counts))) == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (connectors_each(call->tenant, count_user, &users, &err) != 0)
        goto fail;
    html_put(&page.html, "<p class=\"lead\">A version is supported for six months after a higher "
                         "one was released: Warning during these months, Error after them.</p>\n");
    put_clock(&page);
    if (users.count > 0)
        put_releases(&page, &users);
    else
        html_put(&page.html,
                "<p class=\"none\">No release is known; every version is active.</p>\n");
    page_end(&page, 200);
    goto out;
fail:
    page_fail(&page, &err);
out:
    free(users.counts);
    free(list);
}
