/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "base/text.h"
#include "pki/password.h"

#define SAFES_MAX 16 /* ContentInfos in the AuthenticatedSafe; two are usual */
#define NESTING_MAX 4

/*
 * The ways in which the bytes of a password may have become the password of a file.  PKCS #12 makes a BMPString of
 * it for the MAC and the older ciphers, PBES2 takes bytes; OpenSSL takes UTF-8 and does both.
 */
struct spelling {
    const char *text; /* NULL for the empty password that is no BMPString at all */
    int len;
};

struct spellings {
    char utf8[2 * PKI_PASSWORD_MAX + 1]; /* ISO 8859-1 as UTF-8 */
    struct spelling list[3];
    size_t count;
};

/* Bags of one file, opened as far as they are not encrypted. */
struct pfx {
    PKCS12 *p12;
    STACK_OF(PKCS7) *safes;
    STACK_OF(PKCS12_SAFEBAG) *opened[SAFES_MAX];

    int64_t iterations; /* of all key derivations seen so far */
    unsigned bags;

    const ASN1_OCTET_STRING
            *key_ids[PKI_PFX_BAGS_MAX]; /* borrowed from bags; NULL: a key without */
    size_t key_count;
    const PKCS12_SAFEBAG *certs[PKI_PFX_BAGS_MAX];
    size_t cert_count;
};

static int
malformed(struct cc_err *err, const char *what)
{
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_MALFORMED, "not a usable PFX: %s", what);
}

/* ---- ceilings ---- */

static int
count_iterations(struct pfx *pfx, const ASN1_INTEGER *number, struct cc_err *err)
{
    int64_t iterations;

    if (!ASN1_INTEGER_get_int64(&iterations, number))
        iterations = INT64_MAX;
    ERR_clear_error();
    if (iterations < 1)
        return malformed(err, "an iteration count below one");
    if (iterations > PKI_PFX_ITERATIONS_MAX ||
            pfx->iterations + iterations > PKI_PFX_ITERATIONS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_LIMIT,
                "the PFX asks for more than %d iterations of its key derivations",
                PKI_PFX_ITERATIONS_MAX);
    pfx->iterations += iterations;
    return 0;
}

/* RFC 8018 appendix A.2: only PBKDF2; scrypt's memory would need a ceiling of its own, and no peer uses it here. */
static int
count_kdf(struct pfx *pfx, const X509_ALGOR *kdf, struct cc_err *err)
{
    const ASN1_OBJECT *name = NULL;
    const void *value = NULL;
    PBKDF2PARAM *param;
    int type = 0;
    int rc;

    X509_ALGOR_get0(&name, &type, &value, kdf);
    if (OBJ_obj2nid(name) != NID_id_pbkdf2 || type != V_ASN1_SEQUENCE)
        return malformed(err, "a key derivation other than PBKDF2");
    param = ASN1_item_unpack(value, ASN1_ITEM_rptr(PBKDF2PARAM));
    if (param == NULL)
        return malformed(err, "parameters of PBKDF2");
    rc = count_iterations(pfx, param->iter, err);
    PBKDF2PARAM_free(param);
    return rc;
}

static int
count_pbes2(struct pfx *pfx, const ASN1_STRING *value, struct cc_err *err)
{
    PBE2PARAM *param = ASN1_item_unpack(value, ASN1_ITEM_rptr(PBE2PARAM));
    int rc;

    if (param == NULL)
        return malformed(err, "parameters of PBES2");
    rc = count_kdf(pfx, param->keyfunc, err);
    PBE2PARAM_free(param);
    return rc;
}

/* All other schemes of PKCS #5 and #12 have salt and iteration count. */
static int
count_pbes1(struct pfx *pfx, const ASN1_STRING *value, struct cc_err *err)
{
    PBEPARAM *param = ASN1_item_unpack(value, ASN1_ITEM_rptr(PBEPARAM));
    int rc;

    if (param == NULL)
        return malformed(err, "parameters of the encryption");
    rc = count_iterations(pfx, param->iter, err);
    PBEPARAM_free(param);
    return rc;
}

