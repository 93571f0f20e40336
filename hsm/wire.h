/* SPDX-License-Identifier: MIT */
#ifndef HSM_WIRE_H
#define HSM_WIRE_H

/*
 * The wire between a daemon (or the administrator's command) and its token process.
 *
 * The token process inherits one stream socket a channel, descriptors 3, 4, … 2 + N with N from "--channels N", and
 * serves each with a thread of its own; a channel carries one call at a time.  Channel 0 (descriptor 3) gets
 * WIRE_SETUP first, answered when the settings are understood (the token is opened in the background), and then
 * WIRE_ADD_KEY for each key in the order of their numbers; only then do the other channels carry calls.
 * End of file on channel 0 ends the process.
 *
 * A frame is a 32-bit length, and that many bytes.  A call is an 8-bit operation and its fields; a reply is an 8-bit
 * enum wire_status and, for WIRE_OK, the results, else 8-bit enum cc_err_domain, 64-bit code, string text.
 * All integers are big-endian.  "bytes" is a 32-bit length and the bytes; a "string" is bytes without NUL.
 * Nothing may follow the last field.  A malformed frame ends the channel, and with it the process: the peer is ours.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define WIRE_VERSION 4
#define WIRE_FRAME_MAX 524288
#define WIRE_CHANNELS_MAX 64
#define WIRE_KEYS_MAX 256
#define WIRE_FIRST_FD 3

/* A notice is a frame of this one byte, sent on channel 0 between replies: there is news, ask for the state. */
enum wire_status { WIRE_OK = 0, WIRE_ERROR = 1, WIRE_NOTICE = 2 };

enum wire_op {
    /* u32 version, string module, string init_args, string token uri, string pin reference, string profile,
       string state_dir, u8 allow_raw_rsa, u64 open_timeout_ms, u8 asks before a login  ->  nothing */
    WIRE_SETUP = 1,
    /* u8 role, string uri, bytes expected SPKI or empty  ->  u16 key number (0, 1, …) */
    WIRE_ADD_KEY,
    /* u64 timeout_ms  ->  u8 enum hsm_state after waiting until it is no longer STARTING or there is a question, string label,
       string manufacturer, string model, string serial, string profile, string last error, u64 milliseconds that the
       module has been at opening the token without coming back, 0: it is not, u8 there is a question (WIRE_PIN_QUESTION) */
    WIRE_STATE,
    /* u16 key  ->  bytes SPKI; from then on this key is pinned in the token process */
    WIRE_PUBLIC,
    /* u16 key, u8 enum wire_sign, u16 digest nid, u16 MGF1 digest nid, u16 salt length, bytes digest
       ->  bytes signature (ECDSA: DER) ; for PKCS1 with digest nid 0 the bytes are signed as they are */
    WIRE_SIGN,
    /* u16 key, u8 enum wire_decrypt, u16 digest nid, u16 MGF1 digest nid, bytes OAEP label, bytes ciphertext
       ->  bytes plaintext */
    WIRE_DECRYPT,
    /* u16 key, u8 mode, u8 enveloped, u8 padding, bytes ciphertext, bytes recipient, u8 form, u8 cipher, bytes pfx, string
       thumbprint  ->  u8 on_token, bytes out */
    WIRE_REENCRYPT,
    /* u16 key, bytes context, bytes plain  ->  bytes sealed */
    WIRE_SEAL,
    /* u16 key, bytes context, bytes sealed  ->  bytes plain */
    WIRE_UNSEAL,
    /* u32 length  ->  bytes */
    WIRE_RANDOM,
    /* u16 seal key, u8 enum pki_keyspec, u8 enum hsm_generation, bytes context  ->  bytes sealed, bytes SPKI */
    WIRE_DEVICE_KEY_NEW,
    /* u16 seal key, bytes context, bytes sealed, bytes subject, bytes extensions  ->  bytes PKCS #10 */
    WIRE_DEVICE_KEY_CSR,
    /* u16 seal key, bytes context, bytes sealed, bytes certificate, bytes chain, string friendly name, u8 enum
       pki_pfx_encryption, bytes recipient, u8 form, u8 cipher  ->  bytes PFX, bytes encrypted password */
    WIRE_DEVICE_KEY_PFX,
    /* u16 key, u8 oaep, u16 digest nid, u16 MGF1 digest nid, u8 length of the content-encryption key, bytes encrypted
       ->  bytes content-encryption key, or as many random ones */
    WIRE_OPEN_CONTENT_KEY,

