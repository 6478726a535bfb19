/* tests/model/generate.c — random operations. */
#include "tests/model/generate.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/clock.h"

#define DEPTH_MAX 5

static uint64_t draw(struct generator *g, uint64_t below)
{
    g->random ^= g->random << 13;
    g->random ^= g->random >> 7;
    g->random ^= g->random << 17;
    return (g->random >> 11) % below;
}

static bool chance(struct generator *g, unsigned percent)
{
    return draw(g, 100) < percent;
}

#define DRAW_FROM(g, array) (array)[draw(g, N_ELEMENTS(array))]

/* ---- paths ---- */

static const char *draw_letter(struct generator *g)
{
    static const char *const letters[] = {"a", "b", "c", "d", "e"};
    static const char *const odd[] = {"@255", "@256", "@100", "..", "."};

    return chance(g, 97) ? DRAW_FROM(g, letters) : DRAW_FROM(g, odd);
}

static const struct name *draw_name(struct generator *g, const struct inode *dir)
{
    uint64_t n = 0;

    for (const struct name *name = inode_names(dir); name; name = name->next)
        n++;
    if (n == 0)
        return NULL;
    const struct name *name = inode_names(dir);
    for (uint64_t i = draw(g, n); i > 0; i--)
        name = name->next;
    return name;
}

static void append(char path[OP_PATH_SIZE], const char *text)
{
    size_t used = strlen(path), length = strlen(text);
    const char *slash = used > 0 ? "/" : "";

    if (length > 1 && text[0] == 'n')
        (void)snprintf(path + used, OP_PATH_SIZE - used, "%s@%zu", slash, length);
    else
        (void)snprintf(path + used, OP_PATH_SIZE - used, "%s%s", slash, text);
}

/* percent: how often each component is one that exists. */
static void draw_path(struct generator *g, struct model *model, unsigned percent,
                      char path[OP_PATH_SIZE])
{
    const struct inode *dir = model_root(model);

    for (unsigned depth = 0; depth < DEPTH_MAX && strlen(path) < OP_PATH_SIZE - 12; depth++) {
        const struct name *name = chance(g, percent) ? draw_name(g, dir) : NULL;
        append(path, name ? name->text : draw_letter(g));
        if (!name)
            return;
        dir = name->inode;
        if (S_ISLNK(inode_mode(dir)) && chance(g, 30))
            append(path, draw_letter(g));
        if (!S_ISDIR(inode_mode(dir)) || chance(g, 35))
            return;
    }
}

/* Too long for the kernel, now and then. */
static void draw_any_path(struct generator *g, struct model *model, unsigned percent,
                          char path[OP_PATH_SIZE])
{
    if (draw(g, 500) == 0)
        append(path, "@255/@255/@4000/a");
    else
        draw_path(g, model, percent, path);
}

static void old_path(struct generator *g, struct model *model, struct op *op)
{
    draw_any_path(g, model, 92, op->path);
}

static void new_path(struct generator *g, struct model *model, struct op *op)
{
    draw_any_path(g, model, 55, op->path);
}

/* ---- numbers ---- */

static int64_t draw_offset(struct generator *g)
{
    static const int64_t edges[] = {0, 1, 100, 4095, 4096, 8192, 65536, 131071, 131072, 262144};

    return chance(g, 70) ? DRAW_FROM(g, edges) : (int64_t)draw(g, 300000);
}

static int64_t draw_size(struct generator *g)
{
    static const int64_t edges[] = {1, 10, 100, 4096, 4097, 20000, 65536};

    return chance(g, 80) ? DRAW_FROM(g, edges) : (int64_t)draw(g, 70000);
}

static mode_t draw_mode(struct generator *g)
{
    static const mode_t modes[] = {0644, 0666, 0777, 0755,  0700,  0600,  0000,  0444, 0111,
                                   0222, 0007, 0070, 01777, 02775, 04755, 06777, 02644};
    return DRAW_FROM(g, modes);
}

/* A slot that is in use, if few tries find one; or one that is free. */
static uint8_t draw_fd(struct generator *g, const struct model *model, bool used)
{
    uint8_t fd = 0;

    for (int i = 0; i < 8; i++) {
        fd = (uint8_t)draw(g, N_FDS);
        if ((model_fd(model, fd) != NULL) == used)
            break;
    }
    return fd;
}

static uint8_t draw_map(struct generator *g, const struct model *model, bool used)
{
    uint8_t map = 0;
    int64_t size;

    for (int i = 0; i < 8; i++) {
        map = (uint8_t)draw(g, N_MAPS);
        if (model_map_is_used(model, map, &size) == used)
            break;
    }
    return map;
}

static uint8_t draw_stream(struct generator *g, const struct model *model, bool used)
{
    uint8_t stream = (uint8_t)draw(g, N_STREAMS);

    return model_stream_is_used(model, stream) == used ? stream : (stream + 1) % N_STREAMS;
}

/* ---- the operations ---- */

