#include "proto/openwhisk/volume_ref.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/openwhisk/json.h"

#define NAME_FIRST "abcdefghijklmnopqrstuvwxyz0123456789"
#define NAME_REST NAME_FIRST "._-"
/* OpenWhisk's namespaces may also hold blanks and ampersands; those make no instance. */
#define NAMESPACE_CHARS NAME_REST "ABCDEFGHIJKLMNOPQRSTUVWXYZ@"

bool ow_volume_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < OW_VOLUME_NAME_SIZE && strspn(name, NAME_FIRST) > 0 &&
           strspn(name, NAME_REST) == length && !strstr(name, "--");
}

bool ow_volume_may_be_named(const char *namespace_name, const struct ow_volume_ref *ref)
{
    return namespace_name[0] != '\0' && ow_volume_name_is_valid(ref->name);
}

static bool is_run(const char *run)
{
    return strlen(run) == OW_ID_SIZE - 1 && strspn(run, "0123456789abcdef") == OW_ID_SIZE - 1;
}

int ow_volume_instance_name(const struct ow_volume_ref *ref, const char *namespace_name,
                            const char *run, char ret_name[static OW_INSTANCE_NAME_SIZE])
{
    if (!ow_volume_name_is_valid(ref->name))
        return -EINVAL;
    if (ref->scope == OW_SCOPE_NAMESPACE) {
        memcpy(ret_name, ref->name, strlen(ref->name) + 1);
        return 0;
    }
    size_t length = strlen(namespace_name);
    if (length == 0 || strspn(namespace_name, NAMESPACE_CHARS) != length || !is_run(run))
        return -EINVAL;
    if (strlen(ref->name) + 2 + length + 2 + strlen(run) >= OW_INSTANCE_NAME_SIZE)
        return -ENAMETOOLONG;
    (void)snprintf(ret_name, OW_INSTANCE_NAME_SIZE, "%s--%s--%s", ref->name, namespace_name, run);
    return 0;
}

int ow_volume_instance_run(const char *volume_name, char ret_run[static OW_ID_SIZE])
{
    char name[OW_VOLUME_NAME_SIZE];
    const char *namespace_name = strstr(volume_name, "--");
    size_t length = strlen(volume_name);
    if (!namespace_name || namespace_name - volume_name >= OW_VOLUME_NAME_SIZE)
        return -EINVAL;
    (void)snprintf(name, sizeof name, "%.*s", (int)(namespace_name - volume_name), volume_name);
    namespace_name += 2;
    size_t rest = (size_t)(volume_name + length - namespace_name);
    if (!ow_volume_name_is_valid(name) || rest < 1 + 2 + OW_ID_SIZE - 1)
        return -EINVAL;
    const char *run = volume_name + length - (OW_ID_SIZE - 1);
    size_t namespace_length = (size_t)(run - 2 - namespace_name);
    if (!is_run(run) || run[-1] != '-' || run[-2] != '-' ||
        strspn(namespace_name, NAMESPACE_CHARS) < namespace_length)
        return -EINVAL;
    memcpy(ret_run, run, OW_ID_SIZE);
    return 0;
}

static int read_scope(const json_t *object, enum ow_scope *ret_scope)
{
    char word[16];
    int r = ow_json_text(object, "scope", word, sizeof word);
    if (r < 0)
        return r;
    if (word[0] == '\0' || strcmp(word, "namespace") == 0)
        *ret_scope = OW_SCOPE_NAMESPACE;
    else if (strcmp(word, "sequence") == 0)
        *ret_scope = OW_SCOPE_SEQUENCE;
    else
        return -EBADMSG;
    return 0;
}

static int read_object(const json_t *object, struct ow_volume_ref *ref)
{
    int r = ow_json_text(object, "name", ref->name, sizeof ref->name);
    if (r < 0)
        return r;
    r = read_scope(object, &ref->scope);
    if (r < 0)
        return r;
    r = ow_json_size(object, "size", &ref->size_bytes);
    if (r < 0)
        return r;
    return ow_json_bool(object, "read_only", false, &ref->is_read_only);
}

static bool is_known(const struct ow_volume_refs *refs, const struct ow_volume_ref *ref)
{
    for (unsigned i = 0; i < refs->n; i++)
        if (refs->refs[i].scope == ref->scope && strcmp(refs->refs[i].name, ref->name) == 0)
            return true;
    return false;
}

static void read_one(const json_t *value, const char *namespace_name, struct ow_volume_refs *refs)
{
    struct ow_volume_ref ref = {.scope = OW_SCOPE_NAMESPACE};
    int r = json_is_object(value) ? read_object(value, &ref)
                                  : ow_json_copy_text(value, ref.name, sizeof ref.name);
    if (r < 0 || !ow_volume_may_be_named(namespace_name, &ref)) {
        refs->n_refused++;
        return;
    }
    if (is_known(refs, &ref))
        return;
    if (refs->n == OW_VOLUMES_MAX)
        refs->n_refused++;
    else
        refs->refs[refs->n++] = ref;
}

void ow_volume_refs_read(const struct json_t *parameter, const char *namespace_name,
                         struct ow_volume_refs *ret_refs)
{
    struct ow_volume_refs refs = {0};
    if (json_is_array(parameter)) {
        size_t n = json_array_size(parameter);
        for (size_t i = 0; i < n; i++)
            read_one(json_array_get(parameter, i), namespace_name, &refs);
    } else if (parameter) {
        read_one(parameter, namespace_name, &refs);
    }
    *ret_refs = refs;
}
