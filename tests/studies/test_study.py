"""Studies: how arms come from a file, and that every mistake in it is one line with the place and the nearest name."""

import json
import tomllib

import pytest

from residuum.errors import InputError
from residuum.studies import parsing
from residuum.studies.part import flat
from residuum.studies.study import Claim, Study, StudyError

TEXT = """\
# What it asks: whether shortcuts help.
# It goes on here.
question = "Do shortcuts help?"
base = "he2015"
seeds = 3

[set]
data.validation = 5000
optim.optimizer = { name = "sgd", nesterov = true }

[axes]
model = ["plain20", "resnet20"]
optim.lr = [0.1, 0.05]

[compare]
baseline = { model = "plain20" }

[[claims]]
text = "Shortcuts help."
expect = "resnet20, lr=0.1 < plain20, lr=0.1"

[[published]]
source = "a paper"
arm = "resnet20, lr=0.1"
value = 8.75
"""


CLAIM = '[[claims]]\ntext = "Again."\nexpect = "{}"\n\n[[published]]'


@pytest.fixture
def read(tmp_path):
    def of(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return parsing.read(str(path))

    return of


def test_grid_has_every_cell_in_the_order_of_the_file(read):
    study = read(TEXT)
    assert [arm.name for arm in study.arms()] == [
        "plain20, lr=0.1", "plain20, lr=0.05", "resnet20, lr=0.1", "resnet20, lr=0.05",
    ]  # fmt: skip
    assert study.name == "mine"
    assert study.seeds == (0, 1, 2)
    arm = study.arms()[3]
    assert arm.settings == {"model": "resnet20", "optim.lr": 0.05}
    assert arm.config.optim.lr == 0.05
    assert arm.config.data.validation == 5000
    assert arm.config.optim.optimizer.settings == {"momentum": 0.9, "nesterov": True}


def test_baseline_on_an_axis_keeps_the_other_axes(read):
    study = read(TEXT)
    arms = study.arms()
    baselines = [study.baseline_of(arm, arms) for arm in arms]
    assert [one and one.name for one in baselines] == [None, None, "plain20, lr=0.1", "plain20, lr=0.05"]


def test_named_arms_differ_from_the_base_one_at_a_time():
    study = Study(
        question="?", base="report_e", seeds=[4, 2], compare={"baseline": "baseline"},
        arms=[{"name": "baseline"}, {"name": "raw", "set": {"data": {"normalize": "none"}}},
              {"name": "no augmentation", "set": {"data.augment": []}}],
    )  # fmt: skip
    base, raw, plain = study.arms()
    assert raw.settings == {"data.normalize": "none"}
    assert raw.config == base.config.changed({"data.normalize": "none"})
    assert plain.config.data.augment == ()
    assert study.baseline_of(base, study.arms()) is None
    assert study.baseline_of(raw, study.arms()) == base


def test_named_arms_stand_in_every_cell_of_the_axes():
    study = Study(
        question="?", base="report_c", seeds=1, axes={"model": ["resnet10c", "resnet24c"]},
        arms=[{"name": "sgd"}, {"name": "adam", "set": {"optim.optimizer": "adam"}}], compare={"baseline": {"model": "resnet10c"}},
    )  # fmt: skip
    arms = study.arms()
    assert [arm.name for arm in arms] == [
        "sgd / resnet10c", "sgd / resnet24c", "adam / resnet10c", "adam / resnet24c",
    ]  # fmt: skip
    assert [one and one.name for one in (study.baseline_of(arm, arms) for arm in arms)] == [
        None, "sgd / resnet10c", None, "adam / resnet10c",
    ]  # fmt: skip
    assert [(arm.family, arm.cell["model"]) for arm in arms] == [
        ("sgd", "resnet10c"), ("sgd", "resnet24c"), ("adam", "resnet10c"), ("adam", "resnet24c"),
    ]  # fmt: skip
    assert {arm.family for arm in study.model_copy(update={"axes": {}}).arms()} == {""}, "its own name tells it"


def test_network_on_an_axis_keeps_what_an_arm_or_the_study_sets_of_it():
    study = Study(
        question="?", base="he2015", seeds=1, set={"model.activation": "elu"}, axes={"model": ["resnet20", "plain20"]},
        arms=[{"name": "wide", "set": {"model.wide": 2}}],
    )  # fmt: skip
    for arm in study.arms():
        assert arm.config.model.settings["wide"] == 2
        assert arm.config.model.settings["activation"] == "elu"


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("cosine", "cosine"),
        ({"name": "sgd", "nesterov": True, "momentum": 0.5}, "sgd nesterov=true momentum=0.5"),
        ([], "no schedule"),
        (128, "schedule=128"),
        (1e-4, "schedule=0.0001"),
        (["pad_crop", {"name": "noise", "std": 0.1}], "schedule=pad_crop+noise std=0.1"),
    ],
)
def test_label_of_a_value_on_an_axis(value, label):
    from residuum.studies.study import _label

    assert _label("optim.schedule", value) == label


