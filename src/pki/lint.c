/* SPDX-License-Identifier: MIT */
#include "pki/lint.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "pki/name.h"
#include "pki_int.h"

#define SERIAL_OCTETS_MAX 20

/* What the rules look at, read once; not by OpenSSL's own cache, which a certificate without a signature would spoil. */
struct subject {
    X509 *cert, *issuer; /* issuer NULL: signs itself */
    BASIC_CONSTRAINTS *constraints;
    GENERAL_NAMES *sans;
    EXTENDED_KEY_USAGE *extended;
    AUTHORITY_KEYID *aki;
    CERTIFICATEPOLICIES *policies;
    ASN1_OCTET_STRING *ski;
    uint32_t usages; /* UINT32_MAX: no such extension */
    bool ca;
};

/* ---- fields ---- */

static bool
version_is_3(const struct subject *s)
{
    return X509_get_version(s->cert) == X509_VERSION_3;
}

static bool
serial_is_positive(const struct subject *s)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(s->cert);
    const unsigned char *data = ASN1_STRING_get0_data(serial);
    int len = ASN1_STRING_length(serial);
    bool zero = true;

    for (int i = 0; i < len; i++)
        zero = zero && data[i] == 0;
    return (ASN1_STRING_type(serial) & V_ASN1_NEG) == 0 && !zero;
}

/* A top bit that is set takes one octet more. */
static bool
serial_is_short(const struct subject *s)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(s->cert);
    int len = ASN1_STRING_length(serial);

    return len > 0 && len + ((ASN1_STRING_get0_data(serial)[0] & 0x80) != 0) <= SERIAL_OCTETS_MAX;
}

static bool
issuer_is_named(const struct subject *s)
{
    return X509_NAME_entry_count(X509_get_issuer_name(s->cert)) > 0;
}

static bool
issuer_is_the_issuers(const struct subject *s)
{
    X509 *issuer = s->issuer != NULL ? s->issuer : s->cert;

    return X509_NAME_cmp(X509_get_issuer_name(s->cert), X509_get_subject_name(issuer)) == 0;
}

/* UTCTime for 1950 to 2049, GeneralizedTime beyond; with seconds, in UTC. */
static bool
is_time_form(const ASN1_TIME *time)
{
    const bool utc = ASN1_STRING_type(time) == V_ASN1_UTCTIME;
    const size_t want = utc ? 13 : 15;
    const char *text = (const char *)ASN1_STRING_get0_data(time);
    struct tm tm;

    if ((size_t)ASN1_STRING_length(time) != want || text[want - 1] != 'Z' ||
            !ASN1_TIME_to_tm(time, &tm))
        return false;
    return utc == (tm.tm_year + 1900 < 2050);
}

static bool
times_are_well_formed(const struct subject *s)
{
    return is_time_form(X509_get0_notBefore(s->cert)) && is_time_form(X509_get0_notAfter(s->cert));
}

static bool
times_are_in_order(const struct subject *s)
{
    return ASN1_TIME_compare(X509_get0_notBefore(s->cert), X509_get0_notAfter(s->cert)) < 0;
}

static bool
ends_with_issuer(const struct subject *s)
{
    return s->issuer == NULL ||
           ASN1_TIME_compare(X509_get0_notAfter(s->cert), X509_get0_notAfter(s->issuer)) <= 0;
}

static bool
is_critical(const struct subject *s, int nid)
{
    int place = X509_get_ext_by_NID(s->cert, nid, -1);

    return place >= 0 && X509_EXTENSION_get_critical(X509_get_ext(s->cert, place));
}

static bool
subject_is_named(const struct subject *s)
{
    if (X509_NAME_entry_count(X509_get_subject_name(s->cert)) > 0)
        return true;
    return !s->ca && s->sans != NULL && is_critical(s, NID_subject_alt_name);
}

/* Every attribute as pki_name_parse() would have it: written and read again. */
static bool
subject_is_well_formed(const struct subject *s)
{
    struct cc_buf text = CC_BUF_INIT(PKI_NAME_TEXT_MAX);
    const X509_NAME *subject = X509_get_subject_name(s->cert);
    X509_NAME *again = NULL;
    bool good = pki_name_format(subject, &text, NULL) == 0 &&
                pki_name_parse(cc_buf_str(&text), &again, NULL) == 0 &&
                X509_NAME_cmp(subject, again) == 0;

    X509_NAME_free(again);
    cc_buf_free(&text);
    return good;
}

/* ---- extensions ---- */

static bool
extensions_are_single(const struct subject *s)
{
    for (int i = 0; i < X509_get_ext_count(s->cert); i++) {
        const ASN1_OBJECT *type = X509_EXTENSION_get_object(X509_get_ext(s->cert, i));

        if (X509_get_ext_by_OBJ(s->cert, type, -1) != i)
            return false;
    }
    return true;
}

