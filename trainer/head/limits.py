"""From which sizes on the fused head is used, and the sizes of its blocks."""

from __future__ import annotations

FUSED_FROM_VOCABULARY = 4096
"""With `learner.fused_head=auto` smaller vocabularies, whose logits are one block anyway, take the plain head."""


FUSED_COLUMNS = 4096
"""Columns of the vocabulary whose logits the fused head holds at once."""


CPU_FUSED_ROWS, DEVICE_FUSED_ROWS = 512, 4096
"""Tokens whose logits the fused head holds at once, at most: on CPUs a block (8 MiB) stays in the caches."""
