/* SPDX-License-Identifier: MIT */
#include "hsm/token/reencrypt.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "hsm/token/decrypt.h"
#include "hsm/token/wrap.h"
#include "pki/cert.h"
#include "pki/enveloped.h"
#include "pki/pfx.h"

/* ---- In this process ---- */

/* What a PFX that does not pass means for the request. */
static int
host_pfx_fault(const struct cc_err *e, struct cc_err *err)
{
    if (e->domain == CC_DOM_INPUT && e->code == PKI_PFX_PASSWORD)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PFX_PASSWORD,
                "what was decrypted does not open the PFX: %s", e->text);
    if (e->domain == CC_DOM_INPUT)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PFX_CONTENT, "PFX: %s", e->text);
    return cc_err_set(err, e->domain, e->code, "%s", e->text);
}

static int
host_check_pfx(const struct hsm_reencrypt *request, struct cc_bytes password, struct cc_err *err)
{
    char thumbprint[PKI_THUMBPRINT_LEN];
    struct cc_err e = { 0 };

    if (request->pfx.len == 0)
        return 0;
    if (pki_pfx_check_thumbprint(request->pfx, password, thumbprint, &e) != 0)
        return host_pfx_fault(&e, err);
    if (request->thumbprint != NULL && request->thumbprint[0] != '\0' &&
            !cc_equal_nocase(request->thumbprint, thumbprint))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PFX_CONTENT,
                "the PFX holds the certificate %s, not the one requested", thumbprint);
    return 0;
}

static int
host_decrypt_rsa(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, struct cc_secret **ret_password, struct cc_err *err)
{
    const EVP_MD *md = pki_padding_md(request->padding);
    const int nid = md == NULL ? 0 : EVP_MD_get_type(md);
    const struct decrypt_request decrypt = {
        .how = md == NULL ? WIRE_DECRYPT_RSA_PKCS1 : WIRE_DECRYPT_RSA_OAEP,
        .digest_nid = nid,
        .mgf_nid = nid,
        .ciphertext = request->ciphertext,
    };

    return token_decrypt(token, worker, key, &decrypt, ret_password, err);
}

/* Whatever is wrong with what came, the content is decrypted with a key of the right length, and fails there. */
static int
host_content_key(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct pki_enveloped *message, struct cc_secret **ret_key, struct cc_err *err)
{
    const struct hsm_key_transport transport = {
        .oaep = message->oaep,
        .digest_nid = message->digest_nid,
        .mgf_nid = message->mgf_nid,
        .encrypted = cc_buf_bytes(&message->encrypted_key),
    };

    return token_open_content_key(token, worker, key, &transport, pki_enveloped_key_len(message),
            ret_key, err);
}

static int
host_open_content(const struct pki_enveloped *message, struct cc_secret *content_key,
        struct cc_secret **ret_plain, struct cc_err *err)
{
    const struct cc_bytes key = { cc_secret_data(content_key), cc_secret_len(content_key) };
    struct cc_err e = { 0 };

    if (pki_enveloped_open(message, key, ret_plain, &e) == 0)
        return 0;
    if (e.domain != CC_DOM_INPUT)
        return cc_err_set(err, e.domain, e.code, "%s", e.text);
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT, "the message does not decrypt");
}

static int
host_decrypt_message(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, struct cc_secret **ret_password, struct cc_err *err)
{
    struct cc_secret *content_key = NULL;
    struct pki_enveloped message;
    struct cc_err e = { 0 };
    int rc = -1;

    pki_enveloped_init(&message);
    if (pki_enveloped_data_read(request->ciphertext, &message, &e) != 0)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT, "%s", e.text);
    else if (message.ciphertext.len > PKI_PASSWORD_MAX + EVP_MAX_BLOCK_LENGTH)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
                "the message is longer than one of any password");
    else if (host_content_key(token, worker, key, &message, &content_key, err) == 0)
        rc = host_open_content(&message, content_key, ret_password, err);
    cc_secret_free(content_key);
    pki_enveloped_free(&message);
    return rc;
}

static int
host_decrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, struct cc_secret **ret_password, struct cc_err *err)
{
    if (request->enveloped)
        return host_decrypt_message(token, worker, key, request, ret_password, err);
    return host_decrypt_rsa(token, worker, key, request, ret_password, err);
}

static int
host_reencrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, X509 *recipient, struct cc_buf *ret_out,
        struct cc_err *err)
{
    struct cc_secret *password = NULL;
    struct cc_bytes bytes;
    int rc = -1;

    if (host_decrypt(token, worker, key, request, &password, err) != 0)
        goto out;
    bytes = (struct cc_bytes){ cc_secret_data(password), cc_secret_len(password) };
    if (bytes.len > PKI_PASSWORD_MAX) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT, "the password is too long");
        goto out;
    }
    if (host_check_pfx(request, bytes, err) != 0)
        goto out;
    rc = pki_password_encrypt_for(recipient, request->form, request->cipher, bytes, ret_out, err);
out:
    cc_secret_free(password);
    return rc;
}

/* ---- Which way ---- */

/* Certificate and ciphertext, before any key is used. */
static int
reencrypt_check(struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, X509 **ret_recipient, struct cc_err *err)
{
    struct token_key_facts facts;
    struct cc_err e = { 0 };
    X509 *recipient = NULL;

    if (pki_cert_parse(request->recipient, &recipient, &e) != 0 ||
            pki_cert_check_recipient(recipient, cc_clock_now_ms(), &e) != 0) {
        X509_free(recipient);
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_RECIPIENT, "recipient's certificate: %s",
                e.text);
    }
    if (token_key_get_facts(worker, key, &facts, err) != 0 ||
            (!request->enveloped &&
                    token_check_ciphertext(&facts, request->ciphertext, err) != 0)) {
        X509_free(recipient);
        return -1;
    }
    *ret_recipient = recipient;
    return 0;
}

/* 0 done, -1 failed for good, 1 go on in this process. */
static int
reencrypt_on_token(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, X509 *recipient, struct cc_buf *ret_out,
        struct cc_err *err)
{
    struct cc_err e = { 0 };
    const enum wrap_outcome outcome =
            token_wrap_again(token, worker, key, request, recipient, ret_out, &e);

    if (outcome == WRAP_DONE)
        return 0;
    if (outcome != WRAP_FAILED && request->mode == HSM_REENCRYPT_AUTO) {
        cc_log(CC_LOG_DEBUG, "hsm", "re-encrypting here, because on the token: %s", e.text);
        return 1;
    }
    return cc_err_set(err, e.domain, e.code, "%s", e.text);
}

int
token_reencrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, struct cc_buf *ret_out, bool *ret_on_token,
        struct cc_err *err)
{
    X509 *recipient = NULL;
    int way = 1, rc = -1;

    if (token_key_check_use(key, HSM_USE_REENCRYPT, err) != 0 ||
            reencrypt_check(worker, key, request, &recipient, err) != 0)
        goto out;
    if (request->enveloped && request->mode == HSM_REENCRYPT_TOKEN)
        way = cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "a message in CMS is not decrypted on the token alone");
    else if (!request->enveloped && request->mode != HSM_REENCRYPT_HOST)
        way = reencrypt_on_token(token, worker, key, request, recipient, ret_out, err);
    if (way == 1)
        rc = host_reencrypt(token, worker, key, request, recipient, ret_out, err);
    else
        rc = way;
    *ret_on_token = way == 0;
out:
    X509_free(recipient);
    return rc;
}
