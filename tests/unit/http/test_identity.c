/* SPDX-License-Identifier: MIT */
#include "http/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/text.h"
#include "tls_proxy.h"

/* A client that shows a certificate, at a TLS server of this process that asks for it. */

enum judgement { TAKE_ANY, REFUSE_AS_REVOKED, REFUSE_UNKNOWN };

struct peer {
    int fd;
    unsigned port;
    SSL_CTX *ctx;
    pthread_t thread;
    char ca_file[64];
};

static EVP_PKEY *
new_key(const char *kind)
{
    EVP_PKEY *key = strcmp(kind, "RSA") == 0 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

static X509 *
certify(EVP_PKEY *key, const char *name, EVP_PKEY *signer, const char *issuer)
{
    X509 *certificate = X509_new();
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");

    assert_true(X509_set_version(certificate, 2) == 1 &&
                ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7) == 1 &&
                X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                        (const unsigned char *)name, -1, -1, 0) == 1 &&
                X509_NAME_add_entry_by_txt(X509_get_issuer_name(certificate), "CN", MBSTRING_UTF8,
                        (const unsigned char *)issuer, -1, -1, 0) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -60) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL &&
                X509_set_pubkey(certificate, key) == 1 && X509_add_ext(certificate, san, -1) == 1 &&
                X509_sign(certificate, signer, EVP_sha256()) > 0);
    X509_EXTENSION_free(san);
    return certificate;
}

/* ---- the server ---- */

static int
take_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static int
refuse_as_revoked(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
    return 0;
}

/* Whom it saw, with how many certificates beside. */
static void
describe(SSL *ssl, char *ret, size_t size)
{
    X509 *seen = SSL_get1_peer_certificate(ssl);
    char name[64] = "nobody";

    if (seen != NULL)
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(seen), NID_commonName, name,
                sizeof(name));
    (void)snprintf(ret, size, "%s, %d beside, %s", name,
            seen == NULL ? 0 : sk_X509_num(SSL_get_peer_cert_chain(ssl)), SSL_get_version(ssl));
    X509_free(seen);
}

static void
serve(SSL *ssl)
{
    char request[4096], text[256], answer[512];
    int len = 0, got;

    if (SSL_accept(ssl) != 1)
        return;
    do {
        if ((got = SSL_read(ssl, request + len, (int)sizeof(request) - 1 - len)) <= 0)
            return;
        len += got;
        request[len] = '\0';
    } while (strstr(request, "\r\n\r\n") == NULL);
    describe(ssl, text, sizeof(text));
    (void)snprintf(answer, sizeof(answer),
            "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(text),
            text);
    (void)SSL_write(ssl, answer, (int)strlen(answer));
    (void)SSL_shutdown(ssl);
}

static void *
peer_run(void *arg)
{
    struct peer *peer = arg;
    int fd;

    while ((fd = accept(peer->fd, NULL, NULL)) >= 0) {
        SSL *ssl = SSL_new(peer->ctx);
        char rest[256];

        SSL_set_fd(ssl, fd);
        serve(ssl);
        /* Or a reset could overtake the alert. */
        (void)shutdown(fd, SHUT_WR);
        while (recv(fd, rest, sizeof(rest), 0) > 0)
            ;
        SSL_free(ssl);
        close(fd);
    }
    return NULL;
}

