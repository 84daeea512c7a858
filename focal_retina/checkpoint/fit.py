"""Whether the numbers of weights fit a model."""

from torch import Tensor, nn

from focal_retina.errors import UserError


def check_types(weights: dict[str, Tensor], fresh: dict[str, Tensor], is_matched: bool) -> None:
    """Raise a UserError at a weight that is no floating-point number and would become one.

    Args:
        weights: of the checkpoint.
        fresh: weights of the model.
        is_matched: weights of other names have a place in the model, too.
    """
    for name, value in weights.items():
        wanted = fresh.get(name.removeprefix("module."))
        becomes_float = is_matched if wanted is None else wanted.is_floating_point()
        is_right = name.endswith("num_batches_tracked") or value.is_floating_point()
        if becomes_float and not is_right:
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"its {name} is of {kind}, and a weight is a floating-point number")


def check_finite(model: nn.Module) -> None:
    """Raise a UserError at a weight that is infinite or not a number."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"its {name} has numbers that are not finite")
