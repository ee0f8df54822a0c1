"""Memory of features that are kept for a batch."""

from __future__ import annotations

import pytest
import torch

from eqaudit.engine.arena import BLOCK_BYTES, Arena
from eqaudit.engine.still import transpose_maps


def test_copies_keep_values_and_layout_and_do_not_overlap() -> None:
    """Maps with channels last, vectors, other precisions, more than one block and nothing at all."""
    arena, generator = Arena(), torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 8, 8, generator=generator)
    tensors = [
        maps,
        maps.contiguous(memory_format=torch.channels_last),
        maps.double().movedim(1, -1),
        torch.rand(5, generator=generator).half(),
        torch.rand(BLOCK_BYTES // 4 + 7, generator=generator),
        torch.rand(0, 3),
        maps[:, :1].expand(-1, 4, -1, -1),
    ]
    copies = [arena.copy(tensor) for tensor in tensors]
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)
        assert copy.dtype == tensor.dtype
        assert copy.stride() == tensor.clone().stride()
        assert copy.data_ptr() != tensor.data_ptr() or not tensor.numel()


def test_a_cleared_arena_gives_the_same_memory_again() -> None:
    """Batch after batch takes no more memory than the first."""
    arena, tensors = Arena(), [torch.rand(1000), torch.rand(BLOCK_BYTES), torch.rand(10)]
    first = [arena.copy(tensor).data_ptr() for tensor in tensors]
    arena.clear()
    assert [arena.copy(tensor).data_ptr() for tensor in tensors] == first


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 5, 9), (4, 300, 40), (3, 1, 600, 500)])
def test_maps_are_transposed_in_their_own_memory(shape: tuple[int, ...]) -> None:
    """The result stands where the maps stood; what is in strides gets memory of its own."""
    maps = torch.rand(shape)
    expected, place = maps.transpose(-2, -1).clone(), maps.data_ptr()
    strided = maps.clone().transpose(-2, -1)
    assert torch.equal(transpose_maps(strided), strided.transpose(-2, -1))
    found = transpose_maps(maps)
    assert torch.equal(found, expected)
    assert found.data_ptr() == place
    assert found.is_contiguous()
