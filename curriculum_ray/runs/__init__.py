"""One run without Ray: its settings, its folder, and what happens at log lines, checkpoints and its end."""
