"""Colours of pictures: middle tones, since the background is the reader's, light or dark."""

from __future__ import annotations

from model.graph import NodeKind
from reconciler.captions import Kind

HEADS: dict[NodeKind, str] = {
    "service": "#3f6fb5",
    "container": "#3f6fb5",
    "bridge": "#2f855a",
    "remote": "#6b5b95",
    "parent": "#6b7280",
}
PAPER, LINE = "#f8fafc", "#7d8590"
TEXT: dict[Kind, str] = {
    "name": "#1f2937",
    "plain": "#1f2937",
    "muted": "#64748b",
    "impaired": "#a23fb5",
    "ready": "#2f855a",
    "waiting": "#a15c07",
    "bad": "#c53030",
}
