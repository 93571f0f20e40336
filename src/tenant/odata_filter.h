/* SPDX-License-Identifier: MIT */
#ifndef TENANT_ODATA_FILTER_H
#define TENANT_ODATA_FILTER_H

/*
 * The part of OData's $filter that Graph's clients use on the collections here: comparisons with eq, a property or
 * tolower(property) against a text in single quotes (a quote inside is doubled), joined by and, with parentheses.
 * (OData 4.01 URL Conventions, section 5.1.1.)  Keywords in any case, as Graph takes them.  Pure; any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

#define ODATA_TERMS_MAX 8
#define ODATA_DEPTH_MAX 8

struct odata_term {
    char property[64];
    bool tolower; /* the property's lower-case form is compared */
    char value[512];
};

struct odata_filter {
    struct odata_term terms[ODATA_TERMS_MAX];
    size_t count;
};

/* -1 with CC_DOM_INPUT: not such a filter. */
CC_MUST int odata_filter_parse(const char *text, struct odata_filter *ret, struct cc_err *err);

/* The term for a property (any case), or NULL. */
const struct odata_term *odata_filter_find(const struct odata_filter *filter, const char *property);

#endif
