/* SPDX-License-Identifier: MIT */
#ifndef TENANT_PAGE_STYLE_H
#define TENANT_PAGE_STYLE_H

/* What goes with every page: headers, the style sheet, the icon, and the form at the door. */

#include "tenant_int.h"

#define PAGE_HEADERS 4
void page_headers(struct http_header ret[PAGE_HEADERS]);

extern const char page_style_css[];
extern const char page_icon_svg[];

/* trouble: what was wrong with the last try, or NULL.  Ends the call. */
void page_sign_in_form(struct call *call, unsigned status, const char *trouble);

#endif
