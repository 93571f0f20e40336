/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MEMORY_STORE_H
#define TESTS_MEMORY_STORE_H

/* Where the tests of all that speaks SQL keep their state: in memory, or in an empty database of the PostgreSQL server
   that they were given (tests/with_postgres.py). */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline bool
on_postgres(void)
{
    return getenv("CC_TEST_POSTGRES") != NULL;
}

static inline const char *
memory_store(void)
{
    const char *uri = getenv("CC_TEST_POSTGRES");
    PGconn *conn;
    PGresult *result;

    if (uri == NULL)
        return "sqlite::memory:";
    conn = PQconnectdb(uri);
    result = PQexec(conn,
            "SET client_min_messages = warning; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s: %s", uri, PQerrorMessage(conn));
        abort();
    }
    PQclear(result);
    PQfinish(conn);
    return uri;
}

/* Of everybody else to that PostgreSQL database: as a server does that restarts in no time. */
static inline void
cut_all_connections(const char *uri)
{
    PGconn *conn = PQconnectdb(uri);
    PGresult *result =
            PQexec(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE datname = current_database() AND pid <> pg_backend_pid()");

    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s: %s", uri, PQerrorMessage(conn));
        abort();
    }
    PQclear(result);
    PQfinish(conn);
}

#endif