def test_study_survives_its_own_plain_form(read):
    study = read(TEXT)
    assert Study(**json.loads(json.dumps(study.model_dump(mode="json")))) == study


def test_nested_and_quoted_settings_are_the_same():
    nested = tomllib.loads("[set]\ndata.validation = 1\noptim.optimizer = {name = 'sgd', momentum = 0.5}")
    quoted = tomllib.loads("[set]\n'data.validation' = 1\n'optim.optimizer' = {name = 'sgd', momentum = 0.5}")
    assert flat(nested["set"]) == flat(quoted["set"]) == {
        "data.validation": 1, "optim.optimizer": {"name": "sgd", "momentum": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("seeds = 3", "seeds = 0", 5, "seeds: a count of at least 1"),
        ("seeds = 3", "seeds = [1, 1]", 5, "seeds: a seed appears twice"),
        ("seeds = 3", "seedz = 3", 5, "unknown key 'seedz'; did you mean 'seeds'?"),
        ('base = "he2015"', 'base = "he2016"', 4, "unknown recipe 'he2016'; did you mean 'he2015'?"),
        ("data.validation", "data.validatoin", 8, "did you mean 'data.validation'?"),
        ("optim.lr = [0.1, 0.05]", "optim.lr = 0.1", 13, "an axis is a list of values"),
        ("optim.lr = [0.1, 0.05]", "optim.lrr = [0.1]", 13, "did you mean 'optim.lr'?"),
        ("optim.lr = [0.1, 0.05]", "optim.lr = ['high']", 13, "optim.lr"),
        ('"plain20", "resnet20"', '"plain20", "resnet21"', 12, "the nearest is 'resnet20'"),
        ('text = "Shortcuts help."', "", 18, "claims[0].text: a value is missing"),
        ("< plain20", "< plain2", 20, "did you mean 'plain20, lr=0.1'?"),
        ("< plain20", "< resnet20", 20, "'resnet20, lr=0.1' is compared with itself"),
        ("< plain20", "plain20", 20, "is not of the form 'arm > arm'"),
        ("expect", 'measure = "tst_error"\nexpect', 20, "unknown measure 'tst_error'; did you mean 'test_error'?"),
        ('lr=0.1"\n\n[[pub', 'lr=0.1"\nmargn = 1\n\n[[pub', 21, "unknown key 'margn'; did you mean 'margin'?"),
        ('lr=0.1 < plain20, lr=0.1"', 'lr=0.1 = plain20, lr=0.1"', 18, "a number above 0"),
        ('{ model = "plain20" }', '{ model = "plain32" }', 16, '"plain20", "resnet20"'),
        ('{ model = "plain20" }', '{ modell = "plain20" }', 16, "unknown axis 'modell'; did you mean 'model'?"),
        ('{ model = "plain20" }', '"plain20, lr=1"', 16, "unknown arm"),
        ('arm = "resnet20, lr=0.1"', 'arm = "resnet20"', 24, "unknown arm 'resnet20'"),
        ("[[claims]]", "[[arms]]\nname = 'a > b'\n[[claims]]", 19, "a name has no >"),
        ("[[claims]]", "[[arms]]\nname = 'a'\n[[arms]]\nname = 'a'\n[[claims]]", 21, "there are two arms 'a'"),
        ("[[claims]]", "[[arms]]\nname = 'a'\nset = { optim.lr = 3.0 }\n[[claims]]", 20, "is an axis of the grid"),
        ("[[claims]]", "[[claims]", 18, "not TOML at column 9: expected ']]' at the end of an array declaration"),
        ("value = 8.75", 'value = "8.75', 25, "not TOML at column 14: illegal character"),
        ("value = 8.75", 'value = [8.75', 25, "not TOML at the end of the file: unclosed array"),
        ("[[published]]", CLAIM.format("resnet20, lr=0.1 < plain20, lr=0.1"), 24, "claims[0] says the same"),
        ("[[published]]", CLAIM.format("plain20, lr=0.1 > resnet20, lr=0.1"), 24, "claims[0] says the same"),
        ("[[published]]", CLAIM.format("resnet20, lr=0.1 > 1").replace("Again", "Shortcuts help"), 23, "same text"),
        ("value = 8.75", 'value = "3"', 25, "published[0].value: input should be a valid number, not '3'"),
        ("value = 8.75", "value = true", 25, "published[0].value: input should be a valid number, not True"),
        ("value = 8.75", "value = 8.75\nspread = '1'", 26, "published[0].spread: input should be a valid number"),
        ("value = 8.75", "value = 8.75\nbatch = 1.5", 26, "published[0].batch: input should be a valid integer, not 1.5"),
        ("value = 8.75", "value = 8.75\nepochs = '9'", 26, "published[0].epochs: input should be a valid integer"),
        ("value = 8.75", "value = 8.75\nlr = 0.0", 26, "published[0].lr: input should be greater than 0"),
        ("value = 8.75", "value = 8.75\nweight_decay = -1.0", 26, "weight_decay: input should be greater than or equal to 0"),
        ("value = 8.75", "value = 8.75\nvalidation = 1.5", 26, "validation: a count of images is a whole"),
        ("value = 8.75", "value = 8.75\nselection = 'best'", 26, "selection: input should be 'last', 'best-on-test', "),
        ("value = 8.75", "value = 8.75\nbound = '>'", 26, "bound: input should be 'above' or 'below', not '>'"),
        ("value = 8.75", "value = 8.75\naugment = 'flip'", 26, "augment: input should be a valid tuple, not 'flip'"),
        ("value = 8.75", "value = 8.75\nschedule = 3", 26, "schedule: needs a name, or a table with a name and settings"),
        ("value = 8.75", "value = 8.75\nweigth_decay = 1.0", 26, "unknown key 'weigth_decay'; did you mean 'weight_decay'?"),
        ("[[published]]", "[sources.'a papier']\n[[published]]", 24, "unknown source 'a paper'; did you mean 'a papier'?"),
        ("[[published]]", "[sources.'a. paper']\nlr = 0.1\nbatsh = 1\n[[published]]", 24, "unknown key 'batsh'; did you mean 'batch'?"),
        ("[[published]]", "[sources.'a. paper']\nlr = 0.1\nbatch = 0\n[[published]]", 24, "batch: input should be greater than or"),
        ('lr=0.1"\n\n[[pub', 'lr=0.1"\nmargin = "1"\n\n[[pub', 21, "margin: input should be a valid number, not '1'"),
        ("seeds = 3", 'seeds = "3"', 5, "seeds: a count of at least 1"),
        ("seeds = 3", 'seeds = [0, "1"]', 5, "seeds[1]: input should be a valid integer, not '1'"),
        ("seeds = 3", "seeds = [0, true]", 5, "seeds[1]: input should be a valid integer, not True"),
        ("data.validation = 5000", "train.seed = 1", 8, "give them as the 'seeds' of the study"),
        ("optim.lr = [0.1, 0.05]", "train.seed = [0, 1]", 13, "give them as the 'seeds' of the study"),
        ("[[claims]]", "[[arms]]\nname = 'a'\nset = { train.seed = 3 }\n[[claims]]", 20, "give them as the 'seeds'"),
        ("expect", 'metric = "test_error"\nexpect', 20, "unknown key 'metric'; did you mean 'measure'?"),
        ("value = 8.75", 'value = 8.75\nmetric = "test_error"', 26, "unknown key 'metric'; did you mean 'measure'?"),
        ("[[claims]]", 'metric = "test_error"\n[[claims]]', 18, "unknown key 'metric'; did you mean 'measure'?"),
        ("question =", "# question =", 0, "question: a value is missing"),
    ],
)  # fmt: skip
def test_mistake_in_a_file_names_line_key_and_nearest_name(read, old, new, line, words):
    assert old in TEXT
    with pytest.raises(InputError) as caught:
        read(TEXT.replace(old, new, 1))
    message = str(caught.value)
    assert words in message
    assert f"line {line}" in message if line else "line" not in message
    assert "\n" not in message


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(StudyError, match="two arms would both be called"):
        Study(question="?", base="quick", seeds=1, axes={"optim.weight_decay": [1e-4, 1.0000001e-4]})


