/* SPDX-License-Identifier: MIT */
#include "pki/plan.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/sha.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "pki/cert.h"
#include "pki/lint.h"
#include "pki_int.h"

/* A certificate from its plan: fields and extensions in the order of RFC 5280, linted, signed. */

/* ---- extensions ---- */

/* value is an object of OpenSSL's for this extension. */
static int
add_extension(X509 *cert, int nid, void *value, bool critical, struct cc_err *err)
{
    if (X509_add1_ext_i2d(cert, nid, value, critical, X509V3_ADD_APPEND) == 1)
        return 0;
    return cc_err_set_openssl(err, "extension %s", OBJ_nid2sn(nid));
}

/* RFC 5280 section 4.2.1.2, method 1, of the certificate's own key. */
static int
set_key_identifier(ASN1_OCTET_STRING *octets, const X509 *cert)
{
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(cert);
    uint8_t id[SHA_DIGEST_LENGTH];

    SHA1(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), id);
    return ASN1_OCTET_STRING_set(octets, id, sizeof(id));
}

static int
add_key_identifier(X509 *cert, struct cc_err *err)
{
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    int rc = -1;

    if (octets == NULL || !set_key_identifier(octets, cert))
        cc_err_nomem(err);
    else
        rc = add_extension(cert, NID_subject_key_identifier, octets, false, err);
    ASN1_OCTET_STRING_free(octets);
    return rc;
}

/* The issuer's own identifier, or one made of its key in the same way. */
static int
add_authority_identifier(X509 *cert, const struct pki_issuer *issuer, struct cc_err *err)
{
    const ASN1_OCTET_STRING *of_issuer = X509_get0_subject_key_id(issuer->certificate);
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    bool made = false;
    int rc = -1;

    if (aki != NULL && of_issuer != NULL)
        made = (aki->keyid = ASN1_OCTET_STRING_dup(of_issuer)) != NULL;
    else if (aki != NULL && (aki->keyid = ASN1_OCTET_STRING_new()) != NULL)
        made = set_key_identifier(aki->keyid, issuer->certificate);
    if (made)
        rc = add_extension(cert, NID_authority_key_identifier, aki, false, err);
    else
        cc_err_nomem(err);
    AUTHORITY_KEYID_free(aki);
    return rc;
}

/* Of a CA; NULL without memory. */
static BASIC_CONSTRAINTS *
basic_constraints(const struct pki_plan *plan)
{
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();

    if (constraints == NULL)
        return NULL;
    constraints->ca = 0xff;
    if (plan->path_len >= 0 && ((constraints->pathlen = ASN1_INTEGER_new()) == NULL ||
                                       !ASN1_INTEGER_set(constraints->pathlen, plan->path_len))) {
        BASIC_CONSTRAINTS_free(constraints);
        return NULL;
    }
    return constraints;
}

static int
add_basic_constraints(X509 *cert, const struct pki_plan *plan, struct cc_err *err)
{
    BASIC_CONSTRAINTS *constraints;
    int rc;

    if (!plan->is_ca)
        return 0;
    if ((constraints = basic_constraints(plan)) == NULL)
        return cc_err_nomem(err);
    rc = add_extension(cert, NID_basic_constraints, constraints, true, err);
    BASIC_CONSTRAINTS_free(constraints);
    return rc;
}

static int
add_key_usage(X509 *cert, unsigned usages, struct cc_err *err)
{
    ASN1_BIT_STRING *bits;
    int rc;

    if (usages == 0)
        return 0;
    if ((bits = pki_key_usage_bits(usages)) == NULL)
        return cc_err_nomem(err);
    rc = add_extension(cert, NID_key_usage, bits, true, err);
    ASN1_BIT_STRING_free(bits);
    return rc;
}

static int
add_policies(X509 *cert, const struct pki_texts *policies, struct cc_err *err)
{
    CERTIFICATEPOLICIES *list;
    int rc = 0;

    if (policies->count == 0)
        return 0;
    if ((list = CERTIFICATEPOLICIES_new()) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < policies->count && rc == 0; i++) {
        POLICYINFO *policy = POLICYINFO_new();

        if (policy == NULL || (policy->policyid = OBJ_txt2obj(policies->text[i], 1)) == NULL ||
                sk_POLICYINFO_push(list, policy) <= 0) {
            POLICYINFO_free(policy);
            rc = cc_err_set_openssl(err, "certificate policy %zu", i + 1);
        }
    }
    if (rc == 0)
        rc = add_extension(cert, NID_certificate_policies, list, false, err);
    CERTIFICATEPOLICIES_free(list);
    return rc;
}

