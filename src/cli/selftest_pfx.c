/* SPDX-License-Identifier: MIT */

/* A PFX that an administrator uploads, and whose password a device gets. */

#include "selftest_int.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/process.h"
#include "hsm/admin.h"
#include "intune/graph.h"
#include "pki/cert.h"
#include "pki/password.h"
#include "pki/pfx.h"
#include "pki/pubkey.h"

#define PASSWORD_BYTES 16
#define TOKEN_OPEN_MS 15000
#define ENCRYPTED_MAX 65536

/* ---- the import key, and the name that connectors know it by ---- */

struct import_key {
    const char *uri;
    char provider[257], name[257];
};

/* The first alias, as uploads name keys by; else any name means [keys] pfx-import. */
static int
find_key(const struct config *config, struct import_key *ret, struct cc_err *err)
{
    const struct config_pair *alias = config->key_alias_count > 0 ? &config->key_aliases[0] : NULL;
    const char *slash = alias != NULL ? strchr(alias->name, '/') : NULL;

    ret->uri = alias != NULL ? alias->value : config_key(config, "pfx-import");
    if (ret->uri == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "[keys] pfx-import: no key is named");
    if (slash == NULL) {
        (void)cc_strcpy(ret->provider, sizeof(ret->provider), "certconnector");
        (void)cc_strcpy(ret->name, sizeof(ret->name), "selftest");
        return 0;
    }
    (void)snprintf(ret->provider, sizeof(ret->provider), "%.*s", (int)(slash - alias->name),
            alias->name);
    (void)cc_strcpy(ret->name, sizeof(ret->name), slash + 1);
    return 0;
}

static int
read_public(const struct config *config, const char *uri, EVP_PKEY **ret_key, struct cc_err *err)
{
    const struct hsm_admin_target target = { .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = config->token.pin };
    struct cc_buf spki = CC_BUF_INIT(ENCRYPTED_MAX);
    int rc = -1;

    if (hsm_admin_export_public(&target, uri, &spki, err) == 0)
        rc = pki_pubkey_parse_spki(cc_buf_bytes(&spki), ret_key, err);
    cc_buf_free(&spki);
    return rc == 0 ? 0 : cc_err_in(err, "the import key %s", uri);
}

/* ---- a password ---- */

static int
make_password(struct selftest *st, struct cc_err *err)
{
    uint8_t random[PASSWORD_BYTES];
    int rc = -1;

    if (cc_random(random, sizeof(random), err) == 0 &&
            (st->pfx.password = cc_secret_new(2 * sizeof(random) + 1, err)) != NULL) {
        cc_hex(random, sizeof(random), false, (char *)cc_secret_data(st->pfx.password));
        cc_secret_truncate(st->pfx.password, 2 * sizeof(random));
        rc = 0;
    }
    cc_wipe(random, sizeof(random));
    return rc;
}

static struct cc_bytes
password_bytes(const struct selftest *st)
{
    return (struct cc_bytes){ cc_secret_data(st->pfx.password), cc_secret_len(st->pfx.password) };
}

static int
encrypt_password(struct selftest *st, struct import_key *ret_key, struct cc_err *err)
{
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (find_key(st->config, ret_key, err) == 0 && make_password(st, err) == 0 &&
            read_public(st->config, ret_key->uri, &key, err) == 0)
        rc = pki_password_encrypt_padding(key, PKI_PADDING_OAEP_SHA512, password_bytes(st),
                &st->pfx.encrypted, err);
    EVP_PKEY_free(key);
    return rc;
}

/* What the recipient reads is the password that was encrypted for the import key. */
static int
compare(struct selftest *st, struct cc_err *err)
{
    struct cc_secret *password = NULL;
    int rc = -1;

    if (selftest_open_envelope(st, cc_buf_bytes(&st->pfx.encrypted), &password, err) != 0)
        return -1;
    if (cc_secret_len(password) != cc_secret_len(st->pfx.password) ||
            CRYPTO_memcmp(cc_secret_str(password), cc_secret_str(st->pfx.password),
                    cc_secret_len(password)) != 0)
        cc_err_set(err, CC_DOM_INPUT, 0, "another password came back than was uploaded");
    else
        rc = 0;
    cc_secret_free(password);
    return rc;
}

