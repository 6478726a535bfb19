/* Random operations on a tree, on a replica that gets them as encoded log entries, and on a trivial model of names
 * and link counts. What the home decides must be what the model says; all three must agree in the end. */
#include "tests/unit/fs/test_tree_fixture.h"

#include <stdlib.h>
#include <sys/xattr.h>

#define N_OPERATIONS 6000
#define MODEL_INODES 8192
#define MODEL_NAMES 8192
#define NAME_SIZE 8

/* ---- the model ---- */

struct model_inode {
    bool exists;
    mode_t type;
    uint32_t nlink;
    uint64_t parent;
    uint64_t held_by;
};

struct model_name {
    uint64_t parent, ino; /* ino 0: free */
    char name[NAME_SIZE];
};

struct model {
    struct model_inode inodes[MODEL_INODES];
    struct model_name names[MODEL_NAMES];
    uint64_t next_ino;
};

static struct model_name *model_find(struct model *m, uint64_t parent, const char *name)
{
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (m->names[i].ino && m->names[i].parent == parent && strcmp(m->names[i].name, name) == 0)
            return &m->names[i];
    return NULL;
}

static void model_add(struct model *m, uint64_t parent, const char *name, uint64_t ino)
{
    for (size_t i = 0; i < MODEL_NAMES; i++) {
        if (m->names[i].ino == 0) {
            m->names[i] = (struct model_name){.parent = parent, .ino = ino};
            snprintf(m->names[i].name, sizeof m->names[i].name, "%s", name);
            return;
        }
    }
    cr_assert_fail("the model is full");
}

static bool is_dir(struct model *m, uint64_t ino)
{
    return S_ISDIR(m->inodes[ino].type);
}

static bool model_is_empty(struct model *m, uint64_t dir)
{
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (m->names[i].ino && m->names[i].parent == dir)
            return false;
    return true;
}

static int model_dir(struct model *m, uint64_t ino)
{
    if (ino >= MODEL_INODES || !m->inodes[ino].exists)
        return -ENOENT;
    if (!is_dir(m, ino))
        return -ENOTDIR;
    return m->inodes[ino].nlink == 0 ? -ENOENT : 0;
}

static bool model_within(struct model *m, uint64_t dir, uint64_t ino)
{
    for (; dir != ROOT_INO; dir = m->inodes[dir].parent)
        if (dir == ino)
            return true;
    return ino == ROOT_INO;
}

static void model_lose(struct model *m, struct model_name *name, const struct request *rq)
{
    struct model_inode *inode = &m->inodes[name->ino];
    if (S_ISDIR(inode->type))
        m->inodes[name->parent].nlink--;
    inode->nlink = S_ISDIR(inode->type) ? 0 : inode->nlink - 1;
    if (inode->nlink == 0 && (rq->flags & REQUEST_HOLD))
        inode->held_by = rq->identity.host.n;
    else if (inode->nlink == 0)
        inode->exists = false;
    name->ino = 0;
}

static int model_make(struct model *m, const struct request *rq, const char *name)
{
    int r = model_dir(m, rq->parent);
    if (r < 0)
        return r;
    bool nameless = rq->flags & REQUEST_NAMELESS;
    if (!nameless && model_find(m, rq->parent, name))
        return -EEXIST;
    uint64_t ino = m->next_ino++;
    cr_assert_lt(ino, MODEL_INODES);
    bool dir = S_ISDIR(rq->mode);
    m->inodes[ino] = (struct model_inode){.exists = true,
                                          .type = rq->mode & S_IFMT,
                                          .nlink = dir ? 2 : !nameless,
                                          .held_by = nameless ? rq->identity.host.n : 0,
                                          .parent = dir || nameless ? rq->parent : 0};
    m->inodes[rq->parent].nlink += dir;
    if (!nameless)
        model_add(m, rq->parent, name, ino);
    return 0;
}

static int model_link(struct model *m, const struct request *rq, const char *name)
{
    if (rq->ino >= MODEL_INODES || !m->inodes[rq->ino].exists)
        return -ENOENT;
    int r = model_dir(m, rq->parent);
    if (r < 0)
        return r;
    if (model_find(m, rq->parent, name))
        return -EEXIST;
    if (is_dir(m, rq->ino))
        return -EPERM;
    struct model_inode *inode = &m->inodes[rq->ino];
    if (inode->nlink == 0 && (inode->parent == 0 || inode->held_by != rq->identity.host.n))
        return -ENOENT;
    if (inode->nlink++ == 0)
        inode->parent = inode->held_by = 0;
    model_add(m, rq->parent, name, rq->ino);
    return 0;
}

