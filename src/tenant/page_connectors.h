/* SPDX-License-Identifier: MIT */
#ifndef TENANT_PAGE_CONNECTORS_H
#define TENANT_PAGE_CONNECTORS_H

/* How the status page shows a connector. */

#include "connectors.h"
#include "page.h"

/* Its badges, and what they say in words. */
void page_connector_status(struct page *page, const struct connector_view *v);
void page_connector_why(struct page *page, const struct connector_view *v);

/* A link to its page, and its name. */
void page_connector_link(struct page *page, const struct tenant_connector *c);

/* The features of its JSON array, as people write them. */
void page_connector_features(struct page *page, const struct tenant_connector *c);

#endif
