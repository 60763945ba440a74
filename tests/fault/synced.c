/* Says how much of each file is on the disk: for LD_PRELOAD into a server.

   After each fdatasync() that succeeded, SYNCED_DIR/INODE holds the size that the file had when it began:
   8 bytes, as this machine has them. SYNCED_DELAY_MS makes each take so much longer, as a busy disk does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fdatasync(int fd)
{
    static int (*real)(int);
    struct stat about;
    char path[4096];
    const char *delay_ms = getenv("SYNCED_DELAY_MS");
    int result, note;
    int64_t size;

    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fstat(fd, &about) != 0)
        return real(fd);
    if (delay_ms)
        usleep((useconds_t)atoi(delay_ms) * 1000);
    result = real(fd);
    if (result == 0 && getenv("SYNCED_DIR")) {
        snprintf(path, sizeof path, "%s/%llu", getenv("SYNCED_DIR"), (unsigned long long)about.st_ino);
        size = (int64_t)about.st_size;
        note = open(path, O_WRONLY | O_CREAT, 0600);
        if (note >= 0) {
            if (pwrite(note, &size, sizeof size, 0) != sizeof size)
                abort();
            close(note);
        }
    }
    return result;
}