static int
count_encryption(struct pfx *pfx, const X509_ALGOR *algor, struct cc_err *err)
{
    const ASN1_OBJECT *name = NULL;
    const void *value = NULL;
    int type = 0;

    X509_ALGOR_get0(&name, &type, &value, algor);
    if (type != V_ASN1_SEQUENCE)
        return malformed(err, "encryption without parameters");
    if (OBJ_obj2nid(name) == NID_pbes2)
        return count_pbes2(pfx, value, err);
    return count_pbes1(pfx, value, err);
}

static int
count_mac(struct pfx *pfx, struct cc_err *err)
{
    const ASN1_INTEGER *iterations = NULL;
    const ASN1_OCTET_STRING *mac = NULL;

    if (!PKCS12_mac_present(pfx->p12))
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_NO_MAC, "the PFX has no MAC");
    PKCS12_get0_mac(&mac, NULL, NULL, &iterations, pfx->p12);
    if (mac == NULL || ASN1_STRING_length(mac) == 0)
        return malformed(err, "an empty MAC");
    /* DEFAULT 1 (RFC 7292 section 4) */
    return iterations == NULL ? 0 : count_iterations(pfx, iterations, err);
}

/* ---- bags ---- */

static const ASN1_OCTET_STRING *
local_key_id(const PKCS12_SAFEBAG *bag)
{
    const ASN1_TYPE *id = PKCS12_SAFEBAG_get0_attr(bag, NID_localKeyID);

    return id != NULL && id->type == V_ASN1_OCTET_STRING ? id->value.octet_string : NULL;
}

static int
note_key(struct pfx *pfx, const PKCS12_SAFEBAG *bag, struct cc_err *err)
{
    const X509_SIG *shrouded;
    const X509_ALGOR *algor = NULL;

    if (PKCS12_SAFEBAG_get_nid(bag) == NID_pkcs8ShroudedKeyBag) {
        shrouded = PKCS12_SAFEBAG_get0_pkcs8(bag);
        if (shrouded == NULL)
            return malformed(err, "an empty key bag");
        X509_SIG_get0(shrouded, &algor, NULL);
        if (count_encryption(pfx, algor, err) != 0)
            return -1;
    }
    pfx->key_ids[pfx->key_count++] = local_key_id(bag);
    return 0;
}

static int note_bags(struct pfx *pfx, const STACK_OF(PKCS12_SAFEBAG) *bags, int depth,
        struct cc_err *err);

static int
note_bag(struct pfx *pfx, const PKCS12_SAFEBAG *bag, int depth, struct cc_err *err)
{
    switch (PKCS12_SAFEBAG_get_nid(bag)) {
    case NID_keyBag:
    case NID_pkcs8ShroudedKeyBag:
        return note_key(pfx, bag, err);
    case NID_certBag:
        if (PKCS12_SAFEBAG_get_bag_nid(bag) == NID_x509Certificate)
            pfx->certs[pfx->cert_count++] = bag;
        return 0;
    case NID_safeContentsBag:
        return note_bags(pfx, PKCS12_SAFEBAG_get0_safes(bag), depth + 1, err);
    default: /* CRLs and secrets are none of our business */
        return 0;
    }
}