/* ---- through the service's queue ---- */

static int
make_pfx(struct selftest *st, struct intune_user_pfx *entry, struct cc_buf *ret, struct cc_err *err)
{
    struct pki_pfx_parts parts = { .friendly_name = "certconnector selftest",
        .encryption = PKI_PFX_AES256 };
    unsigned char *der = NULL;
    X509 *certificate = NULL;
    int len, rc = -1;

    if (pki_key_generate(PKI_EC_P256, &parts.key, err) != 0 ||
            selftest_self_signed(st, KU_DIGITAL_SIGNATURE, parts.key, &certificate, err) != 0 ||
            pki_cert_thumbprint(certificate, st->pfx.thumbprint, err) != 0 ||
            pki_cert_validity(certificate, &entry->not_before_ms, &entry->not_after_ms, err) != 0)
        goto out;
    if ((len = i2d_X509(certificate, &der)) <= 0) {
        cc_err_set_openssl(err, "the certificate");
        goto out;
    }
    parts.certificate = (struct cc_bytes){ der, (size_t)len };
    rc = pki_pfx_build(&parts, password_bytes(st), ret, err);
out:
    OPENSSL_free(der);
    X509_free(certificate);
    EVP_PKEY_free(parts.key);
    return rc;
}

static int
upload(struct selftest *st, struct cc_err *err)
{
    struct intune_user_pfx entry = { .user = "" };
    struct cc_buf pfx = CC_BUF_INIT(PKI_PFX_MAX);
    struct import_key key;
    int rc = -1;

    if (encrypt_password(st, &key, err) == 0 && make_pfx(st, &entry, &pfx, err) == 0) {
        (void)cc_strcpy(entry.user, sizeof(entry.user), st->user);
        (void)cc_strcpy(entry.thumbprint, sizeof(entry.thumbprint), st->pfx.thumbprint);
        (void)cc_strcpy(entry.provider_name, sizeof(entry.provider_name), key.provider);
        (void)cc_strcpy(entry.key_name, sizeof(entry.key_name), key.name);
        (void)cc_strcpy(entry.intended_purpose, sizeof(entry.intended_purpose), "unassigned");
        (void)cc_strcpy(entry.padding_scheme, sizeof(entry.padding_scheme),
                pki_padding_name(PKI_PADDING_OAEP_SHA512));
        entry.created_ms = entry.modified_ms = cc_clock_now_ms();
        st->uploaded = true;
        rc = intune_user_pfx_put(st->intune, &entry, cc_buf_bytes(&pfx),
                cc_buf_bytes(&st->pfx.encrypted), false, err);
    }
    cc_buf_wipe(&pfx);
    cc_buf_reset(&st->pfx.encrypted);
    (void)snprintf(st->detail, sizeof(st->detail), "thumbprint %s", st->pfx.thumbprint);
    return rc;
}

static int
order(struct selftest *st, struct cc_err *err)
{
    json_object *body = json_object_new_object();

    if (cc_json_add_str(body, "userPrincipalName", st->user, err) != 0 ||
            cc_json_add_str(body, "deviceId", st->device, err) != 0 ||
            cc_json_add_str(body, "thumbprint", st->pfx.thumbprint, err) != 0 ||
            cc_json_add_base64(body, "recipientCertificate", st->recipient.der.data,
                    st->recipient.der.len, err) != 0) {
        json_object_put(body);
        return -1;
    }
    if (selftest_order(st, "pfxImportRequests", body, st->pfx.request, err) != 0)
        return -1;
    (void)snprintf(st->detail, sizeof(st->detail), "request %s", st->pfx.request);
    return 0;
}

