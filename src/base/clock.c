/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/process.h"

#define MS_PER_S INT64_C(1000)
#define S_PER_DAY INT64_C(86400)
#define YEAR_0_MS INT64_C(-62167219200000)    /* 0000-01-01T00:00:00.000Z */
#define YEAR_9999_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

/* What a test has set; real clocks run while standing is false. */
static atomic_bool standing;
static _Atomic int64_t standing_now_ms;
static _Atomic int64_t standing_mono_ms;

static int64_t
read_clock(clockid_t id)
{
    struct timespec ts;

    if (clock_gettime(id, &ts) != 0)
        return 0; /* both clocks exist on every Linux that we run on */
    return (int64_t)ts.tv_sec * MS_PER_S + ts.tv_nsec / 1000000;
}

int64_t
cc_clock_now_ms(void)
{
    return atomic_load(&standing) ? atomic_load(&standing_now_ms) : read_clock(CLOCK_REALTIME);
}

int64_t
cc_clock_mono_ms(void)
{
    return atomic_load(&standing) ? atomic_load(&standing_mono_ms) : read_clock(CLOCK_MONOTONIC);
}

void
cc_clock_set(int64_t now_ms, int64_t mono_ms)
{
    atomic_store(&standing_now_ms, now_ms);
    atomic_store(&standing_mono_ms, mono_ms);
    atomic_store(&standing, true);
}

void
cc_clock_real(void)
{
    atomic_store(&standing, false);
}

int64_t
cc_deadline_in(int64_t ms)
{
    int64_t deadline;

    if (__builtin_add_overflow(cc_clock_mono_ms(), ms, &deadline))
        return ms > 0 ? INT64_MAX : INT64_MIN;
    return deadline;
}

int
cc_deadline_left(int64_t deadline)
{
    int64_t now = cc_clock_mono_ms();
    int64_t left;

    if (deadline <= now)
        return 0;
    if (__builtin_sub_overflow(deadline, now, &left) || left > INT_MAX)
        return INT_MAX;
    return (int)left;
}

void
cc_time_format(int64_t now_ms, char ret_text[CC_TIME_LEN])
{
    int64_t ms;
    time_t seconds;
    struct tm tm;

    /* The form has four digits for the year; what lies outside is shown as its nearest end. */
    if (now_ms < YEAR_0_MS)
        now_ms = YEAR_0_MS;
    if (now_ms > YEAR_9999_MS)
        now_ms = YEAR_9999_MS;
    ms = ((now_ms % MS_PER_S) + MS_PER_S) % MS_PER_S;
    seconds = (time_t)((now_ms - ms) / MS_PER_S);
    (void)gmtime_r(&seconds, &tm);
    /* The remainders change nothing and show the compiler how wide each number can get. */
    (void)snprintf(ret_text, CC_TIME_LEN, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
            (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
            (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
            (unsigned)tm.tm_sec % 100, (unsigned)ms % 1000);
}

/* The number that exactly count digits make; moves *p behind them. */
static bool
take_digits(const char **p, int count, int min, int max, int *ret)
{
    int value = 0;

    for (; count > 0; count--, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return value >= min && value <= max;
}

static bool
take_char(const char **p, const char *allowed)
{
    if (**p == '\0' || strchr(allowed, **p) == NULL)
        return false;
    (*p)++;
    return true;
}

/* Any number of digits, of which three count. */
static bool
take_fraction(const char **p, int *ret_ms)
{
    int scale = 100;

    *ret_ms = 0;
    if (!take_char(p, "."))
        return true;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; (*p)++, scale /= 10)
        *ret_ms += (**p - '0') * scale;
    return true;
}

static bool
take_offset(const char **p, int *ret_minutes)
{
    int sign, hours, minutes;

    *ret_minutes = 0;
    if (take_char(p, "Zz"))
        return true;
    sign = **p == '-' ? -1 : 1;
    if (!take_char(p, "+-") || !take_digits(p, 2, 0, 23, &hours) || !take_char(p, ":") ||
            !take_digits(p, 2, 0, 59, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

static int
days_in_month(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days from 1970-01-01 in the Gregorian calendar, counted from 1 March, so that the leap day comes last. */
static int64_t
days_since_1970(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t from_march = (month + 9) % 12;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * from_march + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

/* RFC 3339 section 5.6, date-time. */
static bool
parse_time(const char *p, int64_t *ret_ms)
{
    int year, month, day, hour, minute, second, ms, offset;
    int64_t seconds;

    if (!take_digits(&p, 4, 0, 9999, &year) || !take_char(&p, "-") ||
            !take_digits(&p, 2, 1, 12, &month) || !take_char(&p, "-") ||
            !take_digits(&p, 2, 1, days_in_month(year, month), &day) || !take_char(&p, "Tt ") ||
            !take_digits(&p, 2, 0, 23, &hour) || !take_char(&p, ":") ||
            !take_digits(&p, 2, 0, 59, &minute) || !take_char(&p, ":") ||
            !take_digits(&p, 2, 0, 60, &second) || !take_fraction(&p, &ms) ||
            !take_offset(&p, &offset) || *p != '\0')
        return false;
    seconds = days_since_1970(year, month, day) * S_PER_DAY + INT64_C(3600) * hour +
              INT64_C(60) * (minute - offset) + second;
    /* Section 5.7: a leap second is the last of a UTC day; it counts as the first of the next one. */
    if (second == 60 && seconds % S_PER_DAY != 0)
        return false;
    *ret_ms = seconds * MS_PER_S + ms;
    return true;
}

int
cc_time_parse(const char *text, int64_t *ret_ms, struct cc_err *err)
{
    int64_t ms;

    if (!parse_time(text, &ms))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "\"%.80s\" is not a time like 2026-11-01T12:34:56Z (RFC 3339)", text);
    *ret_ms = ms;
    return 0;
}

/* Without a random number the longest there can be. */
static uint64_t
some_random(void)
{
    uint64_t random;

    return cc_random(&random, sizeof(random), NULL) == 0 ? random : UINT64_MAX;
}

static int64_t
part_of(int64_t span, uint64_t random)
{
    return random == UINT64_MAX ? span : 1 + (int64_t)(random % (uint64_t)span);
}

int64_t
cc_backoff_of(uint64_t random, unsigned attempt, int64_t base_ms, int64_t cap_ms)
{
    int64_t span = base_ms < 1 ? 1 : base_ms;

    if (cap_ms < 1)
        cap_ms = 1;
    for (; attempt > 0 && span < cap_ms; attempt--)
        span = span > cap_ms / 2 ? cap_ms : span * 2;
    if (span > cap_ms)
        span = cap_ms;
    return part_of(span, random);
}

int64_t
cc_backoff_ms(unsigned attempt, int64_t base_ms, int64_t cap_ms)
{
    return cc_backoff_of(some_random(), attempt, base_ms, cap_ms);
}

int64_t
cc_lateness_of(uint64_t random, int64_t asked_ms, int64_t spread_ms)
{
    const int64_t span = asked_ms > spread_ms ? asked_ms : spread_ms;

    return part_of(span < 1 ? 1 : span, random);
}

int64_t
cc_lateness_ms(int64_t asked_ms, int64_t spread_ms)
{
    return cc_lateness_of(some_random(), asked_ms, spread_ms);
}
