/* SPDX-License-Identifier: MIT */
#include "authority.h"

#include <string.h>

#include "pki/profile.h"
#include "state.h"

#define TOKEN_OPEN_MS 15000

static struct pki_texts
texts_of(const struct config_list *list)
{
    return (struct pki_texts){ list->item, list->count };
}

int
cli_authority_load(const char *config_path, const char *name, struct cli_authority *ret,
        struct cc_err *err)
{
    *ret = (struct cli_authority){ .config = NULL };
    if (cli_load_config(config_path, &ret->config, err) != 0)
        return -1;
    if (name == NULL && ret->config->ca_count == 1)
        ret->entry = &ret->config->cas[0];
    else if (name != NULL)
        ret->entry = config_ca_find(ret->config, name);
    if (ret->entry != NULL)
        return 0;
    if (name != NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the configuration has no [ca \"%s\"]", name);
    return cc_err_set(err, CC_DOM_USAGE, 0,
            ret->config->ca_count == 0 ? "the configuration has no [ca \"NAME\"]"
                                       : "the configuration has several CAs: say which, --ca NAME");
}

/* ---- store and token ---- */

struct hsm_settings
cli_token_settings(const struct config *config)
{
    return (struct hsm_settings){
        .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = config->token.pin,
        .profile = config->token.profile,
        .sessions = config->token.sessions,
        .deadline_ms = config->token.deadline_ms,
        .allow_raw_rsa = config->token.allow_raw_rsa,
        .state_dir = config->connector.state_directory,
    };
}

struct ca_local_settings
cli_authority_settings(const struct config *config, const struct config_ca *ca)
{
    return (struct ca_local_settings){
        .name = ca->name,
        .digest = ca->digest,
        .crl_validity_ms = ca->crl_validity_ms,
        .crl_interval_ms = ca->crl_interval_ms,
        .delta_interval_ms = ca->delta_interval_ms,
        .crl_urls = texts_of(&ca->crl_urls),
        .delta_crl_urls = texts_of(&ca->delta_crl_urls),
        .issuer_urls = texts_of(&ca->issuer_urls),
        .ocsp_urls = texts_of(&ca->ocsp_urls),
        .ocsp_validity_ms = ca->ocsp_validity_ms,
        .folder = config->connector.state_directory,
    };
}

static void
fill_settings(struct cli_authority *a)
{
    a->settings = cli_authority_settings(a->config, a->entry);
    a->settings.store = a->store;
    a->settings.hsm = a->hsm;
}

int
cli_authority_open_store(struct cli_authority *a, struct cc_err *err)
{
    return cli_open_state(a->config, &a->store, err);
}

int
cli_authority_open(struct cli_authority *a, struct cc_err *err)
{
    const struct hsm_settings token = cli_token_settings(a->config);

    if (cli_authority_open_store(a, err) != 0)
        return -1;
    if (hsm_open(&token, &a->hsm, err) != 0 || hsm_wait_open(a->hsm, TOKEN_OPEN_MS, err) != 0)
        return -1;
    fill_settings(a);
    if (hsm_key_get0(a->hsm, HSM_ROLE_CA, a->entry->key, &a->settings.key, err) != 0)
        return -1;
    if (a->entry->ocsp_key == NULL)
        return 0;
    return hsm_key_get0(a->hsm, HSM_ROLE_OCSP, a->entry->ocsp_key, &a->settings.ocsp_key, err);
}

int
cli_authority_open_ca(struct cli_authority *a, struct cc_err *err)
{
    return ca_local_open(&a->settings, &a->ca, err);
}

void
cli_authority_close(struct cli_authority *a)
{
    ca_close(a->ca);
    hsm_close(a->hsm);
    store_close(a->store);
    config_free(a->config);
    *a = (struct cli_authority){ .config = NULL };
}

/* ---- profiles ---- */

static int
find_profile(const struct config *config, const char *name, const struct config_profile **ret,
        struct cc_err *err)
{
    *ret = name != NULL                 ? config_profile_find(config, name)
           : config->profile_count == 1 ? &config->profiles[0]
                                        : NULL;
    if (*ret != NULL)
        return 0;
    if (name != NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the configuration has no [profile \"%s\"]", name);
    return cc_err_set(err, CC_DOM_USAGE, 0,
            config->profile_count == 0
                    ? "the configuration has no [profile \"NAME\"]"
                    : "the configuration has several profiles: say which, --profile NAME");
}

int
cli_authority_profile(const struct cli_authority *a, const char *name,
        struct pki_profile **ret_profile, struct cc_err *err)
{
    static const enum pki_sid_form sids[] = {
        [CONFIG_SID_NONE] = PKI_SID_NONE,
        [CONFIG_SID_EXTENSION] = PKI_SID_EXTENSION,
        [CONFIG_SID_URI] = PKI_SID_URI,
    };
    const struct config_profile *profile = NULL;
    struct pki_profile_words words;

    if (find_profile(a->config, name, &profile, err) != 0)
        return -1;
    words = (struct pki_profile_words){
        .name = profile->name,
        .validity_ms = profile->validity_ms,
        .backdate_ms = profile->backdate_ms,
        .key_usages = texts_of(&profile->key_usages),
        .extended_key_usages = texts_of(&profile->extended_key_usages),
        .subject_attributes = texts_of(&profile->subject),
        .san_types = texts_of(&profile->sans),
        .san_domains = texts_of(&profile->san_domains),
        .key_specs = texts_of(&profile->keys),
        .policies = texts_of(&profile->policies),
        .crl_urls = texts_of(&profile->crl_urls),
        .delta_crl_urls = texts_of(&profile->delta_crl_urls),
        .issuer_urls = texts_of(&profile->issuer_urls),
        .ocsp_urls = texts_of(&profile->ocsp_urls),
        .sid = sids[profile->sid],
    };
    return pki_profile_new(&words, ret_profile, err);
}