static void
peer_open(struct peer *peer, int version, enum judgement judgement)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    EVP_PKEY *key = new_key("EC");
    X509 *certificate = certify(key, "127.0.0.1", key, "127.0.0.1");
    FILE *file;
    int fd;

    peer->ctx = SSL_CTX_new(TLS_server_method());
    assert_true(SSL_CTX_use_certificate(peer->ctx, certificate) == 1 &&
                SSL_CTX_use_PrivateKey(peer->ctx, key) == 1 &&
                SSL_CTX_set_min_proto_version(peer->ctx, version) == 1 &&
                SSL_CTX_set_max_proto_version(peer->ctx, version) == 1);
    SSL_CTX_set_verify(peer->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
            judgement == TAKE_ANY            ? take_any
            : judgement == REFUSE_AS_REVOKED ? refuse_as_revoked
                                             : NULL);
    (void)snprintf(peer->ca_file, sizeof(peer->ca_file), "/tmp/cc-test-XXXXXX");
    assert_true((fd = mkstemp(peer->ca_file)) >= 0);
    file = fdopen(fd, "w");
    assert_true(PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);

    assert_true((peer->fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    assert_int_equal(bind(peer->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(peer->fd, 8), 0);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&address, &len), 0);
    peer->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

static void
peer_close(struct peer *peer)
{
    (void)shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
    SSL_CTX_free(peer->ctx);
    (void)unlink(peer->ca_file);
}

/* ---- the client ---- */

struct holder {
    EVP_PKEY *key; /* NULL: it is away */
    unsigned asked;
};

static int
give_key(void *arg, EVP_PKEY **ret_key, struct cc_err *err)
{
    struct holder *holder = arg;

    holder->asked++;
    if (holder->key == NULL)
        return cc_err_set(err, CC_DOM_TOKEN, 1, "the token is away");
    *ret_key = holder->key;
    return 0;
}

/* One call; the answer's text, or what went wrong. */
static int
call_by(const char *proxy, struct peer *peer, const struct http_client_identity *identity,
        char *ret, size_t size, struct cc_err *err)
{
    const struct http_client_settings settings = { .proxy = proxy,
        .ca_file = peer->ca_file,
        .identity = identity };
    struct http_client *client = NULL;
    struct http_response response;
    char url[64];
    const struct http_request request = { .method = "GET", .url = url, .timeout_ms = 20000 };
    int rc;

    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/", peer->port);
    http_response_init(&response);
    assert_int_equal(http_client_open(&settings, &client, NULL), 0);
    rc = http_client_send(client, &request, &response, err);
    if (rc == 0)
        (void)snprintf(ret, size, "%s", cc_buf_str(&response.body));
    http_response_free(&response);
    http_client_close(client);
    return rc;
}

static int
call(struct peer *peer, const struct http_client_identity *identity, char *ret, size_t size,
        struct cc_err *err)
{
    return call_by(NULL, peer, identity, ret, size, err);
}

struct pair {
    EVP_PKEY *key, *ca_key;
    X509 *certificate, *ca;
    STACK_OF(X509) *chain;
};

static void
pair_open(struct pair *pair, const char *kind)
{
    pair->key = new_key(kind);
    pair->ca_key = new_key("EC");
    pair->ca = certify(pair->ca_key, "CA", pair->ca_key, "CA");
    pair->certificate = certify(pair->key, "client", pair->ca_key, "CA");
    pair->chain = sk_X509_new_null();
    assert_true(sk_X509_push(pair->chain, pair->ca) == 1);
}

static void
pair_close(struct pair *pair)
{
    sk_X509_free(pair->chain);
    X509_free(pair->certificate);
    X509_free(pair->ca);
    EVP_PKEY_free(pair->key);
    EVP_PKEY_free(pair->ca_key);
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static void
shows_certificate_and_chain(void **state)
{
    static const char *const kinds[] = { "RSA", "EC" };
    static const char *const want[] = { "client, 1 beside, TLSv1.2", "client, 1 beside, TLSv1.3" };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct pair pair;
        struct peer peer;
        struct holder holder = { .key = NULL };
        struct cc_err err = { 0 };
        char text[256] = "";

        pair_open(&pair, kinds[i / 2]);
        holder.key = pair.key;
        peer_open(&peer, versions[i % 2], TAKE_ANY);
        const struct http_client_identity identity = { pair.certificate, pair.chain, give_key,
            &holder };
        if (call(&peer, &identity, text, sizeof(text), &err) != 0)
            fail_msg("%s", cc_err_text(&err));
        assert_string_equal(text, want[i % 2]);
        assert_int_equal(holder.asked, 1);
        peer_close(&peer);
        pair_close(&pair);
    }
}

/* Whatever way the version has of saying so. */
static void
refusal_is_told_from_other_failures(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const enum judgement judgement = i / 2 == 0 ? REFUSE_AS_REVOKED : REFUSE_UNKNOWN;
        const bool shown = i / 2 < 2;
        struct pair pair;
        struct peer peer;
        struct holder holder = { .key = NULL };
        struct cc_err err = { 0 };
        char text[256];

        pair_open(&pair, "EC");
        holder.key = pair.key;
        peer_open(&peer, versions[i % 2], judgement);
        const struct http_client_identity identity = { pair.certificate, NULL, give_key, &holder };
        assert_int_equal(call(&peer, shown ? &identity : NULL, text, sizeof(text), &err), -1);
        assert_int_equal(err.domain, CC_DOM_NETWORK);
        if (shown) {
            assert_int_equal(err.code, HTTP_CERTIFICATE_REFUSED);
            assert_non_null(strstr(err.text, judgement == REFUSE_AS_REVOKED
                                                     ? "refused (certificate revoked)"
                                                     : "refused (unknown CA)"));
        } else {
            assert_int_not_equal(err.code, HTTP_CERTIFICATE_REFUSED);
        }
        peer_close(&peer);
        pair_close(&pair);
    }
}

