"""Optimizer, learning-rate schedule, and which variables are spared from weight decay."""

import keras

from cifar_models.recipe import TrainingRecipe

# Learned vectors that are no kernels though they have two axes or more.
SPARED_NAMES = ("position_embedding", "class_token")


def make_schedule(
    recipe: TrainingRecipe, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a linear warm-up to the peak, then a cosine down to its final fraction.

    The cosine is that of Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts.
    """
    warmup_steps = round(recipe.warmup_fraction * total_steps)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(
            recipe.peak_learning_rate, total_steps, alpha=recipe.final_learning_rate_fraction
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(total_steps - warmup_steps, 1),
        alpha=recipe.final_learning_rate_fraction,
        warmup_target=recipe.peak_learning_rate,
        warmup_steps=warmup_steps,
    )


def make_optimizer(
    recipe: TrainingRecipe, network: keras.Model, total_steps: int
) -> keras.optimizers.Optimizer:
    """Builds SGD with Nesterov momentum, or AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101).

    Weight decay is decoupled, times the learning rate, and spares biases, norms, position
    embeddings and class tokens.
    """
    schedule = make_schedule(recipe, total_steps)
    shared = {
        "learning_rate": schedule,
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.gradient_clip_norm or None,
    }
    if recipe.optimizer == "adamw":
        shared["weight_decay"] = recipe.weight_decay  # AdamW insists on a number
        optimizer = keras.optimizers.AdamW(beta_1=recipe.beta_1, beta_2=recipe.beta_2, **shared)
    else:
        optimizer = keras.optimizers.SGD(momentum=recipe.momentum, nesterov=True, **shared)
    optimizer.exclude_from_weight_decay(var_list=spared_from_decay(network))
    return optimizer


def spared_from_decay(network: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables that weight decay leaves alone."""
    return [
        variable
        for variable in network.trainable_variables
        if len(variable.shape) < 2
        or variable.name in SPARED_NAMES
        or variable.path.split("/")[-2:] in _ATTENTION_BIASES
    ]


# Keras shapes the biases of attention's projections (heads, key_dim).
_ATTENTION_BIASES = [[name, "bias"] for name in ("query", "key", "value", "attention_output")]
