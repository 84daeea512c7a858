"""The few anchors of a dense map that matter: candidates of a level, deltas of given anchors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.layout import memory_format


@torch.no_grad()
def select_candidates(
    logits: Tensor, *, num_classes: int, score_thresh: float, topk: int, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """
    Return the highest scores of one image and level, those above ``score_thresh``.

    Args:
        logits: (A*K, H, W), any float dtype, contiguous or an image of a channels_last batch;
            nan is never selected.
        num_classes: K.
        score_thresh: scores must be above it; any number.
        topk: return at most so many.
        backend: see ``resolve_backend``. "reference" scores every logit; "torch" and "triton"
            (one path) only anchors whose best logit can be among the result. Their results differ
            only by which of equal scores comes first, or stays, where more than 8 x ``topk``
            anchors have candidates.

    Returns:
        ``scores`` (n,), float32, descending; ``anchor_idxs`` (n,), int64, index into HWA (y, x, a);
        ``class_idxs`` (n,), int64.

    Raises:
        ValueError: logits of another shape, or an unavailable backend.

    Source: paper Sec. 4.1, "Inference"; Detectron2's ``_decode_per_level_predictions``, in float32.
    """
    if logits.dim() != 3 or logits.shape[0] % num_classes:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}; give (A * {num_classes}, H, W), one image"
        )
    is_reference = resolve_backend(backend, logits.device) == "reference"
    select = _select_dense if is_reference else _select_sparse
    return select(logits.unflatten(0, (-1, num_classes)).flatten(2), score_thresh, topk)


def _select_dense(logits: Tensor, score_thresh: float, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Score all logits (A, K, HW)."""
    scores = logits.permute(2, 0, 1).flatten(0, 1).float().sigmoid()  # (HWA, K)
    is_candidate = scores > score_thresh
    candidate_idxs = is_candidate.nonzero()
    scores = scores[is_candidate]
    scores, order = scores.topk(min(len(scores), topk))
    anchor_idxs, class_idxs = candidate_idxs[order].unbind(1)
    return scores, anchor_idxs, class_idxs


