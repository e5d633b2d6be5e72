"""One update of the weights: a batch, its gradients in one part or several, the optimizers, the moving average.

Knows nothing of epochs, files or people.
"""

from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.batches import Batches, Part
from model.network.mixer import stochastic_depth
from model.training.loss import class_weights, summed_loss
from model.training.optimizers import sam_perturbation
from model.training.processes import shard_slices
from model.training.run_config import RunConfig
from model.training.run_state import RunState
from model.training.schedule import learning_rate

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """Advances the state of a run by one step."""

    def __init__(self, run_config: RunConfig, state: RunState) -> None:
        self._run_config, self._recipe, self._state = run_config, run_config.recipe, state
        config = run_config.config
        self.batches = Batches(
            run_config.dataset.train, run_config.recipe, config.num_classes, config.num_blocks, run_config.device
        )

    @cached_property
    def _class_weights(self) -> Tensor | None:
        """What each class counts, [K], where the recipe balances them."""
        if not self._recipe.balance:
            return None
        labels, num_classes = self._run_config.dataset.train.labels, self._run_config.config.num_classes
        return torch.from_numpy(class_weights(labels, num_classes, self._recipe.balance)).to(self._run_config.device)

    @cached_property
    def _network(self) -> nn.Module:
        """The compiled or distributed model, made at the first step: a refused run need not wait for it."""
        network: nn.Module = self._state.model
        if self._run_config.processes.count > 1:
            network = DistributedDataParallel(network)
        return torch.compile(network) if self._recipe.compile else network  # type: ignore[return-value]

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self._state.step, self.batches.per_epoch, self._recipe)

    def take(self) -> int:
        """Take one step; returns the number of pictures in its batch."""
        state, rate = self._state, self.learning_rate
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        total = len(self.batches.rows(state.step))
        places = self._places(total)
        own = [self.batches.part(state.step, some) for some in places]
        lessons = [self._teacher_logits(part, some) for part, some in zip(own, places, strict=True)]
        loss = self._gradients(own, lessons, total)
        if self._recipe.sam_rho:
            with sam_perturbation(state.model.parameters(), self._recipe.sam_rho):
                self._gradients(own, lessons, total)
        self._update()
        state.epoch_loss += loss
        state.step += 1
        return total

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self._run_config.device.type == "cuda":
            torch.cuda.synchronize(self._run_config.device)

    def _places(self, total: int) -> list[slice]:
        """This process's parts of a batch."""
        rank, each = self._run_config.processes.rank, self._recipe.accumulate
        return shard_slices(total, self._run_config.processes.count * each)[rank * each : (rank + 1) * each]

    def _teacher_logits(self, part: Part, places: slice) -> Tensor | None:
        run_config, teacher = self._run_config, self._run_config.teacher
        if teacher is None:
            return None
        run = partial(teacher.logits, part.for_teacher, run_config.config.num_classes)
        if run_config.lessons is None:
            return run()
        among_views = self.batches.places_among_views(self._state.step, places)
        return run_config.lessons.logits(among_views, run, run_config.device)

    def _gradients(self, own: list[Part], lessons: list[Tensor | None], total: int) -> Tensor:
        """Leave the batch's mean gradient in the parameters; return this process's share of the mean loss."""
        for optimizer in self._state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros_like(self._state.epoch_loss)
        for index, (part, lesson) in enumerate(zip(own, lessons, strict=True)):
            if isinstance(self._network, DistributedDataParallel):
                self._network.require_backward_grad_sync = index == len(own) - 1
            logits = self._logits(part)
            mean = summed_loss(logits, part.targets, lesson, self._recipe, self._class_weights) / total
            # DDP averages over processes, and these are shares of a sum
            scaled = self._state.scaler.scale(mean * self._run_config.processes.count)
            scaled.backward()  # type: ignore[no-untyped-call]
            loss += mean.detach()
        return loss

    def _logits(self, part: Part) -> Tensor:
        scales = None
        if part.branch_draws is not None:
            scales = stochastic_depth(part.branch_draws, self._recipe.stochastic_depth)
        half = _HALVES.get(self._run_config.precision)
        with torch.autocast(self._run_config.device.type, half, enabled=half is not None):
            logits: Tensor = self._network(part.pixels, scales)
        return logits.float()

    def _update(self) -> None:
        state = self._state
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), self._recipe.clip_norm)
        if not state.scaler.is_enabled() or norm.isfinite():  # where one optimizer's gradients overflow, none may step
            for optimizer in state.optimizers:
                state.scaler.step(optimizer)
        state.scaler.update()
        state.average.update_parameters(state.model)
