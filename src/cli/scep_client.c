/* SPDX-License-Identifier: MIT */
#include "scep_client.h"

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/enveloped.h"

#define SIGNER_DAYS 7
#define KEY_LEN_MAX 1024 /* bytes of what an RSA key of 8192 bits opens */

static int
refuse(struct cc_err *err, const char *what)
{
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, 0, "the answer: %s", what);
}

/* ---- GetCACert ---- */

int
scep_authority_read(struct cc_bytes bytes, bool several, STACK_OF(X509) **ret, struct cc_err *err)
{
    STACK_OF(X509) *certificates = NULL;
    X509_CRL *crl = NULL;
    X509 *one = NULL;

    if (several) {
        if (pki_certs_only_read(bytes, &certificates, &crl, err) != 0)
            return -1;
        X509_CRL_free(crl);
    } else {
        if (pki_cert_parse(bytes, &one, err) != 0)
            return -1;
        if ((certificates = sk_X509_new_null()) == NULL || sk_X509_push(certificates, one) <= 0) {
            X509_free(one);
            sk_X509_free(certificates);
            return cc_err_nomem(err);
        }
    }
    if (sk_X509_num(certificates) == 0) {
        sk_X509_free(certificates);
        return refuse(err, "no certificate is in it");
    }
    *ret = certificates;
    return 0;
}

static bool
has_ra(STACK_OF(X509) *authority)
{
    for (int i = 0; i < sk_X509_num(authority); i++)
        if (X509_check_ca(sk_X509_value(authority, i)) == 0)
            return true;
    return false;
}

unsigned
scep_authority_roles(STACK_OF(X509) *authority, X509 *certificate)
{
    const bool is_ca = X509_check_ca(certificate) != 0;
    const uint32_t usages = X509_get_key_usage(certificate); /* all bits, where there is none */
    unsigned roles = is_ca ? SCEP_ROLE_CA : 0;

    if (is_ca && has_ra(authority))
        return roles;
    /* there are servers whose only certificate has but the usages of a CA (section 2.1.2 wants more) */
    if (sk_X509_num(authority) == 1)
        return roles | SCEP_ROLE_SIGN | SCEP_ROLE_ENCRYPT;
    if ((usages & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)) != 0)
        roles |= SCEP_ROLE_SIGN;
    if ((usages & KU_KEY_ENCIPHERMENT) != 0 && EVP_PKEY_is_a(X509_get0_pubkey(certificate), "RSA"))
        roles |= SCEP_ROLE_ENCRYPT;
    return roles;
}

X509 *
scep_authority_find(STACK_OF(X509) *authority, enum scep_role role)
{
    for (int i = 0; i < sk_X509_num(authority); i++) {
        X509 *certificate = sk_X509_value(authority, i);

        if ((scep_authority_roles(authority, certificate) & (unsigned)role) != 0)
            return certificate;
    }
    return NULL;
}

static X509 *
find_by_digest(STACK_OF(X509) *authority, const uint8_t sha256[32])
{
    for (int i = 0; i < sk_X509_num(authority); i++) {
        X509 *certificate = sk_X509_value(authority, i);
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int len;

        if (X509_digest(certificate, EVP_sha256(), digest, &len) == 1 && len == 32 &&
                memcmp(digest, sha256, 32) == 0)
            return certificate;
    }
    return NULL;
}

/* X509_V_OK, or why not; X509_V_ERR_UNSPECIFIED without memory. */
static int
verify_below(X509_STORE *store, X509 *certificate, STACK_OF(X509) *between)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int reason = X509_V_ERR_UNSPECIFIED;

    if (ctx != NULL && X509_STORE_CTX_init(ctx, store, certificate, between) == 1) {
        (void)X509_verify_cert(ctx);
        reason = X509_STORE_CTX_get_error(ctx);
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return reason;
}

