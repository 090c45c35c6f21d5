"""A corpus: videos whose table says on which side of a fixed split each is."""

import pytest

from dvcc.config.build import build_training_clips
from dvcc.config.parse import parse
from dvcc.datasets.splits import split_data, training_videos
from dvcc.datasets.table import on_side, read_table
from dvcc.errors import ConfigError
from dvcc.evaluation.control.run import build_test_set
from dvcc.evaluation.surrogate.run import held_out
from tests.videos import write_video

ROWS = ("corpus/a.mp4\ttrain\tstreet-1\tstreet", "corpus/b.mp4\tval\tstreet-2\tstreet", "corpus/c.mp4\tval\tgame\tsport")
ROWS += ("corpus/d.mp4\ttest\tmoor\tanimals",)


def write_corpus(folder, rows=ROWS, head="file\tsplit\tgroup\ttype"):
    folder.mkdir(exist_ok=True)
    for seed, row in enumerate(ROWS):
        if not (path := folder / row.split("\t")[0].removeprefix("corpus/")).exists():
            write_video(path, seed=seed)
    (folder / "CORPUS.tsv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def configure(root, *words):
    given = [
        "control",
        "task=detection",
        "data=corpus",
        "scenario=scenes",
        "controllers=[abr2]",
        "data.min_frames=8",
        f"data.root={root}",
    ]
    return parse("evaluate", [*given, *words])[1]


def test_the_table_has_the_split_and_the_groups(tmp_path):
    root = write_corpus(tmp_path / "corpus")
    listed = read_table(root)
    assert [(row.path.name, row.group, row.kind) for row in on_side(listed, "val")] == [
        ("b.mp4", "street-2", "street"),
        ("c.mp4", "game", "sport"),
    ]
    train, held_out = split_data("corpus", root)
    assert train == training_videos(root, name="corpus") == [root / "a.mp4"]
    assert [video.name for video in held_out] == ["b.mp4", "c.mp4", "d.mp4"]
    with pytest.raises(ConfigError, match="has its own split"):
        split_data("corpus", root, test=["a.mp4"])


def test_an_evaluation_takes_one_side_and_resamples_groups(tmp_path):
    root = write_corpus(tmp_path / "corpus")
    tests = build_test_set(configure(root).data)
    assert [(name.video, name.group, name.kind) for name in tests.names] == [
        ("b.mp4", "street-2", "street"),
        ("c.mp4", "game", "sport"),
    ]
    assert [name.video for name in build_test_set(configure(root, "data.split=test").data).names] == ["d.mp4"]
    assert [name.video for name in build_test_set(configure(root, "data.kinds=[sport]").data).names] == ["c.mp4"]
    for words, message in (
        (["data.split=all"], "data.split is train, val, test, got 'all'"),
        (["data.kinds=[space]"], r"data.kinds names \['space'\], and the types of .* are \['sport', 'street'\]"),
        (["data.test=[a.mp4]"], "has its own split"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_test_set(configure(root, *words).data)


def test_sides_that_a_stage_does_not_take_are_refused(tmp_path):
    words = ["surrogate", "data=corpus", f"data.root={tmp_path}", f"out={tmp_path / 'out'}"]
    with pytest.raises(ConfigError, match="takes the side train of a corpus: leave data.split=test out"):
        build_training_clips(parse("train", [*words, "data.split=test"])[1].data, seed=0)


def test_bad_tables_are_named(tmp_path):
    root = tmp_path / "corpus"
    for rows, head, message in (
        ((), "file\tsplit", "lacks the columns group"),
        ((ROWS[0].replace("train", "dev"),), "file\tsplit\tgroup", "has the split 'dev' for a.mp4"),
        (
            (ROWS[0], ROWS[1].replace("street-2", "street-1")),
            "file\tsplit\tgroup",
            "group 'street-1' on two sides, train and val",
        ),
        ((ROWS[0].replace("a.mp4", "z.mp4"),), "file\tsplit\tgroup", "names z.mp4, which is not beside it"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_table(write_corpus(root, rows, head))
    (root / "CORPUS.tsv").unlink()
    with pytest.raises(ConfigError, match="must hold one table .*and holds 0"):
        read_table(root)
    write_corpus(root, ROWS[:1])
    with pytest.raises(ConfigError, match="has no video of the split 'test'"):
        build_test_set(configure(root, "data.split=test").data)


def test_folds_cut_the_training_side_into_whole_groups(tmp_path):
    rows = [
        f"corpus/{name}.mp4\ttrain\t{group}\tstreet" for name, group in zip("abcd", ("one", "one", "two", "three"), strict=True)
    ]
    root = write_corpus(tmp_path / "corpus", rows)
    held_out = []
    for fold in range(3):
        words = ["data.split=train", "data.folds=3", f"data.fold={fold}"]
        tested = {name.video for name in build_test_set(configure(root, *words).data).names}
        trained = {path.name for path in training_videos(root, name="corpus", folds=3, fold=fold)}
        assert tested and not tested & trained and tested | trained == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
        assert {"a.mp4", "b.mp4"} <= tested or {"a.mp4", "b.mp4"} <= trained  # of one group
        held_out += tested
    assert len(held_out) == 4
    with pytest.raises(ConfigError, match=r"data\.folds are of the training side: set data\.split=train, got 'val'"):
        build_test_set(configure(root, "data.folds=2").data)
    with pytest.raises(ConfigError, match=r"data\.fold goes from 0 to data\.folds - 1 = 1, got 2"):
        configure(root, "data.folds=2", "data.fold=2")
    with pytest.raises(ConfigError, match=r"data\.folds and data\.kinds are of data=corpus"):
        training_videos(root, folds=2)


def test_kinds_of_scenes_pick_what_is_trained_on(tmp_path):
    rows = [f"corpus/{name}.mp4\ttrain\t{name}\t{kind}" for name, kind in (("a", "street"), ("b", "sport"), ("c", "street"))]
    root = write_corpus(tmp_path / "corpus", rows)
    config = configure(root, "data.kinds=[street]").data
    assert [path.name for path in training_videos(root, name="corpus", kinds=config.kinds)] == ["a.mp4", "c.mp4"]
    counts = [len(build_training_clips(configure(root, *words).data, seed=0)) for words in (["data.kinds=[street]"], [])]
    assert 3 * counts[0] == 2 * counts[1] > 0
    with pytest.raises(ConfigError, match=r"data.kinds names \['sea'\]"):
        training_videos(root, name="corpus", kinds=["sea"])


def test_the_evaluation_of_a_surrogate_takes_that_side_alone(tmp_path):
    (tmp_path / "corpus").mkdir()
    write_video(tmp_path / "corpus" / "e.mp4", seed=9)
    root = write_corpus(tmp_path / "corpus", (*ROWS, "corpus/e.mp4\ttrain\tstreet-3\tstreet"))

    def names(*words: str) -> list[str]:
        return [
            path.name for path in held_out(parse("evaluate", ["surrogate", "data=corpus", f"data.root={root}", *words])[1].data)
        ]

    assert (names(), names("data.split=test")) == (["b.mp4", "c.mp4"], ["d.mp4"])
    folds = [names("data.split=train", "data.folds=2", f"data.fold={k}") for k in (0, 1)]
    assert sorted(folds) == [["a.mp4"], ["e.mp4"]]
