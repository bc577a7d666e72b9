"""Takes the variables of a model apart: parameters, which are trained, and statistics, which are not.

Statistics are the running means and variances of batch normalisation, and those that stored vectors are
standardised by. They are kept in a Flax collection of their own beside the parameters, in checkpoints too.
"""

from collections.abc import Mapping
from typing import Any

STATISTICS = "batch_stats"  # the collection, under the name that Flax's own modules give it


def trainable(variables: Any) -> Any:
    """Returns a tree without its statistics.

    Args:
      variables: the variables of a model, in dicts of any depth.

    Example:
      >>> trainable({"encoder": {"params": {"w": 1}, "batch_stats": {"mean": 2}}, "memory": 3})
      {'encoder': {'params': {'w': 1}}, 'memory': 3}
    """
    if not isinstance(variables, Mapping):
        return variables
    return {name: trainable(part) for name, part in variables.items() if name != STATISTICS}


def with_statistics(params: Any, variables: Any) -> Any:
    """Returns parameters together with the statistics of a tree that has both.

    Args:
      params: the parameters, as ``trainable`` returns them.
      variables: the tree that has the statistics.

    Example:
      >>> with_statistics({"params": {"w": 5}}, {"params": {"w": 1}, "batch_stats": {"mean": 2}})
      {'params': {'w': 5}, 'batch_stats': {'mean': 2}}
    """
    if not isinstance(variables, Mapping):
        return params
    return {
        name: part if name == STATISTICS else with_statistics(params[name], part)
        for name, part in variables.items()
    }


def backbone_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters and statistics of an encoder's backbone, as the backbone alone has them.

    Args:
      variables: the parameters and statistics of an encoder, or their shapes.

    Example:
      >>> backbone_variables({"params": {"backbone": {"fc6": 1}, "heads": 2}})
      {'params': {'fc6': 1}}
    """
    return {name: part["backbone"] for name, part in variables.items() if "backbone" in part}


def with_backbone_variables(variables: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an encoder's variables with others for its backbone, as ``backbone_variables`` returns them.

    Args:
      variables: the parameters and statistics of an encoder.
      own: those of the backbone.

    Example:
      >>> with_backbone_variables({"params": {"backbone": 1, "heads": 2}}, {"params": 3})
      {'params': {'backbone': 3, 'heads': 2}}
    """
    return {
        name: {**part, "backbone": own[name]} if name in own else part for name, part in variables.items()
    }
