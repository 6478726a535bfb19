/* Encodings of requests and changes: one for each, and nothing else is accepted. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fs/request.h"

TestSuite(request, .timeout = 30);

static struct span span_of(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* A valid request of the kind, with every field that it uses different from zero. */
static struct request sample(enum request_kind kind)
{
    struct request q = {
        .kind = kind,
        .identity = {.host = {0x1122334455667788}, .session = 77, .unique = 42},
        .flags = REQUEST_DURABLE,
        .n_retire = 2,
        .retire = {40, UINT64_MAX},
    };
    switch (kind) {
    case REQUEST_MAKE:
        q.parent = ROOT_INO, q.name = span_of("a name"), q.mode = S_IFLNK | 0777, q.uid = 1,
        q.gid = 2;
        q.rdev = 3, q.umask = 022, q.value = span_of("../target");
        break;
    case REQUEST_LINK:
        q.ino = 9, q.parent = 5, q.name = span_of("link");
        break;
    case REQUEST_UNLINK:
    case REQUEST_RMDIR:
        q.parent = 5, q.name = span_of("..."), q.flags |= REQUEST_HOLD;
        break;
    case REQUEST_RENAME:
        q.parent = 5, q.name = span_of("old"), q.new_parent = 6, q.new_name = span_of("new");
        q.rename_flags = 2;
        break;
    case REQUEST_SETATTR:
        q.ino = 9, q.set = SET_ALL, q.mode = 0644, q.uid = 1, q.gid = 2, q.atime_ns = -5,
        q.mtime_ns = 6;
        break;
    case REQUEST_SETXATTR:
        q.ino = 9, q.name = span_of("user./x."), q.value = span_of("v"),
        q.xattr_flags = XATTR_CREATE;
        break;
    case REQUEST_REMOVEXATTR:
        q.ino = 9, q.name = span_of(".");
        break;
    case REQUEST_PUBLISH:
        q.ino = 9, q.size = INT64_MAX, q.occupied = 4096, q.mtime_ns = INT64_MIN,
        q.base_version = 17;
        q.flags |= REQUEST_INCOMPLETE | REQUEST_LAST_CLOSE;
        break;
    case REQUEST_KEEP:
        q.ino = (1ULL << INO_BITS) - 1, q.base_version = 17;
        break;
    case REQUEST_OPEN_WRITE:
    case REQUEST_CLOSE_WRITE:
    case REQUEST_DROP:
        q.ino = 9;
        break;
    case REQUEST_CONFIGURE:
        q.limit_bytes = 10, q.limit_inodes = 12, q.copies = 2, q.home = 11,
        q.mode = S_IFDIR | 01777, q.uid = 1, q.gid = 2;
        break;
    default:
        break;
    }
    return q;
}

static void assert_equal(const struct request *a, const struct request *b)
{
    cr_assert_eq(a->kind, b->kind);
    cr_assert_eq(a->identity.host.n, b->identity.host.n);
    cr_assert_eq(a->identity.session, b->identity.session);
    cr_assert_eq(a->identity.unique, b->identity.unique);
    cr_assert_eq(a->flags, b->flags);
    cr_assert_eq(a->ino, b->ino);
    cr_assert_eq(a->parent, b->parent);
    cr_assert_eq(a->new_parent, b->new_parent);
    cr_assert(span_equal(a->name, b->name));
    cr_assert(span_equal(a->new_name, b->new_name));
    cr_assert(span_equal(a->value, b->value));
    cr_assert(a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->rdev == b->rdev);
    cr_assert_eq(a->umask, b->umask);
    cr_assert(a->set == b->set && a->rename_flags == b->rename_flags);
    cr_assert_eq(a->xattr_flags, b->xattr_flags);
    cr_assert(a->atime_ns == b->atime_ns && a->mtime_ns == b->mtime_ns && a->size == b->size);
    cr_assert(a->base_version == b->base_version && a->limit_bytes == b->limit_bytes);
    cr_assert(a->occupied == b->occupied && a->limit_inodes == b->limit_inodes);
    cr_assert_eq(a->copies, b->copies);
    cr_assert_eq(a->home, b->home);
    cr_assert_eq(a->n_retire, b->n_retire);
    cr_assert_eq(memcmp(a->retire, b->retire, sizeof a->retire), 0);
}

