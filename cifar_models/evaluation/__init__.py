"""From predictions to numbers and figures."""
