#include "driver/watch/journal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/line_buffer.h"
#include "driver/watch/boot.h"

#define BURST           400u
#define MS_PER_TOKEN    250u
#define FILE_LIMIT      (4 * 1024 * 1024)
#define STOP_TAIL_BYTES 65536

void journal_init(Journal *journal, int dirfd, EventStamp stamp)
{
    *journal =
        (Journal){.dirfd = dirfd, .stamp = stamp, .n_tokens = BURST, .filled_ms = event_clock_ms()};
}

/* One token out of the budget; false: it is spent. */
static bool take_token(Journal *journal)
{
    uint64_t now = event_clock_ms();
    uint64_t n_new = (now - journal->filled_ms) / MS_PER_TOKEN;
    journal->filled_ms += n_new * MS_PER_TOKEN;
    journal->n_tokens =
        n_new >= BURST - journal->n_tokens ? BURST : journal->n_tokens + (unsigned)n_new;
    struct stat file;
    if (journal->n_tokens == 0 ||
        (fstatat(journal->dirfd, EVENT_FILE, &file, AT_SYMLINK_NOFOLLOW) == 0 &&
         file.st_size >= FILE_LIMIT)) {
        return false;
    }
    journal->n_tokens--;
    return true;
}

void journal_write_vital(Journal *journal, const char *type, json_t *members)
{
    event_line_append(journal->dirfd, false, &journal->stamp, type, members);
    json_decref(members);
}

void journal_write(Journal *journal, const char *type, json_t *members)
{
    if (take_token(journal)) {
        journal_write_vital(journal, type, members);
    } else {
        json_decref(members);
    }
}

static const char *member(const json_t *event, const char *name)
{
    const char *text = json_string_value(json_object_get(event, name));
    return text ? text : "";
}

static bool is_type(const json_t *event, const char *type)
{
    return strcmp(member(event, "type"), type) == 0;
}

static void past_stage(JournalPast *past, const json_t *event)
{
    for (unsigned stage = 0; stage < STAGE_N; stage++) {
        if (strcmp(member(event, "stage"), machine_stage_name(stage)) == 0) {
            past->stages_begun |= 1u << stage;
            past->stages_done |= strcmp(member(event, "state"), "begin") == 0 ? 0 : 1u << stage;
        }
    }
}

static void past_event(JournalPast *past, const json_t *event)
{
    if (is_type(event, "stage")) {
        past_stage(past, event);
    } else if (is_type(event, "stall")) {
        past->stalls |= 1u << boot_stall_kind(member(event, "kind"));
    } else if (is_type(event, "reboot")) {
        *past = (JournalPast){.has_rebooted = true, .is_paused = past->is_paused};
    } else if (is_type(event, "provision")) {
        past->has_provision = true;
    } else if (is_type(event, "agent")) {
        past->has_agent = strcmp(member(event, "state"), "connected") == 0;
    } else if (is_type(event, "paused") || is_type(event, "resumed")) {
        past->is_paused = is_type(event, "paused");
    } else if (is_type(event, "end")) {
        past->has_end = true;
    }
}

/* Calls `take` for each event of this boot in the last n_tail bytes of the file (0: all of it). */
static void scan(const Journal *journal, uint64_t n_tail,
                 void (*take)(void *data, const json_t *event), void *data)
{
    LineBuffer lines;
    struct stat file;
    int fd = openat(journal->dirfd, EVENT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &file) != 0 || !line_buffer_init(&lines, EVENT_LINE_MAX)) {
        close(fd);
        return;
    }
    if (n_tail != 0 && (uint64_t)file.st_size > n_tail) {
        lseek(fd, file.st_size - (off_t)n_tail, SEEK_SET);
    }
    while (line_buffer_fill(&lines, fd) > 0) {
        size_t n;
        char *line;
        while ((line = line_buffer_next(&lines, &n))) {
            json_t *event = json_loadb(line, n, 0, NULL);
            if (json_integer_value(json_object_get(event, "boot")) == journal->stamp.boot) {
                take(data, event);
            }
            json_decref(event);
        }
    }
    line_buffer_clear(&lines);
    close(fd);
}

static void take_past(void *data, const json_t *event)
{
    past_event(data, event);
}

JournalPast journal_past(const Journal *journal)
{
    JournalPast past = {0};
    scan(journal, 0, take_past, &past);
    return past;
}

static void take_stop(void *data, const json_t *event)
{
    *(bool *)data |= is_type(event, "stop");
}

bool journal_has_stop(const Journal *journal)
{
    bool has_stop = false;
    scan(journal, STOP_TAIL_BYTES, take_stop, &has_stop);
    return has_stop;
}