static void draw_open(struct generator *g, struct model *model, struct op *op)
{
    static const uint32_t accesses[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
    static const uint32_t extras[] = {O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_TRUNC};

    op->fd = draw_fd(g, model, false);
    op->flags = DRAW_FROM(g, accesses);
    op->mode = draw_mode(g);
    if (chance(g, 4)) {
        op->flags |= O_TMPFILE | (chance(g, 30) ? O_EXCL : 0);
    } else if (chance(g, 5)) {
        op->flags |= O_DIRECTORY;
    } else {
        op->flags |= chance(g, 50) ? O_CREAT : 0;
        op->flags |= chance(g, 40) ? DRAW_FROM(g, extras) : 0;
        if (!(op->flags & O_CREAT))
            op->flags &= ~(uint32_t)O_EXCL;
    }
    draw_any_path(g, model, op->flags & O_CREAT ? 70 : 92, op->path);
}

static void draw_fd_op(struct generator *g, struct model *model, struct op *op)
{
    op->fd = draw_fd(g, model, true);
    op->offset = draw_offset(g);
    op->size = draw_size(g);
    op->pattern = (uint8_t)draw(g, 256);
    op->mode = draw_mode(g);
    op->flags = op->kind == OP_FSYNC ? (uint32_t)draw(g, 2) : 0;
}

static void draw_seek(struct generator *g, struct model *model, struct op *op)
{
    static const uint32_t whences[] = {SEEK_SET,  SEEK_CUR,  SEEK_END,
                                       SEEK_DATA, SEEK_HOLE, SEEK_DATA};

    draw_fd_op(g, model, op);
    op->flags = DRAW_FROM(g, whences);
    if (op->flags == SEEK_CUR || op->flags == SEEK_END)
        op->offset = (int64_t)draw(g, 20000) - 10000;
}

static void draw_resize(struct generator *g, struct model *model, struct op *op)
{
    if (op->kind == OP_TRUNCATE)
        old_path(g, model, op);
    op->fd = draw_fd(g, model, true);
    op->size = chance(g, 2) ? -1 : draw_offset(g);
}

static void draw_allocate(struct generator *g, struct model *model, struct op *op)
{
    static const uint32_t modes[] = {0,
                                     FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_ZERO_RANGE,
                                     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    draw_fd_op(g, model, op);
    op->flags = DRAW_FROM(g, modes);
}

static void draw_copy(struct generator *g, struct model *model, struct op *op)
{
    draw_fd_op(g, model, op);
    op->other = draw_fd(g, model, true);
    op->offset2 = draw_offset(g);
}

static void draw_mmap(struct generator *g, struct model *model, struct op *op)
{
    op->fd = draw_fd(g, model, true);
    op->other = draw_map(g, model, false);
    op->offset = (int64_t)draw(g, 3) * 65536;
    op->size = draw_size(g);
    op->flags = (uint32_t)draw(g, 2);
}

/* Inside the map if there is room; the model leaves alone what is not. */
static void draw_map_op(struct generator *g, struct model *model, struct op *op)
{
    int64_t size;

    op->other = draw_map(g, model, true);
    if (!model_map_is_used(model, op->other, &size))
        size = 1;
    op->offset = (int64_t)draw(g, (uint64_t)size);
    op->size = 1 + (int64_t)draw(g, (uint64_t)MIN(size - op->offset, chance(g, 50) ? 100 : 65536));
    op->pattern = (uint8_t)draw(g, 256);
}

static void draw_make(struct generator *g, struct model *model, struct op *op)
{
    static const mode_t types[] = {S_IFREG, S_IFREG, S_IFIFO, S_IFSOCK};

    new_path(g, model, op);
    op->mode = draw_mode(g);
    if (op->kind == OP_MKNOD)
        op->mode |= DRAW_FROM(g, types);
}

static void draw_symlink(struct generator *g, struct model *model, struct op *op)
{
    static const char *const targets[] = {"a",  "b", "c/a",  "../a", "../b/c", "/a", "/b/c",
                                          "..", ".", "/d/e", "e",    "@255",   "d"};
    new_path(g, model, op);
    append(op->path2, DRAW_FROM(g, targets));
}

static void draw_two_paths(struct generator *g, struct model *model, struct op *op)
{
    static const uint32_t flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE};

    old_path(g, model, op);
    op->fd = draw_fd(g, model, true);
    if (op->kind == OP_LINKFD)
        op->path[0] = '\0';
    op->flags = op->kind == OP_RENAME ? DRAW_FROM(g, flags) : 0;
    draw_any_path(g, model, 65, op->path2);
}

static void draw_attribute_op(struct generator *g, struct model *model, struct op *op)
{
    static const int32_t ids[] = {-1, -1, 0, 1001, 1002, 1003};

    old_path(g, model, op);
    op->mode = op->kind == OP_ACCESS ? (uint32_t)draw(g, 8) : draw_mode(g);
    op->flags = (uint32_t)draw(g, op->kind == OP_UTIMENS ? 4 : 2);
    op->uid = DRAW_FROM(g, ids);
    op->gid = DRAW_FROM(g, ids);
    if (op->kind == OP_UTIMENS)
        op->offset = 1000000000 * NS_PER_S + (int64_t)draw(g, 1000000) * NS_PER_S +
                     (int64_t)draw(g, NS_PER_S);
}

static void draw_xattr(struct generator *g, struct model *model, struct op *op)
{
    static const char *const names[] = {"user.a", "user.b", "user.c"};
    static const int64_t sizes[] = {0, 1, 20, 300};

    old_path(g, model, op);
    append(op->path2, DRAW_FROM(g, names));
    op->size = DRAW_FROM(g, sizes);
    op->pattern = (uint8_t)draw(g, 256);
    if (op->kind == OP_SETXATTR && chance(g, 40))
        op->flags = chance(g, 50) ? XATTR_CREATE : XATTR_REPLACE;
}

static void draw_stream_op(struct generator *g, struct model *model, struct op *op)
{
    static const int64_t sizes[] = {400, 600, 1000, 4096};

    if (op->kind == OP_OPENDIR)
        old_path(g, model, op);
    op->other = draw_stream(g, model, op->kind != OP_OPENDIR);
    op->size = op->kind == OP_READDIR ? DRAW_FROM(g, sizes) : 0;
    op->offset = op->kind == OP_SEEKDIR ? (int64_t)draw(g, 4) : 0;
}

struct weight {
    enum op_kind kind;
    unsigned weight;
    void (*draw)(struct generator *g, struct model *model, struct op *op);
};

static const struct weight weights[] = {
    {OP_OPEN, 14, draw_open},          {OP_CLOSE, 9, draw_fd_op},
    {OP_READ, 4, draw_fd_op},          {OP_PREAD, 8, draw_fd_op},
    {OP_WRITE, 7, draw_fd_op},         {OP_PWRITE, 9, draw_fd_op},
    {OP_LSEEK, 5, draw_seek},          {OP_FTRUNCATE, 3, draw_resize},
    {OP_TRUNCATE, 3, draw_resize},     {OP_FALLOCATE, 4, draw_allocate},
    {OP_COPY, 3, draw_copy},           {OP_FSYNC, 1, draw_fd_op},
    {OP_FSTAT, 4, draw_fd_op},         {OP_FCHMOD, 1, draw_fd_op},
    {OP_MMAP, 3, draw_mmap},           {OP_STORE, 6, draw_map_op},
    {OP_LOAD, 5, draw_map_op},         {OP_MSYNC, 2, draw_map_op},
    {OP_MUNMAP, 2, draw_map_op},       {OP_MKDIR, 8, draw_make},
    {OP_MKNOD, 3, draw_make},          {OP_SYMLINK, 4, draw_symlink},
    {OP_LINK, 5, draw_two_paths},      {OP_LINKFD, 1, draw_two_paths},
    {OP_UNLINK, 7, old_path},          {OP_RMDIR, 5, old_path},
    {OP_RENAME, 12, draw_two_paths},   {OP_STAT, 8, draw_attribute_op},
    {OP_READLINK, 2, old_path},        {OP_CHMOD, 4, draw_attribute_op},
    {OP_CHOWN, 3, draw_attribute_op},  {OP_UTIMENS, 3, draw_attribute_op},
    {OP_ACCESS, 2, draw_attribute_op}, {OP_SETXATTR, 3, draw_xattr},
    {OP_GETXATTR, 2, draw_xattr},      {OP_REMOVEXATTR, 1, draw_xattr},
    {OP_LISTXATTR, 1, draw_xattr},     {OP_OPENDIR, 2, draw_stream_op},
    {OP_READDIR, 3, draw_stream_op},   {OP_SEEKDIR, 1, draw_stream_op},
    {OP_CLOSEDIR, 1, draw_stream_op},
};

static const struct weight *draw_weight(struct generator *g)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < N_ELEMENTS(weights); i++)
        sum += weights[i].weight;
    uint64_t at = draw(g, sum);
    const struct weight *w = weights;
    while (at >= w->weight)
        at -= w++->weight;
    return w;
}

static bool needs_root(const struct op *op)
{
    return op->kind == OP_LINKFD;
}

void generate(struct generator *g, struct model *model, struct op *ret_op)
{
    *ret_op = (struct op){.host = (uint8_t)draw(g, g->n_hosts)};
    if (g->per_restart > 0 && draw(g, g->per_restart) == 0) {
        ret_op->kind = chance(g, 50) ? OP_KILL : OP_REMOUNT;
    } else if (draw(g, g->per_tree) == 0) {
        ret_op->kind = OP_TREE;
    } else {
        const struct weight *w = draw_weight(g);
        ret_op->kind = (uint8_t)w->kind;
        w->draw(g, model, ret_op);
        if (!g->same_user && !needs_root(ret_op) && chance(g, 35))
            ret_op->user = (uint8_t)draw(g, N_USERS);
    }
}
