/* daemon/http.h — the metrics over HTTP: GET /metrics. Two threads of libmicrohttpd, 16 connections at most. */
#pragma once

#include "daemon/host.h"

/* address: HOST:PORT or [V6]:PORT. -EADDRINUSE, -EINVAL … */
MUST_USE int http_start(struct host *host, const char *address, struct http **ret_http);
void http_stop(struct http *http);