static int
note_bags(struct pfx *pfx, const STACK_OF(PKCS12_SAFEBAG) *bags, int depth, struct cc_err *err)
{
    if (depth > NESTING_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_LIMIT, "the PFX nests its bags too deeply");
    for (int i = 0; i < sk_PKCS12_SAFEBAG_num(bags); i++) {
        if (++pfx->bags > PKI_PFX_BAGS_MAX)
            return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_LIMIT, "the PFX has more than %d bags",
                    PKI_PFX_BAGS_MAX);
        if (note_bag(pfx, sk_PKCS12_SAFEBAG_value(bags, i), depth, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- reading without the password ---- */

static int
open_safe(struct pfx *pfx, int i, struct cc_err *err)
{
    PKCS7 *safe = sk_PKCS7_value(pfx->safes, i);

    /* Each part of a ContentInfo may be absent in a hostile file; older releases of OpenSSL do not look. */
    if (safe->d.ptr == NULL)
        return malformed(err, "an empty ContentInfo");
    if (PKCS7_type_is_encrypted(safe)) {
        if (safe->d.encrypted->enc_data == NULL || safe->d.encrypted->enc_data->enc_data == NULL)
            return malformed(err, "an EncryptedData without content");
        return count_encryption(pfx, safe->d.encrypted->enc_data->algorithm, err);
    }
    if (!PKCS7_type_is_data(safe))
        return malformed(err, "a ContentInfo that is neither data nor encrypted by a password");
    if ((pfx->opened[i] = PKCS12_unpack_p7data(safe)) == NULL)
        return malformed(err, "SafeContents");
    return note_bags(pfx, pfx->opened[i], 0, err);
}

/* Everything that is to be read and counted before the first key derivation. */
static int
read_structure(struct pfx *pfx, struct cc_bytes file, struct cc_err *err)
{
    const unsigned char *at = file.data;

    if (file.len == 0 || file.len > PKI_PFX_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_LIMIT,
                "PFX of %zu bytes, at most %d are allowed", file.len, PKI_PFX_MAX);
    if ((pfx->p12 = d2i_PKCS12(NULL, &at, (long)file.len)) == NULL)
        return malformed(err, "no PKCS #12 in BER");
    if (at != file.data + file.len)
        return malformed(err, "bytes behind its end");
    if (count_mac(pfx, err) != 0)
        return -1;

    if ((pfx->safes = PKCS12_unpack_authsafes(pfx->p12)) == NULL)
        return malformed(err, "AuthenticatedSafe");
    if (sk_PKCS7_num(pfx->safes) > SAFES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_LIMIT, "the PFX has more than %d safes",
                SAFES_MAX);
    for (int i = 0; i < sk_PKCS7_num(pfx->safes); i++)
        if (open_safe(pfx, i, err) != 0)
            return -1;
    return 0;
}

static void
pfx_free(struct pfx *pfx)
{
    for (size_t i = 0; i < CC_COUNT(pfx->opened); i++)
        sk_PKCS12_SAFEBAG_pop_free(pfx->opened[i], PKCS12_SAFEBAG_free);
    sk_PKCS7_pop_free(pfx->safes, PKCS7_free);
    PKCS12_free(pfx->p12);
}

/* ---- the password ---- */

static void
spell(struct cc_bytes password, struct spellings *ret)
{
    bool ascii = true;
    size_t len = 0;

    for (size_t i = 0; i < password.len; i++) {
        uint8_t byte = password.data[i];

        if (byte < 0x80) {
            ret->utf8[len++] = (char)byte;
        } else {
            ret->utf8[len++] = (char)(0xc0 | byte >> 6);
            ret->utf8[len++] = (char)(0x80 | (byte & 0x3f));
            ascii = false;
        }
    }
    ret->utf8[len] = '\0';
    ret->list[ret->count++] = (struct spelling){ ret->utf8, (int)len };
    if (!ascii)
        ret->list[ret->count++] =
                (struct spelling){ (const char *)password.data, (int)password.len };
    if (password.len == 0)
        ret->list[ret->count++] = (struct spelling){ NULL, 0 };
}

/* Puts the spelling that the MAC confirms first. */
static int
verify_mac(struct pfx *pfx, struct spellings *spellings, struct cc_err *err)
{
    for (size_t i = 0; i < spellings->count; i++) {
        struct spelling found = spellings->list[i];

        if (PKCS12_verify_mac(pfx->p12, found.text, found.len)) {
            spellings->list[i] = spellings->list[0];
            spellings->list[0] = found;
            return 0;
        }
        if (ERR_GET_REASON(ERR_peek_error()) == PKCS12_R_UNKNOWN_DIGEST_ALGORITHM)
            return malformed(err, "a MAC with an unknown hash");
        ERR_clear_error();
    }
    return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_PASSWORD, "the password does not open the PFX");
}

/* ---- decryption of certificates ---- */

/*
 * RC2 and RC4, which many writers still use for certificates, live in OpenSSL's legacy provider.  It is loaded into
 * a context of its own, so that nothing else in the process ever finds those ciphers.
 */
struct legacy {
    OSSL_LIB_CTX *ctx;
    OSSL_PROVIDER *providers[2];
};

static bool
wants_legacy(const X509_ALGOR *algor)
{
    const ASN1_OBJECT *name = NULL;

    X509_ALGOR_get0(&name, NULL, NULL, algor);
    switch (OBJ_obj2nid(name)) {
    case NID_pbe_WithSHA1And40BitRC2_CBC:
    case NID_pbe_WithSHA1And128BitRC2_CBC:
    case NID_pbe_WithSHA1And40BitRC4:
    case NID_pbe_WithSHA1And128BitRC4:
        return true;
    default:
        return false;
    }
}

static int
legacy_open(struct legacy *legacy, struct cc_err *err)
{
    if (legacy->ctx != NULL)
        return 0;
    ERR_clear_error();
    if ((legacy->ctx = OSSL_LIB_CTX_new()) == NULL ||
            (legacy->providers[0] = OSSL_PROVIDER_load(legacy->ctx, "default")) == NULL ||
            (legacy->providers[1] = OSSL_PROVIDER_load(legacy->ctx, "legacy")) == NULL)
        return cc_err_set_openssl(err, "OpenSSL's legacy provider, for the PFX's RC2 or RC4");
    return 0;
}

static void
legacy_close(struct legacy *legacy)
{
    for (size_t i = 0; i < CC_COUNT(legacy->providers); i++)
        if (legacy->providers[i] != NULL)
            (void)OSSL_PROVIDER_unload(legacy->providers[i]);
    OSSL_LIB_CTX_free(legacy->ctx);
}

/* The MAC's spelling is tried first; a writer may have spelt the password otherwise for PBES2. */
static int
decrypt_safe(struct pfx *pfx, int i, const struct spellings *spellings, struct legacy *legacy,
        struct cc_err *err)
{
    PKCS7_ENC_CONTENT *content = sk_PKCS7_value(pfx->safes, i)->d.encrypted->enc_data;
    OSSL_LIB_CTX *ctx = NULL;

    if (wants_legacy(content->algorithm)) {
        if (legacy_open(legacy, err) != 0)
            return -1;
        ctx = legacy->ctx;
    }
    for (size_t k = 0; k < spellings->count && pfx->opened[i] == NULL; k++)
        pfx->opened[i] = PKCS12_item_decrypt_d2i_ex(content->algorithm,
                ASN1_ITEM_rptr(PKCS12_SAFEBAGS), spellings->list[k].text, spellings->list[k].len,
                content->enc_data, 1, ctx, NULL);
    ERR_clear_error();
    if (pfx->opened[i] == NULL)
        return malformed(err, "what is encrypted in it cannot be decrypted");
    return note_bags(pfx, pfx->opened[i], 0, err);
}

static int
decrypt_safes(struct pfx *pfx, const struct spellings *spellings, struct cc_err *err)
{
    struct legacy legacy = { .ctx = NULL };
    int rc = 0;

    for (int i = 0; rc == 0 && i < sk_PKCS7_num(pfx->safes); i++)
        if (pfx->opened[i] == NULL)
            rc = decrypt_safe(pfx, i, spellings, &legacy, err);
    legacy_close(&legacy);
    return rc;
}

/* ---- the certificate ---- */

static const PKCS12_SAFEBAG *
cert_of_key(const struct pfx *pfx, const ASN1_OCTET_STRING *key_id)
{
    for (size_t i = 0; key_id != NULL && i < pfx->cert_count; i++) {
        const ASN1_OCTET_STRING *id = local_key_id(pfx->certs[i]);

        if (id != NULL && ASN1_OCTET_STRING_cmp(id, key_id) == 0)
            return pfx->certs[i];
    }
    return NULL;
}

static int
find_cert(const struct pfx *pfx, const PKCS12_SAFEBAG **ret_bag, struct cc_err *err)
{
    const PKCS12_SAFEBAG *bag = NULL;

    if (pfx->key_count == 0)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_CERTIFICATE, "the PFX holds no private key");
    for (size_t i = 0; bag == NULL && i < pfx->key_count; i++)
        bag = cert_of_key(pfx, pfx->key_ids[i]);
    if (bag == NULL && pfx->cert_count == 1)
        bag = pfx->certs[0];
    if (bag == NULL)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_CERTIFICATE,
                "which of the PFX's %zu certificates belongs to its key cannot be told",
                pfx->cert_count);
    *ret_bag = bag;
    return 0;
}

