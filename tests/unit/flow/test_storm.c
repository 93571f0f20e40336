/* SPDX-License-Identifier: MIT */
/*
 * A hundred connectors and a service that comes back after five minutes: how many calls meet it.  A simulation with a
 * clock and random numbers of its own, but with the pauses of the flows.  What is compared is the mean over many seeds of
 * the busiest five seconds with what five seconds see when there is no work, each connector with a long poll.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "flow/flow_int.h"

#define INSTANCES 100
#define POLL_MS 30000 /* what a download waits for work when there is none, by default */
#define OUTAGE_MS 300000
#define SEEDS 200
#define WINDOW_MS 5000
#define NORMAL ((double)INSTANCES * WINDOW_MS / POLL_MS) /* calls in a window */

/* splitmix64 */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct calls {
    unsigned in_second[POLL_MS * 4 / 1000];
};

static void
count_call(struct calls *calls, int64_t ms_after_return)
{
    const size_t second = (size_t)(ms_after_return / 1000);

    if (ms_after_return >= 0 && second < sizeof(calls->in_second) / sizeof(calls->in_second[0]))
        calls->in_second[second]++;
}

/* Of all windows of whole seconds the busiest. */
static unsigned
busiest(const struct calls *calls)
{
    const size_t seconds = sizeof(calls->in_second) / sizeof(calls->in_second[0]);
    unsigned most = 0;

    for (size_t i = 0; i + WINDOW_MS / 1000 <= seconds; i++) {
        unsigned sum = 0;

        for (size_t k = 0; k < WINDOW_MS / 1000; k++)
            sum += calls->in_second[i + k];
        most = sum > most ? sum : most;
    }
    return most;
}

/* From its first call that is answered on, a connector polls as ever. */
static void
poll_on(struct calls *calls, int64_t since_return)
{
    for (unsigned i = 0; i < 4; i++)
        count_call(calls, since_return + (int64_t)i * POLL_MS);
}

/* When a connector that failed since the outage began first calls after it. */
static int64_t
first_call(uint64_t *random, bool jitter)
{
    int64_t at = (int64_t)(next_random(random) % 1000);

    for (unsigned failures = 0; at < OUTAGE_MS; failures++)
        at += cc_backoff_of(jitter ? next_random(random) : UINT64_MAX, failures,
                FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS);
    return at - OUTAGE_MS;
}

static double
mean_after_outage(bool jitter)
{
    double sum = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct calls calls = { { 0 } };
        uint64_t random = seed;

        for (unsigned i = 0; i < INSTANCES; i++)
            poll_on(&calls, first_call(&random, jitter));
        sum += busiest(&calls);
    }
    return sum / SEEDS;
}

static void
test_after_an_outage(void **state)
{
    (void)state;
    assert_true(mean_after_outage(true) <= 2 * NORMAL);
    /* That the simulation would show a storm. */
    assert_true(mean_after_outage(false) > 3 * NORMAL);
}

/* All were told at once to come again in half a minute. */
static double
mean_after_retry_after(bool jitter)
{
    const int64_t asked = 30000;
    double sum = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct calls calls = { { 0 } };
        uint64_t random = seed;

        for (unsigned i = 0; i < INSTANCES; i++)
            poll_on(&calls, jitter ? cc_lateness_of(next_random(&random), asked, 500) : 0);
        sum += busiest(&calls);
    }
    return sum / SEEDS;
}

static void
test_after_retry_after(void **state)
{
    (void)state;
    assert_true(mean_after_retry_after(true) <= 2 * NORMAL);
    assert_true(mean_after_retry_after(false) > 3 * NORMAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_an_outage),
        cmocka_unit_test(test_after_retry_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
