"""Reading, overriding, checking and writing recipes."""

import dataclasses
import tomllib

import pytest

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe import TABLES
from cifar_models.config.recipe_file import (
    read_recipe,
    recipe_paths,
    recipe_tables,
    recipe_toml,
    with_values,
)
from cifar_models.config.search import SearchChoices, SearchRange
from cifar_models.errors import RequestError


def refusal(*overrides: str, recipe: str = "cnn") -> str:
    with pytest.raises(RequestError) as error:
        read_recipe(recipe, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_three_main_recipes_exist():
    assert {"cnn", "vit", "hybrid"} <= set(recipe_paths())


@pytest.mark.parametrize("name", recipe_paths())
def test_a_resolved_recipe_reads_back_unchanged(name, tmp_path):
    recipe = read_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe))
    assert read_recipe(str(path)) == recipe


@pytest.mark.parametrize("name", recipe_paths())
def test_the_head_of_a_recipe_describes_it_and_its_command(name):
    description, command = recipe_paths()[name].read_text().splitlines()[:2]
    assert description.startswith(f"# {name}: ")
    assert command in (f"# make train-{name}", f"# python -m cifar_models train {name}")


def test_every_key_of_a_file_reaches_the_recipe():
    recipe = read_recipe("vit")
    written = tomllib.loads(recipe_paths()["vit"].read_text())
    for table in ("data", "training", "augmentation"):
        for key, value in written[table].items():
            assert getattr(getattr(recipe, table), key) == value
    assert recipe.model.hidden_dim == written["model"]["hidden_dim"] == 192


def test_a_recipe_overrides_the_values_of_its_architecture():
    recipe = read_recipe("cnn", ["model.architecture=resnet18"])
    assert recipe.model.stage_blocks == (1, 1, 1)  # from the recipe, not from resnet18
    recipe = with_values(recipe, {"model.stage_blocks": [3, 3, 3]})
    assert recipe.model.stage_blocks == (3, 3, 3)
    assert ARCHITECTURES["resnet18"].config.stage_blocks == (2, 2, 2, 2)


def test_overrides_are_typed():
    recipe = read_recipe(
        "resnet18",
        ["training.epochs=5", "training.optimizer=adamw", "training.peak_learning_rate=1"],
    )
    assert recipe.training.epochs == 5
    assert recipe.training.optimizer == "adamw"
    assert type(recipe.training.peak_learning_rate) is float


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epohcs=5", "did you mean training.epochs?"),
        ("traning.epochs=5", "did you mean training.epochs?"),
        ("model.patch_size=4", "there is no model.patch_size"),
        ("training.epochs=five", "training.epochs = 'five': must be a whole number"),
        ("training.epochs=0", "training.epochs = 0 must be at least 1"),
        ("training.epochs=true", "must be a whole number"),
        ("training.peak_learning_rate=nan", "must be a number from"),
        ("training.optimizer=adam", 'must be "sgd", "adamw", "muon" or "muon_sgd"'),
        ("model.l2=-1e-4", "model.l2 = -0.0001 must be at least 0"),
        ("model.stage_blocks=[1, 1]", "one entry for each of the 3 stage_filters"),
        ("model.stage_blocks=3", "must be a list of whole numbers"),
        ("model.architecture=resnet81", "did you mean resnet18?"),
        ("training.epochs", "write it as table.key=value"),
        ("runtime.precision=float8", 'must be "auto", "float32", "mixed_bfloat16" or'),
        ("runtime.seed=-1", "must be at least 0 and at most 2147483647"),
        ("data.train_fraction=0", "must be above 0 and at most 1"),
        ("training.peak_learning_rate=0", "must be above 0"),
        ("augmentation.tta_views=3", "must be 1, 2 or 6"),
        ("augmentation.rand_augment_magnitude=11", "must be at least 0 and at most 10"),
        ("model.stage_filters=[]", "must not be empty"),
        ("model.stage_filters=[8, 0, 8]", "must hold only numbers that are at least 1"),
        ("model.architecture=[1]", "model.architecture [1] is not one of residual_cnn"),
    ],
)
def test_a_wrong_override_is_refused_with_its_fix(override, message):
    assert message in refusal(override)


def test_a_patch_must_divide_the_image():
    message = refusal("model.patch_size=5", recipe="vit")
    assert "model.patch_size = 5 does not divide the image of 32 pixels" in message
    assert "1, 2, 4, 8, 16, 32" in message


@pytest.mark.parametrize("recipe", ["vit", "hybrid"])
def test_mimetic_initialization_needs_a_width_that_4_divides(recipe):
    overrides = ["model.hidden_dim=54", "model.num_heads=3", "model.mimetic_init=true"]
    with pytest.raises(RequestError, match="needs a hidden_dim that is divisible by 4"):
        read_recipe(recipe, overrides)


