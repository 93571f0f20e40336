/* SPDX-License-Identifier: MIT */
#ifndef HSM_HSM_H
#define HSM_HSM_H

/*
 * The token: private-key operations for the other rooms.
 *
 * struct hsm owns one token process (certconnector-token), which alone loads the PKCS#11 module and knows the PIN,
 * and the channels to it.  The process is started by hsm_open(), watched, ended when it misses a deadline, and
 * started anew when it is gone; keys stay usable throughout.  An operation that was under way when the process was
 * lost is repeated on the new one, at most twice.  What comes back from here is an answer, or an error of domain
 * CC_DOM_TOKEN (code: enum hsm_fault) or CC_DOM_PKCS11 (code: CKR_*).
 *
 * Threads: any, all calls; a call blocks up to the deadline of the settings.  At most as many operations run at once
 * as there are sessions; further callers wait their turn within their deadline, the more urgent before the others (enum
 * hsm_work).  Not after fork().
 * Secret: nothing here holds a PIN; plaintexts come back only as struct cc_secret, content-encryption
 * keys in memory of the caller.
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"
#include "base/secret.h"
#include "pki/keyspec.h"
#include "pki/password.h"
#include "pki/pfx.h"

struct hsm;

/* Borrowed from its struct hsm: lives until hsm_close(). */
struct hsm_key;

/* What a key is for; it answers only the operations of its role. */
enum hsm_role {
    HSM_ROLE_PFX_IMPORT,      /* RSA: decrypt, re-encrypt */
    HSM_ROLE_SCEP_RA_SIGN,    /* RSA or EC: sign */
    HSM_ROLE_SCEP_RA_ENCRYPT, /* RSA: decrypt (and sign, where one key serves both) */
    HSM_ROLE_CA,              /* RSA or EC: sign */
    HSM_ROLE_OCSP,            /* RSA or EC: sign */
    HSM_ROLE_IDENTITY,        /* RSA or EC: sign */
    HSM_ROLE_SEAL,            /* AES: seal, unseal */
    HSM_ROLE_AUDIT,           /* RSA or EC: sign */
    HSM_ROLE_COUNT
};

/* "pfx-import", "scep-ra-sign" …: the names of the configuration; -1 for another text. */
const char *hsm_role_name(enum hsm_role role);
int hsm_role_parse(const char *name);

/* Codes of CC_DOM_TOKEN.  Each says by itself what a caller does about it. */
enum hsm_fault {
    HSM_FAULT_UNAVAILABLE =
            1,             /* token or token process away, or deadline missed: later it may work */
    HSM_FAULT_PIN_REFUSED, /* never tried again until the PIN in the configuration changes */
    HSM_FAULT_KEY_NOT_FOUND, /* no key, or more than one, has this URI */
    HSM_FAULT_KEY_REPLACED,  /* the key under this URI is not the one that was there before */
    HSM_FAULT_ROLE,          /* the key's role does not allow this operation */
    HSM_FAULT_UNSUPPORTED,   /* the token cannot do it, or settings forbid the way that it could */
    HSM_FAULT_DECRYPT,       /* the ciphertext does not decrypt with this key */
    HSM_FAULT_RECIPIENT,     /* the recipient's certificate cannot be encrypted to */
    HSM_FAULT_PFX_PASSWORD,  /* what was decrypted does not open the PFX */
    HSM_FAULT_PFX_CONTENT, /* the PFX is malformed, beyond its limits, or holds another certificate */
    HSM_FAULT_INPUT        /* anything else wrong with the arguments */
};

enum hsm_state {
    HSM_STATE_STARTING,    /* the token has not answered yet */
    HSM_STATE_OPEN,        /* logged in and working */
    HSM_STATE_LOST,        /* was open or could not be opened; being tried again */
    HSM_STATE_PIN_REFUSED, /* not tried again until the PIN changes */
    HSM_STATE_CLOSED
};

