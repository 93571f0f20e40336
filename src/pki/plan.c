/* SPDX-License-Identifier: MIT */
#include "pki/plan.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "pki_int.h"

/* ---- usages ---- */

/* In the order of their bits (RFC 5280 section 4.2.1.3). */
static const struct {
    const char *name;
    unsigned flag;
} key_usages[] = {
    { "digitalSignature", KU_DIGITAL_SIGNATURE },
    { "nonRepudiation", KU_NON_REPUDIATION },
    { "keyEncipherment", KU_KEY_ENCIPHERMENT },
    { "dataEncipherment", KU_DATA_ENCIPHERMENT },
    { "keyAgreement", KU_KEY_AGREEMENT },
    { "keyCertSign", KU_KEY_CERT_SIGN },
    { "cRLSign", KU_CRL_SIGN },
    { "encipherOnly", KU_ENCIPHER_ONLY },
    { "decipherOnly", KU_DECIPHER_ONLY },
};

unsigned
pki_key_usage_parse(const char *name)
{
    for (size_t i = 0; i < CC_COUNT(key_usages); i++)
        if (cc_equal_nocase(key_usages[i].name, name))
            return key_usages[i].flag;
    return cc_equal_nocase(name, "contentCommitment") ? KU_NON_REPUDIATION : 0;
}

/* Of the first one. */
static const char *
key_usage_name(unsigned usages)
{
    for (size_t i = 0; i < CC_COUNT(key_usages); i++)
        if ((usages & key_usages[i].flag) != 0)
            return key_usages[i].name;
    return "none";
}

ASN1_BIT_STRING *
pki_key_usage_bits(unsigned usages)
{
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();

    for (size_t i = 0; bits != NULL && i < CC_COUNT(key_usages); i++) {
        if ((usages & key_usages[i].flag) != 0 && !ASN1_BIT_STRING_set_bit(bits, (int)i, 1)) {
            ASN1_BIT_STRING_free(bits);
            return NULL;
        }
    }
    return bits;
}

unsigned
pki_key_usages_of(unsigned usages, bool is_ec)
{
    if (is_ec)
        usages &= ~(unsigned)(KU_KEY_ENCIPHERMENT | KU_DATA_ENCIPHERMENT);
    else
        usages &= ~(unsigned)(KU_KEY_AGREEMENT | KU_ENCIPHER_ONLY | KU_DECIPHER_ONLY);
    return usages;
}

static const struct {
    const char *name, *oid;
} extended_key_usages[] = {
    { "serverAuth", "1.3.6.1.5.5.7.3.1" },
    { "clientAuth", "1.3.6.1.5.5.7.3.2" },
    { "codeSigning", "1.3.6.1.5.5.7.3.3" },
    { "emailProtection", "1.3.6.1.5.5.7.3.4" },
    { "timeStamping", "1.3.6.1.5.5.7.3.8" },
    { "OCSPSigning", "1.3.6.1.5.5.7.3.9" },
    { "smartcardLogon", "1.3.6.1.4.1.311.20.2.2" },
    { "anyExtendedKeyUsage", "2.5.29.37.0" },
};

/* The OID itself where it has no name here; it is digits and dots. */
static const char *
extended_name(const char *oid)
{
    for (size_t i = 0; i < CC_COUNT(extended_key_usages); i++)
        if (strcmp(extended_key_usages[i].oid, oid) == 0)
            return extended_key_usages[i].name;
    return oid;
}

int
pki_extended_key_usage_parse(const char *name, char *ret_oid, size_t size, struct cc_err *err)
{
    ASN1_OBJECT *object;
    char shown[80];
    const char *bare = cc_starts_with(name, "id-kp-") ? name + 6 : name;

    for (size_t i = 0; i < CC_COUNT(extended_key_usages); i++)
        if (cc_equal_nocase(extended_key_usages[i].name, bare) &&
                cc_strcpy(ret_oid, size, extended_key_usages[i].oid))
            return 0;
    object = name[0] >= '0' && name[0] <= '2' ? OBJ_txt2obj(name, 1) : NULL;
    ERR_clear_error();
    if (object == NULL || OBJ_obj2txt(ret_oid, (int)size, object, 1) <= 0 ||
            strcmp(ret_oid, name) != 0) {
        ASN1_OBJECT_free(object);
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "extendedKeyUsages: %s is neither a known name nor a dotted OID",
                cc_escape_into(shown, sizeof(shown), name));
    }
    ASN1_OBJECT_free(object);
    return 0;
}

/* ---- a plan ---- */

