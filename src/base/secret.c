/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

#define FILE_PREFIX "file:"
#define CREDENTIAL_PREFIX "credential:"

/* Small secrets all take a mapping of this size, and so many are kept for the next when they are wiped. */
#define SMALL_MAP ((size_t)4096)
#define KEPT_MAX 32

/* One mapping a secret, so that locking and dump rules of one never touch another. */
struct cc_secret {
    size_t len;
    size_t map_len;
    struct cc_secret *next; /* of those kept */
    uint8_t data[];         /* len bytes and a NUL */
};

/*
 * Wiped mappings.  To make one and to undo it are five system calls, of which two stop the other threads to change
 * the page tables: a tenth of what a request costs that decrypts a password.
 */
static struct {
    pthread_mutex_t lock;
    struct cc_secret *first;
    unsigned count;
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct cc_secret *
kept_take(void)
{
    struct cc_secret *secret;

    (void)pthread_mutex_lock(&kept.lock);
    if ((secret = kept.first) != NULL) {
        kept.first = secret->next;
        kept.count--;
    }
    (void)pthread_mutex_unlock(&kept.lock);
    return secret;
}

/* false: there are enough. */
static bool
kept_put(struct cc_secret *secret)
{
    bool keep;

    (void)pthread_mutex_lock(&kept.lock);
    if ((keep = kept.count < KEPT_MAX)) {
        secret->next = kept.first;
        kept.first = secret;
        kept.count++;
    }
    (void)pthread_mutex_unlock(&kept.lock);
    return keep;
}

void
cc_wipe(void *data, size_t len)
{
    if (data != NULL && len > 0)
        explicit_bzero(data, len);
}

/* No ceiling: reading needs a little more than a secret may have. */
static struct cc_secret *
secret_map(size_t len, struct cc_err *err)
{
    size_t map_len = sizeof(struct cc_secret) + len + 1;
    struct cc_secret *secret = NULL;

    if (map_len <= SMALL_MAP) {
        map_len = SMALL_MAP;
        secret = kept_take();
    }
    if (secret != NULL)
        goto out;
    secret = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (secret == MAP_FAILED) {
        cc_err_nomem(err);
        return NULL;
    }
    /* Both may be refused (RLIMIT_MEMLOCK); a secret in swappable memory still serves. */
    (void)mlock(secret, map_len);
    (void)madvise(secret, map_len, MADV_DONTDUMP);
out:
    secret->len = len;
    secret->map_len = map_len;
    secret->next = NULL;
    return secret;
}

struct cc_secret *
cc_secret_new(size_t len, struct cc_err *err)
{
    if (len > CC_SECRET_MAX) {
        cc_err_set(err, CC_DOM_INPUT, CC_SECRET_MAX, "a secret of more than %d bytes",
                CC_SECRET_MAX);
        return NULL;
    }
    return secret_map(len, err);
}

struct cc_secret *
cc_secret_copy(const void *data, size_t len, struct cc_err *err)
{
    struct cc_secret *secret = cc_secret_new(len, err);

    if (secret != NULL && len > 0)
        memcpy(secret->data, data, len);
    return secret;
}

void
cc_secret_free(struct cc_secret *secret)
{
    size_t map_len;

    if (secret == NULL)
        return;
    map_len = secret->map_len;
    cc_wipe(secret, map_len);
    if (map_len != SMALL_MAP || !kept_put(secret))
        (void)munmap(secret, map_len);
}

uint8_t *
cc_secret_data(struct cc_secret *secret)
{
    return secret->data;
}

size_t
cc_secret_len(const struct cc_secret *secret)
{
    return secret->len;
}

const char *
cc_secret_str(const struct cc_secret *secret)
{
    return (const char *)secret->data;
}

void
cc_secret_truncate(struct cc_secret *secret, size_t len)
{
    if (len >= secret->len)
        return;
    cc_wipe(secret->data + len, secret->len - len);
    secret->len = len;
}

/* Straight into the secret's memory; secret->len becomes what was there, at most what it was. */
static int
fill_from_fd(struct cc_secret *secret, int fd, struct cc_err *err)
{
    size_t len = 0;

    while (len < secret->len) {
        ssize_t n = read(fd, secret->data + len, secret->len - len);

        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cc_err_set_errno(err, errno, "read");
        len += (size_t)n;
    }
    cc_secret_truncate(secret, len);
    return 0;
}

static void
drop_line_end(struct cc_secret *secret)
{
    size_t len = secret->len;

    if (len == 0 || secret->data[len - 1] != '\n')
        return;
    len--;
    if (len > 0 && secret->data[len - 1] == '\r')
        len--;
    cc_secret_truncate(secret, len);
}

struct cc_secret *
cc_secret_read_fd(int fd, struct cc_err *err)
{
    struct cc_secret *wide, *secret = NULL;

    /* The longest secret, its line end, and one byte more that shows that it is too long. */
    if ((wide = secret_map(CC_SECRET_MAX + sizeof("\r\n"), err)) == NULL)
        return NULL;
    if (fill_from_fd(wide, fd, err) != 0)
        goto out;
    drop_line_end(wide);
    if (wide->len == 0) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the secret is empty");
        goto out;
    }
    secret = cc_secret_copy(wide->data, wide->len, err);
out:
    cc_secret_free(wide);
    return secret;
}