const char *hsm_state_name(enum hsm_state state);

/* How the password of an imported PFX may be re-encrypted. */
enum hsm_reencrypt_mode {
    HSM_REENCRYPT_AUTO,  /* on the token where it can, else in the token process */
    HSM_REENCRYPT_TOKEN, /* on the token, or refused */
    HSM_REENCRYPT_HOST   /* in the token process */
};

/*
 * What the instances that share a token know of its PINs, kept where all of them reach it, so that together they offer the
 * token a wrong PIN once (store/pin.h says how).  The token process asks before it logs in, and tells what became of it;
 * the PIN itself stays there: what is told of it is a hash, slow to make, salted by the token.
 *
 * The calls come one at a time from a thread of hsm's own and may block.  -1: it cannot be asked now.  Then nothing is
 * tried until it can: whoever shares this memory can do no work without it anyway, and a guess could lock the token for
 * all.
 */
#define HSM_PIN_SALT 16
#define HSM_PIN_HASH 32
#define HSM_PIN_TOKEN_SIZE 128
#define HSM_PIN_REASON_SIZE 64

struct hsm_pin {
    char token[HSM_PIN_TOKEN_SIZE]; /* its identity: any bytes but NUL */
    uint8_t hash[HSM_PIN_HASH];
};

enum hsm_pin_answer {
    HSM_PIN_TRY,     /* only by us: the outcome is told */
    HSM_PIN_FREE,    /* by anybody: it was accepted a moment ago */
    HSM_PIN_WAIT,    /* another is trying one: asked again */
    HSM_PIN_REFUSED, /* why: of the refusal */
    HSM_PIN_HELP     /* an administrator must look; why: what at */
};

enum hsm_pin_outcome {
    HSM_PIN_WAS_ACCEPTED,
    HSM_PIN_WAS_REFUSED,
    HSM_PIN_NOT_TRIED, /* the token saw no PIN */
    HSM_PIN_NOT_KNOWN  /* it may have seen one */
};

struct hsm_pin_memory {
    int (*salt)(void *arg, const char *token, uint8_t ret_salt[HSM_PIN_SALT],
            uint32_t *ret_iterations, struct cc_err *err);
    /* token_tells: the token itself says that wrong PINs were tried, and not that the next would lock it. */
    int (*ask)(void *arg, const struct hsm_pin *pin, bool token_tells,
            enum hsm_pin_answer *ret_answer, struct cc_err *why);
    int (*tell)(void *arg, const struct hsm_pin *pin, enum hsm_pin_outcome outcome,
            const char *reason, struct cc_err *err);
    void *arg;
};

/* Everything is copied. */
struct hsm_settings {
    const char *helper;    /* path of certconnector-token; NULL: beside the running program */
    const char *module;    /* path of the PKCS#11 module */
    const char *init_args; /* string for CK_C_INITIALIZE_ARGS.pReserved, or NULL (NSS wants one) */
    const char *uri;       /* RFC 7512, names the token: "pkcs11:token=certconnector" */
    const char *pin;       /* reference for cc_secret_load(), read by the token process alone */
    const char *profile;   /* name of a token profile, or "auto" */
    unsigned sessions;     /* operations at once; 0: the number of processors, at least 4 */
    int64_t deadline_ms; /* of one operation, waiting and repeating included; 0: 10 s.  No process is ended for an
                            operation that it had for less than 3/10 of it, hsm_device_key_new() half */
    bool allow_raw_rsa; /* paddings decoded outside the token after raw RSA inside: OAEP where the token lacks the hash,
                           and always those of content-encryption keys */
    const char *state_dir;            /* where a refused PIN is remembered; NULL: it is not */
    struct hsm_pin_memory pin_memory; /* shared with other instances; all NULL: it is not */
    OSSL_LIB_CTX *libctx;             /* where the keys' EVP_PKEY live; NULL: the default one */