struct pki_plan *
pki_plan_new(struct cc_err *err)
{
    struct pki_plan *plan = calloc(1, sizeof(*plan));

    if (plan == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    plan->path_len = -1;
    return plan;
}

void
pki_plan_free(struct pki_plan *plan)
{
    if (plan == NULL)
        return;
    X509_NAME_free(plan->subject);
    sk_GENERAL_NAME_pop_free(plan->sans, GENERAL_NAME_free);
    sk_ASN1_OBJECT_pop_free(plan->extended_key_usages, ASN1_OBJECT_free);
    free(plan);
}

static bool
has_text(const struct pki_texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->count; i++)
        if (cc_equal_nocase(texts->text[i], text))
            return true;
    return false;
}

/* ---- subject ---- */

/* Whether the profile names this attribute, by any of its names. */
static bool
is_attribute_allowed(const struct pki_profile *profile, const ASN1_OBJECT *type)
{
    for (size_t i = 0; i < profile->subject_attributes.count; i++) {
        const char *name = profile->subject_attributes.text[i];
        X509_NAME *probe = NULL;
        char text[128];
        bool same;

        /* A value that every attribute takes. */
        if (snprintf(text, sizeof(text), "%s=DE", name) >= (int)sizeof(text) ||
                pki_name_parse(text, &probe, NULL) != 0)
            continue;
        same = OBJ_cmp(X509_NAME_ENTRY_get_object(X509_NAME_get_entry(probe, 0)), type) == 0;
        X509_NAME_free(probe);
        if (same)
            return true;
    }
    return false;
}

static int
check_subject(const struct pki_profile *profile, const X509_NAME *subject, struct cc_err *err)
{
    if (profile->subject_attributes.count == 0)
        return 0;
    for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
        const ASN1_OBJECT *type = X509_NAME_ENTRY_get_object(X509_NAME_get_entry(subject, i));
        char shown[80];

        if (is_attribute_allowed(profile, type))
            continue;
        if (OBJ_obj2nid(type) != NID_undef)
            (void)cc_strcpy(shown, sizeof(shown), OBJ_nid2sn(OBJ_obj2nid(type)));
        else
            (void)OBJ_obj2txt(shown, sizeof(shown), type, 1);
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "subject: the profile \"%s\" does not allow the attribute %s", profile->name,
                shown);
    }
    return 0;
}

/* ---- alternative names ---- */

/* The domain that a value lies in, NULL where its type has none. */
static const char *
domain_of(const struct pki_san *san)
{
    const char *at;

    switch (san->type) {
    case PKI_SAN_DNS:
        return cc_starts_with(san->value, "*.") ? san->value + 2 : san->value;
    case PKI_SAN_UPN:
    case PKI_SAN_EMAIL:
        at = strrchr(san->value, '@');
        return at != NULL ? at + 1 : "";
    case PKI_SAN_URI:
    case PKI_SAN_IP:
    case PKI_SAN_GUID:
    case PKI_SAN_TYPES:
        break;
    }
    return NULL;
}

/* Equal, or below one of them. */
static bool
is_domain_allowed(const struct pki_texts *domains, const char *domain)
{
    size_t len = strlen(domain);

    for (size_t i = 0; i < domains->count; i++) {
        const char *allowed = domains->text[i];
        size_t tail = strlen(allowed);

        if (cc_equal_nocase(domain, allowed))
            return true;
        if (len > tail && domain[len - tail - 1] == '.' &&
                cc_equal_nocase(domain + len - tail, allowed))
            return true;
    }
    return false;
}

static int
check_sans(const struct pki_profile *profile, const struct pki_ask *ask, struct cc_err *err)
{
    for (size_t i = 0; i < ask->san_count; i++) {
        const struct pki_san *san = &ask->sans[i];
        const char *domain, *type = pki_san_type_name(san->type);

        if ((profile->san_types & 1U << san->type) == 0)
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "subjectAlternativeNames[%zu]: the profile \"%s\" does not allow the type %s",
                    i, profile->name, type);
        /* Whoever is believed when a certificate is mapped to an account is said by who vouches for it, not as a name. */
        if (san->type == PKI_SAN_URI && san->value != NULL && pki_is_sid_uri(san->value))
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "subjectAlternativeNames[%zu]: a security identifier cannot be asked for as a "
                    "name of type uri",
                    i);
        /* An empty value is refused as such. */
        domain = san->value != NULL && san->value[0] != '\0' ? domain_of(san) : NULL;
        if (domain != NULL && profile->san_domains.count > 0 &&
                !is_domain_allowed(&profile->san_domains, domain))
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "subjectAlternativeNames[%zu]: the profile \"%s\" does not allow the domain of "
                    "this %s",
                    i, profile->name, type);
    }
    return 0;
}

