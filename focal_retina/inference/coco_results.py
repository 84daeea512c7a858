"""Detections in COCO's format, as pycocotools reads them, written as they come."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances

from focal_retina.files import write_errors

UNFINISHED = "unfinished_"


class CocoResults:
    """Write images, whose ids are 1, 2, 3, ..., and their detections, of K classes.

    images.json has the images and categories, predictions.json the COCO results. Until
    :meth:`finish` both names begin with "unfinished_", and the files are whole after each image,
    even where the process is killed.

    Raises:
        UserError: the disk takes no more; the files have what came before.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], category_ids: Sequence[int]):
        pairs = zip(category_ids, class_names, strict=True)
        self._category_ids = category_ids
        categories = [{"id": i, "name": name} for i, name in pairs]
        # pycocotools' loadRes copies the info.
        dataset = {"info": {}, "categories": categories, "annotations": [], "images": []}
        self.images = _GrowingList(folder / "images.json", json.dumps(dataset))
        self.detections = _GrowingList(folder / "predictions.json", "[]")

    def add(self, name: str, instances: Instances) -> int:
        """Write an image's detections, in pixels of the image; return the image's id."""
        height, width = instances.image_size
        image_id = self.images.count + 1
        found = instances_to_coco_json(instances, image_id)
        for detection in found:
            detection["category_id"] = self._category_ids[detection["category_id"]]
        # First, as results of images that are not there cannot be loaded.
        image = {"id": image_id, "file_name": name, "height": height, "width": width}
        self.images.extend([image])
        self.detections.extend(found)
        return image_id

    def finish(self) -> None:
        """Give the files their names; earlier ones stay where no image has been added."""
        for file in (self.images, self.detections):
            file.finish(is_kept=self.images.count > 0)


class _GrowingList:
    """A JSON file that ends in a list, which is on the disk after each ``extend``."""

    def __init__(self, path: Path, content: str):
        self.path, self.unfinished = path, path.with_name(UNFINISHED + path.name)
        self.count, self._end = 0, content.rindex("]")
        self._tail = content[self._end :]
        with write_errors(path):
            self._file = open(self.unfinished, "wb", buffering=0)  # noqa: SIM115
            self._write(content)

    def extend(self, items: Sequence[dict]) -> None:
        text = ",\n" * bool(items and self.count) + ",\n".join(map(json.dumps, items))
        self._file.seek(self._end)
        with write_errors(self.path):
            try:
                self._write(text + self._tail)
            except OSError:
                self._file.seek(self._end)
                self._file.write(self._tail.encode())
                self._file.truncate()
                raise
        self.count += len(items)
        self._end += len(text)

    def finish(self, *, is_kept: bool) -> None:
        with write_errors(self.path):
            os.fsync(self._file.fileno())
            self._file.close()
            if is_kept:
                os.replace(self.unfinished, self.path)
            else:
                self.unfinished.unlink()

    def _write(self, content: str) -> None:
        if self._file.write(content.encode()) < len(content):  # JSON is ASCII
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
