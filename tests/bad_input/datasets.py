"""COCO jsons with every field broken in turn, and VOC annotations."""

import json
from functools import partial

from bad_input.images import PNG, coco
from bad_input.running import Case, job_on

MISSING = object()
VALUES = {
    "missing": MISSING,
    "null": None,
    "text": "abc",
    "number": 3.5,
    "list": [],
    "list-of-text": ["a"],
    "mapping": {},
    "negative": -1,
    "nan": float("nan"),
    "infinite": float("inf"),
    "huge": 10**30,
    "true": True,
}
FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "iscrowd", "area"),
    "categories": ("id", "name"),
}
BOXES = {
    "three": [1, 2, 3],
    "five": [1, 2, 3, 4, 5],
    "text": ["a", "b", "c", "d"],
    "null": [None] * 4,
    "nan": [float("nan")] * 4,
    "infinite": [0, 0, float("inf"), 5],
    "negative": [5, 5, -3, -3],
    "empty": [5, 5, 0, 0],
    "huge": [0, 0, 1e30, 1e30],
    "outside": [1000, 1000, 5, 5],
    "nested": [[1, 2], [3, 4]],
}


content = partial(coco, "a.png", "b.png")


def broken_fields() -> dict[str, str]:
    """Name -> json with one field of its first entry broken, or with a whole part."""
    found = {}
    for part, names in FIELDS.items():
        for label, value in VALUES.items():
            for name in (None, *names):
                whole = content()
                place, key = (whole, part) if name is None else (whole[part][0], name)
                place[key] = value
                if value is MISSING:
                    del place[key]
                found[f"{part}-{name or 'all'}-{label}"] = json.dumps(whole)
    for label, box in BOXES.items():
        whole = content()
        whole["annotations"][0]["bbox"] = box
        found[f"annotations-bbox-{label}"] = json.dumps(whole)
    return found


FILES = {
    "empty": "",
    "blank": " \n",
    "text": "hello",
    "unfinished": json.dumps(content())[:-20],
    "list": "[]",
    "null": "null",
    "number": "3",
    "mapping": "{}",
    "binary": bytes(range(256)),
    "latin1": '{"images": "caf\u00e9"}'.encode("latin1"),
    "deep": "[" * 100_000,
    "entries-null": json.dumps({"images": [None], "annotations": [None], "categories": [None]}),
    "entries-text": json.dumps({"images": ["a"], "annotations": ["a"], "categories": ["a"]}),
    "entries-lists": json.dumps({"images": [[]], "annotations": [[]], "categories": [[]]}),
}
# Fields that training does not need, and values that it can take.
MAY_WORK = {
    *("annotations-id", "annotations-iscrowd", "annotations-area"),
    *(f"images-id-{value}" for value in ("number", "negative", "huge", "true")),
    *(f"annotations-image_id-{value}" for value in ("number", "negative", "huge", "true")),
    *(f"annotations-bbox-{value}" for value in ("nan", "infinite", "negative", "huge")),
    *("annotations-bbox-empty", "annotations-bbox-outside", "annotations-all-missing"),
    *("annotations-category_id-true", "categories-id-true", "categories-name-text"),
}


def json_case(name: str, text: str | bytes) -> Case:
    arguments = job_on("'{here}/one.json', '{here}/images'", test=True)
    files = {"one.json": text, "images/a.png": PNG, "images/b.png": PNG}
    may_work = name in MAY_WORK or name.rpartition("-")[0] in MAY_WORK
    culprit = "one.json|a.png|dataset one"
    return Case(f"json-{name}", "train_net", arguments, culprit, files, may_work)


XML = """<annotation><size><width>64</width><height>64</height></size>
<object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>
</object></annotation>"""
VOC = {
    "empty": "",
    "text": "hello",
    "unfinished": XML[:60],
    "no-name": XML.replace("name>", "title>"),
    "no-box": XML.replace("bndbox>", "box>"),
    "no-xmin": XML.replace("xmin>", "x>"),
    "no-size": XML.replace("size>", "shape>"),
    "no-width": XML.replace("width>", "w>"),
    "width-text": XML.replace("<width>64", "<width>wide"),
    "width-float": XML.replace("<width>64", "<width>64.5"),
    "xmin-text": XML.replace("<xmin>5", "<xmin>left"),
    "xmin-empty": XML.replace("<xmin>5", "<xmin>"),
    "xmin-nan": XML.replace("<xmin>5", "<xmin>nan"),
    "name-empty": XML.replace("cat", ""),
    "binary": bytes(range(256)),
    "entities": '<!DOCTYPE a [<!ENTITY x "' + "A" * 1000 + '">'
    + "".join(f'<!ENTITY x{i} "{("&x" + str(i - 1) + ";") * 50}">' for i in range(1, 9))
    + "]><annotation>&x8;</annotation>",
}  # fmt: skip


def voc_case(name: str, text: str | bytes, culprit: str = "a.xml", without: str = "") -> Case:
    files = {
        "voc/Annotations/a.xml": text,
        "voc/ImageSets/Main/all.txt": "a\n",
        "voc/JPEGImages/a.png": PNG,
    }
    files.pop(without, None)
    return Case(f"voc-{name}", "train_net", job_on("'voc', '{here}/voc', 'all'"), culprit, files)


def cases() -> list[Case]:
    return [
        *(json_case(name, text) for name, text in (broken_fields() | FILES).items()),
        *(voc_case(name, text) for name, text in VOC.items()),
        voc_case("no-object", XML.replace("object>", "thing>"), "Annotations"),
        voc_case("missing-picture", XML, "JPEGImages/a", without="voc/JPEGImages/a.png"),
        voc_case("missing-split", XML, "all.txt", without="voc/ImageSets/Main/all.txt"),
    ]
