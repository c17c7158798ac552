"""Random recipes and overrides: each is read, or refused in one line and at once."""

import contextlib
import dataclasses
import datetime
import io
import time
import tomllib
import unicodedata

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cifar_models.cli.main import main
from cifar_models.config.known_keys import all_keys
from cifar_models.config.model_tables import ResidualCNNConfig
from cifar_models.config.recipe import TABLES, Recipe
from cifar_models.config.recipe_file import (
    build_recipe,
    read_recipe,
    recipe_paths,
    recipe_toml,
)
from cifar_models.errors import RequestError

MAX_SECONDS = 2.0  # half a second on an idle machine
MAX_CHARACTERS = 1000  # of a message, besides the path of a file
TABLE_NAMES = ("data", "model", "training", "augmentation", "runtime", "search")

FAST = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "auto", "folder:~nosuchuser", "folder:a\0b", "adamw", "\x1b[31m", "a\nb"]),
    st.builds(lambda text, count: text * count, st.text(min_size=1, max_size=3), st.just(400)),
)
numbers = st.one_of(
    st.integers(-3, 100),
    st.integers(),
    st.sampled_from([10**18, 10**400, -(10**400), 2**31, 2**31 - 1, 65536, 2**16 + 1]),
    st.floats(),
    st.sampled_from([float("inf"), float("-inf"), float("nan"), 1e308, 5e-324, -0.0, 1.0]),
)
atoms = st.one_of(
    texts,
    numbers,
    st.booleans(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.just(datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)),
)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["low", "high", "scale", "choices", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
known_keys = st.sampled_from(all_keys())
keys = st.one_of(known_keys, known_keys, st.text(max_size=12), st.just("model.architecture"))
# What TOML does not allow, and what Python cannot read.
raw_values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["9" * 5000, "0x" + "f" * 5000, "[" * 3000, "1\n[training]", '"a', "{", "=", "1e999"]
    ),
)


def as_toml(value: object) -> str:
    """Return a value as TOML writes it."""
    return tomli_w.dumps({"v": {"w": value}} if isinstance(value, dict) else {"v": value})[
        4:
    ].strip()


def fitting_values(field: dataclasses.Field) -> st.SearchStrategy:
    """Return values of the type of a key, most of which it allows."""
    if field.metadata["choices"] is not None:
        return st.sampled_from(list(field.metadata["choices"]))
    return {
        bool: st.booleans(),
        int: st.integers(0, 40),
        float: st.floats(0, 1) | st.just(float("inf")),
        str: st.sampled_from(["digits", "folder:~", "here"]),
        tuple: st.lists(st.integers(0, 40), min_size=2, max_size=3),
    }[type(field.default)]


fitting_overrides = st.one_of(
    [
        fitting_values(field).map(
            lambda value, key=f"{name}.{field.name}": f"{key}={as_toml(value)}"
        )
        for name, table in {**TABLES, "model": ResidualCNNConfig}.items()
        for field in dataclasses.fields(table)
    ]
)
odd_overrides = st.builds(
    lambda key, equals, value: f"{key}{equals}{value}",
    keys,
    st.sampled_from(["=", "=", "=", " = ", ""]),
    st.one_of(values.map(as_toml), raw_values),
)
# Half of the lists have no odd override.
override_lists = st.one_of(
    st.lists(fitting_overrides, min_size=1, max_size=4),
    st.lists(st.one_of(fitting_overrides, odd_overrides), min_size=1, max_size=3),
)
inner_tables = st.dictionaries(
    st.one_of(known_keys.map(lambda key: key.partition(".")[2]), st.text(max_size=8)),
    values,
    max_size=4,
)
tables = st.one_of(
    inner_tables,
    inner_tables,
    st.dictionaries(known_keys, values, max_size=3),  # a search table
    values,
)
files = st.dictionaries(
    st.one_of(
        st.sampled_from(TABLE_NAMES),
        st.sampled_from(TABLE_NAMES),
        st.just("name"),
        st.text(max_size=8),
    ),
    tables,
    max_size=3,
).map(tomli_w.dumps)
# The same with one line twice, a piece missing, or a piece of nonsense.
broken_files = st.builds(
    lambda text, at, piece: text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) + 3 :],
    files,
    st.integers(0, 500),
    st.one_of(
        st.text(max_size=6), st.sampled_from(["\n[data]\n[data]\n", "\nname = 1\nname = 2\n"])
    ),
)