/* The SID as one more name, of type URI. */
static int
add_sid_uri(struct pki_plan *plan, const char *sid, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(256);
    GENERAL_NAMES *one = NULL;
    int rc = -1;

    if (pki_sid_uri(sid, &text, err) != 0)
        goto out;
    if (pki_san_build(&(struct pki_san){ PKI_SAN_URI, cc_buf_str(&text) }, 1, &one, err) != 0)
        goto out;
    if (plan->sans == NULL) {
        plan->sans = one;
        one = NULL;
    } else if (sk_GENERAL_NAME_push(plan->sans, sk_GENERAL_NAME_value(one, 0)) > 0) {
        (void)sk_GENERAL_NAME_pop(one);
    } else {
        cc_err_nomem(err);
        goto out;
    }
    rc = 0;
out:
    sk_GENERAL_NAME_pop_free(one, GENERAL_NAME_free);
    cc_buf_free(&text);
    return rc;
}

/* A SID that the profile has no place for is left out: whoever asks says it of every user. */
static int
plan_sid(struct pki_plan *plan, const struct pki_profile *profile, const char *sid,
        struct cc_err *err)
{
    if (sid == NULL || sid[0] == '\0' || profile->sid == PKI_SID_NONE)
        return 0;
    if (pki_sid_check(sid, err) != 0)
        return -1;
    if (profile->sid == PKI_SID_URI)
        return add_sid_uri(plan, sid, err);
    if (!cc_strcpy(plan->sid, sizeof(plan->sid), sid))
        return cc_err_set(err, CC_DOM_INPUT, 0, "onPremisesSecurityIdentifier: it is too long");
    return 0;
}

static int
plan_names(struct pki_plan *plan, const struct pki_profile *profile, const struct pki_ask *ask,
        struct cc_err *err)
{
    if (pki_name_parse(ask->subject != NULL ? ask->subject : "", &plan->subject, err) != 0 ||
            check_subject(profile, plan->subject, err) != 0)
        return -1;
    if (check_sans(profile, ask, err) != 0 ||
            pki_san_build(ask->sans, ask->san_count, &plan->sans, err) != 0)
        return -1;
    if (plan_sid(plan, profile, ask->sid, err) != 0)
        return -1;
    if (X509_NAME_entry_count(plan->subject) == 0 && plan->sans == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "subject: it is empty, and there are no subjectAlternativeNames either");
    return 0;
}

/* ---- usages ---- */

int
pki_plan_add_extended_key_usage(struct pki_plan *plan, const char *oid, struct cc_err *err)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);

    if (object == NULL) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "extendedKeyUsages: not a dotted OID");
    }
    if (plan->extended_key_usages == NULL)
        plan->extended_key_usages = sk_ASN1_OBJECT_new_null();
    if (plan->extended_key_usages == NULL ||
            sk_ASN1_OBJECT_push(plan->extended_key_usages, object) <= 0) {
        ASN1_OBJECT_free(object);
        return cc_err_nomem(err);
    }
    return 0;
}

static int
plan_usages(struct pki_plan *plan, const struct pki_profile *profile, const struct pki_ask *ask,
        struct cc_err *err)
{
    const struct pki_texts *extended = &ask->extended_key_usages;
    const bool own = extended->count > 0;

    plan->key_usages = ask->key_usages != 0 ? ask->key_usages : profile->key_usages;
    if ((plan->key_usages & ~profile->key_usages) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "keyUsages: the profile \"%s\" does not allow %s",
                profile->name, key_usage_name(plan->key_usages & ~profile->key_usages));
    if (!own)
        extended = &profile->extended_key_usages;
    for (size_t i = 0; i < extended->count; i++) {
        if (own && !has_text(&profile->extended_key_usages, extended->text[i]))
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "extendedKeyUsages: the profile \"%s\" does not allow %s", profile->name,
                    extended_name(extended->text[i]));
        if (pki_plan_add_extended_key_usage(plan, extended->text[i], err) != 0)
            return -1;
    }
    return 0;
}

static void
plan_validity(struct pki_plan *plan, const struct pki_profile *profile, const struct pki_ask *ask,
        int64_t now_ms)
{
    int64_t validity = profile->validity_ms;

    if (ask->validity_ms > 0 && ask->validity_ms < validity)
        validity = ask->validity_ms;
    now_ms -= now_ms % 1000;
    plan->not_before_ms = now_ms - profile->backdate_ms / 1000 * 1000;
    /* RFC 5280 section 4.1.2.5: the last second is part of the validity. */
    plan->not_after_ms = now_ms + validity / 1000 * 1000 - 1000;
}

int
pki_plan_make(const struct pki_profile *profile, const struct pki_ask *ask, int64_t now_ms,
        struct pki_plan **ret_plan, struct cc_err *err)
{
    struct pki_plan *plan = pki_plan_new(err);

    if (plan == NULL)
        return -1;
    plan->profile = profile;
    if (plan_names(plan, profile, ask, err) != 0 || plan_usages(plan, profile, ask, err) != 0) {
        pki_plan_free(plan);
        return -1;
    }
    plan_validity(plan, profile, ask, now_ms);
    *ret_plan = plan;
    return 0;
}