static void
key_that_is_away_or_another(void **state)
{
    struct pair pair;
    struct peer peer;
    struct holder holder = { .key = NULL };
    const struct http_client_identity *shown;
    struct cc_err err = { 0 };
    char text[256];

    (void)state;
    pair_open(&pair, "EC");
    peer_open(&peer, TLS1_3_VERSION, TAKE_ANY);
    const struct http_client_identity identity = { pair.certificate, NULL, give_key, &holder };
    shown = &identity;
    assert_int_equal(call(&peer, shown, text, sizeof(text), &err), -1);
    assert_int_equal(err.domain, CC_DOM_TOKEN);
    assert_int_equal(err.code, 1);
    assert_non_null(strstr(err.text, "the token is away"));

    cc_err_clear(&err);
    holder.key = pair.ca_key;
    assert_int_equal(call(&peer, shown, text, sizeof(text), &err), -1);
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    assert_non_null(strstr(err.text, "is of another key"));
    peer_close(&peer);
    pair_close(&pair);
}

/* Who we are is the service's to know, and a key on a token has enough to do. */
static void
https_proxy_is_shown_nothing(void **state)
{
    static const char *const want[] = { "client, 1 beside, TLSv1.2", "client, 1 beside, TLSv1.3" };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        struct peer peer;
        struct tls_proxy proxy;
        struct holder holder = { .key = NULL };
        struct cc_err err = { 0 };
        char text[256] = "";

        pair_open(&pair, "EC");
        holder.key = pair.key;
        peer_open(&peer, versions[i], TAKE_ANY);
        tls_proxy_open(&proxy, peer.ctx, (uint16_t)peer.port);
        const struct http_client_identity identity = { pair.certificate, pair.chain, give_key,
            &holder };
        if (call_by(proxy.url, &peer, &identity, text, sizeof(text), &err) != 0)
            fail_msg("%s", cc_err_text(&err));
        tls_proxy_close(&proxy);
        assert_string_equal(text, want[i]);
        assert_int_equal(proxy.tunnels, 1);
        assert_int_equal(proxy.shown, 0);
        assert_int_equal(holder.asked, 1);
        peer_close(&peer);
        pair_close(&pair);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_certificate_and_chain),
        cmocka_unit_test(refusal_is_told_from_other_failures),
        cmocka_unit_test(key_that_is_away_or_another),
        cmocka_unit_test(https_proxy_is_shown_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
