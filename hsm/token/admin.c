/* SPDX-License-Identifier: MIT */
#include "hsm/token/serve.h"

#include "hsm/hsm.h"
#include "hsm/wire.h"

/* By operation, from WIRE_ADMIN_LIST_TOKENS; provisioning adds its own. */
static const struct {
    uint8_t op;
    enum serve_outcome (*serve)(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err);
} admin_ops[] = {
    { 0, NULL },
};

enum serve_outcome
admin_dispatch(uint8_t op, struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(admin_ops); i++)
        if (admin_ops[i].op == op && admin_ops[i].serve != NULL)
            return admin_ops[i].serve(args, reply, err);
    cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "unknown administration %u", op);
    return SERVE_FAILED;
}
