"""Config files that are broken, hostile or contradict themselves."""

from itertools import pairwise
from pathlib import Path

import yaml
from bad_input.running import BASE, Case, training

CONTRADICTIONS = yaml.safe_load(Path(__file__).with_name("contradictions.yaml").read_text())


def laughs(twice: str) -> str:
    """Aliases of aliases, 2^63 values written out."""
    lines = [f"B{i}: &a{i} {twice.format(f'a{i - 1}')}\n" for i in range(1, 64)]
    return "A: &a0 [1]\n" + "".join(lines)


def chain(length: int) -> dict[str, str]:
    """Files each of which is the base of the one before."""
    names = ["a.yaml", *(f"{i}.yaml" for i in range(length)), "end.yaml"]
    files = {name: f"_BASE_: {base}\n" for name, base in pairwise(names)}
    return {**files, "end.yaml": "VERSION: 2\n"}


# Name, content of a.yaml, what the sentence names.
BROKEN = (
    ("empty", "", "a.yaml"),
    ("comment-only", "# nothing\n", "a.yaml"),
    ("binary", bytes(range(256)) * 20, "a.yaml"),
    ("zeros", bytes(5000), "a.yaml"),
    ("picture", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500), "a.yaml"),
    ("latin1", "OUTPUT_DIR: caf\u00e9\n".encode("latin1"), "a.yaml is not text in UTF-8"),
    ("utf16", "VERSION: 2\n".encode("utf16"), "a.yaml is not text in UTF-8"),
    ("folder", None, "a.yaml is a folder"),
    ("list", "- 1\n- 2\n", "a.yaml"),
    ("number", "3\n", "a.yaml"),
    ("text", "hello there\n", "a.yaml"),
    ("json-unfinished", '{"MODEL": {', "a.yaml"),
    ("tab", "MODEL:\n\tWEIGHTS: a\n", "a.yaml"),
    ("indent", "MODEL:\n    WEIGHTS: a\n  DEVICE: cpu\n", "a.yaml"),
    ("unclosed", "SOLVER: [1, 2\n", "a.yaml"),
    ("quote", 'OUTPUT_DIR: "out\n', "a.yaml"),
    ("two-documents", "VERSION: 2\n---\nVERSION: 2\n", "a.yaml"),
    ("unknown-tag", "SEED: !seed 1\n", "!seed"),
    ("undefined-alias", "SEED: *nothing\n", "nothing"),
    ("duplicate-key", "SOLVER: {MAX_ITER: 1}\nSOLVER: {MAX_ITER: 2}\n", "key SOLVER twice"),
    ("duplicate-inner-key", "SOLVER:\n  MAX_ITER: 1\n  MAX_ITER: 2\n", "key MAX_ITER twice"),
    ("number-for-key", "1: 2\n", "a.yaml"),
    ("null-for-key", "~: 2\n", "a.yaml"),
    ("bool-for-key", "SOLVER: {yes: 2}\n", "a.yaml"),
    ("list-for-key", "? [1, 2]\n: 3\n", "a.yaml"),
    ("date", "SOLVER: {BASE_LR: 2020-01-01}\n", "SOLVER.BASE_LR"),
    ("bytes", "SOLVER: {BASE_LR: !!binary aGk=}\n", "SOLVER.BASE_LR"),
    ("set", "SOLVER: !!set {BASE_LR}\n", "SOLVER"),
    ("model-number", "MODEL: 3\n", "MODEL"),
    ("model-list", "MODEL: [1]\n", "MODEL"),
    ("test-null", "TEST:\n", "TEST"),
    ("solver-number", "SOLVER: 3\n", "SOLVER"),
    ("solver-null", "SOLVER:\n", "SOLVER"),
    ("version-text", "VERSION: two\n", "VERSION"),
    ("version-99", "VERSION: 99\n", "VERSION"),
    ("version-0", "VERSION: 0\n", "VERSION"),
    ("version-list", "VERSION: [2]\n", "VERSION"),
    ("unknown-top", "SOLVR: {MAX_ITER: 1}\n", "SOLVR"),
    ("lower-case", "solver: {max_iter: 1}\n", "solver"),
    ("dotted-key", "SOLVER.MAX_ITER: 1\n", "SOLVER.MAX_ITER"),
    ("value-under-value", "SOLVER: {MAX_ITER: {A: 1}}\n", "SOLVER.MAX_ITER"),
    ("base-missing", "_BASE_: none.yaml\n", "none.yaml"),
    ("base-folder", "_BASE_: .\n", "_BASE_"),
    ("base-empty", '_BASE_: ""\n', "_BASE_"),
    ("base-null", "_BASE_:\n", "_BASE_"),
    ("base-number", "_BASE_: 3\n", "_BASE_"),
    ("base-mapping", "_BASE_: {a: b}\n", "_BASE_"),
    ("base-list-of-lists", "_BASE_: [[a.yaml]]\n", "_BASE_"),
    ("base-itself", "_BASE_: a.yaml\n", "a.yaml"),
    ("base-itself-in-list", "_BASE_: [./a.yaml]\n", "a.yaml"),
    ("python-apply", "SEED: !!python/object/apply:os.system ['touch {here}/ran']\n", "!!python"),
    ("python-new", "SEED: !!python/object/new:os.system ['touch {here}/ran']\n", "!!python"),
    ("python-name", "SEED: !!python/name:os.system\n", "!!python"),
    ("python-module", "SEED: !!python/module:os\n", "!!python"),
    ("python-tuple", "SOLVER: {STEPS: !!python/tuple [1]}\n", "!!python"),
    ("alias-of-itself", "SOLVER: &a {STEPS: *a}\n", "a.yaml"),
    ("alias-list-of-itself", "SOLVER: {STEPS: &a [*a]}\n", "a.yaml"),
    ("laughs-lists", laughs("[*{0}, *{0}]"), "a.yaml"),
    ("laughs-nodes", laughs("{{X: *{0}, Y: *{0}}}"), "a.yaml"),
    ("laughs-value", "A: &a [" + "1, " * 100 + "]\nB: [" + "*a, " * 9000 + "]\n", "a.yaml"),
    ("deep-lists", "SOLVER: {STEPS: " + "[" * 3000 + "]" * 3000 + "}\n", "a.yaml"),
    ("deep-nodes", "".join(f"{' ' * i}A:\n" for i in range(400)), "a.yaml"),
    ("deep-flow", "SEED: " + "{a: " * 100 + "1" + "}" * 100 + "\n", "a.yaml"),
    ("million-values", "SOLVER: {STEPS: [" + "1, " * 1_000_000 + "]}\n", "a.yaml"),
    ("long-key", "K" * 100_000 + ": 1\n", "KKKK"),
    ("long-value", "SOLVER: {MAX_ITER: " + "x" * 100_000 + "}\n", "SOLVER.MAX_ITER"),
    ("long-number", "SOLVER: {MAX_ITER: " + "9" * 5000 + "}\n", "a.yaml"),
    ("parentheses", "SOLVER: {MAX_ITER: '" + "(" * 5000 + "'}\n", "SOLVER.MAX_ITER"),
    ("minuses", "SOLVER: {MAX_ITER: '" + "-" * 100_000 + "1'}\n", "a.yaml"),
    ("hex-number", "SOLVER: {MAX_ITER: 0x" + "f" * 5000 + "}\n", "SOLVER.MAX_ITER"),
    ("binary-number", "SEED: 0b" + "1" * 20_000 + "\n", "SEED"),
    ("base-60", "SEED: " + "1:" * 5000 + "1\n", "SEED|a.yaml"),
    ("empty-int", "SEED: !!int ''\n", "a.yaml"),
    ("int-of-letters", "SEED: !!int abc\n", "a.yaml"),
    ("float-of-letters", "SOLVER: {BASE_LR: !!float abc}\n", "a.yaml"),
    ("timestamp", "SEED: !!timestamp abc\n", "a.yaml"),
    ("month-13", "SEED: 2020-13-45\n", "a.yaml"),
    ("bool-of-letters", "SEED: !!bool abc\n", "a.yaml"),
    ("not-base64", "SEED: !!binary a\n", "a.yaml"),
    ("omap", "SEED: !!omap 3\n", "a.yaml"),
    ("merge-number", "SOLVER: {<<: 3}\n", "a.yaml"),
    ("merge-base-missing", "<<: {_BASE_: none.yaml}\n", "none.yaml does not exist"),
    ("merge-laughs", laughs("{{<<: [*{0}, *{0}]}}"), "a.yaml"),
    ("base-of-a-scheme", "_BASE_: nonesuch://a.yaml\n", "nonesuch://a.yaml"),
    ("base-device", "_BASE_: /dev/zero\n", "/dev/zero is no regular file"),
    ("base-nul", '_BASE_: "a\\0.yaml"\n', "_BASE_"),
    ("output-empty", 'OUTPUT_DIR: ""\n', "OUTPUT_DIR"),
    ("output-nul", 'OUTPUT_DIR: "a\\0b"\n', "OUTPUT_DIR"),
    ("output-surrogate", 'OUTPUT_DIR: "\\ud800"\n', "OUTPUT_DIR|a.yaml"),
    ("output-long", "OUTPUT_DIR: " + "a/" * 3000 + "\n", "OUTPUT_DIR"),
    ("output-url", "OUTPUT_DIR: http://a/b\n", "OUTPUT_DIR"),
    ("sampler", "DATALOADER: {SAMPLER_TRAIN: RandomSubsetTrainingSampler}\n", "SAMPLER_TRAIN"),
    ("keypoints", BASE + "MODEL: {KEYPOINT_ON: true}\n", "MODEL.KEYPOINT_ON"),
    ("masks", BASE + "MODEL: {MASK_ON: true}\n", "MODEL.MASK_ON"),
    ("removed-key", BASE + "MODEL: {FOCAL_RETINA: {OHEM_SCOPE: batch}}\n", "OHEM_SCOPE"),
    ("unhashable", "SOLVER: {MAX_ITER: '{[]: 1}'}\n", "a.yaml"),
)  # fmt: skip

