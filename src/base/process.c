/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/secret.h"

/* What RAND_bytes() takes at once. */
#define RANDOM_CHUNK ((size_t)1 << 20)

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

static void
forbid_tracing(void)
{
#ifndef SANITIZED /* the leak check of a sanitizer build attaches to its own process */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        abort();
#endif
}

/* A file that we open later must not become somebody's standard output. */
static void
open_standard_descriptors(void)
{
    int fd;

    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            abort();
}

/*
 * OpenSSL wipes keys, but not every place a password passes on its way to one: its key derivation of PKCS #12 leaves
 * it in freed memory.  So everything that OpenSSL frees is wiped.
 */
static void *
wiping_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return malloc(size);
}

static void
wiping_free(void *data, const char *file, int line)
{
    (void)file;
    (void)line;
    if (data != NULL)
        cc_wipe(data, malloc_usable_size(data));
    free(data);
}

static void *
wiping_realloc(void *data, size_t size, const char *file, int line)
{
    size_t old_size = data != NULL ? malloc_usable_size(data) : 0;
    void *place = malloc(size);

    if (place == NULL)
        return NULL;
    if (data != NULL)
        memcpy(place, data, old_size < size ? old_size : size);
    wiping_free(data, file, line);
    return place;
}

void
cc_process_harden(void)
{
    const struct rlimit no_core = { .rlim_cur = 0, .rlim_max = 0 };
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    open_standard_descriptors();
    forbid_tracing();
    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || sigaction(SIGPIPE, &ignore, NULL) != 0)
        abort();
    (void)umask(027);
    /* Too late only where OpenSSL was used before; then memory is as clean as OpenSSL itself leaves it. */
    (void)CRYPTO_set_mem_functions(wiping_malloc, wiping_realloc, wiping_free);
}

int
cc_random(void *data, size_t len, struct cc_err *err)
{
    uint8_t *place = data;

    while (len > 0) {
        size_t chunk = len < RANDOM_CHUNK ? len : RANDOM_CHUNK;

        if (RAND_bytes(place, (int)chunk) != 1)
            return cc_err_set_openssl(err, "no random bytes");
        place += chunk;
        len -= chunk;
    }
    return 0;
}
