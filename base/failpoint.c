#include "base/failpoint.h"

#ifdef VM_FAILPOINTS
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <glib.h>

enum { MS_PER_S = 1000 };

/* A rule: at the nth pass of `name` (0: at each) do `action`. */
typedef struct {
    char *name;
    unsigned nth;
    char *action;
    unsigned n_passes;
} Rule;

/* "NAME[#N]=ACTION"; a rule that can't be read is a mistake in the test: stop at once. */
static Rule *parse_rule(const char *text)
{
    g_auto(GStrv) halves = g_strsplit(text, "=", 2);
    if (g_strv_length(halves) != 2) {
        g_error("VM_FAILPOINTS: '%s' is not NAME[#N]=ACTION", text);
    }
    Rule *rule = g_new0(Rule, 1);
    char *hash = strchr(halves[0], '#');
    if (hash) {
        *hash = '\0';
        rule->nth = (unsigned)g_ascii_strtoull(hash + 1, NULL, 10);
    }
    rule->name = g_strdup(halves[0]);
    rule->action = g_strdup(halves[1]);
    return rule;
}

static gpointer parse_rules(gpointer unused)
{
    (void)unused;
    GPtrArray *rules = g_ptr_array_new();
    g_auto(GStrv) texts =
        g_strsplit(g_getenv("VM_FAILPOINTS") ? g_getenv("VM_FAILPOINTS") : "", ",", -1);
    for (char **text = texts; *text; text++) {
        if (**text) {
            g_ptr_array_add(rules, parse_rule(*text));
        }
    }
    return rules;
}

static int act(const Rule *rule)
{
    if (!strcmp(rule->action, "kill")) {
        kill(getpid(), SIGKILL);
        pause(); /* never returns */
    }
    if (g_str_has_prefix(rule->action, "errno:")) {
        return (int)g_ascii_strtoll(rule->action + strlen("errno:"), NULL, 10);
    }
    if (g_str_has_prefix(rule->action, "sleep:")) {
        g_usleep((gulong)g_ascii_strtoull(rule->action + strlen("sleep:"), NULL, 10) * MS_PER_S);
        return 0;
    }
    g_error("VM_FAILPOINTS: unknown action '%s'", rule->action);
}

int base_failpoint(const char *name)
{
    static GOnce once = G_ONCE_INIT; /* test builds only: the rules and their counts */
    static GMutex lock;
    const GPtrArray *rules = g_once(&once, parse_rules, NULL);
    int errnum = 0;
    for (guint i = 0; i < rules->len; i++) {
        Rule *rule = rules->pdata[i];
        if (strcmp(rule->name, name)) {
            continue;
        }
        g_mutex_lock(&lock);
        bool acts = ++rule->n_passes == rule->nth || rule->nth == 0;
        g_mutex_unlock(&lock);
        errnum = acts ? act(rule) : errnum;
    }
    return errnum;
}
#endif
