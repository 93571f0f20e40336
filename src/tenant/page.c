/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "page_style.h"

static const char html_type[] = "text/html; charset=utf-8";

void
page_headers(struct http_header ret[PAGE_HEADERS])
{
    ret[0] = (struct http_header){ "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'" };
    ret[1] = (struct http_header){ "X-Content-Type-Options", "nosniff" };
    ret[2] = (struct http_header){ "Cache-Control", "no-store" };
    /* Not no-referrer: with that a form's Origin would be null. */
    ret[3] = (struct http_header){ "Referrer-Policy", "same-origin" };
}

/* ---- the frame ---- */

static void
put_nav_item(struct page *page, bool here, const char *path, const char *name)
{
    html_put(&page->html, "<li><a href=\"%s\"", path);
    if (here)
        html_put(&page->html, " aria-current=\"page\"");
    html_put(&page->html, ">%s</a></li>", name);
}

static void
put_nav(struct page *page, enum page_place place)
{
    html_put(&page->html, "<nav aria-label=\"Pages\"><ul>");
    put_nav_item(page, place == PAGE_OVERVIEW, "/admin", "Overview");
    put_nav_item(page, place == PAGE_REQUESTS, "/admin/requests", "Requests");
    put_nav_item(page, place == PAGE_RELEASES, "/admin/releases", "Releases");
    html_put(&page->html,
            "</ul></nav><form class=\"sign-out\" method=\"post\" action=\"/admin/sign-out\">"
            "<button type=\"submit\" class=\"quiet\">Sign out</button></form>");
}

static void
begin(struct page *page, struct call *call, const char *title)
{
    *page = (struct page){ .call = call,
        .out = CC_BUF_INIT(PAGE_MAX_BYTES),
        .now_ms = cc_clock_now_ms() };
    page->html.out = &page->out;
    html_put(&page->html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n"
            "<title>%s – %s</title>\n<link rel=\"icon\" href=\"/admin/icon.svg\" "
            "type=\"image/svg+xml\">\n"
            "<link rel=\"stylesheet\" href=\"/admin/style.css\">\n</head>\n<body>\n"
            "<a class=\"skip\" href=\"#content\">Skip to content</a>\n",
            title, call->tenant->settings->name);
}

static void
put_brand(struct page *page)
{
    html_put(&page->html,
            "<p class=\"brand\"><img src=\"/admin/icon.svg\" alt=\"\" width=\"28\" height=\"28\">"
            "<span><strong>Certificate connectors</strong> <span>%s</span></span></p>",
            page->call->tenant->settings->name);
}

static void
put_heading(struct page *page, const char *title)
{
    html_put(&page->html, "<main id=\"content\" tabindex=\"-1\">\n<h1>%s</h1>\n", title);
}

void
page_begin(struct page *page, struct call *call, enum page_place place, const char *title)
{
    begin(page, call, title);
    html_put(&page->html, "<header><div class=\"bar\">");
    put_brand(page);
    put_nav(page, place);
    html_put(&page->html, "</div></header>\n");
    put_heading(page, title);
}

static void
end(struct page *page, unsigned status, const struct http_header *more)
{
    struct http_header headers[PAGE_HEADERS + 1];
    size_t count = PAGE_HEADERS;

    page_headers(headers);
    if (more != NULL)
        headers[count++] = *more;
    html_put(&page->html,
            "</main>\n<footer><p>certconnector-tenant " CC_VERSION " <span>– as of </span>");
    html_time(&page->html, page->now_ms);
    html_put(&page->html, "</p></footer>\n</body>\n</html>\n");
    if (page->html.failed) {
        cc_log(CC_LOG_ERROR, TENANT_ROOM, "page: %s", cc_err_text(&page->html.err));
        call_reply(page->call, 500, headers, count, "text/plain", "the page could not be made", 26);
    } else {
        call_reply(page->call, status, headers, count, html_type, page->out.data, page->out.len);
    }
    cc_buf_free(&page->out);
}

void
page_end(struct page *page, unsigned status)
{
    end(page, status, NULL);
}

void
page_message(struct call *call, unsigned status, const char *title, const char *text)
{
    struct page page;

    page_begin(&page, call, PAGE_NOWHERE, title);
    html_put(&page.html, "<p>%s</p><p><a href=\"/admin\">Back to the overview</a></p>\n", text);
    page_end(&page, status);
}

void
page_fail(struct page *page, const struct cc_err *err)
{
    struct call *call = page->call;
    bool theirs = err->domain == CC_DOM_INPUT;

    cc_buf_free(&page->out);
    if (!theirs)
        cc_log(CC_LOG_ERROR, TENANT_ROOM, "page: %s", cc_err_text(err));
    page_message(call, theirs ? 400 : 503, theirs ? "That does not work" : "Not now",
            theirs ? cc_err_text(err)
                   : "The service could not read its state. Its log says why; try again later.");
}

/* ---- tables ---- */

/* A column of numbers has "#" before its name. */
static bool
is_number(const char *column)
{
    return column[0] == '#';
}

static const char *
column_name(const char *column)
{
    return is_number(column) ? column + 1 : column;
}

void
page_table_begin(struct page *page, const char *caption, const char *const *columns, size_t count)
{
    html_put(&page->html,
            "<div class=\"sheet\"><table role=\"table\"><caption>%s</caption>"
            "<thead role=\"rowgroup\"><tr role=\"row\">",
            caption);
    for (size_t i = 0; i < count; i++)
        html_put(&page->html, "<th scope=\"col\" role=\"columnheader\" class=\"%s\">%s</th>",
                is_number(columns[i]) ? "number" : "text", column_name(columns[i]));
    html_put(&page->html, "</tr></thead><tbody role=\"rowgroup\">\n");
}

