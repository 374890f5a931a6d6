"""Plots of studies, drawn by plotly; `dspex.visualization.matplotlib` draws the same ones.

The names and arguments are Optuna's, with plots beside them that only a ledger and pools allow: examples by trials, the
lineage of prompts, cost against gain. `report` puts the main ones on one page.
"""

from dspex.visualization import examples, fronts, histories, importances, relations
from dspex.visualization.plotly import is_available, plotted
from dspex.visualization.report import report

__all__ = [
    "is_available",
    "plot_contour",
    "plot_cost_gain",
    "plot_edf",
    "plot_example_heatmap",
    "plot_hypervolume_history",
    "plot_intermediate_values",
    "plot_optimization_history",
    "plot_parallel_coordinate",
    "plot_param_importances",
    "plot_pareto_front",
    "plot_prompt_lineage",
    "plot_rank",
    "plot_slice",
    "plot_timeline",
    "report",
]

plot_contour = plotted(relations.contour)
plot_cost_gain = plotted(histories.cost_gain)
plot_edf = plotted(histories.edf)
plot_example_heatmap = plotted(examples.example_heatmap)
plot_hypervolume_history = plotted(fronts.hypervolume_history)
plot_intermediate_values = plotted(histories.intermediate_values)
plot_optimization_history = plotted(histories.optimization_history)
plot_parallel_coordinate = plotted(relations.parallel_coordinate)
plot_param_importances = plotted(importances.param_importances)
plot_pareto_front = plotted(fronts.pareto_front)
plot_prompt_lineage = plotted(examples.prompt_lineage)
plot_rank = plotted(relations.rank)
plot_slice = plotted(relations.slices)
plot_timeline = plotted(histories.timeline)