    /*
     * What the token process wants to know of a PIN, or tells of it; one at a time, each fetched once.
     * ->  u32 its number, 0: there is none, u8 enum wire_pin_question, string identity of the token, bytes hash (empty
     * for WIRE_PIN_SALT), u8 the token tells, u8 enum hsm_pin_outcome, string reason
     */
    WIRE_PIN_QUESTION,
    /* u32 number, u8 enum hsm_pin_answer, string why, bytes salt, u32 iterations  ->  nothing.  HSM_PIN_WAIT leaves the
       question open; a number that is not open any more is nothing. */
    WIRE_PIN_ANSWER,

    /*
     * One-shot administration: the only call of its process, on channel 0 instead of WIRE_SETUP.  Every one begins with
     * string module, string init_args, string token uri, string pin reference (both empty where not needed).
     */

    /* -> u32 count, and for each: u64 slot, u32 enum wire_token_flag, string label, string manufacturer, string model,
       string serial, string profile */
    WIRE_ADMIN_LIST_TOKENS = 64,
    /* string label, string SO PIN reference or empty  ->  nothing */
    WIRE_ADMIN_INIT_TOKEN,
    /* -> string the token's label, u32 count, and for each: u8 enum wire_key_class, u32 enum wire_key_flag,
       string label, bytes id, string kind */
    WIRE_ADMIN_LIST_KEYS,
    /* u32 roles (1 << enum hsm_role), string label, string kind  ->  nothing */
    WIRE_ADMIN_GENERATE_KEY,
    /* string key uri  ->  bytes SPKI */
    WIRE_ADMIN_EXPORT_PUBLIC
};

/* As fail points and monitoring have it: "sign". */
const char *wire_op_name(uint8_t op);

enum wire_token_flag {
    WIRE_TOKEN_INITIALISED = 1 << 0,
    WIRE_TOKEN_LOGIN_REQUIRED = 1 << 1,
    WIRE_TOKEN_WRITE_PROTECTED = 1 << 2,
    WIRE_TOKEN_PIN_INITIALISED = 1 << 3,
    WIRE_TOKEN_PIN_COUNT_LOW = 1 << 4,
    WIRE_TOKEN_PIN_FINAL_TRY = 1 << 5,
    WIRE_TOKEN_PIN_LOCKED = 1 << 6
};

enum wire_key_class { WIRE_KEY_PRIVATE = 1, WIRE_KEY_PUBLIC, WIRE_KEY_SECRET };

/* CKA_* of the same names. */
enum wire_key_flag {
    WIRE_KEY_SENSITIVE = 1 << 0,
    WIRE_KEY_EXTRACTABLE = 1 << 1,
    WIRE_KEY_ALWAYS_SENSITIVE = 1 << 2,
    WIRE_KEY_NEVER_EXTRACTABLE = 1 << 3,
    WIRE_KEY_SIGN = 1 << 4,
    WIRE_KEY_VERIFY = 1 << 5,
    WIRE_KEY_ENCRYPT = 1 << 6,
    WIRE_KEY_DECRYPT = 1 << 7,
    WIRE_KEY_WRAP = 1 << 8,
    WIRE_KEY_UNWRAP = 1 << 9,
    WIRE_KEY_DERIVE = 1 << 10
};

