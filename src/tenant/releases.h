/* SPDX-License-Identifier: MIT */
#ifndef TENANT_RELEASES_H
#define TENANT_RELEASES_H

/*
 * The releases of the connector, and what they make of a version: it is supported for six months after its successor's
 * release.  The successor of a version is whichever higher one was released first.
 *
 * The lifecycle has a clock of its own, ahead of or behind the real one, so that months can be gone through at once.
 * In memory, written through to the store; any thread.
 */

#include "tenant_int.h"

#define RELEASE_VERSION_MAX 64 /* bytes of a version */
#define RELEASES_MAX 1000

enum lifecycle_status { LIFECYCLE_ACTIVE, LIFECYCLE_WARNING, LIFECYCLE_ERROR };
#define LIFECYCLE_STATUSES (LIFECYCLE_ERROR + 1)
const char *lifecycle_status_name(enum lifecycle_status status); /* "Active" … as on the wire */

struct lifecycle {
    enum lifecycle_status status;
    char latest[RELEASE_VERSION_MAX + 1];    /* the highest version that is released */
    char successor[RELEASE_VERSION_MAX + 1]; /* "": there is none, and no end of the support */
    int64_t successor_ms, supported_until_ms;
    char reason[256]; /* "" while it is active */
};

CC_MUST int releases_open(struct tenant_store *store, struct releases **ret_releases,
        struct cc_err *err);
void releases_close(struct releases *releases); /* accepts NULL */

/* version: the peer's text; NULL: not told yet. */
void releases_judge(struct releases *releases, const char *version, struct lifecycle *ret);

/* Adds a release, or changes its date. */
CC_MUST int releases_put(struct releases *releases, const char *version, int64_t release_ms,
        struct cc_err *err);
CC_MUST int releases_remove(struct releases *releases, const char *version, bool *ret_found,
        struct cc_err *err);

struct release {
    char version[RELEASE_VERSION_MAX + 1];
    int64_t release_ms;
};
/* A copy of them all, the highest version first; yours to free. */
CC_MUST int releases_list(struct releases *releases, struct release **ret, size_t *ret_count,
        struct cc_err *err);

int64_t releases_now_ms(struct releases *releases);
CC_MUST int releases_set_clock(struct releases *releases, int64_t ahead_ms, struct cc_err *err);

/* Negative, 0, positive, as of strcmp(): by the numbers, then "1.0.0-rc1" before "1.0.0". */
int release_compare(const char *a, const char *b);
bool release_is_version(const char *text);

/* The same day and time of day so many months later; the month's last day where it has none such. */
int64_t release_add_months(int64_t time_ms, int months);

#endif
