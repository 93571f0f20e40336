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

    { 3, "built-in authorities, their certificates and CRLs, and keys made ahead",
            /* The counts of states are kept, as counting a million rows takes long; crl_number is the last one given. */
            "CREATE TABLE ca_authority ("
            " id BIGINT PRIMARY KEY,"
            " name TEXT NOT NULL UNIQUE,"
            " key_uri TEXT NOT NULL,"
            " certificate BYTEA,"
            " chain BYTEA,"
            " request BYTEA,"
            " ocsp_signer BYTEA,"
            " created_ms BIGINT NOT NULL,"
            " change BIGINT NOT NULL,"
            " generation BIGINT NOT NULL,"
            " crl_number BIGINT NOT NULL,"
            " reserved BIGINT NOT NULL,"
            " issued BIGINT NOT NULL,"
            " held BIGINT NOT NULL,"
            " revoked BIGINT NOT NULL,"
            " abandoned BIGINT NOT NULL);"

            /* The numbers of state are those of store/cadb.h.  The DER lies elsewhere, so that lists need not read it. */
            "CREATE TABLE ca_certificate ("
            " authority BIGINT NOT NULL,"
            " serial BYTEA NOT NULL,"
            " state BIGINT NOT NULL,"
            " request_id TEXT,"
            " profile TEXT NOT NULL,"
            " subject TEXT NOT NULL,"
            " key_hash BYTEA NOT NULL,"
            " not_before_ms BIGINT NOT NULL,"
            " not_after_ms BIGINT NOT NULL,"
            " reserved_ms BIGINT NOT NULL,"
            " issued_ms BIGINT,"
            " PRIMARY KEY (authority, serial));"
            "CREATE UNIQUE INDEX ca_certificate_request ON ca_certificate (authority, request_id)"
            " WHERE state <> 5;"
            "CREATE INDEX ca_certificate_key ON ca_certificate (authority, key_hash, reserved_ms);"
            "CREATE INDEX ca_certificate_order ON ca_certificate (authority, reserved_ms, serial);"
            "CREATE INDEX ca_certificate_reserved ON ca_certificate (authority, reserved_ms, serial)"
            " WHERE state = 1;"

            /* In the order of reserved_ms, so that its index grows at its end. */
            "CREATE TABLE ca_certificate_der ("
            " authority BIGINT NOT NULL,"
            " reserved_ms BIGINT NOT NULL,"
            " serial BYTEA NOT NULL,"
            " certificate BYTEA NOT NULL,"
            " PRIMARY KEY (authority, reserved_ms, serial));"

            /* What a CRL says: the held and the revoked ones alone. */
            "CREATE TABLE ca_revoked ("
            " authority BIGINT NOT NULL,"
            " serial BYTEA NOT NULL,"
            " change BIGINT NOT NULL,"
            " reason BIGINT NOT NULL,"
            " revoked_ms BIGINT NOT NULL,"
            " invalidity_ms BIGINT NOT NULL,"
            " not_after_ms BIGINT NOT NULL,"
            " PRIMARY KEY (authority, serial));"
            "CREATE INDEX ca_revoked_change ON ca_revoked (authority, change);"

            /* Each hold that ended: from which change to which it stood. */
            "CREATE TABLE ca_released ("
            " authority BIGINT NOT NULL,"
            " change BIGINT NOT NULL,"
            " held_change BIGINT NOT NULL,"
            " serial BYTEA NOT NULL,"
            " released_ms BIGINT NOT NULL,"
            " PRIMARY KEY (authority, change));"

            /* The newest CRL of a kind, its DER in pieces, and up to which change any CRL ever went. */
            "CREATE TABLE ca_crl ("
            " authority BIGINT NOT NULL,"
            " kind BIGINT NOT NULL,"
            " number BIGINT NOT NULL,"
            " base_number BIGINT NOT NULL,"
            " change BIGINT NOT NULL,"
            " this_update_ms BIGINT NOT NULL,"
            " next_update_ms BIGINT NOT NULL,"
            " len BIGINT NOT NULL,"
            " PRIMARY KEY (authority, kind));"
            "CREATE TABLE ca_crl_piece ("
            " authority BIGINT NOT NULL,"
            " kind BIGINT NOT NULL,"
            " number BIGINT NOT NULL,"
            " n BIGINT NOT NULL,"
            " data BYTEA NOT NULL,"
            " PRIMARY KEY (authority, kind, number, n));"
            "CREATE TABLE ca_crl_change ("
            " authority BIGINT NOT NULL,"
            " change BIGINT NOT NULL,"
            " PRIMARY KEY (authority, change));"

            "CREATE TABLE keypool ("
            " id TEXT PRIMARY KEY,"
            " spec TEXT NOT NULL,"
            " sealed BYTEA NOT NULL,"
            " spki BYTEA NOT NULL,"
            " made_ms BIGINT NOT NULL);"
            "CREATE INDEX keypool_oldest ON keypool (spec, made_ms, id);" },

    { 4, "SCEP enrolments with their notifications, spent challenges, and requests to be approved",
            /* The numbers of state and notify are those of store/scepdb.h. */
            "CREATE TABLE scep_transaction ("
            " id BYTEA PRIMARY KEY,"
            " profile TEXT NOT NULL,"
            " transaction_id TEXT NOT NULL,"
            " key_hash BYTEA NOT NULL,"
            " state BIGINT NOT NULL,"
            " notify BIGINT NOT NULL,"
            " owner TEXT NOT NULL,"
            " lease_until_ms BIGINT NOT NULL,"
            " ca TEXT NOT NULL,"
            " ca_request_id TEXT NOT NULL,"
            " csr BYTEA,"
            " pending TEXT,"
            " certificate BYTEA,"
            " fail_info BIGINT NOT NULL,"
            " detail TEXT,"
            " hresult BIGINT NOT NULL,"
            " attempts BIGINT NOT NULL,"
            " next_ms BIGINT NOT NULL,"
            " received_ms BIGINT NOT NULL,"
            " expires_ms BIGINT NOT NULL);"
            "CREATE INDEX scep_transaction_poll ON scep_transaction (transaction_id, received_ms);"
            "CREATE INDEX scep_transaction_open ON scep_transaction (received_ms) WHERE notify <> 3;"
            "CREATE INDEX scep_transaction_due ON scep_transaction (next_ms) WHERE notify = 1;"
            "CREATE INDEX scep_transaction_expires ON scep_transaction (expires_ms);"

            "CREATE TABLE scep_challenge ("
            " hash BYTEA PRIMARY KEY,"
            " transaction_key BYTEA NOT NULL,"
            " expires_ms BIGINT NOT NULL);"
            "CREATE INDEX scep_challenge_expires ON scep_challenge (expires_ms);"

            /* Requests that an administrator decides on; the numbers of decision are those of store/cadb.h. */
            "CREATE TABLE ca_approval ("
            " authority BIGINT NOT NULL,"
            " request_id TEXT NOT NULL,"
            " profile TEXT NOT NULL,"
            " subject TEXT NOT NULL,"
            " decision BIGINT NOT NULL,"
            " reason TEXT,"
            " asked_ms BIGINT NOT NULL,"
            " decided_ms BIGINT NOT NULL,"
            " PRIMARY KEY (authority, request_id));"

            "CREATE TABLE scep_total ("
            " name TEXT PRIMARY KEY,"
            " count BIGINT NOT NULL);" },

    { 5, "instances that share this store, and who has what in hand",
            /* An epoch is one run of an instance; host says which process of which machine it is. */
            "CREATE TABLE store_instance ("
            " epoch BIGINT PRIMARY KEY,"
            " name TEXT NOT NULL,"
            " host TEXT NOT NULL,"
            " alive BIGINT NOT NULL,"
            " lease_until_ms BIGINT NOT NULL,"
            " commits BIGINT NOT NULL,"
            " joined_ms BIGINT NOT NULL);"
            "CREATE UNIQUE INDEX store_instance_name ON store_instance (name) WHERE alive = 1;"
            "CREATE TABLE store_lease ("
            " name TEXT PRIMARY KEY,"
            " epoch BIGINT NOT NULL);"
            "CREATE TABLE store_counter ("
            " name TEXT PRIMARY KEY,"
            " value BIGINT NOT NULL);"

            /* The owner is an epoch; 0: none.  The holder is who the service leased the request to. */
            "ALTER TABLE journal ADD COLUMN owner BIGINT NOT NULL DEFAULT 0;"
            "ALTER TABLE journal ADD COLUMN holder TEXT;"
            "CREATE INDEX journal_owner ON journal (owner) WHERE state <> 6;"
            "ALTER TABLE scep_transaction DROP COLUMN owner;"
            "ALTER TABLE scep_transaction ADD COLUMN owner BIGINT NOT NULL DEFAULT 0;"
            "CREATE INDEX scep_transaction_owner ON scep_transaction (owner) WHERE notify <> 3;"

            /* A row that all instances count in would make each wait for the others' disk: each has its own. */
            "CREATE TABLE journal_count ("
            " workload TEXT NOT NULL,"
            " instance TEXT NOT NULL,"
            " succeeded BIGINT NOT NULL,"
            " failed BIGINT NOT NULL,"
            " PRIMARY KEY (workload, instance));"
            "INSERT INTO journal_count (workload, instance, succeeded, failed)"
            " SELECT workload, '', succeeded, failed FROM journal_total;"
            "DROP TABLE journal_total;"
            "CREATE TABLE scep_count ("
            " name TEXT NOT NULL,"
            " instance TEXT NOT NULL,"
            " count BIGINT NOT NULL,"
            " PRIMARY KEY (name, instance));"
            "INSERT INTO scep_count (name, instance, count) SELECT name, '', count FROM scep_total;"
            "DROP TABLE scep_total;"
            "CREATE TABLE ca_count ("
            " authority BIGINT NOT NULL,"
            " instance TEXT NOT NULL,"
            " generation BIGINT NOT NULL,"
            " reserved BIGINT NOT NULL,"
            " issued BIGINT NOT NULL,"
            " held BIGINT NOT NULL,"
            " revoked BIGINT NOT NULL,"
            " abandoned BIGINT NOT NULL,"
            " PRIMARY KEY (authority, instance));"
            "INSERT INTO ca_count (authority, instance, generation, reserved, issued, held, revoked,"
            " abandoned) SELECT id, '', generation, reserved, issued, held, revoked, abandoned"
            " FROM ca_authority;"
            "ALTER TABLE ca_authority DROP COLUMN generation;"
            "ALTER TABLE ca_authority DROP COLUMN reserved;"
            "ALTER TABLE ca_authority DROP COLUMN issued;"
            "ALTER TABLE ca_authority DROP COLUMN held;"
            "ALTER TABLE ca_authority DROP COLUMN revoked;"
            "ALTER TABLE ca_authority DROP COLUMN abandoned;" },

    { 6, "what the instances that share a token know of its PINs",
            /* token is its identity, trying the hash of a PIN that is tried now, by an epoch. */
            "CREATE TABLE pin_token ("
            " token BYTEA PRIMARY KEY,"
            " salt BYTEA NOT NULL,"
            " iterations BIGINT NOT NULL,"
            " failures BIGINT NOT NULL,"
            " accepted BYTEA,"
            " accepted_ms BIGINT NOT NULL,"
            " trying BYTEA,"
            " trying_owner BIGINT NOT NULL,"
            " trying_until_ms BIGINT NOT NULL);"
            "CREATE TABLE pin_refused ("
            " token BYTEA NOT NULL,"
            " hash BYTEA NOT NULL,"
            " reason TEXT NOT NULL,"
            " refused_ms BIGINT NOT NULL,"
            " PRIMARY KEY (token, hash));" },

    { 7, "who reserved a serial",
            /* An epoch; 0: somebody who had not joined, as an administrator's program. */
            "ALTER TABLE ca_certificate ADD COLUMN reserved_by BIGINT NOT NULL DEFAULT 0;" },
};

const struct db_schema store_schema = {
    .name = "connector",
    .steps = steps,
    .count = sizeof(steps) / sizeof(steps[0]),
    .oldest = 5,
};
