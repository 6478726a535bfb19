/* daemon/metrics.h — everything that is counted, as Prometheus text (exposition format 0.0.4) and as JSON. */
#pragma once

#include <stdio.h>

#include <jansson.h>

#include "daemon/host.h"

void metrics_print(struct host *host, FILE *out);
/* The same, for `whiskfs stats`: {"NAME": [{"labels": {...}, "value": N}, …]}. NULL: out of memory. */
json_t *metrics_json(struct host *host);
