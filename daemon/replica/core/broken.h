/* daemon/replica/core/broken.h — faults that the simulator puts into the core to see that it would notice them.
 * FAULT(name, what is done wrong). Only the simulator is compiled with REPLICA_FAULTS; elsewhere BROKEN() is false. */
#pragma once

#ifdef REPLICA_FAULTS
enum core_fault {
    FAULT_none,
#define FAULT(name, text) FAULT_##name,
#include "daemon/replica/core/faults.def"
#undef FAULT
    N_FAULTS
};
extern enum core_fault core_fault;
#define BROKEN(name) (core_fault == FAULT_##name)
#else
#define BROKEN(name) false
#endif
