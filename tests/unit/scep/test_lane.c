/* SPDX-License-Identifier: MIT */
#include "scep/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/breaker.h"

#define WORKERS 4
#define NOW 1000000

static struct lanes *
open_lanes(unsigned count)
{
    struct lanes *lanes = lanes_new(WORKERS, count, NULL);

    assert_non_null(lanes);
    assert_int_equal(lanes_threads(lanes), WORKERS - 1 + count);
    return lanes;
}

static enum lane_entry
enter(struct lanes *lanes, unsigned lane, struct lane_visit *visit, int64_t now)
{
    visit->lane = lane;
    return lanes_enter(lanes, visit, now);
}

/* Ends one that failed or not, with nothing parked. */
static bool
end(struct lanes *lanes, unsigned lane, enum lane_verdict verdict, int64_t now)
{
    struct lane_visits refused;
    bool turned;

    assert_null(lanes_leave(lanes, lane, verdict, now, &refused, &turned));
    assert_true(STAILQ_EMPTY(&refused));
    return turned;
}

/* However many CAs hang, each other finds a worker; and what is parked is not lost. */
static void
test_each_finds_a_worker(void **state)
{
    struct lane_visit visits[3][WORKERS + 1];
    struct lanes *lanes = open_lanes(3);
    struct lane_visits refused;
    bool turned;

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(enter(lanes, 0, &visits[0][i], NOW), LANE_GO);
    assert_int_equal(enter(lanes, 0, &visits[0][WORKERS], NOW), LANE_PARKED);
    assert_int_equal(enter(lanes, 1, &visits[1][0], NOW), LANE_GO);
    assert_int_equal(enter(lanes, 1, &visits[1][1], NOW), LANE_PARKED);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(enter(lanes, 2, &visits[2][0], NOW), LANE_GO);
        assert_false(end(lanes, 2, LANE_ANSWERED, NOW));
    }
    /* The worker of lane 1 goes on with what is parked there; a shared one with what was parked first. */
    assert_ptr_equal(lanes_leave(lanes, 1, LANE_ANSWERED, NOW, &refused, &turned), &visits[1][1]);
    assert_ptr_equal(lanes_leave(lanes, 0, LANE_ANSWERED, NOW, &refused, &turned),
            &visits[0][WORKERS]);
    assert_false(end(lanes, 1, LANE_ANSWERED, NOW));
    lanes_free(lanes);
}

/* A CA that lets all its workers wait has no more of its devices wait with them. */
static void
test_hanging_lane_turns_away(void **state)
{
    struct lane_visit visits[WORKERS + 1];
    struct lanes *lanes = open_lanes(2);

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(enter(lanes, 0, &visits[i], NOW), LANE_GO);
    assert_int_equal(enter(lanes, 0, &visits[WORKERS], NOW + LANE_HANGS_MS), LANE_BUSY);
    assert_false(end(lanes, 0, LANE_ANSWERED, NOW + LANE_HANGS_MS));
    assert_int_equal(enter(lanes, 0, &visits[WORKERS], NOW + LANE_HANGS_MS), LANE_GO);
    lanes_free(lanes);
}

/* With one CA there is nobody to be kept waiting by it. */
static void
test_single_lane_never_hangs(void **state)
{
    struct lane_visit visits[WORKERS + 1];
    struct lanes *lanes = open_lanes(1);

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(enter(lanes, 0, &visits[i], NOW), LANE_GO);
    assert_int_equal(enter(lanes, 0, &visits[WORKERS], NOW + LANE_HANGS_MS), LANE_PARKED);
    lanes_free(lanes);
}

/* After failures in a row one message at a time; those that were parked are turned away, other lanes are not touched. */
static void
test_sick_lane_is_probed(void **state)
{
    struct lane_visit visits[WORKERS], parked[2], other;
    struct lanes *lanes = open_lanes(2);
    struct lane_visits refused;
    int64_t now = NOW;
    bool turned;

    (void)state;
    for (unsigned i = 0; i < CC_BREAKER_FAILURES - 1; i++) {
        assert_int_equal(enter(lanes, 0, &visits[0], now), LANE_GO);
        assert_false(end(lanes, 0, LANE_FAILED, now));
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(enter(lanes, 0, &visits[i], now), LANE_GO);
    assert_int_equal(enter(lanes, 0, &parked[0], now), LANE_PARKED);
    assert_int_equal(enter(lanes, 0, &parked[1], now), LANE_PARKED);
    assert_null(lanes_leave(lanes, 0, LANE_FAILED, now, &refused, &turned));
    assert_true(turned);
    assert_ptr_equal(STAILQ_FIRST(&refused), &parked[0]);
    assert_ptr_equal(STAILQ_NEXT(&parked[0], next), &parked[1]);
    for (unsigned i = 1; i < WORKERS; i++)
        assert_false(end(lanes, 0, LANE_FAILED, now));
    assert_int_equal(enter(lanes, 0, &visits[0], now), LANE_BUSY);
    assert_int_equal(enter(lanes, 1, &other, now), LANE_GO);
    now += CC_BREAKER_RETRY_MAX_MS;
    assert_int_equal(enter(lanes, 0, &visits[0], now), LANE_GO);
    assert_int_equal(enter(lanes, 0, &visits[1], now), LANE_BUSY);
    assert_true(end(lanes, 0, LANE_ANSWERED, now));
    assert_int_equal(enter(lanes, 0, &visits[0], now), LANE_GO);
    assert_int_equal(enter(lanes, 0, &visits[1], now), LANE_GO);
    lanes_free(lanes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_finds_a_worker),
        cmocka_unit_test(test_hanging_lane_turns_away),
        cmocka_unit_test(test_single_lane_never_hangs),
        cmocka_unit_test(test_sick_lane_is_probed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
