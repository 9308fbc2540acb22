#include "driver/domain/part.h"

#include "base/load.h"

char *machine_plan_domain_xml(const MachinePlan *plan, const MachineSpec *spec, GError **error)
{
    MachineDomainXml build =
        (MachineDomainXml)base_load_symbol(MACHINE_DOMAIN_PART, MACHINE_DOMAIN_SYMBOL, error);
    return build ? build(plan, spec, error) : NULL;
}
