/* SPDX-License-Identifier: MIT */
#include "hsm/token/attr.h"

CK_ATTRIBUTE
p11_attr(CK_ATTRIBUTE_TYPE type, const void *data, size_t len)
{
    CK_ATTRIBUTE attr = { .type = type, .ulValueLen = len };
    union {
        const void *in;
        void *out;
    } value = { .in = data }; /* PKCS#11 has no const; templates are only read */

    attr.pValue = value.out;
    return attr;
}

CK_RV
p11_attr_read(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
        CK_ATTRIBUTE_TYPE type, struct cc_buf *ret)
{
    CK_ATTRIBUTE attr = { .type = type };
    CK_ULONG room;
    CK_RV rv;

    if ((rv = f->C_GetAttributeValue(session, object, &attr, 1)) != CKR_OK)
        return rv;
    if (attr.ulValueLen == CK_UNAVAILABLE_INFORMATION || attr.ulValueLen == 0)
        return CKR_ATTRIBUTE_TYPE_INVALID;
    if (attr.ulValueLen > P11_ATTR_MAX)
        return CKR_DATA_LEN_RANGE;
    room = attr.ulValueLen;
    if ((attr.pValue = cc_buf_reserve(ret, room, NULL)) == NULL)
        return CKR_HOST_MEMORY;
    if ((rv = f->C_GetAttributeValue(session, object, &attr, 1)) != CKR_OK)
        return rv;
    if (attr.ulValueLen > room)
        return CKR_DATA_LEN_RANGE;
    ret->len += attr.ulValueLen;
    return CKR_OK;
}

CK_RV
p11_attr_read_ulong(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
        CK_ATTRIBUTE_TYPE type, CK_ULONG *ret)
{
    CK_ULONG value = 0;
    CK_ATTRIBUTE attr = { .type = type, .pValue = &value, .ulValueLen = sizeof(value) };
    CK_RV rv;

    if ((rv = f->C_GetAttributeValue(session, object, &attr, 1)) != CKR_OK)
        return rv;
    if (attr.ulValueLen != sizeof(value))
        return CKR_ATTRIBUTE_TYPE_INVALID;
    *ret = value;
    return CKR_OK;
}

CK_RV
p11_find(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
        CK_ULONG attributes, CK_OBJECT_HANDLE *ret_handles, CK_ULONG max, CK_ULONG *ret_count)
{
    CK_ULONG total = 0, count;
    CK_RV rv, final_rv;

    if ((rv = f->C_FindObjectsInit(session, template, attributes)) != CKR_OK)
        return rv;
    /* A token may give fewer than there are; only none is the end. */
    do {
        count = 0;
        rv = f->C_FindObjects(session, ret_handles + total, max - total, &count);
        total += count;
    } while (rv == CKR_OK && count > 0 && total < max);
    final_rv = f->C_FindObjectsFinal(session);
    *ret_count = total;
    return rv != CKR_OK ? rv : final_rv;
}
