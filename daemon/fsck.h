/* daemon/fsck.h — `whiskfs fsck`: checks a volume while it is used, or one that lies here and is not attached.
 *
 * The log, the checkpoint and the state are checked by a child (`whiskfsd --fsck`, of a snapshot where the volume is
 * open): a damaged page of the state can end a process that looks at it. Then the store is looked at, and a scrub reads all
 * that this host keeps.
 */
#pragma once

#include "daemon/control.h"

/* {name, repair}; one at a time. The result: {name, online, found, repaired, findings: [sentence …]}, and online also {files,
 * bytes, busy}. ctx: the host. */
control_command_f fsck_command;
