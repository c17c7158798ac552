"""Many runs of one declaration: studies and hyperparameter searches."""
