/* Makes one system call fail: the n-th of a kind that touches a path below a folder.
 *
 * Loaded by LD_PRELOAD. FAIL_BELOW is the folder, FAIL_CALL the kind (open, read, write, fsync,
 * rename, unlink, flock, stat, list), FAIL_ERRNO the number, FAIL_AT the n, from 1; with
 * FAIL_COUNT, a file, the number of such calls is written there when the process ends.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long seen;
static const char *below, *kind;
static long at;
static int number;

__attribute__((constructor)) static void begin(void) {
    below = getenv("FAIL_BELOW");
    kind = getenv("FAIL_CALL");
    at = getenv("FAIL_AT") ? atol(getenv("FAIL_AT")) : 0;
    number = getenv("FAIL_ERRNO") ? atoi(getenv("FAIL_ERRNO")) : EIO;
}

__attribute__((destructor)) static void end(void) {
    const char *place = getenv("FAIL_COUNT");
    if (!place) return;
    FILE *file = fopen(place, "a");
    if (file) {
        fprintf(file, "%ld\n", atomic_load(&seen));
        fclose(file);
    }
}

static int fails(const char *call, const char *path) {
    if (!below || !kind || !path || strcmp(call, kind)) return 0;
    if (strncmp(path, below, strlen(below))) return 0;
    if (atomic_fetch_add(&seen, 1) + 1 != at) return 0;
    errno = number;
    return 1;
}

static int fd_fails(const char *call, int fd) {
    if (!below || !kind || strcmp(call, kind)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return fails(call, path);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return fails("open", path) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return fails("open", path) ? -1 : real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    return fd_fails("read", fd) ? -1 : real(fd, data, size);
}
ssize_t pread(int fd, void *data, size_t size, off_t place) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    return fd_fails("read", fd) ? -1 : real(fd, data, size, place);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t place) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return fd_fails("read", fd) ? -1 : real(fd, data, size, place);
}
ssize_t preadv64(int fd, const struct iovec *data, int count, off64_t place) {
    REAL(ssize_t, preadv64, int, const struct iovec *, int, off64_t);
    return fd_fails("read", fd) ? -1 : real(fd, data, count, place);
}
ssize_t preadv64v2(int fd, const struct iovec *data, int count, off64_t place, int flags) {
    REAL(ssize_t, preadv64v2, int, const struct iovec *, int, off64_t, int);
    return fd_fails("read", fd) ? -1 : real(fd, data, count, place, flags);
}
ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return fd_fails("write", fd) ? -1 : real(fd, data, size);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    return fd_fails("fsync", fd) ? -1 : real(fd);
}
int flock(int fd, int how) {
    REAL(int, flock, int, int);
    return fd_fails("flock", fd) ? -1 : real(fd, how);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return fails("rename", to) ? -1 : real(from, to);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    return fails("unlink", path) ? -1 : real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return fails("unlink", path) ? -1 : real(folder, path, flags);
}
int stat64(const char *path, struct stat64 *found) {
    REAL(int, stat64, const char *, struct stat64 *);
    return fails("stat", path) ? -1 : real(path, found);
}
int fstatat64(int folder, const char *path, struct stat64 *found, int flags) {
    REAL(int, fstatat64, int, const char *, struct stat64 *, int);
    return fails("stat", path) ? -1 : real(folder, path, found, flags);
}
int stat(const char *path, struct stat *found) {
    REAL(int, stat, const char *, struct stat *);
    return fails("stat", path) ? -1 : real(path, found);
}
DIR *opendir(const char *path) {
    REAL(DIR *, opendir, const char *);
    return fails("list", path) ? NULL : real(path);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return fails("mkdir", path) ? -1 : real(path, mode);
}
