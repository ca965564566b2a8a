"""Draws the pictures of docs/concepts.md: ``python scripts/concept_drawings.py`` writes docs/images/concept-*.svg.

The same bytes come out each time and on each machine; a test compares them with what is committed. Text stays text,
colours follow the reader's light or dark mode, and what is omitted is hatched, so that no meaning hangs on a colour.
"""

# ruff: noqa: E501, RUF001 - sentences of a drawing are not wrapped, and its signs for times and minus are meant
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 720

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f6f8fa",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#818b98",
    "out": "#ffffff",
    "qk": "#b6d9ff",
    "qk-edge": "#0550ae",
    "vo": "#ffd08a",
    "vo-edge": "#8a4600",
    "ffn": "#aeebbe",
    "ffn-edge": "#116329",
    "yes": "#116329",
    "no": "#b3141d",
}
DARK = {
    "paper": "#0d1117",
    "panel": "#161b22",
    "ink": "#f0f6fc",
    "soft": "#9aa4af",
    "line": "#7d8590",
    "out": "#0d1117",
    "qk": "#1a4680",
    "qk-edge": "#79b8ff",
    "vo": "#6e4200",
    "vo-edge": "#f0b35a",
    "ffn": "#155c2c",
    "ffn-edge": "#56d364",
    "yes": "#56d364",
    "no": "#ff8182",
}
FONTS = """text{font:14px -apple-system,"Segoe UI","Noto Sans","DejaVu Sans",Helvetica,Arial,sans-serif}
.small{font-size:12.5px}.bold{font-weight:600}.big{font-size:16px;font-weight:600}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",Consolas,monospace;font-size:12.5px}"""


def colours(of: dict[str, str]) -> str:
    """Rules of one mode: plain fills and strokes, so that viewers without CSS variables show them too."""
    rules = [
        f".paper{{fill:{of['paper']}}}.panel{{fill:{of['panel']};stroke:{of['line']};stroke-width:.7}}",
        f"text{{fill:{of['ink']}}}.soft{{fill:{of['soft']}}}.yes{{fill:{of['yes']}}}.no{{fill:{of['no']}}}",
        f".wire{{fill:none;stroke:{of['line']};stroke-width:1.5}}.tip,.dot{{fill:{of['line']}}}",
        f".stream{{fill:none;stroke:{of['ink']};stroke-width:5}}.bead{{fill:{of['paper']};stroke:{of['ink']};stroke-width:2}}",
        f".one{{fill:{of['ink']};stroke:{of['line']}}}.zero{{fill:{of['paper']};stroke:{of['line']}}}",
        f".one-digit{{fill:{of['paper']}}}.zero-digit{{fill:{of['soft']}}}.flat{{stroke-width:.4}}",
        f".out{{fill:url(#hatch);stroke:{of['line']};stroke-dasharray:3 2}}",
        f".hatch-paper{{fill:{of['out']}}}.hatch-line{{stroke:{of['line']};stroke-width:1}}",
    ]
    rules += [
        f".{kind}{{fill:{of[kind]};stroke:{of[f'{kind}-edge']}}}.{kind}-line{{fill:none;stroke:{of[f'{kind}-edge']};stroke-width:2}}"
        for kind in ("qk", "vo", "ffn")
    ]
    return "\n".join(rules)


STYLE = f"{FONTS}\n{colours(LIGHT)}\n@media (prefers-color-scheme:dark){{\n{colours(DARK)}\n}}"
DEFINITIONS = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect class="hatch-paper" width="6" height="6"/><path class="hatch-line" d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5"/></pattern>'
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
)


