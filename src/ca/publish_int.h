/* SPDX-License-Identifier: MIT */
#ifndef PUBLISH_INT_H
#define PUBLISH_INT_H

/* Shared by the files that publish. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "ca/local.h"
#include "ca/publish.h"
#include "http/listener.h"

/* How old what we know of the database may be: what is revoked is seen after this time. */
#define PUBLISH_LOOK_MS 200

#define PUBLISH_ID_LEN 32 /* SHA-256 of a CertID */

/* ---- publish_cache.c: OCSP answers ---- */

/* What a status was read under; ca_local_numbers(). */
struct publish_numbers {
    int64_t change, generation;
};

/* Shared by the cache and those who send it; constant but for its owners. */
struct publish_answer {
    atomic_uint owners;
    uint8_t id[PUBLISH_ID_LEN];
    size_t ca; /* which one signed */
    bool known;
    struct publish_numbers numbers;
    int64_t this_update_ms, next_update_ms;
    size_t len;
    uint8_t der[];
};

struct publish_cache;

CC_MUST struct publish_cache *publish_cache_new(size_t max, struct cc_err *err);
void publish_cache_free(struct publish_cache *cache); /* accepts NULL */

/* NULL, or one to be put with publish_answer_put(). */
struct publish_answer *publish_cache_find(struct publish_cache *cache,
        const uint8_t id[PUBLISH_ID_LEN]);

/* In place of the one with the same id, else of the oldest when it is full. */
void publish_cache_add(struct publish_cache *cache, struct publish_answer *answer);

void publish_answer_put(struct publish_answer *answer); /* accepts NULL */

/* ---- publish.c ---- */

/* A CRL as it is served. */
struct publish_crl {
    pthread_mutex_t lock; /* guards all, and is held while it is looked for in the store */
    int fd;               /* unnamed; -1: none */
    struct cadb_crl crl;
    int64_t looked_at; /* monotonic */
    bool looked;
};

struct publish_ca {
    struct ca *ca;
    struct publish_crl crl[2]; /* full, delta */

    pthread_mutex_t lock; /* guards these */
    struct publish_numbers numbers;
    int64_t numbers_at; /* monotonic */
    bool has_numbers;
};

struct ca_publish {
    struct http_listener *listener;
    struct publish_cache *cache;
    struct publish_ca *cas;
    size_t count;
    char *folder;
    atomic_uint_fast64_t ocsp_answers, ocsp_from_cache, ocsp_failures, files;
};

/* The headers of an answer that may be kept until a time (RFC 5019 section 6.2). */
struct publish_fresh {
    char etag[80], cache_control[80], modified[32], expires[32];
    struct http_header headers[4];
};

/* tag: without the quotes. */
void publish_fresh_set(struct publish_fresh *fresh, const char *tag, int64_t modified_ms,
        int64_t expires_ms);

/* Whether the peer has this answer already (RFC 9110 section 13.1.2). */
bool publish_has_it(const struct http_exchange *exchange, const struct publish_fresh *fresh);

void publish_not_modified(struct http_exchange *exchange, const struct publish_fresh *fresh);

/* An answer that is an error; status 405 with what is allowed. */
void publish_refuse(struct http_exchange *exchange, unsigned status, const char *allow);

/* ---- publish_files.c ---- */

void publish_files_init(struct publish_ca *ca);
void publish_files_free(struct publish_ca *ca);

/* name: of the path, without its slash. */
void publish_file(struct ca_publish *publish, struct http_exchange *exchange, const char *name);

/* ---- publish_ocsp.c ---- */

void publish_ocsp_post(struct ca_publish *publish, struct http_exchange *exchange);

/* text: base64 with whatever escapes the client found fit. */
void publish_ocsp_get(struct ca_publish *publish, struct http_exchange *exchange, const char *text);

#endif
