/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "hsm/hsm.h"
#include "token_dir.h"

/*
 * What an EVP_PKEY of ours must do in OpenSSL, on a real token through the real token process; what it made is
 * checked with software keys.  Everything in the default library context and in a private one.
 */

#define LONG_MS 60000

struct subject {
    const char *name, *label;
    int nid; /* of the curve; 0: RSA */
    struct hsm_key *key;
    EVP_PKEY *pkey;   /* borrowed */
    EVP_PKEY *public; /* software */
    X509 *cert;       /* self-signed by the token */
};

/* One library context with its struct hsm and keys. */
struct world {
    const char *name;
    OSSL_LIB_CTX *libctx;
    struct hsm *hsm;
    struct subject subjects[5];
};

static const struct subject subject_table[] = {
    { .name = "RSA-2048", .label = "rsa2048" },
    { .name = "RSA-3072", .label = "rsa3072" },
    { .name = "P-256", .label = "p256", .nid = NID_X9_62_prime256v1 },
    { .name = "P-384", .label = "p384", .nid = NID_secp384r1 },
    { .name = "P-521", .label = "p521", .nid = NID_secp521r1 },
};

static struct token_dir *token;

struct check;

/* What a test case gets. */
struct instance {
    struct world *world;
    size_t subject;
    const struct check *check;
    char name[96];
};

struct check {
    const char *name;
    unsigned kinds; /* RSA, EC or both */
    void (*run)(struct world *world, struct subject *subject, const struct check *check);
    const char *md, *mgf1; /* parameters of the check */
    int number;
    int padding;
};

#define RSA_KEYS 1u
#define EC_KEYS 2u
#define ALL_KEYS 3u

/* Fails with what OpenSSL says. */
static void
need(int ok, const char *what)
{
    char text[256] = "";
    unsigned long code;
    const char *data = NULL;
    int flags = 0;

    if (ok)
        return;
    code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    ERR_error_string_n(code, text, sizeof(text));
    fail_msg("%s: %s %s", what, text, data != NULL ? data : "");
}

#define NEED(expr) need((expr), #expr)

/* ---- the two worlds ---- */

static X509 *
make_cert(struct world *world, struct subject *subject)
{
    X509 *cert = X509_new_ex(world->libctx, NULL);
    X509_NAME *name;
    X509_EXTENSION *ext;

    NEED(cert != NULL);
    NEED(X509_set_version(cert, X509_VERSION_3));
    NEED(ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711));
    NEED(X509_gmtime_adj(X509_getm_notBefore(cert), -60) != NULL);
    NEED(X509_gmtime_adj(X509_getm_notAfter(cert), 86400) != NULL);
    name = X509_get_subject_name(cert);
    NEED(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject->name,
            -1, -1, 0));
    NEED(X509_set_issuer_name(cert, name));
    NEED(X509_set_pubkey(cert, subject->pkey));
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
    NEED(ext != NULL && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
    return cert;
}

static void
subject_open(struct world *world, struct subject *subject)
{
    const enum hsm_role role = subject->nid == 0 ? HSM_ROLE_SCEP_RA_ENCRYPT : HSM_ROLE_CA;
    struct cc_err err = { 0 };
    char uri[64];

    (void)snprintf(uri, sizeof(uri), "pkcs11:object=%s", subject->label);
    if (hsm_key_get0(world->hsm, role, uri, &subject->key, &err) != 0 ||
            hsm_key_get0_evp(subject->key, &subject->pkey, &err) != 0 ||
            hsm_key_get1_public(subject->key, &subject->public, &err) != 0)
        fail_msg("%s", err.text);
    subject->cert = make_cert(world, subject);
    NEED(X509_sign(subject->cert, subject->pkey, EVP_sha256()) > 0);
}

static void
world_open(struct world *world)
{
    struct hsm_settings settings = token_dir_settings(token);
    struct cc_err err = { 0 };

    settings.libctx = world->libctx;
    if (hsm_open(&settings, &world->hsm, &err) != 0 ||
            hsm_wait_open(world->hsm, LONG_MS, &err) != 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < CC_COUNT(subject_table); i++) {
        world->subjects[i] = subject_table[i];
        subject_open(world, &world->subjects[i]);
    }
}

static void
world_close(struct world *world)
{
    for (size_t i = 0; i < CC_COUNT(subject_table); i++) {
        EVP_PKEY_free(world->subjects[i].public);
        X509_free(world->subjects[i].cert);
    }
    hsm_close(world->hsm);
    OSSL_LIB_CTX_free(world->libctx);
}

static struct world worlds[2] = { { .name = "default" }, { .name = "private" } };

static int
group_setup(void **state)
{
    (void)state;
    worlds[1].libctx = OSSL_LIB_CTX_new();
    assert_non_null(worlds[1].libctx);
    for (size_t i = 0; i < CC_COUNT(worlds); i++)
        world_open(&worlds[i]);
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(worlds); i++)
        world_close(&worlds[i]);
    return 0;
}

