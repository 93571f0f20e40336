/* SPDX-License-Identifier: MIT */
#include "store_int.h"

/* A step that was released is never changed; what it did not foresee becomes a new step at the end. */
static const struct db_step steps[] = {
    { 1, "named values of the instance, and the journal of requests under way",
            "CREATE TABLE store_value ("
            " name TEXT PRIMARY KEY,"
            " value TEXT NOT NULL);"

            /* The numbers of state, outcome and verdict are those of store/journal.h. */
            "CREATE TABLE journal ("
            " workload TEXT NOT NULL,"
            " request_id TEXT NOT NULL,"
            " request_context TEXT NOT NULL,"
            " attempt BIGINT NOT NULL,"
            " state BIGINT NOT NULL,"
            " outcome BIGINT NOT NULL,"
            " verdict BIGINT NOT NULL,"
            " user_name TEXT,"
            " device TEXT,"
            " thumbprint TEXT,"
            " note TEXT,"
            " result TEXT,"
            " error_code TEXT,"
            " detail TEXT,"
            " lease_until_ms BIGINT NOT NULL,"
            " received_ms BIGINT NOT NULL,"
            " updated_ms BIGINT NOT NULL,"
            " PRIMARY KEY (workload, request_id));"

            /* What is open is a small part of a table that is mostly history: 6 is closed. */
            "CREATE INDEX journal_open ON journal (workload, received_ms) WHERE state <> 6;"
            "CREATE INDEX journal_closed ON journal (workload, updated_ms) WHERE state = 6;"

            /* How the requests ended, pruned ones too. */
            "CREATE TABLE journal_total ("
            " workload TEXT PRIMARY KEY,"
            " succeeded BIGINT NOT NULL,"
            " failed BIGINT NOT NULL);" },

    { 2, "what resumes a request after a crash, and what events say of its certificate",
            "ALTER TABLE journal ADD COLUMN body TEXT;"
            "ALTER TABLE journal ADD COLUMN variant TEXT;"
            "ALTER TABLE journal ADD COLUMN serial_number TEXT;"
            "ALTER TABLE journal ADD COLUMN ca TEXT;" },
};

const struct db_schema store_schema = {
    .name = "connector",
    .steps = steps,
    .count = sizeof(steps) / sizeof(steps[0]),
};
