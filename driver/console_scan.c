#include "driver/console_scan.h"

#include <ctype.h>
#include <string.h>

/*
 * How it works: escape sequences are dropped (those that move the cursor end the line, as firmware
 * paints screens), lines are collected up to their limit, and each line is compared with the table
 * once, when it ends. Prompts never end: the unfinished line is compared with the prompts at the
 * end of each piece that is fed.
 */
typedef enum {
    AT_BEGIN, /* the line begins with `phrase`, and has `also` after it */
    WITHIN,   /* `phrase` somewhere in a line that does not echo a command line, and `also` after it
               */
    PROMPT,   /* the whole line is `phrase`, ended or not */
    LOGIN     /* the whole line is one word and "login:" */
} Match;

static const struct {
    Match match;
    const char *phrase, *also; /* also NULL: nothing more */
    ConsoleSign sign;
} table[] = {
    {AT_BEGIN, "SeaBIOS (version", NULL, CONSOLE_FIRMWARE},
    {AT_BEGIN, "UEFI firmware (version", NULL, CONSOLE_FIRMWARE},
    {AT_BEGIN, "BdsDxe: No bootable option or device was found", NULL,
     CONSOLE_STALL_NO_BOOT_DEVICE},
    {AT_BEGIN, "BdsDxe: ", NULL, CONSOLE_FIRMWARE},
    {AT_BEGIN, "No bootable device.", NULL, CONSOLE_STALL_NO_BOOT_DEVICE},
    {AT_BEGIN, "UEFI Interactive Shell", NULL, CONSOLE_STALL_UEFI_SHELL},
    {PROMPT, "Shell>", NULL, CONSOLE_STALL_UEFI_SHELL},
    {PROMPT, "grub>", NULL, CONSOLE_STALL_GRUB},
    {PROMPT, "grub rescue>", NULL, CONSOLE_STALL_GRUB},
    {AT_BEGIN, "GRUB loading", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "Welcome to GRUB", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "GNU GRUB  version", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "Booting `", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "Loading Linux ", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "SYSLINUX ", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "EXTLINUX ", NULL, CONSOLE_BOOTLOADER},
    {AT_BEGIN, "EFI stub: ", NULL, CONSOLE_KERNEL},
    {AT_BEGIN, "Linux version ", NULL, CONSOLE_KERNEL},
    {AT_BEGIN, "Kernel panic - not syncing", NULL, CONSOLE_STALL_PANIC},
    {AT_BEGIN, "Welcome to ", "(Initramfs)", CONSOLE_NOTHING},
    {AT_BEGIN, "Welcome to ", "!", CONSOLE_INIT},
    {AT_BEGIN, "systemd ", " running in system mode", CONSOLE_INIT},
    {AT_BEGIN, "Run /sbin/init as init process", NULL, CONSOLE_INIT},
    {AT_BEGIN, "OpenRC ", " is starting up ", CONSOLE_INIT},
    {AT_BEGIN, "init started: BusyBox ", NULL, CONSOLE_INIT},
    {AT_BEGIN, "Reached target ", "network-online.target", CONSOLE_NETWORK},
    {AT_BEGIN, "Reached target ", "Network is Online", CONSOLE_NETWORK},
    {AT_BEGIN, "Cloud-init v. ", " running '", CONSOLE_CLOUD_INIT},
    {AT_BEGIN, "Cloud-init v. ", " finished at ", CONSOLE_CLOUD_INIT_DONE},
    {WITHIN, "[WARNING]: Running module ", ") failed", CONSOLE_CLOUD_INIT_ERROR},
    {AT_BEGIN, "tiny: ready", NULL, CONSOLE_TINY_READY},
    {AT_BEGIN, "You are in emergency mode", NULL, CONSOLE_STALL_EMERGENCY},
    {AT_BEGIN, "You are in rescue mode", NULL, CONSOLE_STALL_EMERGENCY},
    {AT_BEGIN, "Cannot open access to console, the root account is locked.", NULL,
     CONSOLE_STALL_EMERGENCY},
    {AT_BEGIN, "Entering emergency mode.", NULL, CONSOLE_STALL_EMERGENCY},
    {AT_BEGIN, "ALERT!", "Dropping to a shell!", CONSOLE_STALL_INITRAMFS},
    {PROMPT, "(initramfs)", NULL, CONSOLE_STALL_INITRAMFS},
    {PROMPT, "dracut:/#", NULL, CONSOLE_STALL_INITRAMFS},
    {LOGIN, " login:", NULL, CONSOLE_LOGIN},
};