static void
describe_ec(EVP_PKEY *key, char *ret, size_t size)
{
    static const struct {
        const char *group, *name;
    } groups[] = {
        { "prime256v1", "P-256" },
        { "secp384r1", "P-384" },
        { "secp521r1", "P-521" },
    };
    char group[64] = "";

    (void)EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
    for (size_t i = 0; i < CC_COUNT(groups); i++)
        if (strcmp(group, groups[i].group) == 0)
            (void)cc_strcpy(group, sizeof(group), groups[i].name);
    (void)snprintf(ret, size, "EC-%.12s", group[0] != '\0' ? group : "unnamed");
}

static void
describe_key(X509 *cert, char *ret, size_t size)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    const char *type = key != NULL ? EVP_PKEY_get0_type_name(key) : NULL;

    if (type == NULL)
        (void)cc_strcpy(ret, size, "unknown");
    else if (EVP_PKEY_is_a(key, "EC"))
        describe_ec(key, ret, size);
    else if (EVP_PKEY_is_a(key, "RSA"))
        (void)snprintf(ret, size, "RSA-%d", EVP_PKEY_get_bits(key));
    else
        (void)cc_strcpy(ret, size, type);
    ERR_clear_error();
}

/* OpenSSL's RFC 2253 form is printable ASCII, whatever the name contains. */
static int
describe_subject(X509 *cert, char *ret, size_t size, struct cc_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int rc = -1;
    int len;

    if (bio == NULL ||
            X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) < 0) {
        malformed(err, "its certificate's subject");
    } else {
        len = BIO_read(bio, ret, (int)size - 1);
        ret[len > 0 ? len : 0] = '\0';
        rc = 0;
    }
    BIO_free(bio);
    return rc;
}

