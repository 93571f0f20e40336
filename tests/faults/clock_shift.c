/* SPDX-License-Identifier: MIT */

/*
 * Preloaded into a program: its wall clock is ahead by so many seconds as file CLOCK_SHIFT says, one signed number of 64
 * bits in the machine's order, which may change at any time.  Clocks that count from the start of the machine are left
 * alone, and so is what the kernel times.  Nothing is locked and nothing allocated: it may be called from anywhere.
 */

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const _Atomic int64_t *shift; /* in the file; NULL: there is none */

__attribute__((constructor)) static void
open_shift(void)
{
    /* Before there are threads: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("CLOCK_SHIFT");
    const int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map;

    if (fd < 0)
        return;
    map = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED)
        shift = map;
    (void)close(fd);
}

static int64_t
shift_s(void)
{
    return shift != NULL ? atomic_load_explicit(shift, memory_order_relaxed) : 0;
}

int
clock_gettime(clockid_t id, struct timespec *ret)
{
    const int rc = (int)syscall(SYS_clock_gettime, id, ret);

    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ret->tv_sec += shift_s();
    return rc;
}

time_t
time(time_t *ret)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret != NULL)
        *ret = now.tv_sec;
    return now.tv_sec;
}

int
gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now = { 0 };
    const int rc = clock_gettime(CLOCK_REALTIME, &now);

    (void)zone;
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return rc;
}