class Drawing:
    """An SVG file under construction; x goes right, y goes down, in pixels.

    Args:
        name: Of the file, without ``concept-`` and ``.svg``.
        height: In pixels; all drawings are ``WIDTH`` wide.
        title: One line for screen readers.
        description: What is to be seen, for those who do not see it.
    """

    def __init__(self, name: str, height: int, title: str, description: str) -> None:
        self.name = name
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(description)}</desc>',
            f"<style>{STYLE}</style>",
            DEFINITIONS,
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        ]

    def text(self, x: float, y: float, content: str, style: str = "", *, anchor: str = "start") -> None:
        """One line of text with its baseline at ``y``."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        kind = f' class="{style}"' if style else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{where}{kind}>{escape(content)}</text>')

    def lines(self, x: float, y: float, content: Iterable[str], style: str = "", *, step: float = 18) -> None:
        """Lines of text below each other."""
        for number, line in enumerate(content):
            self.text(x, y + number * step, line, style)

    def rect(self, x: float, y: float, width: float, height: float, style: str, *, radius: float = 0) -> None:
        """A rectangle by its upper left corner."""
        corner = f' rx="{radius:g}"' if radius else ""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{corner} class="{style}"/>')

    def boxes(self, corners: Iterable[tuple[float, float]], width: float, height: float, style: str) -> None:
        """Many rectangles of one size as one path."""
        path = "".join(f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z" for x, y in corners)
        if path:
            self.parts.append(f'<path class="{style}" d="{path}"/>')

    def wire(self, *points: tuple[float, float], arrow: bool = True, style: str = "wire") -> None:
        """A line through points, with a tip at its end."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self.parts.append(f'<path class="{style}" d="{path}"{tip}/>')

    def circle(self, x: float, y: float, radius: float, style: str) -> None:
        """A circle around a point."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{style}"/>')

    def node(self, x: float, y: float, width: float, lines: Sequence[str], style: str = "panel") -> None:
        """A box of centred lines, the first one bold; ``y`` is its upper edge."""
        self.rect(x, y, width, 18 * len(lines) + 14, style, radius=6)
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + 22 + 18 * number, line, "small" if number else "small bold", anchor="middle")

    def matrix(
        self,
        x: float,
        y: float,
        style: str,
        *,
        rows: Sequence[bool],
        columns: Sequence[bool],
        cell: tuple[float, float],
    ) -> None:
        """A matrix of cells, hatched where their row or their column is omitted."""
        width, height = cell
        cells = [
            (x + width * column, y + height * row, rows[row] and columns[column])
            for row in range(len(rows))
            for column in range(len(columns))
        ]
        self.boxes([(left, top) for left, top, kept in cells if not kept], width, height, "out")
        self.boxes([(left, top) for left, top, kept in cells if kept], width, height, style)

    def mask(
        self,
        x: float,
        y: float,
        values: Sequence[bool],
        *,
        cell: tuple[float, float],
        across: bool = False,
        digits: bool = True,
    ) -> None:
        """A mask as a column of cells (or, ``across``, a row): dark 1 = inherited, light 0 = omitted."""
        width, height = cell
        corners = [(x + width * index * across, y + height * index * (not across)) for index in range(len(values))]
        for kept, style in ((False, "zero"), (True, "one")):
            self.boxes(
                [corner for corner, value in zip(corners, values, strict=True) if value == kept], width, height, style
            )
        if digits:
            for (left, top), value in zip(corners, values, strict=True):
                digit = "small one-digit" if value else "small zero-digit"
                self.text(left + width / 2, top + height / 2 + 4.5, str(int(value)), digit, anchor="middle")

    def band(
        self, x: float, y: float, size: tuple[float, float], label: str, style: str, kept: bool, *, plate: float
    ) -> None:
        """A labelled stripe; where it is omitted, a plate of the given width keeps its hatching off the label."""
        width, height = size
        self.rect(x, y, width, height, style if kept else "out")
        if not kept:
            self.rect(x + 3, y + 3, plate, 16, "paper")
        self.text(x + 3 + plate / 2, y + 15.5, label, "small", anchor="middle")

    def legend(self, x: float, y: float, style: str = "qk") -> None:
        """What full and hatched cells mean."""
        self.rect(x, y - 11, 16, 13, style)
        self.text(x + 23, y, "inherited", "small")
        self.rect(x + 92, y - 11, 16, 13, "out")
        self.text(x + 115, y, "omitted", "small")

    def svg(self) -> str:
        """The file's text."""
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def scattered(kept: int, of: int, seed: int) -> list[bool]:
    """``kept`` of ``of`` units, spread in no order; plain arithmetic, so that no library decides."""

    def rank(unit: int) -> int:
        mixed = (unit + 1) * 0x9E3779B1 ^ (seed + 1) * 0x85EBCA77
        for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
            mixed = (mixed ^ mixed >> shift) * factor & 0xFFFFFFFF
        return mixed ^ mixed >> 15

    chosen = set(sorted(range(of), key=rank)[:kept])
    return [unit in chosen for unit in range(of)]