static int
describe(X509 *cert, struct pki_pfx_info *ret, struct cc_err *err)
{
    struct pki_pfx_info info = { .thumbprint = "" };

    if (cert == NULL)
        return malformed(err, "its certificate");
    if (pki_cert_thumbprint(cert, info.thumbprint, err) != 0 ||
            describe_subject(cert, info.subject, sizeof(info.subject), err) != 0)
        return -1;
    if (pki_cert_validity(cert, &info.not_before_ms, &info.not_after_ms, NULL) != 0)
        return malformed(err, "its certificate's validity");
    describe_key(cert, info.key_type, sizeof(info.key_type));
    *ret = info;
    return 0;
}

/* The content of the element that at begins, or with skip what is behind it; NULL when it is not of that tag. */
static const unsigned char *
der_step(const unsigned char *at, const unsigned char *end, int want_tag, bool skip, long *ret_len)
{
    int tag = 0, class = 0;

    if (at == NULL || (ASN1_get_object(&at, ret_len, &tag, &class, end - at) & 0x80) != 0 ||
            tag != want_tag)
        return NULL;
    return skip ? at + *ret_len : at;
}

/*
 * The certificate in the DER of a bag (RFC 7292 section 4.2.3), which OpenSSL wrote itself:
 * SafeBag { certBag, [0] CertBag { x509Certificate, [0] OCTET STRING } … }
 */
