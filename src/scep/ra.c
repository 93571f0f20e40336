/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "pki/cert.h"
#include "store/instance.h"

/*
 * The certificates that clients encrypt to and verify answers with (RFC 8894 section 2.1.2): those that a CA elsewhere
 * gave, in files; or the CA's own, where the RA's key is the CA's; or they are asked of the CA, under request ids that
 * name the key and count its certificates, so that all instances come to the same ones.  One that was renewed goes on
 * to be decrypted for, as clients keep it.
 */

#define VALIDITY_MS (730 * PKI_DAY_MS)
#define BACKDATE_MS (INT64_C(5) * 60 * 1000)
#define LOOK_MS (INT64_C(3600) * 1000)
#define CA_DEADLINE_MS 20000
#define PEM_MAX ((size_t)1 << 20)
#define CHAIN_MAX 16

/* ---- counted ---- */

struct ra *
ra_get(struct endpoint *endpoint)
{
    struct ra *ra;

    pthread_mutex_lock(&endpoint->lock);
    ra = endpoint->ra;
    if (ra != NULL)
        atomic_fetch_add(&ra->references, 1);
    pthread_mutex_unlock(&endpoint->lock);
    return ra;
}

void
ra_free(struct ra *ra)
{
    if (ra == NULL || atomic_fetch_sub(&ra->references, 1) != 1)
        return;
    X509_free(ra->sign);
    for (size_t i = 0; i < ra->encrypt_count; i++)
        X509_free(ra->encrypt[i]);
    sk_X509_pop_free(ra->chain, X509_free);
    cc_buf_free(&ra->shown);
    cc_buf_free(&ra->next);
    free(ra);
}

/* ---- certificates of a key ---- */

struct certificates {
    X509 *item[SCEP_ENCRYPT_CERTS_MAX]; /* the newest first */
    size_t count;
};

static void
certificates_free(struct certificates *list)
{
    for (size_t i = 0; i < list->count; i++)
        X509_free(list->item[i]);
    list->count = 0;
}

/* In front; the oldest falls out of a full list. */
static void
put_first(struct certificates *list, X509 *take_certificate)
{
    if (list->count == SCEP_ENCRYPT_CERTS_MAX)
        X509_free(list->item[--list->count]);
    memmove(&list->item[1], &list->item[0], list->count * sizeof(X509 *));
    list->item[0] = take_certificate;
    list->count++;
}

/* Two thirds of its life are over, or its CA's certificate is another by now. */
static bool
is_due(X509 *certificate)
{
    int64_t from, to;

    if (pki_cert_validity(certificate, &from, &to, NULL) != 0)
        return true;
    return cc_clock_now_ms() >= from + (to - from) / 3 * 2;
}

static int
name_request(const char *what, EVP_PKEY *key, unsigned n, char *ret, size_t size,
        struct cc_err *err)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    unsigned char *der = NULL;
    char hex[17];
    const int len = i2d_PUBKEY(key, &der);

    if (len < 0)
        return cc_err_set_openssl(err, "the RA's public key");
    SHA256(der, (size_t)len, digest);
    OPENSSL_free(der);
    cc_hex(digest, 8, false, hex);
    (void)snprintf(ret, size, "scep-ra/%s/%s/%u", what, hex, n);
    return 0;
}

struct wish {
    const char *what;
    struct hsm_key *token_key;
    EVP_PKEY *key; /* the public half */
    unsigned usages;
};

static struct pki_profile
profile_of(const struct wish *wish)
{
    return (struct pki_profile){
        .name = "scep-ra",
        .validity_ms = VALIDITY_MS,
        .backdate_ms = BACKDATE_MS,
        .key_usages = wish->usages,
        .key_specs = ~0U,
    };
}

/* A CA elsewhere wants the key to prove itself, and then it must be one that may sign. */
static int
write_request(const struct wish *wish, const struct pki_plan *plan, struct cc_buf *ret,
        struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(PKI_NAME_TEXT_MAX), extensions = CC_BUF_INIT(4096);
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (pki_name_write(plan->subject, &subject, err) == 0 &&
            pki_plan_extensions(plan, &extensions, err) == 0 &&
            hsm_key_get0_evp(wish->token_key, &key, err) == 0)
        rc = pki_csr_build(key, cc_buf_bytes(&subject), cc_buf_bytes(&extensions), NULL, ret, err);
    hsm_err_resolve(err);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    return rc;
}