/* Longest texts of the calls above, with their NUL. */
#define WIRE_PATH_SIZE 4096
#define WIRE_URI_SIZE 1025
#define WIRE_REFERENCE_SIZE 4096
#define WIRE_LABEL_SIZE 128
#define WIRE_KIND_SIZE 16
#define WIRE_PROFILE_SIZE 64
#define WIRE_THUMBPRINT_SIZE 128
#define WIRE_NAME_SIZE 256 /* friendly name */
#define WIRE_ID_MAX 64
#define WIRE_LIST_MAX 8192 /* entries */

enum wire_pin_question {
    WIRE_PIN_SALT = 1, /* answered with salt and iterations */
    WIRE_PIN_MAY_TRY,
    WIRE_PIN_OUTCOME /* answered when it is noted; what does not matter */
};

enum wire_sign { WIRE_SIGN_RSA_PKCS1 = 1, WIRE_SIGN_RSA_PSS, WIRE_SIGN_RSA_RAW, WIRE_SIGN_ECDSA };
enum wire_decrypt { WIRE_DECRYPT_RSA_PKCS1 = 1, WIRE_DECRYPT_RSA_OAEP, WIRE_DECRYPT_RSA_RAW };

/* Writing fields: each appends, -1 at the frame's ceiling. */
CC_MUST int wire_put_u8(struct cc_buf *frame, uint8_t value, struct cc_err *err);
CC_MUST int wire_put_u16(struct cc_buf *frame, uint16_t value, struct cc_err *err);
CC_MUST int wire_put_u32(struct cc_buf *frame, uint32_t value, struct cc_err *err);
CC_MUST int wire_put_u64(struct cc_buf *frame, uint64_t value, struct cc_err *err);
CC_MUST int wire_put_bytes(struct cc_buf *frame, const void *data, size_t len, struct cc_err *err);
CC_MUST int wire_put_str(struct cc_buf *frame, const char *text,
        struct cc_err *err); /* NULL: empty */

/* Reading fields off the front; bytes are borrowed from what is read. */
CC_MUST int wire_get_u8(struct cc_bytes *rest, uint8_t *ret, struct cc_err *err);
CC_MUST int wire_get_u16(struct cc_bytes *rest, uint16_t *ret, struct cc_err *err);
CC_MUST int wire_get_u32(struct cc_bytes *rest, uint32_t *ret, struct cc_err *err);
CC_MUST int wire_get_u64(struct cc_bytes *rest, uint64_t *ret, struct cc_err *err);
CC_MUST int wire_get_bytes(struct cc_bytes *rest, struct cc_bytes *ret, struct cc_err *err);
/* Into an array of size bytes, terminated; -1 when longer or with a NUL inside. */
CC_MUST int wire_get_str(struct cc_bytes *rest, char *ret, size_t size, struct cc_err *err);
CC_MUST int wire_get_end(const struct cc_bytes *rest, struct cc_err *err);

/*
 * One frame over a socket.  Receiving replaces the contents of frame; deadline in cc_clock_mono_ms(), or
 * WIRE_NO_DEADLINE.  -1 with CC_DOM_TOKEN/HSM_FAULT_UNAVAILABLE at end of file and at the deadline (*ret_deadline is
 * then true; may be NULL).  Frames may hold secrets: wipe the buffer after use.
 */
#define WIRE_NO_DEADLINE INT64_MAX
CC_MUST int wire_send(int fd, const struct cc_buf *frame, int64_t deadline, struct cc_err *err);
CC_MUST int wire_recv(int fd, struct cc_buf *frame, int64_t deadline, bool *ret_deadline,
        struct cc_err *err);

/* A whole reply frame of an error. */
CC_MUST int wire_put_error(struct cc_buf *frame, const struct cc_err *failure, struct cc_err *err);

/* Reads status off the front of a reply; for WIRE_ERROR sets err from it and returns -1. */
CC_MUST int wire_get_status(struct cc_bytes *rest, struct cc_err *err);

#endif
