"""What is wrong with the losses of a run."""

import collections
import logging
import statistics

import numpy as np

from genrec_jax.errors import UserError

_log = logging.getLogger(__name__)
_SPIKE = 3.0  # times the median of so many dispatches, once there are so many at least:
_WINDOW, _LEAST = 20, 5


class LossWatch:
    """Ends a run whose loss is not finite, and tells of losses that jump."""

    def __init__(self, name: str, skip_nonfinite: int):
        """`skip_nonfinite` updates in a row may be left out because they are not finite."""
        self._name, self._skip = name, skip_nonfinite
        self._medians = collections.deque(maxlen=_WINDOW)

    def see(self, first_step: int, losses: np.ndarray, in_a_row: int) -> int:
        """Looks at the losses of one dispatch.

        Args:
            first_step: the number of the first of its steps, of which a run's first is 1.
            losses: [steps], not finite where the loss or its gradient was not.
            in_a_row: how many steps in a row were so just before.

        Returns:
            How many are so at the end.

        Raises:
            UserError: if more are so in a row than may be left out.
        """
        is_finite = np.isfinite(losses)
        for place, fine in enumerate(is_finite):
            in_a_row = 0 if fine else in_a_row + 1
            if in_a_row > self._skip:
                raise UserError(self._end(first_step + place, in_a_row))
        if not is_finite.all():
            where = first_step + int(np.argmin(is_finite))
            count = int((~is_finite).sum())
            _log.warning(
                "%s: left out %d of %d updates, which are not finite, the first at step %d",
                *(self._name, count, len(losses), where),
            )
        if is_finite.any():
            self._compare(first_step, np.where(is_finite, losses, -np.inf))
            self._medians.append(float(np.median(losses[is_finite])))
        return in_a_row

    def _end(self, step: int, in_a_row: int) -> str:
        where = f"step {step}" if in_a_row == 1 else f"the {in_a_row} steps up to {step}"
        return (
            f"{self._name}: the loss or its gradient is not finite at {where}: lower "
            "--config.optimizer.learning_rate, or leave out such updates by "
            "--config.skip_nonfinite=10, and start again in another --workdir"
        )

    def _compare(self, first_step: int, losses: np.ndarray) -> None:
        place = int(np.argmax(losses))
        usual = statistics.median(self._medians) if len(self._medians) >= _LEAST else np.inf
        if losses[place] > _SPIKE * usual > 0:
            _log.warning(
                "%s: the loss is %.4g at step %d, %.2g times the median of the steps before",
                *(self._name, losses[place], first_step + place, losses[place] / usual),
            )
