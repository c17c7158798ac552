"""Names of earlier versions.

A run folder may contain them. In a user's recipe, they cause an error that gives the new name.
"""

RENAMED_KEYS = {
    "model.mimetic_start": "model.mimetic_init",
    "augmentation.test_views": "augmentation.tta_views",
}
RENAMED_ARCHITECTURES = {
    "hybrid": "cct2_3x2",
    "fast_cnn": "airbench94",
    "strong_cnn": "airbench96",
}


def with_current_names(content: dict) -> dict:
    """Return the tables of a saved recipe with the current names."""
    content = {
        name: dict(table) if isinstance(table, dict) else table for name, table in content.items()
    }
    for old, new in RENAMED_KEYS.items():
        table, _, key = old.partition(".")
        if isinstance(content.get(table), dict) and key in content[table]:
            content[table][new.partition(".")[2]] = content[table].pop(key)
    if isinstance(content.get("search"), dict):
        content["search"] = {
            RENAMED_KEYS.get(key, key): entry for key, entry in content["search"].items()
        }
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("architecture"), str):
        model["architecture"] = current_architecture(model["architecture"])
    return content


def current_architecture(name: str) -> str:
    """Return the current name of an architecture."""
    return RENAMED_ARCHITECTURES.get(name, name)