static uint8_t buffer[REQUEST_BYTES_MAX];

static size_t encode(const struct request *q)
{
    struct writer w = writer_over(buffer, sizeof buffer);
    put_request(&w, q);
    cr_assert(!w.bad);
    return writer_used(&w);
}

static int decode(size_t size, struct request *ret)
{
    struct reader r = reader_over(buffer, size);
    return get_request(&r, ret);
}

static int recode(const struct request *q)
{
    struct request again;
    return decode(encode(q), &again);
}

/* Every kind comes back as it was, also inside a change. */
Test(request, round_trip)
{
    for (unsigned kind = 1; kind < REQUEST_KIND_END; kind++) {
        struct request q = sample(kind);
        struct request again;
        cr_assert_eq(decode(encode(&q), &again), 0, "%s", request_kind_name(kind));
        assert_equal(&q, &again);

        struct change change = {.request = q, .index = 1ULL << 40, .ino = 12, .time_ns = -1};
        struct change change_again;
        struct writer w = writer_over(buffer, sizeof buffer);
        put_change(&w, &change);
        struct reader r = reader_over(buffer, writer_used(&w));
        cr_assert_eq(get_change(&r, &change_again), 0);
        assert_equal(&q, &change_again.request);
        cr_assert(change_again.index == change.index && change_again.ino == 12);
        cr_assert_eq(change_again.time_ns, -1);
    }
}

/* Whatever is cut off or added makes it invalid, and what failed to decode leaves the output alone. */
Test(request, exact_length)
{
    for (unsigned kind = 1; kind < REQUEST_KIND_END; kind++) {
        struct request q = sample(kind);
        size_t size = encode(&q);
        struct request again = {.ino = 4711};
        for (size_t cut = 0; cut < size; cut++)
            cr_assert_eq(decode(cut, &again), -EBADMSG, "%s cut to %zu", request_kind_name(kind),
                         cut);
        buffer[size] = 0;
        cr_assert_eq(decode(size + 1, &again), -EBADMSG);
        cr_assert_eq(again.ino, 4711);
    }
}

/* What decodes at all encodes to the same bytes: there is one encoding of each request. */
Test(request, canonical)
{
    unsigned n_valid = 0;
    for (unsigned kind = 1; kind < REQUEST_KIND_END; kind++) {
        struct request q = sample(kind);
        size_t size = encode(&q);
        uint8_t changed[512];
        for (size_t bit = 0; bit < size * 8; bit++) {
            memcpy(changed, buffer, size);
            changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            struct reader r = reader_over(changed, size);
            struct request other;
            if (get_request(&r, &other) < 0)
                continue;
            n_valid++;
            uint8_t again[512];
            struct writer w = writer_over(again, sizeof again);
            put_request(&w, &other);
            cr_assert_eq(writer_used(&w), size);
            cr_assert_eq(memcmp(again, changed, size), 0, "%s bit %zu", request_kind_name(kind),
                         bit);
        }
    }
    cr_assert_gt(n_valid, 1000);
}

/* Names are what a directory can hold. */
Test(request, names)
{
    char longest[NAME_BYTES_MAX + 2];
    memset(longest, 'n', sizeof longest);
    struct request q = sample(REQUEST_UNLINK);
    static const char *const bad[] = {"", ".", "..", "a/b", "/"};
    for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
        q.name = span_of(bad[i]);
        cr_assert_eq(recode(&q), -EBADMSG, "'%s'", bad[i]);
    }
    q.name = (struct span){(const uint8_t *)"a\0b", 3};
    cr_assert_eq(recode(&q), -EBADMSG);
    q.name = (struct span){(const uint8_t *)longest, NAME_BYTES_MAX + 1};
    cr_assert_eq(recode(&q), -EBADMSG);
    q.name.size = NAME_BYTES_MAX;
    cr_assert_eq(recode(&q), 0);
    static const char *const good[] = {"...", ".a", "..a", "a.", "\xff\xfe"};
    for (size_t i = 0; i < N_ELEMENTS(good); i++) {
        q.name = span_of(good[i]);
        cr_assert_eq(recode(&q), 0, "'%s'", good[i]);
    }
    q = sample(REQUEST_RENAME);
    q.new_name = span_of("..");
    cr_assert_eq(recode(&q), -EBADMSG);
}

