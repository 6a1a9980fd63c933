"""From the downloads to data that training reads: labels of reports, small images, and what is wrong with both.

    python prepare_data.py radgraph --graphs MIMIC-CXR_graphs.json --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py reports --csv reports.csv --image-column image --text-column report --out own_labels
    python prepare_data.py store --help                # images decoded once, at the size that training needs
    python prepare_data.py doctor --help               # every path, image, label and split of a config

The --help of each states what it reads, what it writes and what it costs. When `store` is killed, the same command
continues; `radgraph` and `reports` start again, but for the answers of a language model. Nothing here needs a GPU.
"""

import argparse
import sys
from importlib import import_module

from mavl.config.cli import complain_in_one_line

COMMANDS = {
    "radgraph": "report graphs -> label store, manifests, statistics",
    "reports": "reports of any hospital -> label store, manifests, vocabulary, sentences",
    "store": "images -> small copies under the same names",
    "doctor": "a config -> what is wrong with its data",
}
"""Each is a module of mavl.prepare with `add_arguments(parser)` and `run(arguments) -> exit code`."""

GO_ON = ("store",)
"""Those that go on after an interrupt."""


@complain_in_one_line
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == (sys.argv[1:2] or [None])[0]:  # no command waits for what another one imports
            module = import_module(f"mavl.prepare.{name}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt as interrupt:
        hint = ["the same command goes on where it was"] if arguments.command in GO_ON else interrupt.args
        raise KeyboardInterrupt(*hint) from interrupt


if __name__ == "__main__":
    sys.exit(main())
