/* SPDX-License-Identifier: MIT */
#include "hsm/token/module.h"

#include <dlfcn.h>

#include "base/text.h"
#include "hsm/hsm.h"
#include "hsm/token/ckr.h"

#define SLOTS_MAX 256

static int
module_refuse(struct cc_err *err, const char *what, const char *text)
{
    char shown[200];

    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%s: %s", what,
            cc_escape_into(shown, sizeof(shown), text));
}

int
p11_module_load(const char *path, void **ret_library, CK_C_GetFunctionList *ret_get,
        struct cc_err *err)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    union {
        void *symbol;
        CK_C_GetFunctionList function;
    } get;

    if (library == NULL)
        /* The C library keeps one text a thread: NOLINTNEXTLINE(concurrency-mt-unsafe) */
        return module_refuse(err, "PKCS#11 module", dlerror());
    if ((get.symbol = dlsym(library, "C_GetFunctionList")) == NULL) {
        (void)dlclose(library);
        return module_refuse(err, "not a PKCS#11 module", path);
    }
    *ret_library = library;
    *ret_get = get.function;
    return 0;
}

/* NSS's own form of this structure is longer and read to its end, so zeroes follow. */
struct module_args {
    CK_C_INITIALIZE_ARGS args;
    void *more[4];
};

CK_RV
p11_initialize(CK_FUNCTION_LIST *f, char *init_args)
{
    struct module_args init = { 0 };
    CK_RV rv;

    init.args.flags = CKF_OS_LOCKING_OK;
    init.args.pReserved = init_args;
    rv = f->C_Initialize(&init.args);
    return rv == CKR_CRYPTOKI_ALREADY_INITIALIZED ? CKR_OK : rv;
}

int
p11_find_slot(CK_FUNCTION_LIST *f, const struct p11_uri *uri, CK_FLAGS flags, CK_SLOT_ID *ret_slot,
        CK_TOKEN_INFO *ret_info, struct cc_err *err)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    unsigned found = 0;
    CK_RV rv;

    if ((rv = f->C_GetSlotList(CK_TRUE, slots, &count)) != CKR_OK)
        return ckr_err(err, rv, "C_GetSlotList");
    for (CK_ULONG i = 0; i < count && i < SLOTS_MAX; i++) {
        CK_TOKEN_INFO info = { 0 };

        if (f->C_GetTokenInfo(slots[i], &info) != CKR_OK || (info.flags & flags) != flags ||
                !p11_uri_names_token(uri, slots[i], &info))
            continue;
        found++;
        *ret_slot = slots[i];
        *ret_info = info;
    }
    if (found == 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "no initialised token has this URI (%lu slots with a token)", count);
    if (found > 1)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "%u tokens have this URI; add serial=", found);
    return 0;
}
