"""docs/reference.md is what the programs say of their options.

    tests/system/reference_test.py            fails where the page is another
    tests/system/reference_test.py --write    writes the page anew
"""
import pathlib
import sys
import unittest

from processes import BIN, run

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/reference.md"
BEGINNING = """# Reference

Every option of every program, as the programs themselves print it (`--help-markdown`). After a change of an option write
this page anew: `tests/system/reference_test.py --write`.

An option is given on the command line (`--rounds 5` or `--rounds=5`) or in the TOML file that `--config` names, as a key
at the top of the file or in the table of its section; the command line wins. A specification is
`NAME[:KEY=VALUE,...]`; in a value `%2C` is a comma and `%25` a percent sign. A time has its unit: `10s` or `250ms`.
An option that is *of the run* must be the same where a run goes on with `--resume`. Values are compared, not spellings:
`sgd` is `sgd:momentum=0`.
"""


def page():
    """The page as the programs of this build write it."""
    commands = ["tandem-aggregator"], ["tandem-aggregator", "profile"], ["tandem-edge"], ["tandem-edge", "profile"], ["tandem"]
    parts = [run(BIN / program, *command, "--help-markdown", check=True).stdout for program, *command in commands]
    return BEGINNING + "".join(parts)


class ReferenceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.page = page()

    def test_the_page_is_what_the_programs_print(self):
        self.maxDiff = None
        self.assertEqual(PAGE.read_text(), self.page, "write it anew: tests/system/reference_test.py --write")

    def test_every_program_and_option_is_there(self):
        for heading in ("## tandem-aggregator", "## tandem-edge", "## tandem simulate", "## tandem-edge profile", "## tandem provision",
                        "## tandem devices add", "## tandem devices list", "## tandem unseal"):
            self.assertIn(f"\n{heading}\n", self.page)
        for program in ("tandem-aggregator", "tandem-edge"):
            shown = run(BIN / program, "--help", check=True).stdout
            names = [line.split()[0] for line in shown.splitlines() if line.startswith("  --")]
            self.assertGreater(len(names), 20)
            self.assertLessEqual(len(names), 45)
            section = self.page.split(f"\n## {program}\n")[1].split("\n## ")[0]
            for name in names:
                if name != "--version":
                    self.assertIn(f"| `{name}` |", section, program)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        unittest.main()