static int
ask_ca(struct endpoint *endpoint, const struct wish *wish, const char *request_id,
        struct certificates *ret, struct cc_err *err)
{
    const struct pki_profile profile = profile_of(wish);
    const bool bare = (ca_capabilities(endpoint->settings.ca) & CA_TAKES_OWN_KEYS) != 0;
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX), pending = CC_BUF_INIT(CA_PENDING_MAX);
    char subject[256];
    const struct pki_ask ask = { .subject = subject };
    struct pki_plan *plan = NULL;
    X509 *certificate = NULL;
    int rc = -1;

    (void)snprintf(subject, sizeof(subject), "CN=%s SCEP RA %s", ca_name(endpoint->settings.ca),
            wish->what);
    if (pki_plan_make(&profile, &ask, store_now_ms(endpoint->scep->store), &plan, err) == 0 &&
            (bare || write_request(wish, plan, &csr, err) == 0)) {
        const struct ca_request request = {
            .request_id = request_id,
            .csr = cc_buf_bytes(&csr),
            .own_key = bare ? wish->key : NULL,
            .plan = plan,
            .deadline = cc_deadline_in(CA_DEADLINE_MS),
        };
        if (ca_issue(endpoint->settings.ca, &request, &certificate, &pending, err) == CA_DONE) {
            put_first(ret, certificate);
            rc = 0;
        } else if (err->domain == CC_DOM_NONE) {
            cc_err_set(err, CC_DOM_CONFIG, 0, "the CA leaves the RA's certificate to somebody");
        }
    }
    pki_plan_free(plan);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    return rc;
}

/* Those that the CA gave before, then one more where that is due. */
static int
find_or_ask(struct endpoint *endpoint, const struct wish *wish, struct certificates *ret,
        struct cc_err *err)
{
    struct ca *ca = endpoint->settings.ca;
    enum ca_outcome outcome = CA_DONE;
    char request_id[CA_REQUEST_ID_MAX];
    unsigned n;

    for (n = 0; outcome == CA_DONE || outcome == CA_REFUSED; n++) {
        X509 *certificate = NULL;

        cc_err_clear(err);
        if (name_request(wish->what, wish->key, n, request_id, sizeof(request_id), err) != 0)
            return -1;
        outcome = ca_find(ca, request_id, cc_deadline_in(CA_DEADLINE_MS), &certificate, err);
        if (outcome == CA_DONE)
            put_first(ret, certificate);
    }
    if (outcome != CA_NOT_FOUND)
        return -1;
    cc_err_clear(err);
    if (ret->count > 0 && !is_due(ret->item[0]))
        return 0;
    return ask_ca(endpoint, wish, request_id, ret, err);
}

/*
 * One instance at a time.  All have the same requests, and a CA takes one that it finds half done for left by a crash:
 * it would revoke what another instance is just being given.
 */
static int
from_ca(struct endpoint *endpoint, const struct wish *wish, struct certificates *ret,
        struct cc_err *err)
{
    struct store *store = endpoint->scep->store;
    struct ca *ca = endpoint->settings.ca;
    char turn[CA_REQUEST_ID_MAX];
    bool ours;
    int rc;

    if ((ca_capabilities(ca) & CA_CAN_FIND) == 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "this kind of CA cannot be asked for the RA's certificates: name their files");
    (void)snprintf(turn, sizeof(turn), "scep-ra/%s", ca_name(ca));
    if (store_lease_take(store, turn, &ours, err) != 0)
        return -1;
    if (!ours)
        return cc_err_set(err, CC_DOM_STORE, 0, "another instance is asking for them");
    rc = find_or_ask(endpoint, wish, ret, err);
    /* One that stays ours would keep all others waiting until we ask the next time: that is soon then. */
    if (store_lease_release(store, turn, rc == 0 ? err : NULL) != 0)
        rc = -1;
    return rc;
}

/* ---- of files ---- */

