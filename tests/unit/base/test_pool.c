/* SPDX-License-Identifier: MIT */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

#define FAR (cc_deadline_in(60000))

/* Jobs wait at a gate until the test opens it. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int waiting;
};

#define GATE_INIT                                                                                  \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0                              \
    }

static void
gate_pass(void *arg)
{
    struct gate *gate = arg;

    pthread_mutex_lock(&gate->lock);
    gate->waiting++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void
gate_await(struct gate *gate, int count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->waiting < count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void
gate_open(void *arg)
{
    struct gate *gate = arg;

    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void
count_up(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void
bad_sizes_are_refused(void **state)
{
    static const struct {
        unsigned threads;
        size_t queue;
    } cases[] = { { 0, 1 }, { 1, 0 }, { 100000, 1 }, { 1, SIZE_MAX } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };

        assert_null(cc_pool_open("test", cases[i].threads, cases[i].queue, &err));
        assert_int_equal(err.domain, CC_DOM_INTERNAL);
        assert_int_equal(err.code, EINVAL);
    }
    cc_pool_close(NULL);
}

static void
every_job_runs_once(void **state)
{
    struct cc_pool *pool = cc_pool_open("a rather long name", 4, 2000, NULL);
    atomic_int count = 0;
    int i;

    (void)state;
    assert_non_null(pool);
    for (i = 0; i < 2000; i++)
        assert_true(cc_pool_submit(pool, count_up, &count));
    assert_true(cc_pool_drain(pool, FAR));
    assert_int_equal(count, 2000);
    assert_int_equal(cc_pool_queued(pool), 0);
    cc_pool_close(pool);
}

static void
full_queue_refuses(void **state)
{
    struct gate gate = GATE_INIT;
    struct cc_pool *pool = cc_pool_open("test", 1, 2, NULL);
    atomic_int count = 0;

    (void)state;
    assert_non_null(pool);
    assert_true(cc_pool_submit(pool, gate_pass, &gate));
    gate_await(&gate, 1);
    assert_int_equal(cc_pool_queued(pool), 0);
    assert_true(cc_pool_submit(pool, count_up, &count));
    assert_true(cc_pool_submit(pool, count_up, &count));
    assert_int_equal(cc_pool_queued(pool), 2);
    assert_false(cc_pool_submit(pool, count_up, &count));
    gate_open(&gate);
    assert_true(cc_pool_drain(pool, FAR));
    assert_int_equal(count, 2);
    assert_true(cc_pool_submit(pool, count_up, &count));
    cc_pool_close(pool);
    assert_int_equal(count, 3);
}

static void
as_many_at_once_as_threads(void **state)
{
    struct gate gate = GATE_INIT;
    struct cc_pool *pool = cc_pool_open("test", 3, 4, NULL);
    int i;

    (void)state;
    assert_non_null(pool);
    for (i = 0; i < 4; i++)
        assert_true(cc_pool_submit(pool, gate_pass, &gate));
    gate_await(&gate, 3);
    assert_int_equal(cc_pool_queued(pool), 1);
    gate_open(&gate);
    cc_pool_close(pool);
    assert_int_equal(gate.waiting, 4);
}

struct order {
    int next;
    bool kept;
};

struct numbered {
    struct order *order;
    int number;
};

static void
check_turn(void *arg)
{
    struct numbered *job = arg;

    if (job->order->next++ != job->number)
        job->order->kept = false;
}

static void
order_is_kept(void **state)
{
    struct order order = { 0, true };
    struct numbered jobs[500];
    struct cc_pool *pool = cc_pool_open("test", 1, 7, NULL);
    int i;

    (void)state;
    assert_non_null(pool);
    for (i = 0; i < 500; i++) {
        jobs[i] = (struct numbered){ &order, i };
        while (!cc_pool_submit(pool, check_turn, &jobs[i]))
            assert_true(cc_pool_drain(pool, FAR));
    }
    cc_pool_close(pool);
    assert_true(order.kept);
    assert_int_equal(order.next, 500);
}

struct chain {
    struct cc_pool *pool;
    atomic_int left;
};

static void
chain_on(void *arg)
{
    struct chain *chain = arg;

    if (atomic_fetch_sub(&chain->left, 1) > 1)
        while (!cc_pool_submit(chain->pool, chain_on, chain))
            ;
}

static void
a_job_may_submit(void **state)
{
    struct chain chain = { cc_pool_open("test", 2, 1, NULL), 100 };

    (void)state;
    assert_non_null(chain.pool);
    assert_true(cc_pool_submit(chain.pool, chain_on, &chain));
    assert_true(cc_pool_drain(chain.pool, FAR));
    assert_int_equal(chain.left, 0);
    cc_pool_close(chain.pool);
}

struct late {
    struct cc_pool *pool;
    struct gate gate;
    atomic_int refused;
    atomic_int ran;
};

static void
submit_until_refused(void *arg)
{
    struct late *late = arg;

    gate_pass(&late->gate);
    /* Nobody else submits by now: with room in the queue only a closing pool refuses. */
    while (cc_pool_queued(late->pool) >= 3 || cc_pool_submit(late->pool, count_up, &late->ran))
        ;
    atomic_store(&late->refused, 1);
}

