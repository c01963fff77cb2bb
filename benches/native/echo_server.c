/*
 * echo_server: the limit of the network rows, what one thread can do with epoll and nothing else.
 *
 *   echo_server tcp|udp|close
 *
 * tcp and udp send back what they receive; close closes every connection that it accepts. Prints its port, serves on
 * 127.0.0.1 until its standard input ends, and stays on the core of whoever started it.
 *
 * One wait, one recv, one send for a message, as a good loop does; an unsent rest is kept, and the connection is not read
 * again before it is out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum mode { TCP, UDP, CLOSE };

/* A connection and what of its last message is not sent yet. */
struct connection {
    int fd;
    char *rest;
    size_t start, end;
};

static enum mode mode;
static int epoll;
static char buffer[1 << 18];

static void die(const char *what) {
    fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int fd, void *who, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = who};
    if (epoll_ctl(epoll, how, fd, &event))
        die("epoll_ctl");
}

static void drop(struct connection *c) {
    close(c->fd);
    free(c->rest);
    free(c);
}

static void accept_one(int listener) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED)
            return;
        die("accept");
    }
    if (mode == CLOSE) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        die("calloc");
    c->fd = fd;
    watch(fd, c, EPOLL_CTL_ADD, EPOLLIN);
}

static void keep(struct connection *c, const char *bytes, size_t length) {
    c->rest = malloc(length);
    if (!c->rest)
        die("malloc");
    memcpy(c->rest, bytes, length);
    c->start = 0;
    c->end = length;
    watch(c->fd, c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void echo(struct connection *c) {
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    ssize_t sent = send(c->fd, buffer, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        drop(c);
    else if (sent < n)
        keep(c, buffer + (sent > 0 ? sent : 0), (size_t)(n - (sent > 0 ? sent : 0)));
}

static void flush(struct connection *c) {
    ssize_t sent = send(c->fd, c->rest + c->start, c->end - c->start, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
        return;
    if (sent < 0) {
        drop(c);
        return;
    }
    c->start += (size_t)sent;
    if (c->start == c->end) {
        free(c->rest);
        c->rest = NULL;
        watch(c->fd, c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void echo_datagram(int fd) {
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &length);
    if (n >= 0)
        sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, length);
}

static int open_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, (mode == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || (mode != UDP && listen(fd, 4096)))
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length))
        die("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    if (argc != 2 || (strcmp(argv[1], "tcp") && strcmp(argv[1], "udp") && strcmp(argv[1], "close"))) {
        fprintf(stderr, "usage: echo_server tcp|udp|close\n");
        return 2;
    }
    mode = argv[1][0] == 't' ? TCP : argv[1][0] == 'u' ? UDP : CLOSE;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int server = open_server(), control = STDIN_FILENO;
    watch(server, &server, EPOLL_CTL_ADD, EPOLLIN);
    watch(control, &control, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == &control)
                return 0;
            if (who == &server)
                mode == UDP ? echo_datagram(server) : accept_one(server);
            else if (events[i].events & EPOLLOUT)
                flush(who);
            else
                echo(who);
        }
    }
}