ARMS = [{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.02}}, {"name": "c", "set": {"optim.lr": 0.03}}]


def test_a_claim_between_arms_that_are_the_same_run_is_refused():
    """Arms may be the same run, as baselines of two questions are, as long as nothing is claimed of the two."""

    def claimed(expect):
        return Study(question="?", base="quick", seeds=1, set={"optim.lr": 0.02}, arms=ARMS,
                     claims=[{"text": "?", "expect": expect}])  # fmt: skip

    assert claimed("a < c").arms()[0].config == claimed("b < c").arms()[1].config
    with pytest.raises(StudyError, match=r"claims\[0\]\.expect: 'a' and 'b': the two arms are the same run"):
        claimed("a < b")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a < b", "b > a", True), ("a = b", "b = a", True), ("a < b", "a > b", False), ("a < b", "a = b", False),
        ("a < 1", "a < 1.0", True), ("a < 1", "a > 1", False), ("a < b", "a < c", False),
    ],
)  # fmt: skip
def test_claims_that_say_the_same(one, other, same):
    made = [Claim(text="?", expect=expect, margin=0.5).statement for expect in (one, other)]
    assert (made[0] == made[1]) == same
    for changed in ({"margin": 0.6}, {"measure": "gap"}):
        assert Claim(**{"text": "?", "expect": one, "margin": 0.5, **changed}).statement != made[0]


