/* Makes system calls fail that touch a path below a folder: the n-th of a kind, or some at random.
 *
 * Loaded by LD_PRELOAD; asleep until `attack_begin` names the folder. A kind is open, read, write,
 * fsync, rename, unlink, link, flock, stat, list, mkdir or map. `attack_counts` tells the calls of
 * each kind so far, `attack_hits` how many of all were made to fail.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define KINDS 12
static const char *kinds[KINDS] = {"open", "read", "write", "fsync", "rename", "unlink",
                                   "link", "flock", "stat", "list", "mkdir", "map"};
/* What each may answer, ended by 0; one of them is drawn where the calls that fail are random. */
static const int answers[KINDS][5] = {
    {EMFILE, EIO, ENOSPC, EINTR, 0}, {EIO, EINTR, 0}, {ENOSPC, EIO, EINTR, 0}, {EIO, EINTR, 0},
    {EIO, ENOSPC, 0}, {EIO, 0}, {EIO, ENOSPC, 0}, {ENOLCK, EINTR, EIO, 0}, {EIO, 0},
    {EMFILE, EIO, 0}, {ENOSPC, EIO, 0}, {EIO, 0}};

static char below[PATH_MAX];
static int wanted, number;
static long at;
static double probability;
static uint64_t seed;
static atomic_long seen[KINDS], hits, draws;

void attack_begin(const char *folder, const char *kind, long n, int error, double p, uint64_t s) {
    for (int each = 0; each < KINDS; each++) atomic_store(&seen[each], 0);
    atomic_store(&hits, 0);
    atomic_store(&draws, 0);
    wanted = -1;
    for (int each = 0; each < KINDS; each++)
        if (!strcmp(kinds[each], kind)) wanted = each;
    at = n, number = error, probability = p, seed = s;
    strncpy(below, folder, sizeof below - 1);
}

void attack_end(void) { below[0] = 0; }
long attack_hits(void) { return atomic_load(&hits); }
long attack_counts(const char *kind) {
    for (int each = 0; each < KINDS; each++)
        if (!strcmp(kinds[each], kind)) return atomic_load(&seen[each]);
    return 0;
}

/* A number in [0, 1) that follows from the seed and from how many were drawn (splitmix64). */
static double draw(uint64_t *bits) {
    uint64_t z = seed + 0x9e3779b97f4a7c15u * (uint64_t)(atomic_fetch_add(&draws, 1) + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    *bits = z ^ (z >> 31);
    return (double)(*bits >> 11) / 9007199254740992.0;
}

static int fails(const char *call, const char *path) {
    if (!below[0] || !path || strncmp(path, below, strlen(below))) return 0;
    int kind = 0;
    while (strcmp(kinds[kind], call)) kind++;
    long turn = atomic_fetch_add(&seen[kind], 1) + 1;
    int error = kind == wanted && turn == at ? number : 0;
    uint64_t bits;
    if (probability > 0 && draw(&bits) < probability) {
        int choices = 0;
        while (answers[kind][choices]) choices++;
        error = answers[kind][(bits & 0x7ff) % choices];
    }
    if (!error) return 0;
    atomic_fetch_add(&hits, 1);
    errno = error;
    return 1;
}

static int fd_fails(const char *call, int fd) {
    if (!below[0]) return 0;
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
int rmdir(const char *path) {
    REAL(int, rmdir, const char *);
    return fails("unlink", path) ? -1 : real(path);
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return fails("link", to) ? -1 : real(from, to);
}
int symlink(const char *from, const char *to) {
    REAL(int, symlink, const char *, const char *);
    return fails("link", to) ? -1 : real(from, to);
}
int fstat(int fd, struct stat *found) {
    REAL(int, fstat, int, struct stat *);
    return fd_fails("stat", fd) ? -1 : real(fd, found);
}
int fstat64(int fd, struct stat64 *found) {
    REAL(int, fstat64, int, struct stat64 *);
    return fd_fails("stat", fd) ? -1 : real(fd, found);
}
int lstat(const char *path, struct stat *found) {
    REAL(int, lstat, const char *, struct stat *);
    return fails("stat", path) ? -1 : real(path, found);
}
int lstat64(const char *path, struct stat64 *found) {
    REAL(int, lstat64, const char *, struct stat64 *);
    return fails("stat", path) ? -1 : real(path, found);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fd_fails("write", fd) ? -1 : real(fd, data, size, place);
}
ssize_t writev(int fd, const struct iovec *data, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return fd_fails("write", fd) ? -1 : real(fd, data, count);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return fd_fails("write", fd) ? -1 : real(fd, size);
}
int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return fd_fails("fsync", fd) ? -1 : real(fd);
}
void *mmap64(void *start, size_t size, int protection, int flags, int fd, off64_t place) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off64_t);
    if (fd >= 0 && fd_fails("map", fd)) return MAP_FAILED;
    return real(start, size, protection, flags, fd, place);
}
void *mmap(void *start, size_t size, int protection, int flags, int fd, off_t place) {
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    if (fd >= 0 && fd_fails("map", fd)) return MAP_FAILED;
    return real(start, size, protection, flags, fd, place);
}
