/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <string.h>

#include "base/text.h"

/* The HTTP side (RFC 8894 section 4): which profile, which operation. */

#define PROGRAM "/pkiclient.exe"              /* what some clients append by themselves */
#define DEFAULT_PATH "/cgi-bin/pkiclient.exe" /* what they take when told nothing else */

/* ---- which profile ---- */

/* Of "", "/", "/NAME", "/NAME/", each with or without the program behind. */
static struct endpoint *
find_named(struct scep *scep, const char *rest)
{
    size_t len = strlen(rest);
    const size_t program = strlen(PROGRAM);

    if (len >= program && cc_equal_nocase(rest + len - program, PROGRAM))
        len -= program;
    if (len > 0 && rest[len - 1] == '/')
        len--;
    if (len > 0 && rest[0] == '/') {
        rest++;
        len--;
    }
    for (size_t i = 0; i < scep->endpoint_count; i++) {
        const char *name = scep->endpoints[i].name;

        if (strlen(name) == len && memcmp(name, rest, len) == 0)
            return &scep->endpoints[i];
    }
    return NULL;
}

static struct endpoint *
find_endpoint(struct scep *scep, const char *path)
{
    const size_t len = strlen(scep->path);

    if (strcmp(path, DEFAULT_PATH) == 0)
        return find_named(scep, "");
    if (!cc_starts_with(path, scep->path) || (path[len] != '\0' && path[len] != '/'))
        return NULL;
    return find_named(scep, path + len);
}

/* ---- operations ---- */

static void
get_ca_caps(struct endpoint *endpoint, struct http_exchange *exchange)
{
    http_exchange_reply(exchange, 200, NULL, 0, "text/plain", endpoint->caps.data,
            endpoint->caps.len);
}

/* Exact types and nothing behind them: there are clients that compare the whole field. */
static void
get_ca_cert(struct endpoint *endpoint, struct http_exchange *exchange)
{
    struct ra *ra = ra_get(endpoint);

    if (ra == NULL)
        reply_busy(exchange);
    else
        http_exchange_reply(exchange, 200, NULL, 0, ra->shown_type, ra->shown.data, ra->shown.len);
    ra_free(ra);
}

static void
get_next_ca_cert(struct endpoint *endpoint, struct http_exchange *exchange)
{
    struct cc_buf reply = CC_BUF_INIT(SCEP_REPLY_MAX);
    struct ra *ra = ra_get(endpoint);

    if (ra == NULL)
        reply_busy(exchange);
    else if (ra->next.len == 0)
        reply_plain(exchange, 404, "there is no next CA certificate\n");
    else if (reply_next_ca(ra, &reply, NULL) != 0)
        reply_busy(exchange);
    else
        http_exchange_reply(exchange, 200, NULL, 0, "application/x-x509-next-ca-cert", reply.data,
                reply.len);
    cc_buf_free(&reply);
    ra_free(ra);
}

static void
pki_operation(struct endpoint *endpoint, struct http_exchange *exchange)
{
    struct cc_buf message = CC_BUF_INIT(SCEP_BODY_MAX);
    const char *raw;

    if (strcmp(http_exchange_method(exchange), "POST") == 0) {
        message_handle(endpoint, exchange, http_exchange_body(exchange));
        return;
    }
    raw = http_exchange_query_raw(exchange, "message");
    if (raw == NULL || get_decode(raw, &message) != 0)
        reply_plain(exchange, 400, "the message is not in base64\n");
    else
        message_handle(endpoint, exchange, cc_buf_bytes(&message));
    cc_buf_free(&message);
}

static const struct {
    const char *name;
    void (*run)(struct endpoint *endpoint, struct http_exchange *exchange);
} operations[] = {
    { "PKIOperation", pki_operation },
    { "GetCACaps", get_ca_caps },
    { "GetCACert", get_ca_cert },
    { "GetNextCACert", get_next_ca_cert },
};

/* As RFC 8894 spells them, and as a courtesy otherwise. */
static const char *
operation_of(const struct http_exchange *exchange)
{
    static const char *const names[] = { "operation", "Operation", "OPERATION" };
    const char *value = NULL;

    for (size_t i = 0; i < CC_COUNT(names) && value == NULL; i++)
        value = http_exchange_query(exchange, names[i]);
    return value;
}

static void
get(struct endpoint *endpoint, struct http_exchange *exchange)
{
    const char *operation = operation_of(exchange);

    for (size_t i = 0; i < CC_COUNT(operations) && operation != NULL; i++) {
        if (cc_equal_nocase(operation, operations[i].name)) {
            operations[i].run(endpoint, exchange);
            return;
        }
    }
    if (operation == NULL)
        reply_plain(exchange, 400, "no operation\n");
    else
        reply_plain(exchange, 501, "this operation is not known here\n");
}

static void
refuse_method(struct http_exchange *exchange)
{
    static const struct http_header allow = { "Allow", "GET, POST" };
    static const char text[] = "SCEP is spoken with GET and POST\n";

    http_exchange_reply(exchange, 405, &allow, 1, "text/plain", text, strlen(text));
}

void
serve(void *arg, struct http_exchange *exchange)
{
    struct endpoint *endpoint = find_endpoint(arg, http_exchange_path(exchange));
    const char *method = http_exchange_method(exchange);

    (void)hsm_work_for(HSM_WORK_ENROLMENT);
    if (endpoint == NULL)
        reply_plain(exchange, 404, "no SCEP profile has this URL\n");
    else if (strcmp(method, "GET") == 0)
        get(endpoint, exchange);
    else if (strcmp(method, "POST") == 0)
        pki_operation(endpoint, exchange); /* the only one that is posted (section 4.3) */
    else
        refuse_method(exchange);
}