static GENERAL_NAME *
new_uri(const char *url)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();

    if (name == NULL || text == NULL || !ASN1_STRING_set(text, url, -1)) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(text);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, GEN_URI, text);
    return name;
}

/* One distribution point with all URLs: places of one and the same CRL. */
CRL_DIST_POINTS *
pki_distribution_points(const struct pki_texts *urls)
{
    CRL_DIST_POINTS *points = CRL_DIST_POINTS_new();
    DIST_POINT *point = DIST_POINT_new();

    if (points == NULL || point == NULL || (point->distpoint = DIST_POINT_NAME_new()) == NULL ||
            (point->distpoint->name.fullname = sk_GENERAL_NAME_new_null()) == NULL)
        goto fail;
    point->distpoint->type = 0;
    for (size_t i = 0; i < urls->count; i++) {
        GENERAL_NAME *name = new_uri(urls->text[i]);

        if (name == NULL || sk_GENERAL_NAME_push(point->distpoint->name.fullname, name) <= 0) {
            GENERAL_NAME_free(name);
            goto fail;
        }
    }
    if (sk_DIST_POINT_push(points, point) > 0)
        return points;
fail:
    DIST_POINT_free(point);
    CRL_DIST_POINTS_free(points);
    return NULL;
}

static int
add_distribution_points(X509 *cert, int nid, const struct pki_texts *urls, struct cc_err *err)
{
    CRL_DIST_POINTS *points;
    int rc;

    if (urls->count == 0)
        return 0;
    if ((points = pki_distribution_points(urls)) == NULL)
        return cc_err_nomem(err);
    rc = add_extension(cert, nid, points, false, err);
    CRL_DIST_POINTS_free(points);
    return rc;
}

static int
push_access(AUTHORITY_INFO_ACCESS *list, int method, const struct pki_texts *urls,
        struct cc_err *err)
{
    for (size_t i = 0; i < urls->count; i++) {
        ACCESS_DESCRIPTION *access = ACCESS_DESCRIPTION_new();
        GENERAL_NAME *name = new_uri(urls->text[i]);

        if (access == NULL || name == NULL) {
            ACCESS_DESCRIPTION_free(access);
            GENERAL_NAME_free(name);
            return cc_err_nomem(err);
        }
        access->method = OBJ_nid2obj(method);
        GENERAL_NAME_free(access->location);
        access->location = name;
        if (sk_ACCESS_DESCRIPTION_push(list, access) <= 0) {
            ACCESS_DESCRIPTION_free(access);
            return cc_err_nomem(err);
        }
    }
    return 0;
}

static int
add_authority_access(X509 *cert, const struct pki_profile *profile, struct cc_err *err)
{
    AUTHORITY_INFO_ACCESS *list;
    int rc = -1;

    if (profile->issuer_urls.count + profile->ocsp_urls.count == 0)
        return 0;
    if ((list = AUTHORITY_INFO_ACCESS_new()) == NULL)
        return cc_err_nomem(err);
    if (push_access(list, NID_ad_OCSP, &profile->ocsp_urls, err) == 0 &&
            push_access(list, NID_ad_ca_issuers, &profile->issuer_urls, err) == 0)
        rc = add_extension(cert, NID_info_access, list, false, err);
    AUTHORITY_INFO_ACCESS_free(list);
    return rc;
}

/* An extension by its OID and the DER of its value. */
static X509_EXTENSION *
raw_extension(const char *oid, struct cc_bytes value, struct cc_err *err)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;

    if (object != NULL && octets != NULL &&
            ASN1_OCTET_STRING_set(octets, value.data, (int)value.len))
        extension = X509_EXTENSION_create_by_OBJ(NULL, object, 0, octets);
    if (extension == NULL)
        cc_err_nomem(err);
    ASN1_OBJECT_free(object);
    ASN1_OCTET_STRING_free(octets);
    return extension;
}

static X509_EXTENSION *
sid_extension(const char *sid, struct cc_err *err)
{
    struct cc_buf value = CC_BUF_INIT(512);
    X509_EXTENSION *extension = NULL;

    if (pki_sid_extension(sid, &value, err) == 0)
        extension = raw_extension(PKI_OID_NTDS_CA_SECURITY, cc_buf_bytes(&value), err);
    cc_buf_free(&value);
    return extension;
}

