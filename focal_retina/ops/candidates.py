"""The candidates of a level: its highest scores, and the anchors and classes that have them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retina.ops.backend import resolve_backend
from focal_retina.ops.gather import at_anchors


@torch.no_grad()
def select_candidates(
    logits: Tensor, *, num_classes: int, score_thresh: float, topk: int, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the highest scores of one image and level, those above ``score_thresh``.

    Args:
        logits: (A*K, H, W), any float dtype, contiguous or an image of a channels_last batch;
            nan is never selected.
        num_classes: K.
        score_thresh: scores must be above it; any number.
        topk: return at most so many.
        backend: see ``resolve_backend``. "reference" scores every logit. "torch" and "triton" are
            the same here, and score only anchors whose best logit can be among the result. Where
            more than 8 x ``topk`` anchors have candidates, the results may differ in which of
            equal scores comes first, or stays. While a model is traced, all are "reference", which
            has no branch that depends on a value.

    Returns:
        ``scores`` (n,), float32, descending; ``anchor_idxs`` (n,), int64, index into HWA (y, x, a);
        ``class_idxs`` (n,), int64.

    Raises ValueError for logits of another shape, UserError for an unavailable backend.

    Source: paper Sec. 4.1, "Inference"; Detectron2's ``_decode_per_level_predictions``, in float32.
    """
    if logits.dim() != 3 or logits.shape[0] % num_classes:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}; give (A * {num_classes}, H, W), one image"
        )
    logits = logits.unflatten(0, (-1, num_classes)).flatten(2)  # (A, K, HW)
    is_reference = resolve_backend(backend, logits.device) == "reference"
    if not (is_reference or torch.jit.is_tracing()):
        return _select_sparse(logits, score_thresh, topk)
    all_scores = logits.permute(2, 0, 1).flatten(0, 1).float().sigmoid()  # (HWA, K)
    candidate_idxs = (all_scores > score_thresh).nonzero()
    num_kept = at_most(topk, candidate_idxs.shape[0])
    scores, order = all_scores[all_scores > score_thresh].topk(num_kept)
    anchor_idxs, class_idxs = candidate_idxs[order].unbind(1)
    return scores, anchor_idxs, class_idxs


def at_most(limit: int, size: int) -> int:
    """Return the smaller one; while a model is traced, sizes are tensors and stay in the graph."""
    return size.clamp(max=limit) if isinstance(size, Tensor) else min(size, limit)


def _select_sparse(logits: Tensor, score_thresh: float, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read all logits (A, K, HW) once, for the best of each anchor; score the best anchors."""
    best = logits.amax(1).t().flatten()  # (HWA,), nan where any class is
    floor = _logit_below(best.new_full((), score_thresh, dtype=torch.float64))
    anchor_idxs = (~(best < floor)).nonzero().squeeze(1)
    # Only for many more than topk: the cut can change which of equal scores topk returns.
    if len(anchor_idxs) > 8 * topk:
        # Each of the topk best anchors has a logit as high as the best of the last of them.
        best = best[anchor_idxs]
        last = best.masked_fill(best.isnan(), -torch.inf).topk(topk, sorted=False).values.amin()
        floor = torch.maximum(floor, _logit_below(last.double().sigmoid()))
        anchor_idxs = anchor_idxs[~(best < floor)]

    logits = at_anchors(logits, anchor_idxs)  # (n, K)
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
    """Return float32 scores of (n,) logits, to the bit those that a large map would have.

    ATen computes the last elements of a tensor by scalar code, which rounds differently.
    """
    return F.pad(logits.float(), (0, -len(logits) % 64)).sigmoid()[: len(logits)]


def softmax_log_odds(logits: Tensor, num_classes: int) -> Tensor:
    """Return logits whose sigmoid is each class's softmax probability, (N, A*K, H, W), float32.

    Args:
        logits: (N, A*(K+1), H, W), background last.
        num_classes: K.
    """
    log_p = logits.unflatten(1, (-1, num_classes + 1)).float().log_softmax(2)[:, :, :-1]
    # 1 - p, as by expm1, which ONNX lacks: 1 - exp(x) is tanh(-x / 2) * (1 + exp(x)).
    miss = torch.tanh(-log_p / 2) * (1 + log_p.exp())
    return (log_p - miss.log()).flatten(1, 2)
