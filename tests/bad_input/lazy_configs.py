"""LazyConfigs with bad values, unknown keys and broken files."""

from bad_input.running import Case

# Key -> bad values, in Hydra's syntax.
VALUES = {
    "train.max_iter": ["0", "-1", "abc", "1.5", "null", "[1]", "{a:1}", "1000000000000000000000"],
    "train.eval_period": ["-1", "abc", "null", "1.5"],
    "train.log_period": ["0", "-1", "abc"],
    "train.seed": ["-2", "abc", "1000000000000000000000"],
    "train.device": ["gpu", "3", "null"],
    "train.output_dir": ["3", "null", "/proc/nowhere", "/dev/full"],
    "train.init_checkpoint": ["3", "none.pth", "/dev", "/dev/null"],
    "train.amp.enabled": ["maybe", "3", "null"],
    "train.checkpointer.period": ["0", "-1", "abc"],
    "train.checkpointer.max_to_keep": ["0", "-1", "abc"],
    "train.amp.dtype": ["float8", "3"],
    "optimizer.lr": ["0", "-0.1", "nan", "inf", "abc", "null", "1e30"],
    "optimizer.momentum": ["-0.1", "1.0", "nan", "abc", "null"],
    "optimizer.weight_decay": ["-0.1", "nan", "inf", "abc"],
    "optimizer.params.weight_decay_norm": ["-0.1", "nan", "abc"],
    "dataloader.train.total_batch_size": ["0", "-1", "abc", "1.5", "null"],
    "dataloader.train.num_workers": ["-1", "abc", "1.5", "100000"],
    "dataloader.test.num_workers": ["-1", "abc", "1.5"],
    "model.num_classes": ["0", "-1", "abc", "1.5", "null", "2", "1000000000000"],
    "model.head.prior_prob": ["0", "1", "-1", "nan", "abc", "null"],
    "model.head.conv_dims": ["[-1]", "[a]", "3", "[1.5]"],
    "model.head.norm": ["nonesuch", "3"],
    "model.backbone.out_channels": ["0", "-1", "abc", "1.5", "null"],
    "model.backbone.in_features": ["3", "[3]"],
    "model.backbone.norm": ["nonesuch", "3"],
    "model.backbone.bottom_up.stages.depth": ["0", "51", "abc"],
    "model.backbone.bottom_up.stages.norm": ["nonesuch"],
    "model.backbone.bottom_up.freeze_at": ["-1", "abc"],
    "model.head_in_features": ["[]", "[p9]", "[3]"],
    "model.anchor_generator.base_sizes": ["[]", "[[0]]", "[[-1]]", "[[nan]]", "[[a]]", "3"],
    "model.anchor_generator.aspect_ratios": ["[]", "[0]", "[-1]", "[nan]", "[inf]", "[a]", "3"],
    "model.anchor_generator.scales_per_octave": ["0", "-1", "1.5", "abc", "null", "1000000000"],
    "model.anchor_generator.offset": ["-0.1", "1.0", "nan", "abc"],
    "model.assigner.thresholds": ["[]", "[0.5,0.4]", "[0,0.5]", "[nan]", "[a]", "0.5"],
    "model.assigner.labels": ["[]", "[0,1]", "[0,5,1]", "[a,b,c]", "3"],
    "model.assigner.low_quality_matches": ["nonesuch", "3", "null"],
    "model.loss.smooth_l1_beta": ["-0.1", "nan", "inf", "abc", "null"],
    "model.loss.box_reg_loss_type": ["nonesuch", "3"],
    "model.loss.cls_loss.gamma": ["-1", "nan", "inf", "abc", "null"],
    "model.loss.cls_loss.alpha": ["2", "-1", "nan", "abc"],
    "model.loss.normalizer.kind": ["nonesuch", "3"],
    "model.loss.normalizer.start": ["0", "-1", "nan"],
    "model.loss.normalizer.momentum": ["-0.1", "1.0", "nan"],
    "model.loss.box2box_transform.weights": ["[]", "[1]", "[0,0,0,0]", "[a,a,a,a]", "3"],
    "model.postprocessor.score_thresh": ["-0.1", "1.1", "nan", "abc", "null"],
    "model.postprocessor.topk_candidates": ["0", "-1", "1.5", "abc", "null"],
    "model.postprocessor.nms_thresh": ["-0.1", "1.1", "nan", "abc", "null"],
    "model.postprocessor.max_detections": ["0", "-1", "1.5", "abc", "null"],
    "model.postprocessor.score_thresh_last_level": ["-0.1", "1.1", "nan", "abc"],
    "model.preprocessor.pixel_mean": ["[]", "[nan,0,0]", "[a,b,c]", "3"],
    "model.preprocessor.pixel_std": ["[]", "[0,0,0]", "[-1,1,1]", "[nan,1,1]", "[a,b,c]", "3"],
    "model.preprocessor.size_divisibility": ["-32", "7", "1.5", "abc"],
    # Whole sections and calls.
    "model": ["3", "null", "[1]"],
    "train": ["3", "null"],
    "optimizer": ["3"],
    "dataloader": ["3"],
    "dataloader.train": ["3"],
    "dataloader.train.dataset": ["3"],
    "lr_multiplier": ["3"],
    "train.amp": ["3"],
    "train.checkpointer": ["3"],
    "model.backbone": ["3"],
}
# Override -> what the sentence names.
OVERRIDES = {
    "train.max_itr=1": "train.max_itr",
    "trian.max_iter=1": "trian.max_iter",
    "model.num_clases=3": "num_clases",
    "model.head.num_clases=3": "num_clases",
    "optimizer.learning_rate=1": "learning_rate",
    "dataloader.train.workers=3": "workers",
    "train.max_iter.x=1": "train.max_iter.x",
    "train.max_iter": "train.max_iter",
    "train.max_iter=": "train.max_iter",
    "dataloader.register=[3]": "not as 3",
    "dataloader.register=[[a]]": "not as ['a']",
    "dataloader.register=abc": "not as 'a'",
    "=1": "''",
    "": "''",
    "...=1": "...",
    "train[=1": "train[",
    "train.max_iter=[": "train.max_iter=[",
    "train.max_iter={": "train.max_iter={",
    "~train.max_iter": "train.max_iter",
    "SOLVER.MAX_ITER": "SOLVER.MAX_ITER",
    "dataloader.train.dataset.names=none": "dataset none",
    "dataloader.test.dataset.names=tiny_vla": "tiny_vla",
    "model._target_=none.such": "none.such",
    "model.head._target_=3": "_target_ 3",
    "optimizer._target_=builtins.print": "optimizer",
}
# Content of the file -> what the sentence names.
FILES = {
    "empty": ("", "defines no model"),
    "text": ("hello there\n", "a.py"),
    "unfinished": ("model = {", "a.py"),
    "zeros": (bytes(100), "a.py"),
    "binary": (bytes(range(256)), "a.py"),
    "latin1": ("# caf\u00e9\nmodel = 1\n".encode("latin1"), "a.py"),
    "folder": (None, "a.py is a folder"),
    "name": ("x = 1\nmodel = nonesuch\n", "a.py, line 2"),
    "division": ("\n\nx = 1 / 0\n", "a.py, line 3"),
    "missing-import": ("import nonesuch\n", "nonesuch"),
    "missing-relative": ("from .nonesuch import model\n", "nonesuch.py"),
    "missing-name": ("from detectron2 import nonesuch\n", "nonesuch"),
    "itself": ("from .a import model\n", "a.py"),
    "model-number": ("model = 3\n", "model"),
    "model-list": ("model = [1]\n", "model"),
    "model-only": ("model = dict()\n", "dataloader"),
    "exit": ("raise ValueError('no')\n", "a.py, line 1"),
    "attribute": ("import torch\ntorch.nonesuch\n", "a.py, line 2"),
    "base-attribute": (
        "from detectron2.config import LazyConfig\n"
        "base = LazyConfig.load('{jobs}/tiny.py')\nbase.model.nonesuch.x = 1\n",
        "a.py, line 3",
    ),
    "base-missing": (
        "from detectron2.config import LazyConfig\nbase = LazyConfig.load('nonesuch.py')\n",
        "nonesuch.py",
    ),
}


def override_case(override: str, culprit: str) -> Case:
    options = ("train.output_dir={here}/out", override)
    arguments = ("--config-file", "{jobs}/tiny.py", *options)
    return Case(f"lazy-{override or 'empty'}", "train_net", arguments, culprit)


def cases() -> list[Case]:
    """Every bad value, override and file."""
    found = [override_case(f"{k}={v}", k.split(".")[-1]) for k, vs in VALUES.items() for v in vs]
    found += [override_case(override, culprit) for override, culprit in OVERRIDES.items()]
    for name, (content, culprit) in FILES.items():
        arguments = ("--config-file", "{here}/a.py")
        found.append(Case(f"lazy-file-{name}", "train_net", arguments, culprit, {"a.py": content}))
    return found