def _select_sparse(logits: Tensor, score_thresh: float, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read all logits (A, K, HW) once, for the best of each anchor; score the best anchors."""
    best = logits.amax(1).t().flatten()  # (HWA,), nan where any class is
    floor = _logit_below(best.new_full((), score_thresh, dtype=torch.float64))
    anchor_idxs = (~(best < floor)).nonzero().squeeze(1)
    # Not for a few more than topk: a cut can change which of equal scores topk returns.
    if len(anchor_idxs) > 8 * topk:
        # Each of the topk best anchors has a logit that is at least the last one's best.
        best = best[anchor_idxs]
        last = best.masked_fill(best.isnan(), -torch.inf).topk(topk, sorted=False).values.amin()
        floor = torch.maximum(floor, _logit_below(last.double().sigmoid()))
        anchor_idxs = anchor_idxs[~(best < floor)]

    logits = _at_anchors(logits, anchor_idxs)  # (n, K)
    row_idxs, class_idxs = (logits >= floor).nonzero().unbind(1)
    scores = _sigmoid(logits[row_idxs, class_idxs])
    kept = (scores > score_thresh).nonzero().squeeze(1)
    scores, order = scores[kept].topk(min(len(kept), topk))
    kept = kept[order]
    return scores, anchor_idxs[row_idxs[kept]], class_idxs[kept]


def _logit_below(score: Tensor) -> Tensor:
    """Return a logit, 0-dim float64, below all whose float32 score can be ``score`` or more."""
    return (score * (1 - 1e-5)).clamp_(0, 1).logit()


def _sigmoid(logits: Tensor) -> Tensor:
    """Return float32 scores of (n,) logits, with the bits that a large map of them would have.

    ATen's vector code and its scalar code for the last elements round differently.
    """
    return F.pad(logits.float(), (0, -len(logits) % 64)).sigmoid()[: len(logits)]


def softmax_log_odds(logits: Tensor, num_classes: int) -> Tensor:
    """
    Return logits whose sigmoid is the softmax probability of each class, (N, A*K, H, W), float32.

    Args:
        logits: (N, A*(K+1), H, W), background last.
        num_classes: K.
    """
    log_p = logits.unflatten(1, (-1, num_classes + 1)).float().log_softmax(2)[:, :, :-1]
    return (log_p - torch.log(-torch.expm1(log_p))).flatten(1, 2)


def gather_deltas(deltas: Tensor, anchor_idxs: Tensor, box_dim: int = 4) -> Tensor:
    """
    Return the deltas of some anchors of one image and level, (n, box_dim), float32.

    Args:
        deltas: (A*box_dim, H, W), in any layout.
        anchor_idxs: (n,), int64, index into HWA, (y, x, a).
    """
    return _at_anchors(deltas.unflatten(0, (-1, box_dim)).flatten(2), anchor_idxs).float()


def _at_anchors(per_anchor: Tensor, anchor_idxs: Tensor) -> Tensor:
    """Return the values (n, D) of anchors, index into HWA, from a map (A, D, HW)."""
    num_cell_anchors = len(per_anchor)
    return per_anchor[anchor_idxs % num_cell_anchors, :, anchor_idxs // num_cell_anchors]


def gather_anchor_deltas(
    deltas: Sequence[Tensor], image_idxs: Tensor, anchor_idxs: Tensor, box_dim: int = 4
) -> Tensor:
    """
    Return the deltas of F anchors of any images and levels, (F, box_dim), float32.

    Differentiable. Every level takes part in the graph, with F = 0 too, so that each gets a
    gradient, of zeros where it has none of the anchors: DistributedDataParallel waits for it.

    Args:
        deltas: L x (N, A*box_dim, H, W), in any layout; A may differ between levels.
        image_idxs: (F,), int64, in [0, N).
        anchor_idxs: (F,), int64, index into R, the anchors of all levels, (level, y, x, a).
    """
    return _GatherAnchorDeltas.apply(image_idxs, anchor_idxs, box_dim, *deltas)


class _GatherAnchorDeltas(torch.autograd.Function):
    """Anchors of other levels read some element and drop it, and add 0 to its gradient.

    Choosing first would make a GPU wait for the number of anchors of each level.
    """

    @staticmethod
    def forward(ctx, image_idxs, anchor_idxs, box_dim, *deltas):
        gathered = deltas[0].new_zeros((len(anchor_idxs), box_dim), dtype=torch.float32)
        ctx.levels = []
        for level_deltas in deltas:
            per_anchor = _per_anchor(level_deltas, box_dim)
            num_cell_anchors, num_cells = per_anchor.shape[1:3]
            num_anchors = num_cell_anchors * num_cells
            idxs = anchor_idxs.clamp(0, num_anchors - 1)
            is_inside = (idxs == anchor_idxs)[:, None]
            index = image_idxs, idxs % num_cell_anchors, idxs // num_cell_anchors
            gathered = torch.where(is_inside, per_anchor[index], gathered)
            ctx.levels.append((_form(level_deltas), index, is_inside))
            anchor_idxs = anchor_idxs - num_anchors
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grads = []
        for form, index, is_inside in ctx.levels:
            grads.append(torch.empty(**form, device=grad.device).zero_())
            level_grad = torch.where(is_inside, grad, 0).to(form["dtype"])
            _per_anchor(grads[-1], grad.shape[1]).index_put_(index, level_grad, accumulate=True)
        return None, None, None, *grads


def _form(x: Tensor) -> dict:
    return {"size": x.shape, "dtype": x.dtype, "memory_format": memory_format(x)}


def _per_anchor(level_deltas: Tensor, box_dim: int) -> Tensor:
    """Return the view (N, A, HW, D) of a level's deltas (N, A*D, H, W)."""
    return level_deltas.unflatten(1, (-1, box_dim)).flatten(3).transpose(2, 3)
