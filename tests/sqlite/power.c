/* Preloaded into a process under test: notes, for the files below POWER_FILES, what
 * was written since each was last synced, so that the test can take it away again,
 * as a loss of power may. Nothing is really synced. One note for each call:
 *
 *   kind (1 byte), length of the path (4), path, offset (8), file's length before (8),
 *   length of what was there (4), what was there, length of what is new (4), what is new
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int notes = -1;
static const char *files;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_truncate)(int, off_t);
static int (*real_sync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);

__attribute__((constructor)) static void start(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_truncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_sync = dlsym(RTLD_NEXT, "fsync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    files = getenv("POWER_FILES");
    const char *path = getenv("POWER_NOTES");
    if (files && path) notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Memory that is rebuilt from the other files is none of it. */
static int watched_path(const char *path) {
    size_t length = strlen(path);
    if (notes < 0 || strncmp(path, files, strlen(files)) != 0) return 0;
    return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

static int watched(int file, char *path) {
    char link[64];
    if (notes < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return watched_path(path);
}

static void note(char kind, const char *path, uint64_t offset, uint64_t before, const void *was, uint32_t was_length,
                 const void *is, uint32_t is_length) {
    uint32_t path_length = (uint32_t)strlen(path);
    size_t length = 1 + 4 + path_length + 8 + 8 + 4 + was_length + 4 + is_length;
    char *bytes = malloc(length), *at = bytes;
#define ADD(from, count) (memcpy(at, from, count), at += (count))
    ADD(&kind, 1);
    ADD(&path_length, 4);
    ADD(path, path_length);
    ADD(&offset, 8);
    ADD(&before, 8);
    ADD(&was_length, 4);
    if (was_length) ADD(was, was_length);
    ADD(&is_length, 4);
    if (is_length) ADD(is, is_length);
    if (real_write(notes, bytes, length) != (ssize_t)length) abort();
    free(bytes);
}

/* What is there. Through the file itself: closing another descriptor of it would drop
 * the locks that SQLite has on it. A file that can only be written has no such locks. */
static ssize_t found_at(int file, void *was, size_t length, off_t offset) {
    ssize_t found = pread(file, was, length, offset);
    if (found >= 0 || errno != EBADF) return found;
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", file);
    int reader = open(self, O_RDONLY | O_CLOEXEC);
    if (reader < 0) abort();
    found = pread(reader, was, length, offset);
    close(reader);
    return found;
}

/* Before it is done: a process that is killed in between has lost nothing yet. */
static void note_write(int file, const char *path, const void *is, size_t length, off_t offset) {
    struct stat now;
    if (fstat(file, &now) != 0) abort();
    char *was = malloc(length ? length : 1);
    ssize_t found = found_at(file, was, length, offset);
    note('W', path, (uint64_t)offset, (uint64_t)now.st_size, was, found > 0 ? (uint32_t)found : 0, is, (uint32_t)length);
    free(was);
}

static ssize_t pwrite_at(int file, const void *bytes, size_t length, off_t offset) {
    char path[PATH_MAX];
    if (!watched(file, path)) return real_pwrite(file, bytes, length, offset);
    pthread_mutex_lock(&turn);
    note_write(file, path, bytes, length, offset);
    ssize_t written = real_pwrite(file, bytes, length, offset);
    int error = errno;
    pthread_mutex_unlock(&turn);
    errno = error;
    return written;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return pwrite_at(file, bytes, length, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    return pwrite_at(file, bytes, length, (off_t)offset);
}

ssize_t write(int file, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!watched(file, path)) return real_write(file, bytes, length);
    pthread_mutex_lock(&turn);
    off_t offset = lseek(file, 0, SEEK_CUR);
    note_write(file, path, bytes, length, offset < 0 ? 0 : offset);
    ssize_t written = real_write(file, bytes, length);
    int error = errno;
    pthread_mutex_unlock(&turn);
    errno = error;
    return written;
}

static int truncate_to(int file, off_t length) {
    char path[PATH_MAX];
    if (!watched(file, path)) return real_truncate(file, length);
    pthread_mutex_lock(&turn);
    struct stat now;
    if (fstat(file, &now) != 0) abort();
    char *was = NULL;
    ssize_t found = 0;
    if (now.st_size > length) {
        was = malloc((size_t)(now.st_size - length));
        found = found_at(file, was, (size_t)(now.st_size - length), length);
    }
    note('T', path, (uint64_t)length, (uint64_t)now.st_size, was, found > 0 ? (uint32_t)found : 0, NULL, 0);
    free(was);
    int done = real_truncate(file, length);
    int error = errno;
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int ftruncate(int file, off_t length) { return truncate_to(file, length); }
int ftruncate64(int file, off64_t length) { return truncate_to(file, (off_t)length); }

static int synced(int file) {
    char path[PATH_MAX];
    if (!watched(file, path)) return real_sync(file);
    pthread_mutex_lock(&turn);
    note('S', path, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return 0;
}

int fsync(int file) { return synced(file); }
int fdatasync(int file) { return synced(file); }

int unlink(const char *path) {
    if (!watched_path(path)) return real_unlink(path);
    pthread_mutex_lock(&turn);
    int done = real_unlink(path);
    int error = errno;
    if (done == 0) note('U', path, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int rename(const char *from, const char *to) {
    if (!watched_path(from)) return real_rename(from, to);
    pthread_mutex_lock(&turn);
    int done = real_rename(from, to);
    int error = errno;
    if (done == 0) note('R', from, 0, 0, NULL, 0, to, (uint32_t)strlen(to));
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
