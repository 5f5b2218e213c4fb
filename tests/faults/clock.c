// The wall clock of one process, moved while it runs: what an administrator or a bad time server
// does, without doing it to the whole machine. Preloaded; the offset, in seconds, stands in the file
// that CLOCK_OFFSET_FILE names, as eight bytes.
//
// Waits until a moment of the wall clock (POSIX and C11 condition variables, which librdkafka uses)
// follow it in both directions, as the kernel's do: they are cut into slices, and the clock is
// looked at after each.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 20000000LL

static volatile const int64_t *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    offset = mapped;
}

static int64_t real_ns(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t moved_ns(void) { return real_ns() + *offset * 1000000000LL; }

static struct timespec as_timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / 1000000000LL, .tv_nsec = ns % 1000000000LL};
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, id, now);
    *now = as_timespec(moved_ns());
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    int64_t ns = moved_ns();
    now->tv_sec = ns / 1000000000LL;
    now->tv_usec = ns / 1000 % 1000000LL;
    return 0;
}

time_t time(time_t *now) {
    time_t seconds = moved_ns() / 1000000000LL;
    if (now) *now = seconds;
    return seconds;
}

int timespec_get(struct timespec *now, int base) {
    *now = as_timespec(moved_ns());
    return base;
}

typedef int wait_until(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static wait_until *real_wait(void) {
    static wait_until *real;
    if (!real) real = (wait_until *)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = (wait_until *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    int64_t until_ns = until->tv_sec * 1000000000LL + until->tv_nsec;
    for (;;) {
        int64_t left = until_ns - moved_ns();
        if (left <= 0) return ETIMEDOUT;
        struct timespec slice = as_timespec(real_ns() + (left < SLICE_NS ? left : SLICE_NS));
        int result = real_wait()(condition, mutex, &slice);
        if (result != ETIMEDOUT) return result;
    }
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict until) {
    int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
