/* SPDX-License-Identifier: MIT */
/*
 * scep_load [--des] PORT PATH DEVICES CLIENTS
 *
 * Enrols devices at the SCEP server on a port of this machine, from CLIENTS connections that are kept, and prints the
 * rate and the latencies as JSON.  File DEVICES has a line for each, "NAME CHALLENGE".  The messages are made before the
 * clock starts, each another transaction and request; a few keys serve all devices, as making them is slow.  When the
 * clock has stopped every answer is checked, and opened: a wrong one ends this with an error, those that are no success,
 * and certificates with the serial number of another, are counted.
 *
 * --des: single DES and SHA-1, for servers that know nothing better.
 */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/enveloped.h"
#include "pki/scep.h"

#define KEYS 16
#define ENROLMENTS_MAX 65536
#define CLIENTS_MAX 256
#define SHOWN_MAX 8
#define ANSWER_MAX ((size_t)1 << 20)

struct keypair {
    EVP_PKEY *key;
    X509 *certificate; /* signed by itself */
};

/* A message on its way, and what came back. */
struct enrolment {
    const struct keypair *pair;
    const char *name;
    char transaction[2 * PKI_SCEP_NONCE_LEN + 1];
    uint8_t nonce[PKI_SCEP_NONCE_LEN];
    struct cc_buf request, answer; /* with the HTTP head; without */
    double ms;
};

struct server {
    uint16_t port;
    const char *path;
    int cipher_nid;
    const EVP_MD *md;
    X509 *shown[SHOWN_MAX]; /* the first is encrypted to */
    size_t shown_count;
};

static struct server server;
static struct keypair pairs[KEYS];
static struct enrolment enrolments[ENROLMENTS_MAX];
static size_t enrolment_count;
static atomic_size_t next_enrolment;
static pthread_barrier_t ready;

static void
check(bool good, const char *what, const struct cc_err *err)
{
    if (good)
        return;
    fprintf(stderr, "scep_load: %s%s%s\n", what, err != NULL ? ": " : "",
            err != NULL ? cc_err_text(err) : "");
    exit(1);
}

static double
seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- HTTP ---- */

static int
open_connection(void)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
        .sin_port = htons(server.port),
        .sin_addr = { htonl(INADDR_LOOPBACK) } };
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0,
            "cannot connect", NULL);
    return fd;
}

/* Chunks up to the last (RFC 9112 section 7.1); false: there is more to come. */
static bool
join_chunks(const char *at, const char *end, struct cc_buf *ret)
{
    size_t size;

    cc_buf_reset(ret);
    do {
        const char *line = strstr(at, "\r\n");

        if (line == NULL)
            return false;
        size = strtoul(at, NULL, 16);
        at = line + 2;
        if (size + 2 > (size_t)(end - at))
            return false;
        check(cc_buf_add(ret, at, size, NULL) == 0, "an answer is too long", NULL);
        at += size + 2;
    } while (size > 0);
    return true;
}

/* The body, once all of it is there. */
static bool
take_body(const struct cc_buf *received, struct cc_buf *ret)
{
    const char *text = cc_buf_str(received), *body = strstr(text, "\r\n\r\n");
    const char *length = strcasestr(text, "\r\nContent-Length:");
    const char *end = text + received->len;

    if (body == NULL)
        return false;
    body += 4;
    check(strncmp(text, "HTTP/1.1 200 ", 13) == 0, text, NULL);
    if (length == NULL || length > body)
        return join_chunks(body, end, ret);
    if ((size_t)(end - body) < strtoul(strchr(length, ':') + 1, NULL, 10))
        return false;
    check(cc_buf_add(ret, body, (size_t)(end - body), NULL) == 0, "an answer is too long", NULL);
    return true;
}

static void
exchange(int fd, const struct cc_buf *request, struct cc_buf *ret_body)
{
    struct cc_buf received = CC_BUF_INIT(ANSWER_MAX);
    struct cc_err err = { 0 };

    check(cc_fd_write_all(fd, request->data, request->len, &err) == 0, "cannot send", &err);
    do {
        uint8_t *room = cc_buf_reserve(&received, 8192, &err);
        ssize_t got;

        check(room != NULL, "an answer", &err);
        got = read(fd, room, 8192);
        check(got > 0, "the server closed the connection", NULL);
        received.len += (size_t)got;
        received.data[received.len] = '\0';
    } while (!take_body(&received, ret_body));
    cc_buf_free(&received);
}

