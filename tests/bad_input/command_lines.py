"""Absurd command lines of every tool."""

from pathlib import Path
from string import Template

import yaml
from bad_input.running import Case

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
TINY, TRAINED = "--config-file {jobs}/tiny.yaml", "{jobs}/trained/model_final.pth"
ARGUMENTS = {
    "TINY": TINY,
    "TRAINED": TRAINED,
    "MODEL": f"{TINY} --weights {TRAINED}",
    "QUICK": "--output {here}/out",
    "FEW": "--train-images 1 --val-images 1",
    "CONVERT": TRAINED + " {here}/a.pth",
}
FOLDERS = ("/dev/full", "/proc/nowhere", "{jobs}/tiny.yaml", "/dev/full/x")
# What no number of iterations is, and too long for the table.
LONG = ("(" * 300, "-" * 100_000 + "1", "9" * 5000)


def cases() -> list[Case]:
    of = {name: table.items() for name, table in TABLES.items()}
    long = [("train_net", f"$TINY SOLVER.MAX_ITER {x}", "SOLVER.MAX_ITER") for x in LONG]
    return [
        *(_case(*line) for line in long),
        *(_case(tool, *line) for tool, lines in of["lines"] for line in lines.items()),
        *(
            _case(tool, f"{line} {option} {value}", option)
            for tool, lines in of["options"]
            for line, options in lines.items()
            for option, values in options.items()
            for value in str(values).split()
        ),
        *(
            _case(tool, f"{line} --nonesuch", "--nonesuch")
            for tool, lines in of["unknown_option"]
            for line in lines
        ),
        *(_case(t, line.replace("X", x), x) for t, line in of["outputs"] for x in FOLDERS),
        *(_case("predict", f"$MODEL $QUICK {x}", name, status=1) for x, name in of["unreadable"]),
    ]


def _case(tool: str, line: str, culprit: str, **options) -> Case:
    line = Template(line).substitute(ARGUMENTS)
    shown = line.replace("{", "").replace("}", "")[-70:]
    return Case(f"line-{tool} {shown}", tool, tuple(line.split()), culprit, **options)