int
scep_authority_trust(STACK_OF(X509) *authority, const uint8_t sha256[32], struct cc_err *err)
{
    X509 *anchor = find_by_digest(authority, sha256);
    X509_STORE *store = NULL;
    int rc = 0;

    if (anchor == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "no certificate of GetCACert has this fingerprint: this is another CA, or somebody stands between");
    if ((store = X509_STORE_new()) == NULL || X509_STORE_add_cert(store, anchor) != 1 ||
            X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        rc = cc_err_set_openssl(err, "the certificates of GetCACert");
    for (int i = 0; i < sk_X509_num(authority) && rc == 0; i++) {
        X509 *certificate = sk_X509_value(authority, i);
        int reason;

        if ((scep_authority_roles(authority, certificate) & ~(unsigned)SCEP_ROLE_CA) != 0 &&
                (reason = verify_below(store, certificate, authority)) != X509_V_OK)
            rc = cc_err_set(err, CC_DOM_INPUT, reason,
                    "certificate %d of GetCACert is not of the CA with this fingerprint: %s", i + 1,
                    X509_verify_cert_error_string(reason));
    }
    X509_STORE_free(store);
    return rc;
}

/* ---- what a request holds ---- */

int
scep_self_signed(const struct pki_plan *plan, EVP_PKEY *key, X509 **ret_certificate,
        struct cc_err *err)
{
    const struct pki_issuer itself = { .key = key };
    struct pki_plan week = *plan;
    uint8_t serial[PKI_SERIAL_LEN];

    if (cc_random(serial, sizeof(serial), err) != 0)
        return -1;
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and of all its bytes */
    week.not_before_ms = cc_clock_now_ms() / 1000 * 1000 - PKI_DAY_MS;
    week.not_after_ms = week.not_before_ms + SIGNER_DAYS * PKI_DAY_MS;
    return pki_cert_issue(&week, (struct cc_bytes){ serial, sizeof(serial) }, key, &itself,
            ret_certificate, err);
}

int
scep_csr(const struct pki_plan *plan, EVP_PKEY *key, const struct cc_secret *challenge,
        struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(PKI_CSR_MAX), extensions = CC_BUF_INIT(PKI_CSR_MAX);
    int rc = -1;

    if (pki_name_write(plan->subject, &subject, err) == 0 &&
            pki_plan_extensions(plan, &extensions, err) == 0)
        rc = pki_csr_build(key, cc_buf_bytes(&subject), cc_buf_bytes(&extensions), challenge, ret,
                err);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    return rc;
}

int
scep_issuer_and_subject(const X509_NAME *issuer, const X509_NAME *subject, struct cc_buf *ret,
        struct cc_err *err)
{
    struct cc_buf names = CC_BUF_INIT(PKI_CSR_MAX);
    unsigned char header[8], *at = header;
    int rc = -1;

    if (pki_name_write(issuer, &names, err) == 0 && pki_name_write(subject, &names, err) == 0) {
        ASN1_put_object(&at, 1, (int)names.len, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
        if (cc_buf_add(ret, header, (size_t)(at - header), err) == 0)
            rc = cc_buf_add(ret, names.data, names.len, err);
    }
    cc_buf_free(&names);
    return rc;
}

/* ---- requests ---- */

int
scep_transaction_begin(struct scep_transaction *ret, struct cc_err *err)
{
    uint8_t id[16];

    if (cc_random(id, sizeof(id), err) != 0)
        return -1;
    cc_hex(id, sizeof(id), false, ret->id);
    return 0;
}

int
scep_client_write(const struct scep_client *client, enum pki_scep_type type,
        struct cc_bytes content, struct scep_transaction *transaction, struct cc_buf *ret,
        struct cc_err *err)
{
    const struct pki_enveloped how = {
        .oaep = client->oaep,
        .digest_nid = NID_sha1,
        .mgf_nid = NID_sha1,
        .cipher_nid = client->cipher_nid,
    };
    X509 *recipient = scep_authority_find(client->authority, SCEP_ROLE_ENCRYPT);
    struct cc_buf envelope = CC_BUF_INIT(PKI_ENVELOPED_MAX);
    struct pki_scep_draft draft = {
        .type = (int)type,
        .status = -1,
        .fail_info = -1,
        .transaction_id = cc_bytes_of_str(transaction->id),
        .sender_nonce = { transaction->nonce, sizeof(transaction->nonce) },
        .signer = client->certificate,
        .key = client->key,
        .md = client->md,
    };
    int rc = -1;

    if (recipient == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "GetCACert has no RSA certificate whose key usage lets requests be encrypted for it");
    if (cc_random(transaction->nonce, sizeof(transaction->nonce), err) == 0 &&
            pki_enveloped_write_like(&how, recipient, content, &envelope, err) == 0) {
        draft.envelope = cc_buf_bytes(&envelope);
        rc = pki_scep_write(&draft, ret, err);
    }
    cc_buf_free(&envelope);
    return rc == 0 ? 0 : cc_err_in(err, "%s", pki_scep_type_name((int)type));
}

/* ---- answers ---- */

static bool
is_equal(struct cc_bytes a, const void *data, size_t len)
{
    return a.len == len && memcmp(a.data, data, len) == 0;
}

/* An RA renews its certificate under the same name: the whole certificate is compared. */
static bool
is_signer(STACK_OF(X509) *authority, const X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(authority); i++) {
        X509 *one = sk_X509_value(authority, i);

        if (X509_cmp(one, certificate) == 0)
            return (scep_authority_roles(authority, one) & SCEP_ROLE_SIGN) != 0;
    }
    return false;
}

/* Section 3.3.2, and what section 3.2.1 asks of each attribute. */
static int
check(const struct scep_client *client, const struct scep_transaction *transaction,
        const struct pki_scep_message *message, struct cc_err *err)
{
    if (!is_signer(client->authority, message->signer))
        return refuse(err, "it is not signed by a certificate of GetCACert that may sign answers");
    if (pki_scep_verify(message, err) != 0)
        return cc_err_in(err, "the answer");
    if (message->type != PKI_SCEP_CERT_REP)
        return refuse(err, "it is no CertRep");
    if (!is_equal(message->transaction_id, transaction->id, strlen(transaction->id)))
        return refuse(err, "its transactionID is not that of the request");
    if (!is_equal(message->recipient_nonce, transaction->nonce, sizeof(transaction->nonce)))
        return refuse(err, "its recipientNonce is not the senderNonce of the request");
    if (message->status != PKI_SCEP_SUCCESS && message->status != PKI_SCEP_FAILURE &&
            message->status != PKI_SCEP_PENDING)
        return refuse(err, "it has no pkiStatus, or one that there is not");
    if ((message->status == PKI_SCEP_FAILURE) != (message->fail_info >= 0))
        return refuse(err, "failInfo stands with FAILURE and with nothing else");
    if ((message->status == PKI_SCEP_SUCCESS) != (message->envelope.len > 0))
        return refuse(err, "an envelope stands with SUCCESS and with nothing else");
    return 0;
}

static int
open_key(EVP_PKEY *key, const struct pki_enveloped *enveloped, uint8_t ret_key[KEY_LEN_MAX],
        size_t *ret_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    int ok = ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1;

    if (ok && enveloped->oaep)
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbynid(enveloped->digest_nid)) == 1 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(enveloped->mgf_nid)) == 1;
    *ret_len = KEY_LEN_MAX;
    ok = ok && EVP_PKEY_decrypt(ctx, ret_key, ret_len, enveloped->encrypted_key.data,
                       enveloped->encrypted_key.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : -1;
}

