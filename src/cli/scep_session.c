/* SPDX-License-Identifier: MIT */

/* Options of "scep", and talking to a server. */

#include <openssl/err.h>
#include <openssl/pem.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "ca_verbs.h"
#include "scep_verbs.h"

#define URL_MAX ((size_t)256 * 1024) /* of a request by GET, escaped */
#define CAPS_MAX 1024                /* what clients in the field read */
#define KEY_FILE_MAX ((size_t)65536)
#define POLL_MAX_MS INT64_C(28800000) /* eight hours of asking again are enough */

/* ---- options ---- */

static const struct {
    const char *name;
    int nid;
} ciphers[] = { { "aes256", NID_aes_256_cbc }, { "aes128", NID_aes_128_cbc },
    { "3des", NID_des_ede3_cbc } };

static int
read_cipher(const char *name, int *ret_nid, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(ciphers); i++) {
        if (name == NULL || strcmp(name, ciphers[i].name) == 0) {
            *ret_nid = ciphers[i].nid;
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_USAGE, 0, "--cipher is aes256, aes128 or 3des");
}

static int
read_digest(const char *name, const EVP_MD **ret_md, struct cc_err *err)
{
    if (name == NULL || strcmp(name, "sha256") == 0)
        *ret_md = EVP_sha256();
    else if (strcmp(name, "sha512") == 0)
        *ret_md = EVP_sha512();
    else if (strcmp(name, "sha1") == 0)
        *ret_md = EVP_sha1();
    else
        return cc_err_set(err, CC_DOM_USAGE, 0, "--digest is sha256, sha512 or sha1");
    return 0;
}

static int
read_times(const struct scep_options *options, struct scep_session *session, struct cc_err *err)
{
    struct cc_err why = { 0 };
    int64_t seconds;

    session->timeout_ms = 30000;
    if (options->timeout != NULL &&
            cc_parse_duration_ms(options->timeout, &session->timeout_ms, &why) != 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--timeout: %s", cc_err_text(&why));
    if (options->poll != NULL) {
        if (cc_parse_int(options->poll, 1, 3600, &seconds, &why) != 0)
            return cc_err_set(err, CC_DOM_USAGE, 0, "--poll: %s", cc_err_text(&why));
        session->poll_ms = seconds * 1000;
    }
    return 0;
}

int
scep_session_open(const struct scep_options *options, struct scep_session *ret, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector/" CC_VERSION,
        .ca_file = options->ca_file,
        .unix_socket = options->unix_socket,
        .allow_http = true,
    };

    *ret = (struct scep_session){ .options = options };
    if (options->url == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "which server? --url URL");
    ret->client.oaep = options->oaep;
    if (read_cipher(options->cipher, &ret->client.cipher_nid, err) != 0 ||
            read_digest(options->digest, &ret->client.md, err) != 0 ||
            read_times(options, ret, err) != 0)
        return -1;
    return http_client_open(&settings, &ret->http, err);
}

void
scep_session_close(struct scep_session *session)
{
    sk_X509_pop_free(session->client.authority, X509_free);
    http_client_close(session->http);
}

/* ---- one exchange ---- */

static int
add_query(struct scep_session *session, const char *operation, struct cc_buf *url,
        struct cc_err *err)
{
    const char *base = session->options->url;

    return cc_buf_printf(url, err, "%s%coperation=%s", base, strchr(base, '?') != NULL ? '&' : '?',
            operation);
}

static int
exchange(struct scep_session *session, const char *operation, struct http_request *request,
        struct http_response *response, struct cc_err *err)
{
    request->timeout_ms = session->timeout_ms;
    if (http_client_send(session->http, request, response, err) != 0)
        return cc_err_in(err, "%s", operation);
    if (response->status != 200)
        return cc_err_set(err, CC_DOM_HTTP, response->status,
                "%s: the server answered with status %ld: is it a SCEP server's address?",
                operation, response->status);
    return 0;
}

/* Clients in the field compare the whole header, so that parameters are refused here, too (RFC 8894 section 4). */
static int
wrong_type(const char *operation, const struct http_response *response, struct cc_err *err)
{
    char type[sizeof(response->content_type) * 4];

    return cc_err_set(err, CC_DOM_INPUT, 0, "%s: the answer is of Content-Type \"%s\"", operation,
            cc_escape_into(type, sizeof(type), response->content_type));
}

static int
get(struct scep_session *session, const char *operation, struct http_response *response,
        struct cc_err *err)
{
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    int rc = add_query(session, operation, &url, err);

    if (rc == 0) {
        struct http_request request = { .method = "GET", .url = cc_buf_str(&url) };

        rc = exchange(session, operation, &request, response, err);
    }
    cc_buf_free(&url);
    return rc;
}

int
scep_session_caps(struct scep_session *session, struct cc_buf *ret, struct cc_err *err)
{
    struct http_response response;
    int rc;

    http_response_init(&response);
    rc = get(session, "GetCACaps", &response, err);
    if (rc == 0 && response.body.len > CAPS_MAX)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "GetCACaps: an answer of %zu bytes",
                response.body.len);
    if (rc == 0)
        rc = cc_buf_add(ret, response.body.data, response.body.len, err);
    http_response_free(&response);
    return rc;
}

/* ---- GetCACert ---- */

