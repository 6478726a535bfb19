#include <criterion/criterion.h>

#include "proto/base/list.h"

struct item {
    int n;
    struct list link;
};

static void fill(struct list *head, struct item *items, int n_items)
{
    list_init(head);
    for (int i = 0; i < n_items; i++) {
        items[i].n = i;
        list_append(head, &items[i].link);
    }
}

/* A list is empty before the first item and after the last. */
Test(list, empty)
{
    struct list head;
    struct item item;
    fill(&head, &item, 0);
    cr_assert(list_empty(&head));
    list_append(&head, &item.link);
    cr_assert_not(list_empty(&head));
    list_remove(&item.link);
    cr_assert(list_empty(&head));
    list_for_each(pos, &head, struct item, link)
        cr_assert_fail("there is an item in an empty list: %d", pos->n);
}

/* Items come in the order in which they were appended. */
Test(list, order)
{
    struct list head;
    struct item items[5];
    fill(&head, items, 5);
    int expected = 0;
    list_for_each(pos, &head, struct item, link) cr_assert_eq(pos->n, expected++);
    cr_assert_eq(expected, 5);
    cr_assert_eq(list_first(&head, struct item, link), &items[0]);
}

/* The body of a loop may remove the item that it is at. */
Test(list, remove_while_walking)
{
    struct list head;
    struct item items[6];
    fill(&head, items, 6);
    list_for_each(pos, &head, struct item, link) if (pos->n % 2 == 0) list_remove(&pos->link);
    int expected = 1;
    list_for_each(pos, &head, struct item, link)
    {
        cr_assert_eq(pos->n, expected);
        expected += 2;
    }
    cr_assert_eq(expected, 7);
}

/* A removed item points at itself: it can be removed again, and appended again. */
Test(list, removed_item_is_unlinked)
{
    struct list head;
    struct item items[3];
    fill(&head, items, 3);
    list_remove(&items[1].link);
    cr_assert(list_empty(&items[1].link));
    list_remove(&items[1].link);
    cr_assert_eq(head.next, &items[0].link);
    list_append(&head, &items[1].link);
    cr_assert_eq(head.prev, &items[1].link);
    cr_assert_eq(items[2].link.next, &items[1].link);
}