static int
add_sid(X509 *cert, const struct pki_plan *plan, struct cc_err *err)
{
    X509_EXTENSION *extension;
    int rc = 0;

    if (plan->sid[0] == '\0')
        return 0;
    if ((extension = sid_extension(plan->sid, err)) == NULL)
        return -1;
    if (!X509_add_ext(cert, extension, -1))
        rc = cc_err_set_openssl(err, "SID extension");
    X509_EXTENSION_free(extension);
    return rc;
}

static int
add_ocsp_no_check(X509 *cert, const struct pki_plan *plan, struct cc_err *err)
{
    ASN1_NULL *null;
    int rc;

    if (!plan->ocsp_no_check)
        return 0;
    if ((null = ASN1_NULL_new()) == NULL)
        return cc_err_nomem(err);
    rc = add_extension(cert, NID_id_pkix_OCSP_noCheck, null, false, err);
    ASN1_NULL_free(null);
    return rc;
}

static int
add_profile(X509 *cert, const struct pki_profile *profile, struct cc_err *err)
{
    if (profile == NULL)
        return 0;
    if (add_policies(cert, &profile->policies, err) != 0 ||
            add_distribution_points(cert, NID_crl_distribution_points, &profile->crl_urls, err) !=
                    0 ||
            add_distribution_points(cert, NID_freshest_crl, &profile->delta_crl_urls, err) != 0)
        return -1;
    return add_authority_access(cert, profile, err);
}

static int
add_extensions(X509 *cert, const struct pki_plan *plan, EVP_PKEY *key,
        const struct pki_issuer *issuer, struct cc_err *err)
{
    const bool nameless = X509_NAME_entry_count(plan->subject) == 0;

    if (add_key_identifier(cert, err) != 0 ||
            (issuer->certificate != NULL && add_authority_identifier(cert, issuer, err) != 0))
        return -1;
    if (add_basic_constraints(cert, plan, err) != 0 ||
            add_key_usage(cert, pki_key_usages_of(plan->key_usages, EVP_PKEY_is_a(key, "EC")),
                    err) != 0)
        return -1;
    if (sk_ASN1_OBJECT_num(plan->extended_key_usages) > 0 &&
            add_extension(cert, NID_ext_key_usage, plan->extended_key_usages, false, err) != 0)
        return -1;
    if (plan->sans != NULL &&
            add_extension(cert, NID_subject_alt_name, plan->sans, nameless, err) != 0)
        return -1;
    if (add_profile(cert, plan->profile, err) != 0 || add_sid(cert, plan, err) != 0)
        return -1;
    return add_ocsp_no_check(cert, plan, err);
}

/* ---- fields ---- */

static int
set_serial(X509 *cert, struct cc_bytes serial, struct cc_err *err)
{
    BIGNUM *number = BN_bin2bn(serial.data, (int)serial.len, NULL);
    int rc = -1;

    if (serial.len == 0 || serial.len > PKI_SERIAL_LEN)
        cc_err_set(err, CC_DOM_INTERNAL, 0, "a serial number of %zu bytes", serial.len);
    else if (number == NULL || BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) == NULL)
        cc_err_nomem(err);
    else
        rc = 0;
    BN_free(number);
    return rc;
}

/* UTCTime or GeneralizedTime, as RFC 5280 section 4.1.2.5 has it. */
static int
set_time(ASN1_TIME *time, int64_t ms, struct cc_err *err)
{
    return ASN1_TIME_set(time, (time_t)(ms / 1000)) != NULL ? 0 : cc_err_nomem(err);
}

static int
set_validity(X509 *cert, const struct pki_plan *plan, const struct pki_issuer *issuer,
        struct cc_err *err)
{
    int64_t not_after = plan->not_after_ms, before, above;

    if (issuer->certificate != NULL) {
        if (pki_cert_validity(issuer->certificate, &before, &above, err) != 0)
            return cc_err_in(err, "the CA's certificate");
        if (above < not_after)
            not_after = above;
    }
    if (set_time(X509_getm_notBefore(cert), plan->not_before_ms, err) != 0)
        return -1;
    return set_time(X509_getm_notAfter(cert), not_after, err);
}