static int model_remove(struct model *m, const struct request *rq, const char *name)
{
    int r = model_dir(m, rq->parent);
    if (r < 0)
        return r;
    struct model_name *found = model_find(m, rq->parent, name);
    if (!found)
        return -ENOENT;
    if (rq->kind == REQUEST_UNLINK && is_dir(m, found->ino))
        return -EISDIR;
    if (rq->kind == REQUEST_RMDIR && !is_dir(m, found->ino))
        return -ENOTDIR;
    if (rq->kind == REQUEST_RMDIR && !model_is_empty(m, found->ino))
        return -ENOTEMPTY;
    model_lose(m, found, rq);
    return 0;
}

static void model_move(struct model *m, struct model_name *name, uint64_t to)
{
    if (is_dir(m, name->ino)) {
        m->inodes[name->parent].nlink--;
        m->inodes[to].nlink++;
        m->inodes[name->ino].parent = to;
    }
}

static int model_rename(struct model *m, const struct request *rq, const char *name,
                        const char *new_name)
{
    int r = model_dir(m, rq->parent);
    if (r == 0)
        r = model_dir(m, rq->new_parent);
    if (r < 0)
        return r;
    struct model_name *from = model_find(m, rq->parent, name);
    struct model_name *to = model_find(m, rq->new_parent, new_name);
    bool swap = rq->rename_flags & RENAME_EXCHANGE;
    if (!from)
        return -ENOENT;
    if (to && (rq->rename_flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!to && swap)
        return -ENOENT;
    if (is_dir(m, from->ino) && model_within(m, rq->new_parent, from->ino))
        return -EINVAL;
    if (to && is_dir(m, to->ino) && model_within(m, rq->parent, to->ino))
        return swap ? -EINVAL : -ENOTEMPTY;
    if (to && to->ino == from->ino)
        return 2;
    if (swap) {
        model_move(m, from, rq->new_parent);
        model_move(m, to, rq->parent);
        uint64_t ino = from->ino;
        from->ino = to->ino;
        to->ino = ino;
        return 0;
    }
    if (to && is_dir(m, from->ino) != is_dir(m, to->ino))
        return is_dir(m, to->ino) ? -EISDIR : -ENOTDIR;
    if (to && is_dir(m, to->ino) && !model_is_empty(m, to->ino))
        return -ENOTEMPTY;
    uint64_t ino = from->ino;
    if (to)
        model_lose(m, to, rq);
    model_move(m, from, rq->new_parent);
    from->ino = 0;
    model_add(m, rq->new_parent, new_name, ino);
    return 0;
}

static int model_drop(struct model *m, const struct request *rq)
{
    struct model_inode *inode = &m->inodes[rq->ino % MODEL_INODES];
    if (!inode->exists || inode->held_by == 0 || inode->held_by != rq->identity.host.n)
        return 2;
    inode->exists = false;
    return 0;
}

/* ---- a dump of everything that can be read ---- */

struct dump {
    struct tree *tree;
    FILE *out;
    uint64_t n_inodes;
    uint64_t n_incomplete, n_listed; /* by the inodes themselves, by the index */
};

static bool dump_name(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct dump *d = ctx;
    fprintf(d->out, "  %.*s %lu -> %lu\n", (int)name.size, (const char *)name.data, cookie,
            inode->ino);
    return true;
}

static bool dump_inode(void *ctx, const struct inode *i)
{
    struct dump *d = ctx;
    d->n_inodes++;
    d->n_incomplete += S_ISREG(i->mode) && !i->keeper_complete;
    fprintf(d->out, "%lu: %lu %lu v%lu k%lu w%lu %d %o n%u %u:%u %u %ld %ld %ld %ld\n", i->ino,
            i->parent, i->size, i->version, i->keeper.n, i->writer.n, i->keeper_complete, i->mode,
            i->nlink, i->uid, i->gid, i->rdev, i->atime_ns, i->mtime_ns, i->ctime_ns, i->btime_ns);
    static char buffer[65536], value[65536];
    size_t used = 0, size = 0;
    if (S_ISLNK(i->mode)) {
        cr_assert_eq(tree_readlink(d->tree, i->ino, buffer, sizeof buffer, &used), 0);
        fprintf(d->out, "  -> %.*s\n", (int)used, buffer);
    }
    cr_assert_eq(tree_listxattr(d->tree, i->ino, buffer, sizeof buffer, &used), 0);
    for (const char *name = buffer; name < buffer + used; name += strlen(name) + 1) {
        cr_assert_eq(tree_getxattr(d->tree, i->ino, str(name), value, sizeof value, &size), 0);
        fprintf(d->out, "  %s=%.*s\n", name, (int)size, value);
    }
    if (S_ISDIR(i->mode))
        cr_assert_eq(tree_readdir(d->tree, i->ino, 0, dump_name, d), 0);
    return true;
}

static bool dump_ino(void *ctx, const struct inode *inode)
{
    struct dump *d = ctx;
    fprintf(d->out, " %lu", inode->ino);
    return true;
}

static bool dump_incomplete(void *ctx, const struct inode *inode)
{
    struct dump *d = ctx;
    cr_assert_not(inode->keeper_complete, "inode %lu", inode->ino);
    d->n_listed++;
    return dump_ino(ctx, inode);
}

/* The caller frees. */
static char *dump(struct tree *tree)
{
    char *text = NULL;
    size_t size = 0;
    struct dump d = {.tree = tree, .out = open_memstream(&text, &size)};
    cr_assert_eq(tree_each(tree, 0, dump_inode, &d), 0);
    for (uint64_t host = 0xa; host <= 0xc; host++) {
        fprintf(d.out, "writer %lu:", host);
        cr_assert_eq(tree_each_writer(tree, (struct host_id){host}, dump_ino, &d), 0);
        fprintf(d.out, "\nheld %lu:", host);
        cr_assert_eq(tree_each_held(tree, (struct host_id){host}, dump_ino, &d), 0);
        fprintf(d.out, "\nincomplete %lu:", host);
        cr_assert_eq(tree_each_incomplete(tree, (struct host_id){host}, dump_incomplete, &d), 0);
    }
    cr_assert_eq(d.n_listed, d.n_incomplete);
    struct tree_usage usage;
    tree_usage(tree, &usage);
    cr_assert_eq(usage.n_inodes, d.n_inodes);
    fprintf(d.out, "\n%lu %lu %lu %lu\n", tree_applied(tree), usage.limit_bytes, usage.used_bytes,
            usage.n_inodes);
    fclose(d.out);
    return text;
}

/* ---- random requests ---- */

static const char *const letters[] = {"a", "b", "c", "d", "e", "f", "g"};

struct run {
    struct tree_fixture home, replica;
    struct model *model;
    uint64_t random;
    int n_changes, n_refused;
};

static uint64_t draw(struct run *run, uint64_t below)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return run->random % below;
}

