/* SPDX-License-Identifier: MIT */
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <curl/curl.h>
#include <pthread.h>

#include "address.h"
#include "base/clock.h"
#include "base/text.h"
#include "identity.h"
#include "library.h"
#include "proxy.h"

#define CONNECT_TIMEOUT_MS 10000
#define TIMEOUT_MS 30000
#define RESPONSE_MAX ((size_t)1 << 20)
#define RETRY_AFTER_MAX_MS INT64_C(3600000)
#define HEADER_LINE_MAX ((size_t)CC_SECRET_MAX + 256)

/*
 * Lines that are kept when nobody needs them; each is a connection or a few.  As many as calls at once are to be expected
 * under load: with less, each rise in it would be paid for in TLS handshakes.
 */
#define IDLE_LINES_MAX 64

/* One easy handle and the multi handle that keeps its connections.  Used by one call at a time. */
struct line {
    CURLM *multi;
    CURL *easy;
    struct line *next;
    struct identity_use identity;
};

struct http_client {
    char *user_agent;
    char *proxy;
    char *proxy_user;
    char *proxy_password;
    char *no_proxy;
    char *ca_file;
    char *unix_socket;
    bool allow_http;
    int64_t connect_timeout_ms;
    struct http_client_identity identity; /* certificate NULL: none */

    pthread_mutex_t lock; /* guards the two lists */
    struct line *idle;
    unsigned idle_count;
    struct line *busy;
    atomic_bool cancelled;
};

/* ---- lines ---- */

static void
line_free(struct line *line)
{
    if (line == NULL)
        return;
    if (line->easy != NULL)
        curl_easy_cleanup(line->easy);
    if (line->multi != NULL)
        curl_multi_cleanup(line->multi);
    free(line);
}

static struct line *
line_new(struct cc_err *err)
{
    struct line *line = calloc(1, sizeof(*line));

    if (line != NULL) {
        line->easy = curl_easy_init();
        line->multi = curl_multi_init();
    }
    if (line == NULL || line->easy == NULL || line->multi == NULL) {
        line_free(line);
        cc_err_nomem(err);
        return NULL;
    }
    return line;
}

static int
cancelled(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_CANCELLED, 0, "stopping");
}

/* The line used last comes first: its connection is the freshest. */
static struct line *
line_take(struct http_client *client, struct cc_err *err)
{
    struct line *line;

    pthread_mutex_lock(&client->lock);
    if ((line = client->idle) != NULL) {
        client->idle = line->next;
        client->idle_count--;
    }
    pthread_mutex_unlock(&client->lock);
    if (line == NULL && (line = line_new(err)) == NULL)
        return NULL;

    /* Once it is among the busy ones, cancelling reaches it. */
    pthread_mutex_lock(&client->lock);
    line->next = client->busy;
    client->busy = line;
    pthread_mutex_unlock(&client->lock);
    return line;
}

static void
line_give_back(struct http_client *client, struct line *line)
{
    struct line **at;
    bool keep;

    /* Forgets the request and its secrets, keeps connections and TLS sessions. */
    curl_easy_reset(line->easy);
    pthread_mutex_lock(&client->lock);
    for (at = &client->busy; *at != line; at = &(*at)->next)
        ;
    *at = line->next;
    keep = client->idle_count < IDLE_LINES_MAX && !atomic_load(&client->cancelled);
    if (keep) {
        line->next = client->idle;
        client->idle = line;
        client->idle_count++;
    }
    pthread_mutex_unlock(&client->lock);
    if (!keep)
        line_free(line);
}

/* ---- open and close ---- */

static int
copy_text(char **ret, const char *text, struct cc_err *err)
{
    return text == NULL || (*ret = cc_strdup(text, err)) != NULL ? 0 : -1;
}

int
http_client_open(const struct http_client_settings *settings, struct http_client **ret_client,
        struct cc_err *err)
{
    struct http_client *client;

