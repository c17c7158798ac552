"""Names and behaviour of earlier versions: refused in a recipe, kept in a run folder."""

import pytest

from cifar_models.config.recipe_file import parse_saved_recipe, read_recipe
from cifar_models.config.renamed import RENAMED_ARCHITECTURES, RENAMED_KEYS
from cifar_models.config.run_identity import identifying_values, recipe_differences
from cifar_models.errors import RequestError

OLD = """
name = "old"
[model]
architecture = "hybrid"
mimetic_start = true
[augmentation]
test_views = 6
[search]
"model.mimetic_start" = { choices = [true, false] }
"""


def refusal(path) -> str:
    with pytest.raises(RequestError) as error:
        read_recipe(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_an_old_key_in_a_recipe_is_refused_with_its_new_name(key, tmp_path):
    table, _, name = key.partition(".")
    path = tmp_path / "mine.toml"
    path.write_text(f"[{table}]\n{name} = 1\n")
    assert f"{path}: {key} is now called {RENAMED_KEYS[key]}" in refusal(path)
    path.write_text(f'[search]\n"{key}" = {{ choices = [1] }}\n')
    assert f"{key} is now called {RENAMED_KEYS[key]}" in refusal(path)
    with pytest.raises(RequestError, match=f"{key} is now called"):
        read_recipe("vit", [f"{key}=1"])


@pytest.mark.parametrize("name", RENAMED_ARCHITECTURES)
def test_an_old_architecture_in_a_recipe_is_refused_with_its_new_name(name, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'[model]\narchitecture = "{name}"\n')
    expected = f"'{name}' is now called '{RENAMED_ARCHITECTURES[name]}'"
    assert f"{path}: model.architecture {expected}" in refusal(path)


def test_the_recipe_of_an_old_run_is_read_with_the_current_names(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(OLD)
    recipe = parse_saved_recipe(path.read_text(), path)
    assert recipe.name == "old"
    assert recipe.architecture == "cct2_3x2"
    assert recipe.model.mimetic_init is True
    assert recipe.augmentation.tta_views == 6
    assert list(recipe.search) == ["model.mimetic_init"]


def test_an_unknown_key_in_an_old_run_is_refused(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(OLD + "[training]\nepohcs = 3\n")
    with pytest.raises(RequestError, match=r"did you mean training\.epochs"):
        parse_saved_recipe(path.read_text(), path)
    path.write_text("model = 3\n")
    with pytest.raises(RequestError, match="model must be a table"):
        parse_saved_recipe(path.read_text(), path)


def test_fingerprints_with_old_names_equal_the_current_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(OLD)
    now = identifying_values(parse_saved_recipe(path.read_text(), path))
    then = dict(now)
    then["model.mimetic_start"] = then.pop("model.mimetic_init")
    then["augmentation.test_views"] = then.pop("augmentation.tta_views")
    then["model.architecture"] = "hybrid"
    assert recipe_differences({"recipe": then}, now) == []
    then["augmentation.test_views"] = 2
    then["model.architecture"] = "vit"
    assert recipe_differences({"recipe": then}, now) == [
        "model.architecture was 'vit' and is 'cct2_3x2'",
        "augmentation.tta_views was 2 and is 6",
    ]


OLD_TABLES = """
[model]
architecture = "{architecture}"
[training]
optimizer = "{optimizer}"
"""


@pytest.mark.parametrize(
    ("architecture", "optimizer", "expected"),
    [
        ("residual_cnn", "sgd", {"padding": "same", "momentum_form": "keras"}),
        ("resnet18", "adamw", {"padding": "same", "momentum_form": "torch"}),
        ("hybrid", "muon_sgd", {"as_published": False, "momentum_form": "keras"}),
        ("vit", "muon", {"momentum_form": "torch"}),
    ],
)
def test_a_run_without_a_newer_key_keeps_its_behaviour(architecture, optimizer, expected, tmp_path):
    """momentum_form stays at its default where the optimizer does not read it."""
    path = tmp_path / "recipe.toml"
    path.write_text(OLD_TABLES.format(architecture=architecture, optimizer=optimizer))
    recipe = parse_saved_recipe(path.read_text(), path)
    found = vars(recipe.model) | vars(recipe.training)
    assert {key: found[key] for key in expected} == expected


def test_a_run_with_a_newer_key_keeps_its_value(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\narchitecture = "resnet18"\npadding = "symmetric"\n')
    assert parse_saved_recipe(path.read_text(), path).model.padding == "symmetric"


def test_a_run_without_a_table_keeps_its_behaviour(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("")
    assert parse_saved_recipe(path.read_text(), path).model.padding == "same"
    assert parse_saved_recipe(path.read_text(), path).training.momentum_form == "keras"
    assert parse_saved_recipe(path.read_text(), path).runtime.onednn == "auto"


def test_a_study_is_not_continued_with_a_network_of_another_version(tmp_path):
    """Fingerprints of an earlier version lack these keys, but the run had its behaviour."""
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\narchitecture = "resnet18"\n[training]\noptimizer = "adamw"\n')
    now = identifying_values(read_recipe(str(path)))
    new = ("model.padding", "training.min_steps_per_epoch")
    then = {key: value for key, value in now.items() if key not in new}
    differences = recipe_differences({"recipe": then}, now)
    assert differences == [
        "model.padding was 'same' and is 'symmetric'",
        "training.min_steps_per_epoch was 1 and is 8",
    ]
    assert (
        recipe_differences(
            {"recipe": then}, identifying_values(parse_saved_recipe(path.read_text(), path))
        )
        == []
    )
