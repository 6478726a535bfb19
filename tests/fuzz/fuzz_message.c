/* The first byte picks a message, the rest is its body: nothing but clean, bounded messages come out, and they can
 * be packed again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/messages.pb-c.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const kinds[] = {
    &whiskfs__hello__descriptor,         &whiskfs__hello_reply__descriptor,
    &whiskfs__error__descriptor,         &whiskfs__ok__descriptor,
    &whiskfs__volume_query__descriptor,  &whiskfs__volume_info__descriptor,
    &whiskfs__join__descriptor,          &whiskfs__join_reply__descriptor,
    &whiskfs__checkpoint__descriptor,    &whiskfs__entries__descriptor,
    &whiskfs__ack__descriptor,           &whiskfs__promote__descriptor,
    &whiskfs__promote_reply__descriptor, &whiskfs__renew__descriptor,
    &whiskfs__renew_reply__descriptor,   &whiskfs__leave__descriptor,
    &whiskfs__forward__descriptor,       &whiskfs__outcome__descriptor,
    &whiskfs__fetch__descriptor,         &whiskfs__block__descriptor,
    &whiskfs__fetch_end__descriptor,     &whiskfs__cancel__descriptor,
    &whiskfs__hint__descriptor,
};

static void check_text(const char *text)
{
    CHECK(strlen(text) <= 500);
    for (const char *c = text; *c; c++)
        CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void check_strings(const ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *at = (const char *)m + f->offset;
        if (f->type != PROTOBUF_C_TYPE_STRING)
            continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            check_text(*(char *const *)(const void *)at);
            continue;
        }
        const char *n = (const char *)m + f->quantifier_offset;
        for (size_t k = 0; k < *(const size_t *)(const void *)n; k++)
            check_text((*(char **const *)(const void *)at)[k]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    ProtobufCMessage *m;
    int r = message_get((struct span){.data = data + 1, .size = size - 1},
                        kinds[data[0] % N_ELEMENTS(kinds)], &m);
    CHECK(r == 0 || r == -EBADMSG);
    if (r < 0)
        return 0;
    check_strings(m);
    size_t packed = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = malloc(packed + 1);
    if (bytes)
        CHECK(protobuf_c_message_pack(m, bytes) == packed);
    free(bytes);
    message_free(m);
    return 0;
}
