import pytest
import torch

from epicycle.kernels.exchange.layout import layout_experts, layout_experts_reference, layout_groups, layout_groups_reference


def _topk(tokens: int, experts: int, top_k: int, seed: int, unused: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    topk = torch.rand(tokens, experts, generator=g).topk(top_k).indices
    return torch.where(torch.rand(topk.shape, generator=g) < unused, -1, topk)


@pytest.mark.parametrize(
    ("tokens", "experts", "groups", "top_k", "unused"),
    [(37, 16, 4, 3, 0.0), (1, 8, 8, 8, 0.0), (70, 16, 2, 6, 0.4), (5, 8, 2, 1, 1.0), (0, 8, 2, 2, 0.0), (1100, 8, 2, 2, 0.1)],
)
def test_layout(tokens: int, experts: int, groups: int, top_k: int, unused: float) -> None:
    topk = _topk(tokens, experts, top_k, seed=tokens, unused=unused)
    got, want = layout_groups(topk, groups, experts // groups), layout_groups_reference(topk, groups, experts // groups)
    assert torch.equal(got.counts, want.counts)
    assert torch.equal(got.slot, want.slot)
    per_expert, expected = layout_experts(topk, experts), layout_experts_reference(topk, experts)
    assert torch.equal(per_expert.counts, expected.counts)
    assert torch.equal(per_expert.place, expected.place)
