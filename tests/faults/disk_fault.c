/* SPDX-License-Identifier: MIT */

/*
 * Preloaded into a program: a disk that fails on cue.
 *
 * DISK_FAULT names a file.  Nothing is counted until it is there; then it holds one line
 *
 *     sync|write ERRNO FIRST COUNT PART [lose]
 *
 * and of the calls on files whose path has PART in it (at its end, when PART ends in "$"), from the FIRST on COUNT fail with ERRNO (0: all from then on).
 * A write fails before anything is written.  With "lose" a failed sync takes back what was written to that file since
 * the last one, as a disk does that never took it: from then on it reads as it was.  Each failure appends a byte to
 * the file's name with ".hits" behind.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_MAX 4096

struct cue {
    bool sync, lose;
    int code;
    long first, count;
    char part[128];
};

/* What stood where a write went. */
struct kept {
    dev_t dev;
    ino_t ino;
    off_t at;
    size_t len;
    unsigned char *bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static struct cue current;
static char current_text[256];
static long calls;
static struct kept kept[KEPT_MAX];
static size_t kept_count;

typedef ssize_t (*pwrite_fn)(int fd, const void *data, size_t len, off_t at);
typedef ssize_t (*pread_fn)(int fd, void *data, size_t len, off_t at);

static const struct {
    const char *name;
    int code;
} codes[] = { { "EIO", EIO }, { "ENOSPC", ENOSPC }, { "EROFS", EROFS } };

static int
code_of(const char *name)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    return EIO;
}

/* Reads the cue; calls are counted anew when it changed.  False: there is none. */
static bool
read_cue(void)
{
    /* The environment does not change: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("DISK_FAULT");
    char text[256] = "", op[16] = "", code[16] = "", how[16] = "";
    struct cue cue = { .sync = false };
    ssize_t got = -1;
    int fd;

    if (path != NULL && (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
        got = read(fd, text, sizeof(text) - 1);
        (void)close(fd);
    }
    if (got <= 0)
        return false;
    if (strcmp(text, current_text) == 0)
        return true;
    if (sscanf(text, "%15s %15s %ld %ld %127s %15s", op, code, &cue.first, &cue.count, cue.part,
                how) < 5)
        return false;
    cue.sync = strcmp(op, "sync") == 0;
    cue.lose = strcmp(how, "lose") == 0;
    cue.code = code_of(code);
    current = cue;
    memcpy(current_text, text, sizeof(text));
    calls = 0;
    return true;
}

static bool
has_part(const char *path)
{
    const size_t len = strlen(path), part = strlen(current.part) - 1;

    if (current.part[part] != '$')
        return strstr(path, current.part) != NULL;
    return len >= part && strncmp(path + len - part, current.part, part) == 0;
}

static bool
concerns(int fd)
{
    char link[64], path[512];
    ssize_t len;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if ((len = readlink(link, path, sizeof(path) - 1)) <= 0)
        return false;
    path[len] = '\0';
    return has_part(path);
}

static void
note_hit(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("DISK_FAULT");
    char hits[512];
    int fd;

    (void)snprintf(hits, sizeof(hits), "%s.hits", path);
    if ((fd = open(hits, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) < 0)
        return;
    (void)!((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, ".", 1);
    (void)close(fd);
}

/* LOCKED.  Whether this call is one that fails. */
static bool
is_hit(bool sync, int fd)
{
    if (!read_cue() || current.sync != sync || !concerns(fd))
        return false;
    calls++;
    if (calls < current.first || (current.count > 0 && calls >= current.first + current.count))
        return false;
    note_hit();
    return true;
}

/* LOCKED. */
static void
keep_before(int fd, off_t at, size_t len)
{
    struct kept *one = &kept[kept_count];
    struct stat st;

    if (!read_cue() || !current.lose || !concerns(fd) || kept_count == KEPT_MAX ||
            fstat(fd, &st) != 0 || (one->bytes = calloc(1, len)) == NULL)
        return;
    (void)!pread(fd, one->bytes, len, at);
    one->dev = st.st_dev;
    one->ino = st.st_ino;
    one->at = at;
    one->len = len;
    kept_count++;
}

/* LOCKED.  After a sync of the file: what was kept of it is put back, the newest first, or forgotten. */
static void
end_kept(int fd, bool put_back)
{
    const pwrite_fn real = (pwrite_fn)dlsym(RTLD_NEXT, "pwrite");
    static struct kept others[KEPT_MAX];
    struct stat st;
    size_t left = 0;

    if (kept_count == 0 || fstat(fd, &st) != 0)
        return;
    for (size_t i = kept_count; i-- > 0;) {
        if (kept[i].dev != st.st_dev || kept[i].ino != st.st_ino)
            continue;
        if (put_back)
            (void)!real(fd, kept[i].bytes, kept[i].len, kept[i].at);
        free(kept[i].bytes);
        kept[i].bytes = NULL;
    }
    for (size_t i = 0; i < kept_count; i++)
        if (kept[i].bytes != NULL)
            others[left++] = kept[i];
    memcpy(kept, others, left * sizeof(*kept));
    kept_count = left;
}

static int
sync_or_fail(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const int saved = errno;
    int code = 0;

    pthread_mutex_lock(&lock);
    if (is_hit(true, fd))
        code = current.code;
    end_kept(fd, code != 0 && current.lose);
    pthread_mutex_unlock(&lock);
    errno = code != 0 ? code : saved;
    return code != 0 ? -1 : real(fd);
}

int
fsync(int fd)
{
    return sync_or_fail(fd, "fsync");
}

int
fdatasync(int fd)
{
    return sync_or_fail(fd, "fdatasync");
}

/* Whether a write may go on; at < 0: at the end of the file. */
static bool
may_write(int fd, off_t at, size_t len)
{
    const int saved = errno;
    struct stat st;
    int code = 0;

    pthread_mutex_lock(&lock);
    if (is_hit(false, fd))
        code = current.code;
    else if (at >= 0 || fstat(fd, &st) == 0)
        keep_before(fd, at >= 0 ? at : st.st_size, len);
    pthread_mutex_unlock(&lock);
    errno = code != 0 ? code : saved;
    return code == 0;
}

ssize_t
write(int fd, const void *data, size_t len)
{
    ssize_t (*real)(int, const void *, size_t) =
            (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");

    return may_write(fd, -1, len) ? real(fd, data, len) : -1;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t at)
{
    return may_write(fd, at, len) ? ((pwrite_fn)dlsym(RTLD_NEXT, "pwrite"))(fd, data, len, at) : -1;
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off_t at)
{
    return pwrite(fd, data, len, at);
}
