/* SPDX-License-Identifier: MIT */
#include "store/store.h"

#include <stdlib.h>

#include "base/text.h"
#include "store_int.h"

int
store_open(const char *uri, struct store **ret_store, struct cc_err *err)
{
    struct store *store = calloc(1, sizeof(*store));

    if (store == NULL)
        return cc_err_nomem(err);
    store_outage_init(store);
    if (db_open(uri, &store_schema, &store->db, err) != 0 ||
            (store->name = cc_strdup("", err)) == NULL || store_read_clock(store, err) != 0) {
        store_close(store);
        return -1;
    }
    store_outage_notice(store);
    *ret_store = store;
    return 0;
}

void
store_close(struct store *store)
{
    if (store == NULL)
        return;
    store_member_free(store);
    db_close(store->db);
    store_members_gone_free(store);
    free(store->name);
    store_outage_free(store);
    free(store);
}

int
store_check_uri(const char *uri, struct cc_err *err)
{
    return db_check_uri(uri, err);
}

int
store_look(const char *uri, struct store_look *ret, struct cc_err *err)
{
    struct db_look look = { .version = 0 };

    if (db_look(uri, &store_schema, &look, err) != 0)
        return -1;
    *ret = (struct store_look){
        .shared = look.shared,
        .schema = look.version,
        .known = (int64_t)store_schema.count,
        .usable = look.oldest <= (int64_t)store_schema.count,
    };
    return 0;
}

bool
store_is_passing(const struct store *store, const struct cc_err *err)
{
    return err->domain == CC_DOM_STORE && db_is_passing(store->db, err);
}

void
store_stats(struct store *store, struct store_stats *ret)
{
    struct db_stats stats;

    db_stats(store->db, &stats);
    *ret = (struct store_stats){ .writes = stats.writes,
        .commits = stats.commits,
        .failed = stats.failed,
        .reconnects = stats.reconnects,
        .commit_time = stats.commit_time };
}

/* ---- named values ---- */

struct named {
    const char *name;
    const char *put;
    char *got;
};

static int
get_value(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct named *named = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT value FROM store_value WHERE name = $1",
                DB_PARAMS(DB_TEXT(named->name)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    if (got > 0 && (named->got = cc_strdup(db_text(rows, 0), err)) == NULL)
        got = -1;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
put_value(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct named *named = arg;

    return db_exec(conn,
            "INSERT INTO store_value (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            DB_PARAMS(DB_TEXT(named->name), DB_TEXT(named->put)), NULL, err);
}

int
store_get_value(struct store *store, const char *name, char **ret_value, struct cc_err *err)
{
    struct named named = { .name = name };

    if (db_read(store->db, get_value, &named, err) != 0) {
        free(named.got);
        return cc_err_in(err, "read %s", name);
    }
    *ret_value = named.got;
    return 0;
}

int
store_put_value(struct store *store, const char *name, const char *value, struct cc_err *err)
{
    struct named named = { .name = name, .put = value };

    if (db_write(store->db, put_value, &named, err) != 0)
        return cc_err_in(err, "store %s", name);
    return 0;
}
