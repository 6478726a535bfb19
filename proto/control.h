/* proto/control.h — the control socket between `whiskfs` and `whiskfsd`: lines of JSON, one object a line.
 *
 *     client   {"command": "volume create", "name": "pages", ...}
 *     daemon   {"progress": {...}}            any number of these while a long command runs
 *     daemon   {"result": ...}                or
 *     daemon   {"error": "one sentence", "code": "ENOENT"}
 *
 * One command a connection; closing it cancels a long one. Socket permissions decide who may ask.
 */
#pragma once

#define CONTROL_LINE_MAX (4u << 20)
#define CONTROL_PROGRESS "progress"
#define CONTROL_RESULT "result"
#define CONTROL_ERROR "error"
#define CONTROL_CODE "code"
