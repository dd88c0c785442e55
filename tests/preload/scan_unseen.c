/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that is scanned 10 times a second, every second time by a copy, does not notice. No
 * call that waits returns EINTR; there is no SIGCHLD but for children of its own, no wait finds another
 * child, with WNOWAIT neither; there is no descriptor and no process more than before, and no zombie. What
 * its calls to wait look like to others is scan_unseen_strace.sh's matter; all ways to wait for something,
 * under stops alone, are no_eintr's.
 */
#include "promise.h"
#include "scan_drive.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { wait_ms = 350, seconds = 4, least_scans = 10 /* scan_unseen.conf */ };

static const struct scan_drive *drive;
static volatile sig_atomic_t nchildren;
static bool is_over; /* [atomic] */
static int epoll_fd, listener, pair[2], tube[2];
static sem_t semaphore;

static void count_child(int signo) {
    (void)signo;
    nchildren++;
}

/* --- calls that wait: with a timeout, or ended by the main thread ------------------------------- */

static int by_poll(void) {
    return poll(NULL, 0, wait_ms);
}
static int by_epoll_wait(void) {
    struct epoll_event e;
    return epoll_wait(epoll_fd, &e, 1, wait_ms);
}
static int by_select(void) {
    struct timeval t = {0, wait_ms * 1000};
    return select(0, NULL, NULL, NULL, &t);
}
static int by_nanosleep(void) {
    struct timespec t = {0, wait_ms * 1000000};
    return nanosleep(&t, NULL);
}
static int by_accept(void) {
    int fd = accept(listener, NULL, NULL);
    return fd >= 0 ? close(fd) : -1;
}
static int by_sem_wait(void) {
    return sem_wait(&semaphore);
}
static int by_read(void) {
    char byte;
    return read(tube[0], &byte, 1) == 1 ? 0 : -1;
}
static int by_recv(void) {
    char byte;
    return recv(pair[0], &byte, 1, 0) == 1 ? 0 : -1;
}
static const struct way {
    const char *name;
    int (*wait)(void);
} ways[] = {{"poll", by_poll},           {"epoll_wait", by_epoll_wait}, {"select", by_select},
            {"nanosleep", by_nanosleep}, {"accept", by_accept},         {"sem_wait", by_sem_wait},
            {"read", by_read},           {"recv", by_recv}};
enum { nways = sizeof ways / sizeof ways[0] };

static void *wait_on(void *arg) {
    const struct way *way = arg;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        errno = 0;
        int ret = way->wait();
        BS_CHECK(ret == 0, "%s gave %d", way->name, ret);
    }
    return NULL;
}
static void end_waits(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0, "connect");
    close(fd);
    BS_CHECK(sem_post(&semaphore) == 0 && write(tube[1], "x", 1) == 1 && send(pair[1], "x", 1, 0) == 1,
             "post, write, send");
}

/* --- children --------------------------------------------------------------------------------- */

static void nobody_is_there(void) {
    siginfo_t info;
    int status;
    BS_CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "waitpid");
    BS_CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "waitpid");
    BS_CHECK(waitpid(0, &status, WNOHANG) == -1 && errno == ECHILD, "waitpid of the group");
    BS_CHECK(waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD, "waitid");
    BS_CHECK(wait3(&status, WNOHANG, NULL) == -1 && errno == ECHILD, "wait3");
}
static void own_child(void) {
    int status, before = nchildren;
    pid_t pid = fork();
    BS_CHECK(pid >= 0, "fork");
    if (pid == 0) {
        usleep(200000);
        _exit(5);
    }
    BS_CHECK(waitpid(-1, &status, 0) == pid && WEXITSTATUS(status) == 5, "another child");
    BS_CHECK(nchildren == before + 1, "%d times SIGCHLD", nchildren - before);
}

/* --- what is left ----------------------------------------------------------------------------- */

static int count_fds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    BS_CHECK(dir != NULL, "/proc/self/fd");
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}
/* Processes that have this one for their parent, dead ones too. */
static int count_processes(void) {
    int n = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[300], text[200], *at;
        int fd = snprintf(path, sizeof path, "/proc/%s/stat", e->d_name) > 0 ? open(path, O_RDONLY) : -1;
        ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
        if (fd >= 0)
            close(fd);
        text[got > 0 ? got : 0] = '\0';
        at = strrchr(text, ')');
        n += e->d_name[0] >= '1' && e->d_name[0] <= '9' && at != NULL && atoi(at + 4) == getpid();
    }
    closedir(dir);
    return n;
}

int main(void) {
    struct sigaction action = {.sa_handler = count_child, .sa_flags = SA_RESTART};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    sigset_t set;
    pthread_t thread[nways];
    sigaction(SIGCHLD, &action, NULL);
    sem_init(&semaphore, 0, 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(listener, (struct sockaddr *)&address, bytes) == 0 && listen(listener, 9) == 0 &&
                 getsockname(listener, (struct sockaddr *)&address, &bytes) == 0,
             "listen");
    BS_CHECK(pipe2(tube, O_CLOEXEC) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "pipe, socketpair");
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    scan_drive_begin_rest(drive);
    int nfds = count_fds();
    scan_drive_end_rest(drive);
    uint64_t end_ms = now_ms() + seconds * 1000;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD); /* comes to the main thread alone: it does interrupt */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (unsigned i = 0; i < nways; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, wait_on, (void *)(uintptr_t)&ways[i]) == 0, "no thread");
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; now_ms() < end_ms || !scan_drive_has_made(drive, least_scans); i++) {
        for (int k = 0; k < 20; k++, usleep(10000))
            nobody_is_there();
        if (i % 5 == 0)
            own_child();
        end_waits(&address);
    }
    __atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
    end_waits(&address);
    for (unsigned i = 0; i < nways; i++)
        pthread_join(thread[i], NULL);
    nobody_is_there();
    scan_drive_begin_rest(drive);
    int fds = count_fds(), processes = count_processes();
    BS_CHECK(fds == nfds, "%d descriptors, not %d", fds, nfds);
    BS_CHECK(processes == 0, "%d processes", processes);
    return 0;
}
