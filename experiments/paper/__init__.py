"""The paper's tables and figures: rows as data, the runs of them, the report."""
