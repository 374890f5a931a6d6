"""Plots of studies, drawn by plotly; `dspex.visualization.matplotlib` draws the same ones.

The names and arguments are Optuna's, with plots beside them that only a ledger and pools allow: examples by trials, the
lineage of prompts, cost against gain. `report` puts the main ones on one page.
"""

from dspex.visualization import examples, fronts, histories, importances, matplotlib as matplotlib, plotly, relations
from dspex.visualization.plotly import is_available
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
    "plot_terminator_improvement",
    "plot_timeline",
    "report",
]

plot_contour = plotly.plotted(relations.contour)
plot_cost_gain = plotly.plotted(histories.cost_gain)
plot_edf = plotly.plotted(histories.edf)
plot_example_heatmap = plotly.plotted(examples.example_heatmap)
plot_hypervolume_history = plotly.plotted(fronts.hypervolume_history)
plot_intermediate_values = plotly.plotted(histories.intermediate_values)
plot_optimization_history = plotly.plotted(histories.optimization_history)
plot_parallel_coordinate = plotly.plotted(relations.parallel_coordinate)
plot_param_importances = plotly.plotted(importances.param_importances)
plot_pareto_front = plotly.plotted(fronts.pareto_front)
plot_prompt_lineage = plotly.plotted(examples.prompt_lineage)
plot_rank = plotly.plotted(relations.rank)
plot_slice = plotly.plotted(relations.slices)
plot_terminator_improvement = plotly.plotted(histories.terminator_improvement)
plot_timeline = plotly.plotted(histories.timeline)
