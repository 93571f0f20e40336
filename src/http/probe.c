/* SPDX-License-Identifier: MIT */
#include "http/probe.h"

#include <curl/curl.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/text.h"
#include "http/client.h"
#include "library.h"
#include "proxy.h"

struct call {
    const struct http_probe_settings *settings;
    CURL *easy;
    char text[CURL_ERROR_SIZE];
    struct http_probe *probe;
};

/* ---- what the server said ---- */

static size_t
on_header(char *data, size_t size, size_t count, void *arg)
{
    static const char name[] = "date:";
    struct call *call = arg;
    const size_t len = size * count;
    char value[64];
    time_t date;

    if (len <= sizeof(name) || len - (sizeof(name) - 1) >= sizeof(value) ||
            strncasecmp(data, name, sizeof(name) - 1) != 0)
        return len;
    memcpy(value, data + sizeof(name) - 1, len - (sizeof(name) - 1));
    value[len - (sizeof(name) - 1)] = '\0';
    date = curl_getdate(value, NULL);
    if (date > 0) {
        call->probe->date_ms = (int64_t)date * 1000;
        call->probe->seen_ms = cc_clock_now_ms();
    }
    return len;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
    (void)data;
    (void)arg;
    return size * count;
}

static void
copy_field(char *ret, size_t size, const struct curl_slist *list, const char *name)
{
    for (; list != NULL; list = list->next)
        if (cc_starts_with(list->data, name))
            (void)cc_escape_into(ret, size, list->data + strlen(name));
}

/* Of the first certificate whose it is and until when; of the last, who signed it. */
static void
read_certificates(struct call *call)
{
    struct curl_certinfo *info = NULL;

    if (curl_easy_getinfo(call->easy, CURLINFO_CERTINFO, &info) != CURLE_OK || info == NULL ||
            info->num_of_certs < 1)
        return;
    copy_field(call->probe->subject, sizeof(call->probe->subject), info->certinfo[0], "Subject:");
    copy_field(call->probe->not_after, sizeof(call->probe->not_after), info->certinfo[0],
            "Expire date:");
    copy_field(call->probe->issuer, sizeof(call->probe->issuer),
            info->certinfo[info->num_of_certs - 1], "Issuer:");
}

/* ---- one request ---- */

static int
set_options(struct call *call, bool verify, struct cc_err *err)
{
    const struct http_probe_settings *s = call->settings;
    const struct proxy_settings proxy = { s->proxy, s->proxy_user, s->proxy_password, s->no_proxy,
        s->ca_file };
    CURL *easy = call->easy;
    CURLcode bad = CURLE_OK;

    bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http");
    bad |= curl_easy_setopt(easy, CURLOPT_URL, s->url);
    bad |= curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->text);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)s->timeout_ms);
    bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)s->timeout_ms);
    bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
    bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
    if (s->ca_file != NULL) {
        bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, s->ca_file);
        bad |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (bad != CURLE_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, (long)bad, "libcurl lacks an option");
    return proxy_set(easy, &proxy, err);
}

static enum http_obstacle
judge_certificate(long code)
{
    switch (code) {
    /* libcurl compares names itself, behind a handshake that was good, before it records that. */
    case X509_V_OK:
    case X509_V_ERR_UNSPECIFIED:
        return HTTP_OBSTACLE_HOST;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return HTTP_OBSTACLE_EXPIRED;
    default:
        return HTTP_OBSTACLE_TRUST;
    }
}

static enum http_obstacle
judge(CURLcode code, const struct http_probe *probe)
{
    /* libcurl says the same of both handshakes; that with the proxy comes first. */
    if (code != CURLE_OK && probe->proxy_verify_code != X509_V_OK)
        return HTTP_OBSTACLE_PROXY;
    switch (code) {
    case CURLE_OK:
        return HTTP_OBSTACLE_NONE;
    case CURLE_COULDNT_RESOLVE_PROXY:
        return HTTP_OBSTACLE_PROXY_NAME;
    case CURLE_COULDNT_RESOLVE_HOST:
        return HTTP_OBSTACLE_NAME;
    case CURLE_COULDNT_CONNECT:
        return HTTP_OBSTACLE_CONNECT;
    case CURLE_PROXY:
        return HTTP_OBSTACLE_PROXY;
    case CURLE_PEER_FAILED_VERIFICATION:
        return judge_certificate(probe->verify_code);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
        return HTTP_OBSTACLE_TLS;
    case CURLE_SSL_CACERT_BADFILE:
        return HTTP_OBSTACLE_TRUST;
    case CURLE_OPERATION_TIMEDOUT:
        return HTTP_OBSTACLE_TIMEOUT;
    default:
        return probe->proxy_status >= 300 ? HTTP_OBSTACLE_PROXY : HTTP_OBSTACLE_OTHER;
    }
}

