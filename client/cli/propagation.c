#include "client/cli/propagation.h"

#include <errno.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/mountinfo.h"

static bool is_below(const char *path, const char *mountpoint)
{
    size_t n = strlen(mountpoint);
    return strncmp(path, mountpoint, n) == 0 && (n == 1 || path[n] == '/' || path[n] == '\0');
}

int propagation_read(FILE *mountinfo, const char *path, struct propagation *ret)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    struct mountinfo mount;
    struct propagation best = {0};
    while (mountinfo_next(mountinfo, &line, &size, &mount)) {
        if (!is_below(path, mount.at) || strlen(mount.at) < strlen(best.at))
            continue;
        best = (struct propagation){.shared = mount.shared, .master = mount.master};
        (void)snprintf(best.at, sizeof best.at, "%s", mount.at);
    }
    if (best.at[0] == '\0')
        return -ENOENT;
    *ret = best;
    return 0;
}

bool propagation_reaches(const struct propagation *from, const struct propagation *to)
{
    return from->shared != 0 && (to->shared == from->shared || to->master == from->shared);
}