/* ---- certificates and the like ---- */

static void
check_cert(struct world *world, struct subject *subject, const struct check *check)
{
    EVP_PKEY *other = subject->nid == 0 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");

    (void)world;
    (void)check;
    NEED(X509_verify(subject->cert, subject->public) == 1);
    NEED(X509_verify(subject->cert, subject->pkey) == 1);
    NEED(X509_check_private_key(subject->cert, subject->pkey) == 1);
    NEED(EVP_PKEY_eq(subject->pkey, subject->public) == 1);
    NEED(EVP_PKEY_eq(subject->public, subject->pkey) == 1);
    assert_int_not_equal(EVP_PKEY_eq(subject->pkey, other), 1);
    assert_int_not_equal(X509_verify(subject->cert, other), 1);
    EVP_PKEY_free(other);
}

static void
check_crl(struct world *world, struct subject *subject, const struct check *check)
{
    X509_CRL *crl = X509_CRL_new_ex(world->libctx, NULL);
    X509_REVOKED *revoked = X509_REVOKED_new();
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0);

    (void)check;
    NEED(crl != NULL && revoked != NULL && serial != NULL && now != NULL);
    NEED(X509_CRL_set_version(crl, X509_CRL_VERSION_2));
    NEED(X509_CRL_set_issuer_name(crl, X509_get_subject_name(subject->cert)));
    NEED(X509_CRL_set1_lastUpdate(crl, now) && X509_CRL_set1_nextUpdate(crl, now));
    NEED(ASN1_INTEGER_set(serial, 5) && X509_REVOKED_set_serialNumber(revoked, serial));
    NEED(X509_REVOKED_set_revocationDate(revoked, now));
    NEED(X509_CRL_add0_revoked(crl, revoked));
    NEED(X509_CRL_sign(crl, subject->pkey, EVP_sha256()) > 0);
    NEED(X509_CRL_verify(crl, subject->public) == 1);
    X509_CRL_free(crl);
    ASN1_INTEGER_free(serial);
    ASN1_TIME_free(now);
}

static void
check_csr(struct world *world, struct subject *subject, const struct check *check)
{
    X509_REQ *req = X509_REQ_new_ex(world->libctx, NULL);
    EVP_PKEY *inside;

    (void)check;
    NEED(req != NULL && X509_REQ_set_version(req, X509_REQ_VERSION_1));
    NEED(X509_REQ_set_pubkey(req, subject->pkey));
    NEED(X509_REQ_sign(req, subject->pkey, EVP_sha256()) > 0);
    NEED(X509_REQ_verify_ex(req, subject->public, world->libctx, NULL) == 1);
    NEED(X509_REQ_verify_ex(req, subject->pkey, world->libctx, NULL) == 1);
    NEED(X509_REQ_check_private_key(req, subject->pkey) == 1);
    inside = X509_REQ_get0_pubkey(req);
    NEED(inside != NULL && EVP_PKEY_eq(inside, subject->public) == 1);
    X509_REQ_free(req);
}

static void
check_ocsp(struct world *world, struct subject *subject, const struct check *check)
{
    OCSP_BASICRESP *response = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), subject->cert, subject->cert);
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
    X509_STORE *store = X509_STORE_new();

    (void)world;
    (void)check;
    NEED(response != NULL && id != NULL && now != NULL && store != NULL);
    NEED(OCSP_basic_add1_status(response, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, now, NULL) != NULL);
    NEED(OCSP_basic_sign(response, subject->cert, subject->pkey, EVP_sha256(), NULL, 0) == 1);
    NEED(X509_STORE_add_cert(store, subject->cert));
    NEED(OCSP_basic_verify(response, NULL, store, 0) == 1);
    OCSP_BASICRESP_free(response);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(now);
    X509_STORE_free(store);
}

static void
check_cert_pss(struct world *world, struct subject *subject, const struct check *check)
{
    X509 *cert = make_cert(world, subject);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;

    NEED(ctx != NULL && EVP_DigestSignInit_ex(ctx, &pctx, check->md, world->libctx, NULL,
                                subject->pkey, NULL) > 0);
    NEED(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) > 0);
    NEED(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, check->number) > 0);
    NEED(X509_sign_ctx(cert, ctx) > 0);
    NEED(X509_verify(cert, subject->public) == 1);
    EVP_MD_CTX_free(ctx);
    X509_free(cert);
}

/* ---- signatures ---- */

static void
set_pss(EVP_PKEY_CTX *pctx, const struct check *check, int salt_len)
{
    if (check->padding != RSA_PKCS1_PSS_PADDING)
        return;
    NEED(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) > 0);
    NEED(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, salt_len) > 0);
    if (check->mgf1 != NULL)
        NEED(EVP_PKEY_CTX_set_rsa_mgf1_md_name(pctx, check->mgf1, NULL) > 0);
}

