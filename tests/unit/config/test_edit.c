/* SPDX-License-Identifier: MIT */
#include "config/edit.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/file.h"

/* The how manieth time, from now on, that the names in a folder cannot be made durable; 0: never. */
static int folder_fails;

int
fsync(int fd)
{
    struct stat info;

    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) && folder_fails > 0 && --folder_fails == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

#define BASE                                                                                       \
    "; what this is\n"                                                                             \
    "[token]\n"                                                                                    \
    "uri = pkcs11:token=certconnector ; the one\n"                                                 \
    "  pin: file:/etc/certconnector/token.pin\n"                                                   \
    "\n"                                                                                           \
    "[log]\n"                                                                                      \
    "# not much\n"                                                                                 \
    "debug=none\n"

struct folder {
    char path[64];
    char conf[96];
    char drop_in[128];
};

static int
set_up(void **state)
{
    struct folder *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)snprintf(f->path, sizeof(f->path), "/tmp/certconnector-edit.XXXXXX");
    assert_non_null(mkdtemp(f->path));
    (void)snprintf(f->conf, sizeof(f->conf), "%s/c.conf", f->path);
    (void)snprintf(f->drop_in, sizeof(f->drop_in), "%s.d/50-site.conf", f->conf);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct folder *f = *state;
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void
put(const char *path, const char *text)
{
    assert_int_equal(cc_file_replace(path, text, strlen(text), 0640, NULL), 0);
}

static void
put_drop_in(const struct folder *f, const char *text)
{
    char folder[128];

    (void)snprintf(folder, sizeof(folder), "%s.d", f->conf);
    assert_int_equal(mkdir(folder, 0755), 0);
    put(f->drop_in, text);
}

static void
want_file(const char *path, const char *want)
{
    struct cc_buf text = CC_BUF_INIT(1 << 20);

    assert_int_equal(cc_file_read(path, &text, NULL), 0);
    assert_string_equal(cc_buf_str(&text), want);
    cc_buf_free(&text);
}

static struct config_edit *
open_edit(const struct folder *f)
{
    struct config_edit *edit = NULL;
    struct cc_err err = { 0 };

    if (config_edit_open(f->conf, &edit, &err) != 0)
        fail_msg("%s", err.text);
    return edit;
}

static void
apply(struct config_edit *edit, const struct config_change *changes, size_t count)
{
    struct cc_err err = { 0 };

    if (config_edit_apply(edit, changes, count, &err) != 0)
        fail_msg("%s", err.text);
}

