/* SPDX-License-Identifier: MIT */
/* The identity of an instance whose parts could not all be started. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/daemon_int.h"

/* It is closed without having been started, and seen by who asks for the status until then. */
static void
status_of_one_that_was_never_started(void **state)
{
    /* A token that never comes. */
    const struct hsm_settings token = { .helper = "/bin/false",
        .module = "/bin/false",
        .uri = "pkcs11:token=none",
        .pin = "file:/nonexistent",
        .sessions = 1 };
    struct config_pair key = { .name = IDENTITY, .value = "pkcs11:object=identity" };
    const struct config config = { .connector = { .name = "dc1",
                                           .features = CONFIG_PFX_IMPORT,
                                           .state_directory = "/nonexistent" },
        .keys = &key,
        .key_count = 1 };
    struct daemon d = { .name = "dc1" };
    struct identity *identity = NULL;
    struct identity_status status;
    struct hsm *hsm = NULL;
    struct cc_err err = { 0 };

    (void)state;
    if (hsm_open(&token, &hsm, &err) != 0 || identity_open(&d, hsm, &config, &identity, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_non_null(identity);
    identity_get_status(identity, &status);
    assert_false(status.enrolled);
    identity_stop(identity);
    identity_close(identity);
    hsm_close(hsm);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_of_one_that_was_never_started),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