static int
digest_verify(struct world *world, EVP_PKEY *pkey, const struct check *check, const uint8_t *sig,
        size_t len, const char *text)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    int ok;

    NEED(ctx != NULL &&
            EVP_DigestVerifyInit_ex(ctx, &pctx, check->md, world->libctx, NULL, pkey, NULL) > 0);
    set_pss(pctx, check, RSA_PSS_SALTLEN_AUTO);
    ok = EVP_DigestVerify(ctx, sig, len, (const uint8_t *)text, strlen(text));
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static void
assert_verifies(struct world *world, struct subject *subject, const struct check *check,
        uint8_t *sig, size_t len)
{
    NEED(digest_verify(world, subject->public, check, sig, len, "abc") == 1);
    NEED(digest_verify(world, subject->pkey, check, sig, len, "abc") == 1);
    assert_int_not_equal(digest_verify(world, subject->pkey, check, sig, len, "abd"), 1);
    sig[len / 2] ^= 1;
    assert_int_not_equal(digest_verify(world, subject->public, check, sig, len, "abc"), 1);
    assert_int_not_equal(digest_verify(world, subject->pkey, check, sig, len, "abc"), 1);
}

static void
check_digest_sign(struct world *world, struct subject *subject, const struct check *check)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    uint8_t sig[1024];
    size_t len = sizeof(sig);

    NEED(ctx != NULL && EVP_DigestSignInit_ex(ctx, &pctx, check->md, world->libctx, NULL,
                                subject->pkey, NULL) > 0);
    set_pss(pctx, check, check->number);
    NEED(EVP_DigestSign(ctx, sig, &len, (const uint8_t *)"abc", 3) > 0);
    assert_verifies(world, subject, check, sig, len);
    EVP_MD_CTX_free(ctx);
}

/* A context copied in the middle signs what both halves heard. */
static void
check_ctx_dup(struct world *world, struct subject *subject, const struct check *check)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new(), *copy = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);

    NEED(ctx != NULL && copy != NULL);
    NEED(EVP_DigestSignInit_ex(ctx, NULL, check->md, world->libctx, NULL, subject->pkey, NULL) > 0);
    NEED(EVP_DigestSignUpdate(ctx, "ab", 2) > 0);
    NEED(EVP_MD_CTX_copy_ex(copy, ctx));
    NEED(EVP_DigestSignUpdate(ctx, "x", 1) > 0);
    NEED(EVP_DigestSignUpdate(copy, "c", 1) > 0);
    EVP_MD_CTX_free(ctx);
    NEED(EVP_DigestSignFinal(copy, sig, &len) > 0);
    assert_verifies(world, subject, check, sig, len);
    EVP_MD_CTX_free(copy);
}

/* EVP_PKEY_sign over a digest; without a digest's name RSA signs the bytes as they are. */
static void
check_sign(struct world *world, struct subject *subject, const struct check *check)
{
    static const uint8_t tbs[32] = "a digest of thirty-two bytes ...";
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(world->libctx, subject->pkey, NULL);
    EVP_PKEY_CTX *soft = EVP_PKEY_CTX_new_from_pkey(world->libctx, subject->public, NULL);
    uint8_t sig[1024];
    size_t len = sizeof(sig), need_len = 0;

    NEED(ctx != NULL && EVP_PKEY_sign_init(ctx) > 0);
    NEED(soft != NULL && EVP_PKEY_verify_init(soft) > 0);
    if (check->md != NULL)
        NEED(EVP_PKEY_CTX_set_signature_md(ctx, EVP_get_digestbyname(check->md)) > 0 &&
                EVP_PKEY_CTX_set_signature_md(soft, EVP_get_digestbyname(check->md)) > 0);
    NEED(EVP_PKEY_sign(ctx, NULL, &need_len, tbs, sizeof(tbs)) > 0);
    assert_int_equal(need_len, EVP_PKEY_get_size(subject->public));
    NEED(EVP_PKEY_sign(ctx, sig, &len, tbs, sizeof(tbs)) > 0);
    NEED(EVP_PKEY_verify(soft, sig, len, tbs, sizeof(tbs)) == 1);
    if (check->md != NULL)
        assert_true(EVP_PKEY_sign(ctx, sig, &len, tbs, sizeof(tbs) - 1) <= 0);
    ERR_clear_error();
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_CTX_free(soft);
}

