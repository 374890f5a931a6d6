"""dspex: Optuna for LLM programs.

Every name is loaded when it is first used, so ``import dspex`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Room by room, what ``dspex.NAME`` is; the imports below say the same to type checkers, and a test compares.
_EXPORTS: dict[str, tuple[str, ...]] = {
    "dspex.adapters": (
        "Adapter",
        "ChatAdapter",
        "CompactAdapter",
        "JSONAdapter",
        "LinesAdapter",
        "TwoStepAdapter",
        "XMLAdapter",
    ),
    "dspex.callbacks": ("Callback", "Span"),
    "dspex.data": ("Evaluation", "Example", "Prediction", "Score", "Usage"),
    "dspex.errors": ("TrialPruned",),
    "dspex.evaluate": ("Evaluate", "EvaluationResult"),
    "dspex.execution": ("Budget", "UsageLedger", "configure", "context", "settings", "track_usage"),
    "dspex.lm": ("LM", "BaseLM", "BatchLM", "Cache", "MockLM", "inspect_history"),
    "dspex.modules": (
        "ChainOfThought",
        "FieldDelta",
        "Final",
        "Module",
        "ModuleChoice",
        "Predict",
        "ReAct",
        "Restart",
        "Status",
    ),
    "dspex.optimizers": (
        "BootstrapFewShot",
        "JointSearch",
        "LabeledFewShot",
        "OptimizationResult",
        "Optimizer",
        "optimize",
    ),
    "dspex.signatures": ("InputField", "OutputField", "Signature", "make_signature"),
    "dspex.study": (
        "Study",
        "Trial",
        "copy_study",
        "create_study",
        "delete_study",
        "get_all_study_names",
        "get_all_study_summaries",
        "load_study",
    ),
    "dspex.tools": ("Tool",),
    "dspex.trials": ("FixedTrial", "FrozenTrial", "StudyDirection", "TrialState", "create_trial"),
    "dspex.types": ("Audio", "Citations", "Code", "Document", "File", "History", "Image", "Reasoning", "ToolCalls"),
    "dspex.variables": (
        "Bool",
        "Choice",
        "Demos",
        "Domain",
        "Float",
        "Int",
        "ModelChoice",
        "Order",
        "Prompt",
        "Space",
        "Subset",
        "Variable",
        "VariableState",
        "constraint",
        "derived",
        "variable",
    ),
}
_ROOMS = (
    "adapters",
    "callbacks",
    "cli",
    "data",
    "errors",
    "evaluate",
    "execution",
    "importance",
    "lm",
    "modules",
    "optimizers",
    "proposers",
    "pruners",
    "samplers",
    "signatures",
    "storage",
    "study",
    "testing",
    "tools",
    "trials",
    "types",
    "variables",
    "visualization",
)
_HOMES = {name: room for room, names in _EXPORTS.items() for name in names}

__all__ = sorted([*_HOMES, *_ROOMS])

if TYPE_CHECKING:
    from dspex import (
        adapters as adapters,
        callbacks as callbacks,
        cli as cli,
        data as data,
        errors as errors,
        evaluate as evaluate,
        execution as execution,
        importance as importance,
        lm as lm,
        modules as modules,
        optimizers as optimizers,
        proposers as proposers,
        pruners as pruners,
        samplers as samplers,
        signatures as signatures,
        storage as storage,
        study as study,
        testing as testing,
        tools as tools,
        trials as trials,
        types as types,
        variables as variables,
        visualization as visualization,
    )
    from dspex.adapters import (
        Adapter as Adapter,
        ChatAdapter as ChatAdapter,
        CompactAdapter as CompactAdapter,
        JSONAdapter as JSONAdapter,
        LinesAdapter as LinesAdapter,
        TwoStepAdapter as TwoStepAdapter,
        XMLAdapter as XMLAdapter,
    )
    from dspex.callbacks import (
        Callback as Callback,
        Span as Span,
    )
    from dspex.data import (
        Evaluation as Evaluation,
        Example as Example,
        Prediction as Prediction,
        Score as Score,
        Usage as Usage,
    )
    from dspex.errors import (
        TrialPruned as TrialPruned,
    )
    from dspex.evaluate import (
        Evaluate as Evaluate,
        EvaluationResult as EvaluationResult,
    )
    from dspex.execution import (
        Budget as Budget,
        UsageLedger as UsageLedger,
        configure as configure,
        context as context,
        settings as settings,
        track_usage as track_usage,
    )
    from dspex.lm import (
        LM as LM,
        BaseLM as BaseLM,
        BatchLM as BatchLM,
        Cache as Cache,
        MockLM as MockLM,
        inspect_history as inspect_history,
    )
    from dspex.modules import (
        ChainOfThought as ChainOfThought,
        FieldDelta as FieldDelta,
        Final as Final,
        Module as Module,
        ModuleChoice as ModuleChoice,
        Predict as Predict,
        ReAct as ReAct,
        Restart as Restart,
        Status as Status,
    )
    from dspex.optimizers import (
        BootstrapFewShot as BootstrapFewShot,
        JointSearch as JointSearch,
        LabeledFewShot as LabeledFewShot,
        OptimizationResult as OptimizationResult,
        Optimizer as Optimizer,
        optimize as optimize,
    )
    from dspex.signatures import (
        InputField as InputField,
        OutputField as OutputField,
        Signature as Signature,
        make_signature as make_signature,
    )
    from dspex.study import (
        Study as Study,
        Trial as Trial,
        copy_study as copy_study,
        create_study as create_study,
        delete_study as delete_study,
        get_all_study_names as get_all_study_names,
        get_all_study_summaries as get_all_study_summaries,
        load_study as load_study,
    )
    from dspex.tools import (
        Tool as Tool,
    )
    from dspex.trials import (
        FixedTrial as FixedTrial,
        FrozenTrial as FrozenTrial,
        StudyDirection as StudyDirection,
        TrialState as TrialState,
        create_trial as create_trial,
    )
    from dspex.types import (
        Audio as Audio,
        Citations as Citations,
        Code as Code,
        Document as Document,
        File as File,
        History as History,
        Image as Image,
        Reasoning as Reasoning,
        ToolCalls as ToolCalls,
    )
    from dspex.variables import (
        Bool as Bool,
        Choice as Choice,
        Demos as Demos,
        Domain as Domain,
        Float as Float,
        Int as Int,
        ModelChoice as ModelChoice,
        Order as Order,
        Prompt as Prompt,
        Space as Space,
        Subset as Subset,
        Variable as Variable,
        VariableState as VariableState,
        constraint as constraint,
        derived as derived,
        variable as variable,
    )


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"dspex.{name}")
    home = _HOMES.get(name)
    if home is None:
        from difflib import get_close_matches

        close = get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module 'dspex' has no attribute {name!r}{hint}", name=name)
    value = getattr(importlib.import_module(home), name)
    # Found the ordinary way from now on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
