/* proto/base/list.h — intrusive doubly linked list. An unlinked item points at itself. */
#pragma once

#include <stdbool.h>

#include "proto/base/check.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_append(struct list *head, struct list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

#define list_first(head, type, member) container_of((head)->next, type, member)

/* The body may remove the current item. */
#define list_for_each(pos, head, type, member)                                                     \
    for (type *pos = container_of((head)->next, type, member),                                     \
              *CAT(next_, __LINE__) = container_of(pos->member.next, type, member);                \
         &pos->member != (head); pos = CAT(next_, __LINE__),                                       \
              CAT(next_, __LINE__) = container_of(pos->member.next, type, member))