static void
check_not_exportable(struct world *world, struct subject *subject, const struct check *check)
{
    unsigned char *der = NULL;
    BIGNUM *secret = NULL;
    EVP_PKEY *copy = EVP_PKEY_dup(subject->pkey);
    X509 *cert;

    (void)check;
    assert_true(i2d_PrivateKey(subject->pkey, &der) <= 0);
    assert_null(der);
    assert_int_equal(EVP_PKEY_get_bn_param(subject->pkey,
                             subject->nid == 0 ? OSSL_PKEY_PARAM_RSA_D : OSSL_PKEY_PARAM_PRIV_KEY,
                             &secret),
            0);
    ERR_clear_error();
    assert_int_equal(EVP_PKEY_get_bits(subject->pkey), EVP_PKEY_get_bits(subject->public));
    assert_int_equal(EVP_PKEY_get_size(subject->pkey), EVP_PKEY_get_size(subject->public));
    assert_int_equal(EVP_PKEY_get_base_id(subject->pkey), EVP_PKEY_get_base_id(subject->public));

    NEED(copy != NULL && EVP_PKEY_eq(copy, subject->public) == 1);
    cert = make_cert(world, subject);
    NEED(X509_sign(cert, copy, EVP_sha256()) > 0);
    NEED(X509_verify(cert, subject->public) == 1);
    X509_free(cert);
    EVP_PKEY_free(copy);
}

/* ---- CMS ---- */

static void
check_cms_sign(struct world *world, struct subject *subject, const struct check *check)
{
    BIO *in = BIO_new_mem_buf("hello", 5), *out = BIO_new(BIO_s_mem()), *der = BIO_new(BIO_s_mem());
    X509_STORE *store = X509_STORE_new();
    CMS_ContentInfo *cms, *back = CMS_ContentInfo_new_ex(world->libctx, NULL);
    CMS_SignerInfo *signer;
    char text[8] = "";

    cms = CMS_sign_ex(NULL, NULL, NULL, in, CMS_BINARY | CMS_PARTIAL, world->libctx, NULL);
    NEED(cms != NULL && back != NULL && store != NULL);
    signer = CMS_add1_signer(cms, subject->cert, subject->pkey, EVP_sha256(),
            check->padding == RSA_PKCS1_PSS_PADDING ? CMS_KEY_PARAM : 0);
    NEED(signer != NULL);
    if (check->padding == RSA_PKCS1_PSS_PADDING)
        NEED(EVP_PKEY_CTX_set_rsa_padding(CMS_SignerInfo_get0_pkey_ctx(signer),
                     RSA_PKCS1_PSS_PADDING) > 0);
    NEED(CMS_final(cms, in, NULL, CMS_BINARY) == 1);

    NEED(i2d_CMS_bio(der, cms) == 1 && d2i_CMS_bio(der, &back) != NULL);
    NEED(X509_STORE_add_cert(store, subject->cert));
    NEED(CMS_verify(back, NULL, store, NULL, out, CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY) == 1);
    assert_int_equal(BIO_read(out, text, sizeof(text)), 5);
    assert_string_equal(text, "hello");

    CMS_ContentInfo_free(cms);
    CMS_ContentInfo_free(back);
    X509_STORE_free(store);
    BIO_free(in);
    BIO_free(out);
    BIO_free(der);
}

/* An EnvelopedData for the subject; the content's key encrypted as the check says. */
static CMS_ContentInfo *
make_enveloped(struct world *world, struct subject *subject, const struct check *check)
{
    BIO *in = BIO_new_mem_buf("secret challenge", 16);
    CMS_ContentInfo *cms;
    CMS_RecipientInfo *recipient;
    EVP_PKEY_CTX *pctx;

    cms = CMS_encrypt_ex(NULL, in, EVP_aes_128_cbc(), CMS_BINARY | CMS_PARTIAL, world->libctx,
            NULL);
    NEED(cms != NULL);
    recipient = CMS_add1_recipient_cert(cms, subject->cert, CMS_KEY_PARAM);
    NEED(recipient != NULL);
    if (check->md != NULL) {
        pctx = CMS_RecipientInfo_get0_pkey_ctx(recipient);
        NEED(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_OAEP_PADDING) > 0);
        NEED(EVP_PKEY_CTX_set_rsa_oaep_md_name(pctx, check->md, NULL) > 0);
        NEED(EVP_PKEY_CTX_set_rsa_mgf1_md_name(pctx, check->md, NULL) > 0);
    }
    NEED(CMS_final(cms, in, NULL, CMS_BINARY) == 1);
    BIO_free(in);
    return cms;
}

static int
cms_decrypt(struct subject *subject, CMS_ContentInfo *cms, bool with_cert, char ret[32])
{
    BIO *out = BIO_new(BIO_s_mem());
    int ok, len = 0;

    assert_non_null(out);
    ok = CMS_decrypt(cms, subject->pkey, with_cert ? subject->cert : NULL, NULL, out, CMS_BINARY);
    if (ok == 1)
        len = BIO_read(out, ret, 31);
    ret[len > 0 ? len : 0] = '\0';
    BIO_free(out);
    return ok;
}

static void
check_cms_decrypt(struct world *world, struct subject *subject, const struct check *check)
{
    CMS_ContentInfo *cms = make_enveloped(world, subject, check);
    char text[32];

    NEED(cms_decrypt(subject, cms, check->number == 0, text) == 1);
    assert_string_equal(text, "secret challenge");
    CMS_ContentInfo_free(cms);
}