static void
closing_pool_refuses_and_finishes(void **state)
{
    struct late late = { .gate = GATE_INIT };

    (void)state;
    late.pool = cc_pool_open("test", 2, 3, NULL);
    assert_non_null(late.pool);
    assert_true(cc_pool_submit(late.pool, submit_until_refused, &late));
    gate_await(&late.gate, 1);
    assert_true(cc_pool_submit(late.pool, count_up, &late.ran));
    gate_open(&late.gate);
    cc_pool_close(late.pool);
    assert_int_equal(late.refused, 1);
    assert_true(late.ran >= 1);
}

static void
drain_ends_at_its_deadline(void **state)
{
    struct gate gate = GATE_INIT;
    struct cc_pool *pool = cc_pool_open("test", 1, 1, NULL);

    (void)state;
    assert_non_null(pool);
    assert_true(cc_pool_submit(pool, gate_pass, &gate));
    gate_await(&gate, 1);
    assert_false(cc_pool_drain(pool, cc_clock_mono_ms()));
    assert_false(cc_pool_drain(pool, cc_deadline_in(20)));
    gate_open(&gate);
    assert_true(cc_pool_drain(pool, FAR));
    assert_true(cc_pool_drain(pool, 0)); /* idle is idle, however late */
    cc_pool_close(pool);
}

static void
look_at_thread(void *arg)
{
    struct {
        char name[16];
        sigset_t blocked;
    } *seen = arg;

    pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
}

static void
workers_have_a_name_and_no_signals(void **state)
{
    struct {
        char name[16];
        sigset_t blocked;
    } seen;
    struct cc_pool *pool = cc_pool_open("requests-and-more", 1, 1, NULL);
    sigset_t mine;

    (void)state;
    assert_non_null(pool);
    assert_true(cc_pool_submit(pool, look_at_thread, &seen));
    cc_pool_close(pool);
    assert_string_equal(seen.name, "requests-and-mo");
    assert_int_equal(sigismember(&seen.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGHUP), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

struct crowd {
    struct cc_pool *pool;
    atomic_int taken;
    atomic_int ran;
};

static void *
submit_many(void *arg)
{
    struct crowd *crowd = arg;
    int i;

    for (i = 0; i < 2000; i++)
        if (cc_pool_submit(crowd->pool, count_up, &crowd->ran))
            atomic_fetch_add(&crowd->taken, 1);
    return NULL;
}

static void
many_submit_at_once(void **state)
{
    struct crowd crowd = { cc_pool_open("test", 3, 16, NULL), 0, 0 };
    pthread_t threads[4];
    size_t i;

    (void)state;
    assert_non_null(crowd.pool);
    for (i = 0; i < CC_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &crowd), 0);
    for (i = 0; i < CC_COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    cc_pool_close(crowd.pool);
    assert_true(crowd.taken > 0);
    assert_int_equal(crowd.taken, crowd.ran);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(every_job_runs_once),
        cmocka_unit_test(full_queue_refuses),
        cmocka_unit_test(as_many_at_once_as_threads),
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(a_job_may_submit),
        cmocka_unit_test(closing_pool_refuses_and_finishes),
        cmocka_unit_test(drain_ends_at_its_deadline),
        cmocka_unit_test(workers_have_a_name_and_no_signals),
        cmocka_unit_test(many_submit_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
