/* SPDX-License-Identifier: MIT */
#include "pki/crl.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "pki_int.h"

/* crlExtensions, RFC 5280 section 5.2. */

static int
push_extension(STACK_OF(X509_EXTENSION) *extensions, int nid, int critical, void *value,
        struct cc_err *err)
{
    X509_EXTENSION *extension = value != NULL ? X509V3_EXT_i2d(nid, critical, value) : NULL;

    if (extension == NULL || sk_X509_EXTENSION_push(extensions, extension) <= 0) {
        X509_EXTENSION_free(extension);
        return cc_err_set_openssl(err, "CRL extension %s", OBJ_nid2sn(nid));
    }
    return 0;
}

/* The issuer's subjectKeyIdentifier, as section 5.2.1 wants it; without one what section 4.2.1.2 (1) makes of the key. */
static ASN1_OCTET_STRING *
key_identifier(X509 *issuer)
{
    const ASN1_OCTET_STRING *have = X509_get0_subject_key_id(issuer);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    ASN1_OCTET_STRING *id;

    if (have != NULL)
        return ASN1_OCTET_STRING_dup(have);
    id = ASN1_OCTET_STRING_new();
    if (id == NULL || !X509_pubkey_digest(issuer, EVP_sha1(), digest, &len) ||
            !ASN1_OCTET_STRING_set(id, digest, (int)len)) {
        ASN1_OCTET_STRING_free(id);
        return NULL;
    }
    return id;
}

static int
add_authority_key(STACK_OF(X509_EXTENSION) *extensions, X509 *issuer, struct cc_err *err)
{
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    int rc;

    if (aki == NULL || (aki->keyid = key_identifier(issuer)) == NULL)
        rc = cc_err_set_openssl(err, "key identifier of the CA");
    else
        rc = push_extension(extensions, NID_authority_key_identifier, 0, aki, err);
    AUTHORITY_KEYID_free(aki);
    return rc;
}

static int
add_number(STACK_OF(X509_EXTENSION) *extensions, int nid, int critical, int64_t number,
        struct cc_err *err)
{
    ASN1_INTEGER *value = ASN1_INTEGER_new();
    int rc;

    if (value == NULL || !ASN1_INTEGER_set_int64(value, number))
        rc = cc_err_set_openssl(err, "CRL number");
    else
        rc = push_extension(extensions, nid, critical, value, err);
    ASN1_INTEGER_free(value);
    return rc;
}

static int
push_url(GENERAL_NAMES *names, const char *url)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();

    if (name == NULL || text == NULL || !ASN1_STRING_set(text, url, -1) ||
            sk_GENERAL_NAME_push(names, name) <= 0) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(text);
        return -1;
    }
    GENERAL_NAME_set0_value(name, GEN_URI, text);
    return 0;
}

/* One distribution point: the URLs are ways to the same CRL (section 4.2.1.13). */
static DIST_POINT *
make_point(const struct pki_texts *urls)
{
    DIST_POINT *point = DIST_POINT_new();

    if (point == NULL || (point->distpoint = DIST_POINT_NAME_new()) == NULL)
        goto fail;
    if ((point->distpoint->name.fullname = GENERAL_NAMES_new()) == NULL)
        goto fail;
    point->distpoint->type = 0; /* fullName */
    for (size_t i = 0; i < urls->count; i++)
        if (push_url(point->distpoint->name.fullname, urls->text[i]) != 0)
            goto fail;
    return point;
fail:
    DIST_POINT_free(point);
    return NULL;
}

/* Section 5.2.6 */
static int
add_freshest(STACK_OF(X509_EXTENSION) *extensions, const struct pki_texts *urls, struct cc_err *err)
{
    CRL_DIST_POINTS *points = CRL_DIST_POINTS_new();
    DIST_POINT *point = make_point(urls);
    int rc = -1;

    if (points == NULL || point == NULL || sk_DIST_POINT_push(points, point) <= 0) {
        cc_err_set_openssl(err, "freshestCRL");
        goto out;
    }
    point = NULL;
    rc = push_extension(extensions, NID_freshest_crl, 0, points, err);
out:
    DIST_POINT_free(point);
    CRL_DIST_POINTS_free(points);
    return rc;
}

static int
fill_extensions(STACK_OF(X509_EXTENSION) *extensions, const struct pki_crl_settings *settings,
        struct cc_err *err)
{
    bool is_delta = settings->base_number >= 0;

    if (add_authority_key(extensions, settings->issuer->certificate, err) != 0)
        return -1;
    if (add_number(extensions, NID_crl_number, 0, settings->number, err) != 0)
        return -1;
    if (is_delta)
        return add_number(extensions, NID_delta_crl, 1, settings->base_number, err);
    if (settings->freshest_urls == NULL || settings->freshest_urls->count == 0)
        return 0;
    return add_freshest(extensions, settings->freshest_urls, err);
}

int
pki_crl_extensions(const struct pki_crl_settings *settings, struct cc_buf *ret, struct cc_err *err)
{
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    unsigned char *der = NULL;
    int len;
    int rc = -1;

    ERR_clear_error();
    if (extensions == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (fill_extensions(extensions, settings, err) != 0)
        goto out;
    if ((len = i2d_X509_EXTENSIONS(extensions, &der)) <= 0) {
        cc_err_set_openssl(err, "CRL extensions");
        goto out;
    }
    rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return rc;
}