static const char *const sign_names[] = {
    [CONSOLE_NOTHING] = "nothing",
    [CONSOLE_FIRMWARE] = "firmware",
    [CONSOLE_BOOTLOADER] = "bootloader",
    [CONSOLE_KERNEL] = "kernel",
    [CONSOLE_INIT] = "init",
    [CONSOLE_NETWORK] = "network",
    [CONSOLE_CLOUD_INIT] = "cloud-init",
    [CONSOLE_CLOUD_INIT_ERROR] = "cloud-init-error",
    [CONSOLE_CLOUD_INIT_DONE] = "cloud-init-done",
    [CONSOLE_LOGIN] = "login",
    [CONSOLE_TINY_READY] = "tiny-ready",
    [CONSOLE_STALL_NO_BOOT_DEVICE] = "no-bootable-device",
    [CONSOLE_STALL_GRUB] = "grub",
    [CONSOLE_STALL_PANIC] = "panic",
    [CONSOLE_STALL_EMERGENCY] = "emergency",
    [CONSOLE_STALL_INITRAMFS] = "initramfs",
    [CONSOLE_STALL_UEFI_SHELL] = "uefi-shell",
};
_Static_assert(sizeof sign_names / sizeof *sign_names == CONSOLE_N, "one name a sign");

const char *console_sign_name(ConsoleSign sign)
{
    return (unsigned)sign < CONSOLE_N ? sign_names[sign] : "";
}

void console_scan_init(ConsoleScan *scan)
{
    memset(scan, 0, sizeof *scan);
}

/* --- comparing -------------------------------------------------------------------------------- */

static const char *skip_spaces(const char *text)
{
    return text + strspn(text, " ");
}

/* After "[    1.234567] " (the kernel), "[  OK  ] " (systemd), "cloud-init[123]: " and "systemd[1]:
 * ". */
static const char *skip_prefixes(const char *text)
{
    text = skip_spaces(text);
    if (*text == '[') {
        size_t n = strspn(text + 1, " .0123456789OK");
        text = text[1 + n] == ']' ? skip_spaces(text + n + 2) : text;
    }
    size_t n_name = strcspn(text, " [");
    size_t n_pid = text[n_name] == '[' ? strspn(text + n_name + 1, "0123456789") : 0;
    if (n_name > 0 && n_pid > 0 && strncmp(text + n_name + 1 + n_pid, "]: ", 3) == 0) {
        text = skip_spaces(text + n_name + 1 + n_pid + 3);
    }
    return text;
}

/* Is `text` `phrase`, but for spaces at its end? */
static bool is_whole(const char *text, const char *phrase)
{
    size_t n = strlen(phrase);
    return strncmp(text, phrase, n) == 0 && *skip_spaces(text + n) == '\0';
}

static bool is_login(const char *text, const char *phrase)
{
    size_t n_word = strcspn(text, " ");
    return n_word > 0 && is_whole(text + n_word, phrase);
}

static bool has_after(const char *text, const char *also)
{
    return !also || strstr(text, also);
}

static bool is_match(size_t row, const char *line, const char *text)
{
    const char *phrase = table[row].phrase;
    const char *at;
    switch (table[row].match) {
    case AT_BEGIN:
        return strncmp(text, phrase, strlen(phrase)) == 0 &&
               has_after(text + strlen(phrase), table[row].also);
    case WITHIN:
        at = strstr(line, phrase);
        return at && has_after(at + strlen(phrase), table[row].also) &&
               !strstr(line, "ommand line:");
    case PROMPT:
        return is_whole(text, phrase);
    case LOGIN:
        return is_login(text, phrase);
    }
    return false;
}

static ConsoleSign look(const ConsoleScan *scan, bool is_ended)
{
    const char *text = skip_prefixes(scan->line);
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        bool is_prompt = table[row].match == PROMPT || table[row].match == LOGIN;
        if ((is_ended || is_prompt) && is_match(row, scan->line, text)) {
            return table[row].sign;
        }
    }
    return CONSOLE_NOTHING;
}

/* --- collecting ------------------------------------------------------------------------------- */

static ConsoleSign tell(ConsoleScan *scan, bool is_ended)
{
    ConsoleSign sign = scan->is_told ? CONSOLE_NOTHING : look(scan, is_ended);
    if (sign != CONSOLE_NOTHING) {
        scan->is_told = true;
        memcpy(scan->said, scan->line, sizeof scan->said);
    }
    return sign;
}

static ConsoleSign end_line(ConsoleScan *scan)
{
    if (scan->n_line == 0) {
        return CONSOLE_NOTHING;
    }
    ConsoleSign sign = tell(scan, true);
    memcpy(scan->kept[scan->n_kept++ % CONSOLE_KEEP_LINES], scan->line, CONSOLE_LINE_MAX);
    scan->n_line = 0;
    scan->line[0] = '\0';
    scan->is_told = false;
    return sign;
}

enum { PLAIN, ESCAPE, CSI, STRING, STRING_ESCAPE, CHARSET };

