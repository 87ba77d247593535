"""Divergence ends a run; a spike of the loss is recorded with the structures that it happened on."""

from dataclasses import dataclass, replace

from scaling.errors import RunError

#: A loss this many times that of the composition-only model has diverged.
DIVERGED = 1e4
#: An absolute-error loss never has gradients this small, unless activations have died and outputs become constant.
COLLAPSED = 1e-6
#: A spike is a loss this many times the usual one.
SPIKE = 5.0
#: Steps over which the usual loss is a running mean, and before which there is none.
MEMORY = 50


@dataclass(frozen=True)
class LossHistory:
    """The running mean of the loss over the last steps; part of a run's progress, so that it survives a restart."""

    steps: int = 0
    usual: float = 0.0

    def is_spike(self, loss: float) -> bool:
        """Whether a loss stands out from those before it."""
        return self.steps >= MEMORY and loss > SPIKE * self.usual

    def after(self, loss: float) -> "LossHistory":
        """With one more step; a spike enters only as the height where it begins to be one."""
        counted = min(loss, SPIKE * self.usual) if self.steps >= MEMORY else loss
        share = 1 / min(self.steps + 1, MEMORY)
        return replace(self, steps=self.steps + 1, usual=self.usual + share * (counted - self.usual))


def check_loss(loss: float, *, composition_only: float, step: int, structures: list[int]) -> None:
    """Stop at a loss that is not a number, or far above that of the composition-only model.

    Raises:
        RunError: naming the step and the structures of its batch.
    """
    if not loss < DIVERGED * composition_only:  # also true of NaN
        raise _diverged(step, f"the loss is {loss:.3g}", structures)


def check_gradient(norm: float, *, step: int, structures: list[int]) -> None:
    """Stop at a gradient that is not finite, or has vanished.

    Raises:
        RunError: naming the step and the structures of its batch.
    """
    if not COLLAPSED < norm < float("inf"):  # also true of NaN
        raise _diverged(step, f"the gradient norm is {norm:.3g}", structures)


def _diverged(step: int, what: str, structures: list[int]) -> RunError:
    return RunError(
        f"diverged at step {step}: {what} on structures {structures}; lower optim.lr, or look at these structures' "
        "labels"
    )