static void
get_shown(void)
{
    struct cc_buf request = CC_BUF_INIT(1024), body = CC_BUF_INIT(ANSWER_MAX);
    STACK_OF(X509) *list = NULL;
    X509_CRL *crl = NULL;
    const unsigned char *at;
    struct cc_err err = { 0 };
    const int fd = open_connection();

    check(cc_buf_printf(&request, &err, "GET %s?operation=GetCACert HTTP/1.1\r\nHost: x\r\n\r\n",
                  server.path) == 0,
            "GetCACert", &err);
    exchange(fd, &request, &body);
    at = body.data;
    if ((server.shown[0] = d2i_X509(NULL, &at, (long)body.len)) != NULL) {
        server.shown_count = 1;
    } else {
        check(pki_certs_only_read(cc_buf_bytes(&body), &list, &crl, &err) == 0, "GetCACert", &err);
        while (server.shown_count < SHOWN_MAX && sk_X509_num(list) > 0)
            server.shown[server.shown_count++] = sk_X509_shift(list);
        check(server.shown_count > 0, "GetCACert: no certificate", NULL);
        X509_CRL_free(crl);
        sk_X509_pop_free(list, X509_free);
    }
    close(fd);
    cc_buf_free(&request);
    cc_buf_free(&body);
}

/* ---- before the clock ---- */

static X509_NAME *
make_name(const char *common_name)
{
    X509_NAME *name = X509_NAME_new();

    check(name != NULL &&
                    X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC,
                            (const unsigned char *)"Contoso", -1, -1, 0) == 1 &&
                    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                            (const unsigned char *)common_name, -1, -1, 0) == 1,
            "a name", NULL);
    return name;
}

static void
make_pair(struct keypair *ret)
{
    X509_NAME *name = make_name("device");
    X509 *certificate = X509_new();

    check((ret->key = EVP_RSA_gen(2048)) != NULL && certificate != NULL &&
                    X509_set_version(certificate, X509_VERSION_3) == 1 &&
                    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
                    X509_set_subject_name(certificate, name) == 1 &&
                    X509_set_issuer_name(certificate, name) == 1 &&
                    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
                    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL &&
                    X509_set_pubkey(certificate, ret->key) == 1 &&
                    X509_sign(certificate, ret->key, EVP_sha256()) > 0,
            "a device's certificate", NULL);
    ret->certificate = certificate;
    X509_NAME_free(name);
}

static void
make_csr(const struct enrolment *enrolment, const char *challenge, struct cc_buf *ret)
{
    X509_NAME *name = make_name(enrolment->name);
    struct cc_secret *secret = cc_secret_copy(challenge, strlen(challenge), NULL);
    const struct cc_bytes none = { NULL, 0 };
    unsigned char *der = NULL;
    const int len = i2d_X509_NAME(name, &der);
    struct cc_err err = { 0 };

    check(len > 0 && secret != NULL &&
                    pki_csr_build(enrolment->pair->key, (struct cc_bytes){ der, (size_t)len }, none,
                            secret, ret, &err) == 0,
            "a request", &err);
    cc_secret_free(secret);
    OPENSSL_free(der);
    X509_NAME_free(name);
}

static void
make_message(const struct enrolment *enrolment, struct cc_bytes csr, struct cc_buf *ret)
{
    struct cc_buf envelope = CC_BUF_INIT(PKI_ENVELOPED_MAX);
    struct pki_enveloped like;
    struct cc_err err = { 0 };

    pki_enveloped_init(&like);
    like.cipher_nid = server.cipher_nid;
    check(pki_enveloped_write_like(&like, server.shown[0], csr, &envelope, &err) == 0,
            "an envelope", &err);
    const struct pki_scep_draft draft = {
        .type = PKI_SCEP_PKCS_REQ,
        .status = -1,
        .fail_info = -1,
        .transaction_id = cc_bytes_of_str(enrolment->transaction),
        .sender_nonce = { enrolment->nonce, sizeof(enrolment->nonce) },
        .envelope = cc_buf_bytes(&envelope),
        .signer = enrolment->pair->certificate,
        .key = enrolment->pair->key,
        .md = server.md,
    };
    check(pki_scep_write(&draft, ret, &err) == 0, "a message", &err);
    pki_enveloped_free(&like);
    cc_buf_free(&envelope);
}

static void
make_enrolment(struct enrolment *ret, const char *challenge)
{
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX), message = CC_BUF_INIT(PKI_SCEP_MESSAGE_MAX);
    uint8_t random[PKI_SCEP_NONCE_LEN];

    check(RAND_bytes(random, sizeof(random)) == 1 &&
                    RAND_bytes(ret->nonce, PKI_SCEP_NONCE_LEN) == 1,
            "random bytes", NULL);
    cc_hex(random, sizeof(random), false, ret->transaction);
    cc_buf_init(&ret->request, 2 * PKI_SCEP_MESSAGE_MAX);
    cc_buf_init(&ret->answer, ANSWER_MAX);
    make_csr(ret, challenge, &csr);
    make_message(ret, cc_buf_bytes(&csr), &message);
    check(cc_buf_printf(&ret->request, NULL,
                  "POST %s?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n"
                  "Content-Type: application/x-pki-message\r\nContent-Length: %zu\r\n\r\n",
                  server.path, message.len) == 0 &&
                    cc_buf_add(&ret->request, message.data, message.len, NULL) == 0,
            "a message is too long", NULL);
    cc_buf_free(&csr);
    cc_buf_free(&message);
}

