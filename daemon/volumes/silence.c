#include "daemon/volumes/silence.h"

static bool is_forgotten(const struct silence *silence, int64_t now_ns)
{
    return now_ns - silence->noted_ns > SILENCE_FORGOTTEN_NS;
}

static bool is_long(const struct silence *silence, int64_t now_ns)
{
    return now_ns - silence->since_ns >= SILENCE_LONG_NS;
}

static unsigned find(const struct silences *silences, struct host_id host)
{
    unsigned i = 0;
    while (i < silences->n && !host_equal(silences->all[i].host, host))
        i++;
    return i;
}

static unsigned oldest(const struct silences *silences)
{
    unsigned found = 0;
    for (unsigned i = 1; i < silences->n; i++) {
        if (silences->all[i].noted_ns < silences->all[found].noted_ns)
            found = i;
    }
    return found;
}

static void begin(struct silences *silences, struct host_id host, int64_t now_ns)
{
    unsigned i = silences->n < SILENCES_MAX ? silences->n++ : oldest(silences);
    silences->all[i] = (struct silence){.host = host, .since_ns = now_ns, .noted_ns = now_ns};
}

static void go_on(struct silence *silence, int64_t now_ns)
{
    if (is_forgotten(silence, now_ns))
        silence->since_ns = now_ns;
    silence->noted_ns = now_ns;
}

void silence_note(struct silences *silences, struct host_id host, bool is_silent, int64_t now_ns)
{
    unsigned i = find(silences, host);
    bool is_known = i < silences->n;
    if (is_silent && is_known)
        go_on(&silences->all[i], now_ns);
    else if (is_silent)
        begin(silences, host, now_ns);
    else if (is_known)
        silences->all[i] = silences->all[--silences->n];
}

bool silence_is_long(const struct silences *silences, struct host_id host, int64_t now_ns)
{
    unsigned i = find(silences, host);
    return i < silences->n && !is_forgotten(&silences->all[i], now_ns) &&
           is_long(&silences->all[i], now_ns);
}

bool silence_is_any_new(const struct silences *silences, int64_t now_ns)
{
    for (unsigned i = 0; i < silences->n; i++) {
        const struct silence *silence = &silences->all[i];
        if (!is_forgotten(silence, now_ns) && !is_long(silence, now_ns))
            return true;
    }
    return false;
}
