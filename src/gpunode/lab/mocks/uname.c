/* uname(2) as on a host that runs another kernel: the release is what the file RELEASE_FILE says, the rest is the kernel's own. */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

__attribute__((visibility("default"))) int uname(struct utsname *name) {
    if (syscall(SYS_uname, name) != 0) {
        return -1;
    }
    int file = open(RELEASE_FILE, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    char release[sizeof name->release] = "";
    ssize_t length = read(file, release, sizeof release - 1);
    close(file);
    if (length > 0) {
        release[strcspn(release, "\n")] = '\0';
        strcpy(name->release, release);
    }
    return 0;
}