/*
 * A content key that does not decrypt: OpenSSL goes on with a random one, so that what comes out is "bad content",
 * and nothing else tells; in particular it is not counted as an outage of the token.
 */
static void
check_cms_decrypt_spoiled(struct world *world, struct subject *subject, const struct check *check)
{
    CMS_ContentInfo *cms = make_enveloped(world, subject, check);
    CMS_RecipientInfo *recipient = sk_CMS_RecipientInfo_value(CMS_get0_RecipientInfos(cms), 0);
    const uint64_t outages = hsm_key_outages(subject->key);
    char text[32];
    unsigned char *der = NULL, *at;
    const unsigned char *p;
    int len;

    assert_non_null(recipient);
    len = i2d_CMS_ContentInfo(cms, &der);
    assert_true(len > 0);
    CMS_ContentInfo_free(cms);
    /* the encrypted key: an OCTET STRING as long as the modulus */
    const size_t key_size = (size_t)EVP_PKEY_get_size(subject->public);
    const unsigned char head[] = { 0x04, 0x82, (unsigned char)(key_size >> 8),
        (unsigned char)key_size };
    at = memmem(der, (size_t)len, head, sizeof(head));
    assert_non_null(at);
    at[sizeof(head) + key_size / 2] ^= 1;

    p = der;
    cms = CMS_ContentInfo_new_ex(world->libctx, NULL);
    NEED(d2i_CMS_ContentInfo(&cms, &p, len) != NULL);
    if (cms_decrypt(subject, cms, true, text) == 1)
        assert_string_not_equal(text, "secret challenge");
    ERR_clear_error();
    assert_int_equal(hsm_key_outages(subject->key), outages);
    CMS_ContentInfo_free(cms);
    OPENSSL_free(der);
}

/* ---- decryption ---- */

static void
set_oaep(EVP_PKEY_CTX *ctx, const struct check *check)
{
    NEED(EVP_PKEY_CTX_set_rsa_padding(ctx, check->padding) > 0);
    if (check->md != NULL)
        NEED(EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, check->md, NULL) > 0);
    if (check->mgf1 != NULL)
        NEED(EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, check->mgf1, NULL) > 0);
    if (check->number != 0) {
        void *label = OPENSSL_memdup("label", 5);

        NEED(EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, label, 5) > 0);
    }
}

static size_t
soft_encrypt(struct world *world, EVP_PKEY *pkey, const struct check *check, const uint8_t *in,
        size_t in_len, uint8_t ret[1024])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(world->libctx, pkey, NULL);
    size_t len = 1024;

    NEED(ctx != NULL && EVP_PKEY_encrypt_init(ctx) > 0);
    set_oaep(ctx, check);
    NEED(EVP_PKEY_encrypt(ctx, ret, &len, in, in_len) > 0);
    EVP_PKEY_CTX_free(ctx);
    return len;
}

static void
check_decrypt(struct world *world, struct subject *subject, const struct check *check)
{
    EVP_PKEY *const keys[] = { subject->public, subject->pkey };
    uint8_t in[1024] = "the password 0123456789abcdefghi", ciphertext[1024], out[1024];
    const size_t in_len =
            check->padding == RSA_NO_PADDING ? (size_t)EVP_PKEY_get_size(subject->public) : 32;

    if (check->padding == RSA_NO_PADDING)
        in[0] = 0;
    for (size_t i = 0; i < CC_COUNT(keys); i++) { /* encrypted by software, and by way of our key */
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(world->libctx, subject->pkey, NULL), *copy;
        size_t len = soft_encrypt(world, keys[i], check, in, in_len, ciphertext);
        size_t out_len = sizeof(out);

        NEED(ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0);
        set_oaep(ctx, check);
        NEED((copy = EVP_PKEY_CTX_dup(ctx)) != NULL);
        EVP_PKEY_CTX_free(ctx);
        NEED(EVP_PKEY_decrypt(copy, out, &out_len, ciphertext, len) > 0);
        assert_int_equal(out_len, in_len);
        assert_memory_equal(out, in, in_len);
        EVP_PKEY_CTX_free(copy);
    }
}

/* What must not decrypt: a byte flipped, cut short, another label. */
static void
check_decrypt_spoiled(struct world *world, struct subject *subject, const struct check *check)
{
    uint8_t ciphertext[1024], out[1024];
    const size_t len =
            soft_encrypt(world, subject->public, check, (const uint8_t *)"hello", 5, ciphertext);

    for (int spoil = 0; spoil < 3; spoil++) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(world->libctx, subject->pkey, NULL);
        struct check mine = *check;
        size_t out_len = sizeof(out);
        struct cc_err err = { 0 };

        mine.number = spoil == 2;
        ciphertext[len / 2] ^= spoil == 0;
        NEED(ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0);
        set_oaep(ctx, &mine);
        assert_true(
                EVP_PKEY_decrypt(ctx, out, &out_len, ciphertext, spoil == 1 ? len - 1 : len) <= 0);
        cc_err_set_openssl(&err, "decrypt");
        hsm_err_resolve(&err);
        assert_true(err.domain == CC_DOM_TOKEN || err.domain == CC_DOM_PKCS11);
        ciphertext[len / 2] ^= spoil == 0;
        EVP_PKEY_CTX_free(ctx);
    }
}

