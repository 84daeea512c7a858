"""Absurd command lines of every tool."""

from bad_input.running import Case

TINY = "--config-file {jobs}/tiny.yaml"
TRAINED = "{jobs}/trained/model_final.pth"
MODEL = f"{TINY} --weights {TRAINED}"
QUICK = "--output {here}/out"
FEW = "--train-images 1 --val-images 1"
CONVERT = TRAINED + " {here}/a.pth"
BACK = CONVERT + " --to torchvision"

# Tool, other arguments, option, values that it refuses; the sentence names the option.
OPTIONS = (
    ("train_net", TINY, "--num-gpus", "many 0 -1 1.5 1000000"),
    ("train_net", TINY, "--num-machines", "0 -2"),
    ("train_net", TINY, "--machine-rank", "1 -1"),
    ("train_net", f"{TINY} --num-machines 2", "--dist-url", "auto"),
    ("train_net", f"{TINY} --num-gpus 2", "--dist-url", "nonsense tcp://"),
    ("predict", f"{MODEL} x.jpg", "--batch-size", "0 many"),
    ("predict", f"{MODEL} x.mp4", "--max-frames", "0 -1 x"),
    ("predict", f"{MODEL} x.jpg", "--draw-thresh", "nan 2 -1 x"),
    ("predict", MODEL, "--webcam", "x -1"),
    ("export", f"{MODEL} --output {{here}}/m.onnx", "--format", "nonesuch"),
    ("convert_checkpoint", "a.pth b.pth", "--from", "nonesuch"),
    ("convert_checkpoint", "a.pth b.pth", "--to", "nonesuch"),
    ("convert_checkpoint", "a.pth b.pth", "--norm-eps", "x -1 nan"),
    ("demo", QUICK, "--train-images", "0 -3 x"),
    ("demo", QUICK, "--val-images", "0 1.5"),
    ("benchmark", "", "--only", "nonesuch"),
    ("benchmark", "", "--rounds", "0 x -3"),
    ("benchmark", "", "--height", "0 -5"),
    ("benchmark", "", "--width", "1.5 1000000000"),
    ("benchmark", "", "--device", "tpu"),
    ("paper_tables", f"run 1a {QUICK}", "--seeds", "0 x"),
    ("paper_tables", f"run 1a {QUICK}", "--num-gpus", "0 -2"),
    ("plot_analysis", QUICK, "--foreground", "0 x"),
    ("plot_analysis", QUICK, "--background", "-1"),
    ("plot_analysis", QUICK, "--max-images", "0 -4"),
)
# Tool, arguments before an option that the tool does not know.
UNKNOWN_OPTION = (
    *(("train_net", ""), ("train_net", TINY), ("predict", f"{MODEL} x.jpg"), ("demo", "")),
    *(("export", f"{MODEL} --output {{here}}/m.onnx"), ("convert_checkpoint", "a.pth b.pth")),
    *(("benchmark", ""), ("paper_tables", "report"), ("plot_analysis", "")),
)
# Tool, arguments with X for an output that cannot be written; the sentence names it.
OUTPUTS = (
    ("train_net", f"{TINY} OUTPUT_DIR X"),
    ("predict", f"{MODEL} --output X {{jobs}}/a.jpg"),
    ("convert_checkpoint", f"{TRAINED} X/a.pth"),
    ("demo", f"--output X {FEW}"),
    ("benchmark", "--quick --only labelling --output X"),
    ("paper_tables", "run 1b-gamma-2 --preset mini --output X"),
    ("plot_analysis", "--output X"),
)
FOLDERS = ("/dev/full", "/proc/nowhere", "{jobs}/tiny.yaml", "/dev/full/x")
# Tool, arguments, what the sentence names.
LINES = (
    ("train_net", "", "--config-file"),
    ("train_net", "--config-file", "--config-file"),
    ("train_net", "--config-file none.yaml", "none.yaml"),
    ("train_net", "--config-file none.py", "none.py"),
    ("train_net", "--config-file {jobs}", "{jobs}"),
    ("train_net", "--config-file /dev/null", "/dev/null"),
    ("train_net", "--config-file /dev/zero", "/dev/zero"),
    ("train_net", "--config-file /proc/self/mem", "/proc/self/mem"),
    ("train_net", f"{TINY} --nonesuch 3", "--nonesuch"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER 1 --eval-only", "--eval-only"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER 1 SOLVER.BASE_LR", "SOLVER.BASE_LR"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER=1", "SOLVER.MAX_ITER=1"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER 1 2", "2"),
    ("train_net", f"{TINY} MAX_ITER 1", "MAX_ITER"),
    ("train_net", f"{TINY} SOLVER 1", "SOLVER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER.X 1", "SOLVER.MAX_ITER.X"),
    ("train_net", f"{TINY} OUTPUT_DIR.p 1", "OUTPUT_DIR.p"),
    ("train_net", f"{TINY} . 1", "no key ."),
    ("train_net", f"{TINY} _BASE_ x.yaml", "_BASE_"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER {{[]:1}}", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER {'(' * 300}", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER {'-' * 100_000}1", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER {'9' * 5000}", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} SOLVER.MAX_ITER __import__('os')", "SOLVER.MAX_ITER"),
    ("train_net", f"{TINY} --num-gpus", "--num-gpus"),
    ("train_net", f"{TINY} --eval-only DATASETS.TEST ()", "DATASETS.TEST"),
    ("train_net", "--config-file {jobs}/tiny.py train.max_iter 3", "train.max_iter"),
    ("predict", "", "--config-file"),
    ("predict", TINY, "nothing to predict on"),
    ("predict", f"{TINY} {{jobs}}/none.jpg", "{jobs}"),
    ("predict", f"{MODEL} {QUICK} x.jpg --opts MODEL.DEVICE", "MODEL.DEVICE"),
    ("predict", f"{MODEL} {QUICK} x.jpg --opts NUM_CLASSES 3", "NUM_CLASSES"),
    ("predict", f"{MODEL} {QUICK} x.jpg --opts", "--opts"),
    ("predict", f"{MODEL} {QUICK} x.jpg --opts INPUT.MIN_SIZE_TEST -5", "-5"),
    ("predict", "--config-file none.yaml x.jpg", "none.yaml"),
    ("predict", f"{TINY} --weights none.pth {{jobs}}/a.jpg", "none.pth"),
    ("predict", f"{TINY} {{jobs}}/a.jpg", "MODEL.WEIGHTS"),
    ("export", "", "--config-file"),
    ("export", TINY, "--output"),
    ("export", f"{TINY} --output {{here}}/m.onnx", "MODEL.WEIGHTS"),
    ("export", f"{TINY} --weights none.pth --output {{here}}/m.onnx", "none.pth"),
    ("export", f"{MODEL} --output {{here}}/m.pt --images none.jpg", "none.jpg"),
    ("export", f"{MODEL} --output {{here}}/m.pt --opts MODEL.DEVICE", "MODEL.DEVICE"),
    *(
        ("export", f"{MODEL} --format {form} --output {x}", x)
        for x in ("/dev/full/m.pt", "/proc/m.pt", "{jobs}")
        for form in ("torchscript", "onnx")
    ),
    ("convert_checkpoint", "", "source"),
    ("convert_checkpoint", "none.pth", "target"),
    ("convert_checkpoint", "none.pth {here}/a.pth", "none.pth"),
    ("convert_checkpoint", "{jobs} {here}/a.pth", "{jobs}"),
    ("convert_checkpoint", f"{TRAINED} {{here}}/a.onnx", "a.onnx"),
    *(
        ("convert_checkpoint", f"{CONVERT} --from {source}", "model_final")
        for source in ("resnet", "mmdetection", "torchvision", "detectron1")
    ),
    ("convert_checkpoint", BACK, "model_final.yaml"),
    ("convert_checkpoint", f"{BACK} {TINY}", "MODEL.RESNETS.DEPTH"),
    ("convert_checkpoint", f"{BACK} --config-file none.yaml", "none.yaml"),
    ("demo", f"{QUICK} {FEW} SOLVER.MAX_ITER", "SOLVER.MAX_ITER"),
    ("demo", f"{QUICK} {FEW} SOLVER.MAX_ITR 3", "SOLVER.MAX_ITR"),
    ("demo", f"{QUICK} {FEW} SOLVER.MAX_ITER 0", "SOLVER.MAX_ITER"),
    ("demo", f"{QUICK} {FEW} DATASETS.TEST ()", "DATASETS.TEST"),
    ("demo", f"{QUICK} {FEW} --config-file none.yaml", "none.yaml"),
    ("benchmark", "--only", "--only"),
    ("paper_tables", "", "list"),
    ("paper_tables", "nonesuch", "nonesuch"),
    ("paper_tables", "run", "TABLE"),
    ("paper_tables", f"run 9z {QUICK}", "'9z'"),
    ("paper_tables", f"run 1a {QUICK} --preset none.yaml", "none.yaml"),
    ("paper_tables", f"run 1a {QUICK} --preset {{jobs}}/tiny.py", "tiny.py"),
    ("paper_tables", f"run 1a {QUICK} --preset {{jobs}}", "{jobs}"),
    ("paper_tables", "report --output {here}/none", "{here}/none"),
    ("plot_analysis", f"{QUICK} --config-file none.yaml", "none.yaml"),
    ("plot_analysis", f"{QUICK} {TINY}", "MODEL.WEIGHTS"),
    ("plot_analysis", f"{QUICK} {TINY} MODEL.WEIGHTS none.pth", "none.pth"),
    ("plot_analysis", f"{QUICK} {TINY} MODEL.WEIGHTS", "MODEL.WEIGHTS"),
    ("plot_analysis", f"{QUICK} {TINY} MODEL.WEIGHTS x MODEL.META_ARCHITECTURE RetinaNet", "4"),
)  # fmt: skip
# What predict says of a file that it cannot read, before it goes on: status 1.
UNREADABLE = (
    ("{jobs}/none.jpg", "none.jpg"),
    ("nonesuch/*.jpg", "nonesuch/*.jpg"),
    ("{jobs}/trained", "{jobs}/trained"),
    ("{jobs}/tiny.yaml", "tiny.yaml"),
    ("--webcam 99", "99"),
)


def cases() -> list[Case]:
    lines = [
        *LINES,
        *((t, f"{line} {name} {x}", name) for t, line, name, bad in OPTIONS for x in bad.split()),
        *((tool, f"{line} --nonesuch", "--nonesuch") for tool, line in UNKNOWN_OPTION),
        *((tool, line.replace("X", x), x) for tool, line in OUTPUTS for x in FOLDERS),
    ]
    return [
        *(_case(*line) for line in lines),
        *(_case("predict", f"{MODEL} {QUICK} {x}", name, status=1) for x, name in UNREADABLE),
    ]


def _case(tool: str, line: str, culprit: str, **options) -> Case:
    shown = line.replace("{", "").replace("}", "")[-70:]
    return Case(f"line-{tool} {shown}", tool, tuple(line.split()), culprit, **options)