    if (library_open(err) != 0)
        return -1;
    if ((client = calloc(1, sizeof(*client))) == NULL)
        return cc_err_nomem(err);
    pthread_mutex_init(&client->lock, NULL);
    client->allow_http = settings->allow_http || settings->unix_socket != NULL;
    client->connect_timeout_ms =
            settings->connect_timeout_ms > 0 ? settings->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    if (copy_text(&client->user_agent, settings->user_agent, err) != 0 ||
            copy_text(&client->proxy, settings->proxy, err) != 0 ||
            copy_text(&client->proxy_user, settings->proxy_user, err) != 0 ||
            copy_text(&client->proxy_password, settings->proxy_password, err) != 0 ||
            copy_text(&client->no_proxy, settings->no_proxy, err) != 0 ||
            copy_text(&client->ca_file, settings->ca_file, err) != 0 ||
            copy_text(&client->unix_socket, settings->unix_socket, err) != 0 ||
            (settings->identity != NULL &&
                    identity_copy(settings->identity, &client->identity, err) != 0)) {
        http_client_close(client);
        return -1;
    }
    *ret_client = client;
    return 0;
}

void
http_client_close(struct http_client *client)
{
    if (client == NULL)
        return;
    while (client->idle != NULL) {
        struct line *line = client->idle;

        client->idle = line->next;
        line_free(line);
    }
    pthread_mutex_destroy(&client->lock);
    free(client->user_agent);
    free(client->proxy);
    free(client->proxy_user);
    free(client->proxy_password);
    free(client->no_proxy);
    free(client->ca_file);
    free(client->unix_socket);
    identity_free(&client->identity);
    free(client);
}

void
http_client_cancel(struct http_client *client)
{
    struct line *line;

    atomic_store(&client->cancelled, true);
    pthread_mutex_lock(&client->lock);
    for (line = client->busy; line != NULL; line = line->next)
        (void)curl_multi_wakeup(line->multi);
    pthread_mutex_unlock(&client->lock);
}

/* ---- one call ---- */

/* What one call needs while it runs. */
struct call {
    const struct http_request *request;
    struct curl_slist *headers;
    struct cc_buf body; /* of the answer */
    size_t max_response;
    bool too_large;
    bool head_whole;         /* its empty line has come */
    char inside[NI_MAXHOST]; /* an address that was refused as not public, or "" */
    struct cc_err err;       /* of the write callback */
    char text[CURL_ERROR_SIZE];
};

/* https, or http where it is allowed; a host, no user, no password. */
static int
check_url(const struct http_client *client, const char *text, struct cc_err *err)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    char *user = NULL;
    int rc = -1;

    if (url == NULL)
        return cc_err_nomem(err);
    if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
            curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        cc_err_set(err, CC_DOM_INPUT, 0, "not a URL");
    else if (strcasecmp(scheme, "https") != 0 &&
             !(client->allow_http && strcasecmp(scheme, "http") == 0))
        cc_err_set(err, CC_DOM_INPUT, 0, "the URL is not https");
    else if (curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
        cc_err_set(err, CC_DOM_INPUT, 0, "the URL names a user");
    else
        rc = 0;
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(url);
    return rc;
}