static int
set_fields(X509 *cert, const struct pki_plan *plan, struct cc_bytes serial, EVP_PKEY *key,
        const struct pki_issuer *issuer, struct cc_err *err)
{
    const X509_NAME *above = issuer->certificate != NULL
                                     ? X509_get_subject_name(issuer->certificate)
                                     : plan->subject;

    if (set_serial(cert, serial, err) != 0 || set_validity(cert, plan, issuer, err) != 0)
        return -1;
    if (!X509_set_version(cert, X509_VERSION_3) || !X509_set_subject_name(cert, plan->subject) ||
            !X509_set_issuer_name(cert, above) || !pki_spki_set(cert, key))
        return cc_err_set_openssl(err, "the certificate's fields");
    return 0;
}

/* Read anew from its DER: what OpenSSL remembers of it is then that of the signed certificate. */
static int
finish(X509 *cert, X509 **ret_cert, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    int rc;

    if (len < 0)
        return cc_err_set_openssl(err, "the certificate");
    rc = pki_cert_parse((struct cc_bytes){ der, (size_t)len }, ret_cert, err);
    OPENSSL_free(der);
    return rc;
}

int
pki_cert_issue(const struct pki_plan *plan, struct cc_bytes serial, EVP_PKEY *public_key,
        const struct pki_issuer *issuer, X509 **ret_cert, struct cc_err *err)
{
    const EVP_MD *md = issuer->md != NULL ? issuer->md : pki_signature_md(issuer->key);
    X509 *cert = X509_new();
    int rc = -1;

    ERR_clear_error();
    if (cert == NULL)
        return cc_err_nomem(err);
    if (set_fields(cert, plan, serial, public_key, issuer, err) != 0 ||
            add_extensions(cert, plan, public_key, issuer, err) != 0)
        goto out;
    if (pki_lint(cert, issuer->certificate, err) != 0)
        goto out;
    ERR_clear_error();
    if (X509_sign(cert, issuer->key, md) <= 0) {
        cc_err_set_openssl(err, "signing a certificate");
        goto out;
    }
    rc = finish(cert, ret_cert, err);
out:
    X509_free(cert);
    return rc;
}

/* ---- the extensions of a request ---- */

static int
push_i2d(STACK_OF(X509_EXTENSION) **list, int nid, void *value, bool critical)
{
    return X509V3_add1_i2d(list, nid, value, critical, X509V3_ADD_APPEND) == 1 ? 0 : -1;
}

static int
push_basic_constraints(STACK_OF(X509_EXTENSION) **list, const struct pki_plan *plan)
{
    BASIC_CONSTRAINTS *constraints = basic_constraints(plan);
    int rc = constraints == NULL ? -1 : push_i2d(list, NID_basic_constraints, constraints, true);

    BASIC_CONSTRAINTS_free(constraints);
    return rc;
}

static int
plan_extensions(const struct pki_plan *plan, STACK_OF(X509_EXTENSION) **list, struct cc_err *err)
{
    const bool nameless = X509_NAME_entry_count(plan->subject) == 0;
    ASN1_BIT_STRING *bits = plan->key_usages != 0 ? pki_key_usage_bits(plan->key_usages) : NULL;
    X509_EXTENSION *sid = NULL;
    int rc = -1;

    if (plan->is_ca && push_basic_constraints(list, plan) != 0) {
        cc_err_set_openssl(err, "extensions of a request");
        goto out;
    }
    if ((bits != NULL && push_i2d(list, NID_key_usage, bits, true) != 0) ||
            (plan->extended_key_usages != NULL &&
                    push_i2d(list, NID_ext_key_usage, plan->extended_key_usages, false) != 0) ||
            (plan->sans != NULL &&
                    push_i2d(list, NID_subject_alt_name, plan->sans, nameless) != 0)) {
        cc_err_set_openssl(err, "extensions of a request");
        goto out;
    }
    if (plan->sid[0] != '\0' && ((sid = sid_extension(plan->sid, err)) == NULL ||
                                        X509v3_add_ext(list, sid, -1) == NULL))
        goto out;
    rc = 0;
out:
    X509_EXTENSION_free(sid);
    ASN1_BIT_STRING_free(bits);
    return rc;
}

int
pki_plan_extensions(const struct pki_plan *plan, struct cc_buf *ret_der, struct cc_err *err)
{
    STACK_OF(X509_EXTENSION) *list = NULL;
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if (plan_extensions(plan, &list, err) != 0)
        goto out;
    if (list == NULL)
        rc = 0;
    else if ((len = i2d_X509_EXTENSIONS(list, &der)) < 0)
        cc_err_set_openssl(err, "extensions of a request");
    else
        rc = cc_buf_add(ret_der, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return rc;
}
