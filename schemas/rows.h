#pragma once
#include <stddef.h>
#include "schemas/option.h"

/* The macros that make the rows of option tables. */

#define SPEC_KIB (UINT64_C(1) << 10)
#define SPEC_MIB (UINT64_C(1) << 20)
#define SPEC_GIB (UINT64_C(1) << 30)
#define SPEC_TIB (UINT64_C(1) << 40)

/* The member's offset; no such association, so no compilation, when its type is not `ctype`. */
#define SPEC_OFFSET(type, member, ctype)                                                           \
    .offset = offsetof(type, member) + _Generic(&((type *)0)->member, ctype *                      \
                                                : (size_t)0),                                      \
    .size =                                                                                        \
        sizeof(((type *)0)->member) /* NOLINT(bugprone-sizeof-expression): a pointer it may be */

#define SPEC_ROW(kind_, path_, doc_) .kind = (kind_), .info.path = (path_), .info.doc = (doc_)

#define SPEC_STRING(type, member, path_, doc_, ...)                                                \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_STRING, path_, doc_), SPEC_OFFSET(type, member, char *), __VA_ARGS__    \
    }
#define SPEC_TEXT(type, member, path_, doc_, ...)                                                  \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_TEXT, path_, doc_), SPEC_OFFSET(type, member, char *), __VA_ARGS__      \
    }
#define SPEC_UINT(type, member, path_, doc_, ...)                                                  \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_UINT, path_, doc_), SPEC_OFFSET(type, member, unsigned), __VA_ARGS__    \
    }
#define SPEC_SIZE(type, member, path_, doc_, ...)                                                  \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_SIZE, path_, doc_), SPEC_OFFSET(type, member, uint64_t), __VA_ARGS__    \
    }
#define SPEC_DURATION(type, member, path_, doc_, ...)                                              \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_DURATION, path_, doc_), SPEC_OFFSET(type, member, uint64_t),            \
            __VA_ARGS__                                                                            \
    }
#define SPEC_RATE(type, member, path_, doc_, ...)                                                  \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_RATE, path_, doc_), SPEC_OFFSET(type, member, uint64_t), __VA_ARGS__    \
    }
/* As a flag it takes `true` or `false`, for what is true by default. */
#define SPEC_BOOL_VALUE(type, member, path_, doc_, ...)                                            \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_BOOL, path_, doc_), SPEC_OFFSET(type, member, bool), __VA_ARGS__        \
    }
#define SPEC_BOOL(type, member, path_, doc_, ...)                                                  \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_BOOL, path_, doc_), SPEC_OFFSET(type, member, bool),                    \
            .info.is_switch = true, __VA_ARGS__                                                    \
    }
/* Member type and choices are tied by the name of the type. */
#define SPEC_ENUM(type, member, etype, path_, doc_, ...)                                           \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_ENUM, path_, doc_), SPEC_OFFSET(type, member, etype),                   \
            .choices = &choices_##etype, .info.choices = texts_##etype, __VA_ARGS__                \
    }
#define SPEC_WORDS(type, member, set, path_, doc_, ...)                                            \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_WORDS, path_, doc_), SPEC_OFFSET(type, member, unsigned),               \
            .choices = &choices_##set, .info.choices = texts_##set, .info.is_list = true,          \
            __VA_ARGS__                                                                            \
    }
#define SPEC_SOURCE(type, member, path_, doc_, ...)                                                \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_SOURCE, path_, doc_), SPEC_OFFSET(type, member, SpecText),              \
            .info.is_file = true, __VA_ARGS__                                                      \
    }
#define SPEC_STRINGS(type, member, path_, doc_, ...)                                               \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_STRINGS, path_, doc_), SPEC_OFFSET(type, member, GPtrArray *),          \
            .info.is_list = true, __VA_ARGS__                                                      \
    }
#define SPEC_MAP(type, member, path_, doc_, ...)                                                   \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_MAP, path_, doc_), SPEC_OFFSET(type, member, GHashTable *),             \
            .info.is_list = true, __VA_ARGS__                                                      \
    }
#define SPEC_RECORDS(type, member, rtype, path_, doc_, ...)                                        \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_RECORDS, path_, doc_), SPEC_OFFSET(type, member, GPtrArray *),          \
            .record = &record_##rtype, .info.is_list = true, __VA_ARGS__                           \
    }
#define SPEC_OBJECTS(type, member, otype, path_, doc_, ...)                                        \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_OBJECTS, path_, doc_), SPEC_OFFSET(type, member, GPtrArray *),          \
            .object = &spec_##otype##_object, __VA_ARGS__                                          \
    }
#define SPEC_GROUP(group_table, path_, doc_)                                                       \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_GROUP, path_, doc_), .table = &(group_table)                            \
    }
/* default_text: the one value that is accepted, since it says the same as leaving the key out. */
#define SPEC_LATER(path_, doc_, ...)                                                               \
    {                                                                                              \
        SPEC_ROW(SPEC_KIND_LATER, path_, doc_), __VA_ARGS__                                        \
    }

/* texts_X, docs_X: what the enum or set X may be, in the order of its values. */
#define SPEC_CHOICES(etype, n, ...)                                                                \
    G_STATIC_ASSERT(G_N_ELEMENTS(texts_##etype) == (n) + 1);                                       \
    G_STATIC_ASSERT(G_N_ELEMENTS(docs_##etype) == (n));                                            \
    static const SpecChoices choices_##etype = {                                                   \
        .texts = texts_##etype, .docs = docs_##etype, __VA_ARGS__}

#define SPEC_FLAG(name, letter, meta)                                                              \
    .info.flag = (name), .info.short_flag = (letter), .info.metavar = (meta)