/* "Name: value", or what the library takes for a header without value. */
static int
add_header(struct call *call, const char *name, const char *value, struct cc_err *err)
{
    struct cc_buf line = CC_BUF_INIT(HEADER_LINE_MAX);
    struct curl_slist *longer = NULL;

    if (strpbrk(name, ":\r\n") != NULL || strpbrk(value, "\r\n") != NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a header with a line end in it");
    /* Reserved at once, so that no copy of a token is left behind by growing. */
    if (cc_buf_reserve(&line, strlen(name) + strlen(value) + 2, err) != NULL &&
            cc_buf_add_str(&line, name, err) == 0 &&
            cc_buf_add_str(&line, value[0] == '\0' ? ";" : ": ", err) == 0 &&
            cc_buf_add_str(&line, value, err) == 0) {
        longer = curl_slist_append(call->headers, cc_buf_str(&line));
        if (longer == NULL)
            cc_err_nomem(err);
    }
    cc_buf_wipe(&line);
    if (longer == NULL)
        return -1;
    call->headers = longer;
    return 0;
}

/* Tells the library to send no header of this name of its own. */
static int
suppress_header(struct call *call, const char *line, struct cc_err *err)
{
    struct curl_slist *longer = curl_slist_append(call->headers, line);

    if (longer == NULL)
        return cc_err_nomem(err);
    call->headers = longer;
    return 0;
}

static int
add_bearer(struct call *call, const struct cc_secret *bearer, struct cc_err *err)
{
    static const char scheme[] = "Bearer ";
    struct cc_buf value = CC_BUF_INIT(HEADER_LINE_MAX);
    int rc = -1;

    if (cc_buf_reserve(&value, strlen(scheme) + cc_secret_len(bearer), err) != NULL &&
            cc_buf_add_str(&value, scheme, err) == 0 &&
            cc_buf_add(&value, cc_secret_str(bearer), cc_secret_len(bearer), err) == 0)
        rc = add_header(call, "Authorization", cc_buf_str(&value), err);
    cc_buf_wipe(&value);
    return rc;
}

static int
make_headers(struct call *call, struct cc_err *err)
{
    const struct http_request *request = call->request;
    size_t i;

    for (i = 0; i < request->header_count; i++)
        if (add_header(call, request->headers[i].name, request->headers[i].value, err) != 0)
            return -1;
    if (request->bearer != NULL && add_bearer(call, request->bearer, err) != 0)
        return -1;
    if (request->content_type != NULL &&
            add_header(call, "Content-Type", request->content_type, err) != 0)
        return -1;
    if (request->content_type == NULL && suppress_header(call, "Content-Type:", err) != 0)
        return -1;
    /* A server that does not know 100-continue would cost a second a call. */
    return suppress_header(call, "Expect:", err);
}

/* Grows by hand, so that what is left behind is wiped. */
static int
make_room(struct cc_buf *body, size_t len, struct cc_err *err)
{
    struct cc_buf bigger = CC_BUF_INIT(body->max);
    size_t want = body->len + len;

    if (want <= body->cap && body->data != NULL)
        return 0;
    if (want < body->cap * 2)
        want = body->cap * 2;
    if (want > body->max)
        want = body->max;
    if (cc_buf_reserve(&bigger, want, err) == NULL)
        return -1;
    if (body->len > 0)
        memcpy(bigger.data, body->data, body->len);
    bigger.len = body->len;
    cc_buf_wipe(body);
    *body = bigger;
    return 0;
}

static size_t
on_body(char *data, size_t one, size_t len, void *arg)
{
    struct call *call = arg;

    (void)one;
    if (len > call->max_response - call->body.len) {
        call->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (make_room(&call->body, len, &call->err) != 0 ||
            cc_buf_add(&call->body, data, len, &call->err) != 0)
        return CURL_WRITEFUNC_ERROR;
    return len;
}

/* The library takes a head that was cut off for a whole one. */
static size_t
on_header(char *data, size_t one, size_t len, void *arg)
{
    struct call *call = arg;

    (void)one;
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
        call->head_whole = false;
    else if (len <= 2 && data[len - 1] == '\n')
        call->head_whole = true;
    return len;
}

static void
set_body(CURL *easy, const struct http_request *request)
{
    bool has_body = request->content_type != NULL;

    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (has_body || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                (curl_off_t)(has_body ? request->body.len : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                has_body && request->body.len > 0 ? (const char *)request->body.data : "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/* Looked at when it is to be connected to, so that no name can mean something else by then. */
static curl_socket_t
open_public(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct call *call = arg;

    (void)purpose;
    if (!http_address_is_public(&address->addr)) {
        if (getnameinfo(&address->addr, address->addrlen, call->inside, sizeof(call->inside), NULL,
                    0, NI_NUMERICHOST) != 0)
            (void)cc_strcpy(call->inside, sizeof(call->inside), "not of the internet");
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* The same of a connection that was kept, and made for somebody who did not mind. */
static int
use_public(void *arg, char *address, char *own_address, int port, int own_port)
{
    struct call *call = arg;
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

    (void)own_address;
    (void)port;
    (void)own_port;
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1
                    ? http_address_is_public((const struct sockaddr *)&in)
                    : inet_pton(AF_INET6, address, &in6.sin6_addr) == 1 &&
                              http_address_is_public((const struct sockaddr *)&in6))
        return CURL_PREREQFUNC_OK;
    (void)cc_strcpy(call->inside, sizeof(call->inside), address);
    return CURL_PREREQFUNC_ABORT;
}

static int
set_proxy(const struct http_client *client, CURL *easy, struct call *call, struct cc_err *err)
{
    const struct proxy_settings settings = { client->proxy, client->proxy_user,
        client->proxy_password, client->no_proxy, client->ca_file };
    CURLcode bad = CURLE_OK;

    if (call->request->public_only && client->proxy == NULL && client->unix_socket == NULL) {
        bad |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_public);
        bad |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
        bad |= curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, use_public);
        bad |= curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    }
    if (bad != CURLE_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, (long)bad, "libcurl lacks an option");
    return proxy_set(easy, &settings, err);
}

/* Connections that were kept have shown theirs; what they hear of it still counts for this call. */
static CURLcode
set_identity(const struct http_client *client, struct line *line)
{
    CURLcode bad = CURLE_OK;

    line->identity = (struct identity_use){ .identity = &client->identity };
    if (client->identity.certificate == NULL)
        return bad;
    bad |= curl_easy_setopt(line->easy, CURLOPT_SSL_CTX_FUNCTION, identity_put);
    bad |= curl_easy_setopt(line->easy, CURLOPT_SSL_CTX_DATA, &line->identity);
    return bad;
}

static int
set_options(const struct http_client *client, struct line *line, struct call *call,
        struct cc_err *err)
{
    CURL *easy = line->easy;
    const struct http_request *request = call->request;
    const char *protocols = client->allow_http ? "https,http" : "https";
    CURLcode bad = CURLE_OK;

    /* Nothing of the environment, of other sites, or of older TLS. */
    bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
    bad |= curl_easy_setopt(easy, CURLOPT_URL, request->url);
    bad |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* HTTP/2 would keep headers in memory that is not ours to wipe. */
    bad |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    /* A cancelled call does not wait for a resolver that hangs. */
    bad |= curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->text);
    bad |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
            (long)(request->timeout_ms > 0 ? request->timeout_ms : TIMEOUT_MS));
    if (client->user_agent != NULL)
        bad |= curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
    if (client->unix_socket != NULL)
        bad |= curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->unix_socket);
    if (client->ca_file != NULL) {
        bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
        bad |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    bad |= set_identity(client, line);
    set_body(easy, request);
    if (bad != CURLE_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, (long)bad, "libcurl lacks an option");
    return set_proxy(client, easy, call, err);
}

/* Runs the transfer; its result, or -1 when it was cancelled. */
static int
run(struct http_client *client, struct line *line, CURLcode *ret_result, struct cc_err *err)
{
    int running = 1;
    CURLMsg *message;
    int left;

    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "libcurl takes no transfer");
    *ret_result = CURLE_FAILED_INIT;
    while (running > 0 && !atomic_load(&client->cancelled)) {
        if (curl_multi_perform(line->multi, &running) != CURLM_OK)
            break;
        if (running > 0 && curl_multi_poll(line->multi, NULL, 0, 60000, NULL) != CURLM_OK)
            break;
    }
    while ((message = curl_multi_info_read(line->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            *ret_result = message->data.result;
    (void)curl_multi_remove_handle(line->multi, line->easy);
    if (running > 0 && atomic_load(&client->cancelled))
        return cancelled(err);
    return 0;
}

/* ---- the answer ---- */

static const char *
answer_header(CURL *easy, const char *name)
{
    struct curl_header *header;

    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                   : NULL;
}

static int64_t
parse_date(const char *text)
{
    time_t seconds = text == NULL ? -1 : curl_getdate(text, NULL);

    return seconds <= 0 ? 0 : (int64_t)seconds * 1000;
}

/* RFC 9110 section 10.2.3; a date counts from the Date of the same answer, as the clocks may differ. */
static int64_t
parse_retry_after(const char *text, int64_t date_ms)
{
    int64_t ms, at;

    if (text == NULL)
        return -1;
    if (cc_parse_int(text, 0, RETRY_AFTER_MAX_MS / 1000, &ms, NULL) == 0)
        return ms * 1000;
    if (text[0] != '\0' && strspn(text, "0123456789") == strlen(text))
        return RETRY_AFTER_MAX_MS;
    if ((at = parse_date(text)) == 0)
        return -1;
    ms = at - (date_ms != 0 ? date_ms : cc_clock_now_ms());
    if (ms < 0)
        return 0;
    return ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
}

static void
read_answer(CURL *easy, struct call *call, struct http_response *ret)
{
    const char *type = answer_header(easy, "Content-Type");
    const char *id = answer_header(easy, "request-id");
    const char *ms = answer_header(easy, "x-ms-retry-after-ms");

    if (id == NULL)
        id = answer_header(easy, "x-ms-request-id");
    http_response_init(ret);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &ret->status);
    ret->date_ms = parse_date(answer_header(easy, "Date"));
    ret->retry_after_ms = parse_retry_after(answer_header(easy, "Retry-After"), ret->date_ms);
    if (ms == NULL || cc_parse_int(ms, 0, INT_MAX, &ret->ms_retry_after, NULL) != 0)
        ret->ms_retry_after = -1;
    (void)cc_escape_into(ret->content_type, sizeof(ret->content_type), type == NULL ? "" : type);
    (void)cc_escape_into(ret->request_id, sizeof(ret->request_id), id == NULL ? "" : id);
    ret->body = call->body;
    cc_buf_init(&call->body, 0);
}

#define WHERE_MAX 256

/* Scheme and host: what a person needs to know of a URL, without what it may carry. */
static const char *
where_of(const char *url, char ret[WHERE_MAX])
{
    const char *host = strstr(url, "://");
    size_t len = host == NULL ? 0 : (size_t)(host - url) + 3;
    char plain[WHERE_MAX];

    len += strcspn(url + len, "/?#");
    (void)cc_strcpy(plain, len < sizeof(plain) ? len + 1 : sizeof(plain), url);
    return cc_escape_into(ret, WHERE_MAX, plain);
}

/* What a proxy said instead of letting us through; 0: it did, or there is none. */
static long
proxy_refusal(const struct http_client *client, CURL *easy, CURLcode result)
{
    long status = 0;

    if (client->proxy == NULL)
        return 0;
    curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (status >= 300)
        return status;
    /* Without a tunnel, for http, its answer comes as the server's. */
    if (result == CURLE_OK &&
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK &&
            status == HTTP_PROXY_WANTS_USER)
        return status;
    return 0;
}

static int
not_let_through(const struct http_client *client, const struct call *call, long status,
        struct cc_err *err)
{
    char proxy[WHERE_MAX], where[WHERE_MAX];

    where_of(client->proxy, proxy);
    where_of(call->request->url, where);
    if (status != HTTP_PROXY_WANTS_USER)
        return cc_err_set(err, CC_DOM_NETWORK, status,
                "%s: the proxy %s does not let us through: it answers with status %ld", where,
                proxy, status);
    if (client->proxy_user == NULL)
        return cc_err_set(err, CC_DOM_NETWORK, status,
                "%s: the proxy %s wants a user name and a password: set proxy-user and proxy-password",
                where, proxy);
    return cc_err_set(err, CC_DOM_NETWORK, status,
            "%s: the proxy %s refuses the user name and password: correct proxy-user or the file of "
            "proxy-password",
            where, proxy);
}

static int
no_answer(const struct call *call, const struct identity_use *identity, CURLcode result,
        struct cc_err *err)
{
    char where[WHERE_MAX];
    char why[CURL_ERROR_SIZE];

    where_of(call->request->url, where);
    cc_escape_into(why, sizeof(why),
            call->text[0] != '\0' ? call->text : curl_easy_strerror(result));
    if (call->too_large)
        return cc_err_set(err, CC_DOM_INPUT, (long)call->max_response,
                "%s: the answer is larger than the %zu bytes allowed", where, call->max_response);
    if (call->err.domain != CC_DOM_NONE)
        return cc_err_set(err, call->err.domain, call->err.code, "%s", call->err.text);
    if (identity->err.domain != CC_DOM_NONE)
        return cc_err_set(err, identity->err.domain, identity->err.code, "%s: %s", where,
                identity->err.text);
    if (identity->refusal != NULL)
        return cc_err_set(err, CC_DOM_NETWORK, HTTP_CERTIFICATE_REFUSED,
                "%s: our certificate was refused (%s)", where, identity->refusal);
    if ((result == CURLE_COULDNT_CONNECT || result == CURLE_ABORTED_BY_CALLBACK) &&
            call->inside[0] != '\0')
        return cc_err_set(err, CC_DOM_NETWORK, (long)result,
                "%s: its address %s is inside of our own network, where it has no business to be",
                where, call->inside);
    return cc_err_set(err, CC_DOM_NETWORK, (long)result, "%s: %s", where, why);
}

int
http_client_send(struct http_client *client, const struct http_request *request,
        struct http_response *ret, struct cc_err *err)
{
    struct call call = { .request = request };
    struct line *line = NULL;
    CURLcode result = CURLE_OK;
    long refusal;
    int rc = -1;

    if (atomic_load(&client->cancelled))
        return cancelled(err);
    call.max_response = request->max_response > 0 ? request->max_response : RESPONSE_MAX;
    cc_buf_init(&call.body, call.max_response);
    if (check_url(client, request->url, err) != 0 || make_headers(&call, err) != 0 ||
            (line = line_take(client, err)) == NULL)
        goto out;
    if (set_options(client, line, &call, err) != 0 || run(client, line, &result, err) != 0)
        goto out;
    if ((refusal = proxy_refusal(client, line->easy, result)) != 0) {
        not_let_through(client, &call, refusal, err);
        goto out;
    }
    if (result == CURLE_OK && !call.head_whole)
        result = CURLE_WEIRD_SERVER_REPLY;
    if (result != CURLE_OK) {
        no_answer(&call, &line->identity, result, err);
        goto out;
    }
    read_answer(line->easy, &call, ret);
    rc = 0;
out:
    if (line != NULL)
        line_give_back(client, line);
    curl_slist_free_all(call.headers);
    cc_buf_wipe(&call.body);
    return rc;
}

void
http_response_init(struct http_response *response)
{
    memset(response, 0, sizeof(*response));
    response->retry_after_ms = -1;
    response->ms_retry_after = -1;
}

void
http_response_free(struct http_response *response)
{
    if (response == NULL)
        return;
    cc_buf_wipe(&response->body);
    http_response_init(response);
}

int
http_url_escape(const char *text, struct cc_buf *ret, struct cc_err *err)
{
    static const char plain[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    static const char digits[] = "0123456789ABCDEF";
    const char *c;

    for (c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        char escape[3] = { '%', digits[byte >> 4], digits[byte & 15] };
        bool as_is = strchr(plain, *c) != NULL;

        if (cc_buf_add(ret, as_is ? c : escape, as_is ? 1 : sizeof(escape), err) != 0)
            return -1;
    }
    return 0;
}