def test_a_key_of_another_optimizer_is_refused():
    for key, others in (
        ("sgd_momentum", ("sgd", "adamw", "muon")),
        ("sgd_learning_rate_factor", ("sgd", "adamw", "muon")),
        ("norm_learning_rate_factor", ("adamw", "muon")),
        ("adamw_learning_rate_factor", ("sgd", "adamw", "muon_sgd")),
        ("momentum", ("adamw",)),
        ("beta_2", ("sgd", "muon_sgd")),
    ):
        for optimizer in others:
            overrides = (f"training.optimizer={optimizer}", f"training.{key}=0.8")
            message = refusal(*overrides, recipe="resnet18")
            assert f"training.{key} = 0.8 is for the optimizer " in message
    recipe = read_recipe("resnet18", ["training.optimizer=muon_sgd", "training.sgd_momentum=0.8"])
    assert recipe.training.sgd_momentum == 0.8


def test_heads_must_divide_the_width():
    assert "does not divide hidden_dim 192" in refusal("model.num_heads=5", recipe="vit")


def test_an_unknown_recipe_is_refused_with_a_suggestion():
    assert "did you mean hybrid?" in refusal(recipe="hybird")


def test_broken_toml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[training\nepochs = 3\n")
    message = refusal(recipe=str(path))
    assert str(path) in message and "line 1" in message


def test_an_unknown_table_is_refused(tmp_path):
    path = tmp_path / "strange.toml"
    path.write_text("[trainig]\nepochs = 3\n")
    assert "did you mean training?" in refusal(recipe=str(path))


def search_recipe(tmp_path, entry: str) -> str:
    path = tmp_path / "search.toml"
    path.write_text(f'[model]\narchitecture = "vit"\n[search]\n{entry}\n')
    return str(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('"training.epochs" = { low = 5, high = 2 }', "low 5 is not below high 2"),
        ('"training.epochs" = { low = 5, high = 5 }', "low 5 is not below high 5"),
        ('"training.epochs" = { choices = [] }', "a list that is not empty"),
        ('"training.epochs" = { from = 1, to = 5 }', "write { low = 1, high = 2 }"),
        ('"training.epochs" = 5', "write { low = 1, high = 2 }"),
        ('"training.momentum" = { low = 0, high = 0.9, scale = "log" }', "above 0 on a log scale"),
        ('"training.momentum" = { low = 0.1, high = 0.9, scale = "ln" }', '"linear" or "log"'),
        ('"training.epoch" = { low = 1, high = 2 }', "did you mean training.epochs?"),
        ('"training.epochs" = { low = 0, high = 2 }', "training.epochs = 0 must be at least 1"),
        ('"model.patch_size" = { choices = [4, 5] }', "does not divide the image of 32 pixels"),
        ('"model.pooling" = { choices = ["mean", "max"] }', '"mean" or "token"'),
        ('"model.l2" = { low = 1e-5, high = 1e-3 }', "there is no model.l2"),
        ('"training.epochs" = { low = 1.5, high = 2.5 }', "must be a whole number"),
    ],
)
def test_an_impossible_search_entry_is_refused(entry, message, tmp_path):
    assert message in refusal(recipe=search_recipe(tmp_path, entry))


def test_search_ranges_and_choices_are_read(tmp_path):
    path = search_recipe(
        tmp_path,
        '"training.epochs" = { low = 1, high = 9 }\n"model.pooling" = { choices = ["mean"] }',
    )
    assert read_recipe(path).search == {
        "training.epochs": SearchRange(1, 9),
        "model.pooling": SearchChoices(("mean",)),
    }


def test_every_key_has_one_line_of_documentation():
    models = {type(architecture.config) for architecture in ARCHITECTURES.values()}
    for table in (*models, *TABLES.values()):
        for field in dataclasses.fields(table):
            doc = field.metadata["doc"]
            assert doc[0].isupper() and doc.endswith(".") and "\n" not in doc, field.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_values_of_every_architecture_are_allowed(name, tmp_path):
    path = tmp_path / "bare.toml"
    path.write_text(f'[model]\narchitecture = "{name}"\n')
    assert read_recipe(str(path)).model == ARCHITECTURES[name].config


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("digits-vit", ["architecture", "image_size", "patch_size", "hidden_dim", "num_layers"]),
        ("digits-hybrid", ["architecture", "image_size", "conv_layers", "conv_kernel_size"]),
        ("cnn", ["architecture", "image_size", "stem_filters", "stem_kernel_size"]),
        ("cnn-fast", ["architecture", "image_size", "whitening_size", "stage_filters"]),
    ],
)
def test_the_order_of_keys_in_a_run_folder_never_changes(recipe, keys):
    assert list(recipe_tables(read_recipe(recipe))["model"])[: len(keys)] == keys
