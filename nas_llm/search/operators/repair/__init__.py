"""What brings genomes into the space and the constraints of a search."""

from nas_llm.search.operators.repair._head_repair import HeadRepair
from nas_llm.search.operators.repair._repair import GenomeRepair
from nas_llm.search.operators.repair._target_repair import TargetRepair, repair_class

__all__ = ["GenomeRepair", "HeadRepair", "TargetRepair", "repair_class"]
