/* daemon/commands.h — what `whiskfs` can ask of a running daemon; the context is a struct host. */
#pragma once

#include "daemon/control.h"

extern const struct control_command host_commands[];
