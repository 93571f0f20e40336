/* SPDX-License-Identifier: MIT */
#include "pki/plan.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <string.h>

#include "base/text.h"
#include "pki/cert.h"
#include "pki_int.h"

/* A certificate held against its plan.  One check a paragraph. */

#define VALIDITY_SLACK_MS                                                                          \
    (INT64_C(24) * 3600 * 1000) /* what CAs add to a validity that was asked for */

static int
differs(struct cc_err *err, const char *what)
{
    return cc_err_set(err, CC_DOM_INPUT, 0, "the certificate is not what was asked for: %s", what);
}

/* ---- alternative names, in any order ---- */

static bool
has_name(const GENERAL_NAMES *names, GENERAL_NAME *wanted)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (GENERAL_NAME_cmp(sk_GENERAL_NAME_value(names, i), wanted) == 0)
            return true;
    return false;
}

static bool
covers(const GENERAL_NAMES *all, const GENERAL_NAMES *some)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(some); i++)
        if (!has_name(all, sk_GENERAL_NAME_value(some, i)))
            return false;
    return true;
}

static int
compare_sans(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    int critical = -1;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    int rc = 0;

    /* -1: absent; anything else without a value: malformed or there twice. */
    if (names == NULL && critical != -1)
        rc = differs(err, "its subjectAltName cannot be read");
    else if (!covers(names, plan->sans))
        rc = differs(err, "an alternative name is missing or another");
    else if (!covers(plan->sans, names))
        rc = differs(err, "it has an alternative name that was not asked for");
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return rc;
}

/* ---- usages ---- */

static bool
has_usage(STACK_OF(ASN1_OBJECT) *usages, const ASN1_OBJECT *wanted)
{
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++)
        if (OBJ_cmp(sk_ASN1_OBJECT_value(usages, i), wanted) == 0)
            return true;
    return false;
}

static int
compare_extended(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    int rc = 0;

    for (int i = 0; i < sk_ASN1_OBJECT_num(plan->extended_key_usages) && rc == 0; i++)
        if (!has_usage(usages, sk_ASN1_OBJECT_value(plan->extended_key_usages, i)))
            rc = differs(err, "an extended key usage is missing");
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages) && rc == 0; i++)
        if (!has_usage(plan->extended_key_usages, sk_ASN1_OBJECT_value(usages, i)))
            rc = differs(err, "it has an extended key usage that was not asked for");
    sk_ASN1_OBJECT_pop_free(usages, ASN1_OBJECT_free);
    return rc;
}

static int
compare_usages(const struct pki_plan *plan, const EVP_PKEY *key, X509 *cert, struct cc_err *err)
{
    const uint32_t usages =
            X509_get_key_usage(cert); /* all of them when it has no such extension */

    if (plan->key_usages != 0 &&
            (usages == UINT32_MAX ||
                    usages != pki_key_usages_of(plan->key_usages, EVP_PKEY_is_a(key, "EC"))))
        return differs(err, "its key usages are others");
    return compare_extended(plan, cert, err);
}

/* ---- the rest ---- */

static int
compare_sid(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(PKI_OID_NTDS_CA_SECURITY, 1);
    struct cc_buf want = CC_BUF_INIT(512);
    int place = oid != NULL ? X509_get_ext_by_OBJ(cert, oid, -1) : -1;
    int rc = -1;

    ASN1_OBJECT_free(oid);
    if (plan->sid[0] == '\0') {
        rc = place < 0 ? 0 : differs(err, "it has a SID that was not asked for");
    } else if (place < 0) {
        differs(err, "the SID is missing");
    } else if (pki_sid_extension(plan->sid, &want, err) == 0) {
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(cert, place));

        rc = 0;
        if ((size_t)ASN1_STRING_length(value) != want.len ||
                memcmp(ASN1_STRING_get0_data(value), want.data, want.len) != 0)
            rc = differs(err, "its SID is another");
    }
    cc_buf_free(&want);
    return rc;
}

static int
compare_validity(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    int64_t not_before, not_after;

    if (pki_cert_validity(cert, &not_before, &not_after, err) != 0)
        return -1;
    if (not_after > plan->not_after_ms + VALIDITY_SLACK_MS)
        return differs(err, "it is valid longer than asked for");
    return 0;
}

static int
compare_critical(X509 *cert, struct cc_err *err)
{
    for (int i = 0; i < X509_get_ext_count(cert); i++) {
        X509_EXTENSION *extension = X509_get_ext(cert, i);

        if (X509_EXTENSION_get_critical(extension) && !X509_supported_extension(extension))
            return differs(err, "it has a critical extension that is not known");
    }
    return 0;
}

static int
compare_identity(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    if (X509_NAME_cmp(X509_get_subject_name(cert), plan->subject) != 0)
        return differs(err, "its subject is another");
    if (compare_sans(plan, cert, err) != 0)
        return -1;
    return compare_sid(plan, cert, err);
}

int
pki_plan_compare_identity(const struct pki_plan *plan, X509 *cert, struct cc_err *err)
{
    int rc;

    ERR_clear_error();
    rc = compare_identity(plan, cert, err);
    ERR_clear_error();
    return rc;
}

int
pki_plan_compare(const struct pki_plan *plan, const EVP_PKEY *public_key, X509 *cert,
        struct cc_err *err)
{
    const EVP_PKEY *key = X509_get0_pubkey(cert);
    int rc = -1;

    ERR_clear_error();
    if (key == NULL || EVP_PKEY_eq(key, public_key) != 1)
        differs(err, "it is for another key");
    else if (X509_check_ca(cert) != (plan->is_ca ? 1 : 0))
        differs(err, plan->is_ca ? "it is not that of a CA" : "it is that of a CA");
    else if (compare_identity(plan, cert, err) == 0 &&
             compare_usages(plan, public_key, cert, err) == 0 &&
             compare_validity(plan, cert, err) == 0)
        rc = compare_critical(cert, err);
    ERR_clear_error();
    return rc;
}
