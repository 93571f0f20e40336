/* SPDX-License-Identifier: MIT */
#include "base/breaker.h"

#include <limits.h>

#include "base/clock.h"

bool
cc_breaker_is_open(const struct cc_breaker *breaker)
{
    return breaker->failures >= CC_BREAKER_FAILURES;
}

bool
cc_breaker_begin(struct cc_breaker *breaker, int64_t now)
{
    if (cc_breaker_is_open(breaker) && (breaker->calls > 0 || now < breaker->probe_at))
        return false;
    breaker->calls++;
    return true;
}

bool
cc_breaker_end(struct cc_breaker *breaker, bool answered, int64_t now)
{
    const bool was_open = cc_breaker_is_open(breaker);

    breaker->calls--;
    if (answered) {
        breaker->failures = 0;
        return was_open;
    }
    if (breaker->failures < UINT_MAX)
        breaker->failures++;
    if (!cc_breaker_is_open(breaker))
        return false;
    breaker->probe_at = now + cc_backoff_ms(breaker->failures - CC_BREAKER_FAILURES,
                                      CC_BREAKER_RETRY_MS, CC_BREAKER_RETRY_MAX_MS);
    return !was_open;
}

void
cc_breaker_cancel(struct cc_breaker *breaker)
{
    breaker->calls--;
}
