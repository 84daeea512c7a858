"""The rows of the paper's tables, read from ``tables.yaml``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from focal_retina.errors import UserError

_FILE = Path(__file__).with_name("tables.yaml")


@dataclass(frozen=True)
class Row:
    """One row of a table; the head of ``tables.yaml`` explains the fields."""

    table: str
    title: str
    dataset: str
    source: str
    name: str
    backbone: str
    size: int
    published: dict[str, float]
    overrides: dict[str, object]
    train_sizes: tuple[int, ...] = ()
    schedule: float = 1.0
    ohem_batch_size: int | None = None

    @property
    def id(self) -> str:
        return f"{self.table}-{self.name}"


def load_rows() -> list[Row]:
    """Return all rows, in the order of the paper."""
    tables = yaml.safe_load(_FILE.read_text())
    return [row for table, content in tables.items() for row in _rows_of(table, content)]


def _rows_of(table: str, content: dict) -> list[Row]:
    defaults = content.get("defaults", {})
    common = {key: content[key] for key in ("title", "dataset", "source")}
    rows = []
    for row in content["rows"]:
        overrides = defaults.get("overrides", {}) | row.get("overrides", {})
        fields = {**common, **defaults, **row, "table": table, "overrides": overrides}
        fields["train_sizes"] = tuple(fields.get("train_sizes", ()))
        rows.append(Row(**fields))
    return rows


def select_rows(names: Sequence[str]) -> list[Row]:
    """Return the rows with these ids or of these tables, in the order of the paper, each once.

    Raises:
        UserError: there is no such row or table.
    """
    rows = load_rows()
    known = {row.id for row in rows} | {row.table for row in rows}
    for name in names:
        if name not in known:
            tables = ", ".join(dict.fromkeys(row.table for row in rows))
            raise UserError(
                f"there is no table or row {name!r}; the tables are {tables}, and the command "
                "'list' shows the rows"
            )
    return [row for row in rows if row.table in names or row.id in names]
