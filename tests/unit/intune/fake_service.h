/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_SERVICE_H
#define TESTS_FAKE_SERVICE_H

/*
 * A service in this process: sign-in, discovery, queues and Graph on one port.  It answers well unless a script says
 * otherwise: scripted answers are given one after the other, each once.  For tests only.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "http/listener.h"
#include "intune/service.h"

enum fake_part { FAKE_TOKEN, FAKE_DISCOVERY, FAKE_SERVICE, FAKE_GRAPH, FAKE_PARTS };

struct fake_answer {
    unsigned status;    /* 0: drop the connection */
    const char *body;   /* NULL: the good one */
    const char *header; /* name */
    const char *value;
    bool hold; /* answer only when the test says so */
};

#define FAKE_SCRIPT_MAX 16

struct fake {
    struct http_listener *listener;
    char base[64];
    char secret_file[64];
    char secret_ref[80];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake_answer script[FAKE_PARTS][FAKE_SCRIPT_MAX];
    size_t script_len[FAKE_PARTS], script_at[FAKE_PARTS];
    unsigned calls[FAKE_PARTS];
    struct http_exchange *held[16];
    size_t held_count;
    unsigned tokens;
    char token_life[64]; /* of "expires_in", as JSON */
    char uri_path[64];   /* what discovery gives */
    char service_answer[4096], graph_answer[4096];

    /* The last request of each part. */
    char method[FAKE_PARTS][16];
    char path[FAKE_PARTS][1024];
    char body[FAKE_PARTS][8192];
    char authorization[FAKE_PARTS][128];
    char request_id[FAKE_PARTS][128];
    char api_version[FAKE_PARTS][64];
    char user_agent[FAKE_PARTS][64]; /* of the header that is spelled so, without hyphen */
    char content_type[FAKE_PARTS][64];
    char filter[1024];

    char contacts[256];
};

static inline const char *
fake_or_dash(const char *text)
{
    return text == NULL ? "-" : text;
}

static inline void
fake_note(struct fake *fake, enum fake_part part, struct http_exchange *exchange)
{
    struct cc_bytes body = http_exchange_body(exchange);

    fake->calls[part]++;
    (void)snprintf(fake->method[part], sizeof(fake->method[part]), "%s",
            http_exchange_method(exchange));
    (void)snprintf(fake->path[part], sizeof(fake->path[part]), "%s", http_exchange_path(exchange));
    (void)snprintf(fake->body[part], sizeof(fake->body[part]), "%.*s", (int)body.len,
            body.len == 0 ? "" : (const char *)body.data);
    (void)snprintf(fake->authorization[part], sizeof(fake->authorization[part]), "%s",
            fake_or_dash(http_exchange_header(exchange, "Authorization")));
    (void)snprintf(fake->request_id[part], sizeof(fake->request_id[part]), "%s",
            fake_or_dash(http_exchange_header(exchange, "client-request-id")));
    (void)snprintf(fake->api_version[part], sizeof(fake->api_version[part]), "%s",
            fake_or_dash(http_exchange_header(exchange, "api-version")));
    (void)snprintf(fake->user_agent[part], sizeof(fake->user_agent[part]), "%s",
            fake_or_dash(http_exchange_header(exchange, "UserAgent")));
    (void)snprintf(fake->content_type[part], sizeof(fake->content_type[part]), "%s",
            fake_or_dash(http_exchange_header(exchange, "Content-Type")));
    if (part == FAKE_GRAPH)
        (void)snprintf(fake->filter, sizeof(fake->filter), "%s",
                fake_or_dash(http_exchange_query(exchange, "$filter")));
}

static inline enum fake_part
fake_part_of(const char *path)
{
    if (strstr(path, "/oauth2/") != NULL)
        return FAKE_TOKEN;
    if (strstr(path, "/servicePrincipals/") != NULL)
        return FAKE_DISCOVERY;
    return cc_starts_with(path, "/beta/") ? FAKE_GRAPH : FAKE_SERVICE;
}

static inline void
fake_good_body(struct fake *fake, enum fake_part part, char *ret, size_t size)
{
    switch (part) {
    case FAKE_TOKEN:
        (void)snprintf(ret, size,
                "{\"token_type\":\"Bearer\",\"expires_in\":%s,\"access_token\":\"tok-%u\"}",
                fake->token_life, ++fake->tokens);
        break;
    case FAKE_DISCOVERY:
        (void)snprintf(ret, size,
                "{\"value\":[{\"providerName\":null,\"uri\":\"https://nobody.example/\"},"
                "{\"providerName\":\"pkiCONNECTORfeService\",\"uri\":\"%s%s/\"},"
                "{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://second.example/\"},"
                "{\"providerName\":\"ScepRequestValidationFEService\",\"uri\":\"%s%s/scep\"}]}",
                fake->base, fake->uri_path, fake->base, fake->uri_path);
        break;
    case FAKE_SERVICE:
        (void)snprintf(ret, size, "%s", fake->service_answer);
        break;
    case FAKE_GRAPH:
    case FAKE_PARTS:
        (void)snprintf(ret, size, "%s", fake->graph_answer);
        break;
    }
}

