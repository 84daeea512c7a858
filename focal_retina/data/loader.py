"""Training batches that depend on a seed and a position alone, so that a run can resume anywhere.

With Detectron2's loader, the batches depend on the number of workers, and it cannot start at its
k-th batch. This loader takes the same arguments, samplers and mappers.
"""

import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from detectron2.config import configurable
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from detectron2.utils.registry import locate
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, IterableDataset, Sampler

from focal_retina.data.seeding import SeededImages
from focal_retina.data.workers import with_bound_workers
from focal_retina.detectron2_internals import sampler_facts, sampler_state, set_sampler_state
from focal_retina.errors import UserError, require
from focal_retina.states import conform

logger = logging.getLogger(__name__)


@configurable(from_config=build_detection_train_loader.from_config)
def build_train_loader(
    dataset,
    *,
    mapper: Callable | None,
    total_batch_size: int | None = None,
    single_gpu_batch_size: int | None = None,
    aspect_ratio_grouping: bool = True,
    **options,
):
    """Return the training batches of this process, a :class:`TrainLoader`.

    The arguments, or the config, are those of Detectron2's ``build_detection_train_loader``. The
    images come in the order that they have there without workers. Augmentation draws other random
    numbers. For an ``IterableDataset``, and for a dataset to be grouped by sizes that it does not
    state, it is Detectron2's own loader; a warning says that it cannot resume exactly.
    """
    if bool(total_batch_size) == bool(single_gpu_batch_size):
        raise UserError(
            f"dataloader.train.total_batch_size is {total_batch_size} and single_gpu_batch_size "
            f"{single_gpu_batch_size}; give one of them"
        )
    if single_gpu_batch_size:
        total_batch_size = single_gpu_batch_size * comm.get_world_size()
    arguments = {"mapper": mapper, "total_batch_size": total_batch_size, **options}
    is_wide = None
    if aspect_ratio_grouping and isinstance(dataset, list):
        if all("width" in record and "height" in record for record in dataset):
            is_wide = torch.tensor([record["width"] > record["height"] for record in dataset])
    if isinstance(dataset, IterableDataset) or (aspect_ratio_grouping and is_wide is None):
        logger.warning(
            "The training data has no list of images with width and height, so that its order "
            "cannot be restored: a resumed run will start it anew."
        )
        arguments["aspect_ratio_grouping"] = aspect_ratio_grouping
        return build_detection_train_loader(dataset, **arguments)
    return TrainLoader(dataset, is_wide=is_wide, **arguments)


def exact_loader_config(node):
    """Let ``dataloader.train`` of a LazyConfig build our loader if it would build Detectron2's.

    Its ``_target_`` is changed in place. Return the node.
    """
    target = node.get("_target_")
    target = locate(target) if isinstance(target, str) else target
    if target is build_detection_train_loader:
        node._target_ = build_train_loader
    return node