static bool
aki_is_the_issuers(const struct subject *s)
{
    const ASN1_OCTET_STRING *want =
            s->issuer != NULL ? X509_get0_subject_key_id(s->issuer) : s->ski;

    if (s->issuer == NULL && s->aki == NULL)
        return true;
    if (s->aki == NULL || s->aki->keyid == NULL)
        return false;
    return want == NULL || ASN1_OCTET_STRING_cmp(s->aki->keyid, want) == 0;
}

static bool
identifiers_are_not_critical(const struct subject *s)
{
    return !is_critical(s, NID_subject_key_identifier) &&
           !is_critical(s, NID_authority_key_identifier);
}

static bool
ca_has_ski(const struct subject *s)
{
    return !s->ca || s->ski != NULL;
}

static bool
ca_constraints_are_critical(const struct subject *s)
{
    return !s->ca || is_critical(s, NID_basic_constraints);
}

static bool
path_len_is_of_a_ca(const struct subject *s)
{
    return s->constraints == NULL || s->constraints->pathlen == NULL ||
           (s->ca && s->usages != UINT32_MAX && (s->usages & KU_KEY_CERT_SIGN) != 0);
}

static bool
path_len_fits_the_issuers(const struct subject *s)
{
    BASIC_CONSTRAINTS *above;
    bool fits = true;

    if (!s->ca || s->issuer == NULL)
        return true;
    above = X509_get_ext_d2i(s->issuer, NID_basic_constraints, NULL, NULL);
    if (above != NULL && above->pathlen != NULL) {
        long most = ASN1_INTEGER_get(above->pathlen);

        fits = most > 0 && s->constraints->pathlen != NULL &&
               ASN1_INTEGER_get(s->constraints->pathlen) < most;
    }
    BASIC_CONSTRAINTS_free(above);
    return fits;
}

static bool
cert_sign_is_of_a_ca(const struct subject *s)
{
    return s->usages == UINT32_MAX || (s->usages & KU_KEY_CERT_SIGN) == 0 || s->ca;
}

static bool
ca_may_sign(const struct subject *s)
{
    return !s->ca || (s->usages != UINT32_MAX && (s->usages & KU_KEY_CERT_SIGN) != 0);
}

static bool
usages_are_some(const struct subject *s)
{
    return s->usages != 0;
}

static bool
usages_fit_the_key(const struct subject *s)
{
    ASN1_OBJECT *algorithm = NULL;

    (void)X509_PUBKEY_get0_param(&algorithm, NULL, NULL, NULL, X509_get_X509_PUBKEY(s->cert));
    return s->usages == UINT32_MAX ||
           pki_key_usages_of(s->usages, OBJ_obj2nid(algorithm) == NID_X9_62_id_ecPublicKey) ==
                   s->usages;
}

static bool
extended_usages_are_some(const struct subject *s)
{
    return s->extended == NULL || sk_ASN1_OBJECT_num(s->extended) > 0;
}

static bool
ia5_is(const ASN1_IA5STRING *value, bool (*check)(const char *text))
{
    char text[256];
    int len = ASN1_STRING_length(value);

    if (len <= 0 || (size_t)len >= sizeof(text) ||
            memchr(ASN1_STRING_get0_data(value), '\0', (size_t)len) != NULL)
        return false;
    memcpy(text, ASN1_STRING_get0_data(value), (size_t)len);
    text[len] = '\0';
    return check(text);
}

static bool
is_name_well_formed(const GENERAL_NAME *name)
{
    int len;

    switch (name->type) {
    case GEN_DNS:
        return ia5_is(name->d.dNSName, pki_is_dns_name);
    case GEN_EMAIL:
        return ia5_is(name->d.rfc822Name, pki_is_mailbox);
    case GEN_URI:
        return ASN1_STRING_length(name->d.uniformResourceIdentifier) > 0;
    case GEN_IPADD:
        len = ASN1_STRING_length(name->d.iPAddress);
        return len == 4 || len == 16;
    default:
        return true;
    }
}

static bool
sans_are_well_formed(const struct subject *s)
{
    if (X509_get_ext_by_NID(s->cert, NID_subject_alt_name, -1) >= 0 &&
            sk_GENERAL_NAME_num(s->sans) <= 0)
        return false;
    for (int i = 0; i < sk_GENERAL_NAME_num(s->sans); i++)
        if (!is_name_well_formed(sk_GENERAL_NAME_value(s->sans, i)))
            return false;
    return true;
}

static bool
policies_are_single(const struct subject *s)
{
    for (int i = 0; i < sk_POLICYINFO_num(s->policies); i++)
        for (int k = i + 1; k < sk_POLICYINFO_num(s->policies); k++)
            if (OBJ_cmp(sk_POLICYINFO_value(s->policies, i)->policyid,
                        sk_POLICYINFO_value(s->policies, k)->policyid) == 0)
                return false;
    return true;
}