/* ---- TLS, the token's key at both ends ---- */

static SSL_CTX *
make_ssl_ctx(struct world *world, struct subject *subject, const SSL_METHOD *method, int version)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(world->libctx, NULL, method);

    NEED(ctx != NULL);
    NEED(SSL_CTX_set_min_proto_version(ctx, version) &&
            SSL_CTX_set_max_proto_version(ctx, version));
    NEED(SSL_CTX_use_certificate(ctx, subject->cert) == 1);
    NEED(SSL_CTX_use_PrivateKey(ctx, subject->pkey) == 1);
    NEED(SSL_CTX_check_private_key(ctx) == 1);
    NEED(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), subject->cert));
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return ctx;
}

static void
check_tls(struct world *world, struct subject *subject, const struct check *check)
{
    SSL_CTX *server_ctx = make_ssl_ctx(world, subject, TLS_server_method(), check->number);
    SSL_CTX *client_ctx = make_ssl_ctx(world, subject, TLS_client_method(), check->number);
    SSL *server = SSL_new(server_ctx), *client = SSL_new(client_ctx);
    BIO *a = NULL, *b = NULL;
    int server_rc = 0, client_rc = 0;

    NEED(server != NULL && client != NULL && BIO_new_bio_pair(&a, 65536, &b, 65536));
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (int i = 0; i < 20 && (server_rc != 1 || client_rc != 1); i++) {
        if (client_rc != 1)
            client_rc = SSL_do_handshake(client);
        if (server_rc != 1)
            server_rc = SSL_do_handshake(server);
    }
    NEED(server_rc == 1 && client_rc == 1);
    assert_int_equal(SSL_version(server), check->number);
    assert_non_null(SSL_get0_peer_certificate(server));
    assert_int_equal(SSL_get_verify_result(client), X509_V_OK);
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
}

/* ---- beside our provider, software keys go on as ever ---- */

static void
check_software_beside(struct world *world, struct subject *subject, const struct check *check)
{
    EVP_PKEY *rsa = EVP_PKEY_Q_keygen(world->libctx, NULL, "RSA", (size_t)2048);
    EVP_PKEY *ec = EVP_PKEY_Q_keygen(world->libctx, NULL, "EC", "P-256");
    unsigned char *der = NULL;
    const unsigned char *p;
    EVP_PKEY *back;
    int len;

    (void)check;
    NEED(rsa != NULL && ec != NULL);
    len = i2d_PUBKEY(subject->pkey, &der);
    NEED(len > 0);
    p = der;
    back = d2i_PUBKEY_ex(NULL, &p, len, world->libctx, NULL);
    NEED(back != NULL && EVP_PKEY_eq(back, subject->pkey) == 1);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(back)), "default");
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(rsa)), "default");
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(subject->pkey)),
            "certconnector");
    OPENSSL_free(der);
    EVP_PKEY_free(back);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
}

static void
check_health(struct world *world, struct subject *subject, const struct check *check)
{
    struct cc_err err = { 0 };

    (void)world;
    (void)check;
    if (hsm_key_health(subject->key, &err) != 0)
        fail_msg("%s", err.text);
}

#define PSS .padding = RSA_PKCS1_PSS_PADDING
#define OAEP .padding = RSA_PKCS1_OAEP_PADDING