def block() -> Drawing:
    """One decoder block: all matrices to scale, their shapes, the two masks."""
    d = Drawing(
        "block",
        638,
        "One decoder block, its seven matrices and its two masks",
        "The residual stream of width D runs from top to bottom. The attention sublayer reads it through a norm and the "
        "matrices q (H d by D), k and v (K d by D) and adds the output of o (D by H d). The FFN sublayer reads it through "
        "a norm and gate and up (P by D) and adds the output of down (D by P). The mask S_attn lies along the rows of q, "
        "k, v and the columns of o; the mask S_mlp along the rows of gate and up and the columns of down.",
    )
    d.text(384, 24, "masks:", "small")
    d.mask(434, 10, [True, False], cell=(84, 20), across=True, digits=False)
    d.text(442, 24, "1 inherited", "small one-digit")
    d.text(526, 24, "0 omitted", "small")
    d.text(608, 24, "drawn to scale", "small soft")
    d.rect(76, 40, 632, 244, "panel", radius=8)
    d.rect(76, 300, 632, 324, "panel", radius=8)
    d.text(90, 64, "attention sublayer", "bold")
    d.text(90, 324, "FFN sublayer", "bold")
    d.wire((38, 34), (38, 632), arrow=False, style="stream")
    d.text(12, 24, "residual stream: T tokens × D = 576 numbers", "small bold")
    attention, channels = [True, False, True], scattered(16, 24, 3)
    every = [True] * 9
    for number, (name, shape, numbers, rows) in enumerate(
        (
            ("q", "H·d × D", "576 × 576", 9),
            ("k", "K·d × D", "192 × 576", 3),
            ("v", "K·d × D", "192 × 576", 3),
        )
    ):
        x = 196 + 126 * number
        d.text(x, 86, name, "big")
        d.text(x, 104, shape, "small")
        d.text(x, 120, numbers, "small soft")
        kept = [value for value in attention for _ in range(rows // 3)]
        d.matrix(x, 130, "qk" if number < 2 else "vo", rows=kept, columns=every, cell=(8, 8))
        d.mask(x - 16, 130, attention, cell=(11, 8 * rows / 3), digits=False)
    d.text(592, 68, "o", "big")
    d.text(614, 68, "D × H·d", "small")
    d.text(592, 86, "576 × 576", "small soft")
    d.mask(592, 112, attention, cell=(24, 11), across=True, digits=False)
    kept = [value for value in attention for _ in range(3)]
    d.matrix(592, 130, "vo", rows=every, columns=kept, cell=(8, 8))
    d.node(90, 146, 62, ["norm"])
    d.wire((41, 162), (88, 162))
    d.wire((152, 162), (176, 162))
    d.text(322, 188, "softmax( q kᵀ / √d ) v", "small")
    d.wire((526, 162), (588, 162))
    d.lines(
        196, 226, ["S_attn: K = 3 truth values, one for each KV head", "rows of q, k, v and columns of o"], "small bold"
    )
    d.wire((628, 204), (628, 268), (50, 268))
    d.circle(38, 268, 11, "bead")
    d.text(38, 273, "+", "bold", anchor="middle")

    for name, x in (("gate", 196), ("up", 322)):
        d.text(x, 352, name, "big")
        d.text(x, 370, "P × D", "small")
        d.text(x, 386, "1536 × 576", "small soft")
        d.matrix(x, 396, "ffn", rows=channels, columns=every, cell=(8, 8))
        d.mask(x - 16, 396, channels, cell=(11, 8), digits=False)
    d.text(448, 352, "down", "big")
    d.text(502, 352, "D × P", "small")
    d.text(448, 370, "576 × 1536", "small soft")
    d.mask(448, 378, channels, cell=(8, 11), across=True, digits=False)
    d.matrix(448, 396, "ffn", rows=every, columns=channels, cell=(8, 8))
    d.node(90, 416, 62, ["norm"])
    d.wire((41, 432), (88, 432))
    d.wire((152, 432), (176, 432))
    d.wire((396, 432), (444, 432))
    d.text(448, 498, "silu(gate x) · (up x)  goes in", "small")
    d.lines(448, 528, ["S_mlp: P = 1536 truth values", "rows of gate and up,", "columns of down"], "small bold")
    d.text(448, 582, "24 stripes here, of 64 channels each", "small soft")
    d.wire((646, 468), (690, 468), (690, 606), (50, 606))
    d.circle(38, 606, 11, "bead")
    d.text(38, 611, "+", "bold", anchor="middle")
    return d


def ffn() -> Drawing:
    """An FFN mask: rows of gate and up, columns of down."""
    d = Drawing(
        "ffn-mask",
        444,
        "An FFN mask selects rows of gate and up and columns of down",
        "A mask of eight channels keeps five. The three rows that it omits are hatched in gate and in up, the same three "
        "columns in down. Below, the sliced matrices: gate and up with five rows, down with five columns.",
    )
    mask = [True, False, True, True, False, True, True, False]
    every, kept = [True] * 6, [True] * sum(mask)
    cell = (18, 18)
    d.text(16, 28, "dense: P = 8 channels, D = 6", "bold")
    d.legend(540, 28, "ffn")
    for name, x in (("gate  8 × 6", 80), ("up  8 × 6", 270)):
        d.text(x, 60, name, "bold")
        d.text(x - 56, 60, "S_mlp", "small bold")
        d.mask(x - 26, 70, mask, cell=(20, 18))
        d.matrix(x, 70, "ffn", rows=mask, columns=every, cell=cell)
    d.text(470, 60, "down  6 × 8", "bold")
    d.text(422, 85, "S_mlp", "small bold")
    d.mask(470, 70, mask, cell=(18, 20), across=True)
    d.matrix(470, 96, "ffn", rows=every, columns=mask, cell=cell)
    d.text(44, 238, "S_mlp = 1 0 1 1 0 1 1 0: a row of gate, the same row of up and the same column of down", "small")
    d.text(44, 256, "are one channel. They stay together or go together.", "small")
    d.wire((134, 268), (134, 296))
    d.wire((324, 268), (324, 296))
    d.wire((542, 268), (542, 296))
    d.text(16, 290, "slice", "bold")
    for name, x in (("gate  5 × 6", 80), ("up  5 × 6", 270)):
        d.matrix(x, 304, "ffn", rows=kept, columns=every, cell=cell)
        d.text(x, 412, name, "bold")
    d.matrix(470, 304, "ffn", rows=every, columns=kept, cell=cell)
    d.text(470, 430, "down  6 × 5", "bold")
    d.lines(580, 330, ["input and output", "keep their width D:", "the next block sees", "no difference"], "small")
    return d


def kv_group() -> Drawing:
    """Attention in kv_group mode."""
    d = Drawing(
        "kv-group",
        470,
        "Mode kv_group: a KV head leaves together with its query heads",
        "Nine query heads share three KV heads, three each. The mask 1 0 1 omits KV head 1: its rows in k and v, the rows "
        "of query heads 3, 4 and 5 in q, and their columns in o.",
    )
    mask = [True, False, True]
    d.text(16, 28, "kv_group: H = 9 query heads, K = 3 KV heads, g = H / K = 3", "bold")
    d.legend(540, 28)
    d.text(16, 72, "S_attn", "small bold")
    d.text(16, 90, "K = 3", "small soft")
    for x, name, shape in ((96, "q", "H·d × D"), (264, "k", "K·d × D"), (400, "v", "K·d × D"), (552, "o", "D × H·d")):
        d.text(x, 72, name, "big")
        d.text(x, 90, shape, "small soft")
    for group, kept in enumerate(mask):
        top = 104 + 78 * group
        d.mask(24, top, [kept], cell=(26, 66))
        for head in range(3):
            d.band(96, top + 22 * head, (112, 22), f"head {3 * group + head}", "qk", kept, plate=54)
            d.wire((208, top + 22 * head + 11), (262, top + 33), arrow=False)
        for x, style in ((264, "qk"), (400, "vo")):
            d.band(x, top + 22, (96, 22), f"KV {group}", style, kept, plate=42)
        d.wire((54, top + 33), (92, top + 33))
    for head in range(9):
        d.band(544 + 18 * head, 104, (18, 150), str(head), "vo", mask[head // 3], plate=12)
    d.mask(544, 260, mask, cell=(54, 20), across=True)
    d.lines(544, 300, ["o: one stripe is the", "d = 64 columns of", "one query head"], "small soft")
    d.text(
        96, 358, "q, k, v: one stripe is the d = 64 rows of one head. Lines: who shares which KV head.", "small soft"
    )
    d.lines(
        16,
        392,
        [
            "S_attn = 1 0 1 omits KV head 1, and with it query heads 3, 4, 5: they can use no other keys.",
            "Left over: q 384 × 576, k and v 128 × 576, o 576 × 384.",
            "What leaves: 2 (g + 1) · d · D = 294,912 parameters, and a third of this layer's KV cache.",
        ],
        "small",
        step=22,
    )
    return d


def channel_row(
    d: Drawing, x: float, y: float, labels: Sequence[str], kept: Sequence[bool], style: str, *, cell: float = 28
) -> None:
    """The channels of one head as a row of labelled cells."""
    for index, (label, value) in enumerate(zip(labels, kept, strict=True)):
        left = x + cell * index
        d.rect(left, y, cell, 26, style if value else "out")
        if not value:
            d.rect(left + cell / 2 - 7, y + 5, 14, 16, "paper")
        d.text(left + cell / 2, y + 18, label, "small" if value else "small soft", anchor="middle")


PAIRS = tuple("abcdabcd")
CHANNELS = tuple("01234567")


def of_pairs(kept: str) -> list[bool]:
    """Channels of a head of eight whose pair is kept."""
    return [letter in kept for letter in PAIRS]


def of_channels(kept: str) -> list[bool]:
    """Channels of a head of eight that are kept by number."""
    return [number in kept for number in CHANNELS]


def head_modes() -> Drawing:
    """Masks inside of heads: head_dim, head_dim_split, with groups, with rotated values."""
    d = Drawing(
        "head-modes",
        704,
        "Masks inside of heads: head_dim, head_dim_split, both with kv_group, and rotated values",
        "Two KV heads of eight channels. In head_dim one mask of rotary pairs holds for q, k, v and o. In head_dim_split q "
        "and k have a mask of pairs, v and o a mask of channels. With kv_group beside it a whole KV head may leave first. "
        "With rotate_values the v and o channels are in the order of their worth, so the first ones are kept.",
    )
    d.text(16, 28, "Inside a head: d = 8 channels here; letters name rotary pairs (i, i + d/2)", "bold")
    d.legend(546, 52)
    x0, x1 = 152, 444
    d.text(x0, 52, "KV head 0", "small bold")
    d.text(x1, 52, "KV head 1", "small bold")

    def panel(top: float, height: float, mode: str, note: str) -> None:
        d.rect(8, top, 704, height, "panel", radius=8)
        d.text(20, top + 22, mode, "mono bold")
        d.text(20, top + height - 12, note, "small")

    def rows(
        top: float, values: Sequence[tuple[Sequence[str], Sequence[bool], str]], *, x: float, label: bool = True
    ) -> None:
        for number, (labels, kept, style) in enumerate(values):
            channel_row(d, x, top + 34 * number, labels, kept, style)
            if label:
                name = "q, k rows" if style == "qk" else "v rows, o columns"
                d.text(20, top + 18 + 34 * number, name, "small")

    panel(
        64,
        140,
        '"head_dim"',
        "one mask, d/2 = 4 pairs a KV head, for q, k, v and o; the same count (2) in every head of the layer",
    )
    rows(98, [(PAIRS, of_pairs("ac"), "qk"), (PAIRS, of_pairs("ac"), "vo")], x=x0)
    rows(98, [(PAIRS, of_pairs("bc"), "qk"), (PAIRS, of_pairs("bc"), "vo")], x=x1, label=False)
    panel(
        216,
        140,
        '"head_dim_split"',
        "two masks: d/2 pairs for q and k (3 kept), d channels for v and o (4 kept); each count is the layer's",
    )
    rows(250, [(PAIRS, of_pairs("abd"), "qk"), (CHANNELS, of_channels("0257"), "vo")], x=x0)
    rows(250, [(PAIRS, of_pairs("bcd"), "qk"), (CHANNELS, of_channels("1246"), "vo")], x=x1, label=False)
    panel(
        368,
        140,
        '["kv_group", "head_dim_split"]',
        "a KV head may lose all of its units (head 0 here): then its whole group is gone",
    )
    rows(402, [(PAIRS, of_pairs(""), "qk"), (CHANNELS, of_channels(""), "vo")], x=x0)
    rows(402, [(PAIRS, of_pairs("bcd"), "qk"), (CHANNELS, of_channels("1246"), "vo")], x=x1, label=False)
    panel(
        520,
        172,
        '"head_dim_split" with rotate_values = true',
        "V' = R V and W_o' = W_o Rᵀ change nothing while all channels are there; then the first ones are worth most",
    )
    ordinals = ("1.", "2.", "3.", "4.", "5.", "6.", "7.", "8.")
    values = [(PAIRS, of_pairs("abd"), "qk"), (ordinals, [True] * 4 + [False] * 4, "vo")]
    rows(554, values, x=x0)
    rows(554, [(PAIRS, of_pairs("bcd"), "qk"), values[1]], x=x1, label=False)
    for x in (x0, x1):
        d.wire((x, 632), (x + 224, 632))
    d.text(20, 636, "worth falls", "small soft")
    return d


GROUPS = [3] * 10 + [2] * 10 + [3] * 10
WIDTHS = [1280] * 10 + [1024] * 10 + [768] * 10
GROUPS[4] = GROUPS[25] = 0
WIDTHS[24] = 0


def genome() -> Drawing:
    """A whole genome: the masks of 30 layers side by side."""
    d = Drawing(
        "genome",
        500,
        "A whole genome of SmolLM2-135M: 30 columns, one for each layer",
        "Upper part, S_attn: three cells a layer; layers 10 to 19 keep two of three KV groups, attention is removed in "
        "layers 4 and 25. Lower part, S_mlp: kept channels fall from 1280 over 1024 to 768 of 1536; the FFN is removed in "
        "layer 24.",
    )
    left, step = 96, 20
    d.text(16, 28, "One genome = one subnet: L = 30 layers, one column each", "bold")
    d.legend(540, 28)
    for layer in (0, 4, 9, 14, 19, 24, 29):
        d.text(left + step * layer + 9, 58, str(layer), "small soft", anchor="middle")
    d.text(16, 58, "layer l", "small soft")
    d.lines(16, 84, ["S_attn", "L × K"], "small bold")
    d.text(16, 118, "30 × 3", "small soft")
    d.lines(16, 230, ["S_mlp", "L × P"], "small bold")
    d.text(16, 264, "30 × 1536", "small soft")
    for layer, (groups, width) in enumerate(zip(GROUPS, WIDTHS, strict=True)):
        x = left + step * layer
        attn = scattered(groups, 3, layer)
        d.matrix(x, 68, "qk", rows=attn, columns=[True], cell=(18, 18))
        d.matrix(x, 150, "ffn flat", rows=scattered(width // 32, 48, layer), columns=[True], cell=(18, 5))
        for gone, y in ((groups == 0, 95), (width == 0, 270)):
            if gone:
                d.rect(x + 1, y - 11, 16, 22, "paper")
                d.text(x + 9, y + 5, "×", "big no", anchor="middle")
    d.text(left, 410, "width: 1280 of 1536 channels", "small", anchor="start")
    d.text(left + 290, 410, "1024", "small", anchor="middle")
    d.text(left + 490, 410, "768", "small", anchor="middle")
    for start in (0, 10, 20):
        d.wire((left + step * start, 395), (left + step * start + 198, 395), arrow=False)
    d.text(left, 140, "heads: 3 of 3 KV groups", "small")
    d.text(left + 290, 140, "2 of 3", "small", anchor="middle")
    d.text(left + 490, 140, "3 of 3", "small", anchor="middle")
    d.text(16, 440, "×", "big no")
    d.text(
        34, 440, "depth: an empty mask removes its sublayer (attention of layers 4 and 25, FFN of layer 24).", "small"
    )
    d.text(
        16,
        464,
        "heads and width: which units are kept is free in each layer; only their count sets parameters and MACs.",
        "small",
    )
    d.text(
        16,
        486,
        "An FFN cell stands for 32 channels here; in the genome each channel has a truth value of its own.",
        "small soft",
    )
    return d


def ratio() -> Drawing:
    """Inheriting ratio against sparsity, and three numbers that they are not."""
    d = Drawing(
        "ratio",
        430,
        "Inheriting ratio against sparsity, in parameters of SmolLM2-135M",
        "A bar of 134.5 million parameters: 28.3 million in the embedding, which is the LM head too, 26.5 in attention, "
        "79.6 in FFNs. Blocks hold 106.2 million. The subnet keeps 1024 of 1536 channels in each FFN, 79.6 of the 106.2 "
        "million: inheriting ratio 0.75, sparsity 0.25.",
    )
    scale = 5.1
    embedding, attention, kept, gone = 28.311552 * scale, 26.54208 * scale, 53.08416 * scale, 26.54208 * scale
    x = 16.0
    blocks = x + embedding
    end = blocks + attention + kept + gone
    d.text(16, 28, "dense model: 134.5 M parameters", "bold")
    d.rect(x, 66, embedding, 40, "panel")
    d.rect(blocks, 66, attention, 40, "qk")
    d.rect(blocks + attention, 66, kept + gone, 40, "ffn")
    d.text(x + 8, 91, "embedding 28.3 M", "small")
    d.text(blocks + 10, 91, "attention 26.5 M", "small")
    d.text(blocks + attention + 12, 91, "FFN 79.6 M", "small")
    d.wire((blocks, 56), (end, 56), arrow=False)
    d.text((blocks + end) / 2, 48, "decoder blocks: 106.2 M, what gamma counts", "small", anchor="middle")
    d.text(16, 146, "subnet: every FFN keeps 1024 of 1536 channels, all attention stays", "bold")
    d.rect(x, 160, embedding, 40, "panel")
    d.rect(blocks, 160, attention, 40, "qk")
    d.rect(blocks + attention, 160, kept, 40, "ffn")
    d.rect(blocks + attention + kept, 160, gone, 40, "out")
    d.text(x + 8, 185, "embedding 28.3 M", "small")
    d.text(blocks + 10, 185, "attention 26.5 M", "small")
    d.text(blocks + attention + 12, 185, "FFN 53.1 M", "small")
    d.rect(end - gone + 14, 171, 104, 18, "paper")
    d.text(end - gone / 2, 185, "omitted 26.5 M", "small", anchor="middle")
    cut = blocks + attention + kept
    for first, last, words in (
        (blocks, cut - 3, "gamma = (26.5 + 53.1) / 106.2 = 0.75"),
        (cut + 3, end, "sparsity = 0.25"),
    ):
        d.wire((first, 206), (first, 214), (last, 214), (last, 206), arrow=False)
        d.text((first + last) / 2, 234, words, "bold", anchor="middle")
    d.text(x, 232, "not counted, never cut", "small soft")
    d.text(16, 282, "The same subnet, five kept fractions: say which one you mean", "bold")
    for row, (value, name, numbers) in enumerate(
        (
            (0.75, "inheriting ratio", "79,626,240 of 106,168,320"),
            (0.667, "FFN channels", "1024 of 1536 in every layer"),
            (0.803, "all parameters", "107,972,928 of 134,515,008"),
            (0.844, "MACs per token", "143,327,232 of 169,869,312"),
            (1.0, "KV cache", "23,040 bytes a token, as before"),
        )
    ):
        y = 308 + 25 * row
        d.text(16, y, name, "small bold" if row == 0 else "small")
        d.rect(150, y - 12, 240, 15, "out")
        d.rect(150, y - 12, 240 * value, 15, "qk" if row == 0 else "panel")
        d.text(402, y, f"{value:.3f}", "small bold" if row == 0 else "small")
        d.text(456, y, numbers, "small soft")
    return d


def rope() -> Drawing:
    """Rotary pairs: what may go, what may be mixed."""
    d = Drawing(
        "rope",
        640,
        "Rotary pairs: what is allowed and what is not",
        "Channels i and i + d/2 of q and k are turned together, each pair at a speed of its own: pair a by 57 degrees a "
        "token, pair b by 29, pair c by 14, pair d by 7 in this drawing. Allowed: omitting a whole pair, and turning "
        "values. Not allowed: omitting half a pair, mixing pairs of q and k.",
    )
    d.text(16, 28, "RoPE turns each pair (i, i + d/2) of q and k by an angle that grows with the position", "bold")
    channel_row(d, 16, 46, PAIRS, of_pairs("abcd"), "qk", cell=36)
    for index in range(8):
        d.text(34 + 36 * index, 88, str(index), "small soft", anchor="middle")
    d.text(16, 110, "letters: pairs, numbers: channels; d = 8", "small soft")
    # Unit vectors at 0, 1, 2 and 3 times the pair's angle, to three digits: sin and cos of libraries may differ in the last.
    turns = {
        "a": ((1, 0), (0.545, 0.839), (-0.407, 0.914), (-0.988, 0.156)),
        "b": ((1, 0), (0.875, 0.485), (0.53, 0.848), (0.052, 0.999)),
        "c": ((1, 0), (0.97, 0.242), (0.883, 0.469), (0.743, 0.669)),
        "d": ((1, 0), (0.993, 0.122), (0.97, 0.242), (0.934, 0.358)),
    }
    for number, (pair, vectors) in enumerate(turns.items()):
        x, y = 362 + 96 * number, 82
        d.circle(x, y, 34, "panel")
        for position, (right, up) in enumerate(vectors):
            d.wire((x, y), (x + 33 * right, y - 33 * up), arrow=False, style="qk-line")
            if position in (0, 3):
                far = 43
                d.text(x + far * right, y - far * up + 4, str(position), "small soft", anchor="middle")
        d.text(x, 138, f"pair {pair}", "small", anchor="middle")
    d.text(
        16,
        158,
        "Circles: positions 0 to 3. Pair a is fast, the others are slower. A kept pair keeps its speed.",
        "small soft",
    )

    def verdict(top: float, allowed: bool, words: str) -> None:
        d.text(16, top, "✓ allowed" if allowed else "✗ forbidden", "bold yes" if allowed else "bold no")
        d.text(126, top, words, "small")

    verdict(196, True, "omit a whole pair: its term of the score q · k is missing, the others are exact")
    channel_row(d, 126, 208, PAIRS, of_pairs("acd"), "qk", cell=36)
    d.text(426, 226, "pair b leaves q, k of the whole KV group", "small soft")
    verdict(268, False, "omit one channel of a pair: half a rotation is no rotation")
    channel_row(d, 126, 280, PAIRS, [True, False, *[True] * 6], "qk", cell=36)
    d.text(426, 298, "channel 1 without channel 5", "small soft")
    verdict(340, False, "mix channels of different pairs in q and k: they turn at different speeds,")
    d.text(126, 358, "so the mixture would have to be another one at each position", "small")
    channel_row(d, 126, 370, ("a+b", "a−b", "c", "d", "a+b", "a−b", "c", "d"), [True] * 8, "qk", cell=36)
    verdict(430, True, "mix the channels of v and undo it in o: values are never turned by position")
    channel_row(d, 126, 442, ("1.", "2.", "3.", "4.", "5.", "6.", "7.", "8."), [True] * 8, "vo", cell=36)
    d.text(426, 460, "V' = R V,  W_o' = W_o Rᵀ,  RᵀR = 1", "small soft")
    d.wire((16, 488), (704, 488), arrow=False)
    d.text(16, 514, "Partial rotary: only the first r channels are turned", "bold")
    partial = ("a", "b", "a", "b", "4", "5", "6", "7")
    channel_row(d, 126, 528, partial, [True, False, True, False, True, True, False, True], "qk", cell=36)
    d.lines(426, 540, ["r = 4: pairs are (i, i + r/2); channels", "4 to 7 are units of their own"], "small soft")
    d.text(
        16,
        592,
        "Always: the scale of the softmax stays 1/√d with the d of the dense model, however many channels are kept.",
        "small",
    )
    d.text(16, 614, "A score has fewer terms then, but each term weighs what it did.", "small")
    return d


def search() -> Drawing:
    """The way of one candidate, from genome to export."""
    d = Drawing(
        "search",
        486,
        "The way of one candidate through the search",
        "A loop: genome, slice, subnet, evaluate, NSGA-II, and new genomes. Evaluate runs windows of tokens through the "
        "subnet and gives perplexity and a cost. Out of the loop comes the front; chosen points are finished by "
        "reconstruction and exported.",
    )
    d.text(16, 28, "In the loop: each candidate", "bold")
    d.node(16, 48, 150, ["genome", "masks of L layers"])
    d.node(204, 48, 150, ["slice", "kept rows, columns"])
    d.node(392, 48, 150, ["subnet", "smaller matrices"])
    d.node(580, 48, 124, ["evaluate", "run the text"])
    for x in (166, 354, 542):
        d.wire((x + 2, 73), (x + 36, 73))
    d.node(392, 146, 150, ["quality", "perplexity or KL"])
    d.node(580, 146, 124, ["cost", "MACs, ..."])
    d.wire((612, 98), (520, 144))
    d.wire((642, 98), (642, 144))
    d.node(204, 146, 150, ["NSGA-II", "who survives?"])
    d.wire((390, 171), (358, 171))
    d.wire((642, 196), (642, 212), (279, 212), (279, 200))
    d.node(16, 146, 150, ["new genomes", "mutate, cross over"])
    d.wire((202, 171), (170, 171))
    d.wire((91, 144), (91, 102))
    d.text(16, 252, "After the loop: only the points that you choose", "bold")
    d.node(16, 270, 150, ["front", "no one beats these"])
    d.node(204, 270, 150, ["point", "p04, knee, ..."])
    d.node(392, 270, 150, ["finish", "refit o and down"])
    d.node(580, 270, 124, ["export", "files on disk"])
    for x in (166, 354, 542):
        d.wire((x + 2, 295), (x + 36, 295))
    d.text(16, 358, "Perplexity", "bold")
    d.text(100, 358, "of N windows with T tokens each:", "small")
    d.matrix(16, 372, "qk", rows=[True] * 4, columns=[True] * 16, cell=(14, 14))
    d.text(16, 446, "N × T token ids, no overlap", "small soft")
    d.wire((248, 400), (290, 400))
    d.text(269, 391, "subnet", "small soft", anchor="middle")
    d.matrix(298, 372, "ffn", rows=[True] * 4, columns=[True] * 15, cell=(11, 14))
    d.text(298, 446, "N × (T − 1) losses −ln p(next)", "small soft")
    d.wire((470, 400), (512, 400))
    d.text(491, 391, "mean", "small soft", anchor="middle")
    d.text(530, 405, "exp( mean )", "big")
    d.lines(530, 446, ["1 = certain; vocabulary", "size = a blind guess"], "small soft")
    return d


DRAWINGS: tuple[Callable[[], Drawing], ...] = (block, ffn, kv_group, head_modes, genome, ratio, rope, search)


def draw() -> dict[str, str]:
    """All drawings: file name to text."""
    return {f"concept-{drawing.name}.svg": drawing.svg() for drawing in (make() for make in DRAWINGS)}


def main() -> None:
    """Write them."""
    for name, text in draw().items():
        (IMAGES / name).write_text(text, encoding="utf-8", newline="\n")
        print(f"docs/images/{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
