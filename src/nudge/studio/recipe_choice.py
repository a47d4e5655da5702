"""The choice of a recipe on Train and on Plan."""

from nudge.model.sizes import parameter_counts
from nudge.recipes import RECIPES, recipe
from nudge.util import formatting


def recipe_choice(language: str) -> dict[str, str]:
    """Return the label of every recipe, its name and the number of parameters."""
    sizes = {name: parameter_counts(recipe(name).model).total for name in RECIPES}
    return {name: f"{name} · {formatting.count(size, language)}" for name, size in sizes.items()}