static inline void
fake_handle(void *arg, struct http_exchange *exchange)
{
    struct fake *fake = arg;
    enum fake_part part = fake_part_of(http_exchange_path(exchange));
    struct fake_answer answer = { .status = 200 };
    struct http_header header;
    char good[8192];

    pthread_mutex_lock(&fake->lock);
    fake_note(fake, part, exchange);
    if (fake->script_at[part] < fake->script_len[part])
        answer = fake->script[part][fake->script_at[part]++];
    else if (part == FAKE_SERVICE && !cc_starts_with(http_exchange_path(exchange), fake->uri_path))
        answer = (struct fake_answer){ .status = 410,
            .body = "{\"error\":{\"code\":\"Gone\",\"message\":\"moved\"}}" };
    if (answer.body == NULL && answer.status != 0)
        fake_good_body(fake, part, good, sizeof(good));
    if (answer.hold)
        fake->held[fake->held_count++] = exchange;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);

    header = (struct http_header){ answer.header, answer.value };
    if (answer.hold)
        return;
    if (answer.status == 0)
        http_exchange_drop(exchange);
    else
        http_exchange_reply(exchange, answer.status, &header, answer.header == NULL ? 0 : 1,
                "application/json", answer.body == NULL ? good : answer.body,
                strlen(answer.body == NULL ? good : answer.body));
}

static inline void
fake_script(struct fake *fake, enum fake_part part, const struct fake_answer *answers, size_t count)
{
    pthread_mutex_lock(&fake->lock);
    memcpy(fake->script[part], answers, count * sizeof(*answers));
    fake->script_len[part] = count;
    fake->script_at[part] = 0;
    pthread_mutex_unlock(&fake->lock);
}

static inline void
fake_open(struct fake *fake)
{
    struct http_listener_settings settings = { .listen = "127.0.0.1:0",
        .handler = fake_handle,
        .handler_arg = fake,
        .deadline_ms = 60000 };
    struct cc_err err = { 0 };
    int fd;

    memset(fake, 0, sizeof(*fake));
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    (void)snprintf(fake->token_life, sizeof(fake->token_life), "3599");
    (void)snprintf(fake->uri_path, sizeof(fake->uri_path), "/svc");
    (void)snprintf(fake->service_answer, sizeof(fake->service_answer), "{\"value\":[]}");
    (void)snprintf(fake->graph_answer, sizeof(fake->graph_answer), "{\"value\":[]}");
    if (http_listener_open(&settings, &fake->listener, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    (void)snprintf(fake->base, sizeof(fake->base), "http://127.0.0.1:%u",
            http_listener_port(fake->listener));
    (void)snprintf(fake->secret_file, sizeof(fake->secret_file), "/tmp/cc-test-XXXXXX");
    assert_true((fd = mkstemp(fake->secret_file)) >= 0);
    assert_int_equal(write(fd, "s3cr~t & more\n", 14), 14);
    (void)close(fd);
    (void)snprintf(fake->secret_ref, sizeof(fake->secret_ref), "file:%s", fake->secret_file);
}

static inline void
fake_close(struct fake *fake)
{
    http_listener_close(fake->listener);
    (void)unlink(fake->secret_file);
}

static inline void
fake_on_contact(void *arg, enum intune_contact contact, const struct cc_err *err)
{
    static const char *const names[] = { "none ", "ok ", "lost ", "refused ", "unable ",
        "certificate ", "removed ", "limit ", "moved ", "clock off ", "clock right " };
    struct fake *fake = arg;

    assert_true((err == NULL) == (contact == INTUNE_CONTACT_OK || contact == INTUNE_MOVED ||
                                         contact == INTUNE_CLOCK_RIGHT));
    pthread_mutex_lock(&fake->lock);
    (void)strncat(fake->contacts, names[contact],
            sizeof(fake->contacts) - strlen(fake->contacts) - 1);
    pthread_mutex_unlock(&fake->lock);
}

/* Settings that point at the fake; pauses are of a millisecond. */
static inline struct intune_settings
fake_settings(struct fake *fake)
{
    return (struct intune_settings){
        .authority = fake->base,
        .graph = fake->base,
        .graph_version = "v1.0",
        .resource = "https://api.service.example/",
        .app_id = "0000000a-0000-0000-c000-000000000000",
        .tenant = "contoso.example",
        .client_id = "11111111-2222-3333-4444-555555555555",
        .client_secret = fake->secret_ref,
        .caller_info = "unit/1",
        .allow_http = true,
        .timeout_ms = 10000,
        .backoff_ms = 1,
        .on_contact = fake_on_contact,
        .on_contact_arg = fake,
    };
}

static inline struct intune *
fake_connect(struct fake *fake)
{
    struct intune_settings settings = fake_settings(fake);
    struct intune *intune = NULL;
    struct cc_err err = { 0 };

    if (intune_open(&settings, &intune, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return intune;
}

static inline void
fake_wait_calls(struct fake *fake, enum fake_part part, unsigned calls)
{
    pthread_mutex_lock(&fake->lock);
    while (fake->calls[part] < calls)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
}

#endif
