#include "daemon/kafka/partitions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void kafka_partitions_done(struct kafka_partitions *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->list[i].topic);
    free(p->list);
    *p = (struct kafka_partitions){0};
}

struct kafka_partition *kafka_partitions_find(const struct kafka_partitions *p, const char *topic,
                                              int32_t number)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->list[i].number == number && strcmp(p->list[i].topic, topic) == 0)
            return &p->list[i];
    return NULL;
}

static int reserve(struct kafka_partitions *p)
{
    if (p->n < p->capacity)
        return 0;
    if (p->n == KAFKA_PARTITIONS_MAX)
        return -ENOSPC;
    size_t capacity = p->capacity == 0 ? 16 : p->capacity * 2;
    struct kafka_partition *grown = reallocarray(p->list, capacity, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    p->list = grown;
    p->capacity = capacity;
    return 0;
}

int kafka_partitions_add(struct kafka_partitions *p, const char *topic, int32_t number,
                         bool is_late)
{
    int r = reserve(p);
    if (r < 0)
        return r;
    char *copy = strdup(topic);
    if (!copy)
        return -ENOMEM;
    p->list[p->n++] = (struct kafka_partition){
        .topic = copy, .number = number, .is_late = is_late, .is_marked = true};
    p->n_behind++;
    return 0;
}

void kafka_partitions_remove(struct kafka_partitions *p, size_t index)
{
    CHECK(index < p->n);
    if (!p->list[index].is_caught_up)
        p->n_behind--;
    free(p->list[index].topic);
    p->list[index] = p->list[--p->n];
}

void kafka_partitions_caught_up(struct kafka_partitions *p, struct kafka_partition *partition)
{
    if (partition->is_caught_up)
        return;
    partition->is_caught_up = true;
    p->n_behind--;
}
