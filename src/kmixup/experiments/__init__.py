"""The paper's experiments: recipes are data, runs are files, reports come from run files alone."""