@pytest.mark.parametrize(
    ("expect", "measure", "margin", "formula"),
    [
        ("a < b", "test_error", 0, "a < b"),
        ("a < b", "test_error", -2, "a − b < 2 points"),
        ("a < b", "test_error", 10, "a − b < −10 points"),
        ("a > b", "seconds", 1.5, "a − b > 1.5 s"),
        ("a > b", "test_error", -0.5, "a − b > −0.5 points"),
        ("a = b", "test_accuracy", 0.5, "a − b = 0 ± 0.5 points"),
        ("a = b", "parameters", 3000, "a − b = 0 ± 3,000"),
        ("a > 60", "test_error", 0, "a > 60 %"),
        ("a < 60", "test_error", 2, "a < 58 %"),
        ("a > 0", "first_drop", 2, "a > 2 points"),
        ("a < 0.7", "converged_at", 0, "a < 0.7"),
        ("a = 90", "test_accuracy", 1, "a = 90 ± 1 %"),
        ("a < -0.5", "gradient_per_layer", 0, "a < −0.5 decades"),
    ],
)
def test_a_claim_reads_as_a_formula_with_its_number_and_unit(expect, measure, margin, formula):
    assert Claim(text="?", expect=expect, measure=measure, margin=margin).formula == formula


def test_what_claims_name_and_twins_are_compared_beside_the_baseline(read):
    """Plain-56 against ResNet-56 is what the study of degradation asks, and its baseline is another network."""
    pairs = parsing.read("degradation").compared()
    assert pairs[:9] == tuple((arm, "plain20") for arm in (
        "plain56", "plain110", "resnet20", "resnet56", "resnet110", "bottleneck56", "bottleneck110", "bottleneck83",
        "bottleneck164"))  # fmt: skip
    assert pairs[9:] == (
        ("resnet56", "resnet20"), ("resnet110", "resnet56"), ("plain110", "plain56"), ("resnet56", "plain56"),
        ("resnet110", "plain110"),
    )  # fmt: skip
    alone = parsing.read("degradation").restricted(["plain56", "resnet56"]).compared()
    assert alone == (("resnet56", "plain56"),)  # it needs no baseline
    widths = parsing.read("report-d").compared()
    assert ("resnet56", "plain56") in widths
    assert not any({*pair} == {"resnet20, batch 128", "plain20"} for pair in widths)  # they differ in the batch as well
    assert parsing.read("shortcuts").compared()[:3] == tuple(
        (f"depth=20, {name}", "depth=20, none") for name in ("identity", "projection", "all_projection")
    )