    /*
     * Called on each change of state, from a thread of hsm's own (CLOSED: by hsm_close() itself); err says why on
     * LOST and PIN_REFUSED, else NULL.
     */
    void (*on_state)(void *arg, enum hsm_state state, const struct cc_err *err);
    void *on_state_arg;

    /*
     * Called when an operation fails because of its key (err: KEY_NOT_FOUND, KEY_REPLACED or ROLE of CC_DOM_TOKEN),
     * once until the key works again or fails in another of these ways.  From the thread of that operation.
     */
    void (*on_key)(void *arg, const struct hsm_key *key, const struct cc_err *err);
    void *on_key_arg;
};

/*
 * Starts the token process and returns; the token itself is opened in the background, so that a daemon can start
 * while its token is away.  Fails only for settings that can never work (no such program or module, bad URI).
 */
CC_MUST int hsm_open(const struct hsm_settings *settings, struct hsm **ret_hsm, struct cc_err *err);

/* Ends the token process (SIGTERM, then SIGKILL) and frees.  No call may be under way; every EVP_PKEY got from here
   must have been freed by who took a reference.  Accepts NULL. */
void hsm_close(struct hsm *hsm);

/*
 * What the calling thread works for, which says whose turn it is when the token is the bottleneck: the most urgent goes
 * first, but a kind of work that was passed over 8 times (keys made ahead: 64 times) goes next.  Within a kind, who came
 * first.  Operations that take long, hsm_device_key_new(), never hold the last session of several.
 */
enum hsm_work {
    HSM_WORK_ENROLMENT,  /* a device waits for the answer */
    HSM_WORK_REVOCATION, /* and what shows it: CRLs, OCSP */
    HSM_WORK_ORDINARY,
    HSM_WORK_AHEAD, /* nobody waits for it yet */
    HSM_WORK_BY_KEY /* enrolment with the keys of SCEP's RA, revocation with the OCSP key, ordinary with any other */
};

/* From now on, until the thread says otherwise; returns what was before.  At first: HSM_WORK_BY_KEY. */
enum hsm_work hsm_work_for(enum hsm_work work);

/* Waits until the token is open; an error at the deadline, and at once when the PIN is refused. */
CC_MUST int hsm_wait_open(struct hsm *hsm, int64_t timeout_ms, struct cc_err *err);

/*
 * Registers the key that uri names (relative to the token's URI) for a role, or finds it registered.  The key is
 * looked for when it is first used.  Borrowed.
 */
CC_MUST int hsm_key_get0(struct hsm *hsm, enum hsm_role role, const char *uri,
        struct hsm_key **ret_key, struct cc_err *err);

enum hsm_role hsm_key_role(const struct hsm_key *key);
const char *hsm_key_uri(const struct hsm_key *key);

/*
 * The key as OpenSSL sees it, private operations going to the token: works in CMS_*, X509_sign, X509_CRL_sign,
 * OCSP_basic_sign, TLS.  Borrowed; EVP_PKEY_up_ref() to keep it, at the longest until hsm_close().  The public half
 * is read from the token on the first call and remembered: from then on another key under the same URI is refused.
 */
CC_MUST int hsm_key_get0_evp(struct hsm_key *key, EVP_PKEY **ret_pkey, struct cc_err *err);

/*
 * Failures behind an EVP_PKEY come out of OpenSSL in two ways.
 *
 * Where OpenSSL reports them, cc_err_set_openssl() makes a CC_DOM_OPENSSL of them, and this turns one that came from
 * the token back into CC_DOM_TOKEN or CC_DOM_PKCS11 with its code; it leaves every other error alone.
 *
 * CMS_decrypt() with a certificate reports none: it goes on with a random key, so that nobody learns why a key did
 * not decrypt.  Who must tell "the token was away" from "the message is bad" compares hsm_key_outages() before and
 * after: it counts the operations with this key, of any thread, that failed for a reason other than what they were
 * given.
 */
