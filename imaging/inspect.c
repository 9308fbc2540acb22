#include "imaging/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/dir.h"

#define PROGRAM          "vm-run-inspect"
#define OUTPUT_BYTES_MAX (1u << 20)
#define GRACE_MS         4000 /* after its own deadline, for cleaning up; then it is killed */

/* What a person may have set for libguestfs and its appliance builder (guestfs(3), supermin(1)). */
static const char *const kept_env[] = {
    "LIBGUESTFS_HV", "LIBGUESTFS_MEMSIZE", "LIBGUESTFS_PATH", "SUPERMIN_KERNEL", "SUPERMIN_MODULES",
};

/* Beside the running program, one folder up (tests of the build tree), or in ../libexec/vm-run. */
static char *find_program(GError **error)
{
    static const char *const places[] = {".", "..", "../libexec/vm-run"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : g_strdup(".");
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(folder, places[i], PROGRAM, NULL);
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    base_fail(error, VM_ERROR_HOST, PROGRAM " is not installed beside '%s' - install vm-run again",
              self ? self : "?");
    return NULL;
}

/* Where libguestfs keeps its appliance: /var/tmp as usual (it would follow TMPDIR, which isn't
 * kept), or the person's cache where that can't be written. */
static char *cache_setting(void)
{
    const char *own = g_getenv("LIBGUESTFS_CACHEDIR");
    if (own || access("/var/tmp", W_OK) == 0) {
        return g_strconcat("LIBGUESTFS_CACHEDIR=", own ? own : "/var/tmp", NULL);
    }
    g_autofree char *path = g_build_filename(g_get_user_cache_dir(), "vm-run", "guestfs", NULL);
    return g_mkdir_with_parents(path, 0700) == 0 ? g_strconcat("LIBGUESTFS_CACHEDIR=", path, NULL)
                                                 : NULL;
}

static GPtrArray *environment(const char *tmp)
{
    GPtrArray *env = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < G_N_ELEMENTS(kept_env); i++) {
        const char *value = g_getenv(kept_env[i]);
        if (value) {
            g_ptr_array_add(env, g_strconcat(kept_env[i], "=", value, NULL));
        }
    }
    char *cache = cache_setting();
    if (cache) {
        g_ptr_array_add(env, cache);
    }
    g_ptr_array_add(env, g_strconcat("TMPDIR=", tmp, NULL)); /* of the appliance builder */
    g_ptr_array_add(env, g_strconcat("LIBGUESTFS_TMPDIR=", tmp, NULL));
    g_ptr_array_add(env, g_strconcat("XDG_RUNTIME_DIR=", tmp, NULL)); /* its sockets */
    g_ptr_array_add(env, NULL);
    return env;
}

static char *ask(const ImgSource *source, bool is_kvm_usable, unsigned timeout_ms, const char *tmp,
                 GError **error)
{
    g_autofree char *program = find_program(error);
    if (!program) {
        return NULL;
    }
    char *out = NULL;
    int status = 0;
    g_autofree char *timeout = g_strdup_printf("%u", MAX(timeout_ms, 1));
    g_autoptr(GPtrArray) env = environment(tmp);
    const char *const argv[] = {program,
                                img_format_name(source->header->format),
                                is_kvm_usable ? "auto" : "tcg",
                                timeout,
                                source->path,
                                NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.extra_env = (const char *const *)env->pdata;
    child.timeout_ms = MIN(timeout_ms, G_MAXUINT - GRACE_MS) + GRACE_MS;
    child.max_output_bytes = OUTPUT_BYTES_MAX;
    child.is_new_session = true; /* QEMU and all are of its group, and end with it */
    GError *failure = NULL;
    if (base_child_run(&child, &out, &status, &failure)) {
        return g_strchomp(out);
    }
    g_free(out);
    if (status == IMG_INSPECT_LATE || g_error_matches(failure, VM_ERROR, VM_ERROR_TIMEOUT)) {
        base_fail(error, VM_ERROR_TIMEOUT,
                  "libguestfs did not answer within %u s - give it more time with --timeout",
                  timeout_ms / 1000);
        g_error_free(failure);
        return NULL;
    }
    g_propagate_error(error, failure);
    return NULL;
}

/* libguestfs opens by path: it was the checked file if the path leads to it before and after. */
static bool check_path(const ImgSource *source, GError **error)
{
    struct stat st;
    if (lstat(source->path, &st) != 0 || st.st_dev != source->dev || st.st_ino != source->ino) {
        return base_fail(error, VM_ERROR_IMAGE, "was replaced while it was looked at - try again");
    }
    return img_source_check_unchanged(source, error);
}

char *img_inspect_json(const ImgSource *source, bool is_kvm_usable, unsigned timeout_ms,
                       GError **error)
{
    GError *failure = NULL;
    char *json = NULL;
    g_autofree char *tmp = g_dir_make_tmp("vm-inspect-XXXXXX", &failure);
    if (!tmp) {
        base_fail(error, VM_ERROR_HOST, "%s", failure->message);
        g_error_free(failure);
        return NULL;
    }
    if (check_path(source, error)) {
        json = ask(source, is_kvm_usable, timeout_ms, tmp, error);
    }
    if (json && !check_path(source, error)) {
        g_clear_pointer(&json, g_free);
    }
    if (!json) {
        g_prefix_error(error, "image '%s': ", source->path);
    }
    base_dir_remove_tree(AT_FDCWD, tmp, NULL);
    return json;
}
