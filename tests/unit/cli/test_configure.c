/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/secret.h"
#include "base/text.h"
#include "cli/configure.h"
#include "http/listener.h"

/* ---- a file system that fails, or cannot exchange two names ---- */

static const char *_Atomic fails_to; /* what nothing can be renamed to; NULL: all is well */
static bool cannot_exchange;

static int
rename_for_real(const char *from, const char *to, unsigned flags)
{
    const char *fails = fails_to;

    if (fails != NULL && strcmp(to, fails) == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

int
rename(const char *from, const char *to)
{
    return rename_for_real(from, to, 0);
}

int
renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    (void)from_folder;
    (void)to_folder;
    if (cannot_exchange && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return rename_for_real(from, to, flags);
}

/* ---- which key a URI means ---- */

static void
test_key_of_uri(void **state)
{
    struct hsm_admin_key keys[] = {
        { .label = "seal", .id_hex = "0a0B", .object_class = "secret" },
        { .label = "of all; of none", .id_hex = "01", .object_class = "private" },
        { .label = "public", .id_hex = "02", .object_class = "public" },
    };
    const struct key_list list = { keys, 3 };
    static const struct {
        const char *uri;
        bool want;
    } cases[] = {
        { "pkcs11:object=seal", true },
        { "pkcs11:object=sea", false },
        { "pkcs11:object=seals", false },
        { "pkcs11:object=", false },
        { "pkcs11:token=x;object=seal;type=secret-key", true },
        { "pkcs11:object=seal?pin-source=file:x", true },
        { "pkcs11:id=%0a%0b", true },
        { "pkcs11:id=%0A%0b;object=seal", true },
        { "pkcs11:id=%0A%0b;object=other", false },
        { "pkcs11:id=%0", false },
        { "pkcs11:id=%", false },
        { "pkcs11:id=%zz", false },
        { "pkcs11:object=of%20all%3B%20of%20none", true },
        { "pkcs11:object=public", false },
        { "pkcs11:token=seal", false },
        { "pkcs11:xobject=seal", false },
        { "object=seal", false },
        { "pkcs11:", false },
        { "", false },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        if (key_list_has(&list, cases[i].uri) != cases[i].want)
            fail_msg("%s", cases[i].uri);
    }
}

static void
test_types_of_roles(void **state)
{
    (void)state;
    for (int role = 0; role < HSM_ROLE_COUNT; role++)
        assert_true(plan_role_takes((enum hsm_role)role, plan_usual_type((enum hsm_role)role)));
    assert_false(plan_role_takes(HSM_ROLE_SEAL, "rsa2048"));
    assert_false(plan_role_takes(HSM_ROLE_PFX_IMPORT, "ecP256"));
    assert_false(plan_role_takes(HSM_ROLE_CA, "rsa"));
    assert_false(plan_role_takes(HSM_ROLE_CA, ""));
}

static void
test_type_of_several_roles(void **state)
{
    static const struct {
        unsigned roles;
        const char *said_of_ca, *said_of_ocsp; /* NULL: nothing */
        const char *want;                      /* NULL: refused */
    } cases[] = {
        { 1U << HSM_ROLE_CA, NULL, NULL, "rsa4096" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, NULL, NULL, "rsa4096" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, "rsa2048", NULL, "rsa2048" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, "rsa3072", NULL, "rsa3072" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, NULL, "ecP384", "ecP384" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, "ecP384", "ecP384", "ecP384" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_OCSP, "rsa4096", "rsa2048", NULL },
        { 1U << HSM_ROLE_CA, "rsa3072", "rsa2048", "rsa3072" },
        { 1U << HSM_ROLE_SCEP_RA_ENCRYPT | 1U << HSM_ROLE_AUDIT, NULL, NULL, "rsa2048" },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_SCEP_RA_ENCRYPT, "ecP256", NULL, NULL },
        { 1U << HSM_ROLE_CA | 1U << HSM_ROLE_SEAL, NULL, NULL, NULL },
        { 1U << HSM_ROLE_SEAL, NULL, NULL, "aes256" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct plan plan = { .path = NULL };
        struct cc_err err = { 0 };
        const char *type;

        if (cases[i].said_of_ca != NULL)
            (void)cc_strcpy(plan.key_type[HSM_ROLE_CA], sizeof(plan.key_type[HSM_ROLE_CA]),
                    cases[i].said_of_ca);
        if (cases[i].said_of_ocsp != NULL)
            (void)cc_strcpy(plan.key_type[HSM_ROLE_OCSP], sizeof(plan.key_type[HSM_ROLE_OCSP]),
                    cases[i].said_of_ocsp);
        type = plan_key_type(&plan, cases[i].roles, &err);
        if ((type == NULL) != (cases[i].want == NULL) || (type == NULL) != (err.text[0] != '\0') ||
                (type != NULL && strcmp(type, cases[i].want) != 0))
            fail_msg("case %zu: %s (%s)", i, type != NULL ? type : "none", err.text);
    }
}

/* ---- the plan ---- */

struct setting {
    char folder[64], conf[96], secret[96], staged[112];
    struct plan plan;
};

static const struct cli_command command = { .name = "test" };

static int
set_up(void **state)
{
    struct setting *s = calloc(1, sizeof(*s));
    static const char text[] = "[log]\ndebug = all\n";

    assert_non_null(s);
    fails_to = NULL;
    cannot_exchange = false;
    (void)snprintf(s->folder, sizeof(s->folder), "/tmp/certconnector-plan.XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    (void)snprintf(s->conf, sizeof(s->conf), "%s/c.conf", s->folder);
    (void)snprintf(s->secret, sizeof(s->secret), "%s/secret", s->folder);
    (void)snprintf(s->staged, sizeof(s->staged), "%s.new", s->secret);
    assert_int_equal(cc_file_replace(s->conf, text, sizeof(text) - 1, 0640, NULL), 0);
    assert_int_equal(plan_open(&s->plan, &command, s->conf, NULL), 0);
    *state = s;
    return 0;
}

static int
tear_down(void **state)
{
    struct setting *s = *state;
    char shell[96];

    plan_close(&s->plan);
    (void)snprintf(shell, sizeof(shell), "rm -rf '%s'", s->folder);
    assert_int_equal(system(shell), 0);
    free(s);
    return 0;
}

static void
want_value(const struct plan *plan, const char *name, const char *want)
{
    char *value = NULL;

    assert_int_equal(plan_get(plan, name, &value, NULL), 0);
    if (want == NULL)
        assert_null(value);
    else
        assert_string_equal(value, want);
    free(value);
}

static void
test_changes(void **state)
{
    struct setting *s = *state;
    struct plan *plan = &s->plan;

    want_value(plan, "log.debug", "all");
    assert_int_equal(plan_set(plan, "log.debug", "all", NULL), 0);
    assert_int_equal(plan_set(plan, "log.journald", NULL, NULL), 0);
    assert_int_equal(plan->change_count, 0); /* what the file says anyway */
    assert_int_equal(plan_set(plan, "log.debug", "none", NULL), 0);
    assert_int_equal(plan_set(plan, "log.debug", "admin", NULL), 0);
    assert_int_equal(plan->change_count, 1);
    want_value(plan, "log.debug", "admin");
    assert_int_equal(plan_set(plan, "log.debug", NULL, NULL), 0);
    want_value(plan, "log.debug", NULL);
    assert_int_equal(plan_set(plan, "log.debug", "all", NULL), 0);
    assert_int_equal(plan->change_count, 0); /* and back again */
}

static void
stage(struct setting *s, const char *text)
{
    struct cc_secret *secret = cc_secret_copy(text, strlen(text), NULL);
    struct cc_err err = { 0 };

    if (plan_stage(&s->plan, s->secret, secret, &err) != 0)
        fail_msg("%s", err.text);
    cc_secret_free(secret);
}

static void
want_file(const char *path, const char *want)
{
    struct cc_buf text = CC_BUF_INIT(4096);

    if (want == NULL) {
        assert_int_equal(access(path, F_OK), -1);
        return;
    }
    assert_int_equal(cc_file_read(path, &text, NULL), 0);
    assert_string_equal(cc_buf_str(&text), want);
    cc_buf_free(&text);
}

static void
want_reference(const struct setting *s, const char *want_path)
{
    char reference[128], want[128], text[128];

    (void)snprintf(reference, sizeof(reference), "file:%s", s->secret);
    (void)snprintf(want, sizeof(want), "file:%s", want_path);
    assert_string_equal(plan_reference(&s->plan, reference, text, sizeof(text)), want);
}

/* before: what is in the file; NULL: there is none. */
static void
check_secret(struct setting *s, const char *before)
{
    struct stat info;

    stage(s, "mistyped");
    stage(s, "typed");
    want_file(s->secret, before);
    want_file(s->staged, "typed");
    want_reference(s, s->staged);
    assert_int_equal(stat(s->staged, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);

    assert_int_equal(plan_place_secrets(&s->plan, NULL), 0);
    want_file(s->secret, "typed");
    want_reference(s, s->secret);
    assert_int_equal(plan_return_secrets(&s->plan, NULL), 0);
    want_file(s->secret, before);

    stage(s, "again");
    assert_int_equal(plan_place_secrets(&s->plan, NULL), 0);
    plan_keep_secrets(&s->plan);
    want_file(s->secret, "again");
    want_file(s->staged, NULL);
    assert_int_equal(plan_return_secrets(&s->plan, NULL), 0);
    want_file(s->secret, "again");
}

static void
test_new_secret(void **state)
{
    check_secret(*state, NULL);
}

static void
test_other_secret(void **state)
{
    struct setting *s = *state;

    assert_int_equal(cc_file_replace(s->secret, "before\n", 7, 0600, NULL), 0);
    check_secret(s, "before\n");
}

/* The same, where what was typed can only replace the one before. */
static void
test_other_secret_without_exchange(void **state)
{
    struct setting *s = *state;
    char aside[128];

    cannot_exchange = true;
    test_other_secret(state);
    (void)snprintf(aside, sizeof(aside), "%s.before", s->secret);
    want_file(aside, NULL);

    /* what lies there is somebody's, and the only other way loses the one before */
    assert_int_equal(cc_file_replace(aside, "somebody's", 10, 0600, NULL), 0);
    stage(s, "typed");
    assert_int_equal(plan_place_secrets(&s->plan, NULL), -1);
    plan_close(&s->plan);
    want_file(s->secret, "again");
    want_file(aside, "somebody's");
    want_file(s->staged, NULL);
}

static void
test_given_up(void **state)
{
    struct setting *s = *state;

    stage(s, "typed");
    plan_close(&s->plan);
    want_file(s->secret, NULL);
    want_file(s->staged, NULL);
}

/* What was there before is not lost, whatever becomes of putting it back. */
static void
test_not_put_back(void **state)
{
    struct setting *s = *state;
    struct cc_err err = { 0 };

    assert_int_equal(cc_file_replace(s->secret, "before", 6, 0600, NULL), 0);
    stage(s, "typed");
    assert_int_equal(plan_place_secrets(&s->plan, NULL), 0);
    fails_to = s->secret;
    assert_int_equal(plan_return_secrets(&s->plan, &err), -1);
    assert_non_null(strstr(err.text, s->staged));
    plan_close(&s->plan);
    want_file(s->secret, "typed");
    want_file(s->staged, "before");
}

/* ---- carrying it out, beside a connector that runs ---- */

/* Of the connector: what it answers, and what breaks when it is asked. */
struct answer {
    unsigned status; /* 0: none, it ends the connection */
    const char *body;
    const char *breaks;
};
static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct answer running; /* guarded by running_lock */

static void
run_with(unsigned status, const char *body, const char *breaks)
{
    pthread_mutex_lock(&running_lock);
    running = (struct answer){ status, body, breaks };
    pthread_mutex_unlock(&running_lock);
}

static void
answer(void *arg, struct http_exchange *exchange)
{
    struct answer now;

    (void)arg;
    pthread_mutex_lock(&running_lock);
    now = running;
    pthread_mutex_unlock(&running_lock);
    fails_to = now.breaks;
    if (now.status == 0) {
        http_exchange_drop(exchange);
        return;
    }
    http_exchange_reply(exchange, now.status, NULL, 0, "application/json", now.body,
            strlen(now.body));
}

static struct http_listener *
start_connector(const struct setting *s)
{
    char listen[128];
    const struct http_listener_settings settings = { .listen = listen, .handler = answer };
    struct http_listener *listener = NULL;
    struct cc_err err = { 0 };

    (void)snprintf(listen, sizeof(listen), "unix:%s/control.sock", s->folder);
    if (http_listener_open(&settings, &listener, &err) != 0)
        fail_msg("%s", err.text);
    return listener;
}

#define CONFIGURATION                                                                              \
    "[connector]\nfeatures = pfx-import\nname = %s\ncontrol-socket = %s/control.sock\n"            \
    "[token]\nmodule = /nonexistent.so\nuri = pkcs11:token=x\npin = file:%s\n"                     \
    "[service]\ntenant = contoso.example\nclient-id = 11111111-2222-3333-4444-555555555555\n"      \
    "client-secret = file:%s\n"                                                                    \
    "[keys]\npfx-import = pkcs11:object=pfx\n"

static char before[1024], after[1024];

static int
set_up_machine(void **state)
{
    struct setting *s;

    if (set_up(state) != 0)
        return -1;
    s = *state;
    plan_close(&s->plan);
    (void)snprintf(before, sizeof(before), CONFIGURATION, "before", s->folder, s->secret,
            s->secret);
    (void)snprintf(after, sizeof(after), CONFIGURATION, "after", s->folder, s->secret, s->secret);
    assert_int_equal(cc_file_replace(s->conf, before, strlen(before), 0640, NULL), 0);
    assert_int_equal(cc_file_replace(s->secret, "before", 6, 0600, NULL), 0);
    assert_int_equal(plan_open(&s->plan, &command, s->conf, NULL), 0);
    return 0;
}

/* Another name and another secret. */
static int
carry_out(struct setting *s, struct cc_err *err)
{
    struct config_edit *edit = NULL;
    struct config *config = NULL;
    int rc;

    stage(s, "typed");
    if (plan_set(&s->plan, "connector.name", "after", err) != 0 ||
            plan_make(&s->plan, &edit, &config, err) != 0)
        fail_msg("%s", err->text);
    rc = configure_apply(&s->plan, edit, config, err);
    config_free(config);
    config_edit_close(edit);
    return rc;
}

/* A file that cannot be put back keeps no secret from it. */
static void
test_files_not_put_back(void **state)
{
    struct setting *s = *state;
    struct http_listener *listener = start_connector(s);
    struct cc_err err = { 0 };

    run_with(200, "{\"taken\": false, \"error\": \"it is of no use\"}", s->conf);
    assert_int_equal(carry_out(s, &err), -1);
    http_listener_close(listener);
    assert_non_null(strstr(err.text, "it is of no use"));
    if (strstr(err.text, "could be put back") == NULL)
        fail_msg("%s", err.text);
    want_file(s->secret, "before");
}

static void
check_outcome(struct setting *s, bool want_taken)
{
    struct cc_err err = { 0 };

    assert_int_equal(carry_out(s, &err), want_taken ? 0 : -1);
    want_file(s->secret, want_taken ? "typed" : "before");
    want_file(s->staged, NULL);
    want_file(s->conf, want_taken ? after : before);
}

static void
test_answers(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
        bool want_taken;
    } cases[] = {
        { 200, "{\"taken\": false}", false }, { 200, "nothing of the kind", false },
        { 500, "", false }, { 503, "", false },
        { 0, "", false },  /* it may take them all the same, and is told so */
        { 404, "", true }, /* from before there was an answer to give: after a restart */
    };
    struct setting *s = *state;
    struct http_listener *listener = start_connector(s);

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        run_with(cases[i].status, cases[i].body, NULL);
        check_outcome(s, cases[i].want_taken);
        assert_int_equal(cc_file_replace(s->secret, "before", 6, 0600, NULL), 0);
    }
    http_listener_close(listener);
}

static void
test_taken(void **state)
{
    struct setting *s = *state;
    struct http_listener *listener = start_connector(s);

    run_with(200, "{\"taken\": true}", NULL);
    check_outcome(s, true);
    http_listener_close(listener);
}

static void
test_nobody_runs(void **state)
{
    check_outcome(*state, true);
}

/* One that was killed leaves its socket. */
static void
test_nobody_runs_any_more(void **state)
{
    struct setting *s = *state;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", s->folder);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    (void)close(fd);
    check_outcome(s, true);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_of_uri),
        cmocka_unit_test(test_types_of_roles),
        cmocka_unit_test(test_type_of_several_roles),
        cmocka_unit_test_setup_teardown(test_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_secret, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_secret, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_secret_without_exchange, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_put_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_not_put_back, set_up_machine, tear_down),
        cmocka_unit_test_setup_teardown(test_answers, set_up_machine, tear_down),
        cmocka_unit_test_setup_teardown(test_taken, set_up_machine, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_runs, set_up_machine, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_runs_any_more, set_up_machine, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
