"""Training over several device models: which kind holds which stage, uneven layers, uneven micro-batches."""

from planner.solve.mixed.baselines import even_placement, one_kind
from planner.solve.mixed.search import MixedSearch, MixedSolution, search_mixed

__all__ = ["MixedSearch", "MixedSolution", "even_placement", "one_kind", "search_mixed"]
