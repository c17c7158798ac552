"""What Keras' optimizers would work out for each variable, once a step."""

import keras


class OncePerStep(keras.optimizers.Optimizer):
    """Asks the schedule once a step, where Keras asks for every variable that decays.

    The answer is the same each time, but each is a part of the graph that has to be traced. To be
    named before the one of Keras' optimizers that it is to change.
    """

    _rate = None

    def apply(self, grads, trainable_variables=None):
        self._rate = super()._get_current_learning_rate()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None  # of this trace alone

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate
