"""Optimizer, learning-rate schedule, and which variables are spared from weight decay."""

import keras

from cifar_models.config.recipe import TrainingConfig
from cifar_models.optimizers.muon import KernelMuon, MuonBesideSGD, norm_factors
from cifar_models.optimizers.schedules import CachedLearningRate, make_schedule

# Learned vectors that are no kernels though they have two axes or more.
NO_DECAY_NAMES = ("position_embedding", "class_token")


def make_optimizer(
    recipe: TrainingConfig, network: keras.Model, total_steps: int
) -> keras.optimizers.Optimizer:
    """Builds SGD with Nesterov momentum, AdamW (arXiv:1711.05101), or Muon beside either.

    Weight decay is decoupled, times the learning rate, and spares biases, norms, position
    embeddings and class tokens.
    """
    shared = {
        "learning_rate": make_schedule(recipe, total_steps),
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.gradient_clip_norm or None,
    }
    if recipe.optimizer == "adamw":
        optimizer = AdamW(beta_1=recipe.beta_1, beta_2=recipe.beta_2, **shared)
    elif recipe.optimizer == "muon":
        optimizer = KernelMuon(
            momentum=recipe.momentum,
            adam_beta_1=recipe.beta_1,
            adam_beta_2=recipe.beta_2,
            adam_lr_ratio=recipe.adamw_learning_rate_factor,
            # Keras multiplies it with Muon's rate, not with AdamW's.
            adam_weight_decay=recipe.weight_decay * recipe.adamw_learning_rate_factor,
            exclude_layers=["classifier"],
            **shared,
        )
    elif recipe.optimizer == "muon_sgd":
        del shared["weight_decay"]
        optimizer = MuonBesideSGD(
            sgd_momentum=recipe.sgd_momentum,
            sgd_factor=recipe.sgd_learning_rate_factor,
            norm_factor=recipe.norm_learning_rate_factor,
            sgd_weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            ns_steps=3,
            exclude_layers=["classifier"],
            **shared,
        )
    else:
        shared["weight_decay"] = recipe.weight_decay or None  # 0 would cost a pass over the weights
        optimizer = NesterovSGD(recipe.momentum, recipe.norm_learning_rate_factor, **shared)
    optimizer.exclude_from_weight_decay(var_list=variables_without_decay(network))
    return optimizer


class AdamW(CachedLearningRate, keras.optimizers.AdamW):
    """Keras' AdamW, whose step takes less time to trace."""


class NesterovSGD(CachedLearningRate, keras.optimizers.SGD):
    """SGD whose norms may learn faster than the rest.

    Args:
        momentum: Nesterov's.
        norm_factor: on the learning rate of the scales and shifts of norms.
        **options: Keras' own.
    """

    def __init__(self, momentum: float, norm_factor: float, **options):
        super().__init__(momentum=momentum, nesterov=True, **options)
        self._norm_factor = norm_factor
        self._factors: list[float] = []

    def build(self, variables):
        super().build(variables)
        self._factors = norm_factors(variables, self._norm_factor)

    def update_step(self, gradient, variable, learning_rate):
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def variables_without_decay(network: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables that weight decay leaves alone."""
    return [
        variable
        for variable in network.trainable_variables
        if len(variable.shape) < 2
        or variable.name in NO_DECAY_NAMES
        or variable.path.split("/")[-2:] in _ATTENTION_BIASES
    ]


# Keras shapes the biases of attention's projections (heads, key_dim).
_ATTENTION_BIASES = [[name, "bias"] for name in ("query", "key", "value", "attention_output")]
