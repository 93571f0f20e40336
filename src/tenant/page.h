/* SPDX-License-Identifier: MIT */
#ifndef TENANT_PAGE_H
#define TENANT_PAGE_H

/* The frame of the status page: head, navigation, tables, sign-in, and the headers that keep all else out. */

#include "html.h"
#include "tenant_int.h"

#define PAGE_MAX_BYTES ((size_t)8 << 20)

enum page_place { PAGE_OVERVIEW, PAGE_REQUESTS, PAGE_RELEASES, PAGE_NOWHERE };

struct page {
    struct call *call;
    struct cc_buf out;
    struct html html;
    int64_t now_ms;
};

/* Opens <main> with its heading.  Ended by page_end() or page_fail(), which end the call, too. */
void page_begin(struct page *page, struct call *call, enum page_place place, const char *title);
void page_end(struct page *page, unsigned status);
void page_fail(struct page *page, const struct cc_err *err);

/* A page that says that there is no such thing, or what is wrong; ends the call. */
void page_message(struct call *call, unsigned status, const char *title, const char *text);

/*
 * A table that becomes a list on narrow screens: with its roles said, which it would lose by that.  Each cell is opened
 * with its column's name, as the list has it beside the cell; the first of a row heads it.  A column of numbers has "#"
 * before its name.
 */
void page_table_begin(struct page *page, const char *caption, const char *const *columns,
        size_t count);
void page_row_begin(struct page *page);
void page_head_cell(struct page *page, const char *column); /* closed by page_head_cell_end() */
void page_head_cell_end(struct page *page);
void page_cell(struct page *page, const char *column); /* closed by page_cell_end() */
void page_cell_end(struct page *page);
void page_text_cell(struct page *page, const char *column,
        const char *text); /* NULL or "": a dash */
void page_number_cell(struct page *page, const char *column, int64_t number);
void page_row_end(struct page *page);
void page_table_end(struct page *page);

/* A list of facts: <dl>. */
void page_fact(struct page *page, const char *name, const char *text); /* NULL or "": left out */
void page_fact_time(struct page *page, const char *name, int64_t time_ms); /* 0: left out */

/* Words with a mark, so that nothing is said by colour alone. */
enum page_badge { BADGE_GOOD, BADGE_WARNING, BADGE_BAD, BADGE_IDLE, BADGE_BUSY };
void page_badge(struct page *page, enum page_badge badge, const char *text);
void page_request_state(struct page *page, enum tenant_state state);

/* A feature's name as people write it. */
const char *page_feature(const char *feature);

#endif
