/* proto/errors.c — between this machine's errno and the codes of errors.def. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/frame.h"

static const struct {
    uint32_t code;
    int error;
} errors[] = {
#define ERROR(code, error) {code, error},
#include "proto/errors.def"
#undef ERROR
};

#define CODE_OF_EIO 5u

uint32_t wire_code_of_errno(int error)
{
    if (error == 0)
        return 0;
    for (size_t i = 0; i < N_ELEMENTS(errors); i++)
        if (errors[i].error == error || errors[i].error == -error)
            return errors[i].code;
    return CODE_OF_EIO;
}

int errno_of_wire_code(uint32_t code)
{
    if (code == 0)
        return 0;
    for (size_t i = 0; i < N_ELEMENTS(errors); i++)
        if (errors[i].code == code)
            return -errors[i].error;
    return -EIO;
}
