/* SPDX-License-Identifier: MIT */
#include "store/keypool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store_int.h"

/* ---- put ---- */

struct putting {
    const struct keypool_key *keys;
    size_t count;
    int64_t now_ms;
};

static int
put(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct putting *op = arg;

    for (size_t i = 0; i < op->count; i++) {
        const struct keypool_key *key = &op->keys[i];

        if (db_exec(conn,
                    "INSERT INTO keypool (id, spec, sealed, spki, made_ms)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    DB_PARAMS(DB_TEXT(key->id), DB_TEXT(key->spec), DB_BLOB(key->sealed),
                            DB_BLOB(key->spki), DB_INT(op->now_ms)),
                    NULL, err) != 0)
            return cc_err_in(err, "key %s", key->id);
    }
    return 0;
}

int
keypool_put(struct store *store, const struct keypool_key *keys, size_t count, int64_t now_ms,
        struct cc_err *err)
{
    struct putting op = { .keys = keys, .count = count, .now_ms = now_ms };

    return count == 0 ? 0 : db_write(store->db, put, &op, err);
}

/* ---- take ---- */

/* A key out of the store; its texts and bytes lie behind the struct. */
struct taken {
    struct taken *next;
    struct keypool_key key;
    bool ours; /* it was we who deleted the row */
};

struct taking {
    const char *spec;
    unsigned max;
    struct taken *first;
};

static void
free_taken(struct taking *op)
{
    struct taken *next;

    for (struct taken *t = op->first; t != NULL; t = next) {
        next = t->next;
        free(t);
    }
    op->first = NULL;
}

static struct taken *
copy_key(struct db_rows *rows, const char *spec, struct cc_err *err)
{
    const char *id = db_text(rows, 0);
    struct cc_bytes sealed = db_blob(rows, 1);
    struct cc_bytes spki = db_blob(rows, 2);
    size_t id_size = strlen(id) + 1;
    struct taken *t = calloc(1, sizeof(*t) + id_size + sealed.len + spki.len);
    char *place;

    if (t == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    place = (char *)(t + 1);
    memcpy(place, id, id_size);
    memcpy(place + id_size, sealed.data, sealed.len);
    memcpy(place + id_size + sealed.len, spki.data, spki.len);
    t->key = (struct keypool_key){ .id = place,
        .spec = spec,
        .sealed = { (uint8_t *)place + id_size, sealed.len },
        .spki = { (uint8_t *)place + id_size + sealed.len, spki.len } };
    return t;
}

static int
read_oldest(struct db_conn *conn, struct taking *op, struct cc_err *err)
{
    struct taken **end = &op->first;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT id, sealed, spki FROM keypool WHERE spec = $1 ORDER BY made_ms, id"
                " LIMIT $2" DB_SKIP_LOCKED,
                DB_PARAMS(DB_TEXT(op->spec), DB_INT(op->max)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        if ((*end = copy_key(rows, op->spec, err)) == NULL) {
            got = -1;
            break;
        }
        end = &(*end)->next;
    }
    db_rows_free(rows);
    return got;
}

/* What another instance is taking just now is passed over; a key is whose DELETE hit. */
static int
take(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct taking *op = arg;
    int64_t changes;

    free_taken(op);
    if (read_oldest(conn, op, err) != 0)
        return -1;
    for (struct taken *t = op->first; t != NULL; t = t->next) {
        changes = 0;
        if (db_exec(conn, "DELETE FROM keypool WHERE id = $1", DB_PARAMS(DB_TEXT(t->key.id)),
                    &changes, err) != 0)
            return -1;
        t->ours = changes == 1;
    }
    return 0;
}

int
keypool_take(struct store *store, const char *spec, unsigned max, keypool_fn fn, void *arg,
        size_t *ret_count, struct cc_err *err)
{
    struct taking op = { .spec = spec, .max = max };
    size_t count = 0;
    int rc = -1;

    if (db_write(store->db, take, &op, err) != 0)
        goto out;
    for (struct taken *t = op.first; t != NULL; t = t->next) {
        if (!t->ours)
            continue;
        count++;
        if (fn(arg, &t->key) != 0)
            break;
    }
    *ret_count = count;
    rc = 0;
out:
    free_taken(&op);
    return rc;
}

/* ---- count and clear ---- */

struct counting {
    const char *spec;
    int64_t count;
};

static int
count_keys(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct counting *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT COUNT(*) FROM keypool WHERE spec = $1", DB_PARAMS(DB_TEXT(op->spec)),
                &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        op->count = db_int(rows, 0);
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
keypool_count(struct store *store, const char *spec, int64_t *ret, struct cc_err *err)
{
    struct counting op = { .spec = spec };

    if (db_read(store->db, count_keys, &op, err) != 0)
        return -1;
    *ret = op.count;
    return 0;
}

static int
clear(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn, "DELETE FROM keypool", DB_NO_PARAMS, NULL, err);
}

int
keypool_clear(struct store *store, struct cc_err *err)
{
    return db_write(store->db, clear, NULL, err);
}
