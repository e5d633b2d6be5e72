"""One pupil that learns from stored lessons, step by step, with a state for a file.

On a GPU the lessons lie on it, and a step moves nothing between it and the host.
"""

import pickle
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from model.distillation.codes import Codes
from model.distillation.head import Head
from model.distillation.lessons import Lessons
from model.distillation.options import DistilOptions
from model.distillation.pupil import Pupil, Targets, Weights, at_tokens, make_local, targets_of
from model.errors import TrainingError
from model.network.checkpoint_folder import write_atomically
from model.network.mixer import MlpMixer
from model.preprocess import patchify
from model.training.muon import StackedMuon
from model.training.precision import has_bf16
from model.weights.config import MixerConfig

_PARTS = Weights._fields
_LIGHT, _SHIFT = 0.1, 8.0  # deviations of a pupil's own light: of a factor's logarithm, and in grey levels
_ADAM_BETAS = (0.9, 0.98)
_OF_A_RUN = ("batch_size", "seed", "local")
_SAID = {
    "codes": "the sum of the teacher's middle codes",
    "late codes": "the sum of the teacher's late codes",
    "beginning": "the beginning",
}


class Learner:
    """A pupil, its optimizers and the average of its weights, at some step of a run."""

    def __init__(
        self,
        options: DistilOptions,
        config: MixerConfig,
        lessons: Lessons,
        codes: tuple[Codes, Codes],
        head: Head,
        device: torch.device,
    ) -> None:
        self.options, self._device = options, device
        self._lessons = Lessons(*(getattr(lessons, field.name).to(device) for field in fields(Lessons)))
        self._codes = [Codes(*(getattr(one, field.name).to(device) for field in fields(Codes))) for one in codes]
        self._head = Head(*(getattr(head, field.name).to(device) for field in fields(Head)))
        self._config, self._grid = config, config.image_size // config.patch_size
        torch.manual_seed(options.seed)
        sizes = (len(codes[0].deviations), len(codes[1].deviations), len(head.mean))
        self.pupil = Pupil(config, *sizes).to(device)
        if options.local:
            make_local(self.pupil.network)
        self.average = AveragedModel(self.pupil, multi_avg_fn=self._move).eval()
        self.average.n_averaged.fill_(1)
        self._optimizers = self._build_optimizers()
        self._compiled: nn.Module = torch.compile(self.pupil) if options.compile else self.pupil  # type: ignore[assignment]
        self._weights = Weights(
            options.maps_weight, options.maps_weight, options.features_weight,
            options.logits_weight, options.labels_weight, options.unlabelled_weight,
        )  # fmt: skip
        self._summed = torch.zeros(len(_PARTS), device=device)
        self.step, self._began = 0, "at random"
        self._order, self._order_of = torch.empty(0, dtype=torch.int64), -1

    @property
    def network(self) -> MlpMixer:
        """The averaged network."""
        return cast(Pupil, self.average.module).network

    def begin_with(self, network: MlpMixer) -> None:
        """Take on another network's weights before the first step, its average's too."""
        self._began = (
            f"with weights of sum {sum(float(each.detach().double().sum()) for each in network.parameters()):.6f}"
        )
        for pupil in (self.pupil, cast(Pupil, self.average.module)):
            pupil.network.load_state_dict(network.state_dict())

    def take_step(self) -> None:
        """Learn one batch."""
        rate, options = self.rate(self.step), self.options
        for optimizer, full in zip(self._optimizers, (options.learning_rate, options.rate_of_others), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * full
        patches, targets = self._batch(self._rows(self.step))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=has_bf16(self._device)):
            losses = torch.stack(self._compiled(patches, targets))
        loss = (losses * torch.tensor(self._weights, device=self._device)).sum()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.pupil.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update_parameters(self.pupil)
        self._summed += losses.detach()
        self.step += 1

    def rate(self, step: int) -> float:
        """The share of the full learning rate at a step: up, level, and down in a straight line."""
        options = self.options
        up = min(1.0, (step + 1) / max(1, options.warmup_steps))
        left = options.steps - step
        return up * min(1.0, left / options.cool_steps) if options.cool_steps else up

    def losses_since(self, steps: int) -> dict[str, float]:
        """The means of the losses over the last so many steps, by part; starts to sum anew."""
        means = (self._summed / max(1, steps)).tolist()
        self._summed.zero_()
        return dict(zip(_PARTS, means, strict=True))

    # --- a batch ---

    def _rows(self, step: int) -> Tensor:
        """Which lessons a step takes: every one once in an epoch, in an order that the seed and the epoch decide."""
        size = self.options.batch_size
        per_epoch = len(self._lessons) // size
        epoch, place = divmod(step, per_epoch)
        if self._order_of != epoch:
            generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self._lessons), generator=generator).to(self._device)
            self._order_of = epoch
        return self._order[place * size : (place + 1) * size]

    def _batch(self, rows: Tensor) -> tuple[Tensor, Targets]:
        """Patches float32 [N, S, P*P*C] of mirrored and relit lessons, and their targets."""
        lessons, config, count = self._lessons, self._config, len(rows)
        generator = torch.Generator(self._device).manual_seed(self.options.seed * 1_000_003 + self.step)
        flipped = (torch.rand(count, generator=generator, device=self._device) < 0.5)[:, None, None, None]
        images, middle, late = (
            torch.where(flipped, chosen.flip(2), chosen)
            for chosen in (lessons.images[rows], lessons.middle[rows], lessons.late[rows])
        )
        pixels = images.permute(0, 3, 1, 2).float()  # N C H W
        if pixels.shape[-1] != config.image_size:
            size = (config.image_size, config.image_size)
            pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        draws = torch.randn(2, count, 1, 1, 1, generator=generator, device=self._device)
        pixels = (pixels - 127.5) * (draws[0] * _LIGHT).exp() + 127.5 + draws[1] * _SHIFT
        features = lessons.features[rows]
        targets = targets_of(
            at_tokens(self._codes[0].targets(middle), self._grid),
            at_tokens(self._codes[1].targets(late), self._grid),
            self._head.standardized(features),
            self._head.logits(features),
            lessons.labels[rows], lessons.other_labels[rows], lessons.shares[rows],
        )  # fmt: skip
        return patchify(pixels.permute(0, 2, 3, 1), config.patch_size), targets

    # --- the state ---

    def write(self, path: Path) -> None:
        """Save the state to go on from."""
        content = {
            "step": self.step,
            "identity": self._identity,
            "pupil": self.pupil.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        write_atomically(path, lambda new: torch.save(content, new))

    def read(self, path: Path) -> None:
        """Take on a saved state. Raises TrainingError where the file is of another network, or of another run."""
        try:
            saved: Mapping[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
            self._expect_same_run(path, saved["identity"])
            self.pupil.load_state_dict(saved["pupil"])
            self.average.module.load_state_dict(saved["average"])
            for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            self.step = saved["step"]
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{path} cannot be read as a run to go on with: {str(error)[:300]}") from error
        self.average.n_averaged.fill_(1 + self.step)

    def _expect_same_run(self, path: Path, identity: Mapping[str, Any]) -> None:
        for name, now in self._identity.items():
            if (there := identity.get(name, now)) != now:  # earlier states do not know all of it
                said = _SAID.get(name, f"--{name.replace('_', '-')}")
                raise TrainingError(
                    f"{path} is of a run in which {said} was {there}; expected the same, not {now}. "
                    "Another --out begins anew."
                )

    @property
    def _identity(self) -> dict[str, Any]:
        """What a run that goes on must have as it was: all but its length, rates, weights and log."""
        options = self.options.model_dump(mode="json", include=set(_OF_A_RUN))
        codes, late_codes = (float(one.deviations.double().sum()) for one in self._codes)
        return {"codes": codes, "late codes": late_codes, "beginning": self._began, **options}

    def _move(self, averages: Any, parameters: Any, count: Tensor | int) -> None:
        done = int(count)
        torch._foreach_lerp_(averages, parameters, 1 - min(self.options.ema_decay, done / (9 + done)))

    def _build_optimizers(self) -> list[torch.optim.Optimizer]:
        options, pupil = self.options, self.pupil
        inner = [kernel for kernel in pupil.network.blocks.parameters() if kernel.ndim > 1]
        known = set(map(id, inner))
        kernels = [p for p in pupil.parameters() if p.ndim > 1 and id(p) not in known]
        rest = [p for p in pupil.parameters() if p.ndim <= 1]
        adam = torch.optim.AdamW(
            [{"params": kernels, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=options.rate_of_others,
            betas=_ADAM_BETAS,
        )
        muon = StackedMuon(inner, lr=options.learning_rate, weight_decay=options.weight_decay)
        return [muon, adam]
