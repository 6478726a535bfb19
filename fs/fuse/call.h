/* fs/fuse/call.h — one kernel request, from its admission to its reply.
 *
 *     struct call c;
 *     if (!call_begin(&c, req, "look up", parent, name))
 *         return;                      refused, and answered
 *     ...
 *     call_error(&c, -ENOENT);         exactly one reply ends the call
 *
 * A failing reply (the caller was interrupted) takes back what it would have counted. Errors that are not the
 * caller's doing are logged here, once, with what the caller wanted.
 */
#pragma once

#include "fs/fuse/state.h"

struct call {
    struct session *session;
    fuse_req_t req;
    const char *doing; /* "look up", for "cannot look up …" */
    uint64_t id;       /* node id it is about */
    const char *name;  /* or NULL */
    uint64_t unique;
    int64_t deadline_ns; /* monotonic */
    double valid_s;      /* how long the kernel may cache names and attributes */
    bool is_resent;      /* a daemon before had taken it: perhaps it is done already */
    bool is_changed;     /* its unique was used: the result may go once it is answered */
    bool is_naming;
};

/* Asks the volume's source for admission. False: refused and answered. */
MUST_USE bool call_begin(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id,
                         const char *name);
/* For descriptors that are open: goes on without a lease. */
void call_begin_open(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id);
/* For what is done to an open file, which it finds. False: there is none, and that is answered. */
MUST_USE bool call_begin_handle(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id,
                                const struct fuse_file_info *fi, struct handle **ret_handle);
/* From here to the reply the call tells the kernel a name: changes by others meanwhile expire all names. */
void call_naming(struct call *c);

void call_error(struct call *c, int error); /* 0 or a negative errno */
void call_entry(struct call *c, const struct inode *inode);
void call_negative(struct call *c); /* the name does not exist, and may be remembered so */
/* is_new: made by this call. Until the kernel writes it, its attributes are those of the answer. */
void call_create(struct call *c, const struct inode *inode, uint64_t id, bool is_new,
                 const struct fuse_file_info *fi, int *ret_error);
void call_attr(struct call *c, struct node *node, const struct inode *inode);
void call_statx(struct call *c, struct node *node, const struct inode *inode);
/* Counts and closes the call after a reply made otherwise; error: what was replied. */
void call_end(struct call *c, int error);

/* Asks for a change under the identity of this kernel request; at most once a call. */
MUST_USE int call_change(struct call *c, struct request *request, struct outcome *ret_outcome);
/* The same under an identity of its own, for changes that a request leads to beside (or the session by itself). */
MUST_USE int session_change(struct session *s, struct request *request,
                            struct outcome *ret_outcome);

/* The inode as a caller of stat should see it: node's, or (NULL) that of the call's id. -ENOENT; what is gone but open is
 * remembered. */
MUST_USE int call_inode(struct call *c, struct node *node, struct inode *ret_inode);
void fill_stat(const struct inode *inode, struct stat *st);
void fill_entry(const struct call *c, const struct inode *inode, uint64_t id,
                struct fuse_entry_param *ret_entry);

/* Pins the node of the call's id: -ESTALE when the kernel should not know it. */
MUST_USE int call_node(struct call *c, struct node **ret_node);

static inline struct span name_span(const char *name)
{
    return (struct span){.data = (const uint8_t *)name, .size = __builtin_strlen(name)};
}
