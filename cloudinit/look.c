#include "cloudinit/look.h"

static bool find_severity(const Look *look, LookGrade grade, bool *out_is_warning)
{
    SpecCheck level = look->spec->cloud_init.schema;
    *out_is_warning = grade == LOOK_NOTE || (grade == LOOK_MISTAKE && level == SPEC_CHECK_WARN);
    return grade == LOOK_FATAL || level != SPEC_CHECK_OFF;
}

bool seed_look_has_network(const MachineSpec *spec)
{
    for (unsigned i = 0; spec->networks && i < spec->networks->len; i++) {
        if (((const SpecNetwork *)spec->networks->pdata[i])->kind != SPEC_NET_NONE) {
            return true;
        }
    }
    return false;
}

void seed_look_add(const Look *look, LookGrade grade, unsigned line, unsigned col, const char *hint,
                   const char *format, ...)
{
    bool is_warning;
    if (!find_severity(look, grade, &is_warning)) {
        return;
    }
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    /* A text of several lines in the spec is indented by as much as its first line. */
    BasePos pos = look->pos;
    pos.line += pos.line > 0 ? line - 1 : 0;
    pos.col += pos.col > 0 ? col - 1 : 0;
    if (is_warning) {
        base_report_warning(look->report, VM_ERROR_CI, &pos, hint, "%s: %s", look->noun, what);
    } else {
        base_report_error(look->report, VM_ERROR_CI, &pos, hint, "%s: %s", look->noun, what);
    }
}

YamlTree *seed_look_parse(const Look *look, const char *text, size_t n_bytes)
{
    YamlMistake mistake;
    YamlTree *tree = seed_yaml_parse(text, n_bytes, &mistake);
    if (tree) {
        return tree;
    }
    unsigned first_line = look->pos.line > 0 ? look->pos.line : 1;
    g_autofree char *context = mistake.context
                                   ? g_strdup_printf(" (%s that began at line %u)", mistake.context,
                                                     first_line + mistake.context_line - 1)
                                   : g_strdup("");
    seed_look_add(look, LOOK_FATAL, mistake.line, mistake.col, "cloud-init would ignore all of it",
                  "not YAML: %s%s", mistake.what, context);
    g_free(mistake.what);
    return NULL;
}
