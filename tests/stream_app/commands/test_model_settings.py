"""`headrace settings --model`: every model's settings are listed, and what is not among them is refused by name."""

from __future__ import annotations

import pytest

from models.family.registry import MODELS, model_class
from stream_app import cli
from stream_app.commands.evaluate import models_of
from stream_app.commands.model_settings import describe
from stream_app.commands.options import parse_assignment
from stream_app.commands.settings import load_settings
from stream_app.errors import EXIT_OK, EXIT_USAGE, UsageError
from stream_app.training.ranker import make_trainer


def test_all_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["settings", "--model", "list"]) == EXIT_OK
    named = [line.partition("  # ") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _, _ in named] == ["transformer", *MODELS]
    assert all(told for _, _, told in named)


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_of_a_model_is_listed_with_its_default(name: str) -> None:
    lines = [line.partition("  # ")[0] for line in describe(name) if not line.startswith("#")]
    assert [line.partition(" = ")[0] for line in lines] == list(model_class(name).Settings.model_fields)
    given = [f"{name}.{line.replace(' = ', '=', 1)}" for line in lines]
    assert set(models_of(name, given)[name]) == {parse_assignment(line)[0] for line in lines}


def test_a_setting_says_what_it_means_and_what_is_allowed() -> None:
    assert "heads = 1  # width must be a multiple of it; from 1" in describe("sasrec")
    (loss,) = [line for line in describe("sasrec") if line.startswith("loss = ")]
    assert loss.startswith('loss = "softmax"  # cross-entropy')
    assert loss.endswith("; one of softmax, gbce")
    assert "models.transformer.d_model = 64  # from 8 to 512" in describe("transformer")


def test_what_is_listed_for_the_worker_is_taken_by_it() -> None:
    example = next(line for line in describe("gru4rec") if "models.ranker_settings" in line)
    flags = [word.replace("…", "32") for word in example.split() if word.startswith("models.")]
    trainer = make_trainer(load_settings(None, None, flags), 0, "cpu")
    assert trainer.model.settings.width == 32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["settings", "--model", "gru"], "--model 'gru': there is no such model; did you mean gru4rec?"),
        (
            ["evaluate", "--models", "sasrek"],
            "--models 'sasrek': there is no such model; did you mean sasrec?",
        ),
        (
            ["evaluate", "--set", "lstm.widht=3"],
            "--set lstm.widht: no such setting; did you mean width?",
        ),
        (["evaluate", "--set", "lstm.zz=3"], "`headrace settings --model lstm` lists what there is"),
        (["evaluate", "--set", "lstm.width=x"], "--set lstm.width: Input should be a valid integer"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest_name(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--data", "x", "--protocol", "temporal"] if words[0] == "evaluate" else []
    assert cli.run([*words, *more]) == EXIT_USAGE
    assert told in capsys.readouterr().err


def test_a_worker_s_model_without_such_a_setting_says_where_they_are_listed() -> None:
    flags = ["models.ranker=lstm", "models.ranker_settings.widht=3"]
    with pytest.raises(UsageError, match="headrace settings --model lstm"):
        make_trainer(load_settings(None, None, flags), 0, "cpu")


def test_a_comma_too_many_names_no_model() -> None:
    assert list(models_of("popularity, ,ials,", None)) == ["popularity", "ials"]
    with pytest.raises(UsageError, match="names no model"):
        models_of(" ,", None)
