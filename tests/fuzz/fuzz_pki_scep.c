/* SPDX-License-Identifier: MIT */
#include "pki/scep.h"

#include <openssl/cms.h>
#include <stdlib.h>

#include "pki/enveloped.h"

/*
 * A pkiMessage as a device sends it, up to where a key would be used: read, verified, its envelope taken apart, what may
 * be inside read.  The signature is mostly bad: whatever it says, the rest goes on.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_error(const struct cc_err *err)
{
    if (err->domain == CC_DOM_NONE || err->text[0] == '\0')
        abort();
}

static void
check_message(const struct pki_scep_message *message, size_t size)
{
    if (message->signer == NULL || message->transaction_id.len > PKI_SCEP_TRANSACTION_MAX ||
            message->sender_nonce.len > PKI_SCEP_NONCE_MAX ||
            message->recipient_nonce.len > PKI_SCEP_NONCE_MAX || message->type > 999 ||
            message->envelope.len + message->fail_text.len > size)
        abort();
}

/* The signer is the only certificate at hand. */
static void
read_envelope(const struct pki_scep_message *message)
{
    static const uint8_t key[32];
    X509 *const recipients[] = { message->signer };
    struct pki_enveloped enveloped;
    struct cc_secret *content = NULL;
    struct cc_err err = { 0 };
    size_t which = 1;

    pki_enveloped_init(&enveloped);
    if (pki_enveloped_data_read_for(message->envelope, recipients, 1, &which, &enveloped, &err) !=
            0)
        check_error(&err);
    else if (which != 0)
        abort();
    else if (pki_enveloped_open(&enveloped,
                     (struct cc_bytes){ key, pki_enveloped_key_len(&enveloped) }, &content,
                     &err) != 0)
        check_error(&err);
    cc_secret_free(content);
    pki_enveloped_free(&enveloped);
}

static void
read_certificates(struct cc_bytes bytes)
{
    STACK_OF(X509) *certificates = NULL;
    X509_CRL *crl = NULL;
    struct cc_err err = { 0 };

    if (pki_certs_only_read(bytes, &certificates, &crl, &err) != 0)
        check_error(&err);
    sk_X509_pop_free(certificates, X509_free);
    X509_CRL_free(crl);
}

static void
read_issuer_and_serial(struct cc_bytes bytes)
{
    X509_NAME *issuer = NULL;
    ASN1_INTEGER *serial = NULL;
    struct cc_err err = { 0 };

    if (pki_issuer_and_serial_read(bytes, &issuer, &serial, &err) != 0)
        check_error(&err);
    X509_NAME_free(issuer);
    ASN1_INTEGER_free(serial);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cc_bytes bytes = { data, size };
    struct pki_scep_message message;
    struct cc_err err = { 0 };

    read_certificates(bytes);
    read_issuer_and_serial(bytes);
    if (pki_scep_read(bytes, &message, &err) != 0) {
        check_error(&err);
        return 0;
    }
    check_message(&message, size);
    if (pki_scep_verify(&message, &err) != 0)
        check_error(&err);
    read_envelope(&message);
    pki_scep_message_free(&message);
    return 0;
}