static int
read_pem(const char *file, STACK_OF(X509) **ret, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(PEM_MAX);
    struct cc_err why = { 0 };
    int rc = cc_file_read(file, &text, err);

    if (rc == 0 && (rc = pki_certs_read_pem(cc_buf_bytes(&text), ret, &why)) != 0)
        cc_err_set(err, why.domain == CC_DOM_INPUT ? CC_DOM_CONFIG : why.domain, why.code, "%s: %s",
                file, why.text);
    cc_buf_free(&text);
    return rc;
}

static int
from_file(const char *file, const struct wish *wish, struct certificates *ret, struct cc_err *err)
{
    STACK_OF(X509) *list = NULL;
    int rc = 0;

    if (read_pem(file, &list, err) != 0)
        return -1;
    for (int i = sk_X509_num(list) - 1; i >= 0 && rc == 0; i--) {
        X509 *certificate = sk_X509_value(list, i);

        if (EVP_PKEY_eq(X509_get0_pubkey(certificate), wish->key) != 1)
            rc = cc_err_set(err, CC_DOM_CONFIG, 0, "%s: a certificate of another key than the RA's",
                    file);
        else if (X509_up_ref(certificate) == 1)
            put_first(ret, certificate);
    }
    sk_X509_pop_free(list, X509_free);
    return rc;
}

/* ---- all of a profile ---- */

struct making {
    struct endpoint *endpoint;
    struct ra *ra;
    EVP_PKEY *sign, *encrypt; /* the public halves */
};

static int
certificates_of(const struct making *making, const struct wish *wish, const char *file,
        struct certificates *ret, struct cc_err *err)
{
    X509 *issuer = sk_X509_value(making->ra->chain, 0);

    if (file != NULL)
        return from_file(file, wish, ret, err);
    if (EVP_PKEY_eq(X509_get0_pubkey(issuer), wish->key) == 1) {
        /* RFC 8894 section 2.1.2; without the extension any use is allowed. */
        if ((X509_get_key_usage(issuer) & wish->usages) != wish->usages)
            return cc_err_set(err, CC_DOM_CONFIG, 0,
                    "the RA's key is the CA's, whose certificate does not allow %s: make the CA "
                    "with certconnector ca init --scep, or name another key in [keys]",
                    wish->what);
        if (X509_up_ref(issuer) == 1)
            put_first(ret, issuer);
        return 0;
    }
    return from_ca(making->endpoint, wish, ret, err);
}

static int
fill_certificates(const struct making *making, struct cc_err *err)
{
    const struct scep_profile *settings = &making->endpoint->settings;
    const bool one = EVP_PKEY_eq(making->sign, making->encrypt) == 1;
    const unsigned encrypt_usages = KU_KEY_ENCIPHERMENT | (one ? KU_DIGITAL_SIGNATURE : 0);
    const struct scep *scep = making->endpoint->scep;
    const struct wish encrypt = { one ? "key" : "encryption", scep->encrypt, making->encrypt,
        encrypt_usages };
    const struct wish sign = { "signing", scep->sign, making->sign, KU_DIGITAL_SIGNATURE };
    struct certificates list = { .count = 0 };
    struct ra *ra = making->ra;
    int rc;

    if (!EVP_PKEY_is_a(making->encrypt, "RSA"))
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "[keys] scep-ra-encrypt: clients encrypt to RSA keys alone");
    if (certificates_of(making, &encrypt, settings->ra_encrypt_file, &list, err) != 0) {
        certificates_free(&list);
        return -1;
    }
    memcpy(ra->encrypt, list.item, sizeof(list.item));
    ra->encrypt_count = list.count;
    if (one) {
        ra->sign = ra->encrypt[0];
        return X509_up_ref(ra->sign) == 1 ? 0 : cc_err_nomem(err);
    }
    list.count = 0;
    rc = certificates_of(making, &sign, settings->ra_sign_file, &list, err);
    if (rc == 0) {
        ra->sign = list.item[0];
        rc = X509_up_ref(ra->sign) == 1 ? 0 : cc_err_nomem(err);
    }
    certificates_free(&list);
    return rc;
}

static bool
is_root(X509 *certificate)
{
    return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) ==
           0;
}

