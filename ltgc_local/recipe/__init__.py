"""A recipe is one page of YAML: its schema, and the loader that says what is wrong with it, line by line."""

from ltgc_local.recipe.inputs import T2iModels, TextModels
from ltgc_local.recipe.loader import Recipes, load_recipe, load_recipes
from ltgc_local.recipe.schema import (
    DescribedRecipe,
    DiffusionRecipe,
    GanRecipe,
    LtgcRecipe,
    Recipe,
    RecipeT,
    TgnRecipe,
    class_of,
    variant,
)

__all__ = [
    "DescribedRecipe", "DiffusionRecipe", "GanRecipe", "LtgcRecipe", "Recipe", "RecipeT", "Recipes", "T2iModels",
    "TextModels", "TgnRecipe", "class_of", "load_recipe", "load_recipes",
    "variant",
]  # fmt: skip