void hsm_err_resolve(struct cc_err *err);
uint64_t hsm_key_outages(const struct hsm_key *key);

/*
 * A content-encryption key that came encrypted with RSA, as in a KeyTransRecipientInfo (RFC 5652 section 6.2.1), with
 * PKCS #1 v1.5 or, after RFC 3560, with OAEP without a label.
 */
struct hsm_key_transport {
    bool oaep;
    int digest_nid, mgf_nid; /* of OAEP; else not looked at */
    struct cc_bytes encrypted;
};

/*
 * Opens it, without being an oracle: ret_key gets exactly len bytes (HSM_CONTENT_KEY_MIN … HSM_CONTENT_KEY_MAX), whatever
 * was encrypted.  What does not decrypt, or to another length, gives random bytes and no error (implicit rejection,
 * RFC 3218 section 2.3.2): the content then fails to decrypt like any other that was spoiled.  Neither the answer, nor
 * hsm_key_outages(), nor the log tells which it was, nor does the time where allow_raw_rsa is set and the token has the
 * bare RSA operation.  Else the token removes the padding, and its own time is what it is (SoftHSM's tells).
 *
 * -1 is never about what was encrypted: the token is away, there is no such key or its role does not decrypt, or the
 * token can do neither this padding nor the bare operation.  ret_key is secret: the caller wipes it.
 */
#define HSM_CONTENT_KEY_MIN 8
#define HSM_CONTENT_KEY_MAX 64
CC_MUST int hsm_key_open_content_key(struct hsm_key *key, const struct hsm_key_transport *transport,
        uint8_t *ret_key, size_t len, struct cc_err *err);

/* The public half as an ordinary software key; yours to free. */
CC_MUST int hsm_key_get1_public(struct hsm_key *key, EVP_PKEY **ret_pkey, struct cc_err *err);

/*
 * Re-encryption of a password: decrypted with the token's key, encrypted for a recipient, never seen here.
 * On the token: C_UnwrapKey and C_WrapKey.  In the token process: memory that is locked and wiped; there the password
 * is also tried on the PFX, when one is given, and the PFX's certificate must have the thumbprint.
 */
struct hsm_reencrypt {
    enum hsm_reencrypt_mode mode;
    bool enveloped; /* ciphertext is CMS EnvelopedData for the key, DER; else RSA with this padding */
    enum pki_padding padding;       /* of the ciphertext */
    struct cc_bytes ciphertext;     /* exactly the key's length, unless it is enveloped */
    struct cc_bytes recipient;      /* certificate, DER */
    enum pki_password_form form;    /* of the output */
    enum pki_content_cipher cipher; /* for PKI_PASSWORD_CMS */
    struct cc_bytes pfx;            /* DER, or empty: not checked */
    const char *thumbprint;         /* SHA-1 in hexadecimal any case, or NULL: not compared */
};

/* ret_out is appended to.  *ret_on_token tells which way it went. */
CC_MUST int hsm_key_reencrypt(struct hsm_key *key, const struct hsm_reencrypt *request,
        struct cc_buf *ret_out, bool *ret_on_token, struct cc_err *err);

/*
 * Small secrets sealed under a token-resident AES key (AES-256-GCM, 96-bit random IV; key of role HSM_ROLE_SEAL), to
 * be stored where others may read.  context (the request's id) is authenticated, not stored: unsealing needs the same
 * one.  The sealed form is versioned and self-contained.  At most 65,520 bytes.  A sealed key of a device, below, is
 * another thing: HSM_FAULT_DECRYPT.
 */
CC_MUST int hsm_seal(struct hsm_key *key, struct cc_bytes context, struct cc_bytes plain,
        struct cc_buf *ret_sealed, struct cc_err *err);
CC_MUST int hsm_unseal(struct hsm_key *key, struct cc_bytes context, struct cc_bytes sealed,
        struct cc_secret **ret_plain, struct cc_err *err);

