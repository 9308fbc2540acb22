#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void cmd_json_print(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(text ? text : "null");
    free(text);
    json_decref(value);
}

json_t *cmd_json_text(const char *text)
{
    if (!text) {
        return json_null();
    }
    if (g_utf8_validate(text, -1, NULL)) {
        return json_string(text);
    }
    g_autofree char *shown = base_report_escape(text, 0);
    return json_string(shown);
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text) {
        json_object_set_new(object, key, cmd_json_text(text));
    }
}

static void set_position(json_t *object, const char *key, unsigned value)
{
    if (value) {
        json_object_set_new(object, key, json_integer(value));
    }
}

json_t *cmd_json_report(BaseReport *report)
{
    json_t *items = json_array();
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        const BaseReportItem *item = base_report_item(report, i);
        json_t *object = json_object();
        set_text(object, "severity", item->is_warning ? "warning" : "error");
        set_text(object, "class", base_error_row((int)item->code)->cls);
        set_text(object, "file", item->pos.file);
        set_position(object, "line", item->pos.line);
        set_position(object, "column", item->pos.col);
        set_text(object, "what", item->what);
        set_text(object, "hint", item->hint);
        json_array_append_new(items, object);
    }
    return items;
}
