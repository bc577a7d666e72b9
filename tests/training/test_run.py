import dataclasses
import itertools
import json
import os
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.variants import SYSTEMS
from gradrev_jax.data.triplets import generate_triplets
from gradrev_jax.errors import ConfigError, DataError, DivergedError, WeightsError, WorkdirError
from gradrev_jax.runs import builders
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.loggers.registry import LOGGERS
from gradrev_jax.runs.metrics_log import MetricsLog
from gradrev_jax.runs.restore import restore
from gradrev_jax.runs.workdir_lock import hold_workdir
from gradrev_jax.training import opening, stage_observer, stages
from gradrev_jax.training import run as training_run
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.run import train
from gradrev_jax.training.stopping import TrainingStopped
from gradrev_jax.training.update import make_update
from gradrev_jax.training.validation import Validation


def run(config, directory):
    return train(config, directory, progress=False)


def records(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def checkpoint_steps(directory, stage="encoder"):
    with Checkpoints(directory / "checkpoints" / stage, read_only=True) as checkpoints:
        return checkpoints.steps


def assert_same(left, right):
    """To the bit."""
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Parameters of runs that were never interrupted, by their config."""
    finished = {}

    def parameters(config):
        key = config.to_json()
        if key not in finished:
            finished[key] = run(config, tmp_path_factory.mktemp("whole"))
        return finished[key]

    return parameters


def before_each_call(monkeypatch, do):
    """Call do(state, targets) before each call of the compiled steps."""
    compile_steps = Parallel.compile

    def compile_watched(self, *arguments, **settings):
        steps = compile_steps(self, *arguments, **settings)
        return lambda state, inputs, targets: (do(state, targets), steps(state, inputs, targets))[1]

    monkeypatch.setattr(Parallel, "compile", compile_watched)


def die_before_step(monkeypatch, fatal, stage="encoder"):
    """Stop the process's work, as Ctrl-C does, before a step is done."""

    def die(state, targets):
        if ("memory" in state.params) == (stage == "memory") and int(state.step) == fatal:
            raise KeyboardInterrupt

    before_each_call(monkeypatch, die)


@pytest.mark.long
def test_a_run_leaves_what_it_promises(tiny_config, tmp_path):
    state = run(tiny_config, tmp_path / "run")
    assert int(state.step) == 8
    left = {path.name for path in (tmp_path / "run").iterdir()}
    folders = {"tensorboard", "checkpoints"}
    assert left == {"config.json", "schema.json", "catalogue.npz", "metrics.jsonl"} | folders
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["batch_size"] == 8
    steps = [record for record in records(tmp_path / "run") if "loss_cls" in record]
    assert [record["step"] for record in steps] == [2, 4, 6, 8]
    for record in steps:
        assert record["stage"] == "encoder"
        assert record["loss_cls"] > 0
        assert record["loss_rev"] > 0
        assert record["w_rev"] == pytest.approx(0.1 * record["loss_cls"] / record["loss_rev"], rel=1e-4)
        assert record["loss"] == pytest.approx(1.1 * record["loss_cls"], rel=1e-4)
        assert record["images_per_second"] > 0
        others = [loss for row in record["pathways"].values() for loss in row.values()]
        assert sum(others) == pytest.approx(record["loss_cls"] + record["loss_rev"], rel=1e-4)
        assert record["feature_norms"].keys() == record["pathways"].keys()
        assert min(record["feature_norms"].values()) > 0
    epochs = [record for record in records(tmp_path / "run") if "validation_accuracy" in record]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert set(epochs[0]["validation_accuracy"]) == {"macro", "micro", "per_attribute"}
    assert checkpoint_steps(tmp_path / "run")[-1] == 8
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_training_learns(tiny_config, tmp_path):
    tiny_config.train.epochs = 40
    tiny_config.reversal.weighting = "off"
    run(tiny_config, tmp_path)
    losses = [record["loss_cls"] for record in records(tmp_path) if "loss_cls" in record]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.long
def test_an_interrupted_run_ends_in_the_same_parameters(tiny_config, tmp_path, monkeypatch, whole):
    tiny_config.train.checkpoint_every = 3
    with monkeypatch.context() as patch:
        die_before_step(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config, tmp_path)
    assert checkpoint_steps(tmp_path)[-1] == 6
    assert_same(run(tiny_config, tmp_path), whole(tiny_config))
    steps = [record["step"] for record in records(tmp_path) if "loss_cls" in record]
    assert steps == sorted(set(steps))


@pytest.mark.long
def test_a_run_may_go_on_with_other_loggers(tiny_config, tmp_path, monkeypatch, whole):
    tiny_config.train.loggers = ()
    with monkeypatch.context() as patch:
        die_before_step(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config, tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    tiny_config.train.loggers = ("tensorboard",)
    assert_same(run(tiny_config, tmp_path), whole(tiny_config))
    assert list((tmp_path / "tensorboard" / "encoder").iterdir())


def test_a_tracker_that_is_not_installed_is_an_error_before_anything_is_written(
    tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(LOGGERS["wandb"], "package", "not_there")
    tiny_config.train.loggers = ("tensorboard", "wandb")
    with pytest.raises(ConfigError, match=r"needs the package not_there.*'gradrev_jax\[wandb\]'"):
        run(tiny_config, tmp_path / "run")
    tiny_config.train.loggers = ("tensorbord",)
    with pytest.raises(
        ConfigError, match=r"train.loggers = \('tensorbord',\): .*; did you mean tensorboard\?"
    ):
        run(tiny_config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_adversaries_go_on_where_they_were(tiny_config, tmp_path, monkeypatch, whole):
    """To the bit; and the checkpoint is read without them by all that does not train on."""
    tiny_config.update_from_flattened_dict(SYSTEMS["repaired"])
    with monkeypatch.context() as patch:
        die_before_step(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config, tmp_path)
    assert checkpoint_steps(tmp_path)[-1] == 4
    end = run(tiny_config, tmp_path)
    assert_same(end, whole(tiny_config))
    encoder = builders.build_encoder(tiny_config, builders.open_catalogue(tiny_config).schema)
    assert_same(restore(tmp_path, "encoder", encoder, 64, "latest").params, end.params)
    logged = [record for record in records(tmp_path) if "loss_removal" in record]
    assert [record["step"] for record in logged] == [2, 4, 6, 8]
    assert logged[-1]["loss_removal"] > 0 < logged[-1]["loss_adversaries"]
    assert logged[-1]["w_rev"] == pytest.approx(0.3)


def test_a_run_that_died_before_its_first_checkpoint_starts_over(tiny_config, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        die_before_step(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config, tmp_path)
    assert_same(run(tiny_config, tmp_path), whole(tiny_config))
    assert [record["step"] for record in records(tmp_path) if "loss_cls" in record] == [2, 4, 6, 8]


def test_a_run_goes_on_to_more_epochs(tiny_config, tmp_path, whole):
    expected = whole(tiny_config)
    tiny_config.train.max_steps = 3
    assert int(run(tiny_config, tmp_path).step) == 3
    tiny_config.train.max_steps = None
    assert_same(run(tiny_config, tmp_path), expected)


def test_a_finished_run_is_left_as_it_is(tiny_config, tmp_path):
    first = run(tiny_config, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert_same(run(tiny_config, tmp_path), first)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
def test_the_seed_decides_everything(tiny_config, tmp_path, whole):
    expected = whole(tiny_config)
    assert_same(run(tiny_config, tmp_path / "again"), expected)
    tiny_config.seed = 1
    other = run(tiny_config, tmp_path / "other")
    assert not np.array_equal(jax.tree.leaves(other.params)[0], jax.tree.leaves(expected.params)[0])


def test_another_config_is_refused_and_changes_nothing(tiny_config, tmp_path):
    tiny_config.train.max_steps = 1
    run(tiny_config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    tiny_config.train.learning_rate = 0.5
    with pytest.raises(WorkdirError, match=r"train.learning_rate: 0.001 there, 0.5 now"):
        run(tiny_config, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.long
def test_a_diverged_state_is_named_and_never_saved(tiny_config, tmp_path):
    tiny_config.train.learning_rate = 1e30
    tiny_config.train.checkpoint_every = 1
    with pytest.raises(
        DivergedError,
        match=r"diverged: at step 2 of stage encoder loss = .*, loss_rev = .*; the checkpoint of step 1 is "
        r"kept. In a new --workdir, lower train.learning_rate \(now 1e\+30\), set train.clip_norm=1 or lower "
        r"reversal.beta \(now 0.1\)\.$",
    ):
        run(tiny_config, tmp_path)
    assert checkpoint_steps(tmp_path) == (1,)


def test_without_a_validation_part_the_latest_checkpoint_stands(tiny_config, tmp_path):
    tiny_config.train.validation_fraction = 0.0
    run(tiny_config, tmp_path)
    assert not any("validation_accuracy" in record for record in records(tmp_path))
    with Checkpoints(tmp_path / "checkpoints" / "encoder", read_only=True) as checkpoints:
        assert checkpoints.best_step == checkpoints.latest_step == 8


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bfloat16"},
        {"reversal.weighting": "schedule", "model.heads": "pairwise"},
        {"reversal.weighting": "fixed", "reversal.reach": "mlp", "model.tap": "fc7"},
        {"reversal.strengths": ((0.5,) * 6,) * 6},
        {"train.attribute_triplet_weight": 0.2, "train.label_triplet_weight": 1.0},
        {"train.schedule": "cosine", "train.warmup_steps": 1, "train.weight_decay": 0.01},
        {"train.schedule": "constant", "train.clip_norm": 1.0},
    ],
)
def test_every_setting_runs(tiny_config, tmp_path, change):
    tiny_config.train.max_steps = 2
    tiny_config.update_from_flattened_dict(change)
    assert int(run(tiny_config, tmp_path).step) == 2


@pytest.fixture
def two_stages(tiny_config):
    """Two epochs of three steps of memory fine-tuning after one short epoch of the encoder."""
    tiny_config.stages = ("encoder", "memory")
    tiny_config.train.epochs = 1
    tiny_config.memory.update({"triplets": 14, "batch_size": 4, "epochs": 2})
    return tiny_config


@pytest.mark.long
def test_the_memory_is_fine_tuned_after_the_encoder(two_stages, tmp_path, whole):
    state = run(two_stages, tmp_path)
    assert set(state.params) == {"encoder", "memory"}
    steps = [record for record in records(tmp_path) if record["stage"] == "memory" and "loss" in record]
    assert [record["step"] for record in steps] == [2, 3, 4, 6]
    parts = ("cls", "semi_hard", "margin", "consistency", "off_block")
    assert all(record[f"loss_{part}"] >= 0 for record in steps for part in parts)
    assert checkpoint_steps(tmp_path, "memory")[-1] == 6
    assert checkpoint_steps(tmp_path, "encoder")[-1] == 4
    assert_same(run(two_stages, tmp_path), state)


@pytest.mark.long
def test_an_interrupted_memory_stage_ends_in_the_same_parameters(two_stages, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        die_before_step(patch, 5, "memory")
        with pytest.raises(KeyboardInterrupt):
            run(two_stages, tmp_path)
    assert checkpoint_steps(tmp_path, "memory") == (3,)
    assert_same(run(two_stages, tmp_path), whole(two_stages))


@pytest.mark.slow
def test_adversaries_are_left_behind_by_the_memory(two_stages, tmp_path):
    two_stages.update_from_flattened_dict(SYSTEMS["repaired"])
    end = run(two_stages, tmp_path)
    assert int(end.step) == 6
    assert end.adversaries is None
    assert set(end.params) == {"encoder", "memory"}


@pytest.mark.long
def test_a_memory_can_be_added_to_a_finished_encoder(two_stages, tmp_path, whole):
    two_stages.stages = ("encoder",)
    run(two_stages, tmp_path)
    two_stages.stages = ("encoder", "memory")
    assert_same(run(two_stages, tmp_path), whole(two_stages))


@pytest.mark.long
def test_an_encoder_that_a_memory_stands_on_is_not_trained_further(two_stages, tmp_path):
    run(two_stages, tmp_path)
    two_stages.train.epochs = 2
    with pytest.raises(
        WorkdirError, match="after step 4 of its encoder, which would now be trained to step 8"
    ):
        run(two_stages, tmp_path)
    assert checkpoint_steps(tmp_path, "encoder")[-1] == 4
    assert json.loads((tmp_path / "config.json").read_text())["train"]["epochs"] == 1


def test_a_batch_larger_than_the_triplets_is_refused(two_stages, tmp_path):
    two_stages.memory.batch_size = 15
    with pytest.raises(
        ConfigError, match=r"`batch_size` 15 does not fit 14 training.* \(config: memory.batch_size\)"
    ):
        run(two_stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_training_part_leaves_no_folder(tiny_config, tmp_path):
    tiny_config.train.batch_size = 64
    with pytest.raises(
        ConfigError, match=r"`batch_size` 64 does not fit 32 training.* \(config: train.batch_size\)"
    ):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_image_is_named_and_leaves_no_folder(tiny_config, tmp_path, monkeypatch):
    def damaged(self, row, transform):
        raise OSError("image file is truncated")

    monkeypatch.setattr("gradrev_jax.data.formats.garments.catalogue.GarmentImages.read", damaged)
    tiny_config.data.cache_dir = str(tmp_path / "cache")
    with pytest.raises(DataError, match="32 of 32 images cannot be read"):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").iterdir())


def test_the_steps_are_compiled_while_images_are_decoded(tiny_config, tmp_path, monkeypatch):
    compiling, compiled = threading.Event(), []
    compile_steps, open_inputs = Parallel.compile, opening.open_inputs

    def compile_counted(self, *arguments, **settings):
        compiled.append(threading.current_thread())
        compiling.set()
        return compile_steps(self, *arguments, **settings)

    def decode(*arguments, **settings):
        assert compiling.wait(60)
        return open_inputs(*arguments, **settings)

    monkeypatch.setattr(Parallel, "compile", compile_counted)
    monkeypatch.setattr(opening, "open_inputs", decode)
    tiny_config.stages = ("encoder",)
    run(tiny_config, tmp_path / "run")
    assert len(compiled) == 1, "the stage takes the steps that were compiled"
    tiny_config.train.epochs = 3
    compiling.set()
    run(tiny_config, tmp_path / "run")
    assert compiled[1] is threading.main_thread(), "a run that goes on has its images already"


def test_the_second_stage_is_compiled_while_prototypes_are_computed(two_stages, tmp_path, monkeypatch):
    compiling, compile_steps, build_memory = threading.Event(), Parallel.compile, stages.build_memory
    compiled, prototypes = [], []

    def compile_watched(self, *arguments, **settings):
        compiled.append(self)
        if len(compiled) == 2:
            compiling.set()
        return compile_steps(self, *arguments, **settings)

    def build(*arguments, **settings):
        assert compiling.wait(60)
        prototypes.append(build_memory(*arguments, **settings))
        return prototypes[-1]

    monkeypatch.setattr(Parallel, "compile", compile_watched)
    monkeypatch.setattr(stages, "build_memory", build)
    run(two_stages, tmp_path)
    assert len(prototypes) == 1


def test_an_error_of_the_images_waits_for_no_compiler(tiny_config, tmp_path, monkeypatch):
    told, compile_steps = threading.Event(), Parallel.compile

    def compile_at_last(self, *arguments, **settings):
        assert told.wait(60)
        return compile_steps(self, *arguments, **settings)

    def damaged(*arguments, **settings):
        raise DataError("32 of 32 images cannot be read")

    monkeypatch.setattr(Parallel, "compile", compile_at_last)
    monkeypatch.setattr(opening, "open_inputs", damaged)
    with pytest.raises(DataError, match="32 of 32 images"):
        run(tiny_config, tmp_path / "run")
    assert any(thread.name.startswith("compile") for thread in threading.enumerate())
    told.set()


def test_strengths_of_the_wrong_size_leave_no_folder(tiny_config, tmp_path):
    tiny_config.reversal.strengths = ((1.0,),)
    with pytest.raises(ConfigError, match="reversal.strengths must be 6 rows of 6 numbers"):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_catalogue_without_triplets_is_refused_before_the_encoder_is_trained(
    two_stages, tmp_path, monkeypatch
):
    def all_alike(labels, schema, **settings):
        return generate_triplets(np.zeros_like(labels), schema, **settings)

    monkeypatch.setattr(builders, "generate_triplets", all_alike)
    with pytest.raises(DataError, match="no triplet can be made"):
        run(two_stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_memory_is_chosen_by_what_it_retrieves(two_stages, tmp_path):
    two_stages.data.count = 200
    two_stages.train.update({"validation_fraction": 0.3, "max_steps": 2})
    run(two_stages, tmp_path)
    validated = [record for record in records(tmp_path) if "validation_hit_rate" in record]
    assert [record["step"] for record in validated] == [3, 6]
    rates = [record["validation_hit_rate"]["18"] for record in validated]  # of 36 held-out images, the half
    with Checkpoints(tmp_path / "checkpoints" / "memory", read_only=True) as checkpoints:
        assert checkpoints.best_step == (3 if rates[0] > rates[1] else 6)


@pytest.mark.long
def test_selection_on_the_test_part_trains_on_all_others(two_stages, tmp_path):
    two_stages.protocol.select_on_test = True
    two_stages.train.validation_fraction = 0.0
    run(two_stages, tmp_path)
    validated = [record for record in records(tmp_path) if "validation_accuracy" in record]
    assert [(record["stage"], record["step"]) for record in validated] == [
        ("encoder", 4),
        ("memory", 3),
        ("memory", 6),
    ]
    assert list(validated[-1]["validation_hit_rate"]) == ["12"], "of the 24 test images, the half"


@pytest.mark.long
@pytest.mark.parametrize("scores", [(0.5, 0.4, 0.3), (0.5, 0.5, 0.5)])
def test_a_stage_ends_when_it_gets_no_better(two_stages, tmp_path, monkeypatch, scores):
    worse_and_worse = iter(scores)

    def validate(params, memory):
        score = next(worse_and_worse)
        return Validation({"validation_accuracy": {"macro": score}}, score)

    monkeypatch.setattr(training_run, "make_validator", lambda *arguments, **options: validate)
    two_stages.train.update({"patience": 1, "epochs": 10})
    two_stages.memory.max_steps = 1
    run(two_stages, tmp_path)
    assert checkpoint_steps(tmp_path, "encoder") == (4, 8)
    assert checkpoint_steps(tmp_path, "memory") == (1,)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    run(two_stages, tmp_path)
    assert checkpoint_steps(tmp_path, "encoder") == (4, 8)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
def test_triplets_that_come_with_the_catalogue_are_trained_on(two_stages, tmp_path, monkeypatch):
    two_stages.memory.update({"triplets": 8, "batch_size": 2})
    catalogue = builders.open_catalogue(two_stages)
    rows = catalogue.rows("train", "validation")
    given = generate_triplets(catalogue.labels[rows], catalogue.schema, count=12, seed=5)
    given = dataclasses.replace(
        given, reference=rows[given.reference], positive=rows[given.positive], negative=rows[given.negative]
    )
    monkeypatch.setattr(builders, "open_catalogue", lambda *_: dataclasses.replace(catalogue, triplets=given))
    seen = []
    before_each_call(
        monkeypatch, lambda state, targets: seen.extend(targets[1]) if "memory" in state.params else None
    )
    run(two_stages, tmp_path)
    kept = given.first(8).restrict_to(catalogue.parts["train"])
    assert 2 <= len(kept) <= 8
    asked = {row.tobytes() for row in kept.indicators}
    assert {row.tobytes() for batch in seen for row in batch} <= asked


def torch_tensors(backbone):
    """A state dict of torchvision's names and layout, of random numbers, for these shapes."""
    rng = np.random.default_rng(7)
    modules = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
    tensors = {}
    for layer, leaves in backbone.items():
        *window, inputs, units = leaves["kernel"].shape
        name = f"features.{modules[layer]}" if layer in modules else "classifier.1"
        tensors[f"{name}.weight"] = 0.1 * rng.normal(size=(units, inputs, *window)).astype(np.float32)
        tensors[f"{name}.bias"] = 0.1 * rng.normal(size=units).astype(np.float32)
    return tensors


@pytest.mark.long
def test_training_starts_from_a_pretrained_backbone(tiny_config, tmp_path):
    tiny_config.model.backbone = "alexnet"
    tiny_config.train.max_steps = 1
    random = run(tiny_config, tmp_path / "random").params["params"]
    tensors = torch_tensors(random["backbone"])
    save_file(tensors, tmp_path / "alexnet.safetensors")
    tiny_config.model.pretrained = str(tmp_path / "alexnet.safetensors")
    tiny_config.train.learning_rate = 1e-12
    started = run(tiny_config, tmp_path / "run").params["params"]
    np.testing.assert_allclose(
        started["backbone"]["conv2"]["kernel"], tensors["features.3.weight"].transpose(2, 3, 1, 0), atol=1e-7
    )
    assert not np.allclose(random["backbone"]["conv2"]["kernel"], started["backbone"]["conv2"]["kernel"])
    (tmp_path / "alexnet.safetensors").unlink()
    assert_same(run(tiny_config, tmp_path / "run").params["params"], started)


def test_a_pretrained_file_in_a_home_folder_that_is_not_known(tiny_config, tmp_path):
    tiny_config.model.pretrained = "~nobodyhere/alexnet.pth"
    with pytest.raises(ConfigError, match="^model.pretrained=~nobodyhere/alexnet.pth: there is no user"):
        train(tiny_config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_pretrained_file_that_does_not_fit_leaves_no_folder(tiny_config, tmp_path):
    tiny_config.model.backbone = "alexnet"
    save_file({"features.0.weight": np.zeros((64, 3, 11, 11), np.float32)}, tmp_path / "other.safetensors")
    tiny_config.model.pretrained = str(tmp_path / "other.safetensors")
    with pytest.raises(
        WeightsError, match=r"other.safetensors: this is no AlexNet .*\(config: model.pretrained\)$"
    ):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("mirror", [True, False])
def test_images_are_mirrored_where_the_config_says_so(two_stages, tmp_path, monkeypatch, mirror):
    two_stages.train.mirror = mirror
    two_stages.train.max_steps = two_stages.memory.max_steps = 1
    seen = []

    def recording(make):
        return lambda *arguments, **options: (seen.append(options["mirror"]), make(*arguments, **options))[1]

    monkeypatch.setattr(stages, "make_update", recording(stages.make_update))
    run(two_stages, tmp_path)
    assert seen == [mirror] * 3, "those of stage 1 are made for the compiler, too"


@pytest.mark.long
def test_the_progress_of_each_stage_is_a_fraction_of_its_own_epochs(two_stages, tmp_path, monkeypatch):
    two_stages.train.max_steps = two_stages.memory.max_steps = 1  # which end a stage, but are not its length
    seen = []

    def recording(*arguments, **options):
        seen.append(options.get("total_steps"))
        return make_update(*arguments, **options)

    monkeypatch.setattr(stages, "make_update", recording)
    run(two_stages, tmp_path)
    assert seen == [4, 4, 6], "that of stage 1 is made for the compiler, too"


def test_a_folder_may_be_a_string(tiny_config, tmp_path):
    tiny_config.train.max_steps = 0
    with pytest.raises(ConfigError, match=f"{tmp_path / 'run'} has none"):
        train(tiny_config, str(tmp_path / "run"))


def test_a_folder_is_trained_in_once_at_a_time(tiny_config, tmp_path):
    with (
        hold_workdir(tmp_path / "run"),
        pytest.raises(WorkdirError, match=f"is being trained in by process {os.getpid()} on "),
    ):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tiny_config, tmp_path, capsys, whole):
    expected = whole(tiny_config)
    run(tiny_config, tmp_path)
    logged = [record["step"] for record in records(tmp_path)]
    last = tmp_path / "checkpoints" / "encoder" / "step_8"
    data = max((last / "params").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    data.write_bytes(bytes(255 - each for each in data.read_bytes()))
    capsys.readouterr()
    assert_same(run(tiny_config, tmp_path), expected)
    said = capsys.readouterr().err
    assert f"the checkpoint {last} is damaged (" in said
    assert f"lies in {last.parent / 'damaged' / 'step_8'} now; going on from step 4" in said
    assert "note: the run takes up to " in said
    assert [record["step"] for record in records(tmp_path)] == logged, "none twice, and none missing"
    (last / "metrics" / "metrics").write_text('{"score": 1.5, "crc32": 7}')
    assert_same(run(tiny_config, tmp_path), expected)
    assert "(its score is not the one that was written) and lies in" in capsys.readouterr().err


def test_no_clock_is_divided_by_and_none_chooses_a_checkpoint(tiny_config, tmp_path, monkeypatch, whole):
    expected = whole(tiny_config)
    # Of less than the 300 s that Orbax waits for a checkpoint being written: it takes a longer jump for them.
    jumps = itertools.cycle([0, 100, -100, 140, -140])
    offset, true_time = [0.0], time.time

    def write(self, record):
        offset[0] = next(jumps)
        write_record(self, record)

    write_record = MetricsLog.write
    monkeypatch.setattr(MetricsLog, "write", write)
    monkeypatch.setattr(time, "time", lambda: true_time() + offset[0])
    stopped = SimpleNamespace(perf_counter=lambda: 7.0)  # a clock that is too coarse to see any time pass
    monkeypatch.setattr(stage_observer, "time", stopped)
    tiny_config.train.max_steps = 5
    run(tiny_config, tmp_path)
    tiny_config.train.max_steps = None
    assert_same(run(tiny_config, tmp_path), expected)
    assert checkpoint_steps(tmp_path)[-1] == 8
    assert all(np.isfinite(r["images_per_second"]) for r in records(tmp_path) if "loss" in r)


def test_validation_is_given_up_where_training_is_to_stop(tiny_config, tmp_path, whole):
    """The first epoch has 4 steps, each of which is asked about once: the next answer is for validation."""
    asked = iter([False] * 4 + [True])
    with pytest.raises(TrainingStopped, match="after step 4 of stage encoder"):
        train(tiny_config, tmp_path, progress=False, stop=lambda: next(asked))
    assert not any("validation_accuracy" in record for record in records(tmp_path))
    assert_same(run(tiny_config, tmp_path), whole(tiny_config))
    assert [record["epoch"] for record in records(tmp_path) if "validation_accuracy" in record] == [1, 2]


def test_a_full_disk_ends_a_run_that_goes_on_later(tiny_config, tmp_path, monkeypatch, whole):
    def full(self, record):
        if record["step"] == 6:
            raise WorkdirError("full")
        write(self, record)

    write = MetricsLog.write
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", full)
        with pytest.raises(WorkdirError, match="full"):
            run(tiny_config, tmp_path)
    assert_same(run(tiny_config, tmp_path), whole(tiny_config))
    assert [record["step"] for record in records(tmp_path) if "loss" in record] == [2, 4, 6, 8]
