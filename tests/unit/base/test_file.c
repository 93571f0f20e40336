/* SPDX-License-Identifier: MIT */
#include "base/file.h"

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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path[80];

static int
make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/test_file.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/one", folder);
    return 0;
}

/* Fails when a test left anything but path behind. */
static int
drop_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

static void
check_file(const char *want, mode_t want_mode)
{
    struct cc_buf buf = CC_BUF_INIT(100000);
    struct stat st;

    assert_int_equal(cc_file_read(path, &buf, NULL), 0);
    assert_string_equal(cc_buf_str(&buf), want);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, want_mode);
    cc_buf_free(&buf);
}

static void
replace_makes_and_replaces(void **state)
{
    mode_t before = umask(077);

    (void)state;
    assert_int_equal(cc_file_replace(path, "first", 5, 0644, NULL), 0);
    check_file("first", 0644);
    assert_int_equal(cc_file_replace(path, "2nd", 3, 0600, NULL), 0);
    check_file("2nd", 0600);
    assert_int_equal(cc_file_replace(path, NULL, 0, 0640, NULL), 0);
    check_file("", 0640);
    umask(before);
}

static void
failed_replace_leaves_the_old_file(void **state)
{
    struct cc_err err = { 0 };
    char inside[100];

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(inside, sizeof(inside), "%s/x", path);
    assert_int_equal(cc_file_replace(inside, "x", 1, 0600, NULL), 0);
    assert_int_equal(cc_file_replace(path, "x", 1, 0600, &err), -1); /* a folder is in the way */
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(rmdir(path), 0); /* and drop_folder() sees that no temporary file is left */

    cc_err_clear(&err);
    assert_int_equal(cc_file_replace("/nonexistent/x", "x", 1, 0600, &err), -1);
    assert_int_equal(err.code, ENOENT);
}

static void
replace_in_the_working_folder(void **state)
{
    char before[4096];

    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(cc_file_replace("one", "text", 4, 0600, NULL), 0);
    assert_int_equal(chdir(before), 0);
    check_file("text", 0600);
}

static void
create_does_not_replace(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_file_create(path, "first", 5, 0640, NULL), 0);
    check_file("first", 0640);
    assert_int_equal(cc_file_create(path, "second", 6, 0600, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, EEXIST);
    check_file("first", 0640);
}

static void
create_does_not_follow_a_link(void **state)
{
    char target[100];

    (void)state;
    (void)snprintf(target, sizeof(target), "%s/target", folder);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(cc_file_create(path, "x", 1, 0600, NULL), -1);
    assert_int_equal(access(target, F_OK), -1);
}

static void
read_stops_at_the_ceiling(void **state)
{
    static uint8_t data[40000];
    static const struct {
        size_t ceiling;
        int want;
    } cases[] = { { 40000, 0 }, { 40001, 0 }, { 100000, 0 }, { 39999, -1 }, { 1, -1 }, { 0, -1 } };
    size_t i;

    (void)state;
    memset(data, 'x', sizeof(data));
    assert_int_equal(cc_file_replace(path, data, sizeof(data), 0600, NULL), 0);
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf buf = CC_BUF_INIT(cases[i].ceiling);
        struct cc_err err = { 0 };

        assert_int_equal(cc_file_read(path, &buf, &err), cases[i].want);
        assert_int_equal(buf.len, cases[i].want == 0 ? sizeof(data) : 0);
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
        assert_true(buf.cap <= cases[i].ceiling);
        if (cases[i].want == 0)
            assert_memory_equal(buf.data, data, sizeof(data));
        cc_buf_free(&buf);
    }
}

static void
read_appends_or_leaves(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(8);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_file_replace(path, "12345", 5, 0600, NULL), 0);
    assert_int_equal(cc_buf_add_str(&buf, "abc", NULL), 0);
    assert_int_equal(cc_file_read(path, &buf, NULL), 0);
    assert_string_equal(cc_buf_str(&buf), "abc12345");
    buf.len = 4;
    assert_int_equal(cc_file_read(path, &buf, &err), -1);
    assert_string_equal(cc_buf_str(&buf), "abc1");

    cc_err_clear(&err);
    assert_int_equal(cc_file_read("/nonexistent/x", &buf, &err), -1);
    assert_int_equal(err.code, ENOENT);
    cc_err_clear(&err);
    assert_int_equal(cc_file_read(folder, &buf, &err), -1);
    assert_int_equal(err.code, EISDIR);
    assert_non_null(strstr(err.text, folder));
    cc_buf_free(&buf);
}

struct sender {
    int fd;
    const uint8_t *data;
    size_t len;
    int rc;
};

static void *
send_all(void *arg)
{
    struct sender *sender = arg;

    sender->rc = cc_fd_write_all(sender->fd, sender->data, sender->len, NULL);
    close(sender->fd);
    return NULL;
}

static void
unnamed_leaves_nothing(void **state)
{
    struct cc_err err = { 0 };
    char byte = 0;
    struct stat st;
    int fd = cc_file_unnamed(folder, &err);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(cc_fd_write_all(fd, "x", 1, &err), 0);
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 'x');
    close(fd);

    assert_int_equal(cc_file_unnamed("/nowhere/at/all", &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOENT);
}

/* More than a pipe holds, so that writes are short and reads many. */
static void
pipe_carries_all(void **state)
{
    static uint8_t data[1000000];
    struct sender sender = { .data = data, .len = sizeof(data), .rc = -1 };
    struct cc_buf buf = CC_BUF_INIT(sizeof(data));
    pthread_t thread;
    int ends[2];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    sender.fd = ends[1];
    assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
    assert_int_equal(cc_fd_read_all(ends[0], &buf, NULL), 0);
    pthread_join(thread, NULL);
    close(ends[0]);
    assert_int_equal(sender.rc, 0);
    assert_int_equal(buf.len, sizeof(data));
    assert_memory_equal(buf.data, data, sizeof(data));
    cc_buf_free(&buf);
}

static void
write_errors_are_told(void **state)
{
    struct cc_err err = { 0 };
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(cc_fd_write_all(fd, "x", 1, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOSPC);
    close(fd);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(replace_makes_and_replaces),
        IN_FOLDER(failed_replace_leaves_the_old_file),
        IN_FOLDER(replace_in_the_working_folder),
        IN_FOLDER(create_does_not_replace),
        IN_FOLDER(create_does_not_follow_a_link),
        IN_FOLDER(read_stops_at_the_ceiling),
        IN_FOLDER(read_appends_or_leaves),
        IN_FOLDER(unnamed_leaves_nothing),
        cmocka_unit_test(pipe_carries_all),
        cmocka_unit_test(write_errors_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