/* Flags belong to kinds; unknown bits are refused everywhere. */
Test(request, flags)
{
    struct request q = sample(REQUEST_LINK);
    q.flags = REQUEST_HOLD;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_UNLINK);
    q.flags = 32;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_SETATTR);
    q.set = SET_ALL + 1;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_RENAME);
    q.rename_flags = 3; /* NOREPLACE and EXCHANGE */
    cr_assert_eq(recode(&q), -EBADMSG);
    q.rename_flags = 4; /* WHITEOUT */
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_SETXATTR);
    q.xattr_flags = 4;
    cr_assert_eq(recode(&q), -EBADMSG);
}

/* Inode numbers leave room for the generation; only symlinks have a target; types are types. */
Test(request, values)
{
    struct request q = sample(REQUEST_DROP);
    q.ino = 0;
    cr_assert_eq(recode(&q), -EBADMSG);
    q.ino = 1ULL << INO_BITS;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_MAKE);
    q.mode = S_IFREG | 0644;
    cr_assert_eq(recode(&q), -EBADMSG);
    q.value.size = 0;
    cr_assert_eq(recode(&q), 0);
    q.flags = REQUEST_FOR_WRITE;
    cr_assert_eq(recode(&q), 0);
    q.mode = S_IFDIR | 0755;
    cr_assert_eq(recode(&q), -EBADMSG);
    q.flags = 0;
    q.mode = 0755;
    cr_assert_eq(recode(&q), -EBADMSG);
    q.mode = S_IFLNK | 0777;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_MAKE);
    q.umask = 01000;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_MAKE);
    q.flags = REQUEST_NAMELESS;
    cr_assert_eq(recode(&q), -EBADMSG);
    q.mode = S_IFREG | 0644, q.value.size = 0, q.name.size = 0;
    cr_assert_eq(recode(&q), 0);
    q.flags = 0;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_PUBLISH);
    q.size = 1ULL << 63;
    cr_assert_eq(recode(&q), -EBADMSG);
    q = sample(REQUEST_SETATTR);
    q.mode = 1u << 16;
    cr_assert_eq(recode(&q), -EBADMSG);
}

/* The largest request there is fits, the next larger is refused. */
Test(request, limits)
{
    static uint8_t value[XATTR_VALUE_BYTES_MAX + 1];
    static uint8_t big[XATTR_VALUE_BYTES_MAX + 8192];
    struct request q = sample(REQUEST_SETXATTR);
    q.n_retire = REQUEST_RETIRE_MAX;
    q.value = (struct span){value, XATTR_VALUE_BYTES_MAX};
    struct change change = {.request = q, .index = 1};
    struct writer w = writer_over(buffer, sizeof buffer);
    put_change(&w, &change);
    cr_assert(!w.bad);
    q.value.size++;
    w = writer_over(big, sizeof big);
    put_request(&w, &q);
    struct reader r = reader_over(big, writer_used(&w));
    cr_assert_eq(get_request(&r, &q), -EBADMSG);
    q.n_retire = REQUEST_RETIRE_MAX + 1;
    w = writer_over(big, sizeof big);
    put_request(&w, &q);
    cr_assert(w.bad);
    q = (struct request){.kind = REQUEST_KIND_END};
    w = writer_over(big, sizeof big);
    put_request(&w, &q);
    cr_assert(w.bad);
}

/* A change has an index. */
Test(request, change_index)
{
    struct change change = {.request = sample(REQUEST_DROP), .index = 0, .ino = 9};
    struct writer w = writer_over(buffer, sizeof buffer);
    put_change(&w, &change);
    struct reader r = reader_over(buffer, writer_used(&w));
    cr_assert_eq(get_change(&r, &change), -EBADMSG);
}

/* Every kind has a name of its own. */
Test(request, kind_names)
{
    for (unsigned a = 1; a < REQUEST_KIND_END; a++)
        for (unsigned b = 0; b < a; b++)
            cr_assert_str_neq(request_kind_name(a), request_kind_name(b));
    cr_assert_str_eq(request_kind_name(99), "unknown");
}
