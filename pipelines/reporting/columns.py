"""What a method adds to the table and the plot that compare runs (launch/studies/)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportColumn:
    """A metric of the method's own that gets a column in the comparison table."""

    metric: str
    """Its name among the metrics of an evaluation."""
    title: str
    """Heading of the column."""
    note: str = ""
    """Explanation printed below the table; columns with the same note share one copy."""
    line_label: str = ""
    """If set, the plot marks the mean of this column as a horizontal line across the loss curves."""


@dataclass(frozen=True)
class FollowedLoss:
    """The loss term that shows a method's progress better than the total loss of its first phase."""

    name: str
    """Its name in the training log."""
    note: str = ""
    """Explanation printed below the table."""