static bool
places_are_not_critical(const struct subject *s)
{
    return !is_critical(s, NID_info_access) && !is_critical(s, NID_crl_distribution_points);
}

/* ---- the rules ---- */

static const struct rule {
    const char *section; /* of RFC 5280 */
    const char *text;
    bool (*holds)(const struct subject *s);
} rules[] = {
    { "4.1.2.1", "the version has to be 3", version_is_3 },
    { "4.1.2.2", "the serial number has to be positive", serial_is_positive },
    { "4.1.2.2", "the serial number has at most 20 octets", serial_is_short },
    { "4.1.2.4", "the issuer may not be empty", issuer_is_named },
    { "6.1.3", "the issuer has to be the issuer's subject", issuer_is_the_issuers },
    { "4.1.2.5", "times are UTCTime to 2049 and GeneralizedTime from 2050, in whole seconds of UTC",
            times_are_well_formed },
    { "4.1.2.5", "notBefore has to come before notAfter", times_are_in_order },
    { "4.1.2.5", "it may not outlive its issuer's certificate", ends_with_issuer },
    { "4.1.2.6", "without a subject it needs a critical subjectAltName", subject_is_named },
    { "A.1", "the subject has an attribute that is too long or of a wrong string type",
            subject_is_well_formed },
    { "4.2", "no extension may be there twice", extensions_are_single },
    { "4.2.1.1", "authorityKeyIdentifier has to name the issuer's key", aki_is_the_issuers },
    { "4.2.1.2", "key identifiers may not be critical", identifiers_are_not_critical },
    { "4.2.1.2", "a CA needs a subjectKeyIdentifier", ca_has_ski },
    { "4.2.1.3", "keyCertSign is for CAs only", cert_sign_is_of_a_ca },
    { "4.2.1.3", "a CA needs keyCertSign", ca_may_sign },
    { "4.2.1.3", "keyUsage has to have a bit set", usages_are_some },
    { "4.2.1.3", "keyUsage has a use that the key cannot have", usages_fit_the_key },
    { "4.2.1.4", "no policy may be there twice", policies_are_single },
    { "4.2.1.6", "subjectAltName is empty, or has a name that is not one of its type",
            sans_are_well_formed },
    { "4.2.1.9", "basicConstraints of a CA has to be critical", ca_constraints_are_critical },
    { "4.2.1.9", "pathLenConstraint is for CAs with keyCertSign only", path_len_is_of_a_ca },
    { "4.2.1.9", "pathLenConstraint has to be below the issuer's", path_len_fits_the_issuers },
    { "4.2.1.12", "extKeyUsage may not be empty", extended_usages_are_some },
    { "4.2.2.1", "CRL distribution points and authority information may not be critical",
            places_are_not_critical },
};

static void
subject_read(struct subject *s, X509 *cert, X509 *issuer)
{
    ASN1_BIT_STRING *bits = X509_get_ext_d2i(cert, NID_key_usage, NULL, NULL);

    *s = (struct subject){
        .cert = cert,
        .issuer = issuer,
        .constraints = X509_get_ext_d2i(cert, NID_basic_constraints, NULL, NULL),
        .sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL),
        .extended = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL),
        .aki = X509_get_ext_d2i(cert, NID_authority_key_identifier, NULL, NULL),
        .policies = X509_get_ext_d2i(cert, NID_certificate_policies, NULL, NULL),
        .ski = X509_get_ext_d2i(cert, NID_subject_key_identifier, NULL, NULL),
        .usages = UINT32_MAX,
    };
    s->ca = s->constraints != NULL && s->constraints->ca != 0;
    for (int i = 0; bits != NULL && i < 9; i++) {
        if (i == 0)
            s->usages = 0;
        if (ASN1_BIT_STRING_get_bit(bits, i))
            s->usages |= i == 8 ? KU_DECIPHER_ONLY : 0x80u >> i;
    }
    ASN1_BIT_STRING_free(bits);
}

static void
subject_free(struct subject *s)
{
    BASIC_CONSTRAINTS_free(s->constraints);
    sk_GENERAL_NAME_pop_free(s->sans, GENERAL_NAME_free);
    sk_ASN1_OBJECT_pop_free(s->extended, ASN1_OBJECT_free);
    AUTHORITY_KEYID_free(s->aki);
    CERTIFICATEPOLICIES_free(s->policies);
    ASN1_OCTET_STRING_free(s->ski);
}

int
pki_lint(X509 *cert, X509 *issuer, struct cc_err *err)
{
    struct subject s;
    int rc = 0;

    subject_read(&s, cert, issuer);
    for (size_t i = 0; i < CC_COUNT(rules) && rc == 0; i++)
        if (!rules[i].holds(&s))
            rc = cc_err_set(err, CC_DOM_INPUT, 0, "RFC 5280 section %s: %s", rules[i].section,
                    rules[i].text);
    ERR_clear_error();
    subject_free(&s);
    return rc;
}
