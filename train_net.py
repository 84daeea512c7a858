#!/usr/bin/env python
"""Train or evaluate what a config describes.

    python train_net.py --config-file configs/focal_retinanet_R_50_FPN_1x.yaml --num-gpus 8
    python train_net.py --config-file configs/focal_retinanet_R_50_FPN_1x.py train.max_iter=100
    python train_net.py --config-file X.yaml --eval-only MODEL.WEIGHTS model.pth
    torchrun --nproc_per_node 8 train_net.py --config-file X.yaml

A .yaml is a YAML config, a .py is a LazyConfig; both run through the same program.
"""

from focal_retina.engine import argument_parser, main

if __name__ == "__main__":
    main(argument_parser(epilog=__doc__).parse_args())
