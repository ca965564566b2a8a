"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas_llm.settings import FINISHING_METHODS

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the name of one inside runs/.")]
PointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="POINT",
        help="An id such as p03, knee, best, smallest, all, or ratio=0.8 (nearest not chosen yet); may be repeated.",
    ),
]
MaxMacsOption = Annotated[str | None, typer.Option("--max-macs", metavar="N", help="Most MACs per token, e.g. 100M.")]
MaxParamsOption = Annotated[str | None, typer.Option("--max-params", metavar="N", help="Most parameters, e.g. 110M.")]
WorkloadOption = Annotated[
    str | None, typer.Option("--workload", metavar="NAME", help="A workload that the problem of the run defines.")
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"How weights are refitted: {', '.join(FINISHING_METHODS)}, or your own as module:Class or file.py:Class; "
        "default the problem's.",
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option("--samples", metavar="N", help="Calibration windows to refit on; default as the problem says."),
]
PadOption = Annotated[
    bool,
    typer.Option(
        "--pad",
        "--pad-heads",
        help="gguf, decilm: fill up with zeros what the format has no form for, parts of heads or, in families without "
        "sizes of each layer, layers; nothing is saved by those.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="PATH", help="Where the dense model of the run is now, if it was moved since the search."
    ),
]
FinishMemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GB",
        help="What the process may have while it refits by the sequential method: more saves time; default twice the "
        "model in float32 plus 1 GB.",
    ),
]
WindowsOption = Annotated[
    str | None,
    typer.Option(
        "--windows",
        metavar="N|all",
        help="Windows to score: evaluate takes the first, as the literature does, compare spreads them evenly over the "
        "text; default all, of c4 256.",
    ),
]
MaxRatioOption = Annotated[float | None, typer.Option("--max-ratio", help="Most inheriting ratio, in (0, 1].")]
MinRatioOption = Annotated[float | None, typer.Option("--min-ratio", help="Least inheriting ratio, in (0, 1].")]
IncludePathOption = Annotated[
    Path | None,
    typer.Option("--include-path", metavar="DIR", help="Task files of one's own, e.g. of local data."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Documents of each task; default all.")]


class Arithmetic(StrEnum):
    """Types that models can be measured in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


ArithmeticOption = Annotated[Arithmetic, typer.Option("--dtype", help="Arithmetic and type of the weights.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON; - is standard output.")
]