/* One byte inside an escape sequence (ECMA-48); true: the sequence moves the cursor. */
static bool escape_byte(ConsoleScan *scan, unsigned char byte)
{
    switch (scan->escape) {
    case ESCAPE:
        scan->escape = byte == '['                      ? CSI
                       : byte && strchr("]PX^_", byte)  ? STRING
                       : byte && strchr("()*+#%", byte) ? CHARSET
                                                        : PLAIN;
        return byte == 'c' || byte == 'D' || byte == 'E' || byte == 'M';
    case CSI:
        if (byte >= 0x40 && byte <= 0x7e) {
            scan->escape = PLAIN;
            return strchr("ABEFHJdf", byte) != NULL;
        }
        scan->escape = byte >= 0x20 && byte <= 0x3f ? CSI : PLAIN;
        return false;
    case STRING:
        scan->escape = byte == 0x1b ? STRING_ESCAPE : byte == 0x07 || byte == '\n' ? PLAIN : STRING;
        return false;
    default:
        scan->escape = PLAIN;
        return false;
    }
}

static void add(ConsoleScan *scan, char byte)
{
    if (scan->n_line < CONSOLE_LINE_MAX - 1) {
        scan->line[scan->n_line++] = byte;
        scan->line[scan->n_line] = '\0';
    }
}

/* Where "[   12.345678] ", the kernel's time stamp, ends the line so far and does not begin it; 0:
 * it doesn't. */
static size_t stamp_begin(const ConsoleScan *scan)
{
    size_t at = scan->n_line;
    if (at < 3 || scan->line[at - 1] != ' ' || scan->line[at - 2] != ']') {
        return 0;
    }
    at -= 2;
    size_t n_decimals = 0;
    while (at > 0 && isdigit((unsigned char)scan->line[at - 1])) {
        at--;
        n_decimals++;
    }
    if (n_decimals != 6 || at == 0 || scan->line[--at] != '.') {
        return 0;
    }
    while (at > 0 && (isdigit((unsigned char)scan->line[at - 1]) || scan->line[at - 1] == ' ')) {
        at--;
    }
    return at > 0 && scan->line[at - 1] == '[' && !strstr(scan->line, "ommand line:") ? at - 1 : 0;
}

/* Messages of the kernel (and through it of services) come in the middle of a prompt or another
 * program's line. */
static ConsoleSign split_at_stamp(ConsoleScan *scan)
{
    size_t n_before = stamp_begin(scan);
    if (n_before == 0) {
        return CONSOLE_NOTHING;
    }
    char stamp[CONSOLE_LINE_MAX];
    size_t n_stamp = scan->n_line - n_before;
    memcpy(stamp, scan->line + n_before, n_stamp);
    scan->line[n_before] = '\0';
    scan->n_line = n_before;
    ConsoleSign sign = end_line(scan);
    memcpy(scan->line, stamp, n_stamp);
    scan->line[n_stamp] = '\0';
    scan->n_line = n_stamp;
    return sign;
}

/* A carriage return ends the line only when something is written over it. */
static ConsoleSign plain_byte(ConsoleScan *scan, unsigned char byte)
{
    ConsoleSign sign = CONSOLE_NOTHING;
    bool is_text = (byte >= 0x20 && byte != 0x7f) || byte == '\t';
    if (byte == '\n' || (is_text && scan->is_cr)) {
        sign = end_line(scan);
        scan->is_cr = false;
    }
    if (is_text) {
        add(scan, byte == '\t' ? ' ' : (char)byte);
        sign = sign == CONSOLE_NOTHING ? split_at_stamp(scan) : sign;
    } else if (byte == '\r') {
        scan->is_cr = true;
    } else if (byte == 0x1b) {
        scan->escape = ESCAPE;
    } else if (byte == '\b' && scan->n_line > 0) {
        scan->line[--scan->n_line] = '\0';
    }
    return sign;
}

size_t console_scan_feed(ConsoleScan *scan, const char *bytes, size_t n, ConsoleSign *out_sign,
                         const char **out_text)
{
    *out_sign = CONSOLE_NOTHING;
    *out_text = "";
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (scan->escape == PLAIN) {
            *out_sign = plain_byte(scan, byte);
        } else if (escape_byte(scan, byte)) {
            *out_sign = end_line(scan);
        }
        if (*out_sign == CONSOLE_NOTHING && i + 1 == n) {
            *out_sign = tell(scan, false);
        }
        if (*out_sign != CONSOLE_NOTHING) {
            *out_text = scan->said;
            return i + 1;
        }
    }
    return n;
}

const char *console_scan_kept(const ConsoleScan *scan, unsigned i)
{
    unsigned n = scan->n_kept < CONSOLE_KEEP_LINES ? scan->n_kept : CONSOLE_KEEP_LINES;
    if (i < n) {
        return scan->kept[(scan->n_kept - n + i) % CONSOLE_KEEP_LINES];
    }
    return i == n && scan->n_line > 0 ? scan->line : NULL;
}