static int
trust(struct scep_session *session, struct cc_err *err)
{
    const char *text = session->options->fingerprint;
    struct cc_buf plain = CC_BUF_INIT(256), digest = CC_BUF_INIT(32);
    int rc = 0;

    for (; *text != '\0' && rc == 0; text++)
        if (*text != ':')
            rc = cc_buf_add_u8(&plain, (uint8_t)*text, err);
    if (rc != 0 || cc_unhex(cc_buf_str(&plain), &digest, NULL) != 0 || digest.len != 32)
        rc = cc_err_set(err, CC_DOM_USAGE, 0, "--fingerprint is a SHA-256 in hexadecimal");
    else
        rc = scep_authority_trust(session->client.authority, digest.data, err);
    cc_buf_free(&plain);
    cc_buf_free(&digest);
    return rc;
}

int
scep_session_authority(struct scep_session *session, struct cc_err *err)
{
    const char *operation = "GetCACert";
    struct http_response response;
    int rc;

    http_response_init(&response);
    if ((rc = get(session, operation, &response, err)) == 0) {
        const bool one = strcmp(response.content_type, "application/x-x509-ca-cert") == 0;

        if (!one && strcmp(response.content_type, "application/x-x509-ca-ra-cert") != 0)
            rc = wrong_type(operation, &response, err);
        else if ((rc = scep_authority_read(cc_buf_bytes(&response.body), !one,
                          &session->client.authority, err)) != 0)
            rc = cc_err_in(err, "%s", operation);
    }
    http_response_free(&response);
    if (rc == 0 && session->options->fingerprint != NULL)
        rc = trust(session, err);
    return rc;
}

/* ---- PKIOperation ---- */

static int
add_message(struct cc_bytes message, struct cc_buf *url, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(URL_MAX);
    int rc = -1;

    if (cc_base64(message.data, message.len, &text, err) == 0 &&
            cc_buf_add_str(url, "&message=", err) == 0)
        rc = http_url_escape(cc_buf_str(&text), url, err);
    cc_buf_free(&text);
    return rc;
}

static int
operate(struct scep_session *session, struct cc_bytes message, struct http_response *response,
        struct cc_err *err)
{
    const char *operation = "PKIOperation";
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    struct http_request request = { .method = "POST" };
    int rc = add_query(session, operation, &url, err);

    if (rc == 0 && session->options->get) {
        request.method = "GET";
        rc = add_message(message, &url, err);
    } else if (rc == 0) {
        request.content_type = "application/x-pki-message";
        request.body = message;
    }
    request.url = cc_buf_str(&url);
    if (rc == 0)
        rc = exchange(session, operation, &request, response, err);
    if (rc == 0 && strcmp(response->content_type, "application/x-pki-message") != 0)
        rc = wrong_type(operation, response, err);
    cc_buf_free(&url);
    return rc;
}

static int
ask_once(struct scep_session *session, enum pki_scep_type type, struct cc_bytes content,
        struct scep_answer *ret, struct cc_err *err)
{
    const char *save = session->options->save_reply;
    struct cc_buf message = CC_BUF_INIT(PKI_SCEP_MESSAGE_MAX);
    struct http_response response;
    int rc = -1;

    http_response_init(&response);
    if (scep_client_write(&session->client, type, content, &session->transaction, &message, err) !=
                    0 ||
            operate(session, cc_buf_bytes(&message), &response, err) != 0)
        goto out;
    if (save != NULL &&
            cc_file_replace(save, response.body.data, response.body.len, 0644, err) != 0)
        goto out;
    rc = scep_client_read(&session->client, &session->transaction, cc_buf_bytes(&response.body),
            ret, err);
out:
    http_response_free(&response);
    cc_buf_free(&message);
    return rc;
}

int
scep_session_ask(struct scep_session *session, enum pki_scep_type type, struct cc_bytes content,
        struct cc_bytes poll_content, struct scep_answer *ret, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(POLL_MAX_MS);
    int rc = -1;

    if (scep_transaction_begin(&session->transaction, err) == 0)
        rc = ask_once(session, type, content, ret, err);
    while (rc == 0 && ret->status == PKI_SCEP_PENDING && session->poll_ms > 0 &&
            cc_deadline_left(deadline) > 0) {
        (void)poll(NULL, 0, (int)session->poll_ms);
        rc = ask_once(session, PKI_SCEP_CERT_POLL, poll_content, ret, err);
    }
    return rc;
}

/* ---- files ---- */

/* Instead of OpenSSL's own, which would ask on the terminal. */
static int
no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

int
scep_read_key(const char *path, EVP_PKEY **ret_key, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(KEY_FILE_MAX);
    BIO *bio = NULL;
    EVP_PKEY *key = NULL;
    int rc = -1;

    ERR_clear_error();
    if (cc_file_read(path, &text, err) != 0)
        goto out;
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    if (bio == NULL || (key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)) == NULL) {
        cc_err_set(err, CC_DOM_INPUT, 0, "%s is no private key in PEM without a password", path);
        goto out;
    }
    *ret_key = key;
    rc = 0;
out:
    ERR_clear_error();
    BIO_free(bio);
    cc_buf_wipe(&text);
    return rc;
}

int
scep_read_certificate(const char *path, X509 **ret_certificate, struct cc_err *err)
{
    STACK_OF(X509) *list = sk_X509_new_null();
    int rc = -1;

    if (list == NULL)
        return cc_err_nomem(err);
    if (cli_read_certificates(path, list, err) == 0) {
        *ret_certificate = sk_X509_shift(list);
        rc = 0;
    }
    sk_X509_pop_free(list, X509_free);
    return rc;
}

int
scep_add_certificate_pem(X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    const int len = i2d_X509(certificate, &der);
    int rc = len < 0 ? cc_err_set_openssl(err, "a certificate")
                     : cli_add_pem("CERTIFICATE", (struct cc_bytes){ der, (size_t)len }, ret, err);

    OPENSSL_free(der);
    return rc;
}
