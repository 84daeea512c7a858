"""Config files that are broken, hostile or contradict themselves."""

from bad_input.running import Case

HERE = ("--config-file", "{here}/a.yaml")
BASE = "_BASE_: {jobs}/tiny.yaml\nOUTPUT_DIR: {here}/out\n"

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
    ("laughs-lists", "A: &a0 [1, 1]\n" + "".join(f"B{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 64)), "a.yaml"),
    ("laughs-nodes", "A: &a0 {X: 1}\n" + "".join(f"B{i}: &a{i} {{X: *a{i - 1}, Y: *a{i - 1}}}\n" for i in range(1, 64)), "a.yaml"),
    ("laughs-value", "SOLVER:\n  MAX_ITER: &a [" + "1, " * 100 + "]\n  STEPS: [" + "*a, " * 9000 + "]\n", "a.yaml"),
    ("deep-lists", "SOLVER: {STEPS: " + "[" * 3000 + "]" * 3000 + "}\n", "a.yaml"),
    ("deep-nodes", "".join(f"{' ' * i}A:\n" for i in range(400)), "a.yaml"),
    ("deep-flow", "SEED: " + "{a: " * 100 + "1" + "}" * 100 + "\n", "a.yaml"),
    ("million-values", "SOLVER: {STEPS: [" + "1, " * 1_000_000 + "]}\n", "a.yaml"),
    ("long-key", "K" * 100_000 + ": 1\n", "KKKK"),
    ("long-value", "SOLVER: {MAX_ITER: " + "x" * 100_000 + "}\n", "SOLVER.MAX_ITER"),
    ("long-number", "SOLVER: {MAX_ITER: " + "9" * 5000 + "}\n", "a.yaml"),
    ("parentheses", "SOLVER: {MAX_ITER: '" + "(" * 5000 + "'}\n", "SOLVER.MAX_ITER"),
    ("minuses", "SOLVER: {MAX_ITER: '" + "-" * 100_000 + "1'}\n", "a.yaml"),
    ("unhashable", "SOLVER: {MAX_ITER: '{[]: 1}'}\n", "a.yaml"),
)  # fmt: skip

# Name, what a.yaml adds to the tiny job, what the sentence names.
CONTRADICTIONS = (
    ("classes", "MODEL: {RETINANET: {NUM_CLASSES: 2}}", "MODEL.RETINANET.NUM_CLASSES is 2"),
    ("levels", "MODEL: {ANCHOR_GENERATOR: {SIZES: [[32], [64]]}}", "ANCHOR_GENERATOR.SIZES"),
    ("levels-ratios", "MODEL: {ANCHOR_GENERATOR: {ASPECT_RATIOS: [[1.0], [2.0]]}}", "ASPECT_RATIOS"),
    ("features", "MODEL: {RETINANET: {IN_FEATURES: [p3, p4]}}", "MODEL.ANCHOR_GENERATOR.SIZES"),
    ("uneven", "MODEL: {ANCHOR_GENERATOR: {SIZES: [[32, 40], [64], [128], [256], [512]]}}", "SIZES"),
    ("gn-fpn", "MODEL: {FPN: {NORM: GN}}", "MODEL.FPN.NORM is GN"),
    ("gn-head", "MODEL: {RETINANET: {NORM: GN}}", "MODEL.RETINANET.NORM is GN"),
    ("labels", "MODEL: {RETINANET: {IOU_THRESHOLDS: [0.5]}}", "MODEL.RETINANET.IOU_LABELS"),
    ("resnet", "MODEL: {RESNETS: {RES2_OUT_CHANNELS: 256}}", "MODEL.RESNETS.RES2_OUT_CHANNELS"),
    ("resnet-features", "MODEL: {RESNETS: {OUT_FEATURES: [res4]}}", "MODEL.FPN.IN_FEATURES"),
    ("resnet-unknown-feature", "MODEL: {RESNETS: {OUT_FEATURES: [res9]}}", "MODEL.RESNETS.OUT_FEATURES"),
    ("steps", "SOLVER: {STEPS: [1], MAX_ITER: 1}", "SOLVER.STEPS"),
    ("too-small", "SOLVER: {IMS_PER_BATCH: 3}\nMODEL: {FPN: {OUT_CHANNELS: 0}}", "MODEL.FPN.OUT_CHANNELS"),
    ("regnet-features", "MODEL: {BACKBONE: {NAME: build_focal_retina_regnet_fpn_backbone}}", "IN_FEATURES"),
    ("timm-name", "MODEL: {BACKBONE: {NAME: build_focal_retina_timm_fpn_backbone}, FOCAL_RETINA: {TIMM: {NAME: resnet5}}}", "'resnet5'"),
    ("timm-option", "MODEL: {BACKBONE: {NAME: build_focal_retina_timm_fpn_backbone}, FOCAL_RETINA: {TIMM: {NAME: resnet18, OPTIONS: {out_indx: 1}}}}", "out_indx"),
    ("pixels", "MODEL: {PIXEL_MEAN: [1.0]}", "MODEL.PIXEL_MEAN"),
    ("pixels-std", "MODEL: {PIXEL_STD: [1.0, 1.0, 0.0]}", "MODEL.PIXEL_STD"),
    ("pixels-grey", "INPUT: {FORMAT: L}", "MODEL.PIXEL_MEAN"),
    ("device", "MODEL: {DEVICE: gpu}", "MODEL.DEVICE"),
    ("focal-star", "MODEL: {FOCAL_RETINA: {CLS_LOSS: focal_star}, RETINANET: {FOCAL_LOSS_GAMMA: 0.0}}", "FOCAL_LOSS_GAMMA"),
    ("alpha-per-class", "MODEL: {FOCAL_RETINA: {CLASS_ALPHA: [0.1, 0.2]}}", "CLASS_ALPHA"),
    ("backend", "MODEL: {DEVICE: cpu, FOCAL_RETINA: {BACKEND: triton}}", "triton"),
    ("range", "INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TRAIN_SAMPLING: range}", "INPUT.MIN_SIZE_TRAIN"),
    ("crop", "INPUT: {CROP: {ENABLED: True, SIZE: [2.0, 2.0]}}", "INPUT.CROP.SIZE"),
    ("crop-range", "INPUT: {CROP: {ENABLED: True, TYPE: absolute_range, SIZE: [20, 10]}}", "INPUT.CROP.SIZE"),
    ("nesterov", "SOLVER: {NESTEROV: True, MOMENTUM: 0.0}", "SOLVER.NESTEROV"),
    ("cosine", "SOLVER: {LR_SCHEDULER_NAME: WarmupCosineLR, BASE_LR_END: 1.0}", "SOLVER.BASE_LR_END"),
    ("reference", "SOLVER: {REFERENCE_WORLD_SIZE: 4}", "SOLVER.REFERENCE_WORLD_SIZE"),
    ("augmentation", "TEST: {AUG: {ENABLED: True}}\nMODEL: {META_ARCHITECTURE: RetinaNet}", "TEST.AUG.ENABLED"),
    ("no-training-data", "DATASETS: {TRAIN: []}", "DATASETS.TRAIN"),
    ("unknown-dataset", "DATASETS: {TRAIN: [tiny_trian]}", "tiny_trian"),
    ("unknown-test-dataset", "DATASETS: {TEST: [none]}", "none"),
    ("same-name", "DATASETS: {REGISTER: [[tiny_val, '{jobs}/none.json', x]]}", "none.json"),
    ("register-number", "DATASETS: {REGISTER: [3]}", "not as 3"),
    ("register-text", "DATASETS: {REGISTER: [abc]}", "not as 'abc'"),
    ("register-two", "DATASETS: {REGISTER: [[a, b]]}", "['a', 'b']"),
    ("register-numbers", "DATASETS: {REGISTER: [[1, 2, 3]]}", "[1, 2, 3]"),
    ("register-missing", "DATASETS: {REGISTER: [[a, none.json, none]]}", "none.json"),
    ("register-voc", "DATASETS: {REGISTER: [[a, voc, none, train]]}", "none"),
    ("meta-architecture", "MODEL: {META_ARCHITECTURE: FocalRetina}", "FocalRetina"),
    ("backbone", "MODEL: {BACKBONE: {NAME: resnet}}", "MODEL.BACKBONE.NAME"),
    ("generator", "MODEL: {ANCHOR_GENERATOR: {NAME: Octave}}", "MODEL.ANCHOR_GENERATOR.NAME"),
)  # fmt: skip

# Odd, but fine: name, content of a.yaml.
FINE = (
    ("bom", "\ufeff" + BASE),
    ("crlf", BASE.replace("\n", "\r\n")),
    ("comments", "# one\n" + BASE + "# two\n"),
    ("document-marks", "---\n" + BASE + "...\n"),
    ("alias", BASE + "SOLVER: {STEPS: &s [64], MAX_ITER: 1}\nINPUT: {MIN_SIZE_TRAIN: *s}\n"),
    ("flow", "{_BASE_: {jobs}/tiny.yaml, OUTPUT_DIR: '{here}/out'}\n"),
    ("base-in-list", BASE.replace("{jobs}/tiny.yaml", "[{jobs}/tiny.yaml]")),
)


def cases() -> list[Case]:
    found = [Case(f"yaml-{n}", "train_net", HERE, c, {"a.yaml": t}) for n, t, c in BROKEN]
    found += [
        Case(f"contradiction-{n}", "train_net", HERE, c, {"a.yaml": f"{BASE}{t}\n"})
        for n, t, c in CONTRADICTIONS
    ]
    found += [Case(f"fine-{n}", "train_net", HERE, None, {"a.yaml": t}) for n, t in FINE]
    cycle = {"a.yaml": "_BASE_: sub/b.yaml\n", "sub/b.yaml": "_BASE_: ../a.yaml\n"}
    found.append(Case("yaml-base-cycle", "train_net", HERE, "b.yaml", cycle))
    below = {"a.yaml": "_BASE_: b.yaml\n", "b.yaml": "SOLVER: {MAX_ITR: 1}\n"}
    found.append(Case("yaml-base-misspelt", "train_net", HERE, "MAX_ITR", below))
    broken = {"a.yaml": "_BASE_: b.yaml\n", "b.yaml": "SOLVER: ["}
    found.append(Case("yaml-base-broken", "train_net", HERE, "b.yaml", broken))
    return found
