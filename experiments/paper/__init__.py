"""The paper's tables and figures: the rows as data, their trainings, and the report."""