def test_seeds_are_no_setting_of_a_command(read):
    with pytest.raises(
        InputError, match=r"^train\.seed: all arms of a study have the same seeds; the study's own seeds give them$"
    ):
        read(TEXT).changed({"train.seed": 3})


def test_changed_settings_win_over_the_file_but_not_over_an_axis(read):
    study = read(TEXT).changed({"data.validation": 100, "train.epochs": 2}, [7])
    assert study.seeds == (7,)
    assert {arm.config.data.validation for arm in study.arms()} == {100}
    assert {arm.config.train.epochs for arm in study.arms()} == {2}
    with pytest.raises(InputError, match=r"optim\.lr: study 'mine' varies this setting"):
        study.changed({"optim.lr": 1.0})


def test_a_setting_that_makes_arms_the_same_is_refused():
    study = Study(question="?", base="quick", seeds=1, axes={"model": ["resnet20", "resnet32"]})
    assert {arm.config.model.settings["wide"] for arm in study.changed({"model.wide": 2.0}).arms()} == {2.0}
    with pytest.raises(InputError, match=r"^model\.depth: arms 'resnet20' and 'resnet32' would be the same"):
        study.changed({"model.depth": 20})


def test_some_arms_keep_only_what_is_said_of_them(read):
    study = read(TEXT)
    kept = study.restricted(["resnet20, lr=0.1", "plain20, lr=0.1"])
    assert [arm.name for arm in kept.arms()] == ["plain20, lr=0.1", "resnet20, lr=0.1"]
    assert (len(kept.claims), len(kept.published)) == (1, 1)
    fewer = study.restricted(["plain20, lr=0.1", "plain20, lr=0.05"])
    assert (fewer.claims, fewer.published) == ((), ())
    assert Study(**kept.model_dump(mode="json")) == kept
    with pytest.raises(InputError, match=r"unknown arm 'resnet20, lr=0\.2'; did you mean"):
        study.restricted(["resnet20, lr=0.2"])


def test_unknown_study_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        parsing.read(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"question = '\xe9'")
    with pytest.raises(InputError, match="UTF-8"):
        parsing.read(str(tmp_path / "latin.toml"))
    with pytest.raises(InputError, match="unknown study 'quickstrt'; did you mean 'quickstart'"):
        parsing.read("quickstrt")


def test_header_is_the_comment_at_the_head(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    assert parsing.header(str(path)) == "What it asks: whether shortcuts help.\nIt goes on here."


def test_data_at_the_top_of_a_study_file_is_that_of_all_arms_and_lies_beside_it(tmp_path):
    (tmp_path / "images.npz").touch()
    head = 'question = "?"\nbase = "quick"\nseeds = 2\n'
    axes = '[axes]\n"model.depth" = [8, 14]\n'
    there = str(tmp_path / "images.npz")
    for text, root in ((f'{head}data = "images.npz"\n{axes}', there), (f'{head}data = "digits"\n{axes}', ""),
                       (f'{head}{axes}[data]\nsubset = 100\n', ""),
                       (f'{head}data = "images.npz"\n{axes}[set]\ndata.subset = 100\n', there),
                       (f'{head}{axes}[set]\ndata = "images.npz"\n', there)):  # fmt: skip
        (tmp_path / "mine.toml").write_text(text)
        configs = [arm.config.data for arm in parsing.read(str(tmp_path / "mine.toml")).arms()]
        assert {config.root for config in configs} == {root}
        assert {config.subset for config in configs} == {100 if "subset" in text else 0}
    for twice in ('data = "digits"', 'data.dataset = "digits"', '"data.root" = "x"'):
        (tmp_path / "mine.toml").write_text(f'{head}data = "digits"\n{axes}[set]\n{twice}\n')
        with pytest.raises(InputError, match="say it once"):
            parsing.read(str(tmp_path / "mine.toml"))
