/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <stdlib.h>
#include <string.h>

static void
take_bytes(struct cc_bytes *bytes, uint8_t **place)
{
    if (bytes->len == 0)
        return;
    memcpy(*place, bytes->data, bytes->len);
    bytes->data = *place;
    *place += bytes->len;
}

static void
take_text(const char **text, uint8_t **place)
{
    struct cc_bytes bytes;

    if (*text == NULL)
        return;
    bytes = (struct cc_bytes){ (const uint8_t *)*text, strlen(*text) + 1 };
    take_bytes(&bytes, place);
    *text = (const char *)bytes.data;
}

static size_t
size_of(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

struct scepdb_row *
row_copy(const struct scepdb_row *row)
{
    const size_t size = row->id.len + row->key_hash.len + row->csr.len + row->certificate.len +
                        size_of(row->profile) + size_of(row->transaction_id) + size_of(row->ca) +
                        size_of(row->ca_request_id) + size_of(row->pending) + size_of(row->detail);
    struct scepdb_row *copy = malloc(sizeof(*copy) + size);
    uint8_t *place;

    if (copy == NULL)
        return NULL;
    *copy = *row;
    place = (uint8_t *)(copy + 1);
    take_bytes(&copy->id, &place);
    take_bytes(&copy->key_hash, &place);
    take_bytes(&copy->csr, &place);
    take_bytes(&copy->certificate, &place);
    take_text(&copy->profile, &place);
    take_text(&copy->transaction_id, &place);
    take_text(&copy->ca, &place);
    take_text(&copy->ca_request_id, &place);
    take_text(&copy->pending, &place);
    take_text(&copy->detail, &place);
    return copy;
}
