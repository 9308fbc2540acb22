/*
 * flatten: print every scalar of the YAML or JSON document on standard input as
 * "path<TAB>value", one a line, so that a shell can read it.
 *
 * {"a": {"b": [1, "x\ny"]}} gives "a/b/0<TAB>1" and "a/b/1<TAB>x\ny". Backslash and
 * newline of a value are written as \\ and \n (printf %b undoes it); of a key, they
 * and the slash are replaced by '_'. Status 1: the text is neither YAML nor JSON.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 32, MAX_KEY = 128 };

typedef struct {
    bool is_map;
    bool has_key; /* is_map: a key was read, its value comes next */
    unsigned index;
    char key[MAX_KEY];
} Level;

static Level levels[MAX_DEPTH];
static int depth;

static void key_set(Level *level, const char *text)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i < MAX_KEY - 1; i++)
        level->key[i] = strchr("/\\\n\t", text[i]) ? '_' : text[i];
    level->key[i] = '\0';
    level->has_key = true;
}

static void path_print(void)
{
    for (int i = 0; i < depth; i++) {
        const char *slash = i == 0 ? "" : "/";

        if (levels[i].is_map)
            printf("%s%s", slash, levels[i].key);
        else
            printf("%s%u", slash, levels[i].index);
    }
}

static void value_print(const char *text)
{
    path_print();
    putchar('\t');
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            fputs("\\n", stdout);
        else if (*text == '\\')
            fputs("\\\\", stdout);
        else
            putchar(*text);
    }
    putchar('\n');
}

/* A whole value (scalar, mapping or sequence) has ended in the level around it. */
static void value_end(void)
{
    if (depth == 0)
        return;
    levels[depth - 1].has_key = false;
    levels[depth - 1].index++;
}

static void scalar_take(const char *text)
{
    if (depth > 0 && levels[depth - 1].is_map && !levels[depth - 1].has_key) {
        key_set(&levels[depth - 1], text);
        return;
    }
    value_print(text);
    value_end();
}

static bool event_take(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        scalar_take((const char *)event->data.scalar.value);
        return true;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        if (depth == MAX_DEPTH)
            return false;
        levels[depth++] = (Level){.is_map = event->type == YAML_MAPPING_START_EVENT};
        return true;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        depth--;
        value_end();
        return true;
    case YAML_ALIAS_EVENT:
        return false;
    default:
        return true;
    }
}

int main(void)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool is_end = false;

    if (!yaml_parser_initialize(&parser))
        return 1;
    yaml_parser_set_input_file(&parser, stdin);
    while (!is_end) {
        bool is_good = yaml_parser_parse(&parser, &event) && event_take(&event);

        if (!is_good) {
            fprintf(stderr, "flatten: line %zu: not understood\n", parser.mark.line + 1);
            return 1;
        }
        is_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return 0;
}
