"""One run, without Ray: its settings, its folder, and its hooks at log lines, checkpoints and the end."""
