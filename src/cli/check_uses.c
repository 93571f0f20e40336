/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/process.h"
#include "pki/keyspec.h"
#include "pki/password.h"

/*
 * What the features ask of the token beyond one operation with each key: done for real, with material made for it that is
 * thrown away.  A mechanism that is missing shows here, whatever the token's list of them says.
 */

#define CONTENT_KEY_LEN 32
#define PASSWORD_LEN 24

static void
say_uses(struct check *c, const char *check, const char *works, int rc, const struct cc_err *err,
        const char *cure)
{
    struct upkeep_finding *f;

    if (rc == 0) {
        check_say(c, check, UPKEEP_OK, "the token can %s", works);
        return;
    }
    f = check_say(c, check, UPKEEP_ERROR, "the token cannot %s", works);
    upkeep_cause(f, "%s", cc_err_text(err));
    upkeep_cure(f, "%s", cure);
}

/* ---- SCEP: devices encrypt a content key with PKCS #1 v1.5 ---- */

static int
encrypt_content_key(EVP_PKEY *key, const uint8_t *plain, uint8_t *ret, size_t *len,
        struct cc_err *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    int rc = 0;

    if (ctx == NULL || EVP_PKEY_encrypt_init(ctx) <= 0 ||
            EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) <= 0 ||
            EVP_PKEY_encrypt(ctx, ret, len, plain, CONTENT_KEY_LEN) <= 0)
        rc = cc_err_set_openssl(err, "encrypt with the public half");
    EVP_PKEY_CTX_free(ctx);
    return rc;
}

static int
open_content_key(struct hsm_key *key, EVP_PKEY *public_key, struct cc_err *err)
{
    uint8_t plain[CONTENT_KEY_LEN], back[CONTENT_KEY_LEN], encrypted[2048];
    size_t len = sizeof(encrypted);
    struct hsm_key_transport transport = { .oaep = false };

    if (cc_random(plain, sizeof(plain), err) != 0 ||
            encrypt_content_key(public_key, plain, encrypted, &len, err) != 0)
        return -1;
    transport.encrypted = (struct cc_bytes){ encrypted, len };
    if (hsm_key_open_content_key(key, &transport, back, sizeof(back), err) != 0)
        return -1;
    if (CRYPTO_memcmp(plain, back, sizeof(plain)) != 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT, "what came back is something else");
    return 0;
}

static void
use_scep(struct check *c)
{
    const char *uri = config_key(c->config, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT));
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key = NULL;
    struct cc_err err = { 0 };

    /* A key that does not work at all was told of. */
    if (uri == NULL || hsm_key_get0(c->hsm, HSM_ROLE_SCEP_RA_ENCRYPT, uri, &key, NULL) != 0 ||
            hsm_key_get1_public(key, &public_key, NULL) != 0)
        return;
    if (hsm_key_health(key, NULL) == 0)
        say_uses(c, "use-scep", "open the messages of devices (RSA PKCS #1 v1.5)",
                open_content_key(key, public_key, &err), &err,
                "make a key that may decrypt, with certconnector key generate --role scep-ra-encrypt, and name it "
                "in [keys]; set [token] allow-raw-rsa = yes where the token lacks the padding");
    EVP_PKEY_free(public_key);
}

/* ---- imported PFX: a password is encrypted anew for a recipient ---- */

/* A device that there is not: key and certificate, signed by itself. */
static X509 *
make_recipient(EVP_PKEY **ret_key, struct cc_err *err)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *certificate = X509_new();
    X509_NAME *name = certificate != NULL ? X509_get_subject_name(certificate) : NULL;

    if (key == NULL || name == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 ||
            ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1 ||
            X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) == NULL ||
            X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) == NULL ||
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                    (const unsigned char *)"certconnector check", -1, -1, 0) != 1 ||
            X509_set_issuer_name(certificate, name) != 1 ||
            X509_set_pubkey(certificate, key) != 1 ||
            X509_sign(certificate, key, EVP_sha256()) <= 0) {
        cc_err_set_openssl(err, "a certificate to encrypt to");
        X509_free(certificate);
        EVP_PKEY_free(key);
        return NULL;
    }
    *ret_key = key;
    return certificate;
}