static void
write_edit(struct config_edit *edit)
{
    struct cc_err err = { 0 };

    if (config_edit_write(edit, "root", NULL, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

/* ---- what becomes of a text ---- */

static const struct {
    const char *before;
    struct config_change changes[3];
    const char *want;
} cases[] = {
    { BASE, { { "log.debug", "all" } },
            "; what this is\n[token]\nuri = pkcs11:token=certconnector ; the one\n"
            "  pin: file:/etc/certconnector/token.pin\n\n[log]\n# not much\ndebug=all\n" },
    { BASE, { { "token.uri", "pkcs11:token=other" }, { "token.pin", "credential:pin" } },
            "; what this is\n[token]\nuri = pkcs11:token=other ; the one\n"
            "  pin: credential:pin\n\n[log]\n# not much\ndebug=none\n" },
    { BASE, { { "token.sessions", "7" } },
            "; what this is\n[token]\nuri = pkcs11:token=certconnector ; the one\n"
            "  pin: file:/etc/certconnector/token.pin\nsessions = 7\n\n[log]\n# not much\ndebug=none\n" },
    { BASE, { { "log.debug", NULL } },
            "; what this is\n[token]\nuri = pkcs11:token=certconnector ; the one\n"
            "  pin: file:/etc/certconnector/token.pin\n\n[log]\n# not much\n" },
    { BASE, { { "service.proxy", NULL } }, BASE },
    { BASE, { { "log.debug", "none" } }, BASE },
    { "", { { "log.debug", "all" }, { "token.uri", "pkcs11:token=a" } },
            "[token]\nuri = pkcs11:token=a\n\n[log]\ndebug = all\n" },
    { "[token]\nuri = a", { { "token.pin", "file:/p" } }, "[token]\nuri = a\npin = file:/p\n" },
    { "[token]\r\nuri = a\r\n", { { "token.pin", "file:/p" }, { "token.uri", "b" } },
            "[token]\r\nuri = b\r\npin = file:/p\r\n" },
    { "[token]\n", { { "token.uri", "a" } }, "[token]\nuri = a\n" },
    { "[ca  \"corp\"]\nkind = local\n", { { "ca.corp.digest", "sha384" } },
            "[ca  \"corp\"]\nkind = local\ndigest = sha384\n" },
    { "[ca \"corp\"]\nkind = local\n", { { "ca.other.kind", "local" } },
            "[ca \"corp\"]\nkind = local\n\n[ca \"other\"]\nkind = local\n" },
    { "[keys]\nca = x\n", { { "key-alias.Contoso HSM/Key.1", "pkcs11:object=y" } },
            "[keys]\nca = x\n\n[key-alias]\nContoso HSM/Key.1 = pkcs11:object=y\n" },
    { "[log]\ndebug = none\n[token]\nuri = a\n[log]\njournald = no\n",
            { { "log.debug", "all" }, { "log.max-size", "1M" } },
            "[log]\ndebug = all\n[token]\nuri = a\n[log]\njournald = no\nmax-size = 1M\n" },
    { "[log]\ndebug =\n", { { "log.debug", "all" } }, "[log]\ndebug =all\n" },
};

static void
test_text(void **state)
{
    const struct folder *f = *state;

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct config_edit *edit;
        size_t count = 0;

        while (count < CC_COUNT(cases[i].changes) && cases[i].changes[count].name != NULL)
            count++;
        put(f->conf, cases[i].before);
        edit = open_edit(f);
        apply(edit, cases[i].changes, count);
        assert_int_equal(config_edit_changed(edit), strcmp(cases[i].before, cases[i].want) != 0);
        write_edit(edit);
        config_edit_close(edit);
        want_file(f->conf, cases[i].want);
    }
}

/* ---- drop-ins ---- */

static void
test_drop_in(void **state)
{
    static const struct config_change set[] = { { "log.debug", "all" }, { "log.journald", "no" } };
    static const struct config_change unset[] = { { "log.debug", NULL } };
    const struct folder *f = *state;
    struct config_edit *edit;
    char *value = NULL;

    put(f->conf, BASE);
    put_drop_in(f, "[log]\ndebug = admin\n");
    edit = open_edit(f);
    apply(edit, set, CC_COUNT(set));
    write_edit(edit);
    config_edit_close(edit);
    want_file(f->drop_in, "[log]\ndebug = all\n");
    want_file(f->conf, BASE "journald = no\n");

    edit = open_edit(f);
    assert_int_equal(config_edit_get(edit, "log.debug", &value, NULL), 0);
    assert_string_equal(value, "all");
    free(value);
    apply(edit, unset, 1);
    assert_int_equal(config_edit_get(edit, "log.debug", &value, NULL), 0);
    assert_null(value);
    write_edit(edit);
    config_edit_close(edit);
    want_file(f->drop_in, "[log]\n");
}

/* ---- any values in any text ---- */

static uint64_t seed;

static unsigned
any(unsigned below)
{
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(seed >> 33) % below;
}

static const char *const names[] = { "connector.name", "token.uri", "service.proxy", "log.debug",
    "ca.corp.kind", "profile.a.validity", "keys.ca", "key-alias.Contoso HSM/Key=1.b" };
#define NAMES (CC_COUNT(names) - 1) /* an "=" ends a name of a setting in a file */

static void
random_value(char *ret, size_t size)
{
    static const char letters[] = "abc/:=;# \t\"'[]\\,.%\xc3\xa4";
    size_t len = any((unsigned)size - 1);

    for (size_t i = 0; i < len; i++)
        ret[i] = letters[any(sizeof(letters) - 1)];
    ret[len] = '\0';
}

static void
random_text(char *ret, size_t size)
{
    static const char *const lines[] = { "; comment", "# another", "", "[token]", "[service]",
        "[log] ; here", "[keys]", "[ca \"corp\"]", "uri = pkcs11:token=a",
        "  proxy: http://p:1 ; x", "debug=none", "ca =\tpkcs11:object=ca", "kind = local",
        "nonsense = 7" };
    size_t len = 0;

    len += (size_t)snprintf(ret, size, "[connector]\n");
    for (unsigned i = any(20); i > 0; i--)
        len += (size_t)snprintf(ret + len, size - len, "%s%s", lines[any(CC_COUNT(lines))],
                any(8) == 0 ? "\r\n" : "\n");
    if (any(4) == 0)
        ret[len - 1] = '\0';
}

/* The lines of a text, their ends not counted; how many. */
static size_t
split_lines(const char *text, const char **lines, size_t *lens)
{
    size_t count = 0;

    while (*text != '\0') {
        lines[count] = text;
        lens[count] = strcspn(text, "\r\n");
        count++;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return count;
}

/* How many lines of a do not stand in b as they are, in their order. */
static size_t
lines_gone(const char *a, const char *b)
{
    const char *old[64], *now[64];
    size_t old_len[64], now_len[64];
    size_t common[65][65] = { 0 };
    size_t olds = split_lines(a, old, old_len), nows = split_lines(b, now, now_len);

    for (size_t i = 1; i <= olds; i++) {
        for (size_t j = 1; j <= nows; j++) {
            size_t longer =
                    common[i - 1][j] > common[i][j - 1] ? common[i - 1][j] : common[i][j - 1];
            bool same = old_len[i - 1] == now_len[j - 1] &&
                        memcmp(old[i - 1], now[j - 1], old_len[i - 1]) == 0;

            common[i][j] = same ? common[i - 1][j - 1] + 1 : longer;
        }
    }
    return olds - common[olds][nows];
}

static void
check_random(const struct folder *f)
{
    char before[1024], value[24];
    const char *name = names[any(NAMES)];
    const struct config_change change = { name, value };
    struct config_edit *edit;
    struct cc_buf after = CC_BUF_INIT(1 << 16);
    struct cc_err err = { 0 };
    char *read_back = NULL;

    random_text(before, sizeof(before));
    random_value(value, sizeof(value));
    put(f->conf, before);
    edit = open_edit(f);
    if (config_edit_apply(edit, &change, 1, &err) != 0) {
        /* it says so, and only of a value that no line can hold */
        assert_non_null(strstr(err.text, "cannot stand in a file"));
        assert_true(value[0] == '\0' || strchr(" \t", value[0]) != NULL ||
                    strchr(" \t", value[strlen(value) - 1]) != NULL || value[0] == ';' ||
                    strstr(value, " ;") != NULL || strstr(value, "\t;") != NULL);
        config_edit_close(edit);
        return;
    }
    write_edit(edit);
    config_edit_close(edit);
    edit = open_edit(f);
    assert_int_equal(config_edit_get(edit, name, &read_back, NULL), 0);
    assert_non_null(read_back);
    assert_string_equal(read_back, value);
    free(read_back);
    config_edit_close(edit);

    assert_int_equal(cc_file_read(f->conf, &after, NULL), 0);
    assert_true(lines_gone(before, cc_buf_str(&after)) <= 1);
    cc_buf_free(&after);
}

static void
test_any(void **state)
{
    seed = 4711;
    for (int i = 0; i < 3000; i++)
        check_random(*state);
}

/* The order in which changes are told does not matter. */
static void
test_order(void **state)
{
    struct config_change changes[] = { { "log.debug", "all" },
        { "keys.seal", "pkcs11:object=seal" }, { "keys.ca", "pkcs11:object=ca" },
        { "token.uri", "pkcs11:token=a" }, { "profile.b.validity", "1d" },
        { "profile.a.validity", "1d" }, { "service.tenant", "t" } };
    const struct folder *f = *state;

    for (int i = 0; i < 50; i++) {
        struct config_edit *edit;
        unsigned one = any(CC_COUNT(changes)), other = any(CC_COUNT(changes));
        struct config_change swap = changes[one];

        changes[one] = changes[other];
        changes[other] = swap;
        (void)unlink(f->conf);
        edit = open_edit(f);
        apply(edit, changes, CC_COUNT(changes));
        write_edit(edit);
        config_edit_close(edit);
        want_file(f->conf,
                "[token]\nuri = pkcs11:token=a\n\n[service]\ntenant = t\n\n[keys]\n"
                "ca = pkcs11:object=ca\nseal = pkcs11:object=seal\n\n[log]\ndebug = all\n\n"
                "[profile \"a\"]\nvalidity = 1d\n\n[profile \"b\"]\nvalidity = 1d\n");
    }
}

static void
test_twice(void **state)
{
    static const struct config_change changes[] = { { "log.debug", "all" },
        { "log.debug", "none" } };
    struct config_edit *edit = open_edit(*state);
    struct cc_err err = { 0 };

    assert_int_equal(config_edit_apply(edit, changes, 2, &err), -1);
    assert_string_equal(err.text, "log.debug is changed twice; say it once");
    config_edit_close(edit);
}

/* ---- writing ---- */

static void
test_owner_and_previous(void **state)
{
    static const struct config_change changes[] = { { "log.debug", "all" } };
    const struct folder *f = *state;
    const uid_t owner = geteuid() == 0 ? 65534 : geteuid();
    char previous[128];
    struct config_edit *edit;
    struct stat info;

    put(f->conf, BASE);
    assert_int_equal(chmod(f->conf, 0604), 0);
    assert_int_equal(chown(f->conf, owner, (gid_t)-1), 0);
    edit = open_edit(f);
    apply(edit, changes, 1);
    write_edit(edit);

    (void)snprintf(previous, sizeof(previous), "%s.previous", f->conf);
    want_file(previous, BASE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stat(i == 0 ? f->conf : previous, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0604);
        assert_int_equal(info.st_uid, owner);
    }
    assert_int_equal(config_edit_undo(edit, NULL), 0);
    want_file(f->conf, BASE);
    config_edit_close(edit);
}

static void
test_new_file_and_undo(void **state)
{
    static const struct config_change changes[] = { { "log.debug", "all" } };
    const struct folder *f = *state;
    struct config_edit *edit = open_edit(f);
    struct stat info;

    apply(edit, changes, 1);
    write_edit(edit);
    assert_int_equal(stat(f->conf, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(config_edit_undo(edit, NULL), 0);
    assert_int_equal(access(f->conf, F_OK), -1);
    config_edit_close(edit);
}

/* What was renamed and may be lost at the next power cut is no change that was made. */
static void
test_not_durable(void **state)
{
    const struct folder *f = *state;
    const struct config_change change = { "log.debug", "all" };

    for (int exists = 0; exists < 2; exists++) {
        struct config_edit *edit;
        struct cc_err err = { 0 };

        if (exists)
            put(f->conf, BASE);
        edit = open_edit(f);
        apply(edit, &change, 1);
        folder_fails = exists ? 2 : 1; /* FILE.previous comes first */
        assert_int_equal(config_edit_write(edit, "root", NULL, NULL, &err), -1);
        assert_int_equal(folder_fails, 0);
        assert_non_null(strstr(err.text, "fsync"));
        config_edit_close(edit);
        if (exists)
            want_file(f->conf, BASE);
        else
            assert_int_equal(access(f->conf, F_OK), -1);
    }
}

static void
test_changed_meanwhile(void **state)
{
    static const struct config_change changes[] = { { "log.debug", "all" } };
    const struct folder *f = *state;
    struct config_edit *edit;
    struct cc_err err = { 0 };

    put(f->conf, BASE);
    edit = open_edit(f);
    apply(edit, changes, 1);
    put(f->conf, BASE "; another hand\n");
    assert_int_equal(config_edit_write(edit, "root", NULL, NULL, &err), -1);
    assert_non_null(strstr(err.text, "changed by somebody else"));
    want_file(f->conf, BASE "; another hand\n");
    config_edit_close(edit);
}

static void
test_link(void **state)
{
    static const struct config_change changes[] = { { "log.debug", "all" } };
    const struct folder *f = *state;
    struct config_edit *edit;
    char real[128];
    struct stat info;

    (void)snprintf(real, sizeof(real), "%s/real", f->path);
    put(real, BASE);
    assert_int_equal(symlink(real, f->conf), 0);
    edit = open_edit(f);
    apply(edit, changes, 1);
    write_edit(edit);
    config_edit_close(edit);
    assert_int_equal(lstat(f->conf, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

/* ---- looking ---- */

static void
test_diff(void **state)
{
    static const struct config_change changes[] = { { "token.uri", "pkcs11:token=b" },
        { "log.debug", NULL }, { "service.tenant", "t" } };
    const struct folder *f = *state;
    struct cc_buf diff = CC_BUF_INIT(4096), want = CC_BUF_INIT(4096);
    struct config_edit *edit;

    put(f->conf, BASE);
    edit = open_edit(f);
    assert_int_equal(config_edit_diff(edit, &diff, NULL), 0);
    assert_int_equal(diff.len, 0);
    apply(edit, changes, CC_COUNT(changes));
    assert_int_equal(config_edit_diff(edit, &diff, NULL), 0);
    assert_int_equal(cc_buf_printf(&want, NULL,
                             "--- %s\n+++ %s\n"
                             " [token]\n"
                             "-uri = pkcs11:token=certconnector ; the one\n"
                             "+uri = pkcs11:token=b ; the one\n"
                             " [log]\n"
                             "-debug=none\n"
                             "+\n"
                             "+[service]\n"
                             "+tenant = t\n",
                             f->conf, f->conf),
            0);
    assert_string_equal(cc_buf_str(&diff), cc_buf_str(&want));
    cc_buf_free(&diff);
    cc_buf_free(&want);
    config_edit_close(edit);
}

static void
test_load(void **state)
{
    static const struct config_change bad[] = { { "log.debug", "much" } };
    static const struct config_change good[] = { { "log.debug", "all" } };
    const struct folder *f = *state;
    struct config *config = NULL;
    struct config_edit *edit;
    struct cc_err err = { 0 };
    char want[256];

    put(f->conf, BASE);
    edit = open_edit(f);
    apply(edit, bad, 1);
    assert_int_equal(config_edit_load(edit, &config, &err), -1);
    (void)snprintf(want, sizeof(want), "%s:8: [log] debug: \"much\" is no choice", f->conf);
    assert_memory_equal(err.text, want, strlen(want));
    apply(edit, good, 1);
    assert_int_equal(config_edit_load(edit, &config, NULL), 0);
    assert_int_equal(config->log.debug, CONFIG_DEBUG_ALL);
    config_free(config);
    config_edit_close(edit);
}

static void
test_first(void **state)
{
    const struct folder *f = *state;
    struct config_edit *edit;
    char *name = NULL;

    put(f->conf, "[profile \"p\"]\n[ca \"one\"]\nkind = local\n[ca \"two\"]\nkind = local\n");
    edit = open_edit(f);
    assert_int_equal(config_edit_first(edit, "ca", &name, NULL), 0);
    assert_string_equal(name, "one");
    free(name);
    assert_int_equal(config_edit_first(edit, "scep-profile", &name, NULL), 0);
    assert_null(name);
    config_edit_close(edit);
}

static void
test_settings(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_string_equal(config_default("log.max-size"), "50M");
    assert_null(config_default("service.proxy"));
    assert_null(config_default("nothing.at-all"));
    assert_string_equal(config_default("profile.x.validity"), "365d");
    assert_string_equal(config_example("keys.ca"), "pkcs11:object=pfx-import");
    assert_int_equal(config_check_setting("service.proxy=http://p:3128", NULL), 0);
    assert_int_equal(config_check_setting("service.proxi=http://p:3128", &err), -1);
    assert_non_null(strstr(err.text, "did you mean proxy?"));
    cc_err_clear(&err);
    assert_int_equal(config_check_setting("ca.corp=x", &err), -1);
    assert_non_null(strstr(err.text, "ca.NAME.KEY=VALUE"));
}

static void
test_bad_file(void **state)
{
    const struct folder *f = *state;
    struct config_edit *edit = NULL;
    struct cc_err err = { 0 };

    put(f->conf, "[token]\nthis is no line\n");
    assert_int_equal(config_edit_open(f->conf, &edit, &err), -1);
    assert_non_null(strstr(err.text, ":2: this line is neither"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owner_and_previous, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_file_and_undo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_diff, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_first, set_up, tear_down),
        cmocka_unit_test(test_settings),
        cmocka_unit_test_setup_teardown(test_bad_file, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