/* Whether a host is of the list of those that no proxy is used for, as libcurl reads it: names and ends of names. */
static bool
is_listed(const char *list, const char *host)
{
    const size_t host_len = strlen(host);

    while (list != NULL && *list != '\0') {
        const size_t len = strcspn(list, ", ");
        const char *name = *list == '.' ? list + 1 : list;
        const size_t name_len = len - (size_t)(name - list);

        if (len == 1 && *list == '*')
            return true;
        if (name_len > 0 && name_len <= host_len &&
                strncasecmp(host + host_len - name_len, name, name_len) == 0 &&
                (name_len == host_len || host[host_len - name_len - 1] == '.'))
            return true;
        list += len;
        list += strspn(list, ", ");
    }
    return false;
}

static bool
goes_to_proxy(const struct http_probe_settings *settings)
{
    CURLU *url = curl_url();
    char *host = NULL;
    bool goes = false;

    if (settings->proxy != NULL && url != NULL &&
            curl_url_set(url, CURLUPART_URL, settings->url, 0) == CURLUE_OK &&
            curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        goes = !is_listed(settings->no_proxy, host);
    curl_free(host);
    curl_url_cleanup(url);
    return goes;
}

static CURLcode
perform(struct call *call)
{
    struct http_probe *probe = call->probe;
    CURLcode code = curl_easy_perform(call->easy);

    (void)curl_easy_getinfo(call->easy, CURLINFO_HTTP_CONNECTCODE, &probe->proxy_status);
    if (code == CURLE_OK) { /* without TLS the proxy refuses like any server */
        long status = 0;

        (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status == HTTP_PROXY_WANTS_USER) {
            probe->proxy_status = status;
            code = CURLE_PROXY;
        }
    }
    (void)curl_easy_getinfo(call->easy, CURLINFO_PROXY_SSL_VERIFYRESULT, &probe->proxy_verify_code);
    (void)curl_easy_getinfo(call->easy, CURLINFO_SSL_VERIFYRESULT, &probe->verify_code);
    read_certificates(call);
    return code;
}

static int
ask(struct call *call, bool verify, struct cc_err *err)
{
    struct http_probe *probe = call->probe;
    CURLcode code;

    if ((call->easy = curl_easy_init()) == NULL)
        return cc_err_nomem(err);
    if (set_options(call, verify, err) != 0) {
        curl_easy_cleanup(call->easy);
        return -1;
    }
    code = perform(call);
    if (verify) {
        probe->obstacle = judge(code, probe);
        if (code != CURLE_OK)
            cc_err_set(&probe->err, CC_DOM_NETWORK, (long)code, "%s",
                    call->text[0] != '\0' ? call->text : curl_easy_strerror(code));
    }
    curl_easy_cleanup(call->easy);
    return 0;
}

static bool
is_distrusted(enum http_obstacle obstacle)
{
    return obstacle == HTTP_OBSTACLE_TRUST || obstacle == HTTP_OBSTACLE_EXPIRED ||
           obstacle == HTTP_OBSTACLE_HOST;
}

/*
 * In a tunnel through an https proxy libcurl loses why a handshake failed: sending the alert clears OpenSSL's errors.
 * When nothing is verified the verdict on the certificate is there all the same.
 */
static bool
is_hidden(const struct http_probe *probe, const struct http_probe_settings *settings)
{
    return probe->obstacle == HTTP_OBSTACLE_TLS && goes_to_proxy(settings) &&
           strncasecmp(settings->proxy, "https:", strlen("https:")) == 0;
}

static void
reveal(struct http_probe *probe)
{
    if (probe->verify_code == X509_V_OK || probe->verify_code == X509_V_ERR_UNSPECIFIED)
        return;
    probe->obstacle = judge_certificate(probe->verify_code);
    cc_err_clear(&probe->err);
    cc_err_set(&probe->err, CC_DOM_NETWORK, (long)CURLE_PEER_FAILED_VERIFICATION, "%s",
            X509_verify_cert_error_string(probe->verify_code));
}

int
http_probe(const struct http_probe_settings *settings, struct http_probe *ret, struct cc_err *err)
{
    struct http_probe probe = { .obstacle = HTTP_OBSTACLE_OTHER };
    struct call call = { .settings = settings, .probe = &probe };
    long verify_code;
    bool hidden;

    if (library_open(err) != 0 || ask(&call, true, err) != 0)
        return -1;
    verify_code = probe.verify_code;
    hidden = is_hidden(&probe, settings);
    if ((hidden || is_distrusted(probe.obstacle)) && ask(&call, false, err) != 0)
        return -1;
    if (hidden)
        reveal(&probe);
    else
        probe.verify_code = verify_code;
    if (probe.obstacle == HTTP_OBSTACLE_CONNECT && goes_to_proxy(settings))
        probe.obstacle = HTTP_OBSTACLE_PROXY;
    *ret = probe;
    return 0;
}