def check_line(message: str) -> None:
    """Assert that an error message is one short line without control characters."""
    assert message and len(message) <= MAX_CHARACTERS
    assert not any(unicodedata.category(character) == "Cc" for character in message), message


def read_at_once(*arguments) -> Recipe | None:
    """Return the recipe, or None if it is refused as it should be."""
    began = time.perf_counter()
    try:
        recipe = read_recipe(*arguments)
    except RequestError as error:
        recipe = None
        check_line(str(error).replace(str(arguments[0]), "recipe.toml"))
    assert time.perf_counter() - began < MAX_SECONDS
    return recipe


@FAST
@given(override_lists, st.sampled_from(sorted(recipe_paths())))
@example(['model.architecture=["vit"]'], "cnn")
@example(["training.epochs=" + "9" * 400], "cnn")
@example(["training.peak_learning_rate=" + "9" * 400], "cnn")
@example(["training.epochs=" + "9" * 5000], "cnn")
@example(["training.epochs=0x" + "f" * 5000], "cnn")
@example(["data.dataset=" + "[" * 3000], "cnn")
@example(["training.epochs=1000000000000000000"], "cnn")
@example(["augmentation.mixup_alpha=inf"], "cnn")
@example(["training.weight_decay=inf"], "cnn")
@example(["model.conv_layers=2000000000"], "hybrid")
@example(["model.hidden_dim=2000000000"], "vit")
@example(["model.stage_blocks=[" + "1000000000, " * 3 + "]"], "cnn")
@example(["training.epohcs" * 100_000 + "=1"], "cnn")
def test_every_override_is_accepted_or_refused_in_one_line(overrides, recipe):
    read_at_once(recipe, overrides)


@FAST
@given(st.one_of(files, files, broken_files))
@example("training.epochs = " + "9" * 5000)
@example("training.epochs = " + "9" * 400)
@example('[search]\n"training.epochs" = { low = 1, high = ' + "9" * 400 + " }")
@example('[search]\n"training.epochs" = { low = nan, high = 3 }')
@example('[search]\n"training.epochs" = { choices = [' + "1, " * 50_000 + "] }")
@example("[a]\n[a]")
@example("x = " + "[" * 3000)
@example("x" * 300_000 + " = 1")
def test_every_file_is_accepted_or_refused_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "odd.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="\n")
    if recipe := read_at_once(path):
        assert build_recipe(tomllib.loads(recipe_toml(recipe)), "saved") == recipe


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf[training]\r\nepochs = 3\r\n")
    assert read_recipe(path).training.epochs == 3


@pytest.mark.slow
def test_the_command_line_trains_every_recipe_or_refuses_it(tmp_path, monkeypatch):
    """Every recipe, on the digits. Training itself is left out, because it may take years."""
    monkeypatch.setattr("cifar_models.run.train.run_to_end", lambda *arguments: None)
    statuses = set()

    @settings(FAST, max_examples=200)
    @given(override_lists, st.sampled_from(["cnn", "cnn-laptop", "digits-cnn", "resnet18"]))
    def check(overrides: list[str], recipe: str) -> None:
        errors = io.StringIO()
        run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        arguments = ["train", recipe, "--dataset", "digits", "--run", str(run)]
        for override in (*overrides, "training.batch_size=8"):
            arguments += ["--set", override]
        with contextlib.redirect_stderr(errors):
            status = main(arguments)
        statuses.add(status)
        assert status in (0, 2), errors.getvalue()
        assert errors.getvalue().count("\n") == (1 if status else 0), errors.getvalue()
        assert run.exists() == (status == 0)

    check()
    assert statuses == {0, 2}
