"""When the fused head is used, and the sizes of its blocks."""

from __future__ import annotations

FUSED_FROM_VOCABULARY = 4096
"""with `learner.fused_head=auto`, smaller vocabularies use the plain head: their logits are one block anyway"""
FUSED_COLUMNS = 4096
"""vocabulary columns per block"""
CPU_FUSED_ROWS, DEVICE_FUSED_ROWS = 512, 4096
"""most tokens per block; on CPUs a block (8 MiB) fits into the caches"""
