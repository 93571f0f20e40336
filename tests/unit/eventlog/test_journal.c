/* SPDX-License-Identifier: MIT */

/*
 * What journald is sent.  A child in a mount namespace of its own has an empty /run, where the test is journald.
 */

#include "eventlog/eventlog.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { NO_NAMESPACE = 77 };

static int
be_journald(void)
{
    static const struct sockaddr_un address = {
        .sun_family = AF_UNIX,
        .sun_path = "/run/systemd/journal/socket",
    };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || mkdir("/run/systemd", 0755) != 0 || mkdir("/run/systemd/journal", 0755) != 0 ||
            bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        return -1;
    return fd;
}

static bool
message_has(const char *message, size_t len, const char *line)
{
    return memmem(message, len, line, strlen(line)) != NULL;
}

static int
in_namespace(const char *folder)
{
    struct eventlog_settings settings = { .directory = folder,
        .connector = "test-1",
        .max_size = 1 << 20,
        .journald = true };
    struct cc_err why = { .domain = CC_DOM_NONE };
    const struct event_fields fields = { .request_id = "r-1",
        .user = "x\nPRIORITY=0",
        .error = &why };
    struct eventlog *log = NULL;
    char message[65536];
    ssize_t len;
    int fd;

    if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", "/run", "tmpfs", 0, NULL) != 0)
        return NO_NAMESPACE;
    if ((fd = be_journald()) < 0)
        return 2;
    cc_err_set(&why, CC_DOM_INPUT, 1, "why not");
    if (eventlog_open(&settings, &log, NULL) != 0)
        return 3;
    if (eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE, &fields, "a\x1b[2J\nb") != 0)
        return 4;
    if ((len = recv(fd, message, sizeof(message), 0)) <= 0)
        return 5;
    if (!message_has(message, (size_t)len, "MESSAGE=a\\x1B[2J\\x0Ab\n") &&
            !message_has(message, (size_t)len, "MESSAGE=a\\x1b[2J\\x0ab\n"))
        return 6;
    if (!message_has(message, (size_t)len, "PRIORITY=3\n") ||
            !message_has(message, (size_t)len, "CERTCONNECTOR_EVENT_ID=2001\n") ||
            !message_has(message, (size_t)len,
                    "CERTCONNECTOR_EVENT_NAME=PkcsImportRequestFailure\n") ||
            !message_has(message, (size_t)len, "CERTCONNECTOR_REQUEST_ID=r-1\n") ||
            !message_has(message, (size_t)len, "CERTCONNECTOR_ERROR=why not\n"))
        return 7;
    if (message_has(message, (size_t)len, "\nPRIORITY=0\n"))
        return 8;

    settings.journald = false;
    if (eventlog_reconfigure(log, &settings, NULL) != 0 ||
            eventlog_write(log, EVENT_CONNECTOR_STOPPED, NULL, "x") != 0)
        return 9;
    if (recv(fd, message, sizeof(message), 0) >= 0)
        return 10;
    eventlog_close(log);
    return 0;
}

static void
test_journal(void **state)
{
    char folder[] = "/tmp/test_journal.XXXXXX";
    char command[64];
    int status = 0;
    pid_t pid;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_true((pid = fork()) >= 0);
    if (pid == 0)
        _exit(in_namespace(folder));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE)
        skip();
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_journal) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
