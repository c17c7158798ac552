"""Many runs from one declaration: studies and hyperparameter searches."""
