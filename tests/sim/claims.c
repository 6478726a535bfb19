/* The home is lost: another host takes its place, because an operator says so; homes hear of each other, and yield. */
#include <errno.h>
#include <string.h>

#include "tests/sim/host.h"

static bool reaches(int from, int to)
{
    return to >= 0 && to != from && sim.host[to].is_up && sim.host[to].asleep_ns <= sim.now_ns &&
           !sim.cut[from][to] && !sim.cut[to][from];
}

/* The home answers, or another replica knows more: then that one is to take its place. */
static bool may_claim(int h)
{
    const struct host *host = &sim.host[h];
    if (host->n == 0)
        return false;
    for (int i = 0; i < HOSTS; i++) {
        const struct host *other = &sim.host[i];
        if (!reaches(h, i))
            continue;
        if (core_is_home(&other->core) || other->core.is_taking_over ||
            other->turn.epoch > host->turn.epoch || other->n > host->n)
            return false;
    }
    return true;
}

static void term_recorded(int h, uint64_t epoch)
{
    sim.n_claims++;
    sim.host[h].leads.claimed = epoch;
    memset(sim.host[h].members, 0, sizeof sim.host[h].members);
    host_start(h, epoch);
}

static void go_on_claiming(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    int r = core_claim_is_due(&host->core, local_ns(h));
    if (r == -EAGAIN)
        after(100 * NS_PER_MS, h, go_on_claiming, 0);
    else if (r == 0 && !may_claim(h))
        core_end_claim(&host->core);
    if (r < 0 || !may_claim(h))
        return;
    check_claiming(h);
    host->n_inbox = 0;
    host->is_joining = false;
    after(disk_ns(h), h, term_recorded,
          core_begin_term(&host->core, (uint16_t)(sim.n_drawn++ * 7919)));
}

void host_claim(int h)
{
    struct host *host = &sim.host[h];
    if (!host->is_up || host->is_leaving || host->asleep_ns > sim.now_ns || !may_claim(h) ||
        core_claim(&host->core, local_ns(h)) < 0)
        return;
    trace("h%d is to take the home", h);
    host->n_inbox = 0;
    host->is_promoting = false;
    host->claimed_ns = sim.now_ns;
    go_on_claiming(h, 0);
}

static void yield_recorded(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    trace("h%d yields", h);
    host->leads = (struct leads){0};
    host->has_cache = false;
    sim.n_yielded++;
    core_yielded(&host->core, true);
    host_work(h);
}

void host_yield(int h)
{
    if (!core_yield(&sim.host[h].core))
        return;
    sim.host[h].n_inbox = 0;
    sim.host[h].is_joining = false;
    after(disk_ns(h), h, yield_recorded, 0);
}

static struct message news_of(int h)
{
    const struct host *host = &sim.host[h];
    return (struct message){
        .type = NEWS, .epoch = host->turn.epoch, .home = host_of(host->turn.home)};
}

void host_herald(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    struct message news = news_of(h);
    struct link *link = NULL;
    if (core_is_home(&host->core))
        link = dial(h, (h + 1 + (int)chance(HOSTS - 1)) % HOSTS);
    if (link)
        post((int)(link - sim.link), h, &news);
    after(NS_PER_S, h, host_herald, 0);
}

void host_on_news(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    struct message answer = news_of(h);
    answer.is_answer = true;
    if (!m->is_answer && host->n > 0)
        post(link, h, &answer);
    if (core_is_home(&host->core) && m->epoch < host->turn.epoch)
        sim.directory = h; /* the other one may have said that it is */
    if (host->n > 0 && core_hear(&host->core, m->epoch, id_of(m->home))) {
        host->n_inbox = 0;
        host->is_promoting = false;
    }
}
