#include "daemon/http.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "daemon/metrics.h"

#define CONNECTIONS_MAX 16
#define TIMEOUT_S 10

struct http {
    struct host *host;
    struct MHD_Daemon *server;
};

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, char *text,
                             size_t size, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "text/plain; version=0.0.4");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result reply_metrics(struct http *http, struct MHD_Connection *connection)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return MHD_NO;
    metrics_print(http->host, out);
    if (fclose(out) != 0) {
        free(text);
        return MHD_NO;
    }
    return reply(connection, MHD_HTTP_OK, text, size, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    static char not_found[] = "whiskfsd has /metrics here\n";
    (void)version, (void)upload, (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 || *upload_size != 0)
        return MHD_NO;
    if (strcmp(url, "/metrics") == 0)
        return reply_metrics(ctx, connection);
    return reply(connection, MHD_HTTP_NOT_FOUND, not_found, sizeof not_found - 1,
                 MHD_RESPMEM_PERSISTENT);
}

/* Splits HOST:PORT, brackets off. */
static int resolve(const char *address, struct addrinfo **ret_found)
{
    char host[ADDRESS_MAX_BYTES + 1];
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : 0;
    if (size == 0 || size >= sizeof host)
        return -EINVAL;
    bool is_bracketed = address[0] == '[' && address[size - 1] == ']';
    memcpy(host, address + is_bracketed, size - 2 * (size_t)is_bracketed);
    host[size - 2 * (size_t)is_bracketed] = '\0';
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    return getaddrinfo(host, colon + 1, &hints, ret_found) == 0 ? 0 : -EINVAL;
}

int http_start(struct host *host, const char *address, struct http **ret_http)
{
    struct addrinfo *found;
    int r = resolve(address, &found);
    if (r < 0)
        return r;
    AUTO_FREE struct http *http = calloc(1, sizeof *http);
    if (!http) {
        freeaddrinfo(found);
        return -ENOMEM;
    }
    http->host = host;
    unsigned flags =
        MHD_USE_AUTO_INTERNAL_THREAD | (found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0u);
    errno = 0;
    http->server =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, http, MHD_OPTION_SOCK_ADDR,
                         found->ai_addr, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S, MHD_OPTION_END);
    int error = errno;
    freeaddrinfo(found);
    if (!http->server)
        return error != 0 ? -error : -EADDRINUSE;
    *ret_http = TAKE(http);
    return 0;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->server);
    free(http);
}