/* Mostly what exists, now and then what does not. */
static uint64_t draw_ino(struct run *run, bool dir)
{
    struct model *m = run->model;
    for (int i = 0; i < 200; i++) {
        uint64_t ino = 1 + draw(run, m->next_ino);
        if (m->inodes[ino].exists && (!dir || is_dir(m, ino)))
            return ino;
    }
    return draw(run, 2) ? ROOT_INO : m->next_ino + 5;
}

static uint64_t draw_dir(struct run *run)
{
    return draw_ino(run, draw(run, 20) != 0);
}

static const char *draw_name(struct run *run)
{
    return letters[draw(run, N_ELEMENTS(letters))];
}

static void draw_make(struct run *run, struct request *rq)
{
    static const mode_t types[] = {S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO};
    rq->mode = types[draw(run, N_ELEMENTS(types))] | (mode_t)draw(run, 010000);
    if (S_ISLNK(rq->mode))
        rq->value = str(draw(run, 2) ? "target" : "a/longer/target");
    rq->uid = (uint32_t)draw(run, 3);
    rq->gid = (uint32_t)draw(run, 3);
    rq->flags &= ~REQUEST_NAMELESS;
    if (S_ISREG(rq->mode) && draw(run, 4) == 0) {
        rq->flags |= REQUEST_NAMELESS;
        rq->name = (struct span){0};
    }
}

static uint64_t version_of(struct run *run, uint64_t ino)
{
    struct inode inode = {0};
    (void)!tree_get(run->home.tree, ino, &inode);
    return draw(run, 10) ? inode.version : inode.version + 1;
}