static void
make_all(char *devices)
{
    char *name, *challenge;

    for (size_t i = 0; i < KEYS; i++)
        make_pair(&pairs[i]);
    name = strtok(devices, " ");
    while (name != NULL && (challenge = strtok(NULL, "\n")) != NULL) {
        struct enrolment *enrolment = &enrolments[enrolment_count];

        check(enrolment_count < ENROLMENTS_MAX, "too many devices", NULL);
        enrolment->name = name;
        enrolment->pair = &pairs[enrolment_count++ % KEYS];
        make_enrolment(enrolment, challenge);
        name = strtok(NULL, " ");
    }
    check(enrolment_count > 0, "no devices", NULL);
}

/* ---- while it runs ---- */

static void *
client_run(void *arg)
{
    const int fd = open_connection();
    size_t i;

    (void)arg;
    (void)pthread_barrier_wait(&ready);
    while ((i = atomic_fetch_add(&next_enrolment, 1)) < enrolment_count) {
        const double begin = seconds_now();

        exchange(fd, &enrolments[i].request, &enrolments[i].answer);
        enrolments[i].ms = (seconds_now() - begin) * 1000;
    }
    close(fd);
    return NULL;
}

/* The seconds from the first message to the last answer. */
static double
run_clients(unsigned count)
{
    pthread_t threads[CLIENTS_MAX];
    double begin;

    check(pthread_barrier_init(&ready, NULL, count + 1) == 0, "threads", NULL);
    for (unsigned i = 0; i < count; i++)
        check(pthread_create(&threads[i], NULL, client_run, NULL) == 0, "threads", NULL);
    begin = seconds_now();
    (void)pthread_barrier_wait(&ready);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return seconds_now() - begin;
}

/* ---- behind it ---- */

static struct cc_secret *
open_answer(const struct enrolment *enrolment, struct cc_bytes der)
{
    const struct keypair *pair = enrolment->pair;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pair->key, NULL);
    struct pki_enveloped envelope;
    struct cc_secret *content = NULL;
    uint8_t key[512];
    size_t which, len = sizeof(key);
    struct cc_err err = { 0 };

    pki_enveloped_init(&envelope);
    check(pki_enveloped_data_read_for(der, &pair->certificate, 1, &which, &envelope, &err) == 0,
            "an answer's envelope", &err);
    check(ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 &&
                    EVP_PKEY_decrypt(ctx, key, &len, envelope.encrypted_key.data,
                            envelope.encrypted_key.len) == 1 &&
                    pki_enveloped_open(&envelope, (struct cc_bytes){ key, len }, &content, &err) ==
                            0,
            "an answer's envelope does not open", &err);
    pki_enveloped_free(&envelope);
    EVP_PKEY_CTX_free(ctx);
    return content;
}

static bool
is_signed_by_shown(X509 *certificate)
{
    for (size_t i = 0; i < server.shown_count; i++)
        if (X509_NAME_cmp(X509_get_subject_name(server.shown[i]),
                    X509_get_issuer_name(certificate)) == 0 &&
                X509_verify(certificate, X509_get0_pubkey(server.shown[i])) == 1)
            return true;
    return false;
}

/* The serial number of the certificate for this very request. */
static char *
check_certificate(const struct enrolment *enrolment, struct cc_bytes content)
{
    X509_NAME *name = make_name(enrolment->name);
    STACK_OF(X509) *list = NULL;
    X509_CRL *crl = NULL;
    X509 *certificate;
    BIGNUM *serial;
    char *text = NULL;
    struct cc_err err = { 0 };

    check(pki_certs_only_read(content, &list, &crl, &err) == 0 && sk_X509_num(list) == 1,
            "an answer has not one certificate", &err);
    certificate = sk_X509_value(list, 0);
    check(EVP_PKEY_eq(X509_get0_pubkey(certificate), enrolment->pair->key) == 1 &&
                    X509_NAME_cmp(X509_get_subject_name(certificate), name) == 0 &&
                    is_signed_by_shown(certificate),
            "an answer's certificate is for another request, or not the CA's", NULL);
    serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    check(serial != NULL && (text = BN_bn2hex(serial)) != NULL, "a serial number", NULL);
    BN_free(serial);
    X509_CRL_free(crl);
    sk_X509_pop_free(list, X509_free);
    X509_NAME_free(name);
    return text;
}