static const struct check checks[] = {
    { .name = "certificate", .kinds = ALL_KEYS, .run = check_cert },
    { .name = "CRL", .kinds = ALL_KEYS, .run = check_crl },
    { .name = "OCSP response", .kinds = ALL_KEYS, .run = check_ocsp },
    { .name = "CSR", .kinds = ALL_KEYS, .run = check_csr },
    { .name = "CMS signature", .kinds = ALL_KEYS, .run = check_cms_sign },
    { .name = "CMS signature PSS", .kinds = RSA_KEYS, .run = check_cms_sign, PSS },
    { .name = "certificate PSS SHA-256",
            .kinds = RSA_KEYS,
            .run = check_cert_pss,
            .md = "SHA256",
            .number = RSA_PSS_SALTLEN_DIGEST },
    { .name = "certificate PSS SHA-512",
            .kinds = RSA_KEYS,
            .run = check_cert_pss,
            .md = "SHA512",
            .number = RSA_PSS_SALTLEN_MAX },
    { .name = "certificate PSS SHA-1",
            .kinds = RSA_KEYS,
            .run = check_cert_pss,
            .md = "SHA1",
            .number = 20 },
    { .name = "signature SHA-1", .kinds = ALL_KEYS, .run = check_digest_sign, .md = "SHA1" },
    { .name = "signature SHA-224", .kinds = ALL_KEYS, .run = check_digest_sign, .md = "SHA224" },
    { .name = "signature SHA-256", .kinds = ALL_KEYS, .run = check_digest_sign, .md = "SHA256" },
    { .name = "signature SHA-384", .kinds = ALL_KEYS, .run = check_digest_sign, .md = "SHA384" },
    { .name = "signature SHA-512", .kinds = ALL_KEYS, .run = check_digest_sign, .md = "SHA512" },
    { .name = "signature PSS SHA-256",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA256",
            PSS,
            .number = -1 },
    { .name = "signature PSS SHA-384",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA384",
            PSS,
            .number = -1 },
    { .name = "signature PSS SHA-512",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA512",
            PSS,
            .number = -1 },
    { .name = "signature PSS auto salt",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA256",
            PSS,
            .number = -2 },
    { .name = "signature PSS most salt",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA256",
            PSS,
            .number = -3 },
    { .name = "signature PSS no salt",
            .kinds = RSA_KEYS,
            .run = check_digest_sign,
            .md = "SHA256",
            PSS,
            .number = 0 },
    { .name = "context copied", .kinds = ALL_KEYS, .run = check_ctx_dup, .md = "SHA256" },
    { .name = "EVP_PKEY_sign", .kinds = ALL_KEYS, .run = check_sign, .md = "SHA256" },
    { .name = "EVP_PKEY_sign without digest", .kinds = RSA_KEYS, .run = check_sign },
    { .name = "not exportable", .kinds = ALL_KEYS, .run = check_not_exportable },
    { .name = "CMS decryption PKCS#1", .kinds = RSA_KEYS, .run = check_cms_decrypt },
    { .name = "CMS decryption OAEP SHA-1",
            .kinds = RSA_KEYS,
            .run = check_cms_decrypt,
            .md = "SHA1" },
    { .name = "CMS decryption OAEP SHA-256",
            .kinds = RSA_KEYS,
            .run = check_cms_decrypt,
            .md = "SHA256" },
    { .name = "CMS decryption OAEP SHA-512",
            .kinds = RSA_KEYS,
            .run = check_cms_decrypt,
            .md = "SHA512" },
    { .name = "CMS decryption without certificate",
            .kinds = RSA_KEYS,
            .run = check_cms_decrypt,
            .number = 1 },
    { .name = "CMS decryption of a spoiled key",
            .kinds = RSA_KEYS,
            .run = check_cms_decrypt_spoiled },
    { .name = "decryption PKCS#1",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .padding = RSA_PKCS1_PADDING },
    { .name = "decryption OAEP default", .kinds = RSA_KEYS, .run = check_decrypt, OAEP },
    { .name = "decryption OAEP SHA-1",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA1",
            .mgf1 = "SHA1",
            OAEP },
    { .name = "decryption OAEP SHA-256",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA256",
            .mgf1 = "SHA256",
            OAEP },
    { .name = "decryption OAEP SHA-384",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA384",
            .mgf1 = "SHA384",
            OAEP },
    { .name = "decryption OAEP SHA-512",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA512",
            .mgf1 = "SHA512",
            OAEP },
    { .name = "decryption OAEP MGF1 with another hash",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA256",
            .mgf1 = "SHA1",
            OAEP },
    { .name = "decryption OAEP with label",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA256",
            OAEP,
            .number = 1 },
    { .name = "decryption OAEP SHA-1 with label",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .md = "SHA1",
            OAEP,
            .number = 1 },
    { .name = "decryption without padding",
            .kinds = RSA_KEYS,
            .run = check_decrypt,
            .padding = RSA_NO_PADDING },
    { .name = "decryption refused OAEP SHA-1",
            .kinds = RSA_KEYS,
            .run = check_decrypt_spoiled,
            .md = "SHA1",
            OAEP },
    { .name = "decryption refused OAEP SHA-256",
            .kinds = RSA_KEYS,
            .run = check_decrypt_spoiled,
            .md = "SHA256",
            OAEP },
    { .name = "TLS 1.3", .kinds = ALL_KEYS, .run = check_tls, .number = TLS1_3_VERSION },
    { .name = "TLS 1.2", .kinds = ALL_KEYS, .run = check_tls, .number = TLS1_2_VERSION },
    { .name = "software keys beside", .kinds = ALL_KEYS, .run = check_software_beside },
    { .name = "health", .kinds = ALL_KEYS, .run = check_health },
};

static void
run_check(void **state)
{
    struct instance *instance = *state;
    struct world *world = instance->world;

    ERR_clear_error();
    instance->check->run(world, &world->subjects[instance->subject], instance->check);
}

/* ---- many threads, while the token process is killed again and again ---- */

#define CROWD 16
#define KILLS 20
#define OPERATIONS_A_KILL 40

