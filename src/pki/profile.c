/* SPDX-License-Identifier: MIT */
#include "pki/profile.h"

#include <stdlib.h>

#include "base/text.h"

void
pki_texts_free(struct pki_texts *texts)
{
    union {
        const char *const *in;
        char **out;
    } list = { .in = texts->text };

    for (size_t i = 0; i < texts->count; i++)
        free(list.out[i]);
    free(list.out);
    *texts = (struct pki_texts){ NULL, 0 };
}

int
pki_texts_copy(const struct pki_texts *texts, struct pki_texts *ret, struct cc_err *err)
{
    char **list = calloc(texts->count + 1, sizeof(*list));

    if (list == NULL)
        return cc_err_nomem(err);
    *ret = (struct pki_texts){ (const char *const *)list, texts->count };
    for (size_t i = 0; i < texts->count; i++) {
        if ((list[i] = cc_strdup(texts->text[i], err)) == NULL) {
            pki_texts_free(ret);
            return -1;
        }
    }
    return 0;
}

static int
refuse(const struct pki_profile_words *words, const char *what, const char *word,
        struct cc_err *err)
{
    char shown[64];

    return cc_err_set(err, CC_DOM_CONFIG, 0, "[profile \"%s\"] %s: %s is not known", words->name,
            what, cc_escape_into(shown, sizeof(shown), word));
}

static int
read_bits(const struct pki_profile_words *words, struct pki_profile *ret, struct cc_err *err)
{
    for (size_t i = 0; i < words->key_usages.count; i++) {
        unsigned usage = pki_key_usage_parse(words->key_usages.text[i]);

        if (usage == 0)
            return refuse(words, "key-usages", words->key_usages.text[i], err);
        ret->key_usages |= usage;
    }
    for (size_t i = 0; i < words->san_types.count; i++) {
        int type = pki_san_type_parse(words->san_types.text[i]);

        if (type < 0)
            return refuse(words, "san", words->san_types.text[i], err);
        ret->san_types |= 1U << type;
    }
    for (size_t i = 0; i < words->key_specs.count; i++) {
        int spec = pki_keyspec_parse(words->key_specs.text[i]);

        if (spec < 0)
            return refuse(words, "keys", words->key_specs.text[i], err);
        ret->key_specs |= 1U << spec;
    }
    return 0;
}

/* Each as its dotted OID. */
static int
read_extended(const struct pki_profile_words *words, struct pki_profile *ret, struct cc_err *err)
{
    const struct pki_texts *names = &words->extended_key_usages;
    char **list = calloc(names->count + 1, sizeof(*list));

    if (list == NULL)
        return cc_err_nomem(err);
    ret->extended_key_usages = (struct pki_texts){ (const char *const *)list, names->count };
    for (size_t i = 0; i < names->count; i++) {
        char oid[128];

        if (pki_extended_key_usage_parse(names->text[i], oid, sizeof(oid), NULL) != 0)
            return refuse(words, "extended-key-usages", names->text[i], err);
        if ((list[i] = cc_strdup(oid, err)) == NULL)
            return -1;
    }
    return 0;
}

static int
copy_lists(const struct pki_profile_words *words, struct pki_profile *ret, struct cc_err *err)
{
    const struct {
        const struct pki_texts *from;
        struct pki_texts *to;
    } lists[] = {
        { &words->subject_attributes, &ret->subject_attributes },
        { &words->san_domains, &ret->san_domains },
        { &words->policies, &ret->policies },
        { &words->crl_urls, &ret->crl_urls },
        { &words->delta_crl_urls, &ret->delta_crl_urls },
        { &words->issuer_urls, &ret->issuer_urls },
        { &words->ocsp_urls, &ret->ocsp_urls },
    };

    for (size_t i = 0; i < CC_COUNT(lists); i++)
        if (pki_texts_copy(lists[i].from, lists[i].to, err) != 0)
            return -1;
    return 0;
}

int
pki_profile_new(const struct pki_profile_words *words, struct pki_profile **ret_profile,
        struct cc_err *err)
{
    struct pki_profile *profile = calloc(1, sizeof(*profile));

    if (profile == NULL)
        return cc_err_nomem(err);
    profile->validity_ms = words->validity_ms;
    profile->backdate_ms = words->backdate_ms;
    profile->sid = words->sid;
    if ((profile->name = cc_strdup(words->name, err)) == NULL ||
            read_bits(words, profile, err) != 0 || read_extended(words, profile, err) != 0 ||
            copy_lists(words, profile, err) != 0) {
        pki_profile_free(profile);
        return -1;
    }
    *ret_profile = profile;
    return 0;
}

void
pki_profile_free(struct pki_profile *profile)
{
    union {
        const char *in;
        char *out;
    } name;

    if (profile == NULL)
        return;
    name.in = profile->name;
    free(name.out);
    pki_texts_free(&profile->extended_key_usages);
    pki_texts_free(&profile->subject_attributes);
    pki_texts_free(&profile->san_domains);
    pki_texts_free(&profile->policies);
    pki_texts_free(&profile->crl_urls);
    pki_texts_free(&profile->delta_crl_urls);
    pki_texts_free(&profile->issuer_urls);
    pki_texts_free(&profile->ocsp_urls);
    free(profile);
}