/* Everything that is not names: the model has no opinion of it. */
static void draw_other(struct run *run, struct request *rq)
{
    static const enum request_kind kinds[] = {
        REQUEST_SETATTR, REQUEST_SETXATTR,    REQUEST_REMOVEXATTR, REQUEST_OPEN_WRITE,
        REQUEST_PUBLISH, REQUEST_CLOSE_WRITE, REQUEST_KEEP,        REQUEST_CONFIGURE,
    };
    rq->kind = kinds[draw(run, N_ELEMENTS(kinds))];
    rq->ino = draw_ino(run, false);
    rq->set = (uint32_t)draw(run, SET_ALL + 1);
    rq->uid = (uint32_t)draw(run, 5);
    rq->atime_ns = (int64_t)draw(run, 1000);
    rq->mtime_ns = (int64_t)draw(run, 1000);
    rq->base_version = version_of(run, rq->ino);
    rq->size = draw(run, 3) ? draw(run, 100000) : 0;
    if (rq->kind == REQUEST_CONFIGURE)
        rq->limit_bytes = (1ULL << 40) + draw(run, 1000);
    else
        rq->limit_bytes = 0;
    rq->value = rq->kind == REQUEST_SETXATTR ? str(draw(run, 2) ? "value" : "") : (struct span){0};
    rq->xattr_flags = (uint32_t)draw(run, 3);
}

static struct request draw_request(struct run *run, char *name, char *new_name)
{
    static const enum request_kind kinds[] = {
        REQUEST_MAKE,   REQUEST_MAKE,    REQUEST_MAKE,    REQUEST_LINK,    REQUEST_UNLINK,
        REQUEST_UNLINK, REQUEST_RMDIR,   REQUEST_RENAME,  REQUEST_RENAME,  REQUEST_RENAME,
        REQUEST_DROP,   REQUEST_SETATTR, REQUEST_SETATTR, REQUEST_SETATTR,
    };
    static const uint32_t rename_flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    (void)snprintf(name, NAME_SIZE, "%s", draw_name(run));
    (void)snprintf(new_name, NAME_SIZE, "%s", draw_name(run));
    struct request rq = {
        .kind = kinds[draw(run, N_ELEMENTS(kinds))],
        .identity = {.host = {0xa + draw(run, 3)}, .session = 1 + draw(run, 2)},
        .parent = draw_dir(run),
        .new_parent = draw_dir(run),
        .name = str(name),
        .new_name = str(new_name),
        .ino = draw_ino(run, false),
        .flags = (uint32_t)draw(run, REQUEST_FLAGS_ALL + 1), /* useful or not */
        .mode = (mode_t)draw(run, UINT32_MAX),
    };
    rq.identity.unique = ++run->home.unique;
    for (; rq.n_retire < draw(run, 4); rq.n_retire++)
        rq.retire[rq.n_retire] = run->home.unique - draw(run, MIN(run->home.unique, 20));
    if (rq.kind == REQUEST_MAKE)
        draw_make(run, &rq);
    else if (rq.kind == REQUEST_SETATTR)
        draw_other(run, &rq);
    if (rq.kind == REQUEST_RENAME)
        rq.rename_flags = rename_flags[draw(run, N_ELEMENTS(rename_flags))];
    if (draw(run, 150) == 0)
        rq.kind = REQUEST_SESSION;
    return rq;
}

/* What the model says, or 3 where it has no opinion. */
static int model_answer(struct model *m, const struct request *rq, const char *name,
                        const char *new_name)
{
    switch (rq->kind) {
    case REQUEST_MAKE:
        return model_make(m, rq, name);
    case REQUEST_LINK:
        return model_link(m, rq, name);
    case REQUEST_UNLINK:
    case REQUEST_RMDIR:
        return model_remove(m, rq, name);
    case REQUEST_RENAME:
        return model_rename(m, rq, name, new_name);
    case REQUEST_DROP:
        return model_drop(m, rq);
    default:
        return 3;
    }
}

/* ---- home and replica ---- */

static void send_to_replica(struct run *run, const struct change *change)
{
    static uint8_t bytes[REQUEST_BYTES_MAX];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_change(&w, change);
    cr_assert_not(w.bad);
    struct reader r = reader_over(bytes, writer_used(&w));
    struct change decoded;
    cr_assert_eq(get_change(&r, &decoded), 0, "kind %s", request_kind_name(change->request.kind));
    decoded.index = change->index; /* the log's, not the payload's */
    cr_assert_eq(tree_apply(run->replica.tree, &decoded, &run->replica.effect), 0);
    cr_assert_eq(
        memcmp(&run->replica.effect.outcome, &run->home.effect.outcome, sizeof(struct outcome)), 0);
    cr_assert_eq(run->replica.effect.gone, run->home.effect.gone);
}

static void settle_replica(struct run *run)
{
    cr_assert_eq(tree_commit(run->replica.tree), 0);
}