static int
check_credential_name(const char *name, struct cc_err *err)
{
    if (name[0] == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "\"%.100s\" is not the name of a credential",
                name);
    return 0;
}

int
cc_secret_check_reference(const char *reference, struct cc_err *err)
{
    if (cc_starts_with(reference, CREDENTIAL_PREFIX))
        return check_credential_name(reference + strlen(CREDENTIAL_PREFIX), err);
    if (!cc_starts_with(reference, FILE_PREFIX))
        /* It may be the secret itself, put here by mistake: not repeated. */
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "a secret is named as file:PATH or credential:NAME, never written out");
    if (reference[strlen(FILE_PREFIX)] == '\0')
        return cc_err_set(err, CC_DOM_CONFIG, 0, "file: without a path");
    return 0;
}

/* The file that a reference names, in path. */
static int
resolve(const char *reference, char *path, size_t size, struct cc_err *err)
{
    const char *folder;
    int len;

    if (cc_secret_check_reference(reference, err) != 0)
        return -1;
    if (cc_starts_with(reference, FILE_PREFIX)) {
        if (!cc_strcpy(path, size, reference + strlen(FILE_PREFIX)))
            return cc_err_set(err, CC_DOM_CONFIG, 0, "the path of the secret is too long");
        return 0;
    }
    folder = secure_getenv("CREDENTIALS_DIRECTORY");
    if (folder == NULL || folder[0] == '\0')
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "%s: CREDENTIALS_DIRECTORY is not set; is this started by systemd with LoadCredential=?",
                reference);
    len = snprintf(path, size, "%s/%s", folder, reference + strlen(CREDENTIAL_PREFIX));
    if (len < 0 || (size_t)len >= size)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the path of the secret is too long");
    return 0;
}

static int
check_mode(int fd, const char *path, struct cc_err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return cc_err_set_errno(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return cc_err_set_errno(err, EISDIR, "%s", path);
    if ((st.st_mode & S_IRWXO) != 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "%s is open to every user of this machine (mode %04o); run: chmod o= %s", path,
                (unsigned)(st.st_mode & 07777), path);
    return 0;
}

struct cc_secret *
cc_secret_load(const char *reference, struct cc_err *err)
{
    char path[PATH_MAX];
    struct cc_secret *secret = NULL;
    int fd = -1;

    if (resolve(reference, path, sizeof(path), err) != 0)
        return NULL;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0) {
        cc_err_set_errno(err, errno, "%s", path);
        goto out;
    }
    if (check_mode(fd, path, err) != 0)
        goto out;
    if ((secret = cc_secret_read_fd(fd, err)) == NULL)
        cc_err_in(err, "%s", path);
out:
    if (fd >= 0)
        (void)close(fd);
    return secret;
}
