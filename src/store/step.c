/* SPDX-License-Identifier: MIT */
#include "store_int.h"

#include "base/failpoint.h"

#ifdef CC_FAILPOINTS

#undef db_write

/* An error behind the commit is one whose answer was lost. */
int
db_write_step(struct db *db, const char *step, db_fn fn, void *arg, struct cc_err *err)
{
    if (CC_FAILPOINT("store", step, "before"))
        return cc_err_set(err, CC_DOM_STORE, DB_FAULT_AWAY, "fail point before %s", step);
    if (db_write(db, fn, arg, err) != 0)
        return -1;
    if (CC_FAILPOINT("store", step, "after"))
        return cc_err_set(err, CC_DOM_STORE, DB_FAULT_UNKNOWN, "fail point after %s", step);
    return 0;
}

#endif