# Odd, but fine: name, content of a.yaml.
FINE = (
    ("bom", "\ufeff" + BASE),
    ("crlf", BASE.replace("\n", "\r\n")),
    ("comments", "# one\n" + BASE + "# two\n"),
    ("document-marks", "---\n" + BASE + "...\n"),
    ("alias", BASE + "SOLVER: {STEPS: &s [64], MAX_ITER: 1}\nINPUT: {MIN_SIZE_TRAIN: *s}\n"),
    ("flow", "{_BASE_: {jobs}/tiny.yaml, OUTPUT_DIR: '{here}/out'}\n"),
    ("int-for-float", BASE + "SOLVER: {BASE_LR: 1}\n"),
    ("base-by-merge", "<<: {_BASE_: '{jobs}/tiny.yaml'}\nOUTPUT_DIR: {here}/out\n"),
    ("removed-key-with-its-default", BASE + "MODEL: {FOCAL_RETINA: {OHEM_SCOPE: image}}\n"),
    ("base-in-list", BASE.replace("{jobs}/tiny.yaml", "[{jobs}/tiny.yaml]")),
)


# Name, files, what the sentence names.
OF_A_BASE = (
    ("cycle", {"a.yaml": "_BASE_: sub/b.yaml\n", "sub/b.yaml": "_BASE_: ../a.yaml\n"}, "b.yaml"),
    ("misspelt", {"a.yaml": "_BASE_: b.yaml\n", "b.yaml": "SOLVER: {MAX_ITR: 1}\n"}, "MAX_ITR"),
    ("chain", chain(150), "more than 100 files"),
    (
        "value-over-keys",
        {"a.yaml": "_BASE_: b.yaml\nSOLVER: {SEED: 1}", "b.yaml": "SOLVER: 1"},
        "SOLVER",
    ),
    ("broken", {"a.yaml": "_BASE_: b.yaml\n", "b.yaml": "SOLVER: ["}, "b.yaml"),
)


def cases() -> list[Case]:
    found = [_case(f"yaml-{name}", culprit, {"a.yaml": text}) for name, text, culprit in BROKEN]
    found += [_case(f"fine-{name}", None, {"a.yaml": text}) for name, text in FINE]
    found += [_case(f"yaml-base-{name}", culprit, files) for name, files, culprit in OF_A_BASE]
    for name, (config, culprit) in CONTRADICTIONS.items():
        found.append(training(f"contradiction-{name}", culprit, yaml.safe_dump(config)))
    return found


def _case(name: str, culprit: str | None, files: dict) -> Case:
    return Case(name, "train_net", ("--config-file", "{here}/a.yaml"), culprit, files)