static bool
is_shown(const X509 *certificate)
{
    for (size_t i = 0; i < server.shown_count; i++)
        if (X509_cmp(server.shown[i], certificate) == 0)
            return true;
    return false;
}

/* NULL: the answer is good, and no success. */
static char *
check_answer(const struct enrolment *enrolment)
{
    const struct cc_bytes transaction = cc_bytes_of_str(enrolment->transaction);
    struct pki_scep_message message;
    struct cc_secret *content;
    struct cc_err err = { 0 };
    char *serial = NULL;

    check(pki_scep_read(cc_buf_bytes(&enrolment->answer), &message, &err) == 0 &&
                    pki_scep_verify(&message, &err) == 0,
            "an answer", &err);
    check(is_shown(message.signer), "an answer is signed by somebody else", NULL);
    check(message.type == PKI_SCEP_CERT_REP && message.transaction_id.len == transaction.len &&
                    memcmp(message.transaction_id.data, transaction.data, transaction.len) == 0,
            "an answer is to another transaction", NULL);
    check(message.recipient_nonce.len == PKI_SCEP_NONCE_LEN &&
                    memcmp(message.recipient_nonce.data, enrolment->nonce, PKI_SCEP_NONCE_LEN) == 0,
            "an answer has another nonce", NULL);
    if (message.status == PKI_SCEP_SUCCESS) {
        content = open_answer(enrolment, message.envelope);
        serial = check_certificate(enrolment,
                (struct cc_bytes){ cc_secret_data(content), cc_secret_len(content) });
        cc_secret_free(content);
    }
    pki_scep_message_free(&message);
    return serial;
}

static int
compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int
compare_ms(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* How many have no certificate, or a serial number that another has, too. */
static void
check_all(size_t *ret_failed, size_t *ret_doubled)
{
    char **serials = calloc(enrolment_count, sizeof(*serials));
    size_t count = 0, doubled = 0;

    check(serials != NULL, "memory", NULL);
    for (size_t i = 0; i < enrolment_count; i++)
        if ((serials[count] = check_answer(&enrolments[i])) != NULL)
            count++;
    qsort(serials, count, sizeof(*serials), compare_texts);
    for (size_t i = 1; i < count; i++)
        doubled += strcmp(serials[i - 1], serials[i]) == 0;
    for (size_t i = 0; i < count; i++)
        OPENSSL_free(serials[i]);
    free(serials);
    *ret_failed = enrolment_count - count;
    *ret_doubled = doubled;
}

static void
report(double seconds, size_t failed, size_t doubled)
{
    double *ms = calloc(enrolment_count, sizeof(*ms));

    check(ms != NULL, "memory", NULL);
    for (size_t i = 0; i < enrolment_count; i++)
        ms[i] = enrolments[i].ms;
    qsort(ms, enrolment_count, sizeof(*ms), compare_ms);
    printf("{\"count\": %zu, \"failed\": %zu, \"doubled\": %zu, \"rate\": %.2f, \"p50Ms\": %.2f, "
           "\"p99Ms\": %.2f}\n",
            enrolment_count, failed, doubled, (double)(enrolment_count - failed) / seconds,
            ms[enrolment_count / 2], ms[enrolment_count * 99 / 100]);
    free(ms);
}

int
main(int argc, char **argv)
{
    const bool des = argc > 1 && strcmp(argv[1], "--des") == 0;
    char **words = argv + (des ? 1 : 0);
    struct cc_buf devices = CC_BUF_INIT((size_t)64 << 20);
    struct cc_err err = { 0 };
    size_t failed, doubled;
    double seconds;
    int clients;

    if (argc - (des ? 1 : 0) != 5 || (clients = atoi(words[4])) < 1 || clients > CLIENTS_MAX) {
        fprintf(stderr, "usage: scep_load [--des] PORT PATH DEVICES CLIENTS\n");
        return 2;
    }
    server.port = (uint16_t)atoi(words[1]);
    server.path = words[2];
    server.cipher_nid = des ? NID_des_cbc : NID_aes_128_cbc;
    server.md = des ? EVP_sha1() : EVP_sha256();
    check(cc_file_read(words[3], &devices, &err) == 0 && devices.len > 0, "devices", &err);
    get_shown();
    make_all((char *)devices.data);
    seconds = run_clients((unsigned)clients);
    check_all(&failed, &doubled);
    report(seconds, failed, doubled);
    cc_buf_wipe(&devices);
    return 0;
}
