/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"

int
pkcs_refuse(struct cc_err *err, enum intune_error_code code, const struct cc_err *cause,
        const char *what)
{
    if (cause == NULL)
        return cc_err_set(err, CC_DOM_SERVICE, code, "%s", what);
    return cc_err_set(err, CC_DOM_SERVICE, code, "%s: %s", what, cc_err_text(cause));
}

/* ---- delivery ---- */

/* An absent name means the first. */
int
pkcs_read_delivery(const struct intune_pkcs_request *wire, struct pkcs_delivery *ret,
        struct cc_err *err)
{
    int form = PKI_PASSWORD_CMS, cipher = PKI_CIPHER_AES256, encryption = PKI_PFX_AES256;

    if (wire->password_encryption != NULL &&
            (form = pki_password_form_parse(wire->password_encryption)) < 0)
        return pkcs_refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the passwordEncryption is not known here");
    if (wire->content_cipher != NULL &&
            (cipher = pki_content_cipher_parse(wire->content_cipher)) < 0)
        return pkcs_refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the contentCipher is not known here");
    if (wire->pfx_encryption != NULL &&
            (encryption = pki_pfx_encryption_parse(wire->pfx_encryption)) < 0)
        return pkcs_refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the pfxEncryption is not known here");
    *ret = (struct pkcs_delivery){
        .form = (enum pki_password_form)form,
        .cipher = (enum pki_content_cipher)cipher,
        .encryption = (enum pki_pfx_encryption)encryption,
    };
    return 0;
}

/* ---- which CA, which profile ---- */

static bool
is_named(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* A setting that is not made takes any; a name that the request does not say fits only there. */
static bool
fits(const char *setting, const char *name)
{
    if (setting == NULL)
        return true;
    return is_named(name) && cc_equal_nocase(setting, name);
}

const struct pkcs_ca *
pkcs_find_ca(const struct pkcs_view *view, const struct intune_pkcs_request *wire)
{
    const struct pkcs_ca *by_default = NULL;
    bool named = is_named(wire->authority) || is_named(wire->authority_name);

    for (size_t i = 0; i < view->ca_count; i++) {
        const struct pkcs_ca *ca = &view->cas[i];
        bool told_apart = ca->authority != NULL || ca->authority_name != NULL;

        if (ca->ca == view->default_ca)
            by_default = ca;
        if (named && told_apart && fits(ca->authority, wire->authority) &&
                fits(ca->authority_name, wire->authority_name))
            return ca;
        if (is_named(wire->authority_name) &&
                cc_equal_nocase(ca_name(ca->ca), wire->authority_name))
            return ca;
    }
    return by_default;
}

static const struct pki_profile *
find_profile(const struct pkcs_view *view, const struct pkcs_ca *ca, const char *template)
{
    if (!is_named(template))
        return ca->profile;
    for (size_t i = 0; i < view->profile_count; i++)
        if (cc_equal_nocase(view->profiles[i].template_name, template))
            return view->profiles[i].profile;
    return NULL;
}

int
pkcs_choose(const struct pkcs_view *view, const struct intune_pkcs_request *wire,
        struct ca **ret_ca, const struct pki_profile **ret_profile, struct cc_err *err)
{
    const struct pkcs_ca *ca = pkcs_find_ca(view, wire);
    char shown[160];

    if (ca == NULL)
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL,
                "no CA of this connector is the one that the request names: set [ca] authority and "
                "authority-name, or [pkcs] ca");
    *ret_ca = ca->ca;
    *ret_profile = find_profile(view, ca, wire->template_name);
    if (*ret_profile != NULL)
        return 0;
    if (!is_named(wire->template_name))
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL,
                "the request names no template, and there is no profile by default: set [pkcs] "
                "profile");
    return cc_err_set(err, CC_DOM_SERVICE, INTUNE_BAD_REQUEST,
            "no profile is for the template \"%s\": set [profile] templates",
            cc_escape_into(shown, sizeof(shown), wire->template_name));
}

/* ---- the plan ---- */

struct wishes {
    struct pki_san sans[INTUNE_PKCS_SANS_MAX];
    char oids[INTUNE_PKCS_USAGES_MAX][128];
    const char *oid_list[INTUNE_PKCS_USAGES_MAX];
    struct pki_ask ask;
};

static int
read_sans(const struct intune_pkcs_request *wire, struct wishes *ret, struct cc_err *err)
{
    for (size_t i = 0; i < wire->san_count; i++) {
        int type = pki_san_type_parse(wire->sans[i].type);
        char shown[64];

        if (type < 0)
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "subjectAlternativeNames[%zu]: the type %s is not known", i,
                    cc_escape_into(shown, sizeof(shown), wire->sans[i].type));
        ret->sans[i] = (struct pki_san){ (enum pki_san_type)type, wire->sans[i].value };
    }
    ret->ask.sans = ret->sans;
    ret->ask.san_count = wire->san_count;
    return 0;
}

static int
read_usages(const struct intune_pkcs_request *wire, struct wishes *ret, struct cc_err *err)
{
    char shown[64];

    for (size_t i = 0; i < wire->key_usage_count; i++) {
        unsigned usage = pki_key_usage_parse(wire->key_usages[i]);

        if (usage == 0)
            return cc_err_set(err, CC_DOM_INPUT, 0, "keyUsages: %s is not known",
                    cc_escape_into(shown, sizeof(shown), wire->key_usages[i]));
        ret->ask.key_usages |= usage;
    }
    for (size_t i = 0; i < wire->extended_key_usage_count; i++) {
        if (pki_extended_key_usage_parse(wire->extended_key_usages[i], ret->oids[i],
                    sizeof(ret->oids[i]), err) != 0)
            return -1;
        ret->oid_list[i] = ret->oids[i];
    }
    ret->ask.extended_key_usages =
            (struct pki_texts){ ret->oid_list, wire->extended_key_usage_count };
    return 0;
}

int
pkcs_make_plan(const struct intune_pkcs_request *wire, const struct pki_profile *profile,
        int64_t now_ms, struct pki_plan **ret_plan, struct cc_err *err)
{
    struct wishes wishes = { .ask = {
                                     .subject = wire->subject,
                                     .sid = wire->sid,
                                     .validity_ms = wire->validity_days * PKI_DAY_MS,
                             } };
    struct cc_err cause = { 0 };

    if (read_sans(wire, &wishes, &cause) == 0 && read_usages(wire, &wishes, &cause) == 0 &&
            pki_plan_make(profile, &wishes.ask, now_ms, ret_plan, &cause) == 0)
        return 0;
    return cc_err_set(err, CC_DOM_SERVICE, INTUNE_PARAMETER_DATA_INVALID_ERROR, "%s",
            cc_err_text(&cause));
}
