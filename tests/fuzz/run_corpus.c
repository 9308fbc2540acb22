#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <glib.h>

/* Runs a fuzz entry over every file of the folders that are named: the corpus as an ordinary test.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int run_folder(const char *folder)
{
    const char *name;
    int n_files = 0;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;
        gsize n = 0;
        if (!g_file_get_contents(path, &text, &n, NULL)) {
            fprintf(stderr, "cannot read %s\n", path);
            return -1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)text, n);
        n_files++;
    }
    return n_files;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int n_files = run_folder(argv[i]);
        if (n_files <= 0) {
            fprintf(stderr, "no corpus in %s\n", argv[i]);
            return 1;
        }
        printf("%d files of %s\n", n_files, argv[i]);
    }
    return argc > 1 ? 0 : 1;
}