/* OAEP with SHA-1 on the way out: what every token can wrap with. */
static int
reencrypt(const struct check *c, struct hsm_key *key, EVP_PKEY *public_key, X509 *recipient,
        struct cc_err *err)
{
    static const enum hsm_reencrypt_mode modes[] = {
        [CONFIG_REENCRYPT_AUTO] = HSM_REENCRYPT_AUTO,
        [CONFIG_REENCRYPT_TOKEN] = HSM_REENCRYPT_TOKEN,
        [CONFIG_REENCRYPT_HOST] = HSM_REENCRYPT_HOST,
    };
    struct cc_buf encrypted = CC_BUF_INIT(4096), out = CC_BUF_INIT(65536);
    uint8_t password[PASSWORD_LEN];
    unsigned char *der = NULL;
    const int len = i2d_X509(recipient, &der);
    struct hsm_reencrypt request = {
        .mode = modes[c->config->pfx_import.reencrypt],
        .padding = PKI_PADDING_OAEP_SHA1,
        .form = PKI_PASSWORD_OAEP_SHA1,
    };
    bool on_token;
    int rc = -1;

    if (len < 0) {
        cc_err_set_openssl(err, "a certificate to encrypt to");
        goto out;
    }
    if (cc_random(password, sizeof(password), err) != 0 ||
            pki_password_encrypt_padding(public_key, PKI_PADDING_OAEP_SHA1,
                    (struct cc_bytes){ password, sizeof(password) }, &encrypted, err) != 0)
        goto out;
    request.ciphertext = cc_buf_bytes(&encrypted);
    request.recipient = (struct cc_bytes){ der, (size_t)len };
    rc = hsm_key_reencrypt(key, &request, &out, &on_token, err);
out:
    OPENSSL_free(der);
    cc_buf_free(&out);
    cc_buf_free(&encrypted);
    return rc;
}

static void
use_import(struct check *c)
{
    const char *uri = config_key(c->config, hsm_role_name(HSM_ROLE_PFX_IMPORT));
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key = NULL, *recipient_key = NULL;
    X509 *recipient = NULL;
    struct cc_err err = { 0 };
    int rc = -1;

    if (uri == NULL || hsm_key_get0(c->hsm, HSM_ROLE_PFX_IMPORT, uri, &key, NULL) != 0 ||
            hsm_key_get1_public(key, &public_key, NULL) != 0)
        return;
    if (hsm_key_health(key, NULL) == 0) {
        if ((recipient = make_recipient(&recipient_key, &err)) != NULL)
            rc = reencrypt(c, key, public_key, recipient, &err);
        say_uses(c, "use-pfx-import", "encrypt passwords of imported PFX anew", rc, &err,
                "set [pfx-import] reencrypt = auto, which uses the token process where the token cannot");
    }
    X509_free(recipient);
    EVP_PKEY_free(recipient_key);
    EVP_PKEY_free(public_key);
}

/* ---- PKCS: key pairs for devices ---- */

static void
use_pkcs(struct check *c)
{
    const bool on_token = c->config->pkcs.key_generation == CONFIG_GENERATE_TOKEN;
    const char *uri = config_key(c->config, hsm_role_name(HSM_ROLE_SEAL));
    struct cc_buf sealed = CC_BUF_INIT(65536), spki = CC_BUF_INIT(65536);
    struct hsm_key *seal = NULL;
    struct cc_err err = { 0 };

    if (uri == NULL || hsm_key_get0(c->hsm, HSM_ROLE_SEAL, uri, &seal, NULL) != 0 ||
            hsm_key_health(seal, NULL) != 0)
        return;
    say_uses(c, "use-pkcs",
            on_token ? "make key pairs for devices, and give them away wrapped"
                     : "seal key pairs of devices",
            hsm_device_key_new(seal, PKI_EC_P256, on_token ? HSM_GENERATE_TOKEN : HSM_GENERATE_HOST,
                    cc_bytes_of_str("check"), &sealed, &spki, &err),
            &err,
            on_token
                    ? "set [pkcs] key-generation = host: key pairs are made in the token process then"
                    : "make the seal key anew with certconnector key generate --role seal");
    cc_buf_free(&spki);
    cc_buf_free(&sealed);
}

void
check_uses(struct check *c)
{
    const unsigned features = c->config->connector.features;

    if (c->hsm == NULL)
        return;
    if ((features & CONFIG_PFX_IMPORT) != 0)
        use_import(c);
    if ((features & CONFIG_PKCS) != 0)
        use_pkcs(c);
    if ((features & CONFIG_SCEP) != 0)
        use_scep(c);
}
