"""A recipe is one page of YAML: its schema, and the loader that says what is wrong with it, line by line."""

from ltgc_local.recipe.loader import Recipes, load_recipe, load_recipes
from ltgc_local.recipe.schema import Recipe

__all__ = ["Recipe", "Recipes", "load_recipe", "load_recipes"]
