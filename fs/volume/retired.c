#include "fs/volume/retired.h"

void retired_init(struct retired *retired)
{
    mutex_init(&retired->lock, LOCK_leaf);
}

void retired_done(struct retired *retired)
{
    mutex_done(&retired->lock);
}

static struct retired_session *find_locked(struct retired *retired, uint64_t session)
{
    for (size_t i = 0; i < N_ELEMENTS(retired->sessions); i++)
        if (retired->sessions[i].session == session)
            return &retired->sessions[i];
    return NULL;
}

/* A new session takes the place of the one that was silent for longest. */
static struct retired_session *make_locked(struct retired *retired, uint64_t session)
{
    struct retired_session *oldest = &retired->sessions[0];
    for (size_t i = 1; i < N_ELEMENTS(retired->sessions); i++)
        if (retired->sessions[i].used_at < oldest->used_at)
            oldest = &retired->sessions[i];
    oldest->session = session;
    oldest->first = oldest->n = 0;
    return oldest;
}

static void add_locked(struct retired *retired, uint64_t session, uint64_t unique)
{
    struct retired_session *s = find_locked(retired, session);
    if (!s)
        s = make_locked(retired, session);
    s->used_at = ++retired->clock;
    if (s->n == RETIRED_PER_SESSION) {
        s->first = (s->first + 1) % RETIRED_PER_SESSION;
        s->n--;
    }
    s->uniques[(s->first + s->n++) % RETIRED_PER_SESSION] = unique;
}

void retired_add(struct retired *retired, uint64_t session, uint64_t unique)
{
    if (session == 0)
        return;
    SCOPED_LOCK(&retired->lock);
    add_locked(retired, session, unique);
}

void retired_attach(struct retired *retired, struct request *request)
{
    request->n_retire = 0;
    if (request->identity.session == 0)
        return;
    SCOPED_LOCK(&retired->lock);
    struct retired_session *s = find_locked(retired, request->identity.session);
    while (s && s->n > 0 && request->n_retire < REQUEST_RETIRE_MAX) {
        request->retire[request->n_retire++] = s->uniques[s->first];
        s->first = (s->first + 1) % RETIRED_PER_SESSION;
        s->n--;
    }
}

void retired_return(struct retired *retired, const struct request *request)
{
    if (request->identity.session == 0 || request->n_retire == 0)
        return;
    SCOPED_LOCK(&retired->lock);
    for (uint32_t i = 0; i < request->n_retire; i++)
        add_locked(retired, request->identity.session, request->retire[i]);
}