static struct {
    atomic_bool stop;
    atomic_uint done, failed;
    pthread_mutex_t lock;
    char first_error[512];
} crowd = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
crowd_fail(const char *doing)
{
    struct cc_err err = { 0 };

    cc_err_set_openssl(&err, "%s", doing);
    (void)pthread_mutex_lock(&crowd.lock);
    if (crowd.first_error[0] == '\0')
        (void)snprintf(crowd.first_error, sizeof(crowd.first_error), "%s", err.text);
    (void)pthread_mutex_unlock(&crowd.lock);
    (void)atomic_fetch_add(&crowd.failed, 1);
}

static bool
crowd_sign(struct subject *subject)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    bool ok;

    ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, subject->pkey) > 0 &&
         EVP_DigestSign(ctx, sig, &len, (const uint8_t *)"abc", 3) > 0;
    (void)EVP_MD_CTX_reset(ctx);
    ok = ok && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, subject->public) > 0 &&
         EVP_DigestVerify(ctx, sig, len, (const uint8_t *)"abc", 3) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool
crowd_decrypt(struct subject *subject, const uint8_t *ciphertext, size_t len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(subject->pkey, NULL);
    uint8_t out[1024];
    size_t out_len = sizeof(out);
    bool ok;

    ok = ctx != NULL && EVP_PKEY_decrypt_init(ctx) > 0 &&
         EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
         EVP_PKEY_decrypt(ctx, out, &out_len, ciphertext, len) > 0 && out_len == 5 &&
         memcmp(out, "hello", 5) == 0;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static void *
crowd_member(void *arg)
{
    static const struct check oaep = { .md = "SHA1", OAEP };
    struct subject *subject = arg;
    uint8_t ciphertext[1024];
    const size_t len = soft_encrypt(&worlds[0], subject->public, &oaep, (const uint8_t *)"hello", 5,
            ciphertext);

    while (!atomic_load(&crowd.stop)) {
        if (!crowd_sign(subject))
            crowd_fail("sign");
        if (!crowd_decrypt(subject, ciphertext, len))
            crowd_fail("decrypt");
        (void)atomic_fetch_add(&crowd.done, 2);
    }
    return NULL;
}

static void
test_killed_under_load(void **state)
{
    struct world *world = &worlds[0];
    pthread_t threads[CROWD];
    struct hsm_status status;

    (void)state;
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, &world->subjects[0]), 0);
    for (unsigned kills = 0; kills < KILLS; kills++) {
        const unsigned goal = atomic_load(&crowd.done) + OPERATIONS_A_KILL;

        while (atomic_load(&crowd.done) < goal && atomic_load(&crowd.failed) == 0)
            (void)sched_yield();
        hsm_get_status(world->hsm, &status);
        if (status.pid != 0)
            (void)kill((pid_t)status.pid, SIGKILL);
    }
    atomic_store(&crowd.stop, true);
    for (int i = 0; i < CROWD; i++)
        (void)pthread_join(threads[i], NULL);
    if (atomic_load(&crowd.failed) != 0)
        fail_msg("%u of %u failed: %s", atomic_load(&crowd.failed), atomic_load(&crowd.done),
                crowd.first_error);
    hsm_get_status(world->hsm, &status);
    assert_true(status.restarts >= KILLS / 2);
}

/* ---- all of it ---- */

static size_t
make_instances(struct instance *instances, struct CMUnitTest *tests)
{
    size_t n = 0;

    for (size_t w = 0; w < CC_COUNT(worlds); w++)
        for (size_t s = 0; s < CC_COUNT(subject_table); s++)
            for (size_t c = 0; c < CC_COUNT(checks); c++) {
                if ((checks[c].kinds & (subject_table[s].nid == 0 ? RSA_KEYS : EC_KEYS)) == 0)
                    continue;
                instances[n] = (struct instance){ &worlds[w], s, &checks[c], "" };
                (void)snprintf(instances[n].name, sizeof(instances[n].name), "%s: %s (%s)",
                        subject_table[s].name, checks[c].name, worlds[w].name);
                tests[n] = (struct CMUnitTest){ .name = instances[n].name,
                    .test_func = run_check,
                    .initial_state = &instances[n] };
                n++;
            }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_killed_under_load);
    return n;
}

static int
run_all(void)
{
    static struct instance instances[CC_COUNT(worlds) * CC_COUNT(subject_table) * CC_COUNT(checks)];
    static struct CMUnitTest tests[CC_COUNT(instances) + 1];
    const size_t count = make_instances(instances, tests);

    return _cmocka_run_group_tests("evp", tests, count, group_setup, group_teardown);
}

int
main(void)
{
    static const struct token_key keys[] = {
        { "rsa2048", "rsa:2048" },
        { "rsa3072", "rsa:3072" },
        { "p256", "EC:prime256v1" },
        { "p384", "EC:secp384r1" },
        { "p521", "EC:secp521r1" },
    };

    return token_dir_run(keys, CC_COUNT(keys), &token, run_all);
}
