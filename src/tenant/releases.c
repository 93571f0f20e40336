/* SPDX-License-Identifier: MIT */
#include "releases.h"

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define SUPPORT_MONTHS 6
#define CLOCK_VALUE "lifecycle-ahead-ms"
#define CLOCK_MAX_MS (INT64_C(100) * 366 * 86400000)

struct releases {
    struct tenant_store *store;
    pthread_mutex_t lock; /* guards what follows */
    struct release list[RELEASES_MAX];
    size_t count; /* the highest version first */
    int64_t ahead_ms;
};

const char *
lifecycle_status_name(enum lifecycle_status status)
{
    static const char *const names[LIFECYCLE_STATUSES] = { "Active", "Warning", "Error" };

    return names[status];
}

/* ---- versions and months ---- */

/* The number at *at, which is moved behind it and a point. */
static unsigned long
next_number(const char **at)
{
    char *end;
    unsigned long number = 0;

    if (isdigit((unsigned char)**at)) {
        number = strtoul(*at, &end, 10);
        *at = *end == '.' ? end + 1 : end;
    }
    return number;
}

/* What is behind the numbers of versions: digits as numbers, so that rc9 comes before rc10. */
static int
compare_rest(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            char *behind_a, *behind_b;
            const unsigned long x = strtoul(a, &behind_a, 10), y = strtoul(b, &behind_b, 10);

            if (x != y)
                return x < y ? -1 : 1;
            a = behind_a;
            b = behind_b;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return (*a != '\0') - (*b != '\0');
}

int
release_compare(const char *a, const char *b)
{
    while (isdigit((unsigned char)*a) || isdigit((unsigned char)*b)) {
        unsigned long x = next_number(&a), y = next_number(&b);

        if (x != y)
            return x < y ? -1 : 1;
    }
    if (*a == '\0' || *b == '\0')
        return (*a == '\0') - (*b == '\0');
    return compare_rest(a, b);
}

bool
release_is_version(const char *text)
{
    size_t numbers = strspn(text, "0123456789.");

    if (!isdigit((unsigned char)text[0]) || strlen(text) > RELEASE_VERSION_MAX ||
            strstr(text, "..") != NULL || text[numbers - 1] == '.')
        return false;
    if (text[numbers] == '\0')
        return true;
    for (const char *c = text + numbers; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("-.+", *c) == NULL)
            return false;
    return text[numbers] == '-';
}

int64_t
release_add_months(int64_t time_ms, int months)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm;
    int month;

    if (gmtime_r(&seconds, &tm) == NULL)
        return time_ms;
    tm.tm_mon += months;
    month = ((tm.tm_mon % 12) + 12) % 12;
    seconds = timegm(&tm);
    /* February has no 31st: what went over into the next month goes back. */
    if (tm.tm_mon != month) {
        tm.tm_mday = 0;
        seconds = timegm(&tm);
    }
    return (int64_t)seconds * 1000 + time_ms % 1000;
}

/* ---- opening ---- */

/* With the lock, or alone.  By the text: 1.2 and 1.2.0 are as high as each other, and two.  NULL: there is none. */
static struct release *
find(struct releases *releases, const char *version)
{
    for (size_t i = 0; i < releases->count; i++)
        if (strcmp(releases->list[i].version, version) == 0)
            return &releases->list[i];
    return NULL;
}

/* With the lock, or alone.  Where there is no room, nothing happens. */
static void
insert(struct releases *releases, const char *version, int64_t release_ms)
{
    struct release *release = find(releases, version);
    size_t at = 0;

    if (release != NULL) {
        release->release_ms = release_ms;
        return;
    }
    if (releases->count == RELEASES_MAX)
        return;
    while (at < releases->count && release_compare(releases->list[at].version, version) > 0)
        at++;
    memmove(&releases->list[at + 1], &releases->list[at],
            (releases->count - at) * sizeof(releases->list[0]));
    releases->count++;
    (void)cc_strcpy(releases->list[at].version, sizeof(releases->list[at].version), version);
    releases->list[at].release_ms = release_ms;
}

static int
load_one(void *arg, const char *version, int64_t release_ms)
{
    insert(arg, version, release_ms);
    return 0;
}

static int
load_clock(struct releases *releases, struct cc_err *err)
{
    char *value = NULL;
    int rc = 0;

    if (tenant_value_get(releases->store, CLOCK_VALUE, &value, err) != 0)
        return -1;
    if (value != NULL)
        rc = cc_parse_int(value, -CLOCK_MAX_MS, CLOCK_MAX_MS, &releases->ahead_ms, err);
    free(value);
    return rc;
}

int
releases_open(struct tenant_store *store, struct releases **ret_releases, struct cc_err *err)
{
    struct releases *releases = calloc(1, sizeof(*releases));

    if (releases == NULL)
        return cc_err_nomem(err);
    releases->store = store;
    pthread_mutex_init(&releases->lock, NULL);
    if (tenant_release_list(store, load_one, releases, err) != 0 ||
            load_clock(releases, err) != 0) {
        releases_close(releases);
        return -1;
    }
    *ret_releases = releases;
    return 0;
}

void
releases_close(struct releases *releases)
{
    if (releases == NULL)
        return;
    pthread_mutex_destroy(&releases->lock);
    free(releases);
}

/* ---- what a version is ---- */

