"""Workers that train runs: processes of this machine, or of a Ray cluster."""
