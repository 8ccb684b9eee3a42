"""Bugs planted in a copy of the package, one by one: for each, tests that have to fail.

    python tests/planted.py --count 40

A bug is a text of the source that becomes another. Most are the bugs that this field keeps making, some are faults in
statistics; a bug that no test notices is a test that is missing.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "residuum"
AT_ONCE = 2


@dataclass(frozen=True)
class Bug:
    """What is wrong with it, in which file, which text becomes which, and where tests have to fail."""

    what: str
    file: str
    text: str
    becomes: str
    tests: str


LOOP, BATCHES, CLAIMS = "engine/test_loop.py", "data_batches/test_batches.py", "analysis/test_analysis_claims.py"
STORAGE, CRASHES, FOLDER = "records/test_storage.py", "records/test_crashes.py", "records/test_folder.py"
SCHEDULES, MANGLED, FAILURES = (
    "optim/test_optim_schedules.py",
    "studies/test_mutated.py",
    "analysis/test_analysis_failures.py",
)
STEP, AUGMENTED, TRAINING = "engine/test_step.py", "data_batches/test_augmentations.py", "training/test_training.py"
BUGS = (
    # The order of data, and resuming.
    Bug("every epoch has the same order", "data/batches.py", '"order", epoch)', '"order", 0)', BATCHES),
    Bug("the order is no permutation", "data/batches.py", ".permutation(self._indices)", ".choice(self._indices, len(self._indices))", BATCHES),
    Bug("every batch of an epoch is mixed alike", "data/batches.py", '"mix", epoch, step)', '"mix", epoch, 0)', BATCHES),
    Bug("the rate is that of the step before", "engine/step.py", 'group["lr"] = table.rates[number]', 'group["lr"] = table.rates[max(0, number - 1)]', LOOP),
    Bug("one-cycle never ends", "schedules.py", "peak, last = rise * span.total_steps - 1, span.total_steps - 1", "peak, last = rise * span.total_steps, span.total_steps", SCHEDULES),
    Bug("a warm-up is a step ahead", "schedules.py", "(1 - warmup_start) * step / length)", "(1 - warmup_start) * (step + 1) / length)", SCHEDULES),
    Bug("changes come a step late", "schedules.py", "return step + 0.5 >= change", "return step >= change + 1", SCHEDULES),
    Bug("the average's count is off", "optim/averaging.py", "update / (9 + update)", "update / (10 + update)", "optim/test_optim_averaging.py"),
    # Records.
    Bug("checkpoints are not compared with their hashes", "records/storage.py", "if sha256(content).hexdigest() != expected:", "if False:", STORAGE),
    Bug("the check of JSON is not compared", "records/storage.py", "if seal and seal[1].decode() != _digest(", "if False and seal and seal[1].decode() != _digest(", STORAGE),
    Bug("a manifest leads out of its folder", "records/storage.py", "Path(name).name != name", "False", STORAGE),
    Bug("files are not forced to the disk", "records/storage.py", "os.fsync(file.fileno())", "pass", CRASHES),
    Bug("names are not forced to the disk", "records/storage.py", "        os.fsync(descriptor)", "        pass", CRASHES),
    Bug("files are written in place", "records/storage.py", 'return path.with_name(f".{path.name}.{token_hex(4)}.tmp")', "return path", CRASHES),
    Bug("what is removed still looks like a state", "records/run_folder.py", "        path.rename(doomed)\n        storage.sync(path.parent)", "        doomed = path", CRASHES),
    Bug("retention removes the best state", "records/run_folder.py", "if position != protected:", "if True:", CRASHES),
    Bug("rows are not checked", "records/rows.py", "(check and check != _check(body))", "False", "records/test_rows.py"),
    Bug("a torn row is read", "records/rows.py", '.split(b"\\n")[:-1]', '.split(b"\\n")', "records/test_rows.py"),
    Bug("later states outlive a rewind", "records/run_folder.py", "if later > position:", "if False:", FOLDER),
    Bug("a run's id depends on where data lies", "config.py", 'del values["data"]["root"]', "pass", "describe/test_config.py"),
    Bug("what is drawn for an image depends on its place", "data/draw.py", "key_B = _mix(self.indices_B * _GAMMA", "key_B = _mix(torch.arange(len(self.indices_B)) * _GAMMA", "data_batches/test_draw.py"),
    Bug("a run goes on at the start of its epoch", "engine/state.py", 'return cls(**{**values, "validation": validation})', 'return cls(**{**values, "validation": validation, "step": 0})', LOOP),
    Bug("a state at an epoch's end is that of its last step", "engine/loop.py", "    progress.next_epoch()\n    best = validation is not None and progress.best == epoch\n    yield EpochDone(epoch, step, lr, train, validation, scored.get(\"test\"), best, seconds, images_per_second)\n", "    best = validation is not None and progress.best == epoch\n    yield EpochDone(epoch, step, lr, train, validation, scored.get(\"test\"), best, seconds, images_per_second)\n    progress.next_epoch()\n", LOOP),
    Bug("the sums of an epoch are lost on resuming", "engine/state.py", 'return cls(**{**values, "validation": validation})', 'return cls(**{**values, "validation": validation, "loss_sum": 0.0})', LOOP),
    Bug("a saved average is not put back", "engine/state.py", "training.average.load_state_dict(from_bytes(files[AVERAGE]))", "pass", TRAINING + " -k twice_in_an_epoch"),
    Bug("a saved optimizer is not put back", "engine/state.py", '_load_optimizer(training.optimizer, unpack(values["optimizer"], from_bytes(files[OPTIMIZER])))', "pass", LOOP),
    Bug("an optimizer of other parameters is put back", "engine/state.py", '!= expected:\n        raise InputError("the saved state does not fit the run: the optimizer', '!= expected and False:\n        raise InputError("the saved state does not fit the run: the optimizer', STEP),
    Bug("the scale of half precision begins anew", "engine/state.py", 'training.scale.restore(values["scale"])', "pass", STEP),
    Bug("rows stay that come after a resumed state", "records/rows.py", "if not isinstance(place, int) or place > last:", "if not isinstance(place, int):", "records/test_rows.py"),
    Bug("two processes hold one folder", "records/storage.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            return", "return", FOLDER),
    Bug("a run that was killed is running", "records/storage.py", "        return True\n    except (OSError, InputError):\n        return False\n    return False\n\n\nAT_WORK", "        return True\n    except (OSError, InputError):\n        return False\n    return True\n\n\nAT_WORK", STORAGE),
    Bug("a full disk is a traceback", "records/storage.py", "except OSError as error:\n        if error.errno == errno.ENAMETOOLONG:", "except NotImplementedError as error:\n        if error.errno == errno.ENAMETOOLONG:", STORAGE),
    # Science.
    Bug("the test set selects", "engine/loop.py", 'if scores.split != "validation":', "if False:", LOOP),
    Bug("NaN wins the best", "engine/loop.py", "if math.isfinite(scores.loss) and scores.accuracy", "if scores.accuracy", LOOP),
    Bug("of equals the last is best", "engine/loop.py", "scores.accuracy > best_accuracy", "scores.accuracy >= best_accuracy", LOOP),
    Bug("divergence is not seen", "engine/step.py", "return math.isfinite(self.loss) and (", "return True or (", LOOP),
    Bug("evaluation is in training mode", "engine/evaluate.py", "    network.eval()\n", "", LOOP),
    Bug("evaluation forgets the mode before", "engine/evaluate.py", "network.train(training)", "network.train(True)", LOOP),
    Bug("the loss of evaluation is smoothed", "engine/metrics.py", "F.cross_entropy(logits_NK.double(), labels_N)", "F.cross_entropy(logits_NK.double(), labels_N, label_smoothing=0.1)", LOOP),
    Bug("mixed images count by one label", "engine/metrics.py", "targets.gather(1, predicted_N[:, None])", "(targets.argmax(1) == predicted_N)", LOOP),
    Bug("an epoch's loss is a mean of means", "engine/loop.py", "row.loss * sizes[number]", "row.loss * sizes[0]", LOOP),
    Bug("norms and biases decay", "optim/groups.py", "parameter.ndim > 1", "parameter.ndim > 0", "optim/test_optim_groups.py"),
    Bug("a confusion matrix is transposed", "analysis/per_class.py", "predictions.labels_N * classes + predictions.predicted_N", "predictions.predicted_N * classes + predictions.labels_N", "analysis/test_classes.py"),
    Bug("images that judge are flipped", "data/batches.py", "yield normalise_for_network(images_BCHW, normalization)", "yield normalise_for_network(images_BCHW.flip(3), normalization)", BATCHES),
    Bug("a flip is vertical", "data/augment.py", "_per_image(draw) < p, images_BCHW.flip(3)", "_per_image(draw) < p, images_BCHW.flip(2)", AUGMENTED),
    Bug("pixels are standardised by all training images, validation too", "run/assemble.py", "dataset.train.images_NCHW[train_N], seed)", "dataset.train.images_NCHW, seed)", "data_sets/test_held_out.py"),
    Bug("the spread of pixels is a fifth too small", "data/normalize.py", "math.sqrt(spread) / (255 * count)", "0.82 * math.sqrt(spread) / (255 * count)", "data_batches/test_normalization.py"),
    Bug("evaluation drops the last batch", "data/batches.py", "in torch.split(images_NCHW, batch_size):", "in torch.split(images_NCHW, batch_size)[: len(images_NCHW) // batch_size or 1]:", BATCHES),
    Bug("scaled gradients are clipped", "engine/step.py", "training.parameters, training.clip_norm)", "training.parameters, training.clip_norm / (training.scale.factor if training.scale else 1))", STEP),
    Bug("a last micro-batch counts as much as the others", "engine/step.py", "* (len(images) / count))", "/ -(-count // size))", LOOP),
    Bug("a read of the test set is not counted", "records/record.py", "return max(run_folder.count_test_reads(self.folder), self.result.test_reads if self.result else 0)", "return self.result.test_reads if self.result else 0", FOLDER),
    Bug("the record says one thread", "engine/compute.py", '"threads": self.threads,', '"threads": 1,', "engine/test_compute.py"),
    Bug("a picture is predicted as it was not trained", "run/predict.py", "normalise_for_network(part, trained.normalization)", "normalise_for_network(part, replace(trained.normalization, std=tuple(1.0 for _ in trained.normalization.std)))", "cli/test_commands.py -k saved_test_image"),
    Bug("numbers may be written as strings", "config.py", "default=as_plain), strict=True)", "default=as_plain), strict=False)", "describe/test_config.py"),
    Bug("a warm-up has no end", "schedules.py", "return scheduled if step >= length else", "return scheduled if step >= 10**9 else", SCHEDULES),
    # Statistics.
    Bug("p-values are not corrected", "analysis/compare.py", "(len(order) - rank) * value)", "value)", "analysis/test_analysis_compare.py"),
    Bug("Holm's steps are Bonferroni's", "analysis/compare.py", "highest = max(highest, (len(order) - rank) * value)", "highest = max(highest, len(order) * value)", "analysis/test_analysis_compare.py"),
    Bug("a margin is on the wrong side", "analysis/claims.py", 'return -claim.reach if claim.operator == "<" else claim.reach', "return claim.reach", CLAIMS),
    Bug("a verdict is one-sided", "analysis/claims.py", "min(1.0, 2 * judge.above(_bound(claim)))", "min(1.0, judge.above(_bound(claim)))", CLAIMS),
    Bug("equality is the weaker of two tests", "analysis/claims.py", "within = 2 * max(judge.above", "within = 2 * min(judge.above", CLAIMS),
    Bug("stuck runs count as trained", "analysis/failures.py", 'or (one.status == "finished" and not one.trained)', "", FAILURES),
    Bug("the interval of a rate is cut at one side", "analysis/failures.py", "tail = (1 - level) / 2", "tail = 1 - level", FAILURES),
    Bug("Fisher's p stands for Boschloo's", "analysis/failures.py", "return min(1.0, float(found.max()))", "return float(fisher[failed, other_failed])", FAILURES),
    # Files and words of others.
    Bug("a study's name leads out", "studies/part.py", "if WORD.fullmatch(text) and _bytes(text) <= most:", "if True:", "studies/test_names.py"),
    Bug("a plan has no end", "studies/study.py", "if arms * seeds > MOST_RUNS:", "if False:", f"{MANGLED} -k so_many"),
    Bug("a message quotes without a bound", "errors.py", "    return shortened(text, most)\n\n\ndef shortened", "    return text\n\n\ndef shortened", "describe/test_messages.py"),
    Bug("patterns in paths are patterns", "data/formats/parquet.py", 'return re.sub(r"([*?\\[])", r"[\\1]", str(path))', "return str(path)", "cli/test_hostile_paths.py -k pattern"),
    Bug("an archive's member leads out", "data/formats/files.py", 'if ".." in PurePosixPath(place).parts or', "if", "data_sets/test_hostile_archives.py"),
    Bug("weights hang on their file", "models/mapping.py", 'torch.empty_like(like, device="cpu").copy_(chosen[name])', "chosen[name].to(like.dtype)", "models/test_models_foreign.py -k safetensors"),
    Bug("two tensors have one name", "models/foreign.py", "if len({*names}) < len(names):", "if False:", "models/test_models_foreign.py"),
)  # fmt: skip


def survives(bug: Bug, place: Path) -> str:
    """What is wrong with the tests of a bug, planted in a copy of the package at a place; empty where they fail."""
    shutil.copytree(SOURCE, place / "residuum", ignore=shutil.ignore_patterns("__pycache__"))
    path = place / "residuum" / bug.file
    source = path.read_text(encoding="utf-8")
    if source.count(bug.text) != 1:
        return f"{bug.what}: its text occurs {source.count(bug.text)} times in {bug.file}"
    path.write_text(source.replace(bug.text, bug.becomes), encoding="utf-8")
    tests, *options = bug.tests.split(" ", 1)
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(TESTS / tests)]
    words += options[0].split() if options else []
    done = subprocess.run(words, cwd=TESTS.parent, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    # 1: a test failed; all else means that none did, or that none was run.
    return "" if done.returncode == 1 else f"{bug.what}: {bug.tests} ends in {done.returncode}: {done.stdout[-200:]!a}"


def tried(count: int, seed: int = 0) -> list[str]:
    """Plant so many of the bugs; those that survive their tests."""
    chosen = random.Random(seed).sample(BUGS, min(count, len(BUGS)))
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(AT_ONCE) as pool:
        places = [Path(root) / str(number) for number in range(len(chosen))]
        found = []
        for bug, said in zip(chosen, pool.map(survives, chosen, places), strict=True):
            print(f"{'SURVIVES' if said else 'noticed'}: {said or bug.what}", file=sys.stderr, flush=True)
            found += [said] if said else []
        return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=len(BUGS))
    options = parser.parse_args()
    found = tried(options.count)
    print("\n".join(found) or f"{min(options.count, len(BUGS))} bugs noticed")
    sys.exit(bool(found))
