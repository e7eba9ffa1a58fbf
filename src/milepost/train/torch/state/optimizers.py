"""Parameter groups of optimizers, matched by the names of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from milepost.train.torch.state.tree import options_of


class Groups:
    """Which saved group is which of an optimizer's; the order of neither counts.

    Args:
        optimizer: to be loaded.
        names: those of its parameters, in its order.
        saved: names of parameters by saved group.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        names: Sequence[str],
        saved: Sequence[Sequence[str]],
    ) -> None:
        self._optimizer = optimizer
        self._names = names
        #: Its parameters, in its order.
        self.parameters = [one for group in optimizer.param_groups for one in group["params"]]
        #: What does not fit, as sentences.
        self.problems = self._differences({name for group in saved for name in group})
        #: For each group, the saved one's number.
        self._found: list[int] = []
        if self.problems:
            return
        left = dict(enumerate(map(set, saved)))
        for number, group in enumerate(options_of(optimizer)[1]):
            here = {names[at] for at in group["params"]}
            found = next((at for at, those in left.items() if those == here), None)
            if found is None:
                self.problems.append(
                    f"no saved group has just the parameters of group {number} here, which are "
                    f"{_listed(here)}. Make the groups as they were when the state was saved."
                )
                return
            left.pop(found)
            self._found.append(found)

    def _differences(self, saved: set[str]) -> list[str]:
        here = set(self._names)
        return [
            f"{text}: {_listed(names)}."
            for text, names in (
                ("it has parameters that the saved optimizer did not have", here - saved),
                ("it lacks parameters that the saved optimizer had", saved - here),
            )
            if names
        ]

    def load(self, saved: Sequence[dict[str, Any]], state: dict[str, dict[Any, Any]]) -> None:
        """Give the optimizer the options of the saved groups, and state by name of parameter."""
        numbers = {name: number for number, name in enumerate(self._names)}
        groups: list[dict[str, Any]] = []
        for group, found in zip(options_of(self._optimizer)[1], self._found, strict=True):
            own = {name: group[name] for name in ("params", "param_names") if name in group}
            groups.append(saved[found] | own)
        by_number = {numbers[name]: entries for name, entries in state.items()}
        self._optimizer.load_state_dict({"state": by_number, "param_groups": groups})


def _listed(names: set[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(sorted(names)[:3]) or 'none'}{more}"
