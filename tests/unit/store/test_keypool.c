/* SPDX-License-Identifier: MIT */
#include "store/keypool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/memory_store.h"

#define THREADS 8
#define KEYS 400

static struct store *store;

static int
setup(void **state)
{
    (void)state;
    return store_open(memory_store(), &store, NULL);
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

static struct keypool_key
key_of(const char *id, const char *spec)
{
    return (struct keypool_key){ .id = id,
        .spec = spec,
        .sealed = cc_bytes_of_str("sealed"),
        .spki = cc_bytes_of_str("public key") };
}

static void
put(const char *id, const char *spec, int64_t now_ms)
{
    struct keypool_key key = key_of(id, spec);

    assert_int_equal(keypool_put(store, &key, 1, now_ms, NULL), 0);
}

static int64_t
count(const char *spec)
{
    int64_t n = -1;

    assert_int_equal(keypool_count(store, spec, &n, NULL), 0);
    return n;
}

struct taken {
    char ids[64];
    int calls, stop_at;
};

static int
see(void *arg, const struct keypool_key *key)
{
    struct taken *taken = arg;
    size_t len = strlen(taken->ids);

    assert_int_equal(key->sealed.len, 6);
    assert_memory_equal(key->sealed.data, "sealed", 6);
    assert_int_equal(key->spki.len, 10);
    assert_memory_equal(key->spki.data, "public key", 10);
    assert_string_equal(key->spec, "rsa2048");
    snprintf(taken->ids + len, sizeof(taken->ids) - len, "%s ", key->id);
    return ++taken->calls == taken->stop_at;
}

static struct taken
take(unsigned max, int stop_at)
{
    struct taken taken = { .stop_at = stop_at };
    size_t n = 99;

    assert_int_equal(keypool_take(store, "rsa2048", max, see, &taken, &n, NULL), 0);
    assert_int_equal(n, taken.calls);
    return taken;
}

static void
the_oldest_are_taken_and_gone(void **state)
{
    (void)state;
    assert_string_equal(take(5, 0).ids, "");
    put("c", "rsa2048", 300);
    put("b", "rsa2048", 200);
    put("x", "ec256", 100);
    put("a", "rsa2048", 200);
    put("d", "rsa2048", 400);
    assert_int_equal(count("rsa2048"), 4);
    assert_int_equal(count("ec256"), 1);
    assert_int_equal(count("rsa3072"), 0);
    assert_string_equal(take(0, 0).ids, "");
    assert_string_equal(take(2, 0).ids, "a b ");
    assert_int_equal(count("rsa2048"), 2);
    assert_string_equal(take(9, 0).ids, "c d ");
    assert_string_equal(take(9, 0).ids, "");
    assert_int_equal(count("ec256"), 1);
}

static void
who_stops_gets_no_more(void **state)
{
    (void)state;
    put("a", "rsa2048", 1);
    put("b", "rsa2048", 2);
    put("c", "rsa2048", 3);
    put("d", "rsa2048", 4);
    assert_string_equal(take(3, 1).ids, "a ");
    assert_string_equal(take(3, 0).ids, "d ");
}

static void
several_are_put_together_or_not_at_all(void **state)
{
    struct keypool_key keys[3] = { key_of("a", "rsa2048"), key_of("b", "rsa2048"),
        key_of("a", "rsa2048") };
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(keypool_put(store, keys, 3, 1, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(count("rsa2048"), 0);
    assert_int_equal(keypool_put(store, keys, 2, 1, NULL), 0);
    assert_int_equal(count("rsa2048"), 2);
    assert_int_equal(keypool_put(store, NULL, 0, 1, NULL), 0);
    assert_int_equal(keypool_clear(store, NULL), 0);
    assert_int_equal(count("rsa2048"), 0);
    assert_int_equal(keypool_clear(store, NULL), 0);
}

static atomic_int uses[KEYS];

static int
use(void *arg, const struct keypool_key *key)
{
    (void)arg;
    atomic_fetch_add(&uses[atoi(key->id)], 1);
    return 0;
}

static void *
take_all(void *arg)
{
    size_t n;

    (void)arg;
    do {
        n = 0;
        if (keypool_take(store, "rsa2048", 3, use, NULL, &n, NULL) != 0)
            break;
    } while (n > 0);
    return NULL;
}

static void
no_key_serves_twice(void **state)
{
    pthread_t threads[THREADS];
    char id[16];

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        snprintf(id, sizeof(id), "%d", i);
        put(id, "rsa2048", i);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_all, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(atomic_load(&uses[i]), 1);
    assert_int_equal(count("rsa2048"), 0);
}

static int
count_inside(void *arg, const struct keypool_key *key)
{
    (void)key;
    *(int64_t *)arg = count("rsa2048");
    return 0;
}

/* When somebody may use a key, the store has forgotten it for good; and the store may be asked meanwhile. */
static void
a_key_is_gone_before_it_is_handed_out(void **state)
{
    int64_t left = -1;
    size_t n = 0;

    (void)state;
    put("a", "rsa2048", 1);
    put("b", "rsa2048", 2);
    assert_int_equal(keypool_take(store, "rsa2048", 1, count_inside, &left, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(left, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_oldest_are_taken_and_gone),
        TEST(who_stops_gets_no_more),
        TEST(several_are_put_together_or_not_at_all),
        TEST(no_key_serves_twice),
        TEST(a_key_is_gone_before_it_is_handed_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