static void step(struct run *run)
{
    char name[NAME_SIZE], new_name[NAME_SIZE];
    struct request rq = draw_request(run, name, new_name);
    struct change change;
    struct outcome outcome;
    run->home.now_ns += 1 + (int64_t)draw(run, 5);
    int r = tree_decide(run->home.tree, &rq, run->home.now_ns, &change, &outcome);
    int expected = model_answer(run->model, &rq, name, new_name);
    cr_assert(expected == 3 || r == expected, "%s %lu/%s -> %lu/%s flags %u ino %lu: %d, not %d",
              request_kind_name(rq.kind), rq.parent, name, rq.new_parent, new_name, rq.rename_flags,
              rq.ino, r, expected);
    run->n_refused += r < 0;
    if (r != 0)
        return;
    run->n_changes++;
    change.index = tree_applied(run->home.tree) + 1;
    cr_assert_eq(tree_apply(run->home.tree, &change, &run->home.effect), 0, "%s",
                 request_kind_name(rq.kind));
    send_to_replica(run, &change);
    if (draw(run, 10) == 0)
        settle_replica(run);
}

/* The replica starts again from a copy of the home, as a joiner does. */
static void replace_replica(struct run *run)
{
    settle_replica(run);
    uint64_t index;
    cr_assert_eq(tree_checkpoint(run->home.tree, run->home.dirfd, "checkpoint", &index), 0);
    cr_assert_eq(index, tree_applied(run->home.tree));
    tree_free(TAKE(run->replica.tree));
    cr_assert_eq(renameat(run->home.dirfd, "checkpoint", run->replica.dirfd, TREE_FILE), 0);
    fixture_reopen(&run->replica, SMALL_MAP);
}

static void compare(struct run *run)
{
    settle_replica(run);
    AUTO_FREE char *home = dump(run->home.tree);
    AUTO_FREE char *replica = dump(run->replica.tree);
    cr_assert_str_eq(home, replica);

    struct model *m = run->model;
    uint64_t n = 0;
    for (uint64_t ino = 1; ino < MODEL_INODES; ino++) {
        struct inode inode;
        int r = tree_get(run->home.tree, ino, &inode);
        cr_assert_eq(r, m->inodes[ino].exists ? 0 : -ENOENT, "inode %lu", ino);
        if (r < 0)
            continue;
        n++;
        cr_assert_eq(inode.nlink, m->inodes[ino].nlink, "inode %lu: %u, not %u", ino, inode.nlink,
                     m->inodes[ino].nlink);
        cr_assert_eq(inode.mode & S_IFMT, m->inodes[ino].type);
        cr_assert_eq(inode.parent, m->inodes[ino].parent);
    }
    struct tree_usage usage;
    tree_usage(run->home.tree, &usage);
    cr_assert_eq(usage.n_inodes, n);
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (m->names[i].ino)
            cr_assert_eq(ino_at(&run->home, m->names[i].parent, m->names[i].name), m->names[i].ino);
}

static void run_model(uint64_t seed)
{
    struct run run = {.random = seed * 0x9e3779b97f4a7c15ULL + 1};
    AUTO_FREE struct model *model = calloc(1, sizeof *model);
    run.model = model;
    model->next_ino = 2;
    model->inodes[ROOT_INO] =
        (struct model_inode){.exists = true, .type = S_IFDIR, .nlink = 2, .parent = ROOT_INO};
    fixture_init(&run.home);
    fixture_init(&run.replica);
    run.home.unique = 100;
    for (int i = 0; i < N_OPERATIONS; i++) {
        step(&run);
        if (i == N_OPERATIONS / 2)
            replace_replica(&run);
        if (i % 1000 == 999)
            compare(&run);
    }
    compare(&run);
    cr_expect_gt(run.n_changes, N_OPERATIONS / 4, "seed %lu: %d changes", seed, run.n_changes);
    cr_expect_gt(run.n_refused, N_OPERATIONS / 10);
    fixture_done(&run.home);
    fixture_done(&run.replica);
}

Test(tree_model, seed_1, .timeout = 60)
{
    run_model(1);
}

Test(tree_model, seed_2, .timeout = 60)
{
    run_model(2);
}

/* WHISKFS_SEED=n looks elsewhere. */
Test(tree_model, seed_from_outside, .timeout = 60)
{
    const char *seed = getenv("WHISKFS_SEED");
    run_model(seed ? strtoull(seed, NULL, 10) : 3);
}
