/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <string.h>

#include "base/json.h"
#include "base/text.h"

void
pkcs_note_init(struct pkcs_note *note)
{
    *note = (struct pkcs_note){ .ca = "" };
    cc_buf_init(&note->sealed, PKCS_SEALED_MAX);
    cc_buf_init(&note->csr, PKCS_CSR_MAX);
}

void
pkcs_note_free(struct pkcs_note *note)
{
    cc_buf_free(&note->sealed);
    cc_buf_free(&note->csr);
}

int
pkcs_note_write(const struct pkcs_note *note, struct cc_buf *ret_text, struct cc_err *err)
{
    json_object *json = json_object_new_object();
    const char *pending = note->pending[0] != '\0' ? note->pending : NULL;
    int rc = -1;

    if (cc_json_add_str(json, "caRequestId", note->ca_request_id, err) == 0 &&
            cc_json_add_str(json, "ca", note->ca, err) == 0 &&
            cc_json_add_str(json, "keyId", note->key_id, err) == 0 &&
            cc_json_add_base64(json, "sealedKey", note->sealed.data, note->sealed.len, err) == 0 &&
            cc_json_add_base64(json, "csr", note->csr.data, note->csr.len, err) == 0 &&
            cc_json_add_str(json, "pending", pending, err) == 0)
        rc = cc_json_write(json, ret_text, err);
    json_object_put(json);
    return rc;
}

static int
read_text(json_object *json, const char *name, char *ret, size_t size, struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_str(json, name, size - 1, &text, err) != 0)
        return -1;
    (void)cc_strcpy(ret, size, text != NULL ? text : "");
    return 0;
}

int
pkcs_note_read(const char *text, struct pkcs_note *ret, struct cc_err *err)
{
    json_object *json = cc_json_parse(text, strlen(text), err);
    int rc = -1;

    if (json != NULL &&
            read_text(json, "caRequestId", ret->ca_request_id, sizeof(ret->ca_request_id), err) ==
                    0 &&
            read_text(json, "ca", ret->ca, sizeof(ret->ca), err) == 0 &&
            read_text(json, "keyId", ret->key_id, sizeof(ret->key_id), err) == 0 &&
            read_text(json, "pending", ret->pending, sizeof(ret->pending), err) == 0 &&
            cc_json_get_base64(json, "sealedKey", &ret->sealed, err) == 0)
        rc = cc_json_get_base64(json, "csr", &ret->csr, err);
    json_object_put(json);
    return rc == 0 ? 0 : cc_err_in(err, "what the journal holds of a request");
}