/* With the lock.  The higher one that was or will be released first, or NULL. */
static const struct release *
find_successor(const struct releases *releases, const char *version)
{
    const struct release *first = NULL;

    for (size_t i = 0; i < releases->count; i++) {
        const struct release *r = &releases->list[i];

        if (release_compare(r->version, version) <= 0)
            break;
        if (first == NULL || r->release_ms <= first->release_ms)
            first = r;
    }
    return first;
}

/* With the lock. */
static const char *
find_latest(const struct releases *releases, int64_t now_ms)
{
    for (size_t i = 0; i < releases->count; i++)
        if (releases->list[i].release_ms <= now_ms)
            return releases->list[i].version;
    return CC_VERSION;
}

/* "2026-11-01T12:00:00.000Z" is more than people need. */
static void
write_day(int64_t time_ms, char ret[CC_TIME_LEN])
{
    cc_time_format(time_ms, ret);
    ret[10] = '\0';
}

static void
write_reason(const char *version, struct lifecycle *l)
{
    char released[CC_TIME_LEN], until[CC_TIME_LEN], shown[RELEASE_VERSION_MAX + 1];

    write_day(l->successor_ms, released);
    write_day(l->supported_until_ms, until);
    (void)cc_escape_into(shown, sizeof(shown), version);
    if (l->status == LIFECYCLE_WARNING)
        (void)snprintf(l->reason, sizeof(l->reason),
                "version %s was followed by %s on %s and is supported until %s", shown,
                l->successor, released, until);
    else if (l->status == LIFECYCLE_ERROR)
        (void)snprintf(l->reason, sizeof(l->reason),
                "version %s was followed by %s on %s and is not supported since %s", shown,
                l->successor, released, until);
}

void
releases_judge(struct releases *releases, const char *version, struct lifecycle *ret)
{
    const struct release *successor = NULL;
    int64_t now_ms;

    *ret = (struct lifecycle){ .status = LIFECYCLE_ACTIVE };
    pthread_mutex_lock(&releases->lock);
    now_ms = cc_clock_now_ms() + releases->ahead_ms;
    (void)cc_strcpy(ret->latest, sizeof(ret->latest), find_latest(releases, now_ms));
    if (version != NULL && (successor = find_successor(releases, version)) != NULL) {
        (void)cc_strcpy(ret->successor, sizeof(ret->successor), successor->version);
        ret->successor_ms = successor->release_ms;
        ret->supported_until_ms = release_add_months(successor->release_ms, SUPPORT_MONTHS);
    }
    pthread_mutex_unlock(&releases->lock);
    if (successor == NULL || now_ms < ret->successor_ms)
        return;
    ret->status = now_ms < ret->supported_until_ms ? LIFECYCLE_WARNING : LIFECYCLE_ERROR;
    write_reason(version, ret);
}

/* ---- changes: the store first, so that nothing is shown that would not last ---- */

int
releases_put(struct releases *releases, const char *version, int64_t release_ms, struct cc_err *err)
{
    bool room;

    pthread_mutex_lock(&releases->lock);
    room = releases->count < RELEASES_MAX || find(releases, version) != NULL;
    pthread_mutex_unlock(&releases->lock);
    if (!room)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there are %d releases already", RELEASES_MAX);
    if (tenant_release_put(releases->store, version, release_ms, err) != 0)
        return -1;
    pthread_mutex_lock(&releases->lock);
    insert(releases, version, release_ms);
    pthread_mutex_unlock(&releases->lock);
    return 0;
}

int
releases_remove(struct releases *releases, const char *version, bool *ret_found, struct cc_err *err)
{
    struct release *release;

    if (tenant_release_remove(releases->store, version, ret_found, err) != 0)
        return -1;
    pthread_mutex_lock(&releases->lock);
    if ((release = find(releases, version)) != NULL) {
        const size_t behind = (size_t)(releases->list + releases->count - (release + 1));

        memmove(release, release + 1, behind * sizeof(*release));
        releases->count--;
    }
    pthread_mutex_unlock(&releases->lock);
    return 0;
}

int
releases_list(struct releases *releases, struct release **ret, size_t *ret_count,
        struct cc_err *err)
{
    struct release *copy;

    pthread_mutex_lock(&releases->lock);
    copy = calloc(releases->count + 1, sizeof(*copy));
    if (copy != NULL) {
        memcpy(copy, releases->list, releases->count * sizeof(*copy));
        *ret = copy;
        *ret_count = releases->count;
    }
    pthread_mutex_unlock(&releases->lock);
    return copy != NULL ? 0 : cc_err_nomem(err);
}

int64_t
releases_now_ms(struct releases *releases)
{
    int64_t ahead_ms;

    pthread_mutex_lock(&releases->lock);
    ahead_ms = releases->ahead_ms;
    pthread_mutex_unlock(&releases->lock);
    return cc_clock_now_ms() + ahead_ms;
}

int
releases_set_clock(struct releases *releases, int64_t ahead_ms, struct cc_err *err)
{
    char text[32];

    if (ahead_ms < -CLOCK_MAX_MS || ahead_ms > CLOCK_MAX_MS)
        return cc_err_set(err, CC_DOM_INPUT, 0, "more than a hundred years away");
    (void)snprintf(text, sizeof(text), "%" PRId64, ahead_ms);
    if (tenant_value_put(releases->store, CLOCK_VALUE, text, err) != 0)
        return -1;
    pthread_mutex_lock(&releases->lock);
    releases->ahead_ms = ahead_ms;
    pthread_mutex_unlock(&releases->lock);
    return 0;
}
