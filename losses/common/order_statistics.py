"""Order statistics of many rows, deterministic on every device."""

from torch import Tensor


def kth_smallest(values_PK: Tensor, k: int) -> Tensor:
    """The k-th smallest value of every row, from 0 on, (P,).

    On a GPU neither `kthvalue` nor `median` is deterministic, so rows are sorted there.
    """
    if values_PK.device.type == "cpu":
        return values_PK.kthvalue(k + 1, dim=1).values
    return values_PK.sort(dim=1).values[:, k]


def medians(values_PK: Tensor) -> Tensor:
    """The median of every row, of an even number the mean of the two in the middle, (P,)."""
    count = values_PK.shape[1]
    low = kth_smallest(values_PK, (count - 1) // 2)
    return low if count % 2 else (low + kth_smallest(values_PK, count // 2)) / 2
