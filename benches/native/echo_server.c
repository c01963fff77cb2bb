/*
 * echo_server: the limit of the network rows, what one thread can do with epoll and nothing else.
 *
 *   echo_server tcp|udp|close
 *   echo_server_tls CERTIFICATE AND KEY      (the same source, compiled with -DTLS)
 *
 * tcp and udp send back what they receive; close closes every connection that it accepts. Prints its port, serves on
 * 127.0.0.1 until its standard input ends, and stays on the core of whoever started it.
 *
 * With TLS the messages are those of OpenSSL, and a record is read and written as it is.
 *
 * One wait, one recv, one send for a message, as a good loop does; an unsent rest is kept, and the connection is not read
 * again before it is out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

enum mode { TCP, UDP, CLOSE };

/* A connection and what of its last message is not sent yet. */
struct connection {
    int fd;
    char *rest;
    size_t start, end;
#ifdef TLS
    SSL *ssl;
#endif
};

static enum mode mode;
static int epoll;
static char buffer[1 << 18];

#ifdef TLS
static SSL_CTX *context;
#endif

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
#ifdef TLS
    SSL_free(c->ssl);
#endif
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
#ifdef TLS
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, fd);
    SSL_set_accept_state(c->ssl);
#endif
    watch(fd, c, EPOLL_CTL_ADD, EPOLLIN);
}

/* As recv and send, whatever the connection is made of. */
static ssize_t receive(struct connection *c, void *bytes, size_t room) {
#ifdef TLS
    size_t filled = 0, n;
    /* What is read ahead would not make the socket readable again; what is not, will. */
    do {
        if (!SSL_read_ex(c->ssl, (char *)bytes + filled, room - filled, &n))
            break;
        filled += n;
    } while (filled < room && SSL_has_pending(c->ssl));
    if (filled)
        return (ssize_t)filled;
    errno = EAGAIN;
    return SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_READ ? -1 : 0;
#else
    return recv(c->fd, bytes, room, 0);
#endif
}

static ssize_t transmit(struct connection *c, const void *bytes, size_t length) {
#ifdef TLS
    size_t n;
    if (SSL_write_ex(c->ssl, bytes, length, &n))
        return (ssize_t)n;
    int why = SSL_get_error(c->ssl, 0);
    errno = why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
    return -1;
#else
    return send(c->fd, bytes, length, MSG_NOSIGNAL);
#endif
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
    ssize_t n = receive(c, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    ssize_t sent = transmit(c, buffer, (size_t)n);
    if (sent < 0 && errno != EAGAIN)
        drop(c);
    else if (sent < n)
        keep(c, buffer + (sent > 0 ? sent : 0), (size_t)(n - (sent > 0 ? sent : 0)));
}

static void flush(struct connection *c) {
    ssize_t sent = transmit(c, c->rest + c->start, c->end - c->start);
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
#ifdef TLS
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (argc != 2 || SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[1], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "usage: echo_server_tls CERTIFICATE AND KEY\n");
        return 2;
    }
    argv[1] = "tcp";
#endif
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
