"""How a Trainer's fit is made and run, on one rank or on several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

from . import checkpoint as checkpoints
from .divergence import BadRowError
from .fit import Fit
from .fit_state import FitState
from .history import History
from .progress import Progress
from .restarts import BestOf
from .resuming import Resuming
from .run import Run
from .samples import Data
from .sampling import Indices, batch_bounds
from .snapshot import TrainerState
from .stream import Stream

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass
class Aside:
    """What differs in a fit that runs beside others (`fit_many`).

    Attributes:
        bar: what shows its progress.
        on_divergence: in place of the trainer's; "note": stop, and say so in the history alone.
    """

    bar: Progress
    on_divergence: str


class Fitting(Resuming):
    """What a `Trainer` does beneath `fit`."""

    def _kinds(self) -> tuple[type[Run], type[Stream]]:
        """What runs a fit of arrays, and one of a stream."""
        if self._world.size == 1:
            return Run, Stream
        from .distributed import Ranked, RankedStream

        return Ranked, RankedStream

    def _rules(self, attempt: int = 0) -> list[Any]:
        """The stopping rules of a fit, or of one of its starts, begun anew."""
        rules = self._all_rules
        for rule in rules:
            if attempt == 0 or not rule.across_restarts:
                rule.start()
        return rules

    def _job_of(
        self,
        data: Data,
        held: Data | None,
        epochs: int,
        hooks: list[Any],
        aside: Aside | None = None,
    ) -> Fit | BestOf:
        """The fit of canonical data that were checked; it goes on with one that was cut short."""
        trainer, at = cast("Trainer", self), self._cut_short

        def begin(attempt: int, at: FitState | None) -> Fit:
            run = self._kinds()[0](trainer, data, held, epochs, self._rules(attempt))
            if aside is None:
                return Fit(trainer, run, epochs, hooks, at)
            run.on_divergence = aside.on_divergence
            return Fit(trainer, run, epochs, hooks, at, aside.bar)

        return begin(0, at) if self.restarts == 1 else BestOf(trainer, begin, at)

    def _train(self, job: Fit | BestOf, before: TrainerState | None = None) -> History:
        """Run a fit to its end, and keep what it leaves.

        before: where a row that is not finite, met on the way, takes everything back to.
        """
        at = self._cut_short
        self._cut_short = None
        try:
            self._job = job
            history = job.train()
        except BadRowError as error:
            if before is None:
                raise
            before.restore(cast("Trainer", self))
            self._job, self._cut_short = None, at
            written, text = job.wrote, f"{error} Nothing has changed"
            if written is not None:
                with self._world.agreeing():
                    self.save(written)
                text += f" ({written} was written meanwhile, and is so again)"
            text += "."
            raise ValueError(text) from None
        finally:
            self._job = None
        if self.checkpoint is not None:
            with self._world.agreeing():
                self.save(self.checkpoint)
        return history

    def _check_ranks(self, **given: Any) -> None:
        """On several ranks: all were given the same, and stand where the first does.

        given: facts about the arguments of a fit.
        """
        if self._world.size == 1:
            return
        net = self.network
        facts = given | checkpoints.settings(self)
        facts |= {name: getattr(self, name) for name in ("seed", "epoch", "step", "on_divergence")}
        facts |= {"rules": checkpoints.rules(self), "metrics": list(self.metrics)}
        facts |= {f"network's {name}": value for name, value in net.architecture().items()}
        facts["fit cut short"] = self._cut_short is not None
        facts["schedule_state"] = self.schedule_state
        numbers = {"parameters": net._parameters, "optimizer rows": self._state}
        numbers["running statistics"] = net._running
        for name, array in numbers.items():
            facts[name] = f"checksum {crc32(array.data.cast('B')) if array.size else 0:08x}"
        self._world.check_same(facts)

    def _bounds(self, samples: int) -> Indices:
        """Where the batches of an epoch of so many samples begin, and the end of the last."""
        size = min(self.batch_size or samples, samples)
        return batch_bounds(samples, size, self.network._normed)