/* The certificate to encrypt to first, as some clients take the first; then the one that signs, and the CA's. */
static int
show(const struct making *making, struct cc_err *err)
{
    struct ra *ra = making->ra;
    X509 *list[2 + CHAIN_MAX];
    size_t count = 0;
    unsigned char *der = NULL;
    int len, rc;

    if (X509_cmp(ra->encrypt[0], sk_X509_value(ra->chain, 0)) != 0)
        list[count++] = ra->encrypt[0];
    if (X509_cmp(ra->sign, ra->encrypt[0]) != 0)
        list[count++] = ra->sign;
    for (int i = 0; i < sk_X509_num(ra->chain) && i < CHAIN_MAX; i++) {
        X509 *certificate = sk_X509_value(ra->chain, i);

        if (i == 0 || making->endpoint->settings.root_in_chain || !is_root(certificate))
            list[count++] = certificate;
    }
    if (count > 1) {
        ra->shown_type = "application/x-x509-ca-ra-cert";
        return pki_certs_only_write(list, count, NULL, &ra->shown, err);
    }
    ra->shown_type = "application/x-x509-ca-cert";
    if ((len = i2d_X509(list[0], &der)) < 0)
        return cc_err_set_openssl(err, "the CA's certificate");
    rc = cc_buf_add(&ra->shown, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

static int
read_next(const struct making *making, struct cc_err *err)
{
    const char *file = making->endpoint->settings.next_ca_file;
    STACK_OF(X509) *list = NULL;
    X509 *certificates[CHAIN_MAX];
    size_t count = 0;
    int rc;

    if (file == NULL)
        return 0;
    if (read_pem(file, &list, err) != 0)
        return -1;
    for (int i = 0; i < sk_X509_num(list) && i < CHAIN_MAX; i++)
        certificates[count++] = sk_X509_value(list, i);
    rc = pki_certs_only_write(certificates, count, NULL, &making->ra->next, err);
    sk_X509_pop_free(list, X509_free);
    return rc;
}

/* A token lets a key do what it was made for: one that does both was, or devices would be issued what they never get. */
static int
check_keys(const struct scep *scep, struct cc_err *err)
{
    if (hsm_key_health(scep->sign, err) != 0)
        return cc_err_in(err, "the key that signs answers");
    if (hsm_key_health(scep->encrypt, err) != 0)
        return cc_err_in(err, "the key that opens messages");
    return 0;
}

static int
make(struct endpoint *endpoint, struct ra **ret_ra, struct cc_err *err)
{
    struct scep *scep = endpoint->scep;
    struct making making = { .endpoint = endpoint, .ra = calloc(1, sizeof(*making.ra)) };
    int rc = -1;

    if (making.ra == NULL)
        return cc_err_nomem(err);
    atomic_init(&making.ra->references, 1);
    cc_buf_init(&making.ra->shown, PEM_MAX);
    cc_buf_init(&making.ra->next, PEM_MAX);
    if (hsm_key_get0_evp(scep->sign, &making.ra->sign_key, err) == 0 &&
            hsm_key_get1_public(scep->sign, &making.sign, err) == 0 &&
            hsm_key_get1_public(scep->encrypt, &making.encrypt, err) == 0 &&
            check_keys(scep, err) == 0 &&
            ca_chain(endpoint->settings.ca, cc_deadline_in(CA_DEADLINE_MS), &making.ra->chain,
                    err) == CA_DONE &&
            fill_certificates(&making, err) == 0 && show(&making, err) == 0 &&
            read_next(&making, err) == 0)
        rc = 0;
    EVP_PKEY_free(making.sign);
    EVP_PKEY_free(making.encrypt);
    if (rc == 0) {
        *ret_ra = making.ra;
        return 0;
    }
    ra_free(making.ra);
    return cc_err_in(err, "the RA's certificates of CA \"%s\"", ca_name(endpoint->settings.ca));
}

int
ra_keep(struct endpoint *endpoint, int64_t *ret_wait_ms, struct cc_err *err)
{
    struct ra *ra = NULL, *old;

    *ret_wait_ms = LOOK_MS;
    if (make(endpoint, &ra, err) != 0)
        return -1;
    pthread_mutex_lock(&endpoint->lock);
    old = endpoint->ra;
    endpoint->ra = ra;
    pthread_mutex_unlock(&endpoint->lock);
    ra_free(old);
    return 0;
}
