"""SLURM: the site's profile, the sbatch files of a run, submitting them, and asking SLURM about them."""
