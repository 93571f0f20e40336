/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <string.h>

#include "hsm/role.h"

/* Key pairs of devices: what goes over the wire is sealed, or public. */

/* Two runs of bytes. */
struct two {
    struct cc_buf first, second;
};

#define TWO_INIT                                                                                   \
    {                                                                                              \
        .first = CC_BUF_INIT(WIRE_FRAME_MAX), .second = CC_BUF_INIT(WIRE_FRAME_MAX)                \
    }

static int
read_two(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct two *two = arg;

    if (hsm_read_into_buf(rest, &two->first, err) != 0)
        return -1;
    return hsm_read_into_buf(rest, &two->second, err);
}

static int
put_bytes(struct cc_buf *call, struct cc_bytes bytes, struct cc_err *err)
{
    return wire_put_bytes(call, bytes.data, bytes.len, err);
}

/* Sends the call and appends what comes. */
static int
ask_two(struct hsm_key *seal, struct cc_buf *call, struct cc_buf *ret_first,
        struct cc_buf *ret_second, struct cc_err *err)
{
    struct two two = TWO_INIT;
    int rc = hsm_call(seal->hsm, seal, call, read_two, &two, err);

    if (rc == 0 && (cc_buf_add(ret_first, two.first.data, two.first.len, err) != 0 ||
                           cc_buf_add(ret_second, two.second.data, two.second.len, err) != 0))
        rc = -1;
    cc_buf_free(&two.first);
    cc_buf_free(&two.second);
    return rc;
}

int
hsm_device_key_new(struct hsm_key *seal, enum pki_keyspec spec, enum hsm_generation generation,
        struct cc_bytes context, struct cc_buf *ret_sealed, struct cc_buf *ret_spki,
        struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (hsm_key_check_use(seal, HSM_USE_SEAL, err) == 0 &&
            hsm_key_begin(&call, WIRE_DEVICE_KEY_NEW, err) == 0 &&
            wire_put_u8(&call, (uint8_t)spec, err) == 0 &&
            wire_put_u8(&call, (uint8_t)generation, err) == 0 &&
            put_bytes(&call, context, err) == 0)
        rc = ask_two(seal, &call, ret_sealed, ret_spki, err);
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(seal, "make a device's key", err);
}

int
hsm_device_key_csr(struct hsm_key *seal, struct cc_bytes context, struct cc_bytes sealed,
        struct cc_bytes subject, struct cc_bytes extensions, struct cc_buf *ret_csr,
        struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), csr = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (hsm_key_check_use(seal, HSM_USE_SEAL, err) == 0 &&
            hsm_key_begin(&call, WIRE_DEVICE_KEY_CSR, err) == 0 &&
            put_bytes(&call, context, err) == 0 && put_bytes(&call, sealed, err) == 0 &&
            put_bytes(&call, subject, err) == 0 && put_bytes(&call, extensions, err) == 0 &&
            hsm_call(seal->hsm, seal, &call, hsm_read_into_buf, &csr, err) == 0)
        rc = cc_buf_add(ret_csr, csr.data, csr.len, err);
    cc_buf_free(&call);
    cc_buf_free(&csr);
    return rc == 0 ? 0 : hsm_key_in(seal, "sign a device's request", err);
}

static int
put_pfx(struct cc_buf *call, const struct hsm_device_pfx *parts, struct cc_err *err)
{
    if (parts->friendly_name != NULL && strlen(parts->friendly_name) >= WIRE_NAME_SIZE)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "a friendly name of %zu bytes",
                strlen(parts->friendly_name));
    if (hsm_key_begin(call, WIRE_DEVICE_KEY_PFX, err) != 0 ||
            put_bytes(call, parts->context, err) != 0 || put_bytes(call, parts->sealed, err) != 0 ||
            put_bytes(call, parts->certificate, err) != 0 ||
            put_bytes(call, parts->chain, err) != 0 ||
            wire_put_str(call, parts->friendly_name, err) != 0 ||
            wire_put_u8(call, (uint8_t)parts->encryption, err) != 0 ||
            put_bytes(call, parts->recipient, err) != 0 ||
            wire_put_u8(call, (uint8_t)parts->form, err) != 0)
        return -1;
    return wire_put_u8(call, (uint8_t)parts->cipher, err);
}

int
hsm_device_key_pfx(struct hsm_key *seal, const struct hsm_device_pfx *parts, struct cc_buf *ret_pfx,
        struct cc_buf *ret_password, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (hsm_key_check_use(seal, HSM_USE_SEAL, err) == 0 && put_pfx(&call, parts, err) == 0)
        rc = ask_two(seal, &call, ret_pfx, ret_password, err);
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(seal, "make a device's PFX", err);
}
