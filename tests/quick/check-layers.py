"""cmake/check-layers finds each kind of forbidden include, and nothing in this tree."""
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE_DIR = os.environ["SOURCE_DIR"]
CHECKER = os.path.join(SOURCE_DIR, "cmake", "check-layers")
TABLE = "base:\nimaging: base # a comment\ndriver: base imaging\n<libvirt/*>: driver/libvirt/*\n"


def run(root):
    done = subprocess.run([sys.executable, CHECKER, root], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class CheckLayers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        self.write("cmake/layers.txt", TABLE)

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def assert_offence(self, line):
        status, out, _ = run(self.root)
        self.assertEqual((1, line + "\n"), (status, out))

    def test_allowed_includes_then_silent(self):
        self.write("base/fd.h", "#include <glib.h>\n")
        self.write("imaging/x.h", '#include "base/fd.h"\n')
        self.write("driver/libvirt/v.c", '#include "imaging/x.h"\n  #  include <libvirt/libvirt.h>\n')
        self.write("tests/unit/t.c", '#include "driver/d.h"\n')
        self.assertEqual((0, "", ""), run(self.root))

    def test_upward_include_then_named_with_line(self):
        self.write("imaging/x.c", '#include <glib.h>\n\n#include "driver/d.h"\n')
        self.assert_offence('imaging/x.c:3: error: "driver/d.h": imaging may include base, not driver')

    def test_lowest_folder_then_may_include_no_other(self):
        self.write("base/x.c", '#include "imaging/x.h"\n')
        self.assert_offence('base/x.c:1: error: "imaging/x.h": base may include no other folder, not imaging')

    def test_library_beside_its_door_then_named(self):
        self.write("driver/d.c", "#include <libvirt/libvirt.h>\n")
        self.assert_offence("driver/d.c:1: error: <libvirt/libvirt.h>: only driver/libvirt/* may include it")

    def test_include_not_from_root_then_named(self):
        self.write("driver/libvirt/v.c", '#include "v.h"\n')
        self.assert_offence('driver/libvirt/v.c:1: error: "v.h": name it from the root of the tree, '
                            '"driver/libvirt/v.h"')

    def test_unknown_folder_then_named(self):
        self.write("base/x.c", '#include "util/x.h"\n')
        self.assert_offence('base/x.c:1: error: "util/x.h": there is no folder util in cmake/layers.txt')

    def test_own_header_in_angle_brackets_then_named(self):
        self.write("base/fd.h", "")
        self.write("imaging/x.c", "#include <base/fd.h>\n")
        self.assert_offence("imaging/x.c:1: error: <base/fd.h>: headers of ours stand in quotes")

    def test_ring_of_headers_then_named(self):
        self.write("base/a.h", '#include "base/b.h"\n')
        self.write("base/b.h", '#include "base/a.h"\n')
        self.assert_offence("base/a.h:1: error: headers include each other: "
                            "base/a.h -> base/b.h -> base/a.h")

    def test_broken_table_then_status_2(self):
        self.write("cmake/layers.txt", "base: nowhere\n")
        status, _, err = run(self.root)
        self.assertEqual(2, status)
        self.assertIn("no row for: nowhere", err)

    def test_this_tree_then_clean(self):
        self.assertEqual((0, "", ""), run(SOURCE_DIR))


if __name__ == "__main__":
    unittest.main()