static int
open_envelope(const struct scep_client *client, struct cc_bytes der, struct scep_answer *ret,
        struct cc_err *err)
{
    X509 *const ours[] = { client->certificate };
    struct pki_enveloped enveloped;
    struct cc_secret *content = NULL;
    uint8_t key[KEY_LEN_MAX];
    size_t which, len;
    int rc = -1;

    pki_enveloped_init(&enveloped);
    if (pki_enveloped_data_read_for(der, ours, CC_COUNT(ours), &which, &enveloped, err) != 0)
        goto out;
    if (open_key(client->key, &enveloped, key, &len) != 0) {
        refuse(err, "its content-encryption key does not decrypt");
        goto out;
    }
    if (pki_enveloped_open(&enveloped, (struct cc_bytes){ key, len }, &content, err) != 0)
        goto out;
    rc = pki_certs_only_read((struct cc_bytes){ cc_secret_data(content), cc_secret_len(content) },
            &ret->certificates, &ret->crl, err);
out:
    cc_wipe(key, sizeof(key));
    cc_secret_free(content);
    pki_enveloped_free(&enveloped);
    return rc == 0 ? 0 : cc_err_in(err, "the answer");
}

int
scep_client_read(const struct scep_client *client, const struct scep_transaction *transaction,
        struct cc_bytes bytes, struct scep_answer *ret, struct cc_err *err)
{
    struct pki_scep_message message;
    struct scep_answer answer = { .fail_info = -1 };
    struct cc_buf text = CC_BUF_INIT(sizeof(answer.fail_text) - 1);
    int rc = -1;

    if (pki_scep_read(bytes, &message, err) != 0)
        return cc_err_in(err, "the answer");
    if (check(client, transaction, &message, err) != 0)
        goto out;
    answer.status = message.status;
    answer.fail_info = message.fail_info;
    if (cc_escape(&text, message.fail_text.data, message.fail_text.len,
                sizeof(answer.fail_text) - 8, err) != 0)
        goto out;
    (void)cc_strcpy(answer.fail_text, sizeof(answer.fail_text), cc_buf_str(&text));
    if (answer.status == PKI_SCEP_SUCCESS &&
            open_envelope(client, message.envelope, &answer, err) != 0)
        goto out;
    *ret = answer;
    rc = 0;
out:
    cc_buf_free(&text);
    pki_scep_message_free(&message);
    return rc;
}

void
scep_answer_free(struct scep_answer *answer)
{
    sk_X509_pop_free(answer->certificates, X509_free);
    X509_CRL_free(answer->crl);
    answer->certificates = NULL;
    answer->crl = NULL;
}

int
scep_answer_certificate(const struct scep_answer *answer, const EVP_PKEY *key,
        X509 **ret_certificate, struct cc_err *err)
{
    for (int i = 0; i < sk_X509_num(answer->certificates); i++) {
        X509 *certificate = sk_X509_value(answer->certificates, i);
        EVP_PKEY *its = X509_get0_pubkey(certificate);

        if (its != NULL && EVP_PKEY_eq(its, key) == 1) {
            *ret_certificate = certificate;
            return 0;
        }
    }
    return refuse(err, "no certificate of our key is in it");
}