static const unsigned char *
bag_cert(const unsigned char *der, size_t size, long *ret_len)
{
    const unsigned char *end = der + size;
    const unsigned char *at = der_step(der, end, V_ASN1_SEQUENCE, false, ret_len);

    at = der_step(at, end, V_ASN1_OBJECT, true, ret_len);
    at = der_step(at, end, 0, false, ret_len);
    at = der_step(at, end, V_ASN1_SEQUENCE, false, ret_len);
    at = der_step(at, end, V_ASN1_OBJECT, true, ret_len);
    at = der_step(at, end, 0, false, ret_len);
    return der_step(at, end, V_ASN1_OCTET_STRING, false, ret_len);
}

static int
bag_thumbprint(const PKCS12_SAFEBAG *bag, char ret_hex[PKI_THUMBPRINT_LEN], struct cc_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;
    unsigned char *der = NULL;
    const unsigned char *cert = NULL, *cert_end = NULL;
    int size = i2d_PKCS12_SAFEBAG(bag, &der);
    long len = 0;
    int rc = -1;

    if (size > 0)
        cert = bag_cert(der, (size_t)size, &len);
    if (cert != NULL)
        cert_end = der_step(cert, cert + len, V_ASN1_SEQUENCE, true, &len);
    if (cert_end == NULL)
        malformed(err, "its certificate");
    else if (!EVP_Digest(cert, (size_t)(cert_end - cert), digest, &digest_len, EVP_sha1(), NULL))
        cc_err_set_openssl(err, "thumbprint");
    else {
        cc_hex(digest, digest_len, false, ret_hex);
        rc = 0;
    }
    OPENSSL_free(der);
    return rc;
}

/* Tells either all of the certificate or, with ret_info NULL, its thumbprint. */
static int
check(struct cc_bytes file, struct cc_bytes password, struct pki_pfx_info *ret_info,
        char *ret_thumbprint, struct cc_err *err)
{
    struct spellings spellings = { .count = 0 };
    struct pfx pfx = { .p12 = NULL };
    const PKCS12_SAFEBAG *bag = NULL;
    X509 *cert = NULL;
    int rc = -1;

    if (password.len > PKI_PASSWORD_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_PFX_PASSWORD, "password of %zu bytes",
                password.len);

    ERR_clear_error();
    spell(password, &spellings);
    if (read_structure(&pfx, file, err) != 0)
        goto out;
    if (verify_mac(&pfx, &spellings, err) != 0)
        goto out;
    if (decrypt_safes(&pfx, &spellings, err) != 0)
        goto out;
    if (find_cert(&pfx, &bag, err) != 0)
        goto out;
    if (ret_info != NULL) {
        cert = PKCS12_SAFEBAG_get1_cert(bag);
        rc = describe(cert, ret_info, err);
    } else {
        rc = bag_thumbprint(bag, ret_thumbprint, err);
    }
out:
    cc_wipe(&spellings, sizeof(spellings));
    X509_free(cert);
    pfx_free(&pfx);
    return rc;
}

int
pki_pfx_check(struct cc_bytes file, struct cc_bytes password, struct pki_pfx_info *ret_info,
        struct cc_err *err)
{
    return check(file, password, ret_info, NULL, err);
}

int
pki_pfx_check_thumbprint(struct cc_bytes file, struct cc_bytes password,
        char ret_hex[PKI_THUMBPRINT_LEN], struct cc_err *err)
{
    return check(file, password, NULL, ret_hex, err);
}
