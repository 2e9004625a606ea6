"""The main job: extract, train several seeds, evaluate."""