/*
 * Key pairs of devices: made on the token or in the token process, and outside of these only sealed.
 *
 * seal: key of role HSM_ROLE_SEAL.  context: what the sealed form is bound to; the same in each call about one key.
 * The private key is opened in the token process alone, in memory that is wiped.  A key made on the token
 * (HSM_GENERATE_TOKEN) is a session object there and leaves it wrapped.  HSM_FAULT_UNSUPPORTED: this token cannot.
 */
enum hsm_generation { HSM_GENERATE_HOST, HSM_GENERATE_TOKEN };

/*
 * The sealed PKCS #8 and the SubjectPublicKeyInfo; appended.
 *
 * Making an RSA key takes as long as chance wants: with 4096 bits a second on the average, and now and then several
 * times that.  So this operation is never given less than half the deadline of the settings, has all that is left of it
 * at once, and is repeated only where the process was lost within the first half; a process that has not made the key
 * by the deadline counts as hung.  Where that is too short (a slow token, many pairs at once), raise deadline_ms.
 */
CC_MUST int hsm_device_key_new(struct hsm_key *seal, enum pki_keyspec spec,
        enum hsm_generation generation, struct cc_bytes context, struct cc_buf *ret_sealed,
        struct cc_buf *ret_spki, struct cc_err *err);

/* A PKCS #10 request signed by the key: subject and extensions as in pki_csr_build(). */
CC_MUST int hsm_device_key_csr(struct hsm_key *seal, struct cc_bytes context,
        struct cc_bytes sealed, struct cc_bytes subject, struct cc_bytes extensions,
        struct cc_buf *ret_csr, struct cc_err *err);

/*
 * A PFX with a fresh random password, and that password encrypted for the recipient; the password itself never leaves
 * the token process.  The certificate must be of the key (HSM_FAULT_INPUT).  Appended.
 */
struct hsm_device_pfx {
    struct cc_bytes context, sealed;
    struct cc_bytes certificate; /* DER */
    struct cc_bytes chain;       /* certificates in DER, one behind the other */
    const char *friendly_name;   /* or NULL */
    enum pki_pfx_encryption encryption;
    struct cc_bytes recipient; /* certificate, DER */
    enum pki_password_form form;
    enum pki_content_cipher cipher;
};
CC_MUST int hsm_device_key_pfx(struct hsm_key *seal, const struct hsm_device_pfx *parts,
        struct cc_buf *ret_pfx, struct cc_buf *ret_password, struct cc_err *err);

/* Random bytes of the token's generator; at most 4096. */
CC_MUST int hsm_random(struct hsm *hsm, void *ret_data, size_t len, struct cc_err *err);

/* A real operation with the key, its result verified outside the token: the proof that it works now. */
CC_MUST int hsm_key_health(struct hsm_key *key, struct cc_err *err);

/* What status shows.  The strings are copies. */
struct hsm_status {
    enum hsm_state state;
    int64_t since_ms; /* wall time of the last change of state */
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    char profile[32];
    unsigned sessions;
    unsigned busy;       /* of them: operations under way */
    unsigned waiting;    /* callers in line for one of them */
    uint64_t operations; /* answered since hsm_open() */
    uint64_t failures;   /* of them with an error */
    uint64_t restarts;   /* token processes started after the first */
    long pid;            /* of the token process; 0: none */
    char last_error[256];
};

void hsm_get_status(struct hsm *hsm, struct hsm_status *ret);

/* How long operations of one kind took, waiting for a session included, since hsm_open(). */
struct hsm_measured {
    const char *operation; /* "sign", "open-content-key" … */
    uint64_t failures;     /* of them, whatever the reason */
    struct cc_histogram_values time;
};
#define HSM_MEASURED_MAX 16

/* Of the kinds that there were; how many. */
size_t hsm_get_measured(struct hsm *hsm, struct hsm_measured ret[HSM_MEASURED_MAX]);

#endif
