"""One run from its configuration to its result; every rank runs this."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from scaling.config import RunConfig
from scaling.data.loading import EvaluationSampler, GraphDataset, Loader, TrainSampler, stream
from scaling.errors import ConfigError, Interrupted, RunError
from scaling.models import count_parameters, training_flops
from scaling.optim import build_schedule, num_steps
from scaling.runs import RunDir, still_mine, stopping
from scaling.structure import IntArray
from scaling.training.batch import to_graphs
from scaling.training.checkpoint import Checkpoints
from scaling.training.constants import Constants, require_own_data
from scaling.training.engine import Engine, Prediction, construction
from scaling.training.guard import check_gradient, check_loss
from scaling.training.losses import Errors
from scaling.training.metrics import Means, Sums
from scaling.training.result import Outcome, describe
from scaling.training.task import Task
from scaling.training.tracking import Trackers
from scaling.training.world import World

#: Lines in metrics.jsonl and updates of status.json, in steps.
LOG_EVERY = 50
#: Edges of one batch of validation or test structures.
EVALUATION_EDGES = 40_000


def train(config: RunConfig, run: RunDir, world: World) -> None:
    """Train, validate, keep checkpoints, test, and write the result; resumes where an earlier attempt ended.

    Raises:
        ScalingError: for what a user can mend; RunError if the loss diverges, naming step and structures.
        Interrupted: if it was asked to stop (scaling/runs/stopping.py), after a checkpoint.
    """
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    Trainer(config, run, world).run()


class Trainer:
    """The state of one run."""

    def __init__(self, config: RunConfig, run: RunDir, world: World) -> None:
        self.config, self.run_dir, self.world = config, run, world
        self.is_first = world.rank == 0
        self.is_asked_to_stop = False
        self.task = task = Task.of(config)
        data_digest = task.shards.manifest.digest
        require_own_data(run, config, data_digest)
        torch.manual_seed(config.seed)
        with construction(config.zero):
            model = Constants.of(task).build(config, checkpointing=config.zero.checkpointing)
        self.parameters = count_parameters(model)
        self.engine = Engine(model, optim=config.optim, zero=config.zero, precision=config.train.precision, world=world)
        edges = self.task.edges[task.train]
        self._require_countable(int(edges.max()))
        self.flops_per_structure = training_flops(
            config.model,
            num_atoms=task.shards.num_atoms[task.train].mean(),
            num_edges=edges.mean(),
            forces=task.learns_forces,
        )
        self.steps = num_steps(
            config.train.budget,
            batch_size=config.train.batch_size,
            train_structures=len(task.train),
            flops_per_structure=self.flops_per_structure,
        )
        self.schedule = build_schedule(config.optim, width=config.model.width, steps=self.steps)
        self.loader = Loader(
            GraphDataset(
                task.shards,
                cutoff_ang=config.data.cutoff_ang,
                reference_ev=task.baseline.reference_ev,
                loss_weight=task.loss_weight,
                cache_mb=config.data.cache_mb,
            ),
            num_workers=config.data.num_workers,
        )
        self.checkpoints = Checkpoints(run.checkpoints, self.engine, config, data_digest)
        self.progress = self.checkpoints.resume()
        if self.progress.step and self.is_first:
            print(f"resumed at step {self.progress.step}", flush=True)
        self.trackers = Trackers.build(
            config.tracking,
            run.path,
            step=self.progress.step,
            keep_bytes=self.progress.metrics_bytes,
            is_first=self.is_first,
        )
        self.started = time.monotonic()

    def _require_countable(self, largest: int) -> None:
        """Both ends of a micro-batch's edges are counted in 32 bits."""
        train = self.config.train
        edges = max(train.max_edges, largest) if train.max_edges else train.batch_size * largest
        if 2 * edges >= 2**31:
            raise ConfigError(
                f"train.max_edges={train.max_edges} lets a micro-batch have {edges:,} edges (the largest structure has "
                f"{largest:,}), but {2**30 - 1:,} are the most; set train.max_edges, or lower data.cutoff_ang"
            )

    def run(self) -> None:
        """Train to the end of the budget, then test the best weights."""
        every = self.config.train
        loss_sum = self.progress.loss_sum
        batches = self._training_batches()
        for step in range(self.progress.step, self.steps):
            loss, grad_norm, lr = self._step(step, batches)
            loss_sum += loss
            self._note_spike(step, loss)
            done = step + 1
            at_end = done == self.steps
            if done % LOG_EVERY == 0 or at_end:
                mean = loss_sum / (done % LOG_EVERY or LOG_EVERY)
                loss_sum = 0.0
                self.trackers.log(done, train_loss=mean, grad_norm=grad_norm, lr=lr)
                self._write_status(done)
            if done % every.validate_every == 0 or at_end:
                self._validate(done)
            if (done % every.checkpoint_every == 0 or self.is_asked_to_stop) and not at_end:
                self._checkpoint(done, loss_sum)
                if self.is_asked_to_stop:
                    self._stop(done)
        self._finish()

    def _training_batches(self) -> Iterator[Data]:
        return self.loader.batches(self._sampler())

    def _sampler(self) -> TrainSampler:
        config = self.config
        return TrainSampler(
            structures=self.task.train,
            cost=self.task.edges,
            batch_size=config.train.batch_size,
            seed=config.seed,
            rank=self.world.data_rank,
            num_ranks=self.world.data_size,
            max_edges=config.train.max_edges,
            start=self.progress.step,
            stop=self.steps,
        )

    def _step(self, step: int, batches: Iterator[Data]) -> tuple[float, float, float]:
        """One optimisation step; returns the batch's mean loss, the gradient's norm and the learning rate."""
        self.engine.module.train()
        task = self.task
        train_loss, loss_sum = task.train_loss, 0.0
        while True:
            batch = next(batches)
            assert batch.step == step, "loader and loop disagree about the step"
            batch = batch.to(self.world.device)
            prediction = self._predict(batch, forces=task.learns_forces)
            errors = _errors(batch, prediction.energy_G, prediction.forces_N3)
            losses_G = train_loss.per_structure(errors, task.upweight)
            loss = (losses_G * batch.loss_weight).sum() * (batch.weight / self.config.train.batch_size)
            loss_sum += loss.item()
            usual = train_loss.composition_only
            check_loss(loss_sum, composition_only=usual, step=step, structures=list(batch.structures))
            prediction.backward(loss, is_last=batch.is_last)
            if batch.is_last:
                break
        lr = self.schedule(step)
        grad_norm = self.engine.step(lr)
        check_gradient(grad_norm, step=step, structures=self._structures(step))
        mine = torch.tensor([loss_sum * self.world.speaks_for_group, stopping.is_asked()], dtype=torch.float64)
        total, asked = self.world.sum(mine).tolist()
        self.is_asked_to_stop = asked > 0  # by all ranks at the same step
        return total, grad_norm, lr

    def _structures(self, step: int) -> list[int]:
        """All that a step learns from, over all ranks."""
        batch, num = self.config.train.batch_size, len(self.task.train)
        chosen = stream(num, seed=self.config.seed, start=step * batch, length=batch)
        return [int(index) for index in self.task.train[chosen]]

    def _note_spike(self, step: int, loss: float) -> None:
        history = self.progress.history
        spikes = self.progress.spikes
        if history.is_spike(loss):
            spikes += 1
            structures = self._structures(step)
            self.trackers.log(step + 1, spike_loss=loss, usual_loss=history.usual, structures=structures)
        self.progress = replace(self.progress, history=history.after(loss), spikes=spikes)

    def _predict(self, batch: Data, *, forces: bool) -> Prediction:
        """Energies, and forces if they are asked for; all ranks that share the batch take part."""
        graphs = to_graphs(batch)
        self.world.require_same(graphs)
        return self.engine.forward(graphs.divided(self.world.group), forces=forces)

    def evaluate(self, structures: IntArray) -> Means:
        """Mean errors over the given structures, the same on every rank."""
        self.engine.module.eval()
        most = min(EVALUATION_EDGES, self.config.train.max_edges or EVALUATION_EDGES)
        sums = Sums.zero()
        forces = bool(self.task.shards.has("forces")[structures].any())
        with torch.no_grad():
            for batch in self.loader.batches(self._evaluation_sampler(structures, most)):
                batch = batch.to(self.world.device)
                prediction = self._predict(batch, forces=forces)
                sums += Sums.of(_errors(batch, prediction.energy_G, prediction.forces_N3)) * batch.weight
        return self._over_ranks(sums)

    def _evaluation_sampler(self, structures: IntArray, max_edges: int) -> EvaluationSampler:
        return EvaluationSampler(structures, self.task.edges, self.world.data_rank, self.world.data_size, max_edges)

    def _over_ranks(self, sums: Sums) -> Means:
        """Means of all structures, from each rank's sums."""
        return Means.of(Sums(self.world.sum(sums.vector * self.world.speaks_for_group)))

    def _validate(self, step: int) -> None:
        """Measure the validation loss, and keep the weights if they are the best so far."""
        means = self.evaluate(self.task.split.val)
        loss = self.task.judge_loss.mean(means.norms)
        self.trackers.log(
            step,
            val_loss=loss,
            val_energy_mae_ev_per_atom=means["energy_mae_ev_per_atom"],
            val_force_mae_ev_per_ang=means["force_mae_ev_per_ang"],
        )
        best = self.progress.best_val_loss
        if math.isfinite(loss) and (best is None or loss < best):
            self.checkpoints.save_best(step)
            self.progress = replace(self.progress, best_step=step, best_val_loss=loss)

    def _checkpoint(self, step: int, loss_sum: float) -> None:
        """Save all that the rest of the run depends on, unless another process has taken the run over."""
        self.progress = replace(
            self.progress,
            step=step,
            metrics_bytes=self.trackers.num_bytes(),
            loss_sum=loss_sum,
            seconds=self._seconds(),
        )
        if not still_mine(self.run_dir.path):
            raise RunError(f"{self.run_dir.path} was taken over by another process while this one stood still")
        self.checkpoints.save(self.progress)
        self.started = time.monotonic()

    def _stop(self, step: int) -> None:
        message = f"stopped at step {step} of {self.steps}, to go on from there"
        if self.is_first:
            print(message, flush=True)
            self.run_dir.write_status("waiting", step=step, num_steps=self.steps, failure=message, fruitless=0)
        self.world.barrier()
        raise Interrupted(message)

    def _finish(self) -> None:
        """Test the best weights, and leave weights, constants and result."""
        if self.progress.best_val_loss is None:
            raise RunError(f"no validation loss was finite in {self.steps} steps: nothing to test")
        self.checkpoints.load_best(self.progress.best_step)
        test = self.evaluate(self.task.split.test)
        extra = {name: self.evaluate(structures) for name, structures in self.task.split.extra_tests.items()}
        baseline = self._baseline_test()
        self.trackers.close()
        if self.is_first:
            self.checkpoints.publish_best(self.progress.best_step)
            Constants.of(self.task).write(self.run_dir)
            imbalance = self._sampler().imbalance()
            outcome = Outcome(test, extra, baseline, self.progress, self.steps, self._seconds(), imbalance)
            self.run_dir.write_result(
                describe(
                    self.run_dir.run_id,
                    self.config,
                    self.task,
                    outcome,
                    self.parameters,
                    self.flops_per_structure,
                    self.world,
                )
            )
            self._write_status(self.steps, state="done")
        self.world.barrier()

    def _baseline_test(self) -> Means:
        """The composition-only model on the test structures: the labels less references are its errors."""
        sums = Sums.zero()
        for micro_batch in self._evaluation_sampler(self.task.split.test, EVALUATION_EDGES):
            batch = self.loader.dataset.labels(micro_batch)
            errors = _errors(batch, torch.zeros_like(batch.energy), torch.zeros_like(batch.forces))
            sums += Sums.of(errors) * batch.weight
        return self._over_ranks(sums)

    def _seconds(self) -> float:
        return self.progress.seconds + time.monotonic() - self.started

    def _write_status(self, step: int, state: str = "running") -> None:
        if self.is_first:
            self.run_dir.write_status(state, step=step, num_steps=self.steps)


def _errors(batch: Data, energy_G: Tensor, forces_N3: Tensor | None) -> Errors:
    return Errors.of(
        energy_G,
        forces_N3,
        true_energy_G=batch.energy,
        true_forces_N3=batch.forces,
        graph_N=batch.batch,
        num_atoms_G=batch.num_atoms,
        labelled={"energy": batch.has_energy, "forces": batch.has_forces},
    )