void
page_table_end(struct page *page)
{
    html_put(&page->html, "</tbody></table></div>\n");
}

void
page_row_begin(struct page *page)
{
    html_put(&page->html, "<tr role=\"row\">");
}

void
page_row_end(struct page *page)
{
    html_put(&page->html, "</tr>\n");
}

void
page_head_cell(struct page *page, const char *column)
{
    html_put(&page->html, "<th scope=\"row\" role=\"rowheader\" data-column=\"%s\"><div>",
            column_name(column));
}

void
page_head_cell_end(struct page *page)
{
    html_put(&page->html, "</div></th>");
}

void
page_cell(struct page *page, const char *column)
{
    html_put(&page->html, "<td role=\"cell\" data-column=\"%s\"><div>", column_name(column));
}

void
page_cell_end(struct page *page)
{
    html_put(&page->html, "</div></td>");
}

void
page_text_cell(struct page *page, const char *column, const char *text)
{
    page_cell(page, column);
    html_put(&page->html, "%s", text != NULL && text[0] != '\0' ? text : "–");
    page_cell_end(page);
}

void
page_number_cell(struct page *page, const char *column, int64_t number)
{
    html_put(&page->html,
            "<td role=\"cell\" class=\"number\" data-column=\"%s\"><div>%lld</div></td>",
            column_name(column), (long long)number);
}

/* ---- facts and badges ---- */

void
page_fact(struct page *page, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0')
        html_put(&page->html, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, text);
}

void
page_fact_time(struct page *page, const char *name, int64_t time_ms)
{
    if (time_ms == 0)
        return;
    html_put(&page->html, "<div><dt>%s</dt><dd>", name);
    html_time(&page->html, time_ms);
    html_put(&page->html, " (");
    html_ago(&page->html, time_ms, page->now_ms);
    html_put(&page->html, ")</dd></div>\n");
}

void
page_badge(struct page *page, enum page_badge badge, const char *text)
{
    static const struct {
        const char *class, *mark;
    } badges[] = { [BADGE_GOOD] = { "good", "●" },
        [BADGE_WARNING] = { "warning", "▲" },
        [BADGE_BAD] = { "bad", "■" },
        [BADGE_IDLE] = { "idle", "○" },
        [BADGE_BUSY] = { "busy", "◐" } };

    html_put(&page->html,
            "<span class=\"badge %s\"><span aria-hidden=\"true\">%s</span>&nbsp;%s</span>",
            badges[badge].class, badges[badge].mark, text);
}

void
page_request_state(struct page *page, enum tenant_state state)
{
    static const struct {
        enum page_badge badge;
        const char *text;
    } states[TENANT_STATES] = { [TENANT_QUEUED] = { BADGE_IDLE, "Queued" },
        [TENANT_LEASED] = { BADGE_BUSY, "In work" },
        [TENANT_COMPLETED] = { BADGE_GOOD, "Completed" },
        [TENANT_FAILED] = { BADGE_BAD, "Failed" },
        [TENANT_CANCELLED] = { BADGE_IDLE, "Cancelled" } };

    if (state >= TENANT_QUEUED && state < TENANT_STATES)
        page_badge(page, states[state].badge, states[state].text);
}

const char *
page_feature(const char *feature)
{
    static const struct {
        const char *feature, *name;
    } names[] = { { TENANT_FEATURE_PKCS, "PKCS" }, { TENANT_FEATURE_PFX_IMPORT, "PFX import" },
        { TENANT_FEATURE_SCEP, "SCEP" }, { TENANT_FEATURE_REVOCATION, "Revocation" } };

    for (size_t i = 0; i < CC_COUNT(names); i++)
        if (strcmp(names[i].feature, feature) == 0)
            return names[i].name;
    return feature;
}

/* ---- what is no page ---- */

static void
reply_file(struct call *call, const char *type, const char *text)
{
    struct http_header headers[PAGE_HEADERS];

    page_headers(headers);
    call_reply(call, 200, headers, PAGE_HEADERS, type, text, strlen(text));
}

void
page_style(struct call *call)
{
    reply_file(call, "text/css; charset=utf-8", page_style_css);
}

void
page_icon(struct call *call)
{
    reply_file(call, "image/svg+xml", page_icon_svg);
}

/* ---- sign-in: see page_signin.c ---- */

void
page_sign_in_form(struct call *call, unsigned status, const char *trouble)
{
    struct page page;

    begin(&page, call, "Sign in");
    html_put(&page.html, "<div class=\"door\">\n<header>");
    put_brand(&page);
    html_put(&page.html, "</header>\n");
    put_heading(&page, "Sign in");
    if (trouble != NULL)
        html_put(&page.html, "<p class=\"trouble\" id=\"trouble\" role=\"alert\">%s</p>\n",
                trouble);
    html_put(&page.html,
            "<form method=\"post\" action=\"/admin/sign-in\" class=\"sign-in\">\n"
            "<label for=\"token\">Administration token</label>\n"
            "<input id=\"token\" name=\"token\" type=\"password\" required "
            "autocomplete=\"current-password\" spellcheck=\"false\" aria-describedby=\"hint%s\"%s>\n"
            "<p id=\"hint\" class=\"hint\">The service printed it at its first start and keeps it in "
            "its file <code>admin.token</code>.</p>\n"
            "<button type=\"submit\">Sign in</button>\n</form>\n",
            trouble != NULL ? " trouble" : "", "");
    page_end(&page, status);
}
