"""Memory for other people's agent and bot libraries; each file needs the extra of its name."""