class TrainLoader:
    """An endless iterable of batches, each a list of images of this process, mapped.

    It iterates from its position, which ``load_state_dict`` sets. A second iterator goes on where
    the first one stopped. The number of workers changes nothing.

    Args:
        dataset: a list of dataset dicts, or a map-style dataset.
        mapper: see :class:`SeededImages`.
        is_wide: (len(dataset),), bool; images of one batch have the same value. None: no grouping.
        sampler: of dataset indices; None for a ``TrainingSampler``.
        total_batch_size: images of all processes together.
        seed: of the augmentation; None to draw one from NumPy's generator.
        options: of PyTorch's ``DataLoader``.
    """

    def __init__(
        self,
        dataset,
        *,
        mapper: Callable | None,
        is_wide: torch.Tensor | None = None,
        sampler: Sampler | None = None,
        total_batch_size: int,
        collate_fn: Callable | None = None,
        seed: int | None = None,
        drop_last: bool = True,
        **options,
    ):
        name = "drop_last (dataloader.train)"
        require(drop_last, name, drop_last, "be True: batches have no end, and each is complete")
        # Before the first batch is asked for.
        for name in options.keys() - inspect.signature(DataLoader).parameters.keys():
            raise UserError(f"the training loader has no argument {name!r} (dataloader.train)")
        is_list = isinstance(dataset, list)
        self.sampler = sampler or TrainingSampler(len(dataset))
        self.digest = _digest(dataset if is_list else [], sampler_facts(self.sampler))
        self.dataset = DatasetFromList(dataset, copy=False) if is_list else dataset
        self.mapper = PicklableWrapper(mapper or (lambda record: record))
        self.is_wide = is_wide
        self.batch_size = total_batch_size // comm.get_world_size()
        self.seed = comm.shared_random_seed() if seed is None else seed
        self.position = 0
        self.options = {**options, "collate_fn": collate_fn or trivial_batch_collator}
        if not options.get("num_workers"):
            self.options.pop("prefetch_factor", None)  # as Detectron2 does

    def __iter__(self) -> Iterator[list]:
        loader = DataLoader(
            SeededImages(self.dataset, self.mapper, self.seed),
            batch_sampler=islice(self.batches(), self.position, None),
            # Otherwise the DataLoader draws the seed of its workers from the training's generator.
            generator=torch.Generator(),
            **self.options,
        )
        for batch in with_bound_workers(loader):
            self.position += 1
            yield batch

    def batches(self) -> Iterator[list[tuple[int, int]]]:
        """Yield this process's batches from the first, as (place in the stream, dataset index).

        The stream is that of all processes together. As in Detectron2, a batch is complete when it
        has ``batch_size`` images of one group.
        """
        rank, step = comm.get_rank(), comm.get_world_size()
        groups = {True: [], False: []}
        for turn, index in enumerate(self.sampler):
            group = groups[self.is_wide is not None and bool(self.is_wide[index])]
            group.append((turn * step + rank, index))
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()

    def state_dict(self) -> dict:
        """Return the position, in batches of this process, and what the stream depends on."""
        return {
            "position": self.position,
            "seed": self.seed,
            "data": {
                "images": len(self.dataset),
                "sampler": type(self.sampler).__name__,
                "digest of names and objects": self.digest,
            },
            "batches": {
                "images of a process": self.batch_size,
                "processes": comm.get_world_size(),
                "grouped by aspect ratio": self.is_wide is not None,
            },
            "sampler": sampler_state(self.sampler),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go to the position of another loader; warn if its data or its batches are different."""
        now = self.state_dict()
        state = conform(now, state)
        # An older checkpoint has no digest.
        if {**now["data"], **state["data"]} != now["data"]:
            logger.warning(
                f"The checkpoint is of other training data ({_text(state['data'])}; now "
                f"{_text(now['data'])}): the order of images starts anew."
            )
            return
        self.seed, self.position = state["seed"], state["position"]
        for name, value in state["sampler"].items():
            if isinstance(value, torch.Tensor):
                is_index = bool((0 <= value).all() and (value < len(self.dataset)).all())
                require(is_index, "its sampler", name, "have indices of images")
        set_sampler_state(self.sampler, state["sampler"])
        then, ours = state["batches"], now["batches"]
        if then != ours:
            images, our_images = (x["images of a process"] * x["processes"] for x in (then, ours))
            self.position = self.position * images // our_images
            logger.warning(
                f"The checkpoint is of other batches ({_text(then)}; now {_text(ours)}): the data "
                "goes on after as many images, but not exactly."
            )


def _digest(records: list[dict], sampler: dict) -> str:
    """Return a digest of the files' names, the objects and the facts of a sampler."""
    digest = hashlib.sha256(
        repr([(k, torch.as_tensor(v).tolist()) for k, v in sampler.items()]).encode()
    )
    for record in records:
        objects = [(x.get("category_id"), x.get("bbox")) for x in record.get("annotations", ())]
        name = os.path.basename(str(record.get("file_name")))
        digest.update(repr((name, record.get("image_id"), objects)).encode(errors="replace"))
    return digest.hexdigest()[:12]


def _text(facts: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