static int
await(struct selftest *st, struct cc_err *err)
{
    json_object *result = NULL;
    const char *where = NULL;
    int rc;

    if (selftest_await_result(st, st->pfx.request, &result, err) != 0)
        return -1;
    rc = cc_json_get_base64(result, "encryptedPfxPassword", &st->pfx.encrypted, err);
    if (rc == 0 && cc_json_get_str(result, "reencryptedIn", 32, &where, NULL) == 0 && where != NULL)
        (void)snprintf(st->detail, sizeof(st->detail), "re-encrypted in the %s", where);
    json_object_put(result);
    return rc;
}

/* ---- from here ---- */

static int
encrypt_here(struct selftest *st, struct cc_err *err)
{
    struct import_key key;

    return encrypt_password(st, &key, err);
}

static enum hsm_reencrypt_mode
mode_of(const struct config *config)
{
    switch (config->pfx_import.reencrypt) {
    case CONFIG_REENCRYPT_TOKEN:
        return HSM_REENCRYPT_TOKEN;
    case CONFIG_REENCRYPT_HOST:
        return HSM_REENCRYPT_HOST;
    case CONFIG_REENCRYPT_AUTO:
        break;
    }
    return HSM_REENCRYPT_AUTO;
}

static int
open_key(struct selftest *st, struct hsm_key **ret_key, struct cc_err *err)
{
    const struct hsm_settings token = cli_token_settings(st->config);
    struct import_key key;

    if (find_key(st->config, &key, err) != 0)
        return -1;
    if (st->hsm == NULL && (hsm_open(&token, &st->hsm, err) != 0 ||
                                   hsm_wait_open(st->hsm, TOKEN_OPEN_MS, err) != 0))
        return -1;
    return hsm_key_get0(st->hsm, HSM_ROLE_PFX_IMPORT, key.uri, ret_key, err);
}

static int
reencrypt(struct selftest *st, struct cc_err *err)
{
    struct cc_buf out = CC_BUF_INIT(ENCRYPTED_MAX);
    struct hsm_reencrypt request = {
        .mode = mode_of(st->config),
        .padding = PKI_PADDING_OAEP_SHA512,
        .ciphertext = cc_buf_bytes(&st->pfx.encrypted),
        .form = PKI_PASSWORD_CMS,
        .cipher = PKI_CIPHER_AES256,
    };
    struct hsm_key *key;
    bool on_token = false;
    int rc = -1;

    if (open_key(st, &key, err) == 0) {
        request.recipient = cc_buf_bytes(&st->recipient.der);
        rc = hsm_key_reencrypt(key, &request, &out, &on_token, err);
    }
    cc_buf_reset(&st->pfx.encrypted);
    if (rc == 0)
        rc = cc_buf_add(&st->pfx.encrypted, out.data, out.len, err);
    cc_buf_free(&out);
    (void)snprintf(st->detail, sizeof(st->detail), "re-encrypted in the %s",
            on_token ? "token" : "host");
    return rc;
}

/* ---- the steps ---- */

int
selftest_pfx(struct selftest *st)
{
    static const struct selftest_step through[] = {
        { "a PFX is uploaded", upload },
        { "its delivery is put into the service's queue", order },
        { "its password comes back", await },
        { "it is the password that was uploaded", compare },
    };
    static const struct selftest_step from_here[] = {
        { "a password is encrypted for the import key", encrypt_here },
        { "the token re-encrypts it for a recipient", reencrypt },
        { "it is the password that was encrypted", compare },
    };

    cc_buf_init(&st->pfx.encrypted, ENCRYPTED_MAX);
    if (st->admin != NULL)
        return selftest_run_steps(st, "pfx-import", through, CC_COUNT(through));
    return selftest_run_steps(st, "pfx-import", from_here, CC_COUNT(from_here));
}

void
selftest_pfx_forget(struct selftest *st)
{
    cc_secret_free(st->pfx.password);
    cc_buf_free(&st->pfx.encrypted);
}
