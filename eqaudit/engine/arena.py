"""Memory for features that are kept while a batch is measured, and used again for the next batch."""

from __future__ import annotations

import mmap

import torch

BLOCK_BYTES = 2**24
ALIGNMENT = 64


class Arena:
    """Copies of tensors, one after the other, in memory apart from that of the model.

    Features of a whole batch among what a model allocates for a moment would leave holes, too small for the
    next ones; and memory that was asked for anew would be filled with zeros for every batch. On a GPU, whose
    allocator does better, copies are plain ones.

    Examples
    --------
    >>> arena, ones = Arena(), torch.ones(2, 3)
    >>> first = arena.copy(ones)
    >>> arena.clear()
    >>> arena.copy(2 * ones).data_ptr() == first.data_ptr()
    True
    """

    def __init__(self) -> None:
        self._blocks: list[torch.Tensor] = []
        self._block, self._used = 0, 0

    def clear(self) -> None:
        """Forget all copies: their memory is that of the next ones."""
        self._block, self._used = 0, 0

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy, laid out as the tensor is; it is good until the arena is cleared."""
        like = torch.empty_like(tensor, device="meta")
        size = like.numel() * like.element_size()
        if tensor.device.type != "cpu" or not size:
            return tensor.clone()
        memory = self._take(size).view(like.dtype)
        return memory.as_strided(like.shape, like.stride()).copy_(tensor)

    def _take(self, size: int) -> torch.Tensor:
        """Return so many bytes."""
        while self._block < len(self._blocks):
            block, start = self._blocks[self._block], -(-self._used // ALIGNMENT) * ALIGNMENT
            if start + size <= len(block):
                self._used = start + size
                return block[start : self._used]
            self._block, self._used = self._block + 1, 0
        try:
            memory = mmap.mmap(-1, max(size, BLOCK_BYTES))
        except OSError as error:
            raise MemoryError(f"not enough memory for {size:,} bytes of features") from error
        self._blocks.append(torch.frombuffer(memory, dtype=torch.uint8))
        self._used = size
        return self._blocks[-1][:size]
